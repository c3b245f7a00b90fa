// Triangle meshes with materials, textures and vertex colours.
import * as THREE from "three";
import { distinctEdges } from "../edges";
import type { MaterialInfo } from "../protocol";
import { raw, type Uniforms } from "../screen";
import colorCode from "../shaders/color.glsl";
import fragmentCode from "../shaders/mesh.frag.glsl";
import vertexCode from "../shaders/mesh.vert.glsl";
import wireCode from "../shaders/wire.frag.glsl";
import type { Kind, Setting } from "./kind";

const GREY = 204; // of what has no colour of its own, as geodistill.shade has it

export async function showMesh(setting: Setting): Promise<Kind> {
  const geometry = await meshGeometry(setting);
  const positions = await setting.load("positions");
  geometry.setAttribute("position", new THREE.BufferAttribute(positions, 3));
  return meshKind(setting, geometry, vertexCode, {});
}

/** All of a mesh but its positions. */
export async function meshGeometry({ scene, load }: Setting): Promise<THREE.BufferGeometry> {
  const geometry = new THREE.BufferGeometry();
  const normals = (await load("normals")) as Float32Array;
  const vertices = normals.length / 3;
  geometry.setAttribute("normal", new THREE.BufferAttribute(normals, 3));
  geometry.setIndex(new THREE.BufferAttribute(await load("faces"), 1));
  const uv = scene.blobs["uv"] ? await load("uv") : new Float32Array(2 * vertices);
  geometry.setAttribute("uv", new THREE.BufferAttribute(uv, 2));
  const white = () => new Uint8Array(4 * vertices).fill(255);
  const colors = scene.blobs["colors"] ? await load("colors") : white();
  geometry.setAttribute("color", new THREE.BufferAttribute(colors, 4, true));
  for (const [first, count, index] of scene.groups)
    geometry.addGroup(3 * first, 3 * count, index + 1);
  return geometry;
}

/** A mesh whose positions are brought by a vertex shader of its own, with uniforms of its own. */
export async function meshKind(
  { stage, scene, load }: Setting,
  geometry: THREE.BufferGeometry,
  vertexCode: string,
  more: Uniforms,
): Promise<Kind> {
  const { renderer, camera } = stage;
  const shared = {
    ...more,
    lit: { value: true },
    flat_shaded: { value: false },
    up_in_view: { value: new THREE.Vector3() },
  };
  const grey = new THREE.Color().setRGB(GREY / 255, GREY / 255, GREY / 255, THREE.SRGBColorSpace);
  const plain = material({
    factor: { value: scene.blobs["colors"] ? new THREE.Vector4(1, 1, 1, 1) : vector(grey, 1) },
    map: { value: null },
    textured: { value: false },
  });
  const materials: THREE.Material[] = [plain];
  for (const info of scene.materials) materials.push(await fromInfo(info));

  const world = new THREE.Scene();
  const surface = new THREE.Mesh(geometry, materials);
  surface.frustumCulled = false;
  world.add(surface);
  let wire: THREE.LineSegments | undefined;
  const ink = { value: new THREE.Vector4(0, 0, 0, 0.35) };

  function material(own: Uniforms): THREE.RawShaderMaterial {
    return raw(colorCode + vertexCode, colorCode + fragmentCode, { ...shared, ...own }, {
      side: THREE.DoubleSide,
      // Of see-through surfaces too only the nearest is seen, as in geodistill.render.
      blending: THREE.NoBlending,
      polygonOffset: true,
      polygonOffsetFactor: 1,
      polygonOffsetUnits: 1,
    });
  }

  async function fromInfo(info: MaterialInfo): Promise<THREE.Material> {
    const [r, g, b, alpha] = info.color;
    const color = new THREE.Color().setRGB(r, g, b, THREE.SRGBColorSpace);
    const map = info.texture === null ? null : await texture(info.texture);
    return material({
      factor: { value: vector(color, alpha) },
      map: { value: map },
      textured: { value: map !== null },
    });
  }

  async function texture(name: string): Promise<THREE.Texture> {
    const [height = 1, width = 1] = scene.blobs[name]!.shape;
    const made = new THREE.DataTexture(await load(name), width, height, THREE.RGBAFormat);
    // Filtered as it is stored and decoded by the shader, as geodistill.shade.textures does.
    made.colorSpace = THREE.NoColorSpace;
    made.wrapS = made.wrapT = THREE.RepeatWrapping;
    made.magFilter = THREE.LinearFilter;
    made.minFilter = THREE.LinearMipmapLinearFilter;
    made.generateMipmaps = true;
    made.anisotropy = Math.min(8, renderer.capabilities.getMaxAnisotropy());
    made.needsUpdate = true;
    return made;
  }

  function showWire(on: boolean): void {
    if (on && !wire) {
      const lines = new THREE.BufferGeometry();
      for (const [name, attribute] of Object.entries(geometry.attributes))
        lines.setAttribute(name, attribute);
      const faces = geometry.index!.array as Uint32Array;
      const vertices = geometry.getAttribute("normal").count;
      lines.setIndex(new THREE.BufferAttribute(distinctEdges(faces, vertices), 1));
      const look = raw(colorCode + vertexCode, wireCode, { ...more, ink }, {
        transparent: true,
        premultipliedAlpha: true,
        depthWrite: false,
      });
      wire = new THREE.LineSegments(lines, look);
      wire.frustumCulled = false;
      world.add(wire);
    }
    if (wire) wire.visible = on;
    stage.invalidate();
  }

  return {
    settled: () => true,
    draw() {
      shared.up_in_view.value.set(...stage.up).transformDirection(camera.matrixWorldInverse);
      renderer.render(world, camera);
    },
    themed(dark) {
      if (dark) ink.value.set(1, 1, 1, 0.22);
      else ink.value.set(0.05, 0.08, 0.15, 0.4);
      stage.invalidate();
    },
    controls: [
      { type: "toggle", label: "Wireframe", key: "w", on: false, set: showWire },
      {
        type: "toggle",
        label: "Flat shading",
        key: "n",
        on: false,
        set(on) {
          shared.flat_shaded.value = on;
          stage.invalidate();
        },
      },
      {
        type: "toggle",
        label: "Light",
        key: "l",
        on: true,
        set(on) {
          shared.lit.value = on;
          stage.invalidate();
        },
      },
    ],
  };
}

function vector(color: THREE.Color, alpha: number): THREE.Vector4 {
  return new THREE.Vector4(color.r, color.g, color.b, alpha);
}
