// The panel of the deformation page: what there is, and what is selected.
import type { Vector } from "../protocol";
import { byId, make } from "../ui/dom";
import { button, choice, fold, heading, hint, section, slider, toggle, told, triple } from "../ui/fields";
import type { Controller } from "./controller";
import type { Painted } from "./paint";
import {
  centringOf,
  type Handle,
  LEAST_SCALE,
  localityOf,
  MOST_DEGREES,
  type Mirror,
  MOST_SCALE,
  rotationOf,
  sameMirror,
  scaleOf,
  type Session,
  withHandle,
} from "./session";

/** What the panel asks of the page. */
export interface Wishes {
  paint(painted: Painted): void;
  heat(on: boolean): void;
  symmetry(on: boolean): void;
  /** Turn the selected handle about another point of the mesh's frame; undefined: about itself. */
  pivot(at: Vector | undefined): void;
  /** Say something for a while. */
  said(words: string): void;
}

export interface PanelState {
  paint: Painted;
  heat: boolean;
  /** The planes that were found; undefined: not asked for yet. */
  planes: Session["mirrors"] | undefined;
  searching: boolean;
  /** What the selected handle turns about, in the mesh's frame. */
  pivot: Vector | undefined;
  /** The kernel that the features ask for. */
  kernel: { radius: number; power: number } | undefined;
}

const DEGREES = 180 / Math.PI;

export class Panel {
  private readonly list = make("ul", { className: "list" });
  private readonly empty = hint("None yet: click the surface.");
  private readonly own: HTMLElement;
  private readonly title = make("h2");
  private readonly planes = make("ul", { className: "list" });
  private readonly back: HTMLButtonElement;
  private readonly centre: HTMLButtonElement;
  private readonly clear: HTMLButtonElement;
  private readonly automatic: HTMLButtonElement;
  private readonly teacher = hint("");
  private readonly fields;

