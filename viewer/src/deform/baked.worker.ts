// What a server would compute, beside the page's own thread.
import { Features, type Spot } from "./features";
import { Paths } from "./paths";

export interface Beginning {
  features: Uint16Array;
  channels: number;
  ends: Uint32Array;
  lengths: Float32Array;
}

export type Question =
  /** `first`: of what stands for the place the first alone, as the published method has it. */
  | { id: number; about: "likeness"; spot: Spot; first: boolean }
  | { id: number; about: "path"; sources: readonly number[] };

export interface Numbers {
  id: number;
  /** 65535ths of the longest. */
  data: Uint16Array;
  longest: number;
  features: number[][];
}

const OPPOSITE = 2; // the largest distance between unit vectors
const STEPS = 65535;

let features: Features;
let paths: Paths;

self.onmessage = ({ data }: MessageEvent<Beginning | Question>) => {
  if ("channels" in data) {
    features = new Features(data.features, data.channels);
    paths = new Paths(features.count, data.ends, data.lengths);
    return;
  }
  const numbers = data.about === "likeness" ? alike(data.spot, data.first) : far(data.sources);
  const message: Numbers = { id: data.id, ...numbers };
  self.postMessage(message, { transfer: [message.data.buffer] });
};

function alike(spot: Spot, first: boolean): Omit<Numbers, "id"> {
  const vectors = features.standingFor(spot);
  const away = features.distances(first ? vectors.slice(0, 1) : vectors);
  const data = steps(away, OPPOSITE);
  return { data, longest: OPPOSITE, features: vectors.map((vector) => [...vector]) };
}

function far(sources: readonly number[]): Omit<Numbers, "id"> {
  const away = paths.from(sources);
  const longest = away.reduce((most, v) => Math.max(most, v), 0);
  return { data: steps(away, longest), longest, features: [] };
}

function steps(away: Float32Array | Float64Array, longest: number): Uint16Array<ArrayBuffer> {
  const scale = STEPS / Math.max(longest, 1e-300);
  return Uint16Array.from(away, (v) => Math.min(STEPS, Math.round(scale * v)));
}
