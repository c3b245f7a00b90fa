// Sorts splats beside the page's own thread.
import { type Sorter, sorter } from "./sorting";

export type Request =
  | { means: Float32Array }
  | { eye: readonly number[]; forward: readonly number[]; near: number };

let made: Sorter | undefined;

self.onmessage = ({ data }: MessageEvent<Request>) => {
  if ("means" in data) {
    made = sorter(data.means);
  } else if (made) {
    const order = made.sort(data.eye, data.forward, data.near);
    self.postMessage(order, { transfer: [order.buffer] });
  }
};
