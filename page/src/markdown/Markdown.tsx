// A text in Markdown, drawn as it grows: a block at a time, at most once a frame, and less often where drawing is slow.

import { useSignalEffect, type Signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { imagesShown, remoteImages, wrapCode } from "../state/preferences";
import { dress } from "./dress";
import { blocksOf, escaped, healed, type Block } from "./grammar";
import { arrived } from "./lazy";
import { morph } from "./morph";
import { sanitised } from "./sanitise";

/** Of the time, at most this share goes into drawing an answer that streams. */
const SHARE = 0.25;
/** Of the blocks, the last ones may yet become something else. */
const UNSETTLED = 2;

export function Markdown({ text, growing }: { text: Signal<string>; growing: Signal<boolean> }) {
  const place = useRef<HTMLDivElement>(null);
  const drawing = useRef<Drawing | null>(null);
  useSignalEffect(() => {
    const look = `${arrived.value} ${remoteImages.value} ${wrapCode.value}`;
    const source = text.value.replace(/\r\n?/g, "\n");
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
  /** Blocks that what comes will not change, and how much of the text they are: that is not read again. */
  private settled: Block[] = [];
  private settledText = "";
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
    this.update(growing ? this.grown(text) : blocks(text, this.known()), look !== this.look);
    this.look = look;
    const spent = performance.now() - began;
    this.notBefore = performance.now() + spent / SHARE - spent;
  }

  private known(): Map<string, string> {
    return new Map(this.shown.map((block) => [block.raw, block.html]));
  }

  private grown(text: string): Block[] {
    if (!text.startsWith(this.settledText)) {
      this.settled = [];
      this.settledText = "";
    }
    const start = this.settledText.length;
    const open = blocks(healed(text.slice(start)), this.known());
    const closed = open.slice(0, -UNSETTLED);
    const all = [...this.settled, ...open];
    if (closed.length > 0) {
      this.settled = [...this.settled, ...closed];
      this.settledText = text.slice(0, start + (closed.at(-1)?.end ?? 0));
    }
    return all;
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
      morph(element, dress(sanitised(block.html), { images: imagesShown(), wrap: wrapCode.peek() }));
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
    return [{ raw: text, html: `<p>${escaped(text)}</p>`, end: text.length }];
  }
}
