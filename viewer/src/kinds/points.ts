// Point clouds as discs, with eye-dome lighting.
import * as THREE from "three";
import { raw, ScreenPass } from "../screen";
import domeCode from "../shaders/dome.frag.glsl";
import fragmentCode from "../shaders/points.frag.glsl";
import vertexCode from "../shaders/points.vert.glsl";
import type { Kind, Setting } from "./kind";

const LEAST_PX = 1.5; // smaller points flicker
const STRENGTH = 110; // per octave of depth

export async function showPoints({ stage, scene, load }: Setting): Promise<Kind> {
  const { renderer, camera } = stage;
  const positions = await load("positions");
  const colors = scene.blobs["colors"]
    ? await load("colors")
    : new Uint8Array((4 * positions.length) / 3).fill(204);
  const geometry = new THREE.BufferGeometry();
  geometry.setAttribute("position", new THREE.BufferAttribute(positions, 3));
  geometry.setAttribute("color", new THREE.BufferAttribute(colors, 4, true));

  const radius = scene.radius ?? 0;
  const context = renderer.getContext();
  const [, largest] = context.getParameter(context.ALIASED_POINT_SIZE_RANGE) as Float32Array;
  const uniforms = {
    focal_px: { value: 1 },
    radius: { value: radius },
    least_px: { value: LEAST_PX },
    most_px: { value: Math.min(largest ?? 64, 256) },
  };
  const material = raw(vertexCode, fragmentCode, uniforms, { blending: THREE.NoBlending });
  const cloud = new THREE.Points(geometry, material);
  cloud.frustumCulled = false;
  const world = new THREE.Scene();
  world.add(cloud);

  const target = new THREE.WebGLRenderTarget(1, 1, {
    magFilter: THREE.NearestFilter,
    minFilter: THREE.NearestFilter,
    depthTexture: new THREE.DepthTexture(1, 1, THREE.UnsignedIntType),
  });
  const dome = {
    picture: { value: target.texture },
    depths: { value: target.depthTexture },
    size_px: { value: new THREE.Vector2() },
    planes: { value: new THREE.Vector2() },
    strength: { value: STRENGTH },
    reach_px: { value: 1 },
  };
  const pass = new ScreenPass(domeCode, dome);

  return {
    settled: () => true,
    draw() {
      const size = stage.sizePx;
      target.setSize(size.x, size.y);
      uniforms.focal_px.value = stage.focalPx;
      dome.size_px.value.copy(size);
      dome.planes.value.set(camera.near, camera.far);
      dome.reach_px.value = 1.2 * renderer.getPixelRatio();
      renderer.setRenderTarget(target);
      renderer.clear();
      renderer.render(world, camera);
      renderer.setRenderTarget(null);
      pass.draw(renderer);
    },
    controls: [
      {
        type: "range",
        label: "Point size",
        keys: ["[", "]"],
        value: 0,
        low: -4,
        high: 3,
        set(factor) {
          uniforms.radius.value = radius * factor;
          uniforms.least_px.value = LEAST_PX * Math.max(1, factor);
          stage.invalidate();
        },
      },
      {
        type: "toggle",
        label: "Depth shading",
        key: "l",
        on: true,
        set(on) {
          dome.strength.value = on ? STRENGTH : 0;
          stage.invalidate();
        },
      },
    ],
  };
}
