// What the deformation page and its server say to one another; the server's side is
// geodistill/viewer/edits.py.
import { between, type Check, finite, listOf, object, orNull, text, vector, whole } from "../checks";
import { Malformed, type Vector } from "../protocol";
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
  | { type: "edit"; server: string; revision: number; session: Session }
  | { type: "accepted"; id: number; revision: number }
  | { type: "failure"; id: number; reason: string };

const spread = between(1e-6, 1e6); // radius and power of a kernel

const TEXTS: Record<FromServer["type"], Record<string, Check>> = {
  progress: { what: text, done: whole, total: orNull(whole) },
  ready: { teacher: text, channels: whole, radius: spread, power: spread },
  mirrors: { id: whole, mirrors: listOf(isMirror) },
  edit: { server: text, revision: whole, session: isSession },
  accepted: { id: whole, revision: whole },
  failure: { id: whole, reason: text },
};

const HEADERS: Record<"row" | "positions", Record<string, Check>> = {
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
  return checked(json, TEXTS) as unknown as FromServer;
}

/** Numbers behind a header: its length as uint32 (little-endian), the header, the numbers. */
export function readNumbers(data: ArrayBuffer): Row | Positions {
  if (data.byteLength < 4) throw new Malformed("numbers begin with the length of their header");
  const length = new DataView(data).getUint32(0, true);
  if (length > data.byteLength - 4) throw new Malformed("a header is cut off");
  const header = checked(new TextDecoder().decode(new Uint8Array(data, 4, length)), HEADERS);
  const bytes = data.slice(4 + length); // aligned
  const found = header as unknown as Row | Positions;
  const expected = found.type === "row" ? 2 * found.count : 12 * found.count;
  if (bytes.byteLength !== expected) throw new Malformed(`${found.type}: numbers are cut off`);
  return found.type === "row"
    ? { ...found, data: new Uint16Array(bytes) }
    : { ...found, data: new Float32Array(bytes) };
}

function checked(
  json: string,
  shapes: Record<string, Record<string, Check>>,
): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    throw new Malformed("a message is a JSON object");
  }
  if (!object(value)) throw new Malformed("a message is a JSON object");
  const fields = value as Record<string, unknown>;
  const type = fields["type"];
  if (typeof type !== "string" || !Object.hasOwn(shapes, type))
    throw new Malformed(`unknown type ${JSON.stringify(type)}`);
  const shape = shapes[type]!;
  for (const [name, check] of Object.entries(shape))
    if (!check(fields[name])) throw new Malformed(`${type}: bad ${name}`);
  for (const name of Object.keys(fields))
    if (name !== "type" && !Object.hasOwn(shape, name))
      throw new Malformed(`${type}: unknown ${name}`);
  return fields;
}
