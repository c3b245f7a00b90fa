// A mesh that can be deformed.
import * as THREE from "three";
import type { Connection } from "../connection";
import { type Backend, Unanswered } from "../deform/backend";
import { Baked } from "../deform/baked";
import { Blend } from "../deform/blend";
import { Controller } from "../deform/controller";
import type { Positions } from "../deform/messages";
import { Model } from "../deform/model";
import { Picker } from "../deform/pick";
import vertexCode from "../deform/shaders/deform.vert.glsl";
import { Server } from "../deform/server";
import { Sites } from "../deform/sites";
import { Space } from "../deform/space";
import { Topology } from "../deform/topology";
import { length, sub } from "../framing";
import type { Kind, Setting } from "./kind";
import { meshGeometry, meshKind } from "./mesh";

/** What is seen of the mesh besides its own colours. */
export interface Look {
  /** Weights of a handle; -1: of none. */
  heat(handle: number): void;
  /** Colours over those of the mesh. */
  marks(texture: WebGLTexture | undefined): void;
}

export interface Deforming extends Kind {
  controller: Controller;
  backend: Backend;
  blend: Blend;
  picker: Picker;
  model: Model;
  topology: Topology;
  diagonal: number;
  look: Look;
  /** What is drawn over the mesh. */
  overlay: () => THREE.Scene | undefined;
}

export async function showDeform(setting: Setting, connection: Connection | undefined): Promise<Deforming> {
  const { stage, scene, load } = setting;
  const { renderer } = stage;
  const rest = (await load("positions")) as Float32Array;
  const place = scene.blobs["place"] ? ((await load("place")) as Uint32Array) : undefined;
  const order = scene.blobs["order"] ? ((await load("order")) as Uint32Array) : undefined;
  const geometry = await meshGeometry(setting);
  const faces = geometry.index!.array as Uint32Array;
  const vertices = geometry.getAttribute("normal").count;
  const topology = new Topology(rest.length / 3, vertices, faces, place, order);
  const own = () => Uint32Array.from({ length: vertices }, (_, vertex) => vertex);
  const places = new THREE.BufferAttribute(place ?? own(), 1);
  places.gpuType = THREE.IntType;
  geometry.setAttribute("place", places);

  const blend = new Blend(renderer.getContext() as WebGL2RenderingContext, rest);
  const picker = new Picker(renderer, blend, topology.corners());
  renderer.resetState();
  const external = (texture: WebGLTexture | null) => ({ value: new THREE.ExternalTexture(texture) });
  const uniforms = {
    moved: external(blend.moved),
    rest: external(blend.rest),
    weights: external(blend.weights),
    marks: external(null),
    heat_of: { value: -1 },
    marked: { value: false },
  };
  const diagonal = length(sub(scene.high, scene.low));
  const space = new Space(scene.origin, diagonal, rest);
  const backend: Backend = connection ? new Server(connection) : new Baked(setting, topology, space);
  const sites = new Sites(backend, topology, scene.origin);
  const model = new Model(blend, sites, space);
  const put = ({ data }: Positions) => {
    if (data.length !== rest.length)
      throw new Unanswered("the server has answered for another mesh: reload the page");
    blend.put(data);
  };
  const controller = new Controller(backend, sites, model, put);
  const mesh = await meshKind(setting, geometry, vertexCode, uniforms);
  const kind: Deforming = {
    ...mesh,
    controller,
    backend,
    blend,
    picker,
    model,
    topology,
    diagonal,
    look: {
      heat: (handle) => (uniforms.heat_of.value = handle),
      marks(texture) {
        uniforms.marks.value.sourceTexture = texture ?? null;
        uniforms.marked.value = texture !== undefined;
      },
    },
    overlay: () => undefined,
    settled: () => mesh.settled() && controller.settled,
    begin: () => void backend.start(),
    draw() {
      if (blend.flush()) renderer.resetState();
      mesh.draw();
      const over = kind.overlay();
      if (!over) return;
      renderer.clearDepth();
      renderer.render(over, stage.camera);
    },
  };
  controller.changed = () => {
    renderer.resetState(); // passes beside three.js have left theirs
    uniforms.weights.value.sourceTexture = blend.weights;
    stage.invalidate();
  };
  controller.moved = () => stage.invalidate();
  return kind;
}
