// The numbers of a mesh: its vertices and faces as the file has them, positions, of which several
// vertices may share one, and faces as they are drawn.
import type { Place } from "./session";

export class Topology {
  private readonly drawn: Uint32Array | undefined;
  private firsts: Uint32Array | undefined;

  constructor(
    readonly positions: number,
    readonly vertices: number,
    /** Corners of the faces as they are drawn: vertices [F, 3]. */
    private readonly faces: Uint32Array,
    /** The position of each vertex; undefined: its own number. */
    readonly place: Uint32Array | undefined,
    /** The file's number of each drawn face; undefined: its own number. */
    private readonly order: Uint32Array | undefined,
  ) {
    if (!order) return;
    this.drawn = new Uint32Array(order.length);
    order.forEach((face, k) => (this.drawn![face] = k));
  }

  get faceCount(): number {
    return this.faces.length / 3;
  }

  positionOf(vertex: number): number {
    return this.place ? this.place[vertex]! : vertex;
  }

  /** Corners of the drawn faces as positions. */
  corners(): Uint32Array {
    return this.place ? this.faces.map((vertex) => this.place![vertex]!) : this.faces;
  }

  /** The file's number of a face that is drawn. */
  fileFace(drawn: number): number {
    return this.order ? this.order[drawn]! : drawn;
  }

  /** One vertex at each position. */
  firstVertices(): Uint32Array {
    if (this.firsts) return this.firsts;
    const firsts = new Uint32Array(this.positions);
    for (let v = this.vertices - 1; v >= 0; v--) firsts[this.positionOf(v)] = v;
    return (this.firsts = firsts);
  }

  /** The positions that belong to a place wholly, without repeats. */
  held(place: Place): number[] {
    if (place.vertex !== undefined) return [this.positionOf(place.vertex)];
    if (place.region) return [...new Set(place.region.map((vertex) => this.positionOf(vertex)))];
    return place.face === undefined ? [] : [...new Set(this.cornersOf(place.face))];
  }

  /** The positions of a face of the file. */
  cornersOf(face: number): number[] {
    const first = 3 * (this.drawn ? this.drawn[face]! : face);
    return [0, 1, 2].map((k) => this.positionOf(this.faces[first + k]!));
  }
}
