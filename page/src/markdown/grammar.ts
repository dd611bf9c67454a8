// Markdown as models write it: with math, and with nothing in it that is not text. Markup that stands in an answer is
// shown as it is written, but for a few harmless tags.

import { Marked, type TokenizerAndRendererExtension, type Tokens } from "marked";

const HARMLESS = /^<\/?(?:br|sub|sup|kbd|mark|u|s|b|i|em|strong|small)\s*\/?>$/i;
const ESCAPES: Record<string, string> = { "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;" };

export function escaped(text: string): string {
  return text.replace(/[&<>"']/g, (character) => ESCAPES[character] ?? character);
}

interface MathToken extends Tokens.Generic {
  tex: string;
  display: boolean;
}

const asMath = (token: Tokens.Generic): string => {
  const { tex, display } = token as MathToken;
  return display ? `<div class="math-display">${escaped(tex)}</div>` : `<span class="math-inline">${escaped(tex)}</span>`;
};

const INLINE_MATH: [RegExp, boolean][] = [
  [/^\$\$([^$]+?)\$\$/, true],
  [/^\\\[([\s\S]+?)\\\]/, true],
  [/^\\\(([\s\S]+?)\\\)/, false],
  // A dollar that opens has no space behind it, one that closes none before it and no digit behind it: 5 $ and 6 $ are money.
  [/^\$(?![\s$])((?:\\.|[^$\\\n])*?[^\s\\$])\$(?!\d)/, false],
];

const inlineMath: TokenizerAndRendererExtension = {
  name: "inlineMath",
  level: "inline",
  start: (source) => source.match(/\$|\\[([]/)?.index,
  tokenizer(source) {
    for (const [pattern, display] of INLINE_MATH) {
      const found = pattern.exec(source);
      if (found?.[1]) return { type: "inlineMath", raw: found[0], tex: found[1].trim(), display };
    }
    return undefined;
  },
  renderer: asMath,
};

const blockMath: TokenizerAndRendererExtension = {
  name: "blockMath",
  level: "block",
  start: (source) => source.match(/(?:^|\n)(?:\$\$|\\\[)/)?.index,
  tokenizer(source) {
    const found = /^(?:\$\$([\s\S]+?)\$\$|\\\[([\s\S]+?)\\\])[ \t]*(?:\n|$)/.exec(source);
    const tex = found?.[1] ?? found?.[2];
    return found && tex ? { type: "blockMath", raw: found[0], tex: tex.trim(), display: true } : undefined;
  },
  renderer: asMath,
};

const grammar = new Marked({
  gfm: true,
  async: false,
  extensions: [inlineMath, blockMath],
  renderer: {
    // Headings of an answer stand below the page's own.
    heading({ tokens, depth }) {
      const level = Math.min(6, depth + 2);
      return `<h${level} class="level-${depth}">${this.parser.parseInline(tokens)}</h${level}>`;
    },
    html: ({ text }) => (HARMLESS.test(text.trim()) ? text : escaped(text)),
    image: ({ href, text }) => `<img src="${escaped(href)}" alt="${escaped(text)}">`,
  },
});

/** A paragraph, a list, a table…: what stands for itself. */
export interface Block {
  raw: string;
  html: string;
  /** Where it ends in the text, the empty lines behind it included. */
  end: number;
}

/** The blocks of a text. `html` is not to be trusted. Those in `known`, by what they were written as, are not made again. */
export function blocksOf(text: string, known: ReadonlyMap<string, string>): Block[] {
  const blocks: Block[] = [];
  let end = 0;
  for (const token of grammar.lexer(text)) {
    end += token.raw.length;
    if (token.type !== "space" && token.type !== "def") {
      blocks.push({ raw: token.raw, html: known.get(token.raw) ?? grammar.parser([token]), end });
    }
  }
  return blocks;
}

/** A text that is still being written, as it will probably go on: what is open is closed, what may become something else
 *  is held back. So nothing jumps when the rest comes. */
export function healed(text: string): string {
  const start = text.lastIndexOf("\n\n") + 1;
  const fences = text.match(/^ {0,3}(?:```|~~~)/gm)?.length ?? 0;
  if (fences % 2 === 1) return text.replace(/\n`{1,2}$/, "");
  // A line that begins with a dash or an equals sign would make a heading of the one before it.
  let tail = text.slice(start).replace(/\n[ \t]*(?:[-=]+|[*+]|\d+[.)]?)[ \t]*$/, "");
  tail = tail.replace(/!?\[[^\]\n]*\]\([^)\s]*$/, (link) => /\[([^\]]*)\]/.exec(link)?.[1] ?? "");
  if ((tail.match(/(?<!\\)`/g)?.length ?? 0) % 2 === 1) return text.slice(0, start) + tail + "`";
  for (const mark of ["**", "~~"]) {
    const count = tail.split(mark).length - 1;
    if (count % 2 === 1) tail = tail.endsWith(mark) ? tail.slice(0, -mark.length) : tail.replace(/\s*$/, "") + mark;
  }
  return text.slice(0, start) + tail;
}
