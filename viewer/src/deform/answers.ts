// Who knows about the mesh: the server, asked over the connection.
import type { Connection } from "../connection";
import { type FromPage, type FromServer, type Positions, readNumbers, readText, type Row } from "./messages";
import type { Mirror, Place, Session } from "./session";

/** A question could not be answered, for a reason that a person may read. */
export class Unanswered extends Error {}

export interface Answers {
  likeness(site: Place, method: Session["method"], centring: number | null): Promise<Row>;
  path(site: Place, mirrors: readonly Mirror[]): Promise<Row>;
  polish(session: Session): Promise<Positions>;
  mirrors(): Promise<readonly Mirror[]>;
}

type Answer = Row | Positions | Extract<FromServer, { type: "mirrors" }>;

interface Waiting {
  message: FromPage;
  resolve(answer: Answer): void;
  reject(error: Error): void;
}

type Question =
  | Omit<Extract<FromPage, { type: "row" }>, "id">
  | { type: "polish"; session: Session }
  | { type: "mirrors" };

/** The server's answers. Questions outlive a lost connection: they are asked again. */
export class ServerAnswers implements Answers {
  /** What the server says by itself. */
  told: (message: FromServer) => void = () => {};
  private readonly waiting = new Map<number, Waiting>();
  private last = 0;

  constructor(private readonly connection: Connection) {
    connection.received = (data) => this.received(data);
  }

  /** The next number of a message. */
  next(): number {
    return ++this.last;
  }

  likeness(site: Place, method: Session["method"], centring: number | null): Promise<Row> {
    const about = "likeness";
    return this.ask({ type: "row", about, site, method, centring, mirrors: [] }) as Promise<Row>;
  }

  path(site: Place, mirrors: readonly Mirror[]): Promise<Row> {
    const features = { method: "cardinal", centring: null } as const;
    return this.ask({ type: "row", about: "path", site, ...features, mirrors }) as Promise<Row>;
  }

  polish(session: Session): Promise<Positions> {
    return this.ask({ type: "polish", session }) as Promise<Positions>;
  }

  async mirrors(): Promise<readonly Mirror[]> {
    const found = (await this.ask({ type: "mirrors" })) as Extract<Answer, { type: "mirrors" }>;
    return found.mirrors;
  }

  /** Ask again what the lost connection has not answered. */
  askAgain(): void {
    for (const { message } of this.waiting.values()) this.connection.send(JSON.stringify(message));
  }

  private ask(question: Question): Promise<Answer> {
    const message = { ...question, id: this.next() } as FromPage;
    return new Promise((resolve, reject) => {
      this.waiting.set(message.id, { message, resolve, reject });
      this.connection.send(JSON.stringify(message));
    });
  }

  private received(data: string | ArrayBuffer): void {
    const message = typeof data === "string" ? readText(data) : readNumbers(data);
    const id = "id" in message ? message.id : undefined;
    const waiting = id === undefined ? undefined : this.waiting.get(id);
    if (!waiting) {
      if (typeof data === "string") this.told(message as FromServer);
      return;
    }
    this.waiting.delete(id!);
    if (message.type === "failure") waiting.reject(new Unanswered(message.reason));
    else waiting.resolve(message as Answer);
  }
}
