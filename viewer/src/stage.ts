// The canvas, the camera and the loop that draws when something has changed.
import * as THREE from "three";
import { OrbitControls } from "three/addons/controls/OrbitControls.js";
import * as framing from "./framing";
import type { Manifest, Vector } from "./protocol";
import { GpuTimer } from "./ui/timer";

/** What a kind of scene brings to the stage. */
export interface Act {
  /** Draw one frame into the canvas. */
  draw(): void;
  /** What the camera does; `moving` while a person turns it. */
  looked?(moving: boolean): void;
  /** Whether what is on the canvas is final for this camera. */
  settled(): boolean;
}

export interface Frame {
  /** Premultiplied, the first row at the bottom. */
  pixels: Uint8Array;
  width: number;
  height: number;
}

const REST_MS = 140;
const MOST_PIXEL_RATIO = 2;

export class Stage {
  readonly renderer: THREE.WebGLRenderer;
  readonly camera = new THREE.PerspectiveCamera((framing.FOV_Y * 180) / Math.PI, 1);
  readonly lookedListeners = new Set<() => void>();
  readonly drawnListeners = new Set<(milliseconds: number | null) => void>();
  readonly timer: GpuTimer;
  act: Act | undefined;
  /** Told when the browser takes the graphics away, with all that is on the GPU. */
  lost: () => void = () => {};
  /** Told when it gives them back, and three.js what it has put there itself. */
  restored: () => void = () => {};
  private controls: OrbitControls;
  private stale = true;
  private drawnAt = 0;
  private restTimer = 0;
  private flight: { from: framing.Pose; to: framing.Pose; begin: number } | undefined;

  constructor(
    readonly canvas: HTMLCanvasElement,
    readonly scene: Manifest,
    public up: Vector,
  ) {
    this.renderer = new THREE.WebGLRenderer({
      canvas,
      alpha: true,
      antialias: true,
      premultipliedAlpha: true,
      powerPreference: "high-performance",
    });
    this.timer = new GpuTimer(this.renderer.getContext() as WebGL2RenderingContext);
    this.renderer.setClearColor(0, 0);
    this.renderer.autoClear = false;
    this.controls = this.makeControls();
    new ResizeObserver(() => this.resize()).observe(canvas);
    canvas.addEventListener("webglcontextlost", () => this.lost());
    canvas.addEventListener("webglcontextrestored", () => {
      this.invalidate();
      this.restored();
    });
    this.resize();
    this.pose = framing.home(scene, up, this.camera.aspect);
    requestAnimationFrame(this.loop);
  }

  /** In the user's coordinates. */
  get pose(): framing.Pose {
    const origin = this.scene.origin;
    return {
      eye: framing.add(this.camera.position.toArray(), origin),
      target: framing.add(this.controls.target.toArray(), origin),
      up: this.up,
      fov_y: (this.camera.fov * Math.PI) / 180,
    };
  }

  set pose({ eye, target, fov_y }: framing.Pose) {
    this.camera.fov = (fov_y * 180) / Math.PI;
    this.camera.position.set(...framing.sub(eye, this.scene.origin));
    this.controls.target.set(...framing.sub(target, this.scene.origin));
    this.controls.update();
    this.looked();
  }

  /** Focal length in device pixels. */
  get focalPx(): number {
    return (0.5 * this.sizePx.y) / Math.tan((this.camera.fov * Math.PI) / 360);
  }

  get sizePx(): THREE.Vector2 {
    return this.renderer.getDrawingBufferSize(new THREE.Vector2());
  }

  invalidate(): void {
    this.stale = true;
  }

  turnUp(up: Vector): void {
    this.up = up;
    this.controls.dispose();
    this.controls = this.makeControls();
    this.pose = framing.home({ ...this.scene, home: null }, up, this.camera.aspect);
  }

  /** Fly to where all of the scene is seen, from the side that is looked from. */
  fit(): void {
    const { eye, target } = this.pose;
    const { low, high } = this.scene;
    const direction = framing.sub(eye, target);
    this.fly(framing.framedFrom(low, high, this.up, direction, this.camera.aspect));
  }

  home(): void {
    this.fly(framing.home(this.scene, this.up, this.camera.aspect));
  }

  /** Draw now and read what is on the canvas. */
  frame(): Frame {
    this.drawNow();
    const gl = this.renderer.getContext();
    const { x: width, y: height } = this.sizePx;
    const pixels = new Uint8Array(4 * width * height);
    this.renderer.setRenderTarget(null);
    gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, pixels);
    return { pixels, width, height };
  }

  /** Whether dragging turns the camera. */
  set orbiting(on: boolean) {
    this.controls.enabled = on;
  }

  get atRest(): boolean {
    return !this.stale && !this.flight && !this.restTimer;
  }

  private fly(to: framing.Pose): void {
    const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
    if (still) this.pose = to;
    else this.flight = { from: this.pose, to, begin: performance.now() };
  }

  private makeControls(): OrbitControls {
    this.camera.up.set(...this.up);
    const controls = new OrbitControls(this.camera, this.canvas);
    controls.enableDamping = true;
    controls.dampingFactor = 0.12;
    controls.zoomToCursor = true;
    controls.addEventListener("change", () => this.looked());
    controls.addEventListener("start", () => (this.flight = undefined));
    return controls;
  }

  private resize(): void {
    const { clientWidth, clientHeight } = this.canvas;
    const width = Math.max(1, clientWidth);
    const height = Math.max(1, clientHeight);
    this.renderer.setPixelRatio(Math.min(devicePixelRatio, MOST_PIXEL_RATIO));
    this.renderer.setSize(width, height, false);
    this.camera.aspect = width / height;
    this.looked();
  }

  private looked(): void {
    const { eye } = this.pose;
    const [near, far] = framing.planes(eye, this.scene.low, this.scene.high);
    Object.assign(this.camera, { near, far });
    this.camera.updateProjectionMatrix();
    this.camera.updateMatrixWorld();
    this.stale = true;
    clearTimeout(this.restTimer);
    this.restTimer = window.setTimeout(() => {
      this.restTimer = 0;
      this.act?.looked?.(false);
    }, REST_MS);
    this.act?.looked?.(true);
    for (const listener of this.lookedListeners) listener();
  }

  private readonly loop = (now: number): void => {
    requestAnimationFrame(this.loop);
    if (this.flight) this.advance(this.flight, now);
    this.controls.update();
    if (!this.stale || !this.act) return;
    // A frame after a pause says nothing about the frame rate.
    const between = now - this.drawnAt;
    this.drawnAt = now;
    this.timer.time(() => this.drawNow());
    for (const listener of this.drawnListeners) listener(between < 1000 ? between : null);
  };

  private drawNow(): void {
    this.stale = false;
    this.renderer.setRenderTarget(null);
    this.renderer.clear();
    this.act?.draw();
  }

  private advance(flight: NonNullable<Stage["flight"]>, now: number): void {
    const share = Math.min(1, (now - flight.begin) / 380);
    const eased = 1 - (1 - share) ** 3;
    const between = (a: Vector, b: Vector): Vector =>
      framing.add(framing.scale(a, 1 - eased), framing.scale(b, eased));
    const { from, to } = flight;
    if (share === 1) this.flight = undefined;
    this.pose = {
      eye: between(from.eye, to.eye),
      target: between(from.target, to.target),
      up: to.up,
      fov_y: from.fov_y + (to.fov_y - from.fov_y) * eased,
    };
  }
}
