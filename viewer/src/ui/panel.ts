// The panel: what can be changed about the look, and what is known of the scene.
import { axisName, pretty, sub } from "../framing";
import type { Control, Range, Toggle } from "../kinds/kind";
import type { Manifest, Vector } from "../protocol";
import { byId, make } from "./dom";
import { slider, toggle, told } from "./fields";

const STEP = 0.25; // of exponents

/** Show or hide the panel: in a window that is wide enough the scene makes room for it. */
export function showPanel(on: boolean): void {
  byId("panel").hidden = !on;
  document.body.classList.toggle("docked", on);
}

/** Adds a control to the panel; the result is what its keys do. */
export function addControl(control: Control): Record<string, () => void> {
  return control.type === "toggle" ? addToggle(control) : addRange(control);
}

function addToggle({ label, key, on, set }: Toggle): Record<string, () => void> {
  const change = (next: boolean) => {
    on = next;
    field.set(on);
    set(on);
  };
  const field = told(toggle(label, { changed: change }), key.toUpperCase());
  field.set(on);
  byId("controls").append(field.element);
  return { [key]: () => change(!on) };
}

function addRange({ label, low, high, value, keys, set }: Range): Record<string, () => void> {
  let exponent = value;
  const change = (next: number) => {
    exponent = Math.min(high, Math.max(low, next));
    field.set(exponent);
    set(2 ** exponent);
  };
  const text = (shown: number) => `${Math.round(100 * 2 ** shown)} %`;
  const bounds = { low, high, step: STEP };
  const field = told(slider(label, bounds, text, { changing: change, changed: change }), keys.join(" "));
  field.set(value);
  field.element.addEventListener("dblclick", () => change(value));
  byId("controls").append(field.element);
  return { [keys[0]]: () => change(exponent - STEP), [keys[1]]: () => change(exponent + STEP) };
}

export function showFacts(scene: Manifest, up: Vector): void {
  const facts = byId("facts");
  facts.replaceChildren();
  const add = (name: string, ...value: (Node | string)[]) =>
    facts.append(make("dt", {}, name), make("dd", {}, ...value));
  for (const [name, count] of scene.counts) add(capital(name), count.toLocaleString("en"));
  const sides = sub(scene.high, scene.low);
  add("Size", sides.map(pretty).join(" × "));
  const source = scene.up.axis === up ? scene.up.source : "user";
  const words = { file: "", cameras: "from its cameras", guess: "a guess", user: "chosen" };
  const note = words[source];
  add("Up", axisName(up), ...(note ? [make("small", {}, note)] : []));
  scene.low.forEach((low, k) => add("xyz"[k]!, `${pretty(low)} … ${pretty(scene.high[k]!)}`));
}

function capital(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
