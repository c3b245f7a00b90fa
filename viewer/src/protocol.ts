// What page and server say to one another; the server's side is geodistill/viewer/protocol.py, and
// test/vectors.json holds what both must read and refuse alike.

import { flag, positive, text, whole } from "./checks";
import type { Mirror, Session } from "./deform/session";
import { Malformed, parse, type Shapes, unpack } from "./wire";

export const VERSION = 2;

/** From the page: show the field from here. */
export interface CameraMessage {
  type: "camera";
  /** Rises with every camera; pictures say which one they show. */
  id: number;
  /** Rows of [3, 4]: camera (x right, y down, z forward) to the user's world. */
  world_from_cam: readonly number[];
  /** From the upper to the lower edge, in radians. */
  fov_y: number;
  /** In device pixels. */
  width: number;
  height: number;
  /** Whether the next camera follows at once, so that a coarse picture will do. */
  moving: boolean;
}

/** From the server, ahead of the pixels: rows of a picture, RGBA with straight alpha, sRGB. */
export interface PictureHeader {
  type: "picture";
  id: number;
  width: number;
  height: number;
  /** Which rows follow: `rows` of them from `row` on. */
  row: number;
  rows: number;
  /** Whether nothing finer of this camera comes after it. */
  final: boolean;
}

/** From the server: a camera could not be shown. */
export interface FailureMessage {
  type: "failure";
  id: number;
  reason: string;
}

export type ServerMessage = PictureHeader | FailureMessage;

export interface Picture extends PictureHeader {
  pixels: Uint8ClampedArray<ArrayBuffer>;
}

const SHAPES: Shapes<ServerMessage["type"]> = {
  picture: { id: whole, width: positive, height: positive, row: whole, rows: positive, final: flag },
  failure: { id: whole, reason: text },
};

/** A message of the server. Throws Malformed for anything else. */
export function readMessage(json: string): ServerMessage {
  const message = parse(json, SHAPES) as unknown as ServerMessage;
  if (message.type === "picture" && message.row + message.rows > message.height)
    throw new Malformed("picture: rows beyond its height");
  return message;
}

/** A picture: its pixels behind its header. */
export function readPicture(data: ArrayBuffer): Picture {
  const { header: text, numbers } = unpack(data);
  const header = readMessage(text);
  if (header.type !== "picture") throw new Malformed("pixels follow a picture's header only");
  const pixels = new Uint8ClampedArray(numbers.buffer, numbers.byteOffset);
  if (pixels.length !== 4 * header.width * header.rows)
    throw new Malformed("a picture's pixels are cut off");
  return { ...header, pixels };
}

export function encode(message: CameraMessage): string {
  return JSON.stringify(message);
}

// The scene, as GET /scene.json describes it -------------------------------------------------

export type Vector = readonly [number, number, number];
export type DType = "float32" | "float16" | "uint32" | "uint8";

/** An array on the server: GET /blob/<sha>, raw and little-endian. */
export interface ArrayInfo {
  sha: string;
  dtype: DType;
  shape: readonly number[];
}

export interface MaterialInfo {
  /** Display-referred RGBA. */
  color: readonly [number, number, number, number];
  /** Name of the blob with its texture, uint8 [H, W, 4], first row at the top. */
  texture: string | null;
}

export interface Manifest {
  version: number;
  kind: "mesh" | "points" | "splats" | "field";
  name: string;
  /** What there is how much of, to be read by people. */
  counts: readonly (readonly [string, number])[];
  up: { axis: Vector; source: "file" | "cameras" | "guess" | "user" };
  /** The user's coordinates of the point that positions are relative to. */
  origin: Vector;
  /** The box about the scene, in the user's coordinates. */
  low: Vector;
  high: Vector;
  /** Where to look from at first, in the user's coordinates; null: from where all is seen. */
  home: { eye: Vector; target: Vector; fov_y: number } | null;
  blobs: Readonly<Record<string, ArrayInfo>>;
  materials: readonly MaterialInfo[];
  /** Runs of faces with one material: first face, count, material or -1. */
  groups: readonly (readonly [number, number, number])[];
  /** World units, of points. */
  radius: number | null;
  /** Depth up to which no splats are drawn, in world units. */
  near: number | null;
  /**
   * Of a mesh whose positions are those of a surface, which handles move; null: of no such mesh.
   * `place` then says which of them each vertex has, and `order` which of the mesh's faces each
   * face is, where these are not their own numbers.
   */
  digest: string | null;
  /** Of a page without a server: the edit it opens with, and what is known of the features. */
  edit: BakedEdit | null;
}

/**
 * Beside it are arrays: `features` [P, D], the ends and lengths of the edges that paths along the
 * surface take, `graph_ends` [E, 2] and `graph_lengths` [E], and `feature_colors` [P, 4].
 */
export interface BakedEdit {
  session: Session;
  teacher: string;
  /** The kernel that the features ask for. */
  radius: number;
  power: number;
  mirrors: readonly Mirror[];
  /** Why there are none. */
  without_mirrors: string;
}

/** Throws Malformed for a scene that another version of the server describes. */
export function readManifest(value: unknown): Manifest {
  const manifest = value as Manifest;
  if (manifest?.version !== VERSION)
    throw new Malformed("the server is of another version than this page: reload it");
  return manifest;
}
