// The websocket: cameras out, pictures in, and back again when it is lost.
import {
  type CameraMessage,
  encode,
  type Picture,
  readMessage,
  readPicture,
} from "./protocol";
import { address } from "./source";

const FIRST_WAIT_MS = 400;
const LONGEST_WAIT_MS = 5000;

export type State = "open" | "lost" | "closed";

/** How long to wait before the next attempt. */
export function waitMs(attempt: number): number {
  return Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 1.6 ** attempt);
}

export class Connection {
  pictures: (picture: Picture) => void = () => {};
  opened: () => void = () => {};
  /** What became of the connection, and why. */
  changed: (state: State, reason: string) => void = () => {};
  private socket: WebSocket | undefined;
  private attempt = 0;
  private timer = 0;
  private failed = false;

  constructor(private readonly location: Location) {
    addEventListener("online", () => this.retryNow());
    document.addEventListener("visibilitychange", () => this.retryNow());
  }

  connect(): void {
    this.timer = 0;
    const url = address(this.location, "socket");
    url.protocol = url.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(url);
    socket.binaryType = "arraybuffer";
    this.socket = socket;
    socket.onopen = () => {
      this.attempt = 0;
      this.failed = false;
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

  /** The latest camera counts: one that cannot be sent now is sent by `opened`. */
  look(camera: CameraMessage): void {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(encode(camera));
  }

  private received(data: string | ArrayBuffer): void {
    if (data instanceof ArrayBuffer) {
      this.pictures(readPicture(data));
      if (this.failed) this.changed("open", "");
      this.failed = false;
      return;
    }
    const message = readMessage(data);
    if (message.type !== "failure") return;
    this.failed = true;
    this.changed("open", message.reason);
  }

  private retryNow(): void {
    if (this.socket || !this.timer || document.hidden) return;
    clearTimeout(this.timer);
    this.connect();
  }
}
