// What is known of the places of handles and anchors, asked for once each.
import { sub } from "../framing";
import type { Vector } from "../protocol";
import { type Backend, Unanswered } from "./backend";
import type { Row } from "./messages";
import type { Topology } from "./topology";
import { type Mirror, type Place, placeOf, type Session } from "./session";
import type { Kernel } from "./solve";

export interface Site {
  /** Relative to the scene's origin. */
  center: Vector;
  features: readonly (readonly number[])[];
  /** The kernel that the features ask for. */
  kernel: Kernel;
  /** Positions that belong to it wholly. */
  held: ArrayLike<number>;
  likeness: Uint16Array;
}

export interface Path {
  data: Uint16Array;
  longest: number;
}

const MOST_BYTES = 1 << 29;

type Known<T> = { value: T | undefined; failure: Error | undefined };

export class Sites {
  /** Told when something that was asked for is there, or cannot be had. */
  changed: () => void = () => {};
  private readonly answered = new Map<string, Known<Site | Path>>();
  private readonly names = new WeakMap<object, number>();
  private named = 0;

  constructor(
    private readonly backend: Backend,
    private readonly topology: Topology,
    private readonly origin: Vector,
  ) {}

  /** What is known of a place, without asking. */
  known(entry: Place, session: Session): Site | undefined {
    return this.answered.get(this.keyOf(placeOf(entry), session))?.value as Site | undefined;
  }

  /** What is known of a place; undefined: it was asked for. Throws where it cannot be had. */
  site(entry: Place, session: Session): Site | undefined {
    const place = placeOf(entry);
    const { method, centring } = session;
    return this.find(this.keyOf(place, session), async () =>
      this.made(place, this.whole(await this.backend.likeness(place, method, centring))),
    );
  }

  /** The same for distances along the surface. */
  path(entry: Place, mirrors: readonly Mirror[]): Path | undefined {
    const place = placeOf(entry);
    const key = `path ${JSON.stringify(mirrors)} ${this.nameOf(place)}`;
    return this.find(key, async () => this.whole(await this.backend.path(place, mirrors)));
  }

  /** Forget what could not be had, so that it is asked for again. */
  forgetFailures(): void {
    for (const [key, { failure }] of this.answered) if (failure) this.answered.delete(key);
  }

  private find<T extends Site | Path>(key: string, ask: () => Promise<T>): T | undefined {
    const found = this.answered.get(key) as Known<T> | undefined;
    if (found?.failure) throw found.failure;
    if (found) {
      // The latest used are the last to go.
      this.answered.delete(key);
      this.answered.set(key, found);
      return found.value;
    }
    const made: Known<T> = { value: undefined, failure: undefined };
    this.answered.set(key, made);
    ask()
      .then((value) => (made.value = value))
      .catch((error: unknown) => (made.failure = error as Error))
      .finally(() => {
        this.evict();
        this.changed();
      });
    return undefined;
  }

  private made(place: Place, row: Row): Site {
    const [radius = 1, power = 1] = row.kernel ?? [];
    const where = row.face === null ? place : { face: row.face };
    return {
      center: sub(row.center, this.origin),
      features: row.features,
      kernel: { radius, power },
      held: this.topology.held(where),
      likeness: row.data,
    };
  }

  /** Throws Unanswered for a row of another mesh. */
  private whole(row: Row): Row {
    const { positions, faceCount } = this.topology;
    if (row.data.length === positions && (row.face ?? 0) < faceCount) return row;
    throw new Unanswered("the server has answered for another mesh: reload the page");
  }

  private keyOf(place: Place, { method, centring }: Session): string {
    return `${method} ${centring} ${this.nameOf(place)}`;
  }

  private nameOf(place: Place): string {
    if (!place.region) return JSON.stringify(place);
    let name = this.names.get(place.region);
    if (name === undefined) this.names.set(place.region, (name = this.named++));
    return `region ${name}`;
  }

  private evict(): void {
    const sizes = [...this.answered].map(([key, { value }]) => [key, bytes(value)] as const);
    let total = sizes.reduce((sum, [, size]) => sum + size, 0);
    for (const [key, size] of sizes) {
      if (total <= MOST_BYTES) return;
      this.answered.delete(key);
      total -= size;
    }
  }
}

function bytes(value: Site | Path | undefined): number {
  if (!value) return 0;
  return "likeness" in value ? value.likeness.byteLength : value.data.byteLength;
}
