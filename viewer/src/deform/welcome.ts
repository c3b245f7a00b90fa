// The card that says what to do first, and how far the features are.
import { byId } from "../ui/dom";
import type { Controller } from "./controller";

/** `choosing`: a region is being selected. */
export function showWelcome(controller: Controller, choosing: boolean): void {
  const { progress, ready, hopeless, missing, session } = controller;
  const begun = session.handles.length > 0;
  const card = byId("welcome");
  card.hidden = ready && !missing && (begun || choosing);
  byId("welcome-title").textContent = ready
    ? "Click the surface to place a handle"
    : hopeless
      ? "There are no features to deform by"
      : "Finding what looks alike …";
  byId("welcome-text").textContent = ready
    ? missing
      ? "Asking for its weights …"
      : "Then drag it: everything that looks like it moves along. Anchors hold what should stay."
    : (hopeless ?? `${howFar(progress)}. ${meanwhile(begun)}`);
  const bar = byId("welcome-bar");
  bar.hidden = ready || hopeless !== undefined;
  const part = progress?.total ? progress.done / progress.total : 0;
  bar.querySelector("i")!.style.width = `${100 * part}%`;
}

function howFar(progress: Controller["progress"]): string {
  const { what = "", done = 0, total = null } = progress ?? {};
  return `${what || "Getting ready"} ${total ? `${done} / ${total}` : ""}`.trim();
}

function meanwhile(begun: boolean): string {
  return begun
    ? "The handle will work as soon as they are there."
    : "Look around meanwhile: drag to turn, scroll to zoom.";
}
