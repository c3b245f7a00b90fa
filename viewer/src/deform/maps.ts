// What handles do, as numbers for the shader: geodistill.deform.transforms, mirror and the table of
// blend. Everything is relative to the scene's origin.
import { add, dot, scale, sub } from "../framing";
import type { Vector } from "../protocol";
import { type Handle, rotationOf, scaleOf } from "./session";

/** Rows of a 3 x 3 matrix, one after the other. */
export type Matrix = readonly number[];

/** x -> c + exp(r) S (x - c) + t. */
export interface Transform {
  pivot: Vector;
  rotation: Vector;
  stretch: Matrix;
  translation: Vector;
}

export interface Plane {
  normal: Vector;
  offset: number;
}

/** How a column is faded out across each plane: 1 / width beyond which it is 1, with the sign of
 *  the side where it is; 0: not at all. */
export type Gates = readonly number[];

/** A handle's transform or one of its mirror images. */
export interface Column {
  /** Which handle's weights. */
  handle: number;
  transform: Transform;
  gates: Gates;
}

export const MOST_PLANES = 3;
/** Texels of a column in the shader's table. */
export const TEXELS = 7;

const ON_PLANE = 1e-3; // of the diagonal
const RIGHT = 0.02; // cosine up to which two planes are at right angles
const IDENTITY: Matrix = [1, 0, 0, 0, 1, 0, 0, 0, 1];

export function transformOf(handle: Handle, center: Vector, origin: Vector): Transform {
  const [x, y, z] = scaleOf(handle);
  return {
    pivot: handle.pivot ? sub(handle.pivot, origin) : center,
    rotation: rotationOf(handle),
    stretch: [x, 0, 0, 0, y, 0, 0, 0, z],
    translation: handle.translate ?? [0, 0, 0],
  };
}

/** The same map about another pivot: the one that it brings to a point. */
export function repivoted(transform: Transform, to: Vector): Transform {
  const { pivot, rotation, stretch, translation } = transform;
  const back = apply(rotationMatrix(scale(rotation, -1)), sub(sub(to, pivot), translation));
  const moved = add(pivot, apply(inverse(stretch), back));
  return { ...transform, pivot: moved, translation: sub(to, moved) };
}

/** Whether every two planes are; else images would have images. */
export function atRightAngles(planes: readonly Plane[]): boolean {
  return planes.every(({ normal }, k) =>
    planes.slice(0, k).every((other) => Math.abs(dot(normal, other.normal)) <= RIGHT),
  );
}

export function height(plane: Plane, point: Vector): number {
  return dot(plane.normal, point) - plane.offset;
}

export function reflect(plane: Plane, point: Vector): Vector {
  return sub(point, scale(plane.normal, 2 * height(plane, point)));
}

/** R D R. A rotation's axis is an axial vector: it is mirrored and turned round. */
export function mirrored(transform: Transform, plane: Plane): Transform {
  const n = plane.normal;
  const R = IDENTITY.map((v, k) => v - 2 * n[Math.floor(k / 3)]! * n[k % 3]!);
  return {
    pivot: reflect(plane, transform.pivot),
    rotation: scale(apply(R, transform.rotation), -1),
    stretch: product(product(R, transform.stretch), R),
    translation: apply(R, transform.translation),
  };
}

/** The mean of a transform and its mirror image, which the plane maps onto itself. */
export function symmetrised(transform: Transform, plane: Plane): Transform {
  const image = mirrored(transform, plane);
  const mean = (a: Vector, b: Vector): Vector => scale(add(a, b), 0.5);
  return {
    pivot: mean(transform.pivot, image.pivot),
    rotation: mean(transform.rotation, image.rotation),
    stretch: transform.stretch.map((v, k) => (v + image.stretch[k]!) / 2),
    translation: mean(transform.translation, image.translation),
  };
}

/** One side of all planes: where it is, and what becomes there of a handle's transform. */
export interface Side {
  gates: Gates;
  become(transform: Transform): Transform;
}

/**
 * The sides that a handle which holds the given positions has a part on: one where it is, and its
 * mirror images. `seam` is the width over which the sides blend.
 */
