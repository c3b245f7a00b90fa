// Radiance fields: the server renders, coarse while the camera moves, finer when it rests.
import * as THREE from "three";
import { type Connection, receivePictures } from "../connection";
import { worldFromCam } from "../framing";
import { encode, type Picture } from "../protocol";
import { ScreenPass } from "../screen";
import copyCode from "../shaders/copy.frag.glsl";
import type { Kind, Setting } from "./kind";

export function showField({ stage }: Setting, connection: Connection): Kind {
  const { renderer } = stage;
  const canvas = document.createElement("canvas");
  const part = document.createElement("canvas");
  const context = canvas.getContext("2d")!;
  const partContext = part.getContext("2d")!;
  let texture = makeTexture();
  const picture = { value: texture as THREE.Texture };
  const pass = new ScreenPass(copyCode, { picture, flip: { value: new THREE.Vector2(1, -1) } });
  let id = 0;
  let shown = { id: 0, final: false };

  function makeTexture(): THREE.CanvasTexture {
    const made = new THREE.CanvasTexture(canvas);
    made.premultiplyAlpha = true;
    made.flipY = false;
    made.generateMipmaps = false;
    made.minFilter = made.magFilter = THREE.LinearFilter;
    return made;
  }

  function ask(moving: boolean): void {
    const { x: width, y: height } = stage.sizePx;
    const pose = stage.pose;
    const { fov_y } = pose;
    id += 1;
    const from = { id, world_from_cam: worldFromCam(pose), fov_y, width, height, moving };
    connection.send(encode({ type: "camera", ...from }));
  }

  /** Rows of a coarser picture cover the same part of the canvas. */
  function paint(given: Picture): void {
    const { x: width, y: height } = stage.sizePx;
    if (canvas.width !== width || canvas.height !== height) {
      Object.assign(canvas, { width, height });
      texture.dispose();
      picture.value = texture = makeTexture();
    }
    Object.assign(part, { width: given.width, height: given.rows });
    partContext.putImageData(new ImageData(given.pixels, given.width, given.rows), 0, 0);
    const scale = height / given.height;
    const [top, tall] = [given.row * scale, given.rows * scale];
    context.clearRect(0, top, width, tall);
    context.imageSmoothingQuality = "high";
    context.drawImage(part, 0, top, width, tall);
    texture.needsUpdate = true;
    shown = given;
    stage.invalidate();
  }

  receivePictures(connection, paint);
  connection.opened = () => ask(false);
  return {
    settled: () => shown.id === id && shown.final,
    looked: ask,
    draw: () => pass.draw(renderer),
    controls: [],
  };
}
