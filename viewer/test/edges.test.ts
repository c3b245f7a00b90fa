import assert from "node:assert/strict";
import { test } from "node:test";
import { distinctEdges } from "../src/edges";

test("a tetrahedron has six edges, each once", () => {
  const faces = new Uint32Array([0, 1, 2, 0, 3, 1, 1, 3, 2, 2, 3, 0]);
  assert.deepEqual([...distinctEdges(faces, 4)], [0, 1, 0, 2, 0, 3, 1, 2, 1, 3, 2, 3]);
});

test("faces that use a vertex twice have no edge to itself", () => {
  assert.deepEqual([...distinctEdges(new Uint32Array([5, 5, 9]), 10)], [5, 9]);
});

test("the indices of as many vertices as a GPU takes stay exact", () => {
  const most = 89_999_999;
  const faces = new Uint32Array([most, most - 1, most - 2]);
  assert.deepEqual(
    [...distinctEdges(faces, most + 1)].slice(0, 2),
    [most - 2, most - 1],
  );
});