  /** `complete`: whether the features are there for every method; `diagonal`: of the mesh. */
  constructor(
    private readonly controller: Controller,
    wishes: Wishes,
    complete: boolean,
    diagonal: number,
  ) {
    const change = (edit: (session: Session) => Session) => controller.change(edit(controller.session));
    const drag = (edit: (session: Session) => Session) => controller.drag(edit(controller.session));
    const handle = (values: Partial<Handle>) => this.setSelected(values);
    const plain = (v: number) => v.toFixed(v < 10 ? 2 : 1);
    const { said } = wishes;
    const lengths = { step: stepFor(diagonal) };
    const angles = { step: 1, low: -MOST_DEGREES, high: MOST_DEGREES };
    const sizes = { step: 0.05, low: LEAST_SCALE, high: MOST_SCALE };
    this.fields = {
      translate: triple("Move", lengths, { changed: (v) => handle({ translate: v }) }, said),
      rotate: triple("Turn °", angles, { changed: (v) => handle({ rotate: v }) }, said),
      scale: triple("Size", sizes, { changed: (v) => handle({ scale: v }) }, said),
      pivot: triple("Pivot", lengths, { changed: wishes.pivot }, said),
      near: told(
        slider("Own locality", { low: 0, high: 12, step: 0.1 }, plain, {
          changed: (v) => handle({ locality: v }),
        }),
        "Keeps this handle to what is near it along the surface",
      ),
      radius: told(
        slider("Radius", { low: 0.05, high: 2, step: 0.01 }, plain, {
          changed: (v) => change((session) => ({ ...session, radius: v })),
        }),
        "How unlike a handle something may look and still move with it",
      ),
      falloff: told(
        slider("Falloff", { low: 0.25, high: 8, step: 0.05 }, plain, {
          changed: (v) => change((session) => ({ ...session, falloff: v })),
        }),
        "How far a handle holds on before its weight falls",
      ),
      locality: told(
        slider("Locality", { low: 0, high: 12, step: 0.1 }, plain, {
          changed: (v) => change((session) => ({ ...session, locality: v })),
        }),
        "Keeps all handles to what is near them along the surface",
      ),
      method: choice("Method", { cardinal: "Cardinal", published: "Published" }, {
        changed: (method) => change((session) => ({ ...session, method })),
      }),
      centring: slider("Centring", { low: 0, high: 1, step: 0.05 }, plain, {
        changed: (centring) => change((session) => ({ ...session, centring })),
      }),
      rigidity: slider("Rigid polish", { low: 0, high: 20, step: 1 }, String, {
        changed: (v) => change((session) => ({ ...session, rigidity: v })),
      }),
      blend: choice("Blending", { rotations: "Rotations", linear: "Linear" }, {
        changed: (blend) => change((session) => ({ ...session, blend })),
      }),
      seam: told(
        slider("Seam", { low: 0.005, high: 0.3, step: 0.005 }, (v) => `${(100 * v).toFixed(1)} %`, {
          changing: (seam) => drag((session) => ({ ...session, seam })),
          changed: (seam) => change((session) => ({ ...session, seam })),
        }),
        "How wide the two sides blend into each other, of the mesh's diagonal",
      ),
      symmetry: toggle("Mirror the edit", { changed: wishes.symmetry }),
      paint: choice("Colours", { own: "Mesh", features: "Features" }, { changed: wishes.paint }),
      heat: toggle("Weights of the handle", { changed: wishes.heat }),
    };
    const { fields } = this;
    const row = (...buttons: Node[]) => make("div", { className: "buttons" }, ...buttons);
    this.back = button("Put back", () => handle({ translate: [0, 0, 0], rotate: [0, 0, 0], scale: 1 }));
    this.centre = button("Centre pivot", () => wishes.pivot(undefined));
    this.clear = button("Remove all", () => controller.reset(), "link");
    this.automatic = button(
      "Automatic",
      () => change((session) => ({ ...session, radius: null, falloff: null, centring: null })),
      "link",
    );
    this.clear.title = "Handles and anchors; mirrors and settings stay";
    this.back.title = "No move, no turn, its own size";
    this.centre.title = "Turn and grow about the handle itself";
    this.automatic.title = "As the features of this mesh ask for";
    this.own = section(
      heading(this.title, button("Remove", () => controller.removeSelected(), "link")),
      fields.translate.element, fields.rotate.element, fields.scale.element, fields.pivot.element,
      fields.near.element, row(this.back, this.centre),
    );
    byId("edit").append(
      section(heading("Handles and anchors", this.clear), this.empty, this.list),
      this.own,
      section(
        heading("How it spreads", this.automatic),
        fields.radius.element, fields.falloff.element, fields.locality.element,
      ),
      section("Symmetry", fields.symmetry.element, this.planes, fields.seam.element),
      section("Colours", fields.paint.element, fields.heat.element),
    );
    byId("controls").after(fold("More", ...this.seldom(complete)));
  }

  /** What is under More. */
  private seldom(complete: boolean): HTMLElement[] {
    const { blend, rigidity, method, centring } = this.fields;
    const both = [
      make("h2", {}, "Blending"),
      blend.element,
      hint("Rotations keep the size of what turns; linear averages positions."),
      rigidity.element,
      hint("Steps towards rigid parts, once a handle is let go."),
      this.teacher,
    ];
    if (!complete) return both;
    return [
      ...both,
      make("h2", {}, "Weights"),
      method.element,
      hint("Cardinal: all of a handle, nothing of an anchor. Published: as the paper has them."),
      centring.element,
      hint("How much of what all features share is left out: more of it keeps handles apart."),
    ];
  }

