// Cameras in numbers: where to stand, what is near and far, and what the server is told.
import type { Manifest, Vector } from "./protocol";

export const FOV_Y = (40 * Math.PI) / 180;

export interface Pose {
  eye: Vector;
  target: Vector;
  up: Vector;
  fov_y: number;
}

/** The axes that U goes through. */
export const AXES: readonly (readonly [string, Vector])[] = [
  ["+X", [1, 0, 0]],
  ["+Y", [0, 1, 0]],
  ["+Z", [0, 0, 1]],
  ["−X", [-1, 0, 0]],
  ["−Y", [0, -1, 0]],
  ["−Z", [0, 0, -1]],
];

/** The axis's name, or its numbers where it has none. */
export function axisName(axis: Vector): string {
  const found = AXES.find(([, a]) => dot(a, axis) > 1 - 1e-9);
  return found ? found[0] : axis.map((v) => v.toFixed(2)).join(", ");
}

export function nextAxis(axis: Vector): Vector {
  const nearest = AXES.reduce((best, one) => (dot(one[1], axis) > dot(best[1], axis) ? one : best));
  return AXES[(AXES.indexOf(nearest) + 1) % AXES.length]![1];
}

/** The ball about the box, of which at least something is seen. */
export function ball(low: Vector, high: Vector): { center: Vector; radius: number } {
  const center = scale(add(low, high), 0.5);
  return { center, radius: 0.5 * length(sub(high, low)) || 1 };
}

/** The direction from which a scene is first seen: its front, a little from the side and above. */
export function frontDirection(up: Vector): Vector {
  // Front is what the conventions with this up axis say: +z of glTF, -y of Z-up worlds, and -z
  // where y points down, as cameras of captures look along +z.
  const front: Vector = up[2] > 0.5 ? [0, -1, 0] : up[1] < -0.5 ? [0, 0, -1] : [0, 0, 1];
  const level = sub(front, scale(up, dot(front, up)));
  const ahead = unit(length(level) > 0.3 ? level : [1, 0, 0]);
  const side = cross(up, ahead);
  return unit(add(add(ahead, scale(side, 0.55)), scale(up, 0.42)));
}

/** A pose from which the whole box is in a picture of the given width over height. */
export function framed(low: Vector, high: Vector, up: Vector, aspect: number): Pose {
  return framedFrom(low, high, up, frontDirection(up), aspect);
}

/** The same, from a given direction. */
export function framedFrom(
  low: Vector,
  high: Vector,
  up: Vector,
  direction: Vector,
  aspect: number,
): Pose {
  const { center, radius } = ball(low, high);
  const away = unit(direction);
  const right = unit(cross(up, away));
  const above = cross(away, right);
  const slope = Math.tan(FOV_Y / 2);
  // The corner that needs most distance decides.
  let distance = 0.1 * radius;
  for (let corner = 0; corner < 8; corner++) {
    const [x, y, z] = [1, 2, 4].map((bit) => (corner & bit ? high : low)) as [Vector, Vector, Vector];
    const at = sub([x[0], y[1], z[2]], center);
    const across = Math.abs(dot(at, right)) / (slope * aspect);
    const upward = Math.abs(dot(at, above)) / slope;
    distance = Math.max(distance, 1.12 * Math.max(across, upward) + dot(at, away));
  }
  return { eye: add(center, scale(away, distance)), target: center, up, fov_y: FOV_Y };
}

/** The first pose of a scene, in the user's coordinates. */
export function home(scene: Manifest, up: Vector, aspect: number): Pose {
  return scene.home ? { ...scene.home, up } : framed(scene.low, scene.high, up, aspect);
}

/** Near and far planes that hold the scene in and the depth buffer's precision together. */
export function planes(eye: Vector, low: Vector, high: Vector): [number, number] {
  const { center, radius } = ball(low, high);
  const away = length(sub(eye, center));
  const far = away + 1.1 * radius;
  return [Math.max(away - 1.1 * radius, 2e-4 * far), far];
}

/** Rows of the [3, 4] matrix of a pose, with axes x right, y down, z forward. */
export function worldFromCam(pose: Pose): number[] {
  const forward = unit(sub(pose.target, pose.eye));
  const right = unit(cross(forward, pose.up));
  const down = cross(forward, right);
  return [0, 1, 2].flatMap((k) => [right[k]!, down[k]!, forward[k]!, pose.eye[k]!]);
}

/** A length as people write it: 12.3, 0.00123, 4,560,000. */
export function pretty(value: number): string {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e7 || size < 1e-4) return value.toExponential(1).replace("e+", "e");
  const text = value.toLocaleString("en", { maximumSignificantDigits: size >= 1000 ? 7 : 3 });
  return text.replace("-", "−");
}

export const add = (a: Vector, b: Vector): Vector => [a[0] + b[0], a[1] + b[1], a[2] + b[2]];
export const sub = (a: Vector, b: Vector): Vector => [a[0] - b[0], a[1] - b[1], a[2] - b[2]];
export const scale = (a: Vector, s: number): Vector => [a[0] * s, a[1] * s, a[2] * s];
export const dot = (a: Vector, b: Vector): number => a[0] * b[0] + a[1] * b[1] + a[2] * b[2];
export const cross = (a: Vector, b: Vector): Vector => [
  a[1] * b[2] - a[2] * b[1],
  a[2] * b[0] - a[0] * b[2],
  a[0] * b[1] - a[1] * b[0],
];
export const length = (a: Vector): number => Math.hypot(...a);
export const unit = (a: Vector): Vector => scale(a, 1 / (length(a) || 1));
