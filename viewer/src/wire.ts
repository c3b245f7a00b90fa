// Messages of the server as JSON texts, and numbers behind a header in JSON; the server's side is
// geodistill/viewer/wire.py.
import { type Check, object } from "./checks";

export class Malformed extends Error {}

/** What the values of each type of message must be. */
export type Shapes<T extends string> = Record<T, Record<string, Check>>;

/** A message of one of these types. Throws Malformed for anything else. */
export function parse<T extends string>(json: string, shapes: Shapes<T>): Record<string, unknown> & { type: T } {
  const fields = objectIn(json);
  const type = fields["type"];
  if (typeof type !== "string" || !Object.hasOwn(shapes, type))
    throw new Malformed(`unknown type ${JSON.stringify(type)}`);
  const shape = shapes[type as T];
  for (const [name, check] of Object.entries(shape))
    if (!check(fields[name])) throw new Malformed(`${type}: bad ${name}`);
  for (const name of Object.keys(fields))
    if (name !== "type" && !Object.hasOwn(shape, name)) throw new Malformed(`${type}: unknown ${name}`);
  return fields as { type: T };
}

/** The header's length as uint32 (little-endian), the header, the numbers. Throws Malformed where
 *  it is cut off. */
export function unpack(data: ArrayBuffer): { header: string; numbers: Uint8Array<ArrayBuffer> } {
  if (data.byteLength < 4) throw new Malformed("numbers begin with the length of their header");
  const length = new DataView(data).getUint32(0, true);
  if (length > data.byteLength - 4) throw new Malformed("a header is cut off");
  const header = new TextDecoder().decode(new Uint8Array(data, 4, length));
  return { header, numbers: new Uint8Array(data, 4 + length) };
}

function objectIn(json: string): Record<string, unknown> {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch {
    value = undefined;
  }
  if (!object(value)) throw new Malformed("a message is a JSON object");
  return value as Record<string, unknown>;
}
