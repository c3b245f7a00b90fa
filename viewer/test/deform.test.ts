// The mathematics of the deformation page, without a GPU.
import assert from "node:assert/strict";
import { test } from "node:test";
import { History } from "../src/deform/history";
import { nearest } from "../src/deform/gizmo";
import {
  apply, atRightAngles, carried, columnsOf, gateAt, height, inverse, mirrored, type Plane, product, reflect, repivoted,
  rotationMatrix, sidesOf, symmetrised, type Transform,
} from "../src/deform/maps";
import { readNumbers, readText } from "../src/deform/messages";
import { Nearest } from "../src/deform/nearest";
import { packPins, packPlan, type Plan } from "../src/deform/plan";
import { intersect } from "../src/deform/pick";
import { inside } from "../src/deform/region";
import { moves, rotationOf, withHandle } from "../src/deform/session";
import { siteDistance, solve, weigh } from "../src/deform/solve";
import { stepFor } from "../src/deform/panel";
import { Topology } from "../src/deform/topology";
import type { Vector } from "../src/protocol";
import { brief } from "../src/ui/fields";
import { Malformed } from "../src/wire";
import vectors from "./vectors.json";

const close = (a: number, b: number, by = 1e-9) => assert.ok(Math.abs(a - b) <= by, `${a} ≠ ${b}`);
const closeTo = (a: readonly number[], b: readonly number[], by = 1e-9) =>
  a.forEach((v, k) => close(v, b[k]!, by));

const PLANE: Plane = { normal: [0.6, 0.8, 0], offset: 0.3 };
const MAP: Transform = {
  pivot: [0.2, -0.4, 1],
  rotation: [0.3, -0.9, 0.5],
  stretch: [1.5, 0, 0, 0, 0.7, 0, 0, 0, 1.1],
  translation: [0.1, 0.2, -0.3],
};
const POINT: Vector = [0.7, 0.1, -0.6];

test("a mirrored map is the map between two reflections, and twice mirrored the map", () => {
  const image = mirrored(MAP, PLANE);
  closeTo(carried(image, POINT), reflect(PLANE, carried(MAP, reflect(PLANE, POINT))));
  closeTo(carried(mirrored(image, PLANE), POINT), carried(MAP, POINT));
});

test("planes are at right angles, or are not", () => {
  const normals: Vector[] = [[1, 0, 0], [0.01, 1, 0], [0.6, 0.8, 0]];
  const [x, y, tilted] = normals.map((normal): Plane => ({ normal, offset: 0 }));
  assert.deepEqual([[], [x!], [x!, y!], [x!, y!, tilted!]].map(atRightAngles), [true, true, true, false]);
});

test("a symmetrised map is its own mirror image", () => {
  const both = symmetrised(MAP, PLANE);
  closeTo(carried(mirrored(both, PLANE), POINT), carried(both, POINT));
});

test("rotations keep lengths, turn by their angle and are exact near none and beyond half a turn", () => {
  for (const r of [[0, 0, 1e-6], [0.4, -2, 1], [0, 5, 0]] as Vector[]) {
    const turned = apply(rotationMatrix(r), POINT);
    close(Math.hypot(...turned), Math.hypot(...POINT));
    closeTo(apply(rotationMatrix(r), r), r);
  }
  closeTo(apply(rotationMatrix([0, 0, Math.PI / 2]), [1, 0, 0]), [0, 1, 0]);
});

test("both sides of a plane share a handle, all of it", () => {
  const columns = columnsOf(2, MAP, sidesOf([[1, 0.5, 0]], [PLANE], 0.2, 3));
  assert.equal(columns.length, 2);
  for (const point of [[0.3, 0.3, 1], [2, 0, 0], [-1, -1, 0]] as Vector[]) {
    const heights = [height(PLANE, point)];
    close(columns.reduce((sum, { gates }) => sum + gateAt(gates, heights), 0), 1);
  }
  close(gateAt(columns[0]!.gates, [height(PLANE, [1, 0.5, 0])]), 1);
  const across = sidesOf([[0.5, 0, 0]], [{ normal: [1, 0, 0], offset: 0.5 }], 0.2, 3);
  assert.deepEqual(across.map(({ gates }) => gates), [[0]]);
});

