// The nearest of many positions to a point, by a grid of cells.
import type { Vector } from "../protocol";

const PER_CELL = 4;

export class Nearest {
  private readonly low: Vector;
  private readonly side: number; // of a cell
  private readonly size: readonly [number, number, number]; // cells along each axis
  private readonly start: Uint32Array; // of each cell's members
  private readonly members: Uint32Array;

  constructor(private readonly positions: Float32Array) {
    const count = positions.length / 3;
    const low = [Infinity, Infinity, Infinity];
    const high = [-Infinity, -Infinity, -Infinity];
    positions.forEach((v, k) => {
      low[k % 3] = Math.min(low[k % 3]!, v);
      high[k % 3] = Math.max(high[k % 3]!, v);
    });
    this.low = low as unknown as Vector;
    const sides = high.map((v, k) => Math.max(v - low[k]!, 1e-30));
    const longest = Math.max(...sides);
    // A surface fills a part of the box that shrinks with the cells: count them along its area.
    this.side = longest / Math.max(1, Math.min(512, Math.sqrt(count / PER_CELL / 6)));
    this.size = sides.map((v) => Math.floor(v / this.side) + 1) as [number, number, number];
    const cells = Uint32Array.from({ length: count }, (_, k) => this.cell(this.at(k)));
    this.start = new Uint32Array(this.size[0] * this.size[1] * this.size[2] + 1);
    for (const cell of cells) this.start[cell + 1]!++;
    for (let k = 1; k < this.start.length; k++) this.start[k]! += this.start[k - 1]!;
    const next = this.start.slice();
    this.members = new Uint32Array(count);
    cells.forEach((cell, k) => (this.members[next[cell]!++] = k));
  }

  find(point: Vector): number {
    const middle = this.place(point);
    let best = -1;
    let least = Infinity;
    const most = Math.max(...this.size);
    for (let ring = 0; ring <= most; ring++) {
      // Nothing in this ring or beyond is nearer than its inner side.
      if (best >= 0 && least <= ((ring - 1) * this.side) ** 2) break;
      this.forRing(middle, ring, (cell) => {
        for (let k = this.start[cell]!; k < this.start[cell + 1]!; k++) {
          const member = this.members[k]!;
          const at = this.at(member);
          const away =
            (at[0] - point[0]) ** 2 + (at[1] - point[1]) ** 2 + (at[2] - point[2]) ** 2;
          if (away < least) [least, best] = [away, member];
        }
      });
    }
    return best;
  }

  private at(k: number): Vector {
    const { positions } = this;
    return [positions[3 * k]!, positions[3 * k + 1]!, positions[3 * k + 2]!];
  }

  /** The cell of a point, the nearest one of what lies outside. */
  private place(point: Vector): Vector {
    return point.map((v, k) =>
      Math.min(this.size[k]! - 1, Math.max(0, Math.floor((v - this.low[k]!) / this.side))),
    ) as unknown as Vector;
  }

  private cell(point: Vector): number {
    const [x, y, z] = this.place(point);
    return (z * this.size[1] + y) * this.size[0] + x;
  }

  private forRing([x, y, z]: Vector, ring: number, visit: (cell: number) => void): void {
    const [w, h, d] = this.size;
    for (let k = Math.max(0, z - ring); k <= Math.min(d - 1, z + ring); k++)
      for (let j = Math.max(0, y - ring); j <= Math.min(h - 1, y + ring); j++) {
        const shell = Math.abs(k - z) === ring || Math.abs(j - y) === ring;
        const step = shell ? 1 : Math.max(1, 2 * ring);
        for (let i = x - ring; i <= x + ring; i += step)
          if (i >= 0 && i < w) visit((k * h + j) * w + i);
      }
  }
}
