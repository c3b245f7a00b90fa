// The edit as a person changes it: what they did, what is selected, and what the server is told.
import { type Backend, Unanswered } from "./backend";
import { History } from "./history";
import type { FromServer, Positions } from "./messages";
import type { Missing, Model } from "./model";
import {
  EMPTY,
  isEmpty,
  joined,
  type Mirror,
  type Place,
  type Session,
  withoutAnchor,
  withoutHandle,
} from "./session";
import type { Sites } from "./sites";
import type { Kernel } from "./solve";

export type Selected = { kind: "handle" | "anchor"; index: number } | undefined;

export interface Progress {
  what: string;
  done: number;
  total: number | null;
}

export class Controller {
  /** Told after anything has changed that is shown. */
  changed: () => void = () => {};
  /** Told of each step of a drag, in which all but what is dragged stays. */
  moved: () => void = () => {};
  /** Told of what went wrong, to be read. */
  failed: (reason: string) => void = () => {};
  selected: Selected;
  /** What is still asked for. */
  missing: Missing;
  /** Of features that are still being found; undefined once they are there. */
  progress: Progress | undefined = { what: "", done: 0, total: null };
  /** Why there will be none. */
  hopeless: string | undefined;
  /** What the features ask for. */
  kernel: Kernel | undefined;
  /** Whose features these are. */
  teacher: { name: string; channels: number } | undefined;
  /** Whether positions are those of the rigid polish. */
  polished = false;
  private history = new History<Session>(EMPTY);
  /** While something is dragged: what it was before, and is now. */
  private dragged: Session | undefined;
  private sent = 0;
  private pending = false; // on its way to the server
  private unsaved = false; // by the server
  private server = "";
  /** The session whose polish is awaited. */
  private polish: Session | undefined;

  constructor(
    private readonly backend: Backend,
    private readonly sites: Sites,
    private readonly model: Model,
    private readonly put: (positions: Positions) => void,
  ) {
    backend.told = (message) => this.told(message);
    backend.begun = () => (this.pending = false);
    // Until all places are there, nothing of one is seen: a frame for each would be in vain.
    sites.changed = () => this.show(this.missing === "places");
  }

  get session(): Session {
    return this.dragged ?? this.history.now;
  }

  get canUndo(): boolean {
    return this.history.canUndo;
  }

  get canRedo(): boolean {
    return this.history.canRedo;
  }

  get ready(): boolean {
    return this.progress === undefined;
  }

  /** Whether all that is shown is what the session says. */
  get settled(): boolean {
    return this.missing === undefined && !this.polish;
  }

  /** Make a session the edit; undo brings the one before it back. */
  change(session: Session): void {
    this.dragged = undefined;
    if (session === this.history.now) {
      this.show();
      return;
    }
    this.sites.forgetFailures();
    this.history.put(session);
    this.settle();
  }

  /** Show a session while something is dragged; nobody is told before `change`. */
  drag(session: Session): void {
    this.dragged = session;
    this.polished = false;
    this.model.move(session);
    this.moved();
  }

  undo(): void {
    this.dragged = undefined;
    this.history.undo();
    this.settle();
  }

  redo(): void {
    this.dragged = undefined;
    this.history.redo();
    this.settle();
  }

  addHandle(place: Place): void {
    const { session } = this;
    this.selected = { kind: "handle", index: session.handles.length };
    this.change({ ...session, handles: [...session.handles, place] });
  }

  addAnchor(place: Place): void {
    const { session } = this;
    this.selected = { kind: "anchor", index: session.anchors.length };
    this.change({ ...session, anchors: [...session.anchors, place] });
  }

  setMirrors(mirrors: readonly Mirror[]): void {
    this.change({ ...this.session, mirrors });
  }

  removeSelected(): void {
    const { selected, session } = this;
    if (!selected) return;
    this.selected = undefined;
    const without = selected.kind === "handle" ? withoutHandle : withoutAnchor;
    this.change(without(session, selected.index));
  }

