// Where the scene comes from: the server, or this very file.
import { type ArrayInfo, type DType, type Manifest, readManifest } from "./protocol";

export type NumberArray = Float32Array | Uint16Array | Uint32Array | Uint8Array;

export interface Source {
  /** Whether a server stands behind it. */
  readonly live: boolean;
  manifest(): Promise<Manifest>;
  bytes(info: ArrayInfo, progress: (loaded: number) => void): Promise<ArrayBuffer>;
}

const TYPES = {
  float32: Float32Array,
  float16: Uint16Array, // as the GPU takes them
  uint32: Uint32Array,
  uint8: Uint8Array,
} as const satisfies Record<DType, unknown>;

export function byteLength(info: ArrayInfo): number {
  const count = info.shape.reduce((product, side) => product * side, 1);
  return count * TYPES[info.dtype].BYTES_PER_ELEMENT;
}

/** The numbers of an array. Throws Error when there are more or fewer than its shape says. */
export function numbers(info: ArrayInfo, data: ArrayBuffer): NumberArray {
  if (data.byteLength !== byteLength(info))
    throw new Error(`an array has ${data.byteLength} bytes instead of ${byteLength(info)}`);
  return new TYPES[info.dtype](data);
}

export function pageSource(document: Document, location: Location): Source {
  const baked = document.getElementById("scene");
  return baked ? bakedSource(document, baked.textContent ?? "") : serverSource(location);
}

/** The token in the address goes with every request. */
export function address(location: Location, path: string): URL {
  const url = new URL(path, location.href);
  url.search = new URL(location.href).search;
  return url;
}

function serverSource(location: Location): Source {
  async function get(path: string): Promise<Response> {
    const answer = await fetch(address(location, path));
    if (answer.ok) return answer;
    throw new Error(`the server answers: ${(await answer.text()) || answer.statusText}`);
  }
  return {
    live: true,
    manifest: async () => readManifest(await (await get("scene.json")).json()),
    bytes: async (info, progress) => whole(await get(`blob/${info.sha}`), info, progress),
  };
}

async function whole(
  answer: Response,
  info: ArrayInfo,
  progress: (loaded: number) => void,
): Promise<ArrayBuffer> {
  const data = new Uint8Array(byteLength(info));
  const reader = answer.body?.getReader();
  let at = 0;
  while (reader) {
    const { done, value } = await reader.read();
    if (done) break;
    if (at + value.length > data.length) throw new Error("an array is longer than announced");
    data.set(value, at);
    at += value.length;
    progress(at);
  }
  if (at !== data.length) throw new Error("an array was cut off on its way");
  return data.buffer;
}

function bakedSource(document: Document, manifest: string): Source {
  return {
    live: false,
    manifest: async () => readManifest(JSON.parse(manifest)),
    bytes: async (info, progress) => {
      const element = document.getElementById(`blob-${info.sha}`);
      if (!element) throw new Error("this file is damaged: a part of the scene is missing");
      const packed = fromBase64(element.textContent ?? "");
      element.remove(); // it is never needed again, and large
      const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
      const data = await new Response(stream).arrayBuffer();
      progress(data.byteLength);
      return data;
    },
  };
}

function fromBase64(text: string): Uint8Array<ArrayBuffer> {
  const characters = atob(text.trim());
  const bytes = new Uint8Array(characters.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = characters.charCodeAt(i);
  return bytes;
}
