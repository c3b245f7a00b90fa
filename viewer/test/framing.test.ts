import assert from "node:assert/strict";
import { test } from "node:test";
import * as framing from "../src/framing";
import type { Vector } from "../src/protocol";

const close = (a: number, b: number, by = 1e-9) => assert.ok(Math.abs(a - b) <= by, `${a} ≠ ${b}`);

/** Where a point is in the picture: -1 to 1 each way inside it, and its depth. */
function seen(pose: framing.Pose, point: Vector, aspect: number): Vector {
  const rows = framing.worldFromCam(pose);
  const from = framing.sub(point, pose.eye);
  const [x, y, z] = [0, 1, 2].map((k) =>
    framing.dot(from, [rows[k]!, rows[4 + k]!, rows[8 + k]!]),
  ) as [number, number, number];
  const slope = Math.tan(pose.fov_y / 2);
  return [x / z / slope / aspect, y / z / slope, z];
}

test("the matrix of a pose is a rotation that looks ahead with y down", () => {
  const pose = { eye: [1, 2, 3], target: [4, -2, 0], up: [0, 0, 1], fov_y: 0.7 } as const;
  const rows = framing.worldFromCam(pose);
  const column = (k: number): Vector => [rows[k]!, rows[4 + k]!, rows[8 + k]!];
  for (let i = 0; i < 3; i++)
    for (let j = 0; j < 3; j++) close(framing.dot(column(i), column(j)), i === j ? 1 : 0);
  close(framing.dot(framing.cross(column(0), column(1)), column(2)), 1);
  assert.ok(framing.dot(column(1), pose.up) < 0);
  assert.deepEqual(column(3), pose.eye);
  const [x, y, z] = seen(pose, pose.target, 1);
  close(x, 0);
  close(y, 0);
  close(z, framing.length(framing.sub(pose.target, pose.eye)));
});

test("a framed box is in the picture, and fills it", () => {
  const [low, high]: [Vector, Vector] = [
    [10, -3, 5],
    [14, 9, 6],
  ];
  for (const [, up] of framing.AXES)
    for (const aspect of [0.4, 1, 2.2]) {
      const pose = framing.framed(low, high, up, aspect);
      let most = 0;
      for (let corner = 0; corner < 8; corner++) {
        const at = [0, 1, 2].map((k) => ((corner >> k) & 1 ? high[k] : low[k]));
        const [x, y, z] = seen(pose, at as unknown as Vector, aspect);
        assert.ok(z > 0);
        most = Math.max(most, Math.abs(x), Math.abs(y));
      }
      assert.ok(most <= 1 && most > 0.7, `${most} with ${up} up`);
    }
});

test("the planes hold the scene, from outside and from within", () => {
  const [low, high]: [Vector, Vector] = [
    [-1, -1, -1],
    [1, 1, 1],
  ];
  const [near, far] = framing.planes([0, 0, 10], low, high);
  assert.ok(near > 0 && near < 9 && far > 11);
  const [inside] = framing.planes([0, 0, 0], low, high);
  assert.ok(inside > 0 && inside < 0.01);
});

test("U goes through all axes and back", () => {
  let axis: Vector = [0, 1, 0];
  const names = new Set<string>();
  for (let i = 0; i < 6; i++) {
    names.add(framing.axisName(axis));
    axis = framing.nextAxis(axis);
  }
  assert.equal(names.size, 6);
  assert.deepEqual(axis, [0, 1, 0]);
});

test("numbers are short", () => {
  const shown = [0, 0.5, -12.345, 1234.5678, 4560000, 1e9, 0.00001234].map(framing.pretty);
  assert.deepEqual(shown, ["0", "0.5", "−12.3", "1,234.568", "4,560,000", "1.0e9", "1.2e-5"]);
});
