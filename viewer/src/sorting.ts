// The order in which splats are drawn.

const RADIX = 1 << 16;

export interface Sorter {
  /** Room for `count` elements, made once: sorting allocates nothing but its result. */
  sort(eye: readonly number[], forward: readonly number[], near: number): Uint32Array<ArrayBuffer>;
}

/**
 * Sorts means [N, 3] from the farthest to the nearest by their depth along `forward`, and leaves
 * out those nearer than `near`.
 *
 * Two passes of a counting sort by 16 bits, over the bits of the depths, which as unsigned
 * integers have the order of the (positive) depths: exact, whatever their range.
 */
export function sorter(means: Float32Array): Sorter {
  const count = means.length / 3;
  const depths = new Float32Array(count);
  const bits = new Uint32Array(depths.buffer);
  const drawn = new Uint32Array(count);
  const between = new Uint32Array(count);
  const low = new Uint32Array(RADIX);
  const high = new Uint32Array(RADIX);
  return {
    sort(eye, forward, near) {
      const [ex = 0, ey = 0, ez = 0] = eye;
      const [fx = 0, fy = 0, fz = 0] = forward;
      low.fill(0);
      high.fill(0);
      let total = 0;
      for (let i = 0, at = 0; i < count; i++, at += 3) {
        const depth =
          (means[at]! - ex) * fx + (means[at + 1]! - ey) * fy + (means[at + 2]! - ez) * fz;
        if (!(depth > near)) continue;
        depths[i] = depth;
        drawn[total++] = i;
        const key = bits[i]!;
        low[key & (RADIX - 1)]!++;
        high[key >>> 16]!++;
      }
      const order = new Uint32Array(total);
      pass(drawn, between, total, low, (i) => bits[i]! & (RADIX - 1));
      pass(between, order, total, high, (i) => bits[i]! >>> 16);
      return order;
    },
  };
}

/** A stable counting sort of `total` indices by falling keys, whose histogram is given. */
function pass(
  from: Uint32Array,
  to: Uint32Array,
  total: number,
  histogram: Uint32Array,
  key: (index: number) => number,
): void {
  let before = 0;
  for (let k = RADIX - 1; k >= 0; k--) {
    const here = histogram[k]!;
    histogram[k] = before;
    before += here;
  }
  for (let i = 0; i < total; i++) {
    const index = from[i]!;
    to[histogram[key(index)]!++] = index;
  }
}
