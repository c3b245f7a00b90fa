// The deformation page: tools, keys and panels around the mesh.
import { fillRows, makeTexture, ROW } from "./gpu";
import type { Deforming } from "../kinds/deform";
import type { Stage } from "../stage";
import { byId } from "../ui/dom";
import { button } from "../ui/fields";
import type { Tool } from "../ui/tools";
import { Unanswered } from "./backend";
import { chosenFile, ExportDialog, saveSession } from "./files";
import { Gizmo, type GizmoMode } from "./gizmo";
import { Markers } from "./markers";
import { Panel, type PanelState } from "./panel";
import type { Hit } from "./pick";
import { Pointing } from "./pointing";
import { Region } from "./region";
import type { Mirror, Place } from "./session";

type Mode = "handle" | "anchor" | "brush" | "lasso";

const ICONS = {
  handle: "M12 5v14M5 12h14M12 8.2a3.8 3.8 0 1 0 0 7.6 3.8 3.8 0 0 0 0-7.6z",
  anchor: "M12 8v13M12 8a2.5 2.5 0 1 0 0-5 2.5 2.5 0 0 0 0 5zM5 13c0 5 3.5 8 7 8s7-3 7-8M8.5 11.5h7",
  brush: "M14 4l6 6-8 8c-1.2 1.2-3 2-5 2H4c1.5-1 1-2 1.5-3.5S8 12 8 12zM12 6l6 6",
  lasso: "M12 15.5c-5 0-9-2.4-9-5.6S7 4.2 12 4.2s9 2.5 9 5.7-4 5.6-9 5.6zM7.5 14.6c-1.6 1.7-1 4.4 1.5 5.4",
  move: "M12 3v18M3 12h18M12 3l-2.5 3M12 3l2.5 3M12 21l-2.5-3M12 21l2.5-3M3 12l3-2.5M3 12l3 2.5M21 12l-3-2.5M21 12l-3 2.5",
  turn: "M20 12a8 8 0 1 1-2.4-5.7M20 3v4.2h-4.2",
  size: "M4 14v6h6M20 10V4h-6M20 4l-7 7M4 20l7-7",
  undo: "M8 5L4 9l4 4M4 9h9.5a5.5 5.5 0 0 1 0 11H9",
  redo: "M16 5l4 4-4 4M20 9h-9.5a5.5 5.5 0 0 0 0 11H15",
  save: "M12 4v11M7.5 10.5L12 15l4.5-4.5M4 18.5V20h16v-1.5",
  open: "M12 15V4M7.5 8.5L12 4l4.5 4.5M4 18.5V20h16v-1.5",
  export: "M12 3l8 4.5v9L12 21l-8-4.5v-9zM12 12l8-4.5M12 12v9M12 12L4 7.5",
} as const;

