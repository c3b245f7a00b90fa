// How long the GPU takes for a frame, where the browser tells.

/** EXT_disjoint_timer_query_webgl2 */
interface TimerExtension {
  TIME_ELAPSED_EXT: number;
  GPU_DISJOINT_EXT: number;
}

export class GpuTimer {
  private readonly extension: TimerExtension | null;
  private readonly running: WebGLQuery[] = [];
  private readonly spare: WebGLQuery[] = [];

  constructor(private readonly gl: WebGL2RenderingContext) {
    this.extension = gl.getExtension("EXT_disjoint_timer_query_webgl2") as TimerExtension | null;
  }

  /** Do some work. */
  time(work: () => void): void {
    const { gl, extension } = this;
    // One that is not read yet tells enough.
    if (!extension || this.running.length > 2) {
      work();
      return;
    }
    const query = this.spare.pop() ?? gl.createQuery()!;
    gl.beginQuery(extension.TIME_ELAPSED_EXT, query);
    work();
    gl.endQuery(extension.TIME_ELAPSED_EXT);
    this.running.push(query);
  }

  /** Milliseconds of the oldest work that is known now. */
  read(): number | undefined {
    const { gl, extension } = this;
    const query = this.running[0];
    if (!extension || !query || !gl.getQueryParameter(query, gl.QUERY_RESULT_AVAILABLE)) return;
    this.running.shift();
    const disjoint = gl.getParameter(extension.GPU_DISJOINT_EXT) as boolean;
    const nanoseconds = gl.getQueryParameter(query, gl.QUERY_RESULT) as number;
    this.spare.push(query);
    return disjoint ? undefined : nanoseconds / 1e6;
  }
}
