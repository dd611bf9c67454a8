// Files beside a message: texts become part of it, images go with it where the model sees.

import { signal } from "@preact/signals";

export interface Attached {
  name: string;
  text: string;
}

export interface Attachment {
  id: number;
  name: string;
  /** A file of text, or an image as a data URL. */
  kind: "text" | "image";
  content: string;
}

export const LONGEST_FILE = 256 * 1024;
const LONGEST_SIDE = 1024;
const MOST_FILES = 8;

export const attachments = signal<Attachment[]>([]);
let last = 0;

/** Take files along; why some cannot be, in words. */
export async function attach(files: Iterable<File>, sees: boolean): Promise<string[]> {
  const refused: string[] = [];
  for (const file of files) {
    const why = await attachOne(file, sees);
    if (why !== null) refused.push(`${file.name}: ${why}`);
  }
  return refused;
}

async function attachOne(file: File, sees: boolean): Promise<string | null> {
  if (attachments.value.length >= MOST_FILES) return `a message takes ${MOST_FILES} files at most.`;
  if (file.type.startsWith("image/") && file.type !== "image/svg+xml") {
    if (!sees) return "this model does not see images.";
    const url = await smaller(file);
    if (url === null) return "the browser cannot read this image.";
    add(file.name, "image", url);
    return null;
  }
  if (file.size > LONGEST_FILE) return `a text may have ${LONGEST_FILE / 1024} KB at most.`;
  const text = await textOf(file);
  if (text === null) return "it is no text.";
  add(file.name, "text", text);
  return null;
}

function add(name: string, kind: Attachment["kind"], content: string): void {
  attachments.value = [...attachments.value, { id: ++last, name: name.replace(/[\r\n`]/g, " "), kind, content }];
}

export function detach(id: number): void {
  attachments.value = attachments.value.filter((one) => one.id !== id);
}

async function textOf(file: File): Promise<string | null> {
  try {
    const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
    return text.includes("\0") ? null : text;
  } catch {
    return null;
  }
}

/** As a JPEG of at most `LONGEST_SIDE` pixels a side: a model sees no more, and what else a photograph tells stays here. */
async function smaller(file: File): Promise<string | null> {
  try {
    const image = await createImageBitmap(file);
    const scale = Math.min(1, LONGEST_SIDE / Math.max(image.width, image.height));
    const canvas = document.createElement("canvas");
    canvas.width = Math.max(1, Math.round(image.width * scale));
    canvas.height = Math.max(1, Math.round(image.height * scale));
    const context = canvas.getContext("2d");
    if (!context) return null;
    context.fillStyle = "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.drawImage(image, 0, 0, canvas.width, canvas.height);
    return canvas.toDataURL("image/jpeg", 0.85);
  } catch {
    return null;
  }
}

/** A message with the texts of its files behind it, each in a fence that is longer than any in it. */
export function withFiles(text: string, files: readonly Attachment[]): string {
  const parts = files.filter((file) => file.kind === "text").map((file) => {
    const longest = Math.max(2, ...[...file.content.matchAll(/`+/g)].map((run) => run[0].length));
    const fence = "`".repeat(longest + 1);
    const suffix = /\.(\w{1,12})$/.exec(file.name)?.[1] ?? "";
    return `Attached file: ${file.name}\n${fence}${suffix}\n${file.content.replace(/\n$/, "")}\n${fence}`;
  });
  return [text, ...parts].filter(Boolean).join("\n\n");
}

const ATTACHED = /(?:^|\n\n)Attached file: ([^\n]+)\n(`{3,})\w*\n([\s\S]*?)\n\2(?=\n\n|$)/g;

/** The message that somebody wrote, and the files behind it. */
export function attachmentsIn(message: string): { text: string; files: Attached[] } {
  const files = [...message.matchAll(ATTACHED)].map((found) => ({ name: found[1] ?? "", text: found[3] ?? "" }));
  return { text: files.length ? message.replace(ATTACHED, "").trim() : message, files };
}
