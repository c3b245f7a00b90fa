// What the mixing pass is told: sites in the order of their groups, and what belongs to them.
import type { Kernel, Mix } from "./solve";

/** Handles, and anchors, that an edit may have. */
export const MOST_SITES = 64;

/** Rows of distances by their layers on the GPU; from `Blend.addRow`. */
export interface SiteRows {
  likeness: number;
  /** Where it shares its group with others. */
  path: { layer: number; longest: number } | undefined;
  /** Positions that belong to it wholly. */
  held: ArrayLike<number>;
}

export interface Locality {
  path: number;
  power: number;
}

export interface Plan {
  /** Handles first, then anchors. */
  sites: readonly SiteRows[];
  handles: number;
  /** Undefined: weights as published, not mixed. */
  mix: Mix | undefined;
  kernel: Kernel;
  /** Of each handle. */
  locality: readonly (Locality | undefined)[];
}

export interface PackedPlan {
  /** Layer of its likeness, of its path or -1, last of its group, longest path. */
  sites: Float32Array;
  /** First site of its group, how many of them, its own. */
  handles: Float32Array;
  /** Layer of its path or -1, power. */
  falls: Float32Array;
  /** Of each group, for each block of four handles: [blocks, groups, 4]. */
  matrix: { data: Float32Array; width: number } | undefined;
}

export function packPlan({ sites, handles, mix, locality }: Plan): PackedPlan {
  // In the order of their groups, so that a group's likeness is a running maximum.
  const groups = mix?.groups ?? sites.map((_, k) => k);
  const order = sites.map((_, k) => k).sort((a, b) => groups[a]! - groups[b]! || a - b);
  const packed = {
    sites: new Float32Array(4 * 2 * MOST_SITES),
    handles: new Float32Array(4 * MOST_SITES),
    falls: new Float32Array(4 * MOST_SITES).fill(-1),
    matrix: mix && packMatrix(mix, handles),
  };
  order.forEach((site, at) => {
    const { likeness, path } = sites[site]!;
    const last = groups[order[at + 1] ?? -1] !== groups[site];
    // As published nothing is mixed, and the mark says what an anchor is.
    const mark = mix ? Number(last) : site < handles ? 1 : -1;
    packed.sites.set([likeness, path?.layer ?? -1, mark, path?.longest ?? 0], 4 * at);
    if (site >= handles) return;
    const first = order.findIndex((other) => groups[other] === groups[site]);
    const count = groups.filter((group) => group === groups[site]).length;
    packed.handles.set([first, mix ? count : 1, at, 0], 4 * site);
    const fall = locality[site];
    if (fall) packed.falls.set([fall.path, fall.power], 4 * site);
  });
  return packed;
}

function packMatrix({ groups, inverse, size }: Mix, handles: number): PackedPlan["matrix"] {
  const data = new Float32Array(4 * size * Math.ceil(handles / 4));
  for (let handle = 0; handle < handles; handle++)
    for (let group = 0; group < size; group++)
      data[4 * ((handle >> 2) * size + group) + (handle & 3)] =
        inverse[groups[handle]! * size + group]!;
  return { data, width: size };
}

/** Positions that belong to sites, and for each which handle has it and how much: all of it, its
 *  part of several, or -1 for what an anchor holds. */
export function packPins({ sites, handles, mix }: Plan): {
  positions: Uint32Array;
  claims: Float32Array;
} {
  const owners = new Map<number, number[]>();
  if (mix)
    sites.forEach((site, k) => {
      for (let i = 0; i < site.held.length; i++) {
        const known = owners.get(site.held[i]!);
        if (known) known.push(k);
        else owners.set(site.held[i]!, [k]);
      }
    });
  const positions: number[] = [];
  const claims: number[] = [];
  for (const [position, claimed] of owners) {
    const held = claimed.some((k) => k >= handles);
    for (const k of held ? [-1] : claimed) {
      positions.push(position);
      claims.push(k, 1 / claimed.length);
    }
  }
  return { positions: new Uint32Array(positions), claims: new Float32Array(claims) };
}
