// The websocket, and back again when it is lost.
import { type Picture, readMessage, readPicture } from "./protocol";
import { address } from "./source";

const FIRST_WAIT_MS = 400;
const LONGEST_WAIT_MS = 5000;

export type State = "open" | "lost" | "closed";

/** How long to wait before the next attempt. */
export function waitMs(attempt: number): number {
  return Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 1.6 ** attempt);
}

export class Connection {
  received: (data: string | ArrayBuffer) => void = () => {};
  opened: () => void = () => {};
  /** What became of the connection, and why. */
  changed: (state: State, reason: string) => void = () => {};
  private socket: WebSocket | undefined;
  private attempt = 0;
  private timer = 0;

  /** `scene` is what the page shows, by a digest: a server that shows something else is none. */
  constructor(
    private readonly location: Location,
    private readonly scene?: string,
  ) {
    addEventListener("online", () => this.retryNow());
    document.addEventListener("visibilitychange", () => this.retryNow());
  }

  connect(): void {
    this.timer = 0;
    const url = address(this.location, "socket");
    if (this.scene) url.searchParams.set("scene", this.scene);
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.onopen = () => {
      this.attempt = 0;
      this.changed("open", "");
      this.opened();
    };
    socket.onmessage = ({ data }: MessageEvent<string | ArrayBuffer>) => this.received(data);
    socket.onclose = ({ code, reason }) => {
      if (this.socket !== socket) return;
      this.socket = undefined;
      if (code === 1008) {
        this.changed("closed", reason);
        return;
      }
      this.changed("lost", reason);
      this.timer = window.setTimeout(() => this.connect(), waitMs(this.attempt++));
    };
  }

  /** Whether it could be sent: what could not is sent by `opened`. */
  send(text: string): boolean {
    if (this.socket?.readyState !== WebSocket.OPEN) return false;
    this.socket.send(text);
    return true;
  }

  private retryNow(): void {
    if (this.socket || !this.timer || document.hidden) return;
    clearTimeout(this.timer);
    this.connect();
  }
}

/** Take pictures from a connection; a failure is told until the next one. */
export function receivePictures(connection: Connection, paint: (picture: Picture) => void): void {
  let failed = false;
  connection.received = (data) => {
    if (data instanceof ArrayBuffer) {
      paint(readPicture(data));
      if (failed) connection.changed("open", "");
      failed = false;
      return;
    }
    const message = readMessage(data);
    if (message.type !== "failure") return;
    failed = true;
    connection.changed("open", message.reason);
  };
}
