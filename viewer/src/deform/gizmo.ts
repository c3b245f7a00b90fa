// Arrows, rings and boxes at the selected handle, the planes of symmetry, and where a click would
// land: what is drawn over the mesh.
import * as THREE from "three";
import { TransformControls } from "three/addons/controls/TransformControls.js";
import { add, scale, sub } from "../framing";
import type { Vector } from "../protocol";
import type { Stage } from "../stage";
import type { Controller } from "./controller";
import { carried, repivoted, type Transform } from "./maps";
import type { Model } from "./model";
import type { Hit } from "./pick";
import { type Handle, LEAST_SCALE, MOST_SCALE, scaleOf, type Session, withHandle } from "./session";

/** `pivot` moves what a handle turns and grows about, and not the mesh. */
export type GizmoMode = "translate" | "rotate" | "scale" | "pivot";

/** Seen from both sides, which three.js else draws one after the other, with a program looked up for
 *  each. */
const FLAT = { side: THREE.DoubleSide, forceSinglePass: true };

export class Gizmo {
  /** Drawn over everything else. */
  readonly scene = new THREE.Scene();
  private readonly held = new THREE.Object3D();
  private readonly controls: TransformControls;
  private readonly spot: THREE.Mesh;
  private readonly planes = new THREE.Group();
  private shown = ""; // of planes
  /** From a handle to what it turns about. */
  private readonly arm: THREE.Line;
  private mode_: GizmoMode = "translate";
  private began: { before: Session; index: number } | undefined;
  /** What the handle does as it is dragged. */
  private turned: Transform | undefined;

  constructor(
    private readonly stage: Stage,
    private readonly controller: Controller,
    private readonly model: Model,
  ) {
    this.controls = new TransformControls(stage.camera, stage.canvas);
    this.controls.size = 0.85;
    this.scene.add(this.held, this.controls.getHelper(), this.planes);
    this.spot = new THREE.Mesh(
      new THREE.RingGeometry(0.72, 1, 40),
      new THREE.MeshBasicMaterial({ depthTest: false, transparent: true, ...FLAT }),
    );
    this.spot.visible = false;
    const ends = new THREE.BufferGeometry().setFromPoints([new THREE.Vector3(), new THREE.Vector3(1, 1, 1)]);
    this.arm = new THREE.Line(ends, new THREE.LineBasicMaterial({ depthTest: false, transparent: true, opacity: 0.8 }));
    this.arm.frustumCulled = false;
    this.scene.add(this.spot, this.arm);
    this.controls.addEventListener("change", () => stage.invalidate());
    this.controls.addEventListener("mouseDown", () => this.begin());
    this.controls.addEventListener("objectChange", () => this.drag());
    this.controls.addEventListener("mouseUp", () => this.end());
  }

  /** Whether the pointer is on it, so that a click is not one on the mesh. */
  get busy(): boolean {
    return this.controls.axis !== null || this.controls.dragging;
  }

  get mode(): GizmoMode {
    return this.mode_;
  }

  set mode(mode: GizmoMode) {
    this.mode_ = mode;
    this.controls.setMode(mode === "pivot" ? "translate" : mode);
    this.stage.invalidate();
  }

  themed(colors: { x: string; y: string; z: string; accent: string }): void {
    const { x, y, z, accent } = colors;
    this.controls.setColors(x, y, z, accent);
    for (const { material } of [this.spot, this.arm])
      (material as THREE.MeshBasicMaterial | THREE.LineBasicMaterial).color.set(accent);
  }

  /** Go to the selected handle; `shown`: unless something else is done just now. */
  follow(shown: boolean): void {
    if (this.began) return;
    const chosen = shown ? this.chosen() : undefined;
    this.arm.visible = chosen !== undefined;
    if (!chosen) {
      this.controls.detach();
      return;
    }
    const { handle, at, map } = chosen;
    const { pivot, rotation, translation } = map;
    this.reach(at, map);
    this.held.position.set(...add(pivot, translation));
    const angle = Math.hypot(...rotation);
    this.held.quaternion.setFromAxisAngle(
      new THREE.Vector3(...scale(rotation, 1 / (angle || 1))),
      angle,
    );
    this.held.scale.set(...scaleOf(handle));
    this.held.updateMatrixWorld();
    this.controls.attach(this.held);
  }

  /** What the selected handle turns about, in the mesh's frame. */
  get pivot(): Vector | undefined {
    const chosen = this.chosen();
    const { origin } = this.stage.scene;
    return chosen && add(chosen.map.pivot, origin);
  }

  /** Turn the selected handle about another point of that frame; undefined: about itself. */
  setPivot(at: Vector | undefined): void {
    const chosen = this.chosen();
    if (!chosen) return;
    const { handle, index, map } = chosen;
    const { origin } = this.stage.scene;
    const to = at ? carried(map, sub(at, origin)) : chosen.at;
    const made: Handle = { ...handle, ...withPivot(map, to, origin) };
    if (!at) delete made.pivot;
    this.controller.change(withHandle(this.controller.session, index, made));
  }

