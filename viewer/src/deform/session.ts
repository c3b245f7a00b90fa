// An edit as data: the same that geodistill.deform.session reads from files. Lengths are in the
// mesh's unit and frame, angles in degrees. Values are never changed in place, so that histories
// can share them.
import type { Vector } from "../protocol";

export interface Place {
  vertex?: number;
  face?: number;
  barycentric?: Vector;
  region?: readonly number[];
  position?: Vector;
}

export interface Handle extends Place {
  translate?: Vector;
  /** Axis times degrees. */
  rotate?: Vector;
  /** w, x, y, z, in place of `rotate`. */
  quaternion?: readonly [number, number, number, number];
  scale?: number | Vector;
  pivot?: Vector;
  locality?: number;
}

export interface Mirror {
  normal: Vector;
  offset?: number;
}

export interface Session {
  version: number;
  mesh: string | null;
  method: "cardinal" | "published";
  blend: "rotations" | "linear";
  centring: number | null;
  radius: number | null;
  falloff: number | null;
  locality: number;
  seam: number;
  rigidity: number;
  handles: readonly Handle[];
  anchors: readonly Place[];
  mirrors: readonly Mirror[];
}

const ZERO: Vector = [0, 0, 0];

/** Axis times radians. */
export function rotationOf(handle: Handle): Vector {
  if (!handle.quaternion) return times(handle.rotate ?? ZERO, Math.PI / 180);
  const length = Math.hypot(...handle.quaternion);
  const sign = Math.sign(handle.quaternion[0]) || 1;
  const [w, ...axis] = handle.quaternion.map((v) => (sign * v) / length);
  const sine = Math.hypot(...axis);
  if (sine === 0) return ZERO;
  return times(axis as unknown as Vector, (2 * Math.atan2(sine, w!)) / sine);
}

export function scaleOf(handle: Handle): Vector {
  const { scale = 1 } = handle;
  return typeof scale === "number" ? [scale, scale, scale] : scale;
}

/** Whether a handle does anything. */
export function moves(handle: Handle): boolean {
  return (
    (handle.translate ?? ZERO).some((v) => v !== 0) ||
    rotationOf(handle).some((v) => v !== 0) ||
    scaleOf(handle).some((v) => v !== 1)
  );
}

export function localityOf(session: Session, handle: Handle): number {
  return handle.locality ?? session.locality;
}

/** The place alone, as the server is asked about it; equal places have equal keys. */
export function placeOf({ vertex, face, barycentric, region, position }: Place): Place {
  if (vertex !== undefined) return { vertex };
  if (region !== undefined) return { region };
  if (face !== undefined) return { face, barycentric: barycentric ?? [1 / 3, 1 / 3, 1 / 3] };
  return position === undefined ? {} : { position };
}

/** A session with one of its handles replaced. */
export function withHandle(session: Session, index: number, handle: Handle): Session {
  return { ...session, handles: session.handles.with(index, handle) };
}

export function withoutHandle(session: Session, index: number): Session {
  return { ...session, handles: session.handles.toSpliced(index, 1) };
}

export function withoutAnchor(session: Session, index: number): Session {
  return { ...session, anchors: session.anchors.toSpliced(index, 1) };
}

function times(vector: Vector, by: number): Vector {
  return [vector[0] * by, vector[1] * by, vector[2] * by];
}
