// Loads the scene, builds the page around it and puts the two together.
import { Connection, type State } from "./connection";
import { nextAxis, type Pose } from "./framing";
import { buildDeformPage } from "./deform/page";
import { type Deforming, showDeform } from "./kinds/deform";
import { showField } from "./kinds/field";
import type { Kind, Setting } from "./kinds/kind";
import { showMesh } from "./kinds/mesh";
import { showPoints } from "./kinds/points";
import { showSplats } from "./kinds/splats";
import type { Manifest } from "./protocol";
import { byteLength, numbers, pageSource, type Source } from "./source";
import { type Frame, Stage } from "./stage";
import { showAxes } from "./ui/axes";
import { byId } from "./ui/dom";
import { addControl, showFacts, showPanel } from "./ui/panel";
import { saveScreenshot } from "./ui/screenshot";
import { Theme } from "./ui/theme";
import { about, addTools, byKey, fillHelp, ICONS, keyName, listenToKeys, type Tool, toggleHelp, VIEW } from "./ui/tools";

/** What scripts on the page, such as the tests, can do with it. */
export interface Handle {
  stage: Stage;
  kind: Kind;
  look(pose: Pose): void;
  /** Resolves when what is on the canvas is final. */
  settled(): Promise<void>;
  frame(): Frame;
}

declare global {
  interface Window {
    geodistill?: Handle;
  }
}

const theme = new Theme();
let reading = 0;
/** What is said whenever nothing else is. */
let standing = "";

async function main(): Promise<void> {
  const source = pageSource(document, location);
  const scene = await source.manifest();
  document.title = `${scene.name} · geodistill`;
  byId("name").textContent = scene.name;
  byId("kind").textContent = scene.kind === "field" ? "radiance field" : scene.kind;
  byId("kind").hidden = scene.name === scene.kind; // of what has no name
  showPanel(innerWidth >= 900); // else it would cover the scene
  const stage = new Stage(byId<HTMLCanvasElement>("view"), scene, scene.up.axis);
  const connection = source.live ? new Connection(location, scene.blobs["positions"]?.sha) : undefined;
  const setting: Setting = { stage, scene, load: loader(source, scene) };
  const kind = await show(setting, connection);
  stage.act = kind;
  stage.invalidate();
  buildPage(stage, scene, kind);
  theme.changed = (dark) => kind.themed?.(dark);
  theme.apply();
  if (connection) watch(connection, source, scene);
  stage.lost = () => stand(lostWords(kind, source.live));
  // What passes beside three.js have put on the GPU nobody brings back.
  stage.restored = () => isDeforming(kind) || stand("");
  kind.begin?.();
  window.geodistill = handle(stage, kind);
  byId("cover").classList.add("done");
}

async function show(setting: Setting, connection: Connection | undefined): Promise<Kind> {
  switch (setting.scene.kind) {
    case "mesh":
      if (setting.scene.digest !== null) return showDeform(setting, connection);
      return showMesh(setting);
    case "points":
      return showPoints(setting);
    case "splats":
      return showSplats(setting);
    case "field":
      if (!connection) throw new Error("a radiance field needs the server that renders it");
      return showField(setting, connection);
  }
}

function loader(source: Source, scene: Manifest): Setting["load"] {
  const total = Object.values(scene.blobs).reduce((sum, info) => sum + byteLength(info), 0);
  const bar = document.querySelector<HTMLElement>("#bar i");
  let before = 0;
  return async (name) => {
    const info = scene.blobs[name];
    if (!info) throw new Error(`the scene has no ${name}`);
    const data = await source.bytes(info, (loaded) => {
      if (bar) bar.style.width = `${(100 * (before + loaded)) / total}%`;
    });
    before += data.byteLength;
    return numbers(info, data);
  };
}

