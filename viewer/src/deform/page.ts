// The deformation page: tools, keys and panels around the mesh.
import type { Deforming } from "../kinds/deform";
import type { Stage } from "../stage";
import { byId, css } from "../ui/dom";
import { button } from "../ui/fields";
import { about, type Tool, VIEW } from "../ui/tools";
import { Unanswered } from "./backend";
import { chosenFile, ExportDialog, saveSession, takeDrops } from "./files";
import { Gizmo, type GizmoMode } from "./gizmo";
import { ICONS } from "./icons";
import { Markers } from "./markers";
import { Paint } from "./paint";
import { Panel, type PanelState, type Wishes } from "./panel";
import type { Hit } from "./pick";
import { Pointing } from "./pointing";
import { Region } from "./region";
import type { Mirror, Place } from "./session";
import { showWelcome } from "./welcome";

const MOST_SESSION = 1 << 24; // bytes, as the server has it
const SESSIONS = [".json", ".yaml", ".yml"];

type Mode = "handle" | "anchor" | "brush" | "lasso";

/** Builds the page around a mesh; the result are its tools, which the others go behind. */
export function buildDeformPage(stage: Stage, kind: Deforming, report: (error: unknown) => void): Tool[] {
  const { controller, model, picker, blend, topology, look } = kind;
  const gizmo = new Gizmo(stage, controller, model);
  const markers = new Markers(stage, controller, model);
  const pointing = new Pointing(stage, picker, gizmo);
  const region = new Region(stage, blend, picker, topology.positions, kind.diagonal);
  const dialog = new ExportDialog(kind.backend, () => controller.session, stage.scene.name);
  const paint = new Paint(stage, kind, region);
  const state: PanelState = {
    paint: "own", heat: true, planes: undefined, searching: false, pivot: undefined, kernel: undefined,
  };
  const wishes: Wishes = {
    paint: (wanted) => void setPaint(wanted).catch(report),
    heat: (heat) => {
      state.heat = heat;
      refresh();
    },
    symmetry: (on) => void setSymmetry(on).catch(report),
    pivot: (at) => gizmo.setPivot(at),
  };
  const panel = new Panel(controller, wishes, kind.backend.complete);
  const pressed = new Map<string, () => boolean>();
  let mode: Mode = "handle";
  kind.overlay = () => gizmo.scene;
  buildActions();

  function refresh(): void {
    const { selected, missing } = controller;
    state.kernel = model.handles[0]?.kernel ?? controller.kernel;
    const heated = state.heat && selected?.kind === "handle" && !missing && !region.count;
    look.heat(heated ? selected.index : -1);
    gizmo.follow(!region.tool);
    state.pivot = gizmo.pivot;
    state.paint = paint.painted;
    gizmo.showPlanes(css("--accent"));
    markers.update();
    panel.update(state);
    showWelcome(controller, region.tool !== undefined);
    for (const [label, on] of pressed)
      for (const element of document.querySelectorAll(`[aria-label^="${label} ("]`))
        element.setAttribute("aria-pressed", String(on()));
    for (const [label, can] of [["Undo", controller.canUndo], ["Redo", controller.canRedo]] as const)
      document.querySelector<HTMLButtonElement>(`[aria-label^="${label} ("]`)?.toggleAttribute("disabled", !can);
    stage.invalidate();
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
      paint.show();
      refresh();
    };
  }

  async function setPaint(wanted: PanelState["paint"]): Promise<void> {
    await paint.choose(wanted);
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

  async function choose(): Promise<void> {
    const file = await chosenFile(SESSIONS.join());
    if (file) await open(file);
  }

  async function open(file: File): Promise<void> {
    if (!SESSIONS.some((ending) => file.name.toLowerCase().endsWith(ending)))
      throw new Error(`${file.name} is no session: these are ${SESSIONS.join(", ")}. A mesh is opened by geodistill deform`);
    if (file.size > MOST_SESSION)
      throw new Error(`${file.name} is too large for a session: it has ${file.size >> 20} MB`);
    controller.change(await kind.backend.read(file));
  }

  const shown = controller.changed;
  controller.changed = () => {
    shown();
    refresh();
  };
  controller.moved = () => {
    gizmo.follow(!region.tool);
    panel.follow(gizmo.pivot);
    stage.invalidate();
  };
  controller.failed = (reason) => report(new Error(reason));
  pointing.clicked = clicked;
  takeDrops((file) => void open(file).catch(report));
  const themed = kind.themed;
  kind.themed = (dark) => {
    themed?.(dark);
    gizmo.themed({ x: css("--x"), y: css("--y"), z: css("--z"), accent: css("--accent") });
    paint.show();
    refresh();
  };
  byId("edit").hidden = false;

  type Made = Omit<Tool, "topic">;
  const radio = (label: string, key: string, icon: keyof typeof ICONS, on: () => boolean): Omit<Made, "run"> => {
    pressed.set(label, on);
    return { label, key, icon: ICONS[icon], group: "left" };
  };
  const placing = (label: string, key: string, own: Mode, note: string): Made => ({
    ...radio(label, key, own, () => mode === own), note, run: () => setMode(own),
  });
  const moving = (label: string, key: string, icon: keyof typeof ICONS, own: GizmoMode): Made => ({
    ...radio(label, key, icon, () => gizmo.mode === own), run: () => setGizmo(own),
  });
  const escape = (): void => {
    if (region.count) region.clear();
    else if (region.tool) setMode("handle");
    else controller.select(undefined);
  };
  const exporting: Made = { label: "Export", key: "x", icon: ICONS.export, run: () => dialog.open() };
  return [
    ...about("Place", [
      placing("Handle", "1", "handle", "click what should move"),
      placing("Anchor", "2", "anchor", "click what should stay"),
      placing("Brush", "3", "brush", "paint a region for either"),
      placing("Lasso", "4", "lasso", "draw around a region for either"),
      { label: "Smaller brush", key: "[", run: () => region.resize(1 / 1.25) },
      { label: "Larger brush", key: "]", run: () => region.resize(1.25) },
    ]),
    ...about("Handle", [
      moving("Move", "t", "move", "translate"),
      moving("Turn", "r", "turn", "rotate"),
      moving("Size", "e", "size", "scale"),
      { ...moving("Pivot", "p", "pivot", "pivot"), note: "what a handle turns and grows about" },
    ]),
    ...about("Edit", [
      { label: "Undo", key: "ctrl+z", icon: ICONS.undo, run: () => controller.undo() },
      { label: "Redo", key: "ctrl+y", icon: ICONS.redo, run: () => controller.redo() },
      {
        label: "Mirror the edit", key: "m",
        run: () => void setSymmetry(!controller.session.mirrors.length).catch(report),
      },
      { label: "Select nothing", key: "Escape", run: escape },
      { label: "Remove what is selected", key: "Delete", run: () => controller.removeSelected() },
      { label: "Remove all handles", key: "ctrl+Delete", run: () => controller.reset() },
    ]),
    ...about("Files", [
      { label: "Open a session", key: "ctrl+o", icon: ICONS.open, run: () => void choose().catch(report) },
      {
        label: "Save the session", key: "ctrl+s", icon: ICONS.save,
        run: () => saveSession(controller.session, stage.scene.name),
      },
      ...(kind.backend.complete ? [exporting] : []),
    ]),
    ...about(VIEW, [
      {
        label: "Colours of features", key: "c",
        run: () => void setPaint(paint.painted === "own" ? "features" : "own").catch(report),
      },
    ]),
  ];
}
