// Passes that compute into textures, beside three.js in the same context: it must be told afterwards
// (`renderer.resetState`) that its notion of the state is void.
import { ROW } from "../rows";
import screenCode from "./shaders/cover.vert.glsl";

export class Program {
  private readonly program: WebGLProgram;
  private readonly places = new Map<string, WebGLUniformLocation | null>();

  constructor(
    private readonly gl: WebGL2RenderingContext,
    fragment: string,
    vertex = screenCode,
  ) {
    this.program = linked(gl, vertex, fragment);
  }

  use(): void {
    this.gl.useProgram(this.program);
  }

  texture(name: string, unit: number, target: number, texture: WebGLTexture): void {
    const { gl } = this;
    gl.activeTexture(gl.TEXTURE0 + unit);
    gl.bindTexture(target, texture);
    gl.bindSampler(unit, null);
    gl.uniform1i(this.place(name), unit);
  }

  whole(name: string, value: number): void {
    this.gl.uniform1i(this.place(name), value);
  }

  number(name: string, value: number): void {
    this.gl.uniform1f(this.place(name), value);
  }

  vector2(name: string, x: number, y: number): void {
    this.gl.uniform2f(this.place(name), x, y);
  }

  vector4(name: string, values: Float32Array): void {
    this.gl.uniform4fv(this.place(name), values);
  }

  matrix4(name: string, values: Float32Array | number[]): void {
    this.gl.uniformMatrix4fv(this.place(name), false, values);
  }

  private place(name: string): WebGLUniformLocation | null {
    let found = this.places.get(name);
    if (found === undefined) {
      found = this.gl.getUniformLocation(this.program, name);
      this.places.set(name, found);
    }
    return found;
  }
}

function linked(gl: WebGL2RenderingContext, vertex: string, fragment: string): WebGLProgram {
  const program = gl.createProgram()!;
  for (const [kind, code] of [
    [gl.VERTEX_SHADER, vertex],
    [gl.FRAGMENT_SHADER, fragment],
  ] as const) {
    const shader = gl.createShader(kind)!;
    gl.shaderSource(shader, `#version 300 es\n${code}`);
    gl.compileShader(shader);
    gl.attachShader(program, shader);
    gl.deleteShader(shader);
  }
  gl.linkProgram(program);
  if (!gl.getProgramParameter(program, gl.LINK_STATUS) && !gl.isContextLost()) {
    const shaders = gl.getAttachedShaders(program) ?? [];
    const why = [...shaders.map((s) => gl.getShaderInfoLog(s)), gl.getProgramInfoLog(program)];
    throw new Error(`a shader does not compile here: ${why.filter(Boolean).join(" ")}`);
  }
  return program;
}

/** A texture without filtering. `layers` of 0: not an array. */
export function makeTexture(
  gl: WebGL2RenderingContext,
  format: number,
  width: number,
  height: number,
  layers = 0,
): WebGLTexture {
  const texture = gl.createTexture()!;
  const target = layers ? gl.TEXTURE_2D_ARRAY : gl.TEXTURE_2D;
  gl.activeTexture(gl.TEXTURE0);
  gl.bindTexture(target, texture);
  if (layers) gl.texStorage3D(target, 1, format, width, height, layers);
  else gl.texStorage2D(target, 1, format, width, height);
  for (const name of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER])
    gl.texParameteri(target, name, gl.NEAREST);
  for (const name of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T])
    gl.texParameteri(target, name, gl.CLAMP_TO_EDGE);
  return texture;
}

/** Numbers into a texture of `ROW` wide rows, `channels` a texel; what they do not fill stays. */
export function fillRows(
  gl: WebGL2RenderingContext,
  format: number,
  type: number,
  channels: number,
  data: ArrayBufferView,
  layer?: number,
): void {
  const texels = (data as Float32Array).length / channels;
  const full = Math.floor(texels / ROW);
  // three.js leaves its own wishes behind.
  gl.pixelStorei(gl.UNPACK_FLIP_Y_WEBGL, false);
  gl.pixelStorei(gl.UNPACK_PREMULTIPLY_ALPHA_WEBGL, false);
  gl.pixelStorei(gl.UNPACK_ALIGNMENT, 1);
  const put = (row: number, width: number, height: number, first: number) => {
    if (layer === undefined)
      gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, row, width, height, format, type, data, first);
    else
      gl.texSubImage3D(
        gl.TEXTURE_2D_ARRAY, 0, 0, row, layer, width, height, 1, format, type, data, first,
      );
  };
  if (full) put(0, ROW, full, 0);
  if (texels > full * ROW) put(full, texels - full * ROW, 1, full * ROW * channels);
  gl.pixelStorei(gl.UNPACK_ALIGNMENT, 4);
}

/** A framebuffer that draws into textures, one output of the shader for each. */
export class Target {
  private readonly framebuffer: WebGLFramebuffer;

  constructor(private readonly gl: WebGL2RenderingContext) {
    this.framebuffer = gl.createFramebuffer()!;
  }

  /** Bind it. Of an array, outputs go to as many of its layers from `first` on. */
  bind(textures: readonly WebGLTexture[], width: number, height: number): void {
    const { gl } = this;
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.framebuffer);
    textures.forEach((texture, k) =>
      gl.framebufferTexture2D(
        gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0 + k, gl.TEXTURE_2D, texture, 0,
      ),
    );
    this.finish(textures.length, width, height);
  }

  /** Bind it to read from one texture. */
  bindOne(texture: WebGLTexture, width: number, height: number): void {
    const { gl } = this;
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.framebuffer);
    for (let k = 1; k < OUTPUTS; k++)
      gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0 + k, gl.TEXTURE_2D, null, 0);
    this.bind([texture], width, height);
  }

  bindLayers(array: WebGLTexture, first: number, count: number, width: number, height: number): void {
    const { gl } = this;
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.framebuffer);
    for (let k = 0; k < OUTPUTS; k++)
      gl.framebufferTextureLayer(
        gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0 + k, k < count ? array : null, 0, k < count ? first + k : 0,
      );
    this.finish(count, width, height);
  }

  private finish(count: number, width: number, height: number): void {
    const { gl } = this;
    gl.drawBuffers(BUFFERS.slice(0, count).map((k) => gl.COLOR_ATTACHMENT0 + k));
    gl.viewport(0, 0, width, height);
  }
}

/** As many outputs as WebGL2 promises. */
export const OUTPUTS = 4;
const BUFFERS = [0, 1, 2, 3];

/** What a pass over texels needs of the fixed functions. */
export function plainState(gl: WebGL2RenderingContext, vertices: WebGLVertexArrayObject): void {
  for (const what of [gl.BLEND, gl.DEPTH_TEST, gl.SCISSOR_TEST, gl.CULL_FACE, gl.STENCIL_TEST])
    gl.disable(what);
  gl.disable(gl.POLYGON_OFFSET_FILL);
  gl.depthMask(false);
  gl.colorMask(true, true, true, true);
  gl.bindVertexArray(vertices);
}
