// Regions by brush and lasso: what is seen of the mesh under a stroke.
import type { Stage } from "../stage";
import { byId } from "../ui/dom";
import type { Blend } from "./blend";
import type { Picker } from "./pick";

export type RegionTool = "brush" | "lasso";

const SEEN = 2e-3; // of the diagonal, behind what is seen: the depth is that of pixels
const LEAST_PX = 2;

/** The positions that are seen when a stroke begins, and where in the picture they are. */
interface Seen {
  index: Uint32Array;
  /** x and y of each, in CSS pixels. */
  at: Float32Array;
}

export class Region {
  /** Told after the selection has changed: at the end of a stroke. */
  changed: () => void = () => {};
  /** Told during a stroke what is new, once a frame at most. */
  growing: () => void = () => {};
  /** Which positions are selected. */
  readonly selected: Uint8Array;
  tool: RegionTool | undefined;
  radiusPx = 28;
  private readonly trace = byId<HTMLCanvasElement>("trace");
  private count_ = 0;
  private frame = 0; // that is asked for; 0: none
  /** The stroke under way: `drop` makes as if it had not been. */
  private stroke: { begin: PointerEvent; drop: () => void } | undefined;

  constructor(
    private readonly stage: Stage,
    private readonly blend: Blend,
    private readonly picker: Picker,
    private readonly positions: number,
    private readonly diagonal: number,
  ) {
    this.selected = new Uint8Array(positions);
    const { canvas } = stage;
    canvas.addEventListener("pointerdown", (event) => this.press(event), true); // before the camera
    canvas.addEventListener("pointermove", (event) => {
      if (this.tool && !this.stroke) this.draw([this.local(event)]);
    });
    canvas.addEventListener("pointerleave", () => this.draw([]));
  }

  get count(): number {
    return this.count_;
  }

  /** Make the brush larger or smaller. */
  resize(factor: number): void {
    this.radiusPx = Math.min(200, Math.max(4, this.radiusPx * factor));
  }

  use(tool: RegionTool | undefined): void {
    this.tool = tool;
    this.trace.hidden = !tool;
    this.stage.canvas.style.cursor = tool ? (tool === "brush" ? "none" : "crosshair") : "";
    this.draw([]);
  }

  clear(): void {
    this.empty();
    this.finish();
  }

  /** The numbers of the selected positions. */
  chosen(): number[] {
    const found: number[] = [];
    this.selected.forEach((on, position) => on && found.push(position));
    return found;
  }

  /** A press that is no stroke is the camera's. */
  private press(begin: PointerEvent): void {
    if (!this.tool) return;
    if (this.stroke && !begin.isPrimary) this.handOver();
    if (begin.button !== 0 || !begin.isPrimary) return;
    begin.stopImmediatePropagation();
    const { canvas } = this.stage;
    canvas.setPointerCapture(begin.pointerId);
    this.stage.orbiting = false; // what is seen is where it was seen
    const before = this.selected.slice();
    const seen = this.look();
    const lasso = this.tool === "lasso";
    const value = begin.altKey ? 0 : 1;
    if (lasso && value && !begin.shiftKey) this.empty();
    const path = [this.local(begin)];
    if (!lasso) this.dab(seen, path[0]!, path[0]!, value);
    const move = (event: PointerEvent): void => {
      const [to, from] = [this.local(event), path.at(-1)!];
      if (Math.hypot(to[0] - from[0], to[1] - from[1]) < LEAST_PX) return;
      path.push(to);
      if (!lasso) this.dab(seen, from, to, value);
      this.draw(path);
    };
    const leave = (): void => {
      canvas.removeEventListener("pointermove", move);
      canvas.removeEventListener("pointerup", end);
      canvas.removeEventListener("pointercancel", drop);
      this.stroke = undefined;
      this.stage.orbiting = true;
      this.draw([]);
      this.finish();
    };
    const end = (): void => {
      if (lasso)
        seen.index.forEach((position, k) => {
          if (inside(path, seen.at[2 * k]!, seen.at[2 * k + 1]!)) this.put(position, value);
        });
      leave();
    };
    const drop = (): void => {
      before.forEach((on, position) => this.put(position, on));
      leave();
    };
    this.stroke = { begin, drop };
    canvas.addEventListener("pointermove", move);
    canvas.addEventListener("pointerup", end);
    canvas.addEventListener("pointercancel", drop);
  }

  /** A second finger makes a stroke a gesture of the camera, which has not seen the first. */
  private handOver(): void {
    const { begin, drop } = this.stroke!;
    drop();
    const { tool } = this;
    this.tool = undefined; // or else the press would be a stroke again
    this.stage.canvas.dispatchEvent(new PointerEvent(begin.type, begin));
    this.tool = tool;
  }

