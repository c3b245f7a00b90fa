// The deformation page: what tools, keys and panels around the mesh do.
import type { Deforming } from "../kinds/deform";
import type { Stage } from "../stage";
import { byId, css } from "../ui/dom";
import { button } from "../ui/fields";
import { refreshTools, type Tool } from "../ui/tools";
import { Unanswered } from "./backend";
import { chosenFile, ExportDialog, saveSession, takeDrops } from "./files";
import { Gizmo, type GizmoMode } from "./gizmo";
import { Markers } from "./markers";
import { Paint } from "./paint";
import { Panel, type PanelState, type Wishes } from "./panel";
import type { Hit } from "./pick";
import { Pointing } from "./pointing";
import { Region } from "./region";
import type { Mirror, Place } from "./session";
import { deformTools } from "./tools";
import { showWelcome } from "./welcome";

const MOST_SESSION = 1 << 24; // bytes, as the server has it
const SESSIONS = [".json", ".yaml", ".yml"];

/** What a click or a stroke makes. */
export type Mode = "handle" | "anchor" | "brush" | "lasso";

/** Builds the page around a mesh; the result are its tools, which the others go behind. */
export function buildDeformPage(stage: Stage, kind: Deforming, report: (error: unknown) => void): Tool[] {
  return deformTools(new DeformPage(stage, kind, report));
}

export class DeformPage {
  mode: Mode = "handle";
  readonly gizmo: Gizmo;
  readonly region: Region;
  readonly dialog: ExportDialog;
  private readonly markers: Markers;
  private readonly pointing: Pointing;
  private readonly paint: Paint;
  private readonly panel: Panel;
  private readonly words = document.createElement("span");
  private readonly state: PanelState = {
    paint: "own", heat: true, planes: undefined, searching: false, pivot: undefined, kernel: undefined,
  };

  constructor(
    private readonly stage: Stage,
    readonly kind: Deforming,
    private readonly report: (error: unknown) => void,
  ) {
    const { controller, model, picker, blend, topology, backend } = kind;
    this.gizmo = new Gizmo(stage, controller, model);
    this.markers = new Markers(stage, controller, model, this.gizmo);
    this.pointing = new Pointing(stage, picker, this.gizmo);
    this.region = new Region(stage, blend, picker, topology.positions, kind.diagonal);
    this.dialog = new ExportDialog(backend, () => controller.session, stage.scene.name);
    this.paint = new Paint(stage, kind, this.region);
    this.panel = new Panel(controller, this.wishes(), backend.complete, kind.diagonal);
    this.fillBar();
    this.listen();
    byId("edit").hidden = false;
  }

  setMode(next: Mode): void {
    this.mode = next;
    const tool = next === "brush" || next === "lasso" ? next : undefined;
    this.region.use(tool);
    this.pointing.active = !tool;
    this.refresh();
  }

  setGizmo(next: GizmoMode): void {
    this.gizmo.mode = next;
    this.refresh();
  }

  switchPaint(): void {
    this.setPaint(this.paint.painted === "own" ? "features" : "own");
  }

  switchSymmetry(): void {
    this.setSymmetry(!this.kind.controller.session.mirrors.length);
  }

  /** Give up the nearest of what there is to give up. */
  escape(): void {
    if (this.region.count) this.region.clear();
    else if (this.region.tool) this.setMode("handle");
    else this.kind.controller.select(undefined);
  }

  save(): void {
    const { name, digest } = this.stage.scene;
    saveSession(this.kind.controller.session, name, digest);
  }

  /** Let the person choose a session to open. */
  choose(): void {
    const opened = async () => {
      const readable = this.kind.backend.complete ? SESSIONS : SESSIONS.slice(0, 1);
      const file = await chosenFile(readable.join());
      if (file) await this.open(file);
    };
    opened().catch(this.report);
  }

  private wishes(): Wishes {
    return {
      paint: (wanted) => this.setPaint(wanted),
      heat: (heat) => {
        this.state.heat = heat;
        this.refresh();
      },
      symmetry: (on) => this.setSymmetry(on),
      pivot: (at) => this.gizmo.setPivot(at),
      said: this.report,
    };
  }

  /** What can be made of a region. */
  private fillBar(): void {
    byId("selection").append(
      this.words,
      button("Handle", () => this.fromRegion("handle"), "primary"),
      button("Anchor", () => this.fromRegion("anchor")),
      button("Clear", () => this.region.clear()),
    );
  }

