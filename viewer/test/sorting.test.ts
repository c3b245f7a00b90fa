import assert from "node:assert/strict";
import { test } from "node:test";
import { sorter } from "../src/sorting";

function random(count: number, seed: number): Float32Array {
  let state = seed;
  return Float32Array.from({ length: count }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    // Depths over ten orders of magnitude, on both sides of the camera.
    return (state / 2 ** 32 - 0.4) * 10 ** (10 * ((state % 977) / 977) - 5);
  });
}

test("splats go from the farthest to the nearest, without those behind the camera", () => {
  const means = random(3 * 5000, 7);
  const eye = [0.1, -0.2, 0.3];
  const forward = [0.48, -0.6, 0.64];
  const depth = Float32Array.from({ length: 5000 }, (_, i) =>
    forward.reduce((sum, f, k) => sum + f * (means[3 * i + k]! - eye[k]!), 0),
  );
  const order = sorter(means).sort(eye, forward, 0.01);
  const wanted = [...depth.keys()].filter((i) => depth[i]! > 0.01);
  assert.equal(order.length, wanted.length);
  assert.deepEqual([...order].sort((a, b) => a - b), wanted);
  for (let i = 1; i < order.length; i++) assert.ok(depth[order[i - 1]!]! >= depth[order[i]!]!);
});

test("nothing is in front of the camera", () => {
  const order = sorter(new Float32Array([0, 0, 1, 0, 0, 2])).sort([0, 0, 5], [0, 0, 1], 0.01);
  assert.equal(order.length, 0);
});

test("it sorts anew each time", () => {
  const sort = sorter(new Float32Array([0, 0, 1, 0, 0, 2, 0, 0, 3]));
  assert.deepEqual([...sort.sort([0, 0, 0], [0, 0, 1], 0)], [2, 1, 0]);
  assert.deepEqual([...sort.sort([0, 0, 4], [0, 0, -1], 0)], [0, 1, 2]);
});
