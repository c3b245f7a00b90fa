// Handles and anchors as dots over the picture: to select, and to drag in the view's plane.
import * as THREE from "three";
import { add, scale, sub } from "../framing";
import type { Vector } from "../protocol";
import type { Stage } from "../stage";
import { byId, make, placeIn } from "../ui/dom";
import type { Controller, Selected } from "./controller";
import { type Gizmo, withPivot } from "./gizmo";
import type { Model } from "./model";
import { ray } from "./pick";
import { type Handle, type Session, withHandle } from "./session";

const CLICK_PX = 3;

interface Dot {
  element: HTMLButtonElement;
  what: NonNullable<Selected>;
  /** Its CSS transform. */
  placed: string;
}

export class Markers {
  private readonly box = byId("markers");
  private readonly dots: Dot[] = [];
  private readonly at = new THREE.Vector3();
  private readonly size = new THREE.Vector2();
  /** Whether a dot is being dragged. */
  dragging = false;

  constructor(
    private readonly stage: Stage,
    private readonly controller: Controller,
    private readonly model: Model,
    private readonly gizmo: Gizmo,
  ) {
    stage.drawnListeners.add(() => this.place());
    // A dot is not in the way of zooming.
    this.box.addEventListener("wheel", (event) => stage.canvas.dispatchEvent(new WheelEvent(event.type, event)));
  }

  /** As many dots as the session has places. */
  update(): void {
    const { session, selected } = this.controller;
    const wanted = [
      ...session.handles.map((_, index) => ({ kind: "handle", index }) as const),
      ...session.anchors.map((_, index) => ({ kind: "anchor", index }) as const),
    ];
    while (this.dots.length > wanted.length) this.dots.pop()!.element.remove();
    wanted.forEach((what, k) => {
      const dot = (this.dots[k] ??= this.makeDot(what));
      const { kind, index } = (dot.what = what);
      const chosen = selected?.kind === kind && selected.index === index;
      dot.element.className = `marker ${kind}`;
      dot.element.dataset["index"] = String(index);
      dot.element.setAttribute("aria-pressed", String(chosen));
      dot.element.setAttribute("aria-label", `${kind === "handle" ? "Handle" : "Anchor"} ${index + 1}`);
    });
    this.place();
  }

  /** Where a handle or an anchor is now, relative to the scene's origin. */
  private point(session: Session, { kind, index }: Dot["what"]): Vector | undefined {
    if (kind === "anchor") return this.model.anchors[index]?.center;
    return this.model.handle(session, index)?.at;
  }

  private place(): void {
    const { camera, renderer } = this.stage;
    const { session } = this.controller;
    renderer.getSize(this.size); // the canvas's own would have the page laid out first
    for (const dot of this.dots) {
      const point = this.point(session, dot.what);
      if (point) this.at.set(...point).project(camera);
      const seen = point !== undefined && Math.abs(this.at.z) < 1;
      dot.element.hidden = !seen;
      if (!seen) continue;
      const x = (0.5 + 0.5 * this.at.x) * this.size.x;
      const y = (0.5 - 0.5 * this.at.y) * this.size.y;
      const transform = `translate(${x.toFixed(1)}px, ${y.toFixed(1)}px)`;
      if (dot.placed !== transform) dot.element.style.transform = dot.placed = transform;
    }
  }

  private makeDot(what: Dot["what"]): Dot {
    const element = make("button", { type: "button" });
    const dot: Dot = { element, what, placed: "" };
    element.addEventListener("pointerdown", (event) => this.grab(dot, event));
    element.addEventListener("click", () => this.controller.select(dot.what));
    this.box.append(element);
    return dot;
  }

  private grab({ element: dot, what }: Dot, begin: PointerEvent): void {
    if (begin.button !== 0) return;
    const { controller, stage } = this;
    const { kind, index } = what;
    controller.select(what);
    const before = controller.session;
    const start = this.point(before, what);
    if (kind !== "handle" || !start) return;
    dot.setPointerCapture(begin.pointerId);
    const handle = before.handles[index]!;
    const { own } = this.model.handle(before, index)!;
    // In the pivot's mode the dot is in its place mostly, and the handle stays.
    const shifted = (by: Vector): Partial<Handle> =>
      this.gizmo.mode === "pivot"
        ? withPivot(own, add(add(own.pivot, own.translation), by), stage.scene.origin)
        : { translate: add(handle.translate ?? [0, 0, 0], by) };
    const move = (event: PointerEvent): void => {
      const far = Math.hypot(event.clientX - begin.clientX, event.clientY - begin.clientY);
      if (!this.dragging && far < CLICK_PX) return;
      this.dragging = true;
      const shift = sub(this.inView(event, start), this.inView(begin, start));
      controller.drag(withHandle(before, index, { ...handle, ...shifted(shift) }));
    };
    const end = (event: PointerEvent): void => {
      dot.removeEventListener("pointermove", move);
      dot.removeEventListener("pointerup", end);
      dot.removeEventListener("pointercancel", end);
      if (!this.dragging) return;
      this.dragging = false;
      controller.change(event.type === "pointerup" ? controller.session : before);
    };
    dot.addEventListener("pointermove", move);
    dot.addEventListener("pointerup", end);
    dot.addEventListener("pointercancel", end);
    stage.canvas.focus({ preventScroll: true });
  }

  /** Where the pointer meets the plane through a point that faces the camera. */
  private inView(event: PointerEvent, point: Vector): Vector {
    const { camera, canvas } = this.stage;
    const { eye, direction } = ray(camera, ...placeIn(canvas, event));
    const M = camera.matrixWorld.elements;
    const back: Vector = [M[8]!, M[9]!, M[10]!];
    const along = (v: Vector): number => v[0] * back[0] + v[1] * back[1] + v[2] * back[2];
    return add(eye, scale(direction, along(sub(point, eye)) / along(direction)));
  }
}
