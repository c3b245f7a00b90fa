// The server, asked over the connection.
import type { Connection } from "../connection";
import { address } from "../source";
import { type Backend, type Format, Unanswered, type Weights } from "./backend";
import { type FromPage, type FromServer, MOST_EDIT, type Positions, readNumbers, readText, type Row } from "./messages";
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

  async start(): Promise<void> {
    // The server says by itself what it has.
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

  async export(session: Session, format: Format, weights: Weights): Promise<Blob> {
    const url = address(location, "export");
    url.searchParams.set("format", format);
    url.searchParams.set("weights", weights);
    const answer = await checked(fetch(url, { method: "POST", body: JSON.stringify(session) }));
    return answer.blob();
  }

  keep(session: Session): number {
    const id = ++this.last;
    const text = JSON.stringify({ type: "edit", id, session });
    const reason = tooLarge(text);
    // Told once the id is known to whom it is told.
    if (reason) queueMicrotask(() => this.told({ type: "failure", id, reason }));
    else this.connection.send(text);
    return id;
  }

  /** Ask again what the lost connection has not answered. */
  private askAgain(): void {
    for (const { message } of this.waiting.values()) this.connection.send(JSON.stringify(message));
  }

  private ask(question: Question): Promise<Answer> {
    const message = { ...question, id: ++this.last } as FromPage;
    const text = JSON.stringify(message);
    const reason = tooLarge(text);
    if (reason) return Promise.reject(new Unanswered(reason));
    return new Promise((resolve, reject) => {
      this.waiting.set(message.id, { message, resolve, reject });
      this.connection.send(text);
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

/** Why a message cannot be sent: the server would end the connection, each time. */
function tooLarge(text: string): string | undefined {
  const { length } = new TextEncoder().encode(text);
  if (length < MOST_EDIT) return undefined;
  return `the edit has ${(length / 2 ** 20).toFixed(1)} MB, and the server takes less than ${MOST_EDIT >> 20}: choose smaller regions`;
}

/** Throws Error with the server's words where it refuses. */
async function checked(answer: Promise<Response>): Promise<Response> {
  const found = await answer.catch(() => {
    throw new Error("the server does not answer: it may have ended, start geodistill deform again");
  });
  if (!found.ok) throw new Error(await found.text());
  return found;
}
