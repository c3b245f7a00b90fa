// The lines of a wireframe.

/** The distinct edges of triangles [F, 3] as pairs of vertices [E, 2]; of faces without area too. */
export function distinctEdges(faces: Uint32Array, vertices: number): Uint32Array {
  const keys = new Float64Array(faces.length); // exact below 2^53: up to 94 million vertices
  let count = 0;
  for (let at = 0; at < faces.length; at += 3) {
    for (let k = 0; k < 3; k++) {
      const a = faces[at + k]!;
      const b = faces[at + ((k + 1) % 3)]!;
      if (a !== b) keys[count++] = Math.min(a, b) * vertices + Math.max(a, b);
    }
  }
  const sorted = keys.subarray(0, count).sort();
  const pairs = new Uint32Array(2 * count);
  let found = 0;
  for (let i = 0; i < count; i++) {
    const key = sorted[i]!;
    if (i > 0 && key === sorted[i - 1]) continue;
    pairs[2 * found] = Math.floor(key / vertices);
    pairs[2 * found + 1] = key % vertices;
    found++;
  }
  return pairs.slice(0, 2 * found);
}
