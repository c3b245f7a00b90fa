// The page's side of the protocol, on the same messages as tests/viewer/test_protocol.py.
import assert from "node:assert/strict";
import { test } from "node:test";
import { type CameraMessage, encode, readMessage, readPicture } from "../src/protocol";
import { Malformed } from "../src/wire";
import vectors from "./vectors.json";

test("messages of the server are read", () => {
  for (const text of vectors.from_server.read)
    assert.deepEqual(readMessage(text), JSON.parse(text));
});

test("anything else is refused", () => {
  for (const text of vectors.from_server.refused)
    assert.throws(() => readMessage(text), Malformed, text);
});

test("cameras are written as the server reads them", () => {
  const camera = vectors.camera as CameraMessage;
  assert.deepEqual(JSON.parse(encode(camera)), JSON.parse(vectors.from_page.read[0]!));
});

function packed(header: object, pixels: number): ArrayBuffer {
  const text = new TextEncoder().encode(JSON.stringify(header));
  const data = new Uint8Array(4 + text.length + pixels);
  new DataView(data.buffer).setUint32(0, text.length, true);
  data.set(text, 4);
  data.set(
    Array.from({ length: pixels }, (_, i) => i),
    4 + text.length,
  );
  return data.buffer;
}

const header = { type: "picture", id: 1, width: 2, height: 3, row: 1, rows: 2, final: true };

test("a picture is its header and its pixels", () => {
  const picture = readPicture(packed(header, 16));
  assert.equal(picture.width, 2);
  assert.deepEqual(
    [...picture.pixels],
    Array.from({ length: 16 }, (_, i) => i),
  );
});

test("pictures that are cut off are refused", () => {
  for (const size of [0, 3])
    assert.throws(() => readPicture(packed(header, 16).slice(0, size)), Malformed);
  assert.throws(() => readPicture(packed(header, 15)), Malformed);
  assert.throws(() => readPicture(packed(header, 16).slice(0, 20)), Malformed);
  assert.throws(() => readPicture(packed({ type: "failure", id: 1, reason: "" }, 16)), Malformed);
});
