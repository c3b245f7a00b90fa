// The panel: what can be changed about the look, and what is known of the scene.
import { axisName, pretty, sub } from "../framing";
import type { Control, Range, Toggle } from "../kinds/kind";
import type { Manifest, Vector } from "../protocol";
import { byId, make } from "./dom";
import { showPart } from "./fields";

/** Show or hide the panel: in a window that is wide enough the scene makes room for it. */
export function showPanel(on: boolean): void {
  byId("panel").hidden = !on;
  document.body.classList.toggle("docked", on);
}

/** Adds a control to the panel; the result is what its keys do. */
export function addControl(control: Control): Record<string, () => void> {
  return control.type === "toggle" ? addToggle(control) : addRange(control);
}

function addToggle(control: Toggle): Record<string, () => void> {
  const input = make("input", { type: "checkbox", checked: control.on });
  input.addEventListener("change", () => control.set(input.checked));
  const row = make("label", { className: "row" }, control.label, input);
  row.title = control.key.toUpperCase();
  byId("controls").append(row);
  return { [control.key]: () => input.click() };
}

function addRange(control: Range): Record<string, () => void> {
  const { low, high, value, keys } = control;
  const [min, max] = [String(low), String(high)];
  const input = make("input", { type: "range", min, max, step: "0.25", value: String(value) });
  const output = make("output", {}, "100 %");
  const show = () => {
    const factor = 2 ** Number(input.value);
    output.textContent = `${Math.round(100 * factor)} %`;
    showPart(input);
    control.set(factor);
  };
  input.addEventListener("input", show);
  input.addEventListener("dblclick", () => {
    input.value = String(value);
    show();
  });
  showPart(input);
  const row = make("label", { className: "row range" }, control.label, output, input);
  row.title = keys.join(" ");
  byId("controls").append(row);
  const step = (by: number) => () => {
    input.value = String(Number(input.value) + by);
    show();
  };
  return { [keys[0]]: step(-0.25), [keys[1]]: step(0.25) };
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