function buildPage(stage: Stage, scene: Manifest, kind: Kind): void {
  const screenshot = (opaque: boolean) => () =>
    void saveScreenshot(stage.frame(), scene.name, opaque).catch(report);
  const facts = () => showFacts(scene, stage.up);
  const looking = about(VIEW, [
    { label: "Fit to view", key: "f", icon: ICONS.fit, run: () => stage.fit() },
    { label: "First view", key: "h", icon: ICONS.home, run: () => stage.home() },
    {
      label: "Next axis up",
      key: "u",
      icon: ICONS.up,
      run: () => {
        stage.turnUp(nextAxis(stage.up));
        facts();
      },
    },
  ]);
  const page = about("Page", [
    { label: "Screenshot", key: "s", icon: ICONS.camera, run: screenshot(true) },
    { label: "Screenshot without background", key: "a", run: screenshot(false) },
    { label: "Light or dark", key: "d", icon: ICONS.theme, run: () => theme.toggle() },
    {
      label: "Panel",
      key: "i",
      icon: ICONS.panel,
      run: () => showPanel(byId("panel").hidden),
    },
    { label: "Help", key: "?", icon: ICONS.help, run: toggleHelp },
  ]);
  const editing: readonly Tool[] = isDeforming(kind) ? buildDeformPage(stage, kind, report) : [];
  const tools = [...editing, ...looking, ...page];
  addTools(tools);
  const actions = Object.fromEntries(tools.map((tool) => [tool.key, byKey(tool, report)]));
  for (const control of kind.controls) Object.assign(actions, addControl(control));
  listenToKeys(actions);
  fillHelp([
    ...tools.map(({ topic, label, key }) => ({ topic, label, keys: keyName(key) })),
    ...kind.controls.map((c) => ({
      topic: VIEW, label: c.label, keys: c.type === "toggle" ? keyName(c.key) : c.keys.join("  "),
    })),
  ]);
  facts();
  byId("tools").hidden = false;
  byId("modes").hidden = !isDeforming(kind);
  byId<HTMLDetailsElement>("about").open = !isDeforming(kind);
  stage.lookedListeners.add(() => showAxes(stage.camera));
  showAxes(stage.camera);
  showFrameRate(stage);
}

function isDeforming(kind: Kind): kind is Deforming {
  return "controller" in kind;
}

function showFrameRate(stage: Stage): void {
  let mean = 0;
  let gpu: number | undefined;
  let timer = 0;
  stage.drawnListeners.add((milliseconds) => {
    if (milliseconds === null) return;
    mean = mean ? 0.9 * mean + 0.1 * milliseconds : milliseconds;
    gpu = stage.timer.read() ?? gpu;
    const rate = `${Math.round(1000 / mean)} fps`;
    byId("status").textContent = gpu === undefined ? rate : `GPU ${gpu.toFixed(1)} ms · ${rate}`;
    clearTimeout(timer);
    timer = window.setTimeout(() => {
      mean = 0;
      byId("status").textContent = "";
    }, 1500);
  });
}

function watch(connection: Connection, source: Source, scene: Manifest): void {
  let lost = false;
  connection.changed = (state: State, reason: string) => {
    const words = {
      open: reason,
      lost: "Connection lost. Trying again …",
      closed: `The server has closed the connection: ${reason}`,
    };
    toast(words[state]);
    if (state === "lost" || lost) void reloadIfChanged(source, scene);
    lost = state === "lost";
  };
  connection.connect();
}

/** A server that was started again may show something else, or have another token. */
async function reloadIfChanged(source: Source, scene: Manifest): Promise<void> {
  try {
    const found = await source.manifest();
    if (JSON.stringify(found) !== JSON.stringify(scene)) location.reload();
  } catch (error) {
    if (!(error instanceof TypeError)) report(error); // which says that there is no answer
  }
}

function handle(stage: Stage, kind: Kind): Handle {
  const frames = () => new Promise(requestAnimationFrame);
  return {
    stage,
    kind,
    look: (pose) => (stage.pose = pose),
    frame: () => stage.frame(),
    async settled() {
      do await frames();
      while (!(stage.atRest && kind.settled()));
    },
  };
}

function toast(text: string): void {
  byId("toast").textContent = text || standing;
  byId("toast").hidden = !(text || standing);
}

/** Say what stays so. */
function stand(text: string): void {
  standing = text;
  toast("");
}

function lostWords(kind: Kind, live: boolean): string {
  const again = "The browser has lost the graphics of this page: reload it to see them again.";
  if (!isDeforming(kind)) return again;
  return `${again} ${live ? "The edit is kept by geodistill." : "Save the session before that, with Ctrl S."}`;
}

/** Say what went wrong, for as long as it takes to read it. */
function report(error: unknown): void {
  const text = error instanceof Error ? error.message : String(error);
  toast(text);
  clearTimeout(reading);
  reading = window.setTimeout(() => {
    if (byId("toast").textContent === text) toast("");
  }, 4000 + 60 * text.length);
}

addEventListener("error", ({ error }) => report(error));
addEventListener("unhandledrejection", ({ reason }) => report(reason));
main().catch((error: unknown) => {
  byId("cover").classList.add("failed");
  byId("doing").textContent = error instanceof Error ? error.message : String(error);
});
