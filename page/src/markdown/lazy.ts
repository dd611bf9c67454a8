// Highlighting and math: fetched when an answer first needs them.

import { signal } from "@preact/signals";
import type { HLJSApi } from "highlight.js";
import type katex from "katex";

declare const MATH_STYLES: string;

/** Counts what has come: what is shown is drawn again then. */
export const arrived = signal(0);

let highlighter: HLJSApi | null | undefined;
let typesetter: typeof katex | null | undefined;

/** Null: not yet (it is on its way), or not to be had. */
export function highlighting(): HLJSApi | null {
  if (highlighter === undefined) {
    highlighter = null;
    void import("./languages").then((module) => {
      highlighter = module.highlighter;
      arrived.value += 1;
    }, forget);
  }
  return highlighter;
}

export function math(): typeof katex | null {
  if (typesetter === undefined) {
    typesetter = null;
    void Promise.all([import("katex"), styles(`static/${MATH_STYLES}`)]).then(([module]) => {
      typesetter = module.default;
      arrived.value += 1;
    }, forget);
  }
  return typesetter;
}

function styles(href: string): Promise<void> {
  return new Promise((resolve, reject) => {
    const link = document.createElement("link");
    link.rel = "stylesheet";
    link.href = href;
    link.onload = () => resolve();
    link.onerror = () => reject(new Error(`${href} could not be loaded`));
    document.head.append(link);
  });
}

/** Without it an answer can be read: it is shown as it was written. */
function forget(error: unknown): void {
  console.warn(error);
}