/** Builds the page around a mesh; the result are its tools, which the others go behind. */
export function buildDeformPage(stage: Stage, kind: Deforming, report: (error: unknown) => void): Tool[] {
  const { controller, model, picker, blend, topology, look } = kind;
  const gizmo = new Gizmo(stage, controller, model);
  const markers = new Markers(stage, controller, model);
  const pointing = new Pointing(stage, picker, gizmo);
  const region = new Region(stage, blend, picker, topology.positions, kind.diagonal);
  const dialog = new ExportDialog(() => controller.session, stage.scene.name);
  const state: PanelState = {
    paint: "own", heat: true, planes: undefined, searching: false, kernel: undefined,
  };
  const panel = new Panel(controller, {
    paint: (paint) => void setPaint(paint).catch(report),
    heat: (heat) => {
      state.heat = heat;
      refresh();
    },
    symmetry: (on) => void setSymmetry(on).catch(report),
  });
  const pressed = new Map<string, () => boolean>();
  let mode: Mode = "handle";
  let colors: Uint8Array | undefined;
  let marks: WebGLTexture | undefined;
  kind.overlay = () => gizmo.scene;
  buildActions();

  function refresh(): void {
    const { selected, session, missing } = controller;
    state.kernel = model.handles[0]?.kernel ?? controller.kernel;
    const heated = state.heat && selected?.kind === "handle" && !missing && !region.count;
    look.heat(heated ? selected.index : -1);
    gizmo.follow();
    gizmo.showPlanes(css("--accent"));
    markers.update();
    panel.update(state);
    showWelcome(session.handles.length > 0);
    for (const [label, on] of pressed)
      for (const element of document.querySelectorAll(`[aria-label^="${label} ("]`))
        element.setAttribute("aria-pressed", String(on()));
    for (const [label, can] of [["Undo", controller.canUndo], ["Redo", controller.canRedo]] as const)
      document.querySelector<HTMLButtonElement>(`[aria-label^="${label} ("]`)?.toggleAttribute("disabled", !can);
    stage.invalidate();
  }

  /** What to do first, and how far the features are. */
  function showWelcome(begun: boolean): void {
    const { progress, ready, missing } = controller;
    const card = byId("welcome");
    card.hidden = ready && !missing && (begun || region.tool !== undefined);
    byId("welcome-title").textContent = ready
      ? "Click the surface to place a handle"
      : "Finding what looks alike …";
    const waiting = begun ? "The handle will work as soon as they are there." : "Look around meanwhile: drag to turn, scroll to zoom.";
    byId("welcome-text").textContent = ready
      ? missing
        ? "Asking for its weights …"
        : "Then drag it: everything that looks like it moves along. Anchors hold what should stay."
      : `${progress?.what || "Getting ready"} ${progress?.total ? `${progress.done} / ${progress.total}` : ""}. ${waiting}`;
    const bar = byId("welcome-bar");
    bar.hidden = ready;
    const part = progress?.total ? progress.done / progress.total : 0;
    bar.querySelector("i")!.style.width = `${100 * part}%`;
  }

  function setMode(next: Mode): void {
    mode = next;
    const tool = next === "brush" || next === "lasso" ? next : undefined;
    region.use(tool);
    pointing.active = !tool;
    if (!tool) region.clear();
    refresh();
  }

  function clicked(hit: Hit | undefined): void {
    if (!hit) {
      controller.select(undefined);
      return;
    }
    const place: Place = { face: topology.fileFace(hit.face), barycentric: hit.barycentric };
    if (mode === "anchor") controller.addAnchor(place);
    else controller.addHandle(place);
  }

  function fromRegion(kind: "handle" | "anchor"): void {
    const firsts = topology.firstVertices();
    const place = { region: region.chosen().map((position) => firsts[position]!) };
    region.clear();
    setMode("handle");
    if (kind === "handle") controller.addHandle(place);
    else controller.addAnchor(place);
  }

  function buildActions(): void {
    const words = document.createElement("span");
    const bar = byId("selection");
    bar.append(
      words,
      button("Handle", () => fromRegion("handle"), "primary"),
      button("Anchor", () => fromRegion("anchor")),
      button("Clear", () => region.clear()),
    );
    region.changed = () => {
      bar.hidden = region.count === 0;
      words.textContent = `${region.count.toLocaleString("en")} vertices`;
      mark();
      refresh();
    };
  }

  /** Colours of positions: what is selected over the features, where these are shown. */
  function mark(): void {
    const chosen = region.count > 0;
    const shown = state.paint === "features" ? colors : undefined;
    if (chosen || shown) {
      const gl = stage.renderer.getContext() as WebGL2RenderingContext;
      marks ??= makeTexture(gl, gl.RGBA8, ROW, blend.height);
      const texels = new Uint8Array(4 * topology.positions);
      if (shown) texels.set(shown);
      const [r, g, b] = rgb(css("--accent"));
      if (chosen)
        region.selected.forEach((on, k) => on && texels.set([r, g, b, 235], 4 * k));
      gl.activeTexture(gl.TEXTURE0);
      gl.bindTexture(gl.TEXTURE_2D, marks);
      fillRows(gl, gl.RGBA, gl.UNSIGNED_BYTE, 4, texels);
      stage.renderer.resetState();
    }
    look.marks(chosen || shown ? marks : undefined);
  }

  async function setPaint(paint: PanelState["paint"]): Promise<void> {
    if (paint === "features") colors ??= await kind.backend.colors();
    state.paint = paint;
    mark();
    refresh();
  }

  async function setSymmetry(on: boolean): Promise<void> {
    if (!on) {
      controller.setMirrors([]);
      return;
    }
    state.searching = state.planes === undefined;
    refresh();
    try {
      const found: readonly Mirror[] = (state.planes ??= await kind.backend.mirrors());
      controller.setMirrors(found.slice(0, 1));
    } catch (error) {
      if (!(error instanceof Unanswered)) throw error;
      report(error);
    } finally {
      state.searching = false;
      refresh();
    }
  }

  function setGizmo(next: GizmoMode): void {
    gizmo.mode = next;
    refresh();
  }

  async function open(): Promise<void> {
    const file = await chosenFile(".json,.yaml,.yml");
    if (file) controller.change(await kind.backend.read(file));
  }

  const shown = controller.changed;
  controller.changed = () => {
    shown();
    refresh();
  };
  controller.moved = () => {
    gizmo.follow();
    panel.follow();
    stage.invalidate();
  };
  controller.failed = (reason) => report(new Error(reason));
  pointing.clicked = clicked;
  const themed = kind.themed;
  kind.themed = (dark) => {
    themed?.(dark);
    gizmo.themed({ x: css("--x"), y: css("--y"), z: css("--z"), accent: css("--accent") });
    mark();
    refresh();
  };
  byId("edit").hidden = false;

  const radio = (label: string, key: string, icon: keyof typeof ICONS, run: () => void, on: () => boolean): Tool => {
    pressed.set(label, on);
    return { label, key, icon: ICONS[icon], run, group: "left" };
  };
  const escape = (): void => {
    if (region.count) region.clear();
    else if (region.tool) setMode("handle");
    else controller.select(undefined);
  };
  const exporting: Tool = { label: "Export", key: "x", icon: ICONS.export, run: () => dialog.open() };
  return [
    radio("Handle", "1", "handle", () => setMode("handle"), () => mode === "handle"),
    radio("Anchor", "2", "anchor", () => setMode("anchor"), () => mode === "anchor"),
    radio("Brush", "3", "brush", () => setMode("brush"), () => mode === "brush"),
    radio("Lasso", "4", "lasso", () => setMode("lasso"), () => mode === "lasso"),
    radio("Move", "t", "move", () => setGizmo("translate"), () => gizmo.mode === "translate"),
    radio("Turn", "r", "turn", () => setGizmo("rotate"), () => gizmo.mode === "rotate"),
    radio("Size", "e", "size", () => setGizmo("scale"), () => gizmo.mode === "scale"),
    { label: "Undo", key: "ctrl+z", icon: ICONS.undo, run: () => controller.undo() },
    { label: "Redo", key: "ctrl+y", icon: ICONS.redo, run: () => controller.redo() },
    { label: "Open a session", key: "ctrl+o", icon: ICONS.open, run: () => void open().catch(report) },
    {
      label: "Save the session", key: "ctrl+s", icon: ICONS.save,
      run: () => saveSession(controller.session, stage.scene.name),
    },
    ...(kind.backend.complete ? [exporting] : []),
    { label: "Mirror the edit", key: "m", run: () => void setSymmetry(!controller.session.mirrors.length).catch(report) },
    {
      label: "Colours of features", key: "c",
      run: () => void setPaint(state.paint === "own" ? "features" : "own").catch(report),
    },
    { label: "Smaller brush", key: "[", run: () => region.resize(1 / 1.25) },
    { label: "Larger brush", key: "]", run: () => region.resize(1.25) },
    { label: "Remove what is selected", key: "Delete", run: () => controller.removeSelected() },
    { label: "Select nothing", key: "Escape", run: escape },
    { label: "Remove all handles", key: "ctrl+Delete", run: () => controller.reset() },
  ];
}

function css(name: string): string {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

function rgb(color: string): [number, number, number] {
  const value = Number.parseInt(color.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}
