// Who knows about the mesh and keeps its edit: a server, or the page's own file.
import type { FromServer, Positions, Row } from "./messages";
import type { Mirror, Place, Session } from "./session";

/** A question could not be answered, for a reason that a person may read. */
export class Unanswered extends Error {}

export type Format = "glb" | "obj" | "ply";
export type Weights = "none" | "skin" | "colors";

export interface Backend {
  /** Whether it polishes, and exports meshes. */
  readonly complete: boolean;
  /** Told of what nobody asked for: features on their way, the edit to begin with. */
  told: (message: FromServer) => void;
  /** Told when a connection has begun: what was said on the one before may not have arrived. */
  begun?: () => void;
  /** Begin to tell, once the page is there. */
  start(): Promise<void>;
  likeness(site: Place, method: Session["method"], centring: number | null): Promise<Row>;
  path(site: Place, mirrors: readonly Mirror[]): Promise<Row>;
  polish(session: Session): Promise<Positions>;
  mirrors(): Promise<readonly Mirror[]>;
  /** Principal components of the features: RGBA of each position. */
  colors(): Promise<Uint8Array>;
  /** A session out of a file. Throws Error with what is wrong with it. */
  read(file: File): Promise<Session>;
  /** The deformed mesh as a file: a ZIP (its type says so) where it takes several. Throws Error with
   *  what is wrong. */
  export(session: Session, format: Format, weights: Weights): Promise<Blob>;
  /** Keep the edit; the number that says so when it has been accepted. */
  keep(session: Session): number;
}
