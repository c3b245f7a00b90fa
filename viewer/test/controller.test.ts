// Whose edit is kept when a page and its server meet.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Backend } from "../src/deform/backend";
import { Controller } from "../src/deform/controller";
import type { FromServer, Positions } from "../src/deform/messages";
import type { Model } from "../src/deform/model";
import { EMPTY, type Session } from "../src/deform/session";
import type { Sites } from "../src/deform/sites";

const at = (...vertices: number[]): Session => ({ ...EMPTY, handles: vertices.map((vertex) => ({ vertex })) });

/** A controller, what it has sent, and its server's voice. */
function page() {
  const sent: Session[] = [];
  const backend = { keep: (session: Session) => sent.push(session) } as unknown as Backend;
  const sites = { forgetFailures: () => {} } as Sites;
  const model = { show: () => undefined, columns: [] } as unknown as Model;
  const controller = new Controller(backend, sites, model, () => {});
  return {
    controller,
    sent,
    vertices: () => controller.session.handles.map(({ vertex }) => vertex),
    tell: (message: FromServer) => backend.told(message),
    edit: (server: string, session: Session) => backend.told({ type: "edit", server, session }),
    accept: () => backend.told({ type: "accepted", id: sent.length }),
    begin: () => backend.begun!(),
  };
}

test("what is clicked before the server has said its edit is added to that", () => {
  const { controller, sent, vertices, tell, edit } = page();
  controller.addHandle({ vertex: 3 });
  tell({ type: "failure", id: 0, reason: "no features" });
  assert.deepEqual(sent, []);
  edit("a", { ...at(1, 2), locality: 2, anchors: [{ vertex: 9 }] });
  assert.deepEqual(vertices(), [1, 2, 3]);
  assert.deepEqual(sent, [{ ...at(1, 2, 3), locality: 2, anchors: [{ vertex: 9 }] }]);
  assert.deepEqual(controller.selected, { kind: "handle", index: 2 });
  controller.undo();
  assert.deepEqual(vertices(), [1, 2]);
});

test("what was undone before that is nothing", () => {
  const { controller, sent, vertices, edit } = page();
  controller.addHandle({ vertex: 3 });
  controller.undo();
  edit("a", at(1));
  edit("a", at(2)); // another page's
  assert.deepEqual([vertices(), sent], [[2], []]);
});

test("a server that was started again with an edit keeps it, and undo brings the page's back", () => {
  const { controller, sent, vertices, edit, accept, begin } = page();
  edit("a", EMPTY);
  controller.addHandle({ vertex: 3 });
  accept();
  begin();
  edit("b", at(7));
  assert.deepEqual([vertices(), sent.length], [[7], 1]);
  controller.undo();
  assert.deepEqual([vertices(), sent[1]], [[3], at(3)]);
});

test("a server that was started again with nothing, or before all was kept, gets the page's", () => {
  for (const [kept, theirs] of [[true, EMPTY], [false, at(7)]] as const) {
    const { controller, sent, vertices, edit, accept, begin } = page();
    edit("a", EMPTY);
    controller.addHandle({ vertex: 3 });
    if (kept) accept();
    begin();
    edit("b", theirs);
    assert.deepEqual([vertices(), sent], [[3], [at(3), at(3)]]);
  }
});

test("one polish is computed at a time, and after it that of what the edit is by then", async () => {
  const asked: Session[] = [];
  const answers: (() => void)[] = [];
  const put: number[] = [];
  const positions = (id: number): Positions => ({ type: "positions", id, count: 0, data: new Float32Array() });
  const backend = {
    keep: () => 0,
    polish: (session: Session) => {
      asked.push(session);
      return new Promise<Positions>((resolve) => answers.push(() => resolve(positions(asked.length))));
    },
  } as unknown as Backend;
  const model = { show: () => undefined, columns: [0] } as unknown as Model;
  const controller = new Controller(backend, { forgetFailures: () => {} } as Sites, model, ({ id }) => put.push(id));
  const at = (x: number): Session => ({ ...EMPTY, rigidity: 2, handles: [{ vertex: 3, translate: [x, 0, 0] }] });
  backend.told({ type: "ready", teacher: "lite0", channels: 4, radius: 1, power: 1 });
  for (const x of [1, 2, 3]) controller.change(at(x));
  assert.deepEqual(asked, [at(1)]);
  const settled = () => new Promise((resolve) => setImmediate(resolve));
  answers[0]!();
  await settled();
  assert.deepEqual([asked, put, controller.settled], [[at(1), at(3)], [], false]);
  answers[1]!();
  await settled();
  assert.deepEqual([asked.length, put, controller.settled], [2, [2], true]);
});