  /** Select what lies within the brush on its way. */
  private dab(seen: Seen, from: Point, to: Point, value: number): void {
    const [dx, dy] = [to[0] - from[0], to[1] - from[1]];
    const long = dx * dx + dy * dy || 1;
    const reach = this.radiusPx ** 2;
    for (let k = 0; k < seen.index.length; k++) {
      const [x, y] = [seen.at[2 * k]! - from[0], seen.at[2 * k + 1]! - from[1]];
      const part = Math.min(1, Math.max(0, (x * dx + y * dy) / long));
      const [ax, ay] = [x - part * dx, y - part * dy];
      if (ax * ax + ay * ay <= reach) this.put(seen.index[k]!, value);
    }
    this.grow();
  }

  private look(): Seen {
    const { camera, canvas } = this.stage;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    const found = this.picker.all(camera, width, height);
    const depths = new Float32Array(found.buffer);
    const rows = this.blend.readPositions();
    this.stage.renderer.resetState();
    const V = camera.matrixWorldInverse.elements;
    const [fx, fy] = [camera.projectionMatrix.elements[0]!, camera.projectionMatrix.elements[5]!];
    const index = new Uint32Array(this.positions);
    const at = new Float32Array(2 * this.positions);
    let count = 0;
    for (let i = 0; i < this.positions; i++) {
      const [x, y, z] = [rows[4 * i]!, rows[4 * i + 1]!, rows[4 * i + 2]!];
      const depth = -(V[2]! * x + V[6]! * y + V[10]! * z + V[14]!);
      if (depth <= 0) continue;
      const px = (0.5 + (0.5 * fx * (V[0]! * x + V[4]! * y + V[8]! * z + V[12]!)) / depth) * width;
      const py = (0.5 + (0.5 * fy * (V[1]! * x + V[5]! * y + V[9]! * z + V[13]!)) / depth) * height;
      if (px < 0 || py < 0 || px >= width || py >= height) continue;
      // The farthest of the pixels around: a slope is not hidden by itself.
      let far = 0;
      for (let v = Math.max(0, Math.floor(py) - 1); v <= Math.min(height - 1, Math.floor(py) + 1); v++)
        for (let u = Math.max(0, Math.floor(px) - 1); u <= Math.min(width - 1, Math.floor(px) + 1); u++) {
          const pixel = 4 * (v * width + u);
          if (found[pixel]) far = Math.max(far, depths[pixel + 1]!);
        }
      if (depth > far + SEEN * this.diagonal) continue;
      index[count] = i;
      at[2 * count] = px;
      at[2 * count + 1] = height - py;
      count++;
    }
    return { index: index.subarray(0, count), at: at.subarray(0, 2 * count) };
  }

  private put(position: number, value: number): void {
    this.count_ += value - this.selected[position]!;
    this.selected[position] = value;
  }

  private empty(): void {
    this.selected.fill(0);
    this.count_ = 0;
  }

  private grow(): void {
    this.frame ||= requestAnimationFrame(() => {
      this.frame = 0;
      this.growing();
    });
  }

  private finish(): void {
    cancelAnimationFrame(this.frame);
    this.frame = 0;
    this.changed();
  }

  private local(event: PointerEvent): Point {
    const box = this.trace.getBoundingClientRect();
    return [event.clientX - box.left, event.clientY - box.top];
  }

  /** The stroke so far, or the brush where the pointer is. */
  private draw(path: readonly Point[]): void {
    const { clientWidth: width, clientHeight: height } = this.trace;
    Object.assign(this.trace, { width: width * devicePixelRatio, height: height * devicePixelRatio });
    const context = this.trace.getContext("2d")!;
    context.scale(devicePixelRatio, devicePixelRatio);
    const ink = getComputedStyle(this.trace).color;
    Object.assign(context, { strokeStyle: ink, lineWidth: 1.5 });
    const last = path.at(-1);
    if (!last) return;
    context.beginPath();
    if (this.tool === "brush") context.arc(...last, this.radiusPx, 0, 2 * Math.PI);
    else {
      context.setLineDash([5, 4]);
      path.forEach((point, k) => (k ? context.lineTo(...point) : context.moveTo(...point)));
      context.closePath();
    }
    context.stroke();
  }
}

type Point = readonly [number, number];

/** Whether a point is inside a closed path, by the even-odd rule. */
export function inside(path: readonly Point[], x: number, y: number): boolean {
  let odd = false;
  for (let i = 0, j = path.length - 1; i < path.length; j = i++) {
    const [xi, yi] = path[i]!;
    const [xj, yj] = path[j]!;
    if (yi > y !== yj > y && x < ((xj - xi) * (y - yi)) / (yj - yi) + xi) odd = !odd;
  }
  return odd;
}
