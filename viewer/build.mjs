// Builds the page into one HTML file, or the unit tests into files that node runs.
//   node build.mjs page [FILE]     default dist/index.html
//   node build.mjs tests           dist/tests/*.mjs
import { createHash } from "node:crypto";
import { mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { build } from "esbuild";

const root = dirname(fileURLToPath(import.meta.url));
const loaders = { ".glsl": "text", ".css": "text", ".html": "text" };
const common = { bundle: true, target: "es2022", loader: loaders, logLevel: "warning" };

// `import text from "./sort.worker.ts?worker"` is the worker's whole program as a text.
const workers = {
  name: "workers",
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /\?worker$/ }, ({ path, resolveDir }) => ({
      path: join(resolveDir, path.replace(/\?worker$/, "")),
      namespace: "worker",
    }));
    onLoad({ filter: /.*/, namespace: "worker" }, async ({ path }) => ({
      contents: await script(path),
      loader: "text",
    }));
  },
};

async function script(entry) {
  const made = await build({
    ...common,
    entryPoints: [entry],
    plugins: [workers],
    format: "iife",
    minify: true,
    legalComments: "none",
    write: false,
  });
  return made.outputFiles[0].text;
}

async function page(target) {
  const [html, css, code] = await Promise.all([
    readFile(join(root, "src/index.html"), "utf8"),
    readFile(join(root, "src/style.css"), "utf8"),
    script(join(root, "src/main.ts")),
  ]);
  const licence = "/* Contains three.js, (c) three.js authors, MIT licence */\n";
  const parts = {
    "<!--style-->": `<style>${css}</style>`,
    "<!--script-->": `<script>${licence}${code.replaceAll("</script", "<\\/script")}</script>`,
    "<!--sources-->": `<meta name="sources" content="${await digest()}">`,
  };
  let made = html;
  for (const [mark, part] of Object.entries(parts)) made = made.replace(mark, () => part);
  await mkdir(dirname(target), { recursive: true });
  await writeFile(target, made);
}

// What the page was made of: setup.py computes the same, to see whether a page is up to date.
async function digest() {
  const names = await readdir(join(root, "src"), { recursive: true, withFileTypes: true });
  const sources = names.filter((f) => f.isFile()).map((f) => join(f.parentPath ?? f.path, f.name));
  const paths = [...sources, join(root, "build.mjs"), join(root, "package-lock.json")];
  const named = paths.map((path) => [path.slice(root.length + 1).replaceAll("\\", "/"), path]);
  const hash = createHash("sha256");
  for (const [name, path] of named.sort(([a], [b]) => (a < b ? -1 : 1))) {
    const content = await readFile(path);
    hash.update(`${name} ${content.length}\n`).update(content);
  }
  return hash.digest("hex").slice(0, 16);
}

async function tests() {
  const out = join(root, "dist/tests");
  await rm(out, { recursive: true, force: true });
  const files = (await readdir(join(root, "test"))).filter((name) => name.endsWith(".test.ts"));
  await build({
    ...common,
    entryPoints: files.map((name) => join(root, "test", name)),
    plugins: [workers],
    format: "esm",
    platform: "node",
    outdir: out,
    outExtension: { ".js": ".mjs" },
  });
}

const [what, target] = process.argv.slice(2);
if (what === "tests") await tests();
else if (what === "page") await page(target ?? join(root, "dist/index.html"));
else throw new Error("usage: node build.mjs page [FILE] | tests");
