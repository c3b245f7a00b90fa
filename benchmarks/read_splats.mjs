// What other programs' readers find in a splat file: node read_splats.mjs READER FILE OUT
//
// READER is three (three.js's loaders) or spz (Niantic's SPZ library, compiled to WebAssembly), both
// in node_modules beside this file. OUT becomes raw float32: for each of four arrays its length and
// its values: centres [N, 3], covariances xx xy xz yy yz zz [N, 6], colours and opacities in 0..1
// [N, 4], harmonics beyond degree 0 [N, K, 3].

import { readFileSync, writeFileSync } from "node:fs";

const BANDS = [1, 2, 3];
const SH_C0 = 0.28209479177387814;

async function byThree(file, bytes) {
  const geometry = await threeGeometry(file, bytes.buffer);
  const array = (name) => geometry.getAttribute(name)?.array;
  const count = geometry.getAttribute("position").count;
  const harmonics = [];
  for (let i = 0; i < count; i++) {
    for (const degree of BANDS) {
      const packed = array(`sphericalHarmonics${degree}`);
      if (packed === undefined) continue;
      const row = new Uint8Array(packed.buffer, packed.byteOffset).subarray(
        (i * packed.byteLength) / count,
      );
      for (let j = 0; j < 3 * (2 * degree + 1); j++) harmonics.push((row[j] - 128) / 128);
    }
  }
  const colors = Array.from(array("color"), (value) => value / 255);
  return [array("position"), array("covariance"), colors, harmonics];
}

async function threeGeometry(file, buffer) {
  const from = async (name) => (await import(`three/addons/loaders/${name}.js`))[name];
  const ending = file.split(".").pop();
  if (ending !== "glb") {
    const name = { ply: "GaussianSplatPLYLoader", splat: "SPLATLoader", spz: "SPZLoader" }[ending];
    return new (await from(name))().parse(buffer);
  }
  const [Loader, Plugin] = [await from("GLTFLoader"), await from("GLTFGaussianSplatLoaderExtension")];
  const loader = new Loader();
  loader.register((parser) => new Plugin(parser));
  const { scene } = await loader.parseAsync(buffer, "");
  let geometry;
  scene.traverse((object) => (geometry ??= object.splatGeometry));
  return geometry;
}

async function bySpz(_, bytes) {
  // The package is bundled for browsers, and fails where it sees Node.
  Object.assign(globalThis, { process: undefined, window: globalThis, location: { href: "file:///" } });
  const { loadSpz } = await import("@spz-loader/core");
  const cloud = await loadSpz(bytes, { colorScaleFactor: SH_C0 });
  const covariances = [];
  const colors = [];
  for (let i = 0; i < cloud.numPoints; i++) {
    const part = (values, size) => values.subarray(i * size, (i + 1) * size);
    covariances.push(...covariance(part(cloud.scales, 3), part(cloud.rotations, 4)));
    colors.push(...part(cloud.colors, 3), cloud.alphas[i]);
  }
  return [cloud.positions, covariances, colors, cloud.sh];
}

function covariance(scales, [x, y, z, w]) {
  const rows = [
    [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
    [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
    [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
  ];
  const entry = (a, b) => [0, 1, 2].reduce((sum, k) => sum + scales[k] ** 2 * a[k] * b[k], 0);
  const [a, b, c] = rows;
  return [entry(a, a), entry(a, b), entry(a, c), entry(b, b), entry(b, c), entry(c, c)];
}

const [reader, file, out] = process.argv.slice(2);
const bytes = new Uint8Array(readFileSync(file));
const arrays = await { three: byThree, spz: bySpz }[reader](file, bytes);
const blocks = arrays.flatMap((values) => [Float32Array.of(values.length), Float32Array.from(values)]);
writeFileSync(out, Buffer.concat(blocks.map((block) => Buffer.from(block.buffer))));
