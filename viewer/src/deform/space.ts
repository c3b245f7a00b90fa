// Where a mesh's positions are at rest, relative to the scene's origin.
import { dot, scale } from "../framing";
import type { Vector } from "../protocol";
import { type Plane, reflect } from "./maps";
import { Nearest } from "./nearest";
import type { Mirror } from "./session";

export class Space {
  private nearest: Nearest | undefined;

  constructor(
    readonly origin: Vector,
    readonly diagonal: number,
    /** [P, 3] */
    readonly rest: Float32Array,
  ) {}

  at(position: number): Vector {
    const { rest } = this;
    return [rest[3 * position]!, rest[3 * position + 1]!, rest[3 * position + 2]!];
  }

  planesOf(mirrors: readonly Mirror[]): Plane[] {
    return mirrors.map(({ normal, offset = 0 }) => {
      const length = Math.hypot(...normal);
      const unit = scale(normal, 1 / length);
      return { normal: unit, offset: offset / length - dot(unit, this.origin) };
    });
  }

  /** Positions, and those nearest to their mirror images. */
  withImages(held: ArrayLike<number>, planes: readonly Plane[]): ArrayLike<number> {
    if (!planes.length) return held;
    this.nearest ??= new Nearest(this.rest);
    const found = new Set(Array.from(held));
    for (const plane of planes)
      for (const position of [...found])
        found.add(this.nearest.find(reflect(plane, this.at(position))));
    return [...found];
  }
}
