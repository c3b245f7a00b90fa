// Brings the GPU to where a session is, as far as what it needs is known.
import type { Vector } from "../protocol";
import { Unanswered } from "./backend";
import type { Blend } from "./blend";
import {
  carried,
  type Column,
  columnsOf,
  gateAt,
  height,
  MOST_PLANES,
  type Plane,
  type Side,
  sidesOf,
  type Transform,
  transformOf,
} from "./maps";
import { type Locality, MOST_SITES, type Plan, type SiteRows } from "./plan";
import { type Handle, localityOf, moves, type Place, type Session } from "./session";
import type { Path, Site, Sites } from "./sites";
import { type Kernel, siteDistance, solve } from "./solve";
import type { Space } from "./space";

/** Of a session: `places` are asked for, and nothing can be shown before they are there; `paths`
 *  are too, and weights are shown without them. */
export type Missing = "places" | "paths" | undefined;

/** What a handle does. */
interface Moved {
  index: number;
  sides: readonly Side[];
  /** Its transform and its mirror images. */
  columns: readonly Column[];
  /** What it does where it is: its transform, or what planes that it lies on leave of that. */
  own: Transform;
  /** Where its centre is now, relative to the scene's origin. */
  at: Vector;
}

export class Model {
  /** Of the session as it is: where handles and anchors are, as far as that is known. */
  handles: readonly (Site | undefined)[] = [];
  anchors: readonly (Site | undefined)[] = [];
  columns: readonly Column[] = [];
  planes: readonly Plane[] = [];
  /** The handles that weights are there for, which may be those of a session before. */
  private drawn: readonly Site[] = [];
  private mixed: readonly unknown[] = [];
  /** Layers on the GPU. */
  private rows = new Map<Uint16Array, number>();
  private readonly sides = new WeakMap<Site, { planes: readonly Plane[]; seam: number; sides: readonly Side[] }>();
  /** Of handles as they are: one that is dragged is another after each step. */
  private readonly moved = new WeakMap<Handle, Moved>();
  private readonly apart = new WeakMap<Site, WeakMap<Site, number>>();

  constructor(
    private readonly blend: Blend,
    private readonly sites: Sites,
    private readonly space: Space,
  ) {}

  /** Show a session. Throws Unanswered where a place of it cannot be had. */
  show(session: Session): Missing {
    expectRoom(session);
    const known = (entry: Place) => this.sites.known(entry, session);
    this.handles = session.handles.map(known);
    this.anchors = session.anchors.map(known);
    const find = (entry: Place) => this.sites.site(entry, session);
    const found = [...session.handles, ...session.anchors].map(find);
    if (found.some((site) => !site)) return "places";
    const sites = found as Site[];
    this.planes = this.space.planesOf(session.mirrors);
    const count = session.handles.length;
    const missing = count ? this.mix(session, sites) : undefined;
    if (missing === "places") return missing;
    this.drawn = sites.slice(0, count);
    this.move(session);
    return missing;
  }

  /** Show the same handles as before where they have moved to. */
  move(session: Session): void {
    const { origin } = this.space;
    const published = session.method === "published";
    const there = (k: number) => this.drawn[k] && this.drawn[k] === this.handles[k];
    this.columns = session.handles.flatMap((handle, k) =>
      there(k) && (moves(handle) || published) ? this.movedBy(session, k).columns : [],
    );
    const linear = published || session.blend === "linear";
    const { columns, planes } = this;
    this.blend.deform({ columns, planes, linear, published: published ? origin : undefined });
  }

  private movedBy(session: Session, index: number): Moved {
    const handle = session.handles[index]!;
    const site = this.handles[index]!;
    const sides = this.sidesOf(site, session.seam);
    const known = this.moved.get(handle);
    if (known?.index === index && known.sides === sides) return known;
    const columns = columnsOf(index, transformOf(handle, site.center, this.space.origin), sides);
    const heights = this.planes.map((plane) => height(plane, site.center));
    const share = columns.map(({ gates }) => gateAt(gates, heights));
    const own = columns[share.indexOf(Math.max(...share))]!.transform;
    const moved = { index, sides, columns, own, at: carried(own, site.center) };
    this.moved.set(handle, moved);
    return moved;
  }

