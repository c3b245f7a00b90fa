// Which face is where in the picture, of the mesh as it is deformed.
import type * as THREE from "three";
import { add, cross, dot, scale, sub } from "../framing";
import type { Vector } from "../protocol";
import { ROW, rowsFor } from "../rows";
import type { Blend } from "./blend";
import { fillRows, makeTexture, plainState, Program } from "./gpu";
import fragmentCode from "./shaders/pick.frag.glsl";
import vertexCode from "./shaders/pick.vert.glsl";

export interface Hit {
  /** As it is drawn, which is not its number in the file where materials are several. */
  face: number;
  barycentric: Vector;
  /** Relative to the scene's origin. */
  point: Vector;
  normal: Vector;
}

export class Picker {
  private readonly program: Program;
  private readonly corners: WebGLTexture;
  private readonly empty: WebGLVertexArrayObject;
  private readonly framebuffer: WebGLFramebuffer;
  private readonly color: WebGLRenderbuffer;
  private readonly depth: WebGLRenderbuffer;
  private size = [0, 0];

  constructor(
    private readonly renderer: THREE.WebGLRenderer,
    private readonly blend: Blend,
    private readonly faces: Uint32Array,
  ) {
    const gl = renderer.getContext() as WebGL2RenderingContext;
    const height = rowsFor(gl, faces.length, "corners");
    this.program = new Program(gl, fragmentCode, vertexCode);
    this.corners = makeTexture(gl, gl.R32UI, ROW, height);
    fillRows(gl, gl.RED_INTEGER, gl.UNSIGNED_INT, 1, faces);
    this.empty = gl.createVertexArray()!;
    this.framebuffer = gl.createFramebuffer()!;
    this.color = gl.createRenderbuffer()!;
    this.depth = gl.createRenderbuffer()!;
  }

  /** What is at a place of the picture, -1 to 1 each way; undefined: nothing. */
  at(camera: THREE.PerspectiveCamera, x: number, y: number): Hit | undefined {
    const size = this.renderer.domElement;
    const found = this.draw(camera, [x, y, size.width, size.height], 1, 1);
    const face = found[0]! - 1;
    const hit = face < 0 ? undefined : this.hit(camera, face, x, y);
    this.renderer.resetState(); // reading corners leaves a state of its own
    return hit;
  }

  /** Everything that is seen, at the given size, rows from the bottom: of each pixel the face's
   *  number + 1, 0 for none, and the bits of its depth. */
  all(camera: THREE.PerspectiveCamera, width: number, height: number): Uint32Array {
    const seen = this.draw(camera, [0, 0, 1, 1], width, height);
    this.renderer.resetState();
    return seen;
  }

  /** Corners of a face as they are drawn. */
  private corner(face: number): [Vector, Vector, Vector] {
    const read = (k: number): Vector => {
      const [x, y, z] = this.blend.readPosition(this.faces[3 * face + k]!);
      return [x!, y!, z!];
    };
    return [read(0), read(1), read(2)];
  }

  private draw(
    camera: THREE.PerspectiveCamera,
    window: readonly number[],
    width: number,
    height: number,
  ): Uint32Array {
    const gl = this.renderer.getContext() as WebGL2RenderingContext;
    const { program } = this;
    this.blend.flush();
    this.resize(gl, width, height);
    plainState(gl, this.empty);
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.framebuffer);
    gl.viewport(0, 0, width, height);
    gl.enable(gl.DEPTH_TEST);
    gl.depthFunc(gl.LEQUAL);
    gl.depthMask(true);
    gl.clearBufferuiv(gl.COLOR, 0, [0, 0, 0, 0]);
    gl.clearBufferfv(gl.DEPTH, 0, [1]);
    program.use();
    program.texture("corners", 0, gl.TEXTURE_2D, this.corners);
    program.texture("moved", 1, gl.TEXTURE_2D, this.blend.moved);
    program.matrix4("view", camera.matrixWorldInverse.elements);
    program.matrix4("projection", camera.projectionMatrix.elements);
    program.vector4("window", new Float32Array(window));
    gl.drawArrays(gl.TRIANGLES, 0, this.faces.length);
    const read = new Uint32Array(4 * width * height);
    gl.readPixels(0, 0, width, height, gl.RGBA_INTEGER, gl.UNSIGNED_INT, read);
    gl.bindFramebuffer(gl.FRAMEBUFFER, null);
    return read;
  }

  private resize(gl: WebGL2RenderingContext, width: number, height: number): void {
    if (this.size[0] === width && this.size[1] === height) return;
    this.size = [width, height];
    gl.bindFramebuffer(gl.FRAMEBUFFER, this.framebuffer);
    for (const [buffer, format, place] of [
      [this.color, gl.RGBA32UI, gl.COLOR_ATTACHMENT0],
      [this.depth, gl.DEPTH_COMPONENT24, gl.DEPTH_ATTACHMENT],
    ] as const) {
      gl.bindRenderbuffer(gl.RENDERBUFFER, buffer);
      gl.renderbufferStorage(gl.RENDERBUFFER, format, width, height);
      gl.framebufferRenderbuffer(gl.FRAMEBUFFER, place, gl.RENDERBUFFER, buffer);
    }
    gl.bindRenderbuffer(gl.RENDERBUFFER, null);
  }

  private hit(camera: THREE.PerspectiveCamera, face: number, x: number, y: number): Hit {
    const [a, b, c] = this.corner(face);
    const { eye, direction } = ray(camera, x, y);
    const barycentric = clamped(intersect(a, b, c, eye, direction));
    const [u, v, w] = barycentric;
    const point = add(add(scale(a, u), scale(b, v)), scale(c, w));
    const n = cross(sub(b, a), sub(c, a));
    const facing = dot(n, direction) > 0 ? -1 : 1;
    return { face, barycentric, point, normal: scale(n, facing / (Math.hypot(...n) || 1)) };
  }
}

/** The line of sight through a place of the picture, -1 to 1 each way. */
export function ray(
  camera: THREE.PerspectiveCamera,
  x: number,
  y: number,
): { eye: Vector; direction: Vector } {
  const M = camera.matrixWorld.elements;
  const slope = Math.tan((camera.fov * Math.PI) / 360);
  const [right, up] = [x * slope * camera.aspect, y * slope];
  const along = (k: number) => M[k]! * right + M[4 + k]! * up - M[8 + k]!;
  return { eye: [M[12]!, M[13]!, M[14]!], direction: [along(0), along(1), along(2)] };
}

/** Barycentric weights of where a line meets the plane of a triangle. */
export function intersect(a: Vector, b: Vector, c: Vector, eye: Vector, direction: Vector): Vector {
  const [e1, e2, s] = [sub(b, a), sub(c, a), sub(eye, a)];
  const p = cross(direction, e2);
  const volume = dot(e1, p);
  if (volume === 0) return [1 / 3, 1 / 3, 1 / 3];
  const v = dot(s, p) / volume;
  const w = dot(direction, cross(s, e1)) / volume;
  return [1 - v - w, v, w];
}

/** The nearest weights that lie in the triangle, but for rounding: what was picked is in it. */
function clamped(weights: Vector): Vector {
  const [u, v, w] = weights.map((value) => Math.max(0, value)) as [number, number, number];
  const sum = u + v + w;
  return [u / sum, v / sum, w / sum];
}
