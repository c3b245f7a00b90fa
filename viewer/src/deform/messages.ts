// What the deformation page and its server say to one another; the server's side is
// geodistill/viewer/edits.py.
import { between, finite, listOf, orNull, text, vector, whole } from "../checks";
import type { Vector } from "../protocol";
import { Malformed, parse, type Shapes, unpack } from "../wire";
import { isMirror, isSession, type Mirror, type Place, type Session } from "./session";

/** Bytes of a message from the page must be fewer; `MOST_EDIT` in geodistill/viewer/server.py. */
export const MOST_EDIT = 1 << 24;

export type About = "likeness" | "path";

export type FromPage =
  | {
      type: "row";
      id: number;
      about: About;
      site: Place;
      method: Session["method"];
      centring: number | null;
      mirrors: readonly Mirror[];
    }
  | { type: "edit"; id: number; session: Session }
  | { type: "polish"; id: number; session: Session }
  | { type: "mirrors"; id: number };

export interface Row {
  type: "row";
  id: number;
  about: About;
  count: number;
  longest: number;
  /** In the mesh's frame. */
  center: Vector;
  face: number | null;
  barycentric: Vector | null;
  features: readonly (readonly number[])[];
  kernel: readonly [number, number] | null;
  /** 65535ths of the longest distance. */
  data: Uint16Array;
}

export interface Positions {
  type: "positions";
  id: number;
  count: number;
  /** [count, 3] relative to the scene's origin. */
  data: Float32Array;
}

export type FromServer =
  | { type: "progress"; what: string; done: number; total: number | null }
  | { type: "ready"; teacher: string; channels: number; radius: number; power: number }
  | { type: "mirrors"; id: number; mirrors: readonly Mirror[] }
  | { type: "edit"; server: string; session: Session }
  | { type: "accepted"; id: number }
  | { type: "failure"; id: number; reason: string };

const spread = between(1e-6, 1e6); // radius and power of a kernel

const TEXTS: Shapes<FromServer["type"]> = {
  progress: { what: text, done: whole, total: orNull(whole) },
  ready: { teacher: text, channels: whole, radius: spread, power: spread },
  mirrors: { id: whole, mirrors: listOf(isMirror) },
  edit: { server: text, session: isSession },
  accepted: { id: whole },
  failure: { id: whole, reason: text },
};

const HEADERS: Shapes<"row" | "positions"> = {
  row: {
    id: whole,
    about: (v) => v === "likeness" || v === "path",
    count: whole,
    longest: finite,
    center: vector,
    face: orNull(whole),
    barycentric: orNull(vector),
    features: listOf(listOf(finite)),
    kernel: orNull(listOf(spread, 2)),
  },
  positions: { id: whole, count: whole },
};

/** A message of the server. Throws Malformed for anything else. */
export function readText(json: string): FromServer {
  return parse(json, TEXTS) as unknown as FromServer;
}

/** Numbers behind a header. */
export function readNumbers(data: ArrayBuffer): Row | Positions {
  const { header, numbers } = unpack(data);
  const found = parse(header, HEADERS) as unknown as Row | Positions;
  const bytes = numbers.slice().buffer; // aligned
  const expected = found.type === "row" ? 2 * found.count : 12 * found.count;
  if (bytes.byteLength !== expected) throw new Malformed(`${found.type}: numbers are cut off`);
  return found.type === "row"
    ? { ...found, data: new Uint16Array(bytes) }
    : { ...found, data: new Float32Array(bytes) };
}
