// Gaussian splats, sorted in a worker and composited in display-referred colours.
import * as THREE from "three";
import { ROW, rowsFor } from "../rows";
import { raw, ScreenPass } from "../screen";
import copyCode from "../shaders/copy.frag.glsl";
import fragmentCode from "../shaders/splats.frag.glsl";
import vertexCode from "../shaders/splats.vert.glsl";
import type { Request } from "../sort.worker";
import sorterProgram from "../sort.worker.ts?worker";
import type { Kind, Setting } from "./kind";

export async function showSplats({ stage, scene, load }: Setting): Promise<Kind> {
  const { renderer, camera } = stage;
  const means = (await load("means")) as Float32Array<ArrayBuffer>;
  const count = means.length / 3;
  const rows = rowsFor(renderer.getContext() as WebGL2RenderingContext, count);
  const coefficients = scene.blobs["harmonics"]!.shape[1]!;
  const uniforms = {
    means: { value: texture(joined(means, (await load("opacities")) as Float32Array), rows) },
    rotations: { value: texture((await load("rotations")) as Float32Array, rows) },
    scales: { value: texture(joined((await load("scales")) as Float32Array), rows) },
    harmonics: { value: layers((await load("harmonics")) as Uint16Array, coefficients, rows) },
    cam_from_world: { value: new THREE.Matrix4() },
    eye: { value: new THREE.Vector3() },
    size_px: { value: new THREE.Vector2() },
    focal_px: { value: 1 },
    magnification: { value: 1 },
    degree: { value: Math.round(Math.sqrt(coefficients / 3)) - 1 },
  };

  const geometry = new THREE.InstancedBufferGeometry();
  const corners = new Float32Array([-1, -1, 1, -1, -1, 1, 1, 1]);
  geometry.setAttribute("corner", new THREE.BufferAttribute(corners, 2));
  geometry.setIndex([0, 1, 2, 2, 1, 3]);
  const element = new THREE.InstancedBufferAttribute(new Uint32Array(count), 1);
  element.setUsage(THREE.DynamicDrawUsage);
  geometry.setAttribute("element", element);
  geometry.instanceCount = 0;
  const material = raw(vertexCode, fragmentCode, uniforms, {
    depthTest: false,
    depthWrite: false,
    side: THREE.DoubleSide,
    transparent: true,
    blending: THREE.CustomBlending,
    blendSrc: THREE.OneFactor,
    blendDst: THREE.OneMinusSrcAlphaFactor,
    blendSrcAlpha: THREE.OneFactor,
    blendDstAlpha: THREE.OneMinusSrcAlphaFactor,
  });
  const quads = new THREE.Mesh(geometry, material);
  quads.frustumCulled = false;
  const world = new THREE.Scene();
  world.add(quads);

  // Eight bits would round at every splat that covers a pixel.
  const wide = renderer.getContext().getExtension("EXT_color_buffer_float") !== null;
  const target = new THREE.WebGLRenderTarget(1, 1, {
    type: wide ? THREE.HalfFloatType : THREE.UnsignedByteType,
    depthBuffer: false,
    magFilter: THREE.NearestFilter,
    minFilter: THREE.NearestFilter,
  });
  const copy = new ScreenPass(copyCode, {
    picture: { value: target.texture },
    flip: { value: new THREE.Vector2(0, 1) },
  });

  const program = URL.createObjectURL(new Blob([sorterProgram], { type: "text/javascript" }));
  const worker = new Worker(program);
  URL.revokeObjectURL(program);
  const ask = (request: Request) => worker.postMessage(request);
  ask({ means });
  let sorting = false;
  let stale = true;

  function sort(): void {
    if (sorting) {
      stale = true;
      return;
    }
    sorting = true;
    stale = false;
    const forward = camera.getWorldDirection(new THREE.Vector3()).toArray();
    ask({ eye: camera.position.toArray(), forward, near: scene.near! });
  }

  worker.onmessage = ({ data }: MessageEvent<Uint32Array<ArrayBuffer>>) => {
    element.array.set(data);
    element.clearUpdateRanges();
    element.addUpdateRange(0, data.length);
    element.needsUpdate = true;
    geometry.instanceCount = data.length;
    sorting = false;
    stage.invalidate();
    if (stale) sort();
  };
  worker.onerror = () => {
    throw new Error("the splats cannot be sorted: the browser lets no worker start");
  };
  sort();

  return {
    settled: () => !sorting && !stale,
    looked: sort,
    draw() {
      const size = stage.sizePx;
      target.setSize(size.x, size.y);
      uniforms.size_px.value.copy(size);
      uniforms.focal_px.value = stage.focalPx;
      uniforms.eye.value.copy(camera.position);
      const axes = uniforms.cam_from_world.value.makeScale(1, -1, -1);
      axes.multiply(camera.matrixWorldInverse);
      renderer.setRenderTarget(target);
      renderer.clear();
      renderer.render(world, camera);
      renderer.setRenderTarget(null);
      copy.draw(renderer);
    },
    controls: [
      {
        type: "range",
        label: "Splat size",
        keys: ["[", "]"],
        value: 0,
        low: -4,
        high: 0,
        set(factor) {
          uniforms.magnification.value = factor;
          stage.invalidate();
        },
      },
    ],
  };
}

/** Triples [N, 3] with a fourth number each. */
function joined(triples: Float32Array, fourth?: Float32Array): Float32Array {
  const made = new Float32Array((4 * triples.length) / 3);
  for (let i = 0, from = 0, to = 0; from < triples.length; i++, to += 4) {
    made[to] = triples[from++]!;
    made[to + 1] = triples[from++]!;
    made[to + 2] = triples[from++]!;
    made[to + 3] = fourth?.[i] ?? 0;
  }
  return made;
}

function texture(texels: Float32Array, rows: number): THREE.DataTexture {
  const data = new Float32Array(4 * ROW * rows);
  data.set(texels);
  const made = new THREE.DataTexture(data, ROW, rows, THREE.RGBAFormat, THREE.FloatType);
  made.needsUpdate = true;
  return made;
}

/** Half floats [N, C] as layers of four coefficients each. */
function layers(values: Uint16Array, coefficients: number, rows: number): THREE.DataArrayTexture {
  const depth = Math.ceil(coefficients / 4);
  const data = new Uint16Array(4 * ROW * rows * depth);
  for (let from = 0, texel = 0; from < values.length; from += coefficients, texel++)
    for (let c = 0; c < coefficients; c++)
      data[4 * (ROW * rows * (c >> 2) + texel) + (c & 3)] = values[from + c]!;
  const made = new THREE.DataArrayTexture(data, ROW, rows, depth);
  made.format = THREE.RGBAFormat;
  made.type = THREE.HalfFloatType;
  made.needsUpdate = true;
  return made;
}
