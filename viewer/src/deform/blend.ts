// Weights and positions on the GPU. Weights are mixed when the set of handles changes, positions
// computed when a handle moves, and the mesh is drawn from them.
import { ROW, rowsFor } from "../rows";
import { fillRows, makeTexture, OUTPUTS, plainState, Program, Target } from "./gpu";
import type { Column, Plane } from "./maps";
import { MOST_PLANES, TEXELS, writeColumn } from "./maps";
import { MOST_SITES, packPins, packPlan, type Plan } from "./plan";
import deformCode from "./shaders/deform.frag.glsl";
import fallCode from "./shaders/fall.frag.glsl";
import mixCode from "./shaders/mix.frag.glsl";
import pinFragment from "./shaders/pin.frag.glsl";
import pinVertex from "./shaders/pin.vert.glsl";
import totalCode from "./shaders/total.frag.glsl";

const BLOCK = 4 * OUTPUTS; // handles of a pass
const MOST_COLUMNS = MOST_SITES * 2 ** MOST_PLANES;
const NOBODY = 1 << 20;

export interface Pose {
  columns: readonly Column[];
  planes: readonly Plane[];
  linear: boolean;
  /** The origin about which weights beyond 1 scale, as published. */
  published: readonly number[] | undefined;
}

export class Blend {
  readonly width = ROW;
  readonly height: number;
  /** Positions at rest, and where they are. */
  readonly rest: WebGLTexture;
  readonly moved: WebGLTexture;
  weights: WebGLTexture;
  private layers = 1; // of weights
  private rows: WebGLTexture | undefined;
  private capacity = 0; // of rows
  private readonly data: (Uint16Array | undefined)[] = [];
  private readonly total: WebGLTexture;
  private readonly small: Record<"sites" | "handles" | "falls" | "matrix" | "columns", WebGLTexture>;
  // A framebuffer each: none may hold what another's pass reads.
  private readonly targets: Record<"positions" | "total" | "weights" | "reading", Target>;
  private readonly empty: WebGLVertexArrayObject;
  private readonly pins: Pins;
  private pinned = 0;
  private readonly mixing: Program;
  private readonly pinning: Program;
  private readonly totalling: Program;
  private readonly falling: Program;
  private readonly deforming: Program;
  private readonly table = new Float32Array(4 * TEXELS * MOST_COLUMNS);
  private readonly planes = new Float32Array(4 * MOST_PLANES);
  private readonly origin = new Float32Array(4);
  private wanted: Pose | undefined;
  /** What the table holds. */
  private written: Pick<Pose, "columns" | "linear"> = { columns: [], linear: false };

  constructor(
    private readonly gl: WebGL2RenderingContext,
    positions: Float32Array,
  ) {
    if (!gl.getExtension("EXT_color_buffer_float"))
      throw new Error("this browser's GPU cannot draw into floating-point textures");
    const count = positions.length / 3;
    this.height = rowsFor(gl, count, "positions");
    this.rest = this.texture(gl.RGBA32F);
    const padded = new Float32Array(4 * count);
    for (let i = 0; i < count; i++) {
      padded.set(positions.subarray(3 * i, 3 * i + 3), 4 * i);
      padded[4 * i + 3] = 1;
    }
    fillRows(gl, gl.RGBA, gl.FLOAT, 4, padded);
    this.moved = this.texture(gl.RGBA32F);
    this.total = this.texture(gl.R16F);
    this.weights = makeTexture(gl, gl.RGBA16F, this.width, this.height, this.layers);
    this.small = {
      sites: makeTexture(gl, gl.RGBA32F, 2 * MOST_SITES, 1),
      handles: makeTexture(gl, gl.RGBA32F, MOST_SITES, 1),
      falls: makeTexture(gl, gl.RGBA32F, MOST_SITES, 1),
      matrix: makeTexture(gl, gl.RGBA32F, 2 * MOST_SITES, MOST_SITES / 4),
      columns: makeTexture(gl, gl.RGBA32F, TEXELS, MOST_COLUMNS),
    };
    this.targets = {
      positions: new Target(gl),
      total: new Target(gl),
      weights: new Target(gl),
      reading: new Target(gl),
    };
    this.empty = gl.createVertexArray()!;
    this.pins = makePins(gl);
    this.mixing = new Program(gl, mixCode);
    this.pinning = new Program(gl, pinFragment, pinVertex);
    this.totalling = new Program(gl, totalCode);
    this.falling = new Program(gl, fallCode);
    this.deforming = new Program(gl, deformCode);
    this.deform({ columns: [], planes: [], linear: false, published: undefined });
  }