  select(selected: Selected): void {
    this.selected = selected;
    this.changed();
  }

  /** Nothing is deformed any more; what the mesh and its features are taken as stays. */
  reset(): void {
    this.selected = undefined;
    this.change({ ...this.session, handles: [], anchors: [] });
  }

  private settle(): void {
    this.polished = false;
    this.unsaved = true;
    if (this.server) this.send(); // else `meet` does
    this.show();
  }

  /** Bring what is seen to where the session is; `waiting`: if all places for it are there. */
  private show(waiting = false): void {
    const { session } = this;
    if (this.polished) {
      this.changed(); // what is seen is final, and computing it again would undo the polish
      return;
    }
    const { kind, index } = this.selected ?? { kind: "handle", index: -1 };
    const entries = kind === "handle" ? session.handles : session.anchors;
    if (index >= entries.length) this.selected = undefined;
    if (!this.ready && (session.handles.length || session.anchors.length)) this.missing = "places";
    else
      try {
        this.missing = this.model.show(session);
        this.startPolish(session);
      } catch (error) {
        if (!(error instanceof Unanswered)) throw error;
        this.missing = undefined;
        this.failed(error.message);
      }
    if (!waiting || this.missing !== "places") this.changed();
  }

  private startPolish(session: Session): void {
    if (this.missing || this.dragged || this.polished) return;
    if (!session.rigidity || !this.model.columns.length) return;
    if (this.polish) return; // what has changed since is asked for after it
    this.polish = session;
    this.backend
      .polish(session)
      .then((positions) => {
        if (this.session !== session) return;
        this.put(positions);
        this.polished = true;
      })
      .catch((error: Error) => this.failed(error.message))
      .finally(() => {
        this.polish = undefined;
        if (this.session === session) this.changed();
        else this.show();
      });
  }

  private send(): void {
    this.pending = true;
    this.sent = this.backend.keep(this.history.now);
  }

  private told(message: FromServer): void {
    if (message.type === "progress") this.progress = message;
    if (message.type === "progress" || message.type === "ready") this.hopeless = undefined;
    if (message.type === "ready") {
      this.progress = undefined;
      this.kernel = { radius: message.radius, power: message.power };
      this.teacher = { name: message.teacher, channels: message.channels };
      this.sites.forgetFailures();
    }
    // What the server has refused, it refuses again.
    const answers = message.type === "accepted" || message.type === "failure";
    if (answers && message.id !== 0 && message.id === this.sent) this.pending = this.unsaved = false;
    if (message.type === "failure" && message.id === 0 && !this.ready) this.hopeless = message.reason;
    else if (message.type === "failure") this.failed(message.reason);
    if (message.type === "edit") this.meet(message.server, message.session);
    this.show();
  }

  /** Another page's edit, or the server's as it is when the connection begins. */
  private meet(server: string, session: Session): void {
    const first = this.server === "";
    const restarted = !first && this.server !== server;
    this.server = server;
    if (this.pending) return; // it comes after theirs
    // What a lost connection did not keep is sent again, and all of it to a server that has nothing:
    // one that was started again with an edit of its own keeps that.
    if (!first && (this.unsaved || (restarted && isEmpty(session)))) {
      this.send();
      return;
    }
    const own = this.history.now;
    if (first) this.history = new History(session);
    else this.history.put(session);
    this.dragged = undefined;
    this.polished = false;
    if (!first) return;
    this.unsaved &&= own !== EMPTY;
    if (this.unsaved) this.addTo(session, own);
  }

  /** What was done before the server's edit was known comes after it. */
  private addTo(session: Session, own: Session): void {
    const before = this.selected?.kind === "handle" ? session.handles : session.anchors;
    if (this.selected) this.selected = { ...this.selected, index: this.selected.index + before.length };
    this.history.put(joined(session, own));
    this.send();
  }
}
