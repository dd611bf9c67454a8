// What sanitised markup is given beyond what Markdown says: code with its buttons and colours, typeset math, links that
// lead away safely, pictures only where the reader allows them.

import { highlighting, math } from "./lazy";
import { sanitised } from "./sanitise";

const LONGEST_HIGHLIGHTED = 30_000;

export interface Wishes {
  images: boolean;
  wrap: boolean;
}

export function dress(fragment: DocumentFragment, wishes: Wishes): DocumentFragment {
  for (const code of fragment.querySelectorAll<HTMLElement>("pre > code")) codeBlock(code, wishes.wrap);
  for (const place of fragment.querySelectorAll<HTMLElement>(".math-inline, .math-display")) typeset(place);
  for (const image of fragment.querySelectorAll("img")) picture(image, wishes.images);
  for (const link of fragment.querySelectorAll("a")) leadAway(link);
  for (const table of fragment.querySelectorAll("table")) scrollable(table);
  return fragment;
}

function leadAway(link: HTMLAnchorElement): void {
  if (!link.hasAttribute("href")) return;
  link.target = "_blank";
  link.rel = "noopener noreferrer nofollow";
}

function picture(image: HTMLImageElement, allowed: boolean): void {
  const source = image.getAttribute("src");
  if (source !== null && allowed && /^https?:/i.test(source)) {
    image.loading = "lazy";
    image.referrerPolicy = "no-referrer";
    return;
  }
  const instead = document.createElement(source === null ? "span" : "a");
  instead.className = "blocked-image";
  instead.textContent = `Image${image.alt ? `: ${image.alt}` : ""} (not loaded)`;
  if (source !== null) instead.setAttribute("href", source);
  image.replaceWith(instead);
}

function scrollable(table: HTMLTableElement): void {
  const frame = document.createElement("div");
  frame.className = "table-frame";
  frame.tabIndex = 0;
  frame.setAttribute("role", "region");
  frame.setAttribute("aria-label", "Table");
  table.replaceWith(frame);
  frame.append(table);
}

function codeBlock(code: HTMLElement, wrap: boolean): void {
  const pre = code.parentElement;
  if (!pre) return;
  const language = /language-(\S+)/.exec(code.className)?.[1] ?? "";
  const figure = document.createElement("figure");
  figure.className = wrap ? "code wrapped" : "code";
  const bar = document.createElement("figcaption");
  const name = document.createElement("span");
  name.textContent = language || "text";
  bar.append(name, button("wrap", "Wrap", wrap ? "true" : "false"), button("copy", "Copy"));
  pre.replaceWith(figure);
  pre.tabIndex = 0;
  pre.setAttribute("aria-label", language ? `Code, ${language}` : "Code");
  pre.setAttribute("role", "region");
  figure.append(bar, pre);
  highlight(code, language);
}

function button(action: string, label: string, pressed?: string): HTMLButtonElement {
  const made = document.createElement("button");
  made.type = "button";
  made.dataset.action = action;
  made.textContent = label;
  if (pressed !== undefined) made.setAttribute("aria-pressed", pressed);
  return made;
}

function highlight(code: HTMLElement, language: string): void {
  const text = code.textContent ?? "";
  if (!language || text.length > LONGEST_HIGHLIGHTED) return;
  const highlighter = highlighting();
  if (!highlighter?.getLanguage(language)) return;
  code.replaceChildren(sanitised(highlighter.highlight(text, { language, ignoreIllegals: true }).value));
}

function typeset(place: HTMLElement): void {
  const tex = place.textContent ?? "";
  const typesetter = math();
  if (!typesetter) return;
  try {
    const display = place.classList.contains("math-display");
    typesetter.render(tex, place, { displayMode: display, throwOnError: true, trust: false, maxExpand: 200, maxSize: 40 });
    place.dataset.whole = tex;
    if (display) place.tabIndex = 0;
  } catch {
    place.classList.add("math-broken");
    place.textContent = tex;
  }
}
