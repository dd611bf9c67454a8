// Runs the checks of a client in JavaScript and tells how each went; see clients/harness.py, whose sibling it is.
//
//     node harness.mjs --results FILE --package NAME [--only NAMES] SCRIPT…

import { appendFileSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { inspect } from "node:util";

const LONGEST_CHECK_MS = 90_000;
export const COLD = "cold";
export const FULL = "full";
export const SINGLE = "single";
export const HERE = dirname(fileURLToPath(import.meta.url));

export const target = JSON.parse(process.env.CONFORMANCE_TARGET);
const checks = new Map();

/** Register a check, whose name is its sentence, of targets that have all features in `needs`. */
export function check(name, needs, run) {
  checks.set(name, { needs, run });
}

export const scripted = (script) => ({ x_scripted: script });

export function same(got, expected) {
  const [a, b] = [got, expected].map((value) => inspect(value, { depth: 9 }));
  if (a !== b) throw new Error(`got ${a}, expected ${b}`);
}

export function holds(condition, told = "") {
  if (!condition) throw new Error(`does not hold: ${inspect(told, { depth: 9 })}`);
}

/** The error of this class that a promise ends with. */
export async function fails(kind, promise) {
  let answer;
  try {
    answer = await promise;
  } catch (error) {
    if (error.constructor !== kind) throw error;
    return error;
  }
  throw new Error(`no ${kind.name}: ${inspect(answer)}`);
}

export async function cool() {
  const headers = { Authorization: `Bearer ${target.api_key}` };
  const answer = await fetch(`${target.url}/models/${COLD}/unload`, { method: "POST", headers });
  holds(answer.ok, answer.status);
}

async function outcomeOf({ needs, run }) {
  const missing = needs.filter((feature) => !target.features.includes(feature));
  if (missing.length) return { outcome: "skipped", detail: `the target has no ${missing.join(", ")}` };
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`the check took over ${LONGEST_CHECK_MS} ms`)), LONGEST_CHECK_MS);
  });
  try {
    await Promise.race([run(), late]);
    return { outcome: "passed", detail: "" };
  } catch (error) {
    return { outcome: "failed", detail: inspect(error) };
  } finally {
    clearTimeout(timer);
  }
}

function parse(words) {
  const options = { scripts: [] };
  while (words.length) {
    const word = words.shift();
    if (word.startsWith("--")) options[word.slice(2)] = words.shift();
    else options.scripts.push(word);
  }
  return options;
}

async function main() {
  const options = parse(process.argv.slice(2));
  const write = (told) => appendFileSync(options.results, JSON.stringify(told) + "\n");
  for (const script of options.scripts) await import(pathToFileURL(join(HERE, script)));
  const described = readFileSync(join(HERE, "node_modules", options.package, "package.json"), "utf8");
  write({ package: options.package, version: JSON.parse(described).version });
  const only = options.only?.split(",");
  for (const [name, told] of checks) {
    if (only && !only.includes(name)) continue;
    const began = performance.now();
    const outcome = await outcomeOf(told);
    write({ check: name, ...outcome, seconds: (performance.now() - began) / 1000 });
  }
  process.exit(0); // whatever a check left open
}

// Not awaited: the scripts import this module, and would wait for its end.
main().catch((error) => {
  console.error(error);
  process.exit(1);
});
