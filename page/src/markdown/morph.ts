// Makes what is shown into what is to be shown, and touches nothing that is the same: no flicker, and a selection stays.

export function morph(shown: Element, wanted: ParentNode): void {
  const now = [...shown.childNodes];
  const next = [...wanted.childNodes];
  next.forEach((node, index) => {
    const there = now[index];
    if (!there) shown.append(node);
    else if (!same(there, node)) there.replaceWith(node);
    else if (there instanceof Element && node instanceof Element) {
      if (there.hasAttribute("data-whole") || node.hasAttribute("data-whole")) return whole(there, node);
      attributes(there, node);
      morph(there, node);
    } else if (there.nodeValue !== node.nodeValue) extend(there, node.nodeValue ?? "");
  });
  for (const left of now.slice(next.length)) left.remove();
}

function same(one: Node, other: Node): boolean {
  return one.nodeType === other.nodeType && one.nodeName === other.nodeName;
}

/** What was drawn by others, from a source that `data-whole` names. */
function whole(there: Element, node: Element): void {
  if (there.getAttribute("data-whole") !== node.getAttribute("data-whole")) there.replaceWith(node);
}

function extend(text: Node, value: string): void {
  const before = text.nodeValue ?? "";
  if (text instanceof Text && value.startsWith(before)) text.appendData(value.slice(before.length));
  else text.nodeValue = value;
}

function attributes(there: Element, node: Element): void {
  for (const { name } of [...there.attributes]) if (!node.hasAttribute(name)) there.removeAttribute(name);
  for (const { name, value } of node.attributes) if (there.getAttribute(name) !== value) there.setAttribute(name, value);
}
