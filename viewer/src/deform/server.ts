// The server, asked over the connection.
import type { Connection } from "../connection";
import { address } from "../source";
import { type Backend, Unanswered } from "./backend";
import { type FromPage, type FromServer, type Positions, readNumbers, readText, type Row } from "./messages";
import type { Mirror, Place, Session } from "./session";

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

/** Questions outlive a lost connection: they are asked again. */
export class Server implements Backend {
  readonly complete = true;
  told: (message: FromServer) => void = () => {};
  begun = (): void => {};
  private readonly waiting = new Map<number, Waiting>();
  private last = 0;

  constructor(private readonly connection: Connection) {
    connection.received = (data) => this.received(data);
    connection.opened = () => {
      this.begun();
      this.askAgain();
    };
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

  async colors(): Promise<Uint8Array> {
    const answer = await checked(fetch(address(location, "features")));
    return new Uint8Array(await answer.arrayBuffer());
  }

  async read(file: File): Promise<Session> {
    const url = address(location, "session");
    url.searchParams.set("name", file.name);
    const answer = await checked(fetch(url, { method: "POST", body: await file.text() }));
    return (await answer.json()) as Session;
  }

  keep(session: Session): number {
    const id = ++this.last;
    this.connection.send(JSON.stringify({ type: "edit", id, session }));
    return id;
  }

  /** Ask again what the lost connection has not answered. */
  private askAgain(): void {
    for (const { message } of this.waiting.values()) this.connection.send(JSON.stringify(message));
  }

  private ask(question: Question): Promise<Answer> {
    const message = { ...question, id: ++this.last } as FromPage;
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

/** Throws Error with the server's words where it refuses. */
async function checked(answer: Promise<Response>): Promise<Response> {
  const found = await answer;
  if (!found.ok) throw new Error(await found.text());
  return found;
}
