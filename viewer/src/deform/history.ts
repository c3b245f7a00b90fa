// Undo and redo without limit: states are values that share what they have in common.

export class History<T> {
  private readonly past: T[] = [];
  private readonly future: T[] = [];

  constructor(private present: T) {}

  get now(): T {
    return this.present;
  }

  get canUndo(): boolean {
    return this.past.length > 0;
  }

  get canRedo(): boolean {
    return this.future.length > 0;
  }

  /** A new state; those that were undone before it are gone. */
  put(state: T): void {
    if (state === this.present) return;
    this.past.push(this.present);
    this.present = state;
    this.future.length = 0;
  }

  undo(): T {
    const state = this.past.pop();
    if (state !== undefined) {
      this.future.push(this.present);
      this.present = state;
    }
    return this.present;
  }

  redo(): T {
    const state = this.future.pop();
    if (state !== undefined) {
      this.past.push(this.present);
      this.present = state;
    }
    return this.present;
  }
}
