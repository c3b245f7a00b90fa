// Shortest paths over the edges of a graph (Dijkstra), for a page without a server.

const CHILDREN = 4; // of a node of the heap

export class Paths {
  private readonly first: Uint32Array; // of each position's edges
  private readonly next: Uint32Array; // where an edge leads
  private readonly length: Float32Array;

  /** Edges [E, 2] between positions, and their lengths [E]. */
  constructor(
    readonly count: number,
    ends: Uint32Array,
    lengths: Float32Array,
  ) {
    this.first = new Uint32Array(count + 1);
    for (const end of ends) this.first[end + 1]!++;
    for (let k = 0; k < count; k++) this.first[k + 1]! += this.first[k]!;
    const place = this.first.slice(0, count);
    this.next = new Uint32Array(ends.length);
    this.length = new Float32Array(ends.length);
    for (let at = 0; at < ends.length; at++) {
      const to = place[ends[at]!]!++;
      this.next[to] = ends[at ^ 1]!;
      this.length[to] = lengths[at >> 1]!;
    }
  }

  /** Distance of every position from the nearest source. */
  from(sources: Iterable<number>): Float64Array {
    const found = new Float64Array(this.count).fill(Infinity);
    const heap = new Heap(found);
    for (const source of sources) {
      found[source] = 0;
      heap.raise(source);
    }
    for (let here = heap.pop(); here !== undefined; here = heap.pop())
      for (let edge = this.first[here]!; edge < this.first[here + 1]!; edge++) {
        const there = this.next[edge]!;
        const along = found[here]! + this.length[edge]!;
        if (along >= found[there]!) continue;
        found[there] = along;
        heap.raise(there);
      }
    return found;
  }
}

/** Indices in the order of keys that only become smaller. */
class Heap {
  private readonly items: Uint32Array;
  private readonly at: Int32Array; // where an index is; -1: nowhere
  private size = 0;

  constructor(private readonly keys: Float64Array) {
    this.items = new Uint32Array(keys.length);
    this.at = new Int32Array(keys.length).fill(-1);
  }

  /** Bring an index to its place after its key has become smaller. */
  raise(item: number): void {
    if (this.at[item]! < 0) this.at[item] = this.size++;
    let hole = this.at[item]!;
    const key = this.keys[item]!;
    while (hole > 0) {
      const above = (hole - 1) >> 2;
      if (this.keys[this.items[above]!]! <= key) break;
      this.put(this.items[above]!, hole);
      hole = above;
    }
    this.put(item, hole);
  }

  pop(): number | undefined {
    if (!this.size) return undefined;
    const top = this.items[0]!;
    this.at[top] = -1;
    const last = this.items[--this.size]!;
    if (this.size) this.sink(last);
    return top;
  }

  private sink(item: number): void {
    const { items, keys, size } = this;
    let hole = 0;
    for (;;) {
      const begin = CHILDREN * hole + 1;
      if (begin >= size) break;
      let least = begin;
      for (let child = begin + 1; child < Math.min(begin + CHILDREN, size); child++)
        if (keys[items[child]!]! < keys[items[least]!]!) least = child;
      if (keys[items[least]!]! >= keys[item]!) break;
      this.put(items[least]!, hole);
      hole = least;
    }
    this.put(item, hole);
  }

  private put(item: number, at: number): void {
    this.items[at] = item;
    this.at[item] = at;
  }
}
