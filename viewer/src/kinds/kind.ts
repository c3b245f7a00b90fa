// What every kind of scene is given, and what it brings.
import type { Manifest } from "../protocol";
import type { NumberArray } from "../source";
import type { Act, Stage } from "../stage";

export interface Toggle {
  type: "toggle";
  label: string;
  key: string;
  on: boolean;
  set(on: boolean): void;
}

export interface Range {
  type: "range";
  label: string;
  /** Keys that make it smaller and larger. */
  keys: readonly [string, string];
  /** As an exponent of 2; 0 is what is right by itself. */
  value: number;
  low: number;
  high: number;
  set(factor: number): void;
}

export type Control = Toggle | Range;

export interface Kind extends Act {
  controls: Control[];
  /** Told when the page around it is there. */
  begin?(): void;
  /** Told when the theme changes. */
  themed?(dark: boolean): void;
}

export interface Setting {
  stage: Stage;
  scene: Manifest;
  /** The numbers of the array with this name. */
  load(name: string): Promise<NumberArray>;
}
