// Features of all positions, and what they say of places: geodistill.deform.sites for a page without
// a server.

const MOST_PROTOTYPES = 32;
const SAME = 1 - 1e-6;

/** Positions that a place is made of, and how much of each; without weights: a region of them. */
export interface Spot {
  positions: readonly number[];
  weights: readonly number[] | undefined;
}

export class Features {
  /** Unit vectors [P, D]; zero where nothing is known. */
  private readonly rows: Float32Array;
  readonly count: number;

  /** Of half floats [P, D]. */
  constructor(halves: Uint16Array, private readonly channels: number) {
    const table = Float32Array.from({ length: 1 << 16 }, (_, bits) => half(bits));
    this.rows = new Float32Array(halves.length);
    this.count = halves.length / channels;
    for (let at = 0; at < halves.length; at += channels) {
      let square = 0;
      for (let k = at; k < at + channels; k++) square += table[halves[k]!]! ** 2;
      const by = square ? 1 / Math.sqrt(square) : 0;
      for (let k = at; k < at + channels; k++) this.rows[k] = by * table[halves[k]!]!;
    }
  }

  /** The unit vectors that stand for a place; none where nothing is known there. */
  standingFor({ positions, weights }: Spot): Float64Array[] {
    const rows = positions.map((position) => this.row(position));
    if (!weights) return farthest(rows.filter((row) => row.some((v) => v !== 0)));
    const mixed = new Float64Array(this.channels);
    rows.forEach((row, corner) => row.forEach((v, k) => (mixed[k]! += weights[corner]! * v)));
    const length = Math.hypot(...mixed);
    return length ? [mixed.map((v) => v / length)] : [];
  }

  /** Distance of every position to the nearest of some unit vectors. */
  distances(to: readonly Float64Array[]): Float32Array {
    const { rows, channels } = this;
    const found = new Float32Array(this.count);
    for (let position = 0; position < this.count; position++) {
      const first = position * channels;
      let closest = -1;
      for (const vector of to) {
        let cosine = 0;
        for (let k = 0; k < channels; k++) cosine += rows[first + k]! * vector[k]!;
        if (cosine > closest) closest = cosine;
      }
      found[position] = Math.sqrt(Math.max(2 - 2 * closest, 0));
    }
    return found;
  }

  private row(position: number): Float64Array {
    const first = position * this.channels;
    return Float64Array.from(this.rows.subarray(first, first + this.channels));
  }
}

/** Up to 32 of some vectors: the nearest to their mean, then each the farthest from those before. */
function farthest(rows: readonly Float64Array[]): Float64Array[] {
  if (rows.length < 2) return [...rows];
  const mean = rows[0]!.map((_, k) => rows.reduce((sum, row) => sum + row[k]!, 0) / rows.length);
  let next = rows.reduce((best, row, k) => (dot(row, mean) > dot(rows[best]!, mean) ? k : best), 0);
  const chosen = [rows[next]!];
  const nearest = rows.map((row) => dot(row, rows[next]!));
  while (chosen.length < Math.min(MOST_PROTOTYPES, rows.length)) {
    next = nearest.reduce((best, v, k) => (v < nearest[best]! ? k : best), 0);
    if (nearest[next]! > SAME) break;
    chosen.push(rows[next]!);
    rows.forEach((row, k) => (nearest[k] = Math.max(nearest[k]!, dot(row, rows[next]!))));
  }
  return chosen;
}

function dot(a: Float64Array, b: Float64Array): number {
  let sum = 0;
  for (let k = 0; k < a.length; k++) sum += a[k]! * b[k]!;
  return sum;
}

/** The number that 16 bits stand for. */
function half(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}
