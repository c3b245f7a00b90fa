// What is seen as a PNG file.
import type { Frame } from "../stage";
import { make } from "./dom";
import { offer, stem } from "./download";

/** With the page's background, or see-through. */
export async function saveScreenshot(frame: Frame, name: string, opaque: boolean): Promise<void> {
  const { width, height } = frame;
  const canvas = make("canvas", { width, height });
  const context = canvas.getContext("2d")!;
  const image = new ImageData(straight(frame), width, height);
  context.putImageData(image, 0, 0);
  if (opaque) {
    context.globalCompositeOperation = "destination-over";
    context.fillStyle = ground(context, width, height);
    context.fillRect(-1, -1, 2, 2);
  }
  const blob = await new Promise<Blob | null>((done) => canvas.toBlob(done, "image/png"));
  if (!blob) throw new Error("the picture is too large to be saved");
  offer(blob, `${stem(name)}.png`);
}

/** Straight alpha, the first row at the top. */
export function straight({ pixels, width, height }: Frame): Uint8ClampedArray<ArrayBuffer> {
  const made = new Uint8ClampedArray(pixels.length);
  for (let row = 0; row < height; row++) {
    let from = 4 * width * (height - 1 - row);
    for (let to = 4 * width * row; to < 4 * width * (row + 1); to += 4, from += 4) {
      const alpha = pixels[from + 3]!;
      const scale = alpha ? 255 / alpha : 0;
      for (let c = 0; c < 3; c++) made[to + c] = pixels[from + c]! * scale;
      made[to + 3] = alpha;
    }
  }
  return made;
}

/**
 * The gradient of the page's background, whose colours the style sheet says: an ellipse 120 % wide
 * and 90 % high about its middle, which here is the unit circle.
 */
function ground(context: CanvasRenderingContext2D, width: number, height: number): CanvasGradient {
  const style = getComputedStyle(document.documentElement).getPropertyValue("--ground");
  const colors = style.match(/#[0-9a-f]{6}/g) ?? ["#ffffff"];
  const gradient = context.createRadialGradient(0, 0, 0, 0, 0, 1);
  colors.forEach((color, k) => gradient.addColorStop([0, 0.55, 1][k] ?? 1, color));
  context.setTransform(1.2 * width, 0, 0, 0.9 * height, 0.5 * width, 0.38 * height);
  return gradient;
}
