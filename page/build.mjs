// Builds the page from src/ into web/static/, the same bytes from the same sources; `--check` compares instead of writing.
import { createHash } from "node:crypto";
import { readFileSync, readdirSync, mkdirSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { brotliCompressSync, brotliDecompressSync, constants, gunzipSync, gzipSync } from "node:zlib";
import { build } from "esbuild";

const here = dirname(fileURLToPath(import.meta.url));
const target = join(here, "..", "web", "static");
const LIBRARIES = ["@preact/signals", "@preact/signals-core", "dompurify", "highlight.js", "katex", "marked", "preact"];
const COMPRESSED = /\.(html|js|css|svg|txt)$/;

const common = {
  absWorkingDir: here,
  bundle: true,
  minify: true,
  write: false,
  metafile: true,
  target: ["es2022", "chrome123", "firefox125", "safari17.5"],
  outdir: "out",
  entryNames: "[name]-[hash]",
  chunkNames: "[name]-[hash]",
  assetNames: "[name]-[hash]",
  legalComments: "none",
  loader: { ".woff2": "file" },
};

/** KaTeX offers each font in three formats; every browser that runs the page reads the first. */
const woff2Only = {
  name: "woff2 only",
  setup(build) {
    build.onLoad({ filter: /katex[/\\]dist[/\\]katex\.css$/ }, ({ path }) => ({
      contents: readFileSync(path, "utf8").replace(/,\s*url\([^)]*\.(?:woff|ttf)\)\s*format\("[^"]*"\)/g, ""),
      loader: "css",
    }));
  },
};

const named = (result, entry) => {
  const found = Object.entries(result.metafile.outputs).find(([, output]) => output.entryPoint === entry);
  return found[0].replace(/^out\//, "");
};

async function outputs() {
  const files = new Map();
  const keep = (result) => {
    for (const file of result.outputFiles) files.set(file.path.slice(file.path.lastIndexOf("/") + 1), Buffer.from(file.contents));
  };
  const math = await build({ ...common, entryPoints: ["src/styles/math.css"], plugins: [woff2Only] });
  keep(math);
  const main = await build({
    ...common,
    entryPoints: ["src/main.tsx"],
    format: "esm",
    splitting: true,
    jsx: "automatic",
    jsxImportSource: "preact",
    define: { MATH_STYLES: JSON.stringify(named(math, "src/styles/math.css")) },
  });
  keep(main);
  const script = named(main, "src/main.tsx");
  const styles = main.metafile.outputs[`out/${script}`].cssBundle.replace(/^out\//, "");
  files.set("icon.svg", readFileSync(join(here, "src", "icon.svg")));
  const html = readFileSync(join(here, "src", "index.html"), "utf8");
  files.set("index.html", Buffer.from(html.replace("{{script}}", script).replace("{{styles}}", styles)));
  files.set("licenses.txt", Buffer.from(LIBRARIES.map(licence).join("\n")));
  return files;
}

function licence(library) {
  const folder = join(here, "node_modules", library);
  const { version } = JSON.parse(readFileSync(join(folder, "package.json"), "utf8"));
  const file = readdirSync(folder).find((name) => /^licen[cs]e(\.\w+)?$/i.test(name));
  return `${library} ${version}\n\n${readFileSync(join(folder, file), "utf8").trim()}\n\n${"-".repeat(72)}\n`;
}

function compressed(name, content) {
  if (!COMPRESSED.test(name)) return [];
  const quality = { [constants.BROTLI_PARAM_QUALITY]: 11, [constants.BROTLI_PARAM_SIZE_HINT]: content.length };
  const variants = [
    [`${name}.br`, brotliCompressSync(content, { params: quality }), brotliDecompressSync],
    [`${name}.gz`, gzipSync(content, { level: 9 }), gunzipSync],
  ];
  return variants.filter(([, bytes]) => bytes.length < content.length);
}

function write(files) {
  rmSync(target, { recursive: true, force: true });
  mkdirSync(target, { recursive: true });
  for (const [name, content] of files) {
    writeFileSync(join(target, name), content);
    for (const [variant, bytes] of compressed(name, content)) writeFileSync(join(target, variant), bytes);
  }
}

/** What is committed and differs from what the sources give. Compressed files are compared by what they hold: other
 *  releases of Node.js compress to other bytes. */
function differences(files) {
  const wanted = new Set();
  const wrong = [];
  const same = (name, content, unpack) => {
    wanted.add(name);
    try {
      if (!unpack(readFileSync(join(target, name))).equals(content)) wrong.push(`${name} differs`);
    } catch {
      wrong.push(`${name} is missing or broken`);
    }
  };
  for (const [name, content] of files) {
    same(name, content, (bytes) => bytes);
    for (const [variant, , unpack] of compressed(name, content)) same(variant, content, unpack);
  }
  for (const name of readdirSync(target)) if (!wanted.has(name)) wrong.push(`${name} is not built any more`);
  return wrong;
}

function report(files) {
  for (const [name, content] of [...files].sort()) {
    const brotli = compressed(name, content)[0]?.[1].length ?? content.length;
    console.log(`${String(content.length).padStart(8)} ${String(brotli).padStart(8)} br  ${name}`);
  }
  const digest = createHash("sha256");
  for (const name of [...files.keys()].sort()) digest.update(name).update(files.get(name));
  console.log(`sha256 of all: ${digest.digest("hex").slice(0, 16)}`);
}

const files = await outputs();
if (process.argv.includes("--check")) {
  const wrong = differences(files);
  for (const line of wrong) console.error(line);
  if (wrong.length) {
    console.error("web/static is not what page/src gives: run `make page` and commit it");
    process.exit(1);
  }
  console.log(`${files.size} files are what the sources give`);
} else {
  write(files);
  report(files);
}
