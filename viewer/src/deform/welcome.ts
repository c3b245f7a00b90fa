// The card that says what to do first, what is awaited, and how far the features are.
import { byId } from "../ui/dom";
import type { Controller } from "./controller";

/** `choosing`: a region is being selected. */
export function showWelcome(controller: Controller, choosing: boolean): void {
  const { progress, ready, hopeless, missing, session } = controller;
  const begun = session.handles.length > 0 || session.anchors.length > 0;
  const waiting = !ready && hopeless === undefined;
  byId("welcome").hidden = ready && !missing && (session.handles.length > 0 || choosing);
  const title = byId("welcome-title");
  title.hidden = hopeless === undefined && (ready ? missing !== undefined : begun); // an edit is below
  title.textContent = ready
    ? "Click the surface to place a handle"
    : hopeless
      ? "There are no features to deform by"
      : "Finding what looks alike …";
  byId("welcome-text").textContent = ready
    ? missing
      ? ASKED[missing]
      : "Then drag it: everything that looks like it moves along. Anchors hold what should stay."
    : (hopeless ?? `${howFar(progress)}. ${begun ? WORKS : LOOK}`);
  const bar = byId("welcome-bar");
  bar.hidden = !waiting;
  const part = progress?.total ? `${(100 * progress.done) / progress.total}%` : "";
  bar.classList.toggle("busy", !part); // it is not known how far
  bar.querySelector("i")!.style.width = part;
}

const ASKED = {
  places: "Asking for its weights …",
  paths: "Asking for distances along the surface …",
};
const WORKS = "What is placed works as soon as the features are there.";
const LOOK = "Look around meanwhile: drag to turn, scroll to zoom.";

function howFar(progress: Controller["progress"]): string {
  const { what = "", done = 0, total = null } = progress ?? {};
  return `${what || "Getting ready"} ${total ? `${done} / ${total}` : done || ""}`.trim();
}