  /** They are those of the drag before as long as planes and seam are. */
  private sidesOf(site: Site, seam: number): readonly Side[] {
    const { planes } = this;
    const known = this.sides.get(site);
    if (known?.planes === planes && known.seam === seam) return known.sides;
    const { diagonal } = this.space;
    const held = planes.length ? Array.from(site.held, (position) => this.space.at(position)) : [];
    const sides = sidesOf(held, planes, seam * diagonal, diagonal);
    this.sides.set(site, { planes, seam, sides });
    return sides;
  }

  /** What a handle does where it is; undefined: it is not known yet where. */
  handle(session: Session, index: number): Pick<Moved, "own" | "at"> | undefined {
    return this.handles[index] && session.handles[index] && this.movedBy(session, index);
  }

  private mix(session: Session, sites: readonly Site[]): Missing {
    const count = session.handles.length;
    const kernel: Kernel = {
      radius: session.radius ?? sites[0]!.kernel.radius,
      power: session.falloff ?? sites[0]!.kernel.power,
    };
    const mix =
      session.method === "published" ? undefined : solve(this.distances(sites), sites.length, kernel);
    const entries = [...session.handles, ...session.anchors];
    const shared = (k: number) => mix!.groups.filter((group) => group === mix!.groups[k]).length > 1;
    const paths = sites.map((_, k) =>
      mix && shared(k) ? (this.sites.path(entries[k]!, []) ?? "asked") : undefined,
    );
    if (paths.includes("asked")) return "places";
    const falls = session.handles.map((handle) =>
      localityOf(session, handle) > 0 ? (this.sites.path(handle, session.mirrors) ?? "asked") : undefined,
    );
    const powers = session.handles.map((handle) => localityOf(session, handle));
    const planes = JSON.stringify(session.mirrors);
    const wanted = [session.method, planes, kernel.radius, kernel.power, count, ...sites, ...paths, ...falls, ...powers];
    if (wanted.length !== this.mixed.length || wanted.some((value, k) => value !== this.mixed[k])) {
      this.mixed = wanted;
      const known = paths as readonly (Path | undefined)[];
      const locality = falls.map((fall) => (fall === "asked" ? undefined : fall));
      this.mixWith(sites, count, known, locality, powers, mix, kernel);
    }
    return falls.includes("asked") ? "paths" : undefined;
  }

  private mixWith(
    sites: readonly Site[],
    handles: number,
    paths: readonly (Path | undefined)[],
    falls: readonly (Path | undefined)[],
    powers: readonly number[],
    mix: Plan["mix"],
    kernel: Kernel,
  ): void {
    const before = this.rows;
    this.rows = new Map();
    const used = [
      ...sites.map(({ likeness }) => likeness),
      ...[...paths, ...falls].flatMap((path) => path?.data ?? []),
    ];
    const kept = new Set(used);
    for (const [data, layer] of before)
      if (kept.has(data)) this.rows.set(data, layer);
      else this.blend.dropRow(layer);
    for (const data of used)
      if (!this.rows.has(data)) this.rows.set(data, this.blend.addRow(data));
    const layer = (data: Uint16Array): number => this.rows.get(data)!;
    this.blend.mix({
      sites: sites.map(
        (site, k): SiteRows => ({
          likeness: layer(site.likeness),
          path: paths[k] && { layer: layer(paths[k].data), longest: paths[k].longest },
          held: this.space.withImages(site.held, this.planes),
        }),
      ),
      handles,
      mix,
      kernel,
      locality: falls.map(
        (fall, k): Locality | undefined => fall && { path: layer(fall.data), power: powers[k]! },
      ),
    });
  }

  private distances(sites: readonly Site[]): Float64Array {
    const n = sites.length;
    const apart = new Float64Array(n * n);
    for (let i = 0; i < n; i++)
      for (let j = 0; j < i; j++)
        apart[i * n + j] = apart[j * n + i] = this.distance(sites[i]!, sites[j]!);
    return apart;
  }

  private distance(one: Site, two: Site): number {
    let known = this.apart.get(one);
    if (!known) this.apart.set(one, (known = new WeakMap()));
    let found = known.get(two);
    if (found === undefined) known.set(two, (found = siteDistance(one.features, two.features)));
    return found;
  }
}

/** Throws Unanswered for more than pages show. */
export function expectRoom({ handles, anchors, mirrors }: Session): void {
  if (handles.length > MOST_SITES || anchors.length > MOST_SITES)
    throw new Unanswered(`this page takes up to ${MOST_SITES} handles and as many anchors`);
  if (mirrors.length > MOST_PLANES)
    throw new Unanswered(`this page mirrors in up to ${MOST_PLANES} planes`);
}
