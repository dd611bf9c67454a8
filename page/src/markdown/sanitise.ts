// The one way by which markup becomes part of the page. The browser itself holds to that (the page's policy of trusted
// types): whatever a model says, no script of it runs, and nothing is fetched that the reader did not allow.

import DOMPurify from "dompurify";

const TAGS = [
  "a", "b", "blockquote", "br", "code", "del", "div", "em", "h1", "h2", "h3", "h4", "h5", "h6", "hr", "i", "img",
  "input", "kbd", "li", "mark", "ol", "p", "pre", "s", "small", "span", "strong", "sub", "sup", "table", "tbody", "td",
  "th", "thead", "tr", "u", "ul",
];
const ATTRIBUTES = ["href", "title", "src", "alt", "align", "start", "class", "type", "checked", "disabled"];
const CLASSES = /^(?:language-[\w+#.-]{1,30}|level-[1-6]|math-inline|math-display|hljs-[\w-]+|[\w-]+_)$/;

export function sanitised(html: string): DocumentFragment {
  const fragment = DOMPurify.sanitize(html, {
    ALLOWED_TAGS: TAGS,
    ALLOWED_ATTR: ATTRIBUTES,
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    ADD_URI_SAFE_ATTR: ["align", "start", "type", "checked", "disabled"],
    ALLOWED_URI_REGEXP: /^(?:https?|mailto):/i,
    RETURN_DOM_FRAGMENT: true,
  });
  for (const element of fragment.querySelectorAll("[class]")) {
    const allowed = [...element.classList].filter((name) => CLASSES.test(name));
    if (allowed.length) element.className = allowed.join(" ");
    else element.removeAttribute("class");
  }
  // Of inputs only the boxes of task lists, which nobody ticks.
  for (const input of fragment.querySelectorAll("input")) {
    if (input.type !== "checkbox") input.remove();
    else input.disabled = true;
  }
  return fragment;
}