test("a region of any size lies on a plane, on one side of it, or across", () => {
  const many = (low: number): Vector[] => Array.from({ length: 300_000 }, (_, k) => [low + k / 1e5, 0, 0]);
  const plane: Plane = { normal: [1, 0, 0], offset: 0 };
  const gates = (low: number) => sidesOf(many(low), [plane], 0.2, 10).map((side) => side.gates);
  assert.deepEqual(gates(-1), [[0]]);
  assert.deepEqual(gates(0), [[0]]);
  assert.deepEqual(gates(0.5), [[5], [-5]]);
  assert.deepEqual(gates(-3.5), [[-5], [5]]);
  closeTo(gates(0.1).flat(), [10, -10]);
});

test("weights are mixed to 1 at their own site and 0 at the others", () => {
  const kernel = { radius: 1, power: 1.3 };
  const n = 4;
  const at = [0, 0.5, 0.9, 3];
  const apart = Float64Array.from({ length: n * n }, (_, k) =>
    Math.abs(at[Math.floor(k / n)]! - at[k % n]!),
  );
  const mix = solve(apart, n, kernel);
  assert.deepEqual(mix.groups, [0, 1, 2, 3]);
  for (let i = 0; i < n; i++)
    for (let j = 0; j < n; j++) {
      let sum = 0;
      for (let k = 0; k < n; k++) sum += mix.inverse[i * n + k]! * weigh(mix.kernel, apart[k * n + j]!);
      close(sum, i === j ? 1 : 0);
    }
});

test("sites that coincide share a group, and a kernel that tells too little apart shrinks", () => {
  const twins = Float64Array.of(0, 0.01, 2, 0.01, 0, 2, 2, 2, 0);
  assert.deepEqual(solve(twins, 3, { radius: 1, power: 1 }).groups, [0, 0, 1]);
  const near = Float64Array.of(0, 0.06, 0.06, 0);
  const shrunk = solve(near, 2, { radius: 1, power: 1.2 });
  assert.equal(shrunk.size, 2);
  close(shrunk.kernel.radius, 0.729);
  assert.deepEqual(solve(near, 2, { radius: 1, power: 2 }).groups, [0, 0]);
  close(siteDistance([[1, 0]], [[0, 1], [0.6, 0.8]]), Math.sqrt(0.8));
});

test("a plan lists sites by group, and what belongs to several is shared", () => {
  const site = (likeness: number, held: number[]) => ({ likeness, path: undefined, held });
  const inverse = Float64Array.of(1, -0.5, -0.5, 1);
  const plan: Plan = {
    sites: [site(5, [1, 2]), site(6, [2, 3]), site(7, [3, 9])],
    handles: 2,
    mix: { kernel: { radius: 1, power: 1 }, groups: [0, 1, 0], inverse, size: 2 },
    kernel: { radius: 1, power: 1 },
    locality: [undefined, { path: 8, power: 3 }],
  };
  const { sites, handles, falls, matrix } = packPlan(plan);
  assert.deepEqual([0, 1, 2].map((k) => sites[4 * k]), [5, 7, 6]);
  assert.deepEqual([0, 1, 2].map((k) => sites[4 * k + 2]), [0, 1, 1]);
  assert.deepEqual([...handles.slice(0, 8)], [0, 2, 0, 0, 2, 1, 2, 0]);
  assert.deepEqual([...falls.slice(0, 6)], [-1, -1, -1, -1, 8, 3]);
  assert.deepEqual([...matrix!.data], [1, -0.5, 0, 0, -0.5, 1, 0, 0]);
  const pins = packPins(plan);
  assert.deepEqual([...pins.positions], [1, 2, 2, 3, 9]);
  assert.deepEqual([...pins.claims], [0, 1, 0, 0.5, 1, 0.5, -1, 0.5, -1, 1]);
});

