// Sessions and meshes in and out of the page.
import { byId, make } from "../ui/dom";
import { offer, stem } from "../ui/download";
import { button, choice } from "../ui/fields";
import type { Backend, Format, Weights } from "./backend";
import type { Session } from "./session";

/** `mesh`: the digest of the mesh it is for. */
export function saveSession(session: Session, name: string, mesh: string | null): void {
  const text = `${JSON.stringify({ ...session, mesh }, null, 1)}\n`;
  offer(new Blob([text], { type: "application/json" }), `${stem(name)}.session.json`);
}

/** Let the person choose a file. Throws Error where the browser lets no page ask for one: not every
 *  key counts as a wish. */
export async function chosenFile(accept: string): Promise<File | undefined> {
  if (navigator.userActivation?.isActive === false)
    throw new Error("The browser opens files on a click only: press the button below");
  return new Promise((resolve) => {
    const input = make("input", { type: "file", accept, hidden: true });
    const done = () => {
      input.remove();
      resolve(input.files?.[0]);
    };
    input.addEventListener("change", done);
    input.addEventListener("cancel", done);
    document.body.append(input); // or else it may be collected before it is used
    input.click();
  });
}

/** Take files that are dropped on the page, one at a time. */
export function takeDrops(take: (file: File) => void): void {
  const over = (on: boolean) => document.body.classList.toggle("dropping", on);
  document.addEventListener("dragover", (event) => {
    if (!event.dataTransfer?.types.includes("Files")) return;
    event.preventDefault();
    over(true);
  });
  document.addEventListener("dragleave", ({ relatedTarget }) => relatedTarget ?? over(false));
  document.addEventListener("drop", (event) => {
    event.preventDefault(); // or else the browser would go there
    over(false);
    const file = event.dataTransfer?.files[0];
    if (file) take(file);
  });
}

/** The dialogue in which a mesh is exported. */
export class ExportDialog {
  private readonly dialog = byId<HTMLDialogElement>("export");
  private format: Format = "glb";
  private weights: Weights = "none";
  private readonly fields;
  private readonly note = make("p", { className: "hint" });
  private readonly go = button("Export", () => void this.run(), "primary");

  constructor(
    private readonly backend: Backend,
    private readonly session: () => Session,
    private readonly name: string,
  ) {
    this.fields = {
      format: choice<Format>("Format", { glb: "GLB", obj: "OBJ", ply: "PLY" }, {
        changed: (format) => this.set(format, format === "obj" ? "none" : this.weights),
      }),
      weights: choice<Weights>("Weights", { none: "None", skin: "Skin", colors: "Colours" }, {
        changed: (weights) => this.set(this.format, weights),
      }),
    };
    const close = button("Close", () => this.dialog.close());
    this.dialog.append(
      make("h2", {}, "Export the deformed mesh"),
      make("div", { className: "field" }, make("span", {}, "Format"), this.fields.format.element),
      make("div", { className: "field" }, make("span", {}, "Weights"), this.fields.weights.element),
      this.note,
      make("div", { className: "buttons end" }, close, this.go),
    );
    this.set("glb", "none");
  }

  open(): void {
    this.dialog.showModal();
  }

  private set(format: Format, weights: Weights): void {
    if (weights === "skin" && format !== "glb") weights = "none";
    if (weights === "colors" && format === "obj") weights = "none";
    Object.assign(this, { format, weights });
    this.fields.format.set(format);
    this.fields.weights.set(weights);
    const [, skin, colors] = this.fields.weights.element.children as unknown as HTMLButtonElement[];
    skin!.disabled = format !== "glb";
    colors!.disabled = format === "obj";
    const words: Record<Weights, string> = {
      none: "The mesh as it is posed, with its textures.",
      skin: "The mesh at rest with a joint for each handle and its eight largest weights; the pose is that of the joints.",
      colors: "The posed mesh; red, green and blue are the weights of the first three handles, in the place of textures.",
    };
    this.note.textContent = words[weights];
  }

  private async run(): Promise<void> {
    this.go.disabled = true;
    try {
      const { format } = this; // it may be chosen anew meanwhile
      const found = await this.backend.export(this.session(), format, this.weights);
      const ending = found.type === "application/zip" ? `_${format}.zip` : `.${format}`;
      offer(found, `${stem(this.name)}_deformed${ending}`);
      this.dialog.close();
    } catch (error) {
      this.note.textContent = error instanceof Error ? error.message : String(error);
    } finally {
      this.go.disabled = false;
    }
  }
}
