// Files from the page to the person.
import { make } from "./dom";

/** Hand a file to the person. */
export function offer(blob: Blob, download: string): void {
  const href = URL.createObjectURL(blob);
  make("a", { href, download }).click();
  setTimeout(() => URL.revokeObjectURL(href), 10_000);
}

/** A file's name without its ending. */
export function stem(name: string): string {
  return name.replace(/\.\w+$/, "");
}
