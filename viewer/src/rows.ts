// Textures that hold lists: rows of a fixed length.

/** Texels in a row, at least as many as WebGL2 promises; the shaders say the same. */
export const ROW = 2048;

/** How many rows a list takes. Throws Error where the GPU has no texture so high. */
export function rowsFor(gl: WebGL2RenderingContext, count: number, what = "elements"): number {
  const rows = Math.ceil(count / ROW);
  const most = gl.getParameter(gl.MAX_TEXTURE_SIZE) as number;
  if (rows > most) throw new Error(`${count} ${what} are more than this GPU takes (${most * ROW})`);
  return rows;
}
