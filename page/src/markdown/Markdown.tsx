// A text in Markdown, drawn as it grows: a block at a time, at most once a frame, and less often where drawing is slow.

import { useSignalEffect, type Signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { remoteImages, wrapCode } from "../state/preferences";
import { dress } from "./dress";
import { blocksOf, escaped, healed, type Block } from "./grammar";
import { arrived } from "./lazy";
import { morph } from "./morph";
import { sanitised } from "./sanitise";

/** Of the time, at most this share goes into drawing an answer that streams. */
const SHARE = 0.25;

export function Markdown({ text, growing }: { text: Signal<string>; growing: Signal<boolean> }) {
  const place = useRef<HTMLDivElement>(null);
  const drawing = useRef<Drawing | null>(null);
  useSignalEffect(() => {
    const look = `${arrived.value} ${remoteImages.value} ${wrapCode.value}`;
    const source = text.value;
    const still = growing.value;
    if (!place.current) return;
    drawing.current ??= new Drawing(place.current);
    drawing.current.show(source, still, look);
  });
  useEffect(() => () => drawing.current?.end(), []);
  return <div class="markdown" ref={place} />;
}

class Drawing {
  private readonly place: HTMLElement;
  private shown: Block[] = [];
  private look = "";
  private next: { text: string; growing: boolean; look: string } | null = null;
  private timer = 0;
  private notBefore = 0;

  constructor(place: HTMLElement) {
    this.place = place;
  }

  show(text: string, growing: boolean, look: string): void {
    this.next = { text, growing, look };
    if (!growing) {
      this.end();
      this.draw();
    } else if (this.timer === 0) this.later();
  }

  end(): void {
    clearTimeout(this.timer);
    this.timer = 0;
  }

  private later(): void {
    const wait = Math.max(0, this.notBefore - performance.now());
    this.timer = window.setTimeout(() => {
      requestAnimationFrame(() => {
        if (this.timer === 0) return;
        this.timer = 0;
        this.draw();
      });
    }, wait);
  }

  private draw(): void {
    if (!this.next) return;
    const { text, growing, look } = this.next;
    const began = performance.now();
    const known = new Map(this.shown.map((block) => [block.raw, block.html]));
    this.update(blocks(growing ? healed(text) : text, known), look !== this.look);
    this.look = look;
    const spent = performance.now() - began;
    this.notBefore = performance.now() + spent / SHARE - spent;
  }

  private update(next: Block[], all: boolean): void {
    const children = this.place.children;
    next.forEach((block, index) => {
      const before = this.shown[index];
      if (before?.html === block.html && !all) return;
      let element = children[index];
      if (!element) {
        element = document.createElement("div");
        element.className = "block";
        this.place.append(element);
      }
      morph(element, dress(sanitised(block.html), { images: remoteImages.peek(), wrap: wrapCode.peek() }));
    });
    while (children.length > next.length) this.place.lastElementChild?.remove();
    this.shown = next;
  }
}

/** A text that the grammar fails on is shown as it is. */
function blocks(text: string, known: ReadonlyMap<string, string>): Block[] {
  try {
    return blocksOf(text, known);
  } catch (error) {
    console.warn(error);
    return [{ raw: text, html: `<p>${escaped(text)}</p>` }];
  }
}
