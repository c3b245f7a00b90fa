// Runs in a page before its own scripts, and watches what these do: handlers, frames, WebGL,
// messages. Nothing of the page is changed but when its frames are drawn, where a part asks for it.
(() => {
  const UPLOADS = /^(buffer(Sub)?Data|(compressed)?[tT]ex(Sub)?Image[23]D|texStorage[23]D)$/;
  const MAKERS = /^create/;
  const MESH = 10000; // indices: what has more is the mesh, not a gizmo
  let nested = 0;
  let drawn = false;
  let work = fresh();
  let sums = { blocked: 0, sent: 0 };
  let held = []; // frames
  let until = ""; // what they wait for
  let armed = false;
  let marks = [];
  let records = [];
  let waiting = []; // for frames
  let watching = []; // for marks
  const originals = {};

  const probe = (window.probe = {
    gl: undefined,
    paced: true, // whether each frame is waited for
    fresh: 0, // bytes of an upload without which the mesh is not drawn
    drawing: true, // whether anything is

    /** Wait until the GPU has done everything; milliseconds. */
    drain() {
      const { gl } = probe;
      if (!gl) return 0;
      const begin = performance.now();
      const bound = gl.getParameter(gl.READ_FRAMEBUFFER_BINDING);
      gl.bindFramebuffer(gl.READ_FRAMEBUFFER, null);
      const read = originals.readPixels ?? gl.readPixels;
      read.call(gl, 0, 0, 1, 1, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(4));
      gl.bindFramebuffer(gl.READ_FRAMEBUFFER, bound);
      return performance.now() - begin;
    },

    /** Forget what there was. */
    begin() {
      records = [];
      work = fresh();
      sums = { blocked: 0, sent: 0 };
    },

    sums: () => sums,
    marks: () => marks,
    records: () => records,

    /** The next frame with the mesh in it, before which at least so many bytes are uploaded at
     *  once, as a record. */
    frame: (bytes = 0) => new Promise((resolve) => waiting.push({ bytes, resolve })),

    /** Mark what happens from the next release of the pointer on; hold frames until a row about
     *  this is there. */
    arm(about) {
      [until, armed, marks] = [about, true, []];
    },

    /** The marks up to the first frame after this one. */
    seen: (name) => new Promise((resolve) => (watching.push({ name, resolve }), tell())),

    /** Leave WebGL as it was: for measuring memory. */
    unwrap: () => Object.assign(WebGL2RenderingContext.prototype, originals),
  });

  function fresh() {
    return { js: 0, blocked: 0, calls: 0, uploads: [], largest: 0, made: [] };
  }

  function mark(name, at = performance.now()) {
    marks.push({ name, at, blocked: sums.blocked });
  }

  function upTo(name) {
    const after = marks.findIndex((mark) => mark.name === name);
    const end = marks.findIndex((mark, k) => k > after && mark.name === "drawn");
    return after < 0 || end < 0 ? undefined : marks.slice(0, end + 1);
  }

  function tell() {
    watching = watching.filter(({ name, resolve }) => {
      const found = upTo(name);
      if (found) resolve(found);
      return !found;
    });
  }

  /** The time of a handler or frame, not of those within it. */
  function timed(run) {
    const begin = performance.now();
    nested++;
    try {
      return run();
    } finally {
      if (--nested === 0) work.js += performance.now() - begin;
    }
  }

  const proto = WebGL2RenderingContext.prototype;
  for (const name of Object.getOwnPropertyNames(proto)) {
    const original = Object.getOwnPropertyDescriptor(proto, name).value;
    if (typeof original !== "function" || name === "constructor") continue;
    originals[name] = original;
    const [draws, upload, maker] = [name.startsWith("draw"), UPLOADS.test(name), MAKERS.test(name)];
    proto[name] = function (...given) {
      const mesh = draws && Math.max(given[1], given[2] ?? 0) > MESH;
      if (mesh && work.largest < probe.fresh) return undefined;
      if (mesh) {
        probe.gl = this;
        drawn = true;
      }
      work.calls++;
      if (draws && !probe.drawing) return undefined;
      if (upload) note(name, given);
      if (maker) work.made.push(name);
      if (name !== "readPixels") return original.apply(this, given);
      const begin = performance.now();
      const result = original.apply(this, given);
      const spent = performance.now() - begin;
      sums.blocked += spent;
      work.blocked += spent;
      return result;
    };
  }

  function note(name, given) {
    const data = given.find((value) => ArrayBuffer.isView(value));
    const bytes = data ? data.byteLength : 0;
    work.largest = Math.max(work.largest, bytes);
    work.uploads.push(`${name}(${given.filter((v) => typeof v === "number").join(" ")})`);
  }

  const frames = window.requestAnimationFrame;
  window.requestAnimationFrame = (callback) =>
    frames.call(window, (now) => {
      if (until) {
        held.push(callback);
        return;
      }
      drawn = false;
      timed(() => callback(now));
      if (drawn) ended();
    });

  function ended() {
    mark("drawn");
    const record = { ...work, at: performance.timeOrigin + performance.now(), render: 0 };
    work = fresh();
    const last = marks.at(-1);
    if (probe.paced || watching.some(({ name }) => upTo(name))) record.render = probe.drain();
    last.render = record.render;
    work = fresh();
    records.push(record);
    tell();
    waiting = waiting.filter(({ bytes, resolve }) => {
      if (record.largest >= bytes) resolve(record);
      return record.largest < bytes;
    });
  }

  function release() {
    until = "";
    for (const callback of held.splice(0)) window.requestAnimationFrame(callback);
  }

  const wrappers = new WeakMap();
  const { addEventListener, removeEventListener } = EventTarget.prototype;
  EventTarget.prototype.addEventListener = function (type, listener, options) {
    if (typeof listener !== "function" || !/^(pointer|mouse|wheel|click)/.test(type))
      return addEventListener.call(this, type, listener, options);
    if (!wrappers.has(listener))
      wrappers.set(listener, function (event) {
        return timed(() => listener.call(this, event));
      });
    return addEventListener.call(this, type, wrappers.get(listener), options);
  };
  EventTarget.prototype.removeEventListener = function (type, listener, options) {
    const known = typeof listener === "function" && wrappers.get(listener);
    return removeEventListener.call(this, type, known || listener, options);
  };
  const click = (event) => {
    if (!armed) return;
    armed = false;
    mark("click", event.timeStamp);
  };
  addEventListener.call(window, "pointerup", click, true);

  const Socket = window.WebSocket;
  window.WebSocket = class extends Socket {
    constructor(...given) {
      super(...given);
      this.addEventListener("message", ({ data }) => {
        const about = rowOf(data);
        if (about) mark(`${about} is there`);
      });
      // Behind the page's own handler and all that follows from it.
      queueMicrotask(() =>
        this.addEventListener("message", ({ data }) => {
          const about = rowOf(data);
          if (!about) return;
          mark(`${about} is mixed`);
          if (about === until) release();
        }),
      );
    }

    send(data) {
      sums.sent += data.length ?? data.byteLength;
      super.send(data);
      if (typeof data !== "string" || !data.startsWith('{"type":"row"')) return;
      mark(`${JSON.parse(data).about} is asked for`);
    }
  };

  function rowOf(data) {
    if (!(data instanceof ArrayBuffer)) return undefined;
    const header = new TextDecoder().decode(new Uint8Array(data, 4, 60));
    return /"about": "(\w+)"/.exec(header)?.[1];
  }
})();