  /** Distances of all positions, 65535ths of the longest; the layer that has them. */
  addRow(data: Uint16Array): number {
    const { gl } = this;
    let layer = this.data.indexOf(undefined);
    if (layer < 0) layer = this.data.length;
    this.data[layer] = data;
    if (layer >= this.capacity) {
      // Twice as many from the start: what is there is put there again.
      this.capacity = Math.max(4, 2 * this.capacity);
      if (this.rows) gl.deleteTexture(this.rows);
      this.rows = makeTexture(gl, gl.R16UI, this.width, this.height, this.capacity);
      this.data.forEach((row, k) => row && this.fillRow(row, k));
    } else {
      gl.activeTexture(gl.TEXTURE0);
      gl.bindTexture(gl.TEXTURE_2D_ARRAY, this.rows!);
      this.fillRow(data, layer);
    }
    return layer;
  }

  dropRow(layer: number): void {
    this.data[layer] = undefined;
  }

  /** Compute all weights. */
  mix(plan: Plan): void {
    const { gl } = this;
    if (!plan.handles || !this.rows) return;
    this.reserve(Math.ceil(plan.handles / 4));
    this.fillPlan(plan);
    plainState(gl, this.empty);
    for (let first = 0; first < plan.handles; first += BLOCK) this.mixBlock(plan, first);
    this.targets.total.bind([this.total], this.width, this.height);
    if (plan.mix) {
      this.totalling.use();
      this.totalling.texture("weights", 0, gl.TEXTURE_2D_ARRAY, this.weights);
      this.totalling.whole("layers", Math.ceil(plan.handles / 4));
      this.cover();
    } else {
      gl.clearBufferfv(gl.COLOR, 0, [1, 1, 1, 1]);
    }
    gl.enable(gl.BLEND);
    gl.blendEquation(gl.FUNC_ADD);
    gl.blendFunc(gl.DST_COLOR, gl.ZERO);
    for (let first = 0; first < plan.handles; first += BLOCK) this.fallBlock(plan, first);
    gl.disable(gl.BLEND);
  }

  /** Compute all positions, once they are looked at: several changes of a frame cost one pass. */
  deform(pose: Pose): void {
    this.wanted = pose;
  }

  /** Compute what `deform` has left to do. Whether that was anything. */
  flush(): boolean {
    if (!this.wanted) return false;
    const { gl, deforming } = this;
    const { columns, planes, linear, published } = this.wanted;
    this.wanted = undefined;
    const before = this.written.linear === linear ? this.written.columns : [];
    columns.forEach((column, k) => {
      if (column !== before[k]) writeColumn(column, linear, this.table, 4 * TEXELS * k);
    });
    this.written = { columns, linear };
    planes.forEach(({ normal, offset }, k) => this.planes.set([...normal, offset], 4 * k));
    this.origin.fill(0);
    if (published) this.origin.set([...published, 1]);
    plainState(gl, this.empty);
    if (columns.length) {
      gl.activeTexture(gl.TEXTURE0);
      gl.bindTexture(gl.TEXTURE_2D, this.small.columns);
      upload(gl, TEXELS, columns.length, this.table);
    }
    this.targets.positions.bindOne(this.moved, this.width, this.height);
    deforming.use();
    deforming.texture("rest", 0, gl.TEXTURE_2D, this.rest);
    deforming.texture("columns", 1, gl.TEXTURE_2D, this.small.columns);
    deforming.texture("weights", 2, gl.TEXTURE_2D_ARRAY, this.weights);
    deforming.whole("column_count", columns.length);
    deforming.vector4("planes", this.planes);
    deforming.vector4("published_origin", this.origin);
    this.cover();
    return true;
  }

