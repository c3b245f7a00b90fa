// Colours over those of the mesh: of features, and of what is selected.
import type { Deforming } from "../kinds/deform";
import type { Stage } from "../stage";
import { ROW } from "../rows";
import { css } from "../ui/dom";
import { fillRows, makeTexture } from "./gpu";
import type { Region } from "./region";

export type Painted = "own" | "features";

export class Paint {
  painted: Painted = "own";
  private features: Uint8Array | undefined;
  private texture: WebGLTexture | undefined;
  private readonly texels: Uint8Array; // [P, 4]

  constructor(
    private readonly stage: Stage,
    private readonly kind: Deforming,
    private readonly region: Region,
  ) {
    this.texels = new Uint8Array(4 * kind.topology.positions);
  }

  async choose(painted: Painted): Promise<void> {
    if (painted === "features") this.features ??= await this.kind.backend.colors();
    this.painted = painted;
    this.show();
  }

  /** What is selected covers the features, and these the mesh. */
  show(): void {
    const { region, kind, texels } = this;
    const below = this.painted === "features" ? this.features : undefined;
    if (!region.count && !below) {
      kind.look.marks(undefined);
      return;
    }
    if (below) texels.set(below);
    else texels.fill(0);
    const over = [...rgb(css("--accent")), 235];
    if (region.count) region.selected.forEach((on, k) => on && texels.set(over, 4 * k));
    kind.look.marks(this.fill());
  }

  private fill(): WebGLTexture {
    const { renderer } = this.stage;
    const gl = renderer.getContext() as WebGL2RenderingContext;
    this.texture ??= makeTexture(gl, gl.RGBA8, ROW, this.kind.blend.height);
    gl.activeTexture(gl.TEXTURE0);
    gl.bindTexture(gl.TEXTURE_2D, this.texture);
    fillRows(gl, gl.RGBA, gl.UNSIGNED_BYTE, 4, this.texels);
    renderer.resetState();
    return this.texture;
  }
}

function rgb(color: string): [number, number, number] {
  const value = Number.parseInt(color.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}