export function sidesOf(
  held: readonly Vector[],
  planes: readonly Plane[],
  seam: number,
  diagonal: number,
): Side[] {
  const own: Side = { gates: planes.map(() => 0), become: (transform) => transform };
  let sides = [{ ...own, held }];
  planes.forEach((plane, k) => {
    sides = sides.flatMap((side) => {
      let [low, high, clear] = [Infinity, -Infinity, Infinity];
      for (const point of side.held) {
        const above = height(plane, point);
        low = Math.min(low, above);
        high = Math.max(high, above);
        clear = Math.min(clear, Math.abs(above));
      }
      const { gates, become } = side;
      if (clear <= ON_PLANE * diagonal || (low < 0 && high > 0))
        return [{ ...side, become: (transform: Transform) => symmetrised(become(transform), plane) }];
      const gate = Math.sign(low) / Math.min(seam, clear);
      const image = {
        gates: gates.with(k, -gate),
        become: (transform: Transform) => mirrored(become(transform), plane),
        held: side.held.map((point) => reflect(plane, point)),
      };
      return [{ ...side, gates: gates.with(k, gate) }, image];
    });
  });
  return sides.map(({ gates, become }) => ({ gates, become }));
}

/** What a handle does on each of its sides. */
export function columnsOf(handle: number, transform: Transform, sides: readonly Side[]): Column[] {
  return sides.map(({ gates, become }) => ({ handle, transform: become(transform), gates }));
}

/** How much of a column is left at heights over the planes. */
export function gateAt(gates: Gates, heights: readonly number[]): number {
  return gates.reduce((product, gate, k) => {
    if (gate === 0) return product;
    const t = Math.min(1, Math.max(0, (gate * heights[k]! + 1) / 2));
    return product * t * t * (3 - 2 * t);
  }, 1);
}

/** Writes a column's texels; `linear` puts the whole map into the part that is averaged. */
export function writeColumn(
  column: Column,
  linear: boolean,
  into: Float32Array,
  at: number,
): void {
  const { pivot, rotation, translation } = column.transform;
  const M = linear ? product(rotationMatrix(rotation), column.transform.stretch) : column.transform.stretch;
  const more = M.map((v, k) => v - IDENTITY[k]!);
  const offset = scale(apply(more, pivot), -1);
  const r: Vector = linear ? [0, 0, 0] : rotation;
  const angle = Math.hypot(...r);
  const [g0 = 0, g1 = 0, g2 = 0] = column.gates;
  into.set([...scale(pivot, angle), angle], at);
  into.set([...r, column.handle], at + 4);
  into.set([...translation, g0], at + 8);
  into.set([more[0]!, more[1]!, more[2]!, g1], at + 12);
  into.set([more[3]!, more[4]!, more[5]!, g2], at + 16);
  into.set([more[6]!, more[7]!, more[8]!, 0], at + 20);
  into.set([...offset, 0], at + 24);
}

/** Where a transform brings a point. */
export function carried(transform: Transform, point: Vector): Vector {
  const { pivot, rotation, stretch, translation } = transform;
  const turned = apply(product(rotationMatrix(rotation), stretch), sub(point, pivot));
  return add(add(pivot, turned), translation);
}

/** exp of the matrix of a rotation vector, by Rodrigues' formula in half angles. */
export function rotationMatrix([x, y, z]: Vector): Matrix {
  const half = Math.hypot(x, y, z) / 2;
  const sinc = half > 1e-4 ? Math.sin(half) / half : 1 - (half * half) / 6;
  const K: Matrix = [0, -z, y, z, 0, -x, -y, x, 0];
  const K2 = product(K, K);
  const [once, twice] = [sinc * Math.cos(half), 0.5 * sinc * sinc];
  return IDENTITY.map((v, k) => v + once * K[k]! + twice * K2[k]!);
}

export function apply(M: Matrix, v: Vector): Vector {
  const row = (k: number) => M[k]! * v[0] + M[k + 1]! * v[1] + M[k + 2]! * v[2];
  return [row(0), row(3), row(6)];
}

/** By cofactors. */
export function inverse([a, b, c, d, e, f, g, h, i]: Matrix): Matrix {
  const [A, B, C] = [e! * i! - f! * h!, c! * h! - b! * i!, b! * f! - c! * e!];
  const volume = a! * A + d! * B + g! * C;
  const D = [f! * g! - d! * i!, a! * i! - c! * g!, c! * d! - a! * f!];
  const E = [d! * h! - e! * g!, b! * g! - a! * h!, a! * e! - b! * d!];
  return [A, B, C, ...D, ...E].map((v) => v / volume);
}

export function product(A: Matrix, B: Matrix): Matrix {
  return A.map((_, k) => {
    const [row, column] = [3 * Math.floor(k / 3), k % 3];
    return A[row]! * B[column]! + A[row + 1]! * B[column + 3]! + A[row + 2]! * B[column + 6]!;
  });
}