test("undo and redo go to the states that were", () => {
  const history = new History("a");
  history.put("b");
  history.put("c");
  assert.equal(history.undo(), "b");
  assert.equal(history.undo(), "a");
  assert.equal(history.undo(), "a");
  assert.equal(history.redo(), "b");
  history.put("d");
  assert.equal(history.canRedo, false);
  assert.equal(history.redo(), "d");
  assert.equal(history.undo(), "b");
});

test("handles know whether they move, by axis or quaternion", () => {
  assert.equal(moves({ vertex: 1 }), false);
  assert.equal(moves({ vertex: 1, scale: [1, 1, 1.1] }), true);
  const half = Math.SQRT1_2;
  closeTo(rotationOf({ quaternion: [half, 0, 0, half] }), [0, 0, Math.PI / 2]);
  closeTo(rotationOf({ quaternion: [-half, 0, 0, -half] }), [0, 0, Math.PI / 2]);
  closeTo(rotationOf({ rotate: [0, 180, 0] }), [0, Math.PI, 0]);
});

test("a handle that is turned on keeps its turns", () => {
  const q = (angle: number) => ({ x: 0, y: 0, z: Math.sin(angle / 2), w: Math.cos(angle / 2) }) as never;
  closeTo(nearest(q(0.2), [0, 0, 2 * Math.PI + 0.1]), [0, 0, 2 * Math.PI + 0.2]);
  closeTo(nearest(q(-0.2), [0, 0, 0.1]), [0, 0, -0.2]);
  closeTo(nearest(q(Math.PI + 0.3), [0, 0, Math.PI]), [0, 0, Math.PI + 0.3]);
  closeTo(nearest(q(0), [0, 0, 2 * Math.PI - 0.01]), [0, 0, 2 * Math.PI]);
});

test("lines of sight meet triangles where they do", () => {
  const [a, b, c]: Vector[] = [[0, 0, 0], [2, 0, 0], [0, 2, 0]];
  closeTo(intersect(a!, b!, c!, [0.5, 0.25, 5], [0, 0, -3]), [1 - 0.25 - 0.125, 0.25, 0.125]);
});

test("a path holds what is inside it", () => {
  const path = [[0, 0], [4, 0], [4, 4], [2, 1], [0, 4]] as const;
  assert.equal(inside(path, 1, 1), true);
  assert.equal(inside(path, 2, 3), false);
  assert.equal(inside(path, 5, 1), false);
});

test("the nearest position is found wherever the point is", () => {
  let seed = 1;
  const random = () => ((seed = (seed * 16807) % 2147483647) / 2147483647) * 2 - 1;
  const positions = Float32Array.from({ length: 3 * 900 }, (_, k) => random() * [1, 3, 0.01][k % 3]!);
  const nearest = new Nearest(positions);
  for (let trial = 0; trial < 200; trial++) {
    const point: Vector = [2 * random(), 4 * random(), trial % 2 ? 0.01 * random() : 3 * random()];
    const away = (k: number) =>
      Math.hypot(...[0, 1, 2].map((axis) => positions[3 * k + axis]! - point[axis]!));
    const least = Math.min(...Array.from({ length: 900 }, (_, k) => away(k)));
    close(away(nearest.find(point)), least, 1e-12);
  }
});

test("positions, vertices and faces are told apart", () => {
  const faces = Uint32Array.of(2, 3, 4, 0, 1, 2);
  const topology = new Topology(4, 5, faces, Uint32Array.of(0, 1, 2, 3, 1), Uint32Array.of(1, 0));
  assert.equal(topology.fileFace(0), 1);
  assert.deepEqual(topology.held({ face: 1 }), [2, 3, 1]);
  assert.deepEqual(topology.held({ region: [1, 4] }), [1]);
  assert.deepEqual([...topology.firstVertices()], [0, 1, 2, 3]);
  assert.deepEqual([...topology.corners()], [2, 3, 1, 0, 1, 2]);
});

