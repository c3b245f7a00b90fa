// Parts of panels: sliders, numbers, choices and buttons, each told what to show by `set`.
import { make } from "./dom";

export interface Field<T> {
  element: HTMLElement;
  set(value: T): void;
}

export interface Ways<T> {
  /** While it is being changed. */
  changing?(value: T): void;
  /** Once it has been. */
  changed(value: T): void;
}

export function section(title: string | Node, ...children: (Node | string)[]): HTMLElement {
  return make("section", {}, typeof title === "string" ? make("h2", {}, title) : title, ...children);
}

/** A title with what can be done to all below it. */
export function heading(title: string | HTMLElement, action: HTMLElement): HTMLElement {
  const words = typeof title === "string" ? make("h2", {}, title) : title;
  return make("div", { className: "heading" }, words, action);
}

/** A section that is closed at first. */
export function fold(title: string, ...children: (Node | string)[]): HTMLElement {
  return make("section", {}, make("details", {}, make("summary", {}, title), ...children));
}

/** A field that says what it does when the pointer rests on it. */
export function told<T>(field: Field<T>, text: string): Field<T> {
  field.element.title = text;
  return field;
}

/** Tell the style sheet how far a slider is. */
function showPart(input: HTMLInputElement): void {
  const [low, high] = [Number(input.min), Number(input.max)];
  input.style.setProperty("--part", `${(100 * (input.valueAsNumber - low)) / (high - low)}%`);
}

export function hint(text: string): HTMLElement {
  return make("p", { className: "hint" }, text);
}

/** A slider from `low` to `high` whose value is written as `text` says. */
export function slider(
  label: string,
  { low, high, step }: { low: number; high: number; step: number },
  text: (value: number) => string,
  ways: Ways<number>,
): Field<number> {
  const [min, max] = [String(low), String(high)];
  const input = make("input", { type: "range", min, max, step: String(step) });
  const output = make("output");
  input.setAttribute("aria-label", label);
  const say = () => {
    output.textContent = text(input.valueAsNumber);
    showPart(input);
  };
  input.addEventListener("input", () => {
    say();
    ways.changing?.(input.valueAsNumber);
  });
  input.addEventListener("change", () => ways.changed(input.valueAsNumber));
  return {
    element: make("label", { className: "row range" }, label, output, input),
    set(value) {
      if (document.activeElement === input && input.matches(":active")) return;
      input.value = String(value);
      output.textContent = text(value);
      showPart(input);
    },
  };
}

const MOST_PLAIN = 6; // letters from which an exponent reads better where it is shorter
const MOST_WIDTH = 6.5; // of what a field has room for, in digits

/** A number in little room: four digits at most, fewer where an exponent would else not fit. */
export function brief(value: number): string {
  const width = (text: string) => text.length - 0.5 * text.replace(/[^.-]/g, "").length;
  let best = "";
  for (const digits of [4, 3, 2]) {
    const rounded = Number(value.toPrecision(digits));
    const [plain, short] = [String(rounded), rounded.toExponential().replace("e+", "e")];
    const texts = plain.length <= Math.max(MOST_PLAIN, short.length) ? [plain, short] : [short, plain];
    const found = texts.find((text) => width(text) <= MOST_WIDTH);
    if (found) return found;
    best = texts[0]!;
  }
  return best;
}

export interface Numbers {
  /** Of the arrow keys. */
  step: number;
  low?: number;
  high?: number;
}

/** Three numbers in a row, each cut to its limits, of which `said` is told. */
export function triple(
  label: string,
  { step, low = -Infinity, high = Infinity }: Numbers,
  ways: Ways<readonly [number, number, number]>,
  said: (words: string) => void,
): Field<readonly [number, number, number]> {
  let shown: readonly number[] = [NaN, NaN, NaN];
  const show = (input: HTMLInputElement, k: number) => {
    const text = brief(shown[k]!);
    if (input.value !== text) input.value = text;
  };
  const inputs = ["x", "y", "z"].map((axis, k) => {
    const input = make("input", { type: "number", step: String(step) });
    input.setAttribute("aria-label", `${label} ${axis}`);
    input.className = axis;
    input.addEventListener("keydown", ({ key }) => {
      if (key === "Escape") show(input, k);
      if (key === "Escape" || key === "Enter") input.blur();
    });
    input.addEventListener("blur", () => show(input, k));
    input.addEventListener("pointerenter", () => (input.title = String(Number(shown[k]!.toPrecision(9)))));
    input.addEventListener("change", () => {
      const typed = input.valueAsNumber;
      const value = Math.min(high, Math.max(low, typed));
      if (Number.isNaN(value)) return;
      // The others are what they are, and not what there is room to show of them.
      shown = shown.with(k, value);
      ways.changed(shown as [number, number, number]);
      if (value === typed) return;
      show(input, k);
      said(`${label} is at ${value < typed ? "most" : "least"} ${value}`);
    });
    return input;
  });
  return {
    element: make("div", { className: "triple" }, make("span", {}, label), ...inputs),
    set(values) {
      const before = shown;
      shown = values;
      inputs.forEach((input, k) => {
        if (values[k] !== before[k] && document.activeElement !== input) show(input, k);
      });
    },
  };
}

/** One of several, of which one is always chosen. */
export function choice<T extends string>(
  label: string,
  options: Readonly<Record<T, string>>,
  ways: Ways<T>,
): Field<T> {
  const buttons = (Object.entries(options) as [T, string][]).map(([value, text]) => {
    const button = make("button", { type: "button" }, text);
    button.addEventListener("click", () => ways.changed(value));
    return [value, button] as const;
  });
  const group = make("div", { className: "choice" }, ...buttons.map(([, button]) => button));
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", label);
  return {
    element: group,
    set(value) {
      for (const [own, button] of buttons) button.setAttribute("aria-pressed", String(own === value));
    },
  };
}

export function toggle(label: string, ways: Ways<boolean>): Field<boolean> {
  const input = make("input", { type: "checkbox" });
  input.addEventListener("change", () => ways.changed(input.checked));
  return {
    element: make("label", { className: "row" }, label, input),
    set: (on) => (input.checked = on),
  };
}

export function button(label: string, run: () => void, className = "plain"): HTMLButtonElement {
  const made = make("button", { type: "button", className }, label);
  made.addEventListener("click", run);
  return made;
}
