// An edit as data: the same that geodistill.deform.session reads from files. Lengths are in the
// mesh's unit and frame, angles in degrees. Values are never changed in place, so that histories
// can share them.
import { between, type Check, either, finite, listOf, object, oneOf, orNull, shaped, text, vector, whole } from "../checks";
import type { Vector } from "../protocol";

export interface Place {
  vertex?: number;
  face?: number;
  barycentric?: Vector;
  region?: readonly number[];
  position?: Vector;
}

export interface Handle extends Place {
  translate?: Vector;
  /** Axis times degrees. */
  rotate?: Vector;
  /** w, x, y, z, in place of `rotate`. */
  quaternion?: readonly [number, number, number, number];
  scale?: number | Vector;
  pivot?: Vector;
  locality?: number;
}

export interface Mirror {
  normal: Vector;
  offset?: number;
}

export function sameMirror(one: Mirror, two: Mirror): boolean {
  return one.normal.every((v, k) => v === two.normal[k]) && (one.offset ?? 0) === (two.offset ?? 0);
}

export interface Session {
  version: number;
  mesh: string | null;
  method: "cardinal" | "published";
  blend: "rotations" | "linear";
  centring: number | null;
  radius: number | null;
  falloff: number | null;
  locality: number;
  seam: number;
  rigidity: number;
  handles: readonly Handle[];
  anchors: readonly Place[];
  mirrors: readonly Mirror[];
}

export const EMPTY: Session = {
  version: 1,
  mesh: null,
  method: "cardinal",
  blend: "rotations",
  centring: null,
  radius: null,
  falloff: null,
  locality: 0,
  seam: 0.05,
  rigidity: 0,
  handles: [],
  anchors: [],
  mirrors: [],
};

/** What a handle may do, as sessions have it. */
export const [LEAST_SCALE, MOST_SCALE, MOST_DEGREES] = [1e-3, 1000, 36_000];

const ZERO: Vector = [0, 0, 0];

const some: Check = (v) => (v as number[]).some((part) => part !== 0);
const both =
  (...checks: readonly Check[]): Check =>
  (v) =>
    checks.every((check) => check(v));
const size = both(between(0, MOST_SCALE), (v) => v !== 0);
const degrees = between(-MOST_DEGREES, MOST_DEGREES);
const power = between(0, 1000);
const place = {
  vertex: whole,
  face: Number.isSafeInteger, // that the mesh has it is another matter
  barycentric: both(listOf(between(0, Infinity), 3), (v) => {
    const [a, b, c] = v as unknown as Vector;
    return Math.abs(a + b + c - 1) <= 1e-4;
  }),
  region: both(listOf(whole), (v) => (v as number[]).length > 0),
  position: vector,
};
const has = (v: unknown, name: string): boolean => Object.hasOwn(v as object, name);
const placed: Check = (v) =>
  ["vertex", "face", "region", "position"].filter((name) => has(v, name)).length === 1 &&
  (has(v, "face") || !has(v, "barycentric"));
const turnedOnce: Check = (v) => !(has(v, "rotate") && has(v, "quaternion"));
const handle = {
  ...place,
  translate: vector,
  rotate: listOf(degrees, 3),
  quaternion: both(listOf(finite, 4), some),
  scale: either(size, listOf(size, 3)),
  pivot: vector,
  locality: power,
};

export const isMirror = shaped({ normal: both(vector, some) }, { offset: finite });

/** Whether a value is a session as geodistill.deform.session_file writes it, by the rules that it reads
 *  by. */
export const isSession = shaped({
  version: oneOf(EMPTY.version),
  mesh: orNull(text),
  method: oneOf("cardinal", "published"),
  blend: oneOf("rotations", "linear"),
  centring: orNull(between(0, 1)),
  radius: orNull(between(1e-6, 2)),
  falloff: orNull(between(0.1, 32)),
  locality: power,
  seam: between(1e-6, 1),
  rigidity: both(whole, between(0, 10_000)),
  handles: listOf(both(object, placed, turnedOnce, shaped({}, handle))),
  anchors: listOf(both(object, placed, shaped({}, place))),
  mirrors: listOf(isMirror),
}) as (value: unknown) => value is Session;