  update(state: PanelState): void {
    const { controller, fields } = this;
    const { session, selected } = controller;
    this.fillList(session);
    const begun = session.handles.length > 0 || session.anchors.length > 0;
    this.empty.hidden = begun;
    this.clear.hidden = !begun;
    const handle = selected?.kind === "handle" ? session.handles[selected.index] : undefined;
    this.own.hidden = !selected;
    this.title.textContent = selected ? `${named(selected.kind)} ${selected.index + 1}` : "";
    for (const name of ["translate", "rotate", "scale", "near"] as const)
      fields[name].element.hidden = !handle;
    this.back.hidden = !handle;
    this.follow(state.pivot);
    if (handle) fields.near.set(localityOf(session, handle));
    const { teacher } = controller;
    this.teacher.textContent = teacher ? `Features of ${teacher.name}, ${teacher.channels} channels.` : "";
    const { radius, falloff, centring } = session;
    this.automatic.disabled = radius === null && falloff === null && centring === null;
    const { kernel } = state;
    for (const name of ["radius", "falloff"] as const) fields[name].element.hidden = !kernel;
    fields.radius.set(session.radius ?? kernel?.radius ?? 1);
    fields.falloff.set(session.falloff ?? kernel?.power ?? 1);
    fields.locality.set(session.locality);
    fields.rigidity.set(session.rigidity);
    fields.method.set(session.method);
    fields.centring.set(centringOf(session));
    fields.blend.set(session.blend);
    fields.seam.set(session.seam);
    fields.seam.element.hidden = !session.mirrors.length;
    fields.symmetry.set(session.mirrors.length > 0 || state.searching);
    this.fillPlanes(session, state);
    fields.paint.set(state.paint);
    fields.heat.set(state.heat);
  }

  /** Where the selected handle is now, and its pivot. */
  follow(pivot: Vector | undefined): void {
    const { fields } = this;
    const { session, selected } = this.controller;
    const handle = selected?.kind === "handle" ? session.handles[selected.index] : undefined;
    this.centre.hidden = !handle?.pivot;
    fields.pivot.element.hidden = !pivot; // not known before the features are there
    if (pivot) fields.pivot.set(pivot);
    if (!handle) return;
    fields.translate.set(handle.translate ?? [0, 0, 0]);
    fields.rotate.set(handle.rotate ?? (rotationOf(handle).map((v) => v * DEGREES) as unknown as Vector));
    fields.scale.set(scaleOf(handle));
  }

  private setSelected(values: Partial<Handle>): void {
    const { session, selected } = this.controller;
    if (selected?.kind !== "handle") return;
    const before = session.handles[selected.index]!;
    const { quaternion, ...rest } = before;
    const kept = "rotate" in values || !quaternion ? rest : before;
    this.controller.change(withHandle(session, selected.index, { ...kept, ...values }));
  }

  private fillList({ handles, anchors }: Session): void {
    const { controller } = this;
    const rows = [
      ...handles.map((_, index) => ["handle", index] as const),
      ...anchors.map((_, index) => ["anchor", index] as const),
    ].map(([kind, index]) => {
      const { selected } = controller;
      const name = `${named(kind)} ${index + 1}`;
      const row = button(name, () => controller.select({ kind, index }), kind);
      row.setAttribute("aria-pressed", String(selected?.kind === kind && selected.index === index));
      const remove = button("×", () => {
        controller.select({ kind, index });
        controller.removeSelected();
      });
      remove.setAttribute("aria-label", `Remove ${name}`);
      return make("li", {}, row, remove);
    });
    this.list.replaceChildren(...rows);
  }

  private fillPlanes(session: Session, { planes, searching }: PanelState): void {
    const found = planes ?? [];
    const among = (plane: Mirror, all: readonly Mirror[]) => all.some((one) => sameMirror(one, plane));
    const shown = [...found, ...session.mirrors.filter((plane) => !among(plane, found))];
    const rows = shown.map((plane, k) => {
      const on = among(plane, session.mirrors);
      const field = toggle(`Plane ${k + 1} (${plane.normal.map(rounded).join(", ")})`, {
        changed: (wanted) => {
          const kept = shown.filter((other) => (other === plane ? wanted : among(other, session.mirrors)));
          this.controller.setMirrors(kept);
        },
      });
      field.set(on);
      return make("li", {}, field.element);
    });
    if (searching) rows.push(make("li", { className: "hint" }, "Looking for planes …"));
    this.planes.replaceChildren(...rows);
  }
}

/** A round part of a mesh's diagonal, which is 300 to 3000 of it. */
export function stepFor(diagonal: number): number {
  return Number(`1e${Math.floor(Math.log10(diagonal / 300))}`);
}

/** Without the sign of a zero. */
function rounded(value: number): string {
  return (Math.round(100 * value) / 100 + 0).toFixed(2);
}

function named(kind: "handle" | "anchor"): string {
  return kind === "handle" ? "Handle" : "Anchor";
}
