// Clicks on the mesh, and where one would land.
import type { Stage } from "../stage";
import { placeIn } from "../ui/dom";
import type { Gizmo } from "./gizmo";
import type { Hit, Picker } from "./pick";

const CLICK_PX = 4;
const HOVER_MS = 50;
/** Where looking takes longer than this, only clicks look. */
const SLOW_MS = 25;

export class Pointing {
  /** Told of a click on the mesh, or beside it. */
  clicked: (hit: Hit | undefined) => void = () => {};
  /** Whether clicks are meant for the mesh. */
  active = true;
  private hoveredAt = 0;
  private slow = false;
  /** Let what has begun be no click. */
  private forget = (): void => {};

  constructor(
    private readonly stage: Stage,
    private readonly picker: Picker,
    private readonly gizmo: Gizmo,
  ) {
    const { canvas } = stage;
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => this.hover(event));
    canvas.addEventListener("pointerleave", () => gizmo.point(undefined));
  }

  /** What is under the pointer. */
  under(event: PointerEvent): Hit | undefined {
    const { camera, canvas } = this.stage;
    return this.picker.at(camera, ...placeIn(canvas, event));
  }

  private press(begin: PointerEvent): void {
    if (!begin.isPrimary) this.forget(); // several fingers zoom and pan
    if (begin.button !== 0 || !this.active || this.gizmo.busy || !begin.isPrimary) return;
    const { canvas } = this.stage;
    const release = (event: PointerEvent): void => {
      this.forget();
      const far = Math.hypot(event.clientX - begin.clientX, event.clientY - begin.clientY);
      if (event.type === "pointerup" && far < CLICK_PX && event.pointerId === begin.pointerId)
        this.clicked(this.under(event));
    };
    this.forget();
    this.forget = () => {
      canvas.removeEventListener("pointerup", release);
      canvas.removeEventListener("pointercancel", release);
    };
    canvas.addEventListener("pointerup", release);
    canvas.addEventListener("pointercancel", release);
  }

  private hover(event: PointerEvent): void {
    const now = performance.now();
    if (event.pointerType !== "mouse" || this.slow || now - this.hoveredAt < HOVER_MS) return;
    this.hoveredAt = now;
    if (event.buttons || !this.active || this.gizmo.busy) {
      this.gizmo.point(undefined);
      return;
    }
    this.gizmo.point(this.under(event));
    this.slow = performance.now() - now > SLOW_MS;
    if (this.slow) this.gizmo.point(undefined);
  }
}