  private listen(): void {
    const { gizmo, kind, markers, paint, panel, region, stage } = this;
    const { controller } = kind;
    const { changed } = controller;
    const { themed } = kind;
    controller.changed = () => {
      changed();
      this.refresh();
    };
    controller.moved = () => {
      // What is dragged by its dot is seen better without arrows about it.
      gizmo.follow(!region.tool && (!markers.dragging || gizmo.mode === "pivot"));
      panel.follow(gizmo.pivot);
      stage.invalidate();
    };
    controller.failed = (reason) => this.report(new Error(reason));
    region.growing = () => this.showRegion();
    region.changed = () => {
      this.showRegion();
      this.refresh();
    };
    this.pointing.clicked = (hit) => this.clicked(hit);
    takeDrops((file) => void this.open(file).catch(this.report));
    kind.overlay = () => gizmo.scene;
    kind.themed = (dark) => {
      themed?.(dark);
      gizmo.themed({ x: css("--x"), y: css("--y"), z: css("--z"), accent: css("--accent") });
      paint.show();
      this.refresh();
    };
  }

  private refresh(): void {
    const { gizmo, panel, region, state } = this;
    const { controller, model } = this.kind;
    state.kernel = model.handles[0]?.kernel ?? controller.kernel;
    this.showHeat();
    gizmo.follow(!region.tool);
    state.pivot = gizmo.pivot;
    state.paint = this.paint.painted;
    gizmo.showPlanes(css("--accent"));
    this.markers.update();
    panel.update(state);
    showWelcome(controller, region.tool !== undefined || region.count > 0);
    refreshTools();
    this.stage.invalidate();
  }

  private showHeat(): void {
    const { controller, look } = this.kind;
    const { selected, missing } = controller;
    const heated = this.state.heat && selected?.kind === "handle" && !missing && !this.region.count;
    look.heat(heated ? selected.index : -1);
  }

  private showRegion(): void {
    const { count } = this.region;
    byId("selection").hidden = count === 0;
    this.words.textContent = `${count.toLocaleString("en")} vertices`;
    this.paint.show();
    this.showHeat();
    this.stage.invalidate();
  }

  private clicked(hit: Hit | undefined): void {
    const { controller, topology } = this.kind;
    if (!hit) {
      controller.select(undefined);
      return;
    }
    const place: Place = { face: topology.fileFace(hit.face), barycentric: hit.barycentric };
    if (this.mode === "anchor") controller.addAnchor(place);
    else controller.addHandle(place);
  }

  private fromRegion(kind: "handle" | "anchor"): void {
    const { controller, topology } = this.kind;
    const firsts = topology.firstVertices();
    const place = { region: this.region.chosen().map((position) => firsts[position]!) };
    this.region.clear();
    this.setMode("handle");
    if (kind === "handle") controller.addHandle(place);
    else controller.addAnchor(place);
  }

  private setPaint(wanted: PanelState["paint"]): void {
    this.paint.choose(wanted).then(() => this.refresh()).catch(this.report);
  }

  private setSymmetry(on: boolean): void {
    if (on) this.findPlanes().catch(this.report);
    else this.kind.controller.setMirrors([]);
  }

  private async findPlanes(): Promise<void> {
    const { state } = this;
    const { backend, controller } = this.kind;
    state.searching = state.planes === undefined;
    this.refresh();
    try {
      const found: readonly Mirror[] = (state.planes ??= await backend.mirrors());
      controller.setMirrors(found.slice(0, 1));
    } catch (error) {
      if (!(error instanceof Unanswered)) throw error;
      this.report(error);
    } finally {
      state.searching = false;
      this.refresh();
    }
  }

  private async open(file: File): Promise<void> {
    if (!SESSIONS.some((ending) => file.name.toLowerCase().endsWith(ending)))
      throw new Error(`${file.name} is no session: these are ${SESSIONS.join(", ")}. A mesh is opened by geodistill deform`);
    if (file.size > MOST_SESSION)
      throw new Error(`${file.name} is too large for a session: it has ${file.size >> 20} MB`);
    const { backend, controller } = this.kind;
    controller.change(await backend.read(file));
    this.report(""); // what was wrong with another file
  }
}