const OPTIONAL = new Set([
  "vertex", "face", "barycentric", "region", "position", "rotate", "quaternion", "pivot", "locality",
]);

/** A session out of a file: what is left out has its default, and so has what a handle or anchor says
 *  is null. Undefined for anything else. */
export function readSession(value: unknown): Session | undefined {
  if (!object(value)) return undefined;
  const given = (entry: unknown): unknown =>
    object(entry)
      ? Object.fromEntries(
          Object.entries(entry as object).filter(([name, part]) => part !== null || !OPTIONAL.has(name)),
        )
      : entry;
  const session: Record<string, unknown> = { ...EMPTY, ...(value as object) };
  for (const name of ["handles", "anchors"]) {
    const entries = session[name];
    if (Array.isArray(entries)) session[name] = entries.map(given);
  }
  return isSession(session) ? session : undefined;
}

/** Axis times radians. */
export function rotationOf(handle: Handle): Vector {
  if (!handle.quaternion) return times(handle.rotate ?? ZERO, Math.PI / 180);
  const length = Math.hypot(...handle.quaternion);
  const sign = Math.sign(handle.quaternion[0]) || 1;
  const [w, ...axis] = handle.quaternion.map((v) => (sign * v) / length);
  const sine = Math.hypot(...axis);
  if (sine === 0) return ZERO;
  return times(axis as unknown as Vector, (2 * Math.atan2(sine, w!)) / sine);
}

export function scaleOf(handle: Handle): Vector {
  const { scale = 1 } = handle;
  return typeof scale === "number" ? [scale, scale, scale] : scale;
}

/** Whether a handle does anything. */
export function moves(handle: Handle): boolean {
  return (
    (handle.translate ?? ZERO).some((v) => v !== 0) ||
    rotationOf(handle).some((v) => v !== 0) ||
    scaleOf(handle).some((v) => v !== 1)
  );
}

/** How much of what all features share is left out, as geodistill.deform.session has it. */
export function centringOf({ method, centring }: Pick<Session, "method" | "centring">): number {
  return centring ?? (method === "published" ? 0 : 0.7);
}

export function localityOf(session: Session, handle: Handle): number {
  return handle.locality ?? session.locality;
}

/** The place alone, as the server is asked about it; equal places have equal keys. */
export function placeOf({ vertex, face, barycentric, region, position }: Place): Place {
  if (vertex !== undefined) return { vertex };
  if (region !== undefined) return { region };
  if (face !== undefined) return { face, barycentric: barycentric ?? [1 / 3, 1 / 3, 1 / 3] };
  return position === undefined ? {} : { position };
}

/** Whether a session has nothing that a person has placed. */
export function isEmpty({ handles, anchors, mirrors }: Session): boolean {
  return !handles.length && !anchors.length && !mirrors.length;
}

/** A session and what was made of the empty one meanwhile. */
export function joined(session: Session, made: Session): Session {
  const changed = Object.entries(made).filter(([name, value]) => value !== EMPTY[name as keyof Session]);
  return {
    ...session,
    ...Object.fromEntries(changed),
    handles: [...session.handles, ...made.handles],
    anchors: [...session.anchors, ...made.anchors],
  };
}

/** A session with one of its handles replaced. */
export function withHandle(session: Session, index: number, handle: Handle): Session {
  return { ...session, handles: session.handles.with(index, handle) };
}

export function withoutHandle(session: Session, index: number): Session {
  return { ...session, handles: session.handles.toSpliced(index, 1) };
}

export function withoutAnchor(session: Session, index: number): Session {
  return { ...session, anchors: session.anchors.toSpliced(index, 1) };
}

function times(vector: Vector, by: number): Vector {
  return [vector[0] * by, vector[1] * by, vector[2] * by];
}
