import assert from "node:assert/strict";
import { test } from "node:test";
import { Connection, receivePictures, type State } from "../src/connection";

class FakeSocket {
  static readonly OPEN = 1;
  static readonly made: FakeSocket[] = [];
  binaryType = "";
  onopen = (): void => {};
  onmessage: (event: { data: string | ArrayBuffer }) => void = () => {};
  onclose: (event: { code: number; reason: string }) => void = () => {};

  constructor() {
    FakeSocket.made.push(this);
  }
}

/** A connection in a page whose timers run when they are told to. */
function connection() {
  const timers: (() => void)[] = [];
  let online = (): void => {};
  FakeSocket.made.length = 0;
  Object.assign(globalThis, {
    WebSocket: FakeSocket,
    document: { hidden: false, addEventListener: () => {} },
    addEventListener: (_: string, listener: () => void) => (online = listener),
    window: { setTimeout: (call: () => void) => timers.push(call) },
  });
  const made = new Connection({ href: "http://127.0.0.1:9/?token=a" } as Location);
  const told: [State, string][] = [];
  made.changed = (state, reason) => told.push([state, reason]);
  receivePictures(made, () => {});
  made.connect();
  return { told, sockets: FakeSocket.made, timers, online: () => online() };
}

function picture(): ArrayBuffer {
  const header = { type: "picture", id: 1, width: 1, height: 1, row: 0, rows: 1, final: true };
  const text = new TextEncoder().encode(JSON.stringify(header));
  const data = new Uint8Array(4 + text.length + 4);
  new DataView(data.buffer).setUint32(0, text.length, true);
  data.set(text, 4);
  return data.buffer;
}

test("a failure is told until the next picture", () => {
  const { told, sockets } = connection();
  const socket = sockets[0]!;
  socket.onopen();
  socket.onmessage({ data: picture() });
  socket.onmessage({ data: JSON.stringify({ type: "failure", id: 1, reason: "too far" }) });
  socket.onmessage({ data: picture() });
  socket.onmessage({ data: picture() });
  assert.deepEqual(told, [
    ["open", ""],
    ["open", "too far"],
    ["open", ""],
  ]);
});

test("a page whose server is back connects once, and stays away when it is sent away", () => {
  const { told, sockets, timers, online } = connection();
  sockets[0]!.onclose({ code: 1006, reason: "" });
  online();
  assert.equal(sockets.length, 2);
  sockets[1]!.onclose({ code: 1006, reason: "" });
  timers.at(-1)!();
  assert.equal(sockets.length, 3);
  sockets[2]!.onclose({ code: 1008, reason: "too many pages" });
  online();
  assert.equal(sockets.length, 3);
  assert.deepEqual(told.at(-1), ["closed", "too many pages"]);
});
