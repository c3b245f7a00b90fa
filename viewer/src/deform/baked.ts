// A page without a server: what its own file says of the mesh.
import { add, scale } from "../framing";
import type { BakedEdit } from "../protocol";
import type { Setting } from "../kinds/kind";
import { type Backend, Unanswered } from "./backend";
import type { Beginning, Numbers, Question } from "./baked.worker";
import workerProgram from "./baked.worker.ts?worker";
import type { Spot } from "./features";
import { atRightAngles } from "./maps";
import type { FromServer, Positions, Row } from "./messages";
import { expectRoom } from "./model";
import { centringOf, type Mirror, type Place, placeOf, readSession, type Session } from "./session";
import type { Space } from "./space";
import type { Topology } from "./topology";

type Asked = Pick<Extract<Question, { about: "likeness" }>, "about" | "spot" | "first">
  | Pick<Extract<Question, { about: "path" }>, "about" | "sources">;

export class Baked implements Backend {
  readonly complete = false;
  told: (message: FromServer) => void = () => {};
  private readonly edit: BakedEdit;
  private readonly digest: string | null;
  private readonly load: Setting["load"];
  private worker: Worker | undefined;
  private readonly waiting = new Map<number, (numbers: Numbers) => void>();
  private last = 0;

  constructor(
    { scene, load }: Setting,
    private readonly topology: Topology,
    private readonly space: Space,
  ) {
    if (!scene.edit) throw new Error("a mesh can be deformed with its server, or saved with its features");
    [this.edit, this.digest, this.load] = [scene.edit, scene.digest, load];
  }

  /** Say what a server says first; the features come out of the file while the mesh can be seen. */
  async start(): Promise<void> {
    const { session, teacher, radius, power } = this.edit;
    this.told({ type: "progress", what: "Unpacking the features", done: 0, total: null });
    this.told({ type: "edit", server: "file", session });
    const features = (await this.load("features")) as Uint16Array;
    const channels = features.length / this.topology.positions;
    const beginning: Beginning = {
      features,
      channels,
      ends: (await this.load("graph_ends")) as Uint32Array,
      lengths: (await this.load("graph_lengths")) as Float32Array,
    };
    const program = URL.createObjectURL(new Blob([workerProgram], { type: "text/javascript" }));
    this.worker = new Worker(program);
    URL.revokeObjectURL(program);
    this.worker.onmessage = ({ data }: MessageEvent<Numbers>) => {
      this.waiting.get(data.id)?.(data);
      this.waiting.delete(data.id);
    };
    const { ends, lengths } = beginning;
    this.worker.postMessage(beginning, [features.buffer, ends.buffer, lengths.buffer]);
    this.told({ type: "ready", teacher, channels, radius, power });
  }

  async likeness(site: Place, method: Session["method"], centring: number | null): Promise<Row> {
    this.expectFeatures({ method, centring });
    const spot = this.spotOf(site);
    const numbers = await this.ask({ about: "likeness", spot, first: method === "published" });
    if (!numbers.features.length)
      throw new Unanswered(
        "there is no feature where the handle or anchor sits: choose another place",
      );
    return { ...this.header(site, spot), ...numbers, about: "likeness", kernel: [this.edit.radius, this.edit.power] };
  }

  async path(site: Place, mirrors: readonly Mirror[]): Promise<Row> {
    const spot = this.spotOf(site);
    const sources = this.space.withImages(spot.positions, this.space.planesOf(mirrors));
    const numbers = await this.ask({ about: "path", sources: Array.from(sources) });
    return { ...this.header(site, spot), ...numbers, about: "path", kernel: null };
  }

  async polish(): Promise<Positions> {
    throw new Unanswered("the polish that keeps parts rigid needs geodistill deform: without it");
  }

  async mirrors(): Promise<readonly Mirror[]> {
    const { mirrors, without_mirrors } = this.edit;
    if (!mirrors.length) throw new Unanswered(without_mirrors);
    return mirrors;
  }

  async colors(): Promise<Uint8Array> {
    return (await this.load("feature_colors")) as Uint8Array;
  }

  async read(file: File): Promise<Session> {
    if (/\.ya?ml$/i.test(file.name))
      throw new Error(`${file.name}: a page without a server reads .json; geodistill deform reads YAML`);
    const refused = new Error(`${file.name} is no session that this page can read: save it as JSON`);
    let value: unknown;
    try {
      value = JSON.parse(await file.text());
    } catch {
      throw refused;
    }
    const session = readSession(value);
    if (!session) throw refused;
    if (session.mesh !== null && session.mesh !== this.digest)
      throw new Error(`${file.name} is a session of another mesh`);
    try {
      this.expectShown(session);
    } catch (error) {
      throw new Error(`this page cannot show ${file.name}: ${(error as Unanswered).message}`);
    }
    return session;
  }

  async export(): Promise<Blob> {
    throw new Unanswered("meshes are exported by geodistill deform: save the session, and open it there");
  }

  keep(): number {
    return 0; // the file stays as it is: sessions are saved on demand
  }

  /** Throws Unanswered for what only a server can show. */
  private expectShown(session: Session): void {
    this.expectFeatures(session);
    expectRoom(session);
    if (!atRightAngles(this.space.planesOf(session.mirrors)))
      throw new Unanswered("its mirrors are not at right angles to one another");
    for (const [name, entries] of [["handle", session.handles], ["anchor", session.anchors]] as const)
      entries.forEach((entry, k) => {
        try {
          this.spotOf(entry);
        } catch (error) {
          throw new Unanswered(`${name} ${k + 1}: ${(error as Unanswered).message}`);
        }
      });
  }

  private expectFeatures(asked: Pick<Session, "method" | "centring">): void {
    const baked = this.edit.session;
    if (asked.method === baked.method && centringOf(asked) === centringOf(baked)) return;
    throw new Unanswered("its features are of one method and centring only, others need geodistill deform");
  }

  private ask(question: Asked): Promise<Numbers> {
    const id = ++this.last;
    return new Promise((resolve) => {
      this.waiting.set(id, resolve);
      this.worker!.postMessage({ ...question, id });
    });
  }

  private spotOf(site: Place): Spot {
    const { vertex, face, barycentric, region } = placeOf(site);
    const within = (numbers: readonly number[], count: number) =>
      numbers.every((k) => Number.isInteger(k) && k >= 0 && k < count);
    const { vertices, faceCount } = this.topology;
    if (vertex !== undefined && within([vertex], vertices))
      return { positions: this.topology.held({ vertex }), weights: undefined };
    if (region?.length && within(region, vertices))
      return { positions: this.topology.held({ region }).sort((a, b) => a - b), weights: undefined };
    if (face !== undefined && within([face], faceCount))
      return { positions: this.topology.cornersOf(face), weights: barycentric };
    if (site.position)
      throw new Unanswered("places by their position need geodistill deform, vertices and faces do not");
    throw new Unanswered("the mesh has no such place");
  }

  private header(site: Place, { positions, weights }: Spot): Omit<Row, keyof Numbers | "about" | "kernel"> & { id: number } {
    const share = weights ?? positions.map(() => 1 / positions.length);
    const center = positions.reduce(
      (sum, position, k) => add(sum, scale(this.space.at(position), share[k]!)),
      this.space.origin,
    );
    return {
      type: "row", id: 0, count: this.topology.positions, center,
      face: site.face ?? null, barycentric: site.barycentric ?? null,
    };
  }
}
