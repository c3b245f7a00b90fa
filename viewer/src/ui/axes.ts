// How the world's axes lie in the picture.
import type { Camera } from "three";
import { byId } from "./dom";

const NAMES = ["x", "y", "z"] as const;
const REACH = 34;

export function showAxes(camera: Camera): void {
  const rows = camera.matrixWorldInverse.elements;
  const drawn = NAMES.map((name, k) => {
    const [x, y, depth] = [rows[4 * k]!, -rows[4 * k + 1]!, rows[4 * k + 2]!];
    return { name, x: REACH * x, y: REACH * y, depth };
  });
  drawn.sort((a, b) => a.depth - b.depth);
  const parts = drawn.map(({ name, x, y, depth }) => {
    const look = `opacity="${(0.7 + 0.3 * depth).toFixed(2)}"`;
    const [tx, ty] = [1.36 * x, 1.36 * y].map((v) => v.toFixed(1));
    const line = `<line x2="${x.toFixed(1)}" y2="${y.toFixed(1)}" stroke="var(--${name})" ${look}/>`;
    return `${line}<text x="${tx}" y="${ty}" fill="var(--${name})" ${look}>${name.toUpperCase()}</text>`;
  });
  byId<SVGElement>("axes").innerHTML = parts.join("");
}