  /** Show where a click would land; undefined: nowhere. */
  point(hit: Hit | undefined): void {
    this.spot.visible = hit !== undefined;
    if (hit) {
      const { point, normal } = hit;
      this.spot.position.set(...point);
      this.spot.quaternion.setFromUnitVectors(new THREE.Vector3(0, 0, 1), new THREE.Vector3(...normal));
      const away = this.stage.camera.position.distanceTo(this.spot.position);
      this.spot.scale.setScalar((9 * devicePixelRatio * away) / this.stage.focalPx);
    }
    this.stage.invalidate();
  }

  /** Show the planes that the edit mirrors itself in. */
  showPlanes(color: string): void {
    const shown = JSON.stringify([this.model.planes, color]);
    if (shown === this.shown) return;
    this.shown = shown;
    for (const child of [...this.planes.children]) {
      this.planes.remove(child);
      const { geometry, material } = child as THREE.Mesh;
      geometry.dispose();
      (material as THREE.Material).dispose();
    }
    const { low, high, origin } = this.stage.scene;
    const center = sub(scale(add(low, high), 0.5), origin);
    const side = 0.62 * Math.hypot(...sub(high, low));
    for (const { normal, offset } of this.model.planes) {
      const flat = new THREE.PlaneGeometry(side, side);
      const look = { color, transparent: true, depthWrite: false };
      const sheet = new THREE.Mesh(flat, new THREE.MeshBasicMaterial({ ...look, ...FLAT, opacity: 0.1 }));
      const edge = new THREE.LineLoop(
        new THREE.BufferGeometry().setFromPoints(
          [[-1, -1], [1, -1], [1, 1], [-1, 1]].map(
            ([x, y]) => new THREE.Vector3((x! * side) / 2, (y! * side) / 2, 0),
          ),
        ),
        new THREE.LineBasicMaterial({ ...look, opacity: 0.55 }),
      );
      const away = normal[0] * center[0] + normal[1] * center[1] + normal[2] * center[2] - offset;
      for (const part of [sheet, edge]) {
        part.position.set(...sub(center, scale(normal, away)));
        part.quaternion.setFromUnitVectors(new THREE.Vector3(0, 0, 1), new THREE.Vector3(...normal));
        this.planes.add(part);
      }
    }
  }

  private begin(): void {
    const chosen = this.chosen();
    if (!chosen) return;
    this.began = { before: this.controller.session, index: chosen.index };
    this.turned = chosen.map;
    this.stage.orbiting = false;
  }

  /** The selected handle, once it is known where it is. */
  private chosen(): { handle: Handle; index: number; at: Vector; map: Transform } | undefined {
    const { selected, session } = this.controller;
    if (selected?.kind !== "handle") return undefined;
    const { index } = selected;
    const known = this.model.handle(session, index);
    return known && { handle: session.handles[index]!, index, at: known.at, map: known.own };
  }

  private drag(): void {
    const { began, turned: map } = this;
    if (!began || !map) return;
    // What another page does meanwhile comes before this.
    const { before, index } = began;
    const { controller, model, stage } = this;
    const { origin } = stage.scene;
    const made: Handle = { ...before.handles[index]! };
    const at = this.held.position.toArray() as unknown as Vector;
    if (this.mode === "translate") made.translate = sub(at, map.pivot);
    if (this.mode === "pivot") Object.assign(made, withPivot(map, at, origin));
    if (this.mode === "rotate") {
      delete made.quaternion;
      made.rotate = scale(nearest(this.held.quaternion, map.rotation), 180 / Math.PI);
    }
    if (this.mode === "scale")
      made.scale = this.held.scale
        .toArray()
        .map((v) => Math.min(MOST_SCALE, Math.max(LEAST_SCALE, Math.abs(v)))) as unknown as Vector;
    const session = withHandle(before, index, made);
    const moved = model.handle(session, index);
    if (moved) {
      this.turned = moved.own;
      this.reach(moved.at, moved.own);
    }
    controller.drag(session);
  }

  private reach(from: Vector, { pivot, translation }: Transform): void {
    this.arm.position.set(...from);
    this.arm.scale.set(...sub(add(pivot, translation), from));
  }

  private end(): void {
    this.began = this.turned = undefined;
    this.stage.orbiting = true;
    this.controller.change(this.controller.session);
  }
}

/** What changes of a handle when its pivot goes to where it is seen at a point. */
export function withPivot(map: Transform, to: Vector, origin: Vector): Pick<Handle, "pivot" | "translate"> {
  const { pivot, translation } = repivoted(map, to);
  return { pivot: add(pivot, origin), translate: translation };
}

/** The rotation vector of a quaternion that is nearest to another one: full turns count. */
export function nearest({ x, y, z, w }: THREE.Quaternion, to: Vector): Vector {
  const sine = Math.hypot(x, y, z);
  const length = Math.hypot(...to);
  if (sine < 1e-9) {
    // No axis of its own: whole turns about the other's.
    const turns = Math.round(length / (2 * Math.PI));
    return length ? scale(to, (2 * Math.PI * turns) / length) : [0, 0, 0];
  }
  const axis: Vector = [x / sine, y / sine, z / sine];
  const angle = 2 * Math.atan2(sine, w);
  const along = axis[0] * to[0] + axis[1] * to[1] + axis[2] * to[2];
  const turns = Math.round((along - angle) / (2 * Math.PI));
  return scale(axis, angle + 2 * Math.PI * turns);
}
