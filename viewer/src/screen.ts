// Passes over the whole picture.
import * as THREE from "three";
import vertexShader from "./shaders/screen.vert.glsl";

export type Uniforms = Record<string, THREE.IUniform>;

const camera = new THREE.Camera();

/** A material that writes what its fragment shader says, without colour management. */
export function raw(
  vertex: string,
  fragment: string,
  uniforms: Uniforms,
  more: THREE.ShaderMaterialParameters = {},
): THREE.RawShaderMaterial {
  return new THREE.RawShaderMaterial({
    glslVersion: THREE.GLSL3,
    vertexShader: vertex,
    fragmentShader: fragment,
    uniforms,
    ...more,
  });
}

/** Draws into the current target; it is replaced where the pass writes. */
export class ScreenPass {
  private readonly scene = new THREE.Scene();

  constructor(
    fragment: string,
    readonly uniforms: Uniforms,
  ) {
    const geometry = new THREE.BufferGeometry();
    geometry.setAttribute("position", new THREE.BufferAttribute(new Float32Array(9), 3));
    const material = raw(vertexShader, fragment, uniforms, {
      depthTest: false,
      depthWrite: false,
      blending: THREE.NoBlending,
    });
    const triangle = new THREE.Mesh(geometry, material);
    triangle.frustumCulled = false;
    this.scene.add(triangle);
  }

  draw(renderer: THREE.WebGLRenderer): void {
    renderer.render(this.scene, camera);
  }
}
