// The tool bar, the keys and the sheet that explains them.
import { byId, make } from "./dom";

export interface Tool {
  label: string;
  key: string;
  /** Under which heading the help has it; in a bar what belongs together stands together. */
  topic: string;
  /** Paths of an icon in a box of 24; none: a key alone. */
  icon?: string;
  /** What it does, where its label does not say so. */
  note?: string;
  /** Which bar it is in: the one below when left out. */
  group?: "left";
  /** Whether it is the chosen one, where one of several always is. */
  pressed?(): boolean;
  /** Whether there is something for it to do: always when left out. */
  enabled?(): boolean;
  /** When there will be, if that is to be said. */
  awaits?: string;
  run(): void;
}

export const ICONS = {
  fit: "M4 9V5a1 1 0 0 1 1-1h4M15 4h4a1 1 0 0 1 1 1v4M20 15v4a1 1 0 0 1-1 1h-4M9 20H5a1 1 0 0 1-1-1v-4M9 12h6M12 9v6",
  home: "M4 11l8-7 8 7M6 9.5V20h12V9.5M10 20v-6h4v6",
  up: "M12 20V5M6.5 10.5L12 5l5.5 5.5M5 20h14",
  camera: "M4 8h3.5L9 5.5h6L16.5 8H20v11H4zM12 16.5a3.2 3.2 0 1 0 0-6.4 3.2 3.2 0 0 0 0 6.4z",
  theme: "M20 14.2A8 8 0 1 1 9.8 4a6.4 6.4 0 0 0 10.2 10.2z",
  panel: "M4 5h16v14H4zM14.5 5v14M17 9h.5M17 12h.5",
  help: "M9.3 9a2.8 2.8 0 1 1 4.2 2.6c-.9.5-1.5 1.1-1.5 2.2M12 17.3v.2M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18z",
} as const;

/** A label, and the keys or gestures for it. */
export interface Entry {
  topic: string;
  label: string;
  keys: string;
}

export const VIEW = "View";

/** What is done by hand; a topic's are those of pages that have tools of it. */
const GESTURES: readonly (readonly [topic: string, label: string, keys: string])[] = [
  [VIEW, "Turn the view", "drag"],
  [VIEW, "Shift the view", "right drag, two fingers"],
  [VIEW, "Zoom", "wheel, pinch"],
  ["Place", "Take away from a region", "Alt drag"],
  ["Place", "Add to a lasso's region", "Shift drag"],
  ["Handle", "Drag in the view's plane", "drag its dot"],
  ["Handle", "Pivot by hand", "the same, in Pivot"],
  ["Files", "Open a session file", "drop it here"],
];

/** Tools of one topic. */
export function about(topic: string, tools: readonly Omit<Tool, "topic">[]): Tool[] {
  return tools.map((tool) => ({ ...tool, topic }));
}

const buttons = new Map<Tool, HTMLButtonElement>();

export function addTools(tools: readonly Tool[]): void {
  const last = new Map<HTMLElement, string>();
  for (const tool of tools) {
    const { label, key, icon, note, group, topic, run } = tool;
    if (!icon) continue;
    const bar = byId(group === "left" ? "modes" : "tools");
    const title = `${label} (${keyName(key)})`;
    const button = make("button", { type: "button" });
    button.setAttribute("aria-label", title);
    if (note) button.dataset["note"] = `: ${note}`;
    button.innerHTML = `<svg viewBox="0 0 24 24" aria-hidden="true"><path d="${icon}"/></svg>`;
    button.addEventListener("click", () => {
      run();
      button.blur(); // so that keys go on meaning what they mean
    });
    button.classList.toggle("apart", (last.get(bar) ?? topic) !== topic);
    last.set(bar, topic);
    bar.append(button);
    buttons.set(tool, button);
  }
  refreshTools();
}

/** Show which tools are chosen, and which have something to do. */
export function refreshTools(): void {
  for (const [tool, button] of buttons) {
    if (tool.pressed) button.setAttribute("aria-pressed", String(tool.pressed()));
    if (!tool.enabled) continue;
    button.disabled = !tool.enabled();
    if (tool.awaits) button.dataset["note"] = button.disabled ? `: ${tool.awaits}` : "";
  }
}

/** What a tool's key does: nothing while there is nothing to do, of which `said` is told why. */
export function byKey({ label, enabled, awaits, run }: Tool, said: (words: string) => void): () => void {
  return () => {
    if (enabled?.() ?? true) run();
    else if (awaits) said(`${label}: ${awaits}`);
  };
}

export function listenToKeys(actions: Readonly<Record<string, () => void>>): void {
  document.addEventListener("keydown", (event) => {
    if (event.altKey || event.repeat) return;
    const key = event.key === "Backspace" ? "Delete" : event.key;
    const plain = key.length === 1 ? key.toLowerCase() : key;
    const open = document.querySelector("dialog[open]");
    if (open && !(open.id === "help" && key === "?")) return;
    const held = event.ctrlKey || event.metaKey;
    const name = held && event.shiftKey && plain === "z" ? "ctrl+y" : held ? `ctrl+${plain}` : plain;
    const action = actions[name];
    if (!action || (isTyping(event.target) && !OF_FILES.has(name))) return;
    event.preventDefault();
    action();
  });
}

/** Keys that no field takes. */
const OF_FILES: ReadonlySet<string> = new Set(["ctrl+s", "ctrl+o"]);

/** Keys belong to what is written into. */
function isTyping(target: EventTarget | null): boolean {
  if (!(target instanceof HTMLInputElement)) return false;
  return target.type === "number" || target.type === "text";
}

export function fillHelp(entries: readonly Entry[]): void {
  const topics = new Set(entries.map(({ topic }) => topic));
  const all = [...entries, ...GESTURES.map(([topic, label, keys]) => ({ topic, label, keys }))];
  const row = ({ label, keys }: Entry) => make("p", {}, make("span", {}, label), make("kbd", {}, keys));
  const parts = Array.from(topics, (topic) => {
    const rows = all.filter((entry) => entry.topic === topic).map(row);
    return make("section", {}, make("h3", {}, topic), ...rows);
  });
  byId("keys").replaceChildren(...parts);
}

export function toggleHelp(): void {
  const dialog = byId<HTMLDialogElement>("help");
  if (dialog.open) dialog.close();
  else dialog.showModal();
}

export function keyName(key: string): string {
  if (key.startsWith("ctrl+")) return `Ctrl ${keyName(key.slice(5))}`;
  return key.length === 1 ? key.toUpperCase() : key;
}