  /** Put positions [P, 3] in the place of computed ones, until the next `deform`. */
  put(positions: Float32Array): void {
    const { gl } = this;
    this.wanted = undefined;
    const padded = new Float32Array((4 * positions.length) / 3);
    for (let i = 0, j = 0; i < positions.length; i += 3, j += 4)
      for (let k = 0; k < 3; k++) padded[j + k] = positions[i + k]!;
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, this.moved);
    fillRows(gl, gl.RGBA, gl.FLOAT, 4, padded);
  }

  /** Positions as they are drawn: four numbers each, `ROW` of them in a row. */
  readPositions(): Float32Array {
    this.flush();
    return this.read(this.moved, 0, 0, this.width, this.height);
  }

  /** Where one position is drawn. */
  readPosition(index: number): Float32Array {
    this.flush();
    return this.read(this.moved, index % ROW, Math.floor(index / ROW), 1, 1);
  }

  private read(texture: WebGLTexture, x: number, y: number, width: number, height: number): Float32Array {
    const { gl } = this;
    this.targets.reading.bindOne(texture, this.width, this.height);
    const found = new Float32Array(4 * width * height);
    gl.readPixels(x, y, width, height, gl.RGBA, gl.FLOAT, found);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    return found;
  }

  private texture(format: number): WebGLTexture {
    return makeTexture(this.gl, format, this.width, this.height);
  }

  private fillRow(data: Uint16Array, layer: number): void {
    const { gl } = this;
    fillRows(gl, gl.RED_INTEGER, gl.UNSIGNED_SHORT, 1, data, layer);
  }

  private reserve(layers: number): void {
    if (layers <= this.layers) return;
    while (this.layers < layers) this.layers *= 2;
    this.gl.deleteTexture(this.weights);
    this.weights = makeTexture(this.gl, this.gl.RGBA16F, this.width, this.height, this.layers);
  }

  private fillPlan(plan: Plan): void {
    const { gl } = this;
    const { sites, handles, falls, matrix } = packPlan(plan);
    const pins = packPins(plan);
    this.put2(this.small.sites, sites);
    this.put2(this.small.handles, handles);
    this.put2(this.small.falls, falls);
    if (matrix) this.put2(this.small.matrix, matrix.data, matrix.width);
    this.pinned = pins.positions.length;
    gl.bindBuffer(gl.ARRAY_BUFFER, this.pins.positions);
    gl.bufferData(gl.ARRAY_BUFFER, pins.positions, gl.DYNAMIC_DRAW);
    gl.bindBuffer(gl.ARRAY_BUFFER, this.pins.claims);
    gl.bufferData(gl.ARRAY_BUFFER, pins.claims, gl.DYNAMIC_DRAW);
  }

  /** Texels into a small texture, in rows of the given width. */
  private put2(texture: WebGLTexture, data: Float32Array, width = data.length / 4): void {
    const { gl } = this;
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, texture);
    upload(gl, width, data.length / 4 / width, data);
  }

  private mixBlock(plan: Plan, first: number): void {
    const { gl, mixing, pinning } = this;
    const count = Math.min(OUTPUTS, Math.ceil((plan.handles - first) / 4));
    this.targets.weights.bindLayers(this.weights, first / 4, count, this.width, this.height);
    mixing.use();
    mixing.texture("rows", 0, gl.TEXTURE_2D_ARRAY, this.rows!);
    mixing.texture("sites", 1, gl.TEXTURE_2D, this.small.sites);
    mixing.texture("matrix", 2, gl.TEXTURE_2D, this.small.matrix);
    mixing.texture("handles", 3, gl.TEXTURE_2D, this.small.handles);
    mixing.whole("site_count", plan.sites.length);
    mixing.whole("handle_count", plan.handles);
    mixing.whole("first_handle", first);
    const { radius, power } = plan.mix?.kernel ?? plan.kernel;
    mixing.number("radius", radius);
    mixing.number("power", power);
    mixing.whole("published", plan.mix ? 0 : 1);
    this.cover();
    if (!this.pinned) return;
    gl.bindVertexArray(this.pins.array);
    pinning.use();
    pinning.vector2("size", this.width, this.height);
    pinning.whole("first_handle", NOBODY); // all 0
    gl.drawArrays(gl.POINTS, 0, this.pinned);
    gl.enable(gl.BLEND);
    gl.blendEquation(gl.FUNC_ADD);
    gl.blendFunc(gl.ONE, gl.ONE);
    pinning.whole("first_handle", first);
    gl.drawArrays(gl.POINTS, 0, this.pinned);
    gl.disable(gl.BLEND);
    gl.bindVertexArray(this.empty);
  }

  private fallBlock(plan: Plan, first: number): void {
    const { gl, falling } = this;
    const count = Math.min(OUTPUTS, Math.ceil((plan.handles - first) / 4));
    this.targets.weights.bindLayers(this.weights, first / 4, count, this.width, this.height);
    falling.use();
    falling.texture("rows", 0, gl.TEXTURE_2D_ARRAY, this.rows!);
    falling.texture("total", 1, gl.TEXTURE_2D, this.total);
    falling.texture("falls", 2, gl.TEXTURE_2D, this.small.falls);
    falling.whole("handle_count", plan.handles);
    falling.whole("first_handle", first);
    this.cover();
  }

  private cover(): void {
    this.gl.drawArrays(this.gl.TRIANGLES, 0, 3);
  }
}

interface Pins {
  array: WebGLVertexArrayObject;
  positions: WebGLBuffer;
  claims: WebGLBuffer;
}

function makePins(gl: WebGL2RenderingContext): Pins {
  const array = gl.createVertexArray()!;
  const [positions, claims] = [gl.createBuffer()!, gl.createBuffer()!];
  gl.bindVertexArray(array);
  gl.bindBuffer(gl.ARRAY_BUFFER, positions);
  gl.enableVertexAttribArray(0);
  gl.vertexAttribIPointer(0, 1, gl.UNSIGNED_INT, 0, 0);
  gl.bindBuffer(gl.ARRAY_BUFFER, claims);
  gl.enableVertexAttribArray(1);
  gl.vertexAttribPointer(1, 2, gl.FLOAT, false, 0, 0);
  gl.bindVertexArray(null);
  return { array, positions, claims };
}

function upload(gl: WebGL2RenderingContext, width: number, height: number, data: Float32Array): void {
  gl.pixelStorei(gl.UNPACK_FLIP_Y_WEBGL, false);
  gl.pixelStorei(gl.UNPACK_PREMULTIPLY_ALPHA_WEBGL, false);
  gl.texSubImage2D(gl.TEXTURE_2D, 0, 0, 0, width, height, gl.RGBA, gl.FLOAT, data, 0);
}
