import assert from "node:assert/strict";
import { test } from "node:test";
import { waitMs } from "../src/connection";
import { readManifest } from "../src/protocol";
import { address, byteLength, numbers } from "../src/source";

const info = { sha: "", dtype: "float32", shape: [2, 3] } as const;

test("arrays have the length that their shape says", () => {
  assert.equal(byteLength(info), 24);
  assert.equal(byteLength({ ...info, dtype: "float16" }), 12);
  assert.ok(numbers(info, new ArrayBuffer(24)) instanceof Float32Array);
  assert.throws(() => numbers(info, new ArrayBuffer(20)), /20 bytes instead of 24/);
});

test("every request carries the token of the address", () => {
  const url = address({ href: "http://127.0.0.1:9/?token=abc#x" } as Location, "blob/12");
  assert.equal(url.href, "http://127.0.0.1:9/blob/12?token=abc");
});

test("attempts to connect become rarer, and never stop", () => {
  const waits = Array.from({ length: 30 }, (_, attempt) => waitMs(attempt));
  assert.deepEqual(waits, [...waits].sort((a, b) => a - b));
  assert.equal(waits.at(-1), 5000);
});

test("a scene of another version is refused", () => {
  assert.throws(() => readManifest({ version: 0 }), /another version/);
  assert.throws(() => readManifest(null), /another version/);
});
