// What a page without a server computes by itself.
import assert from "node:assert/strict";
import { test } from "node:test";
import { Features } from "../src/deform/features";
import { Paths } from "../src/deform/paths";
import { EMPTY, isSession, readSession } from "../src/deform/session";
import vectors from "./vectors.json";

/** Numbers in [0, 1) that are the same every time. */
function random(seed: number): () => number {
  let state = seed;
  return () => (state = (state * 48271) % 2147483647) / 2147483647;
}

test("half floats are what they stand for, and rows become unit vectors", () => {
  const known: [number, number][] = [
    [0x3c00, 1], [0xc000, -2], [0x3555, 0.333251953125], [0x0001, 2 ** -24], [0x7bff, 65504],
  ];
  for (const [bits, value] of known) {
    const [vector] = new Features(Uint16Array.of(bits, 0x3c00), 2).standingFor({
      positions: [0], weights: [1],
    });
    const length = Math.hypot(value, 1);
    assert.ok(Math.abs(vector![0]! - value / length) < 1e-7);
    assert.ok(Math.abs(vector![1]! - 1 / length) < 1e-7);
  }
});

test("a region is stood for by features that are far apart, a place without any by none", () => {
  const one = 0x3c00;
  const rows = [[one, 0], [one, 0], [0, one], [0, 0], [one, 0x1000]];
  const features = new Features(Uint16Array.from(rows.flat()), 2);
  const found = features.standingFor({ positions: [0, 1, 2, 3], weights: undefined });
  assert.deepEqual(found.map((vector) => [...vector]), [[1, 0], [0, 1]]);
  assert.deepEqual(features.standingFor({ positions: [3], weights: undefined }), []);
  const away = [...features.distances(found)];
  assert.deepEqual(away.slice(0, 3), [0, 0, 0]);
  assert.equal(away[3], Math.fround(Math.SQRT2)); // unlike anything
});

test("shortest paths are those of trying all", () => {
  const next = random(7);
  const count = 60;
  const ends: number[] = [];
  for (let k = 1; k < count; k++) ends.push(k, Math.floor(next() * k));
  for (let k = 0; k < 100; k++) ends.push(Math.floor(next() * count), Math.floor(next() * count));
  const lengths = Float32Array.from({ length: ends.length / 2 }, () => next());
  const found = new Paths(count, Uint32Array.from(ends), lengths).from([3, 41]);
  const wanted = new Float64Array(count).fill(Infinity);
  wanted[3] = wanted[41] = 0;
  for (let turn = 0; turn < count; turn++)
    lengths.forEach((length, k) => {
      const [a, b] = [ends[2 * k]!, ends[2 * k + 1]!];
      wanted[a] = Math.min(wanted[a]!, wanted[b]! + length);
      wanted[b] = Math.min(wanted[b]!, wanted[a]! + length);
    });
  assert.deepEqual([...found], [...wanted]);
});

test("sessions are told from what is none", () => {
  const handle = { vertex: 3, translate: [1, 2, 3], scale: 2 };
  const made = { ...EMPTY, handles: [handle], mirrors: [{ normal: [1, 0, 0], offset: 0.5 }] };
  assert.ok(isSession(EMPTY) && isSession(made));
  const wrong = [
    [], null, { ...EMPTY, version: 2 }, { ...EMPTY, more: 1 }, { ...EMPTY, locality: -1 },
    { ...EMPTY, radius: 3 }, { ...EMPTY, mirrors: [{ normal: [0, 0, 0] }] }, { ...EMPTY, handles: null },
  ];
  for (const value of wrong) assert.ok(!isSession(value), JSON.stringify(value));
});

test("handles and anchors in files are those that geodistill reads", () => {
  for (const handle of vectors.handles.read)
    assert.ok(readSession({ handles: [handle] }), JSON.stringify(handle));
  for (const handle of vectors.handles.refused)
    assert.equal(readSession({ handles: [handle] }), undefined, JSON.stringify(handle));
  for (const anchor of [{ vertex: 1, scale: 2 }, { vertex: 1, translate: [0, 0, 0] }, null])
    assert.equal(readSession({ anchors: [anchor] }), undefined);
  // What is null is not there.
  const nothing = { face: null, rotate: null, pivot: null, locality: null };
  assert.deepEqual(readSession({ handles: [{ vertex: 3, ...nothing }] })!.handles, [{ vertex: 3 }]);
});
