// What is said to the server, and what is too much for it.
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Connection } from "../src/connection";
import { Unanswered } from "../src/deform/backend";
import { type FromServer, MOST_EDIT } from "../src/deform/messages";
import { Server } from "../src/deform/server";
import { EMPTY, type Session } from "../src/deform/session";

function server() {
  const sent: string[] = [];
  const connection = { send: (text: string) => sent.push(text) } as unknown as Connection;
  const told: FromServer[] = [];
  const made = new Server(connection);
  made.told = (message) => told.push(message);
  return { made, connection, sent, told };
}

/** A session whose message has this many bytes with an id of one digit. */
function sized(bytes: number): Session {
  const mesh = "é".repeat(1000); // two bytes each
  const rest = JSON.stringify({ type: "edit", id: 1, session: { ...EMPTY, mesh } }).length + 1000;
  return { ...EMPTY, mesh: mesh + "x".repeat(bytes - rest) };
}

test("an edit that the server would end the connection for is refused in words", async () => {
  const { made, sent, told } = server();
  made.keep(sized(MOST_EDIT - 1));
  assert.equal(new TextEncoder().encode(sent[0]).length, MOST_EDIT - 1);
  const id = made.keep(sized(MOST_EDIT));
  await Promise.resolve();
  assert.equal(sent.length, 1);
  const [message] = told;
  assert.ok(message?.type === "failure" && message.id === id && message.reason.includes("16.0 MB"));
});

test("so is a question, and it is not asked again", async () => {
  const { made, connection, sent } = server();
  await assert.rejects(made.polish(sized(MOST_EDIT)), Unanswered);
  const region = Array.from({ length: 2_000_000 }, () => 10_000_000);
  await assert.rejects(made.likeness({ region }, "cardinal", null), Unanswered);
  connection.opened();
  assert.deepEqual(sent, []);
  void made.mirrors();
  connection.opened();
  assert.equal(sent.length, 2);
});