test("edits share what they do not change", () => {
  const before = { handles: [{ vertex: 1 }, { vertex: 2 }] } as never as Parameters<typeof withHandle>[0];
  const after = withHandle(before, 1, { vertex: 2, translate: [1, 0, 0] });
  assert.equal(after.handles[0], before.handles[0]);
  assert.equal(before.handles[1]!.translate, undefined);
});

test("messages of the server are read, and nothing else", () => {
  for (const text of vectors.to_editor.read) assert.deepEqual(readText(text), JSON.parse(text));
  for (const text of vectors.to_editor.refused) assert.throws(() => readText(text), Malformed);
});

test("numbers come behind their header", () => {
  const pack = (header: unknown, numbers: Uint8Array) => {
    const text = new TextEncoder().encode(JSON.stringify(header));
    const data = new Uint8Array(4 + text.length + numbers.length);
    new DataView(data.buffer).setUint32(0, text.length, true);
    data.set(text, 4);
    data.set(numbers, 4 + text.length);
    return data.buffer;
  };
  const { row, positions } = vectors.to_editor;
  const found = readNumbers(pack(row, Uint8Array.of(1, 0, 2, 0, 255, 255)));
  assert.ok(found.type === "row");
  assert.deepEqual([...found.data], [1, 2, 65535]);
  assert.deepEqual(found.features, row.features);
  const moved = readNumbers(pack(positions, new Uint8Array(new Float32Array([1, 2, 3]).buffer)));
  assert.deepEqual([...moved.data], [1, 2, 3]);
  assert.throws(() => readNumbers(pack(row, Uint8Array.of(1, 0))), Malformed);
  assert.throws(() => readNumbers(new ArrayBuffer(3)), Malformed);
  assert.throws(() => readNumbers(pack({ ...row, kernel: "none" }, new Uint8Array(6))), Malformed);
});

test("a map about another pivot is the same map, and brings that pivot where it was asked to", () => {
  const to: Vector = [0.4, -1.2, 0.9];
  const moved = repivoted(MAP, to);
  closeTo(carried(moved, moved.pivot), to);
  closeTo(carried(moved, POINT), carried(MAP, POINT));
  closeTo(repivoted(moved, carried(moved, MAP.pivot)).translation, MAP.translation);
});

test("the pivot of a handle on a plane moves off it, and what it does stays", () => {
  const does = symmetrised(MAP, PLANE);
  const { pivot, translation } = repivoted(does, [0.4, -1.2, 0.9]);
  const moved = symmetrised({ ...MAP, pivot, translation }, PLANE);
  closeTo(carried(moved, POINT), carried(does, POINT));
  assert.notDeepEqual(pivot, does.pivot);
});

test("a matrix times its inverse is none", () => {
  const M = [1.2, 0.3, -0.4, 0.1, 0.9, 2, -0.7, 0.2, 1.1];
  closeTo(product(M, inverse(M)), [1, 0, 0, 0, 1, 0, 0, 0, 1]);
});

test("numbers are written so that there is room for them, and steps are of the mesh's size", () => {
  const written: [number, string][] = [
    [0, "0"], [-0, "0"], [1, "1"], [0.123456, "0.1235"], [-12.3456, "-12.35"], [100_000, "100000"],
    [1e6, "1e6"], [1_234_567, "1.235e6"], [-1_234_567, "-1.23e6"], [-123_456, "-123500"], [-0.0123456, "-0.0123"],
    [1e-4, "0.0001"], [1e-5, "1e-5"], [1.23456e-4, "1.23e-4"], [-1.23456e-4, "-1.23e-4"], [-1.23456e-10, "-1.2e-10"],
  ];
  for (const [value, text] of written) assert.equal(brief(value), text);
  assert.deepEqual([3.5, 2.9, 1e6, 1.7e-4].map(stepFor), [0.01, 0.001, 1000, 1e-7]);
});
