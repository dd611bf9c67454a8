// Short messages at the edge of the page, and what can still be taken back.

import { signal } from "@preact/signals";

export interface Notice {
  id: number;
  text: string;
  kind: "plain" | "error";
  undo?: () => void;
}

export const notices = signal<Notice[]>([]);
/** What a screen reader is told. */
export const announcement = signal("");

const READ_SECONDS = 6;
let last = 0;

export function announce(text: string): void {
  announcement.value = text;
}

export function notify(text: string, kind: Notice["kind"] = "plain"): void {
  const id = show({ text, kind });
  setTimeout(() => dismiss(id), READ_SECONDS * 1000);
}

export function dismiss(id: number): void {
  notices.value = notices.value.filter((notice) => notice.id !== id);
}

function show(notice: Omit<Notice, "id">): number {
  const id = ++last;
  notices.value = [...notices.value.slice(-3), { ...notice, id }];
  return id;
}

const pending = new Map<string, () => Promise<void>>();

/** Do something a few seconds from now, unless somebody takes it back. `subject`: whose it is, for `settle`. A page that
 *  is left does it at once. */
export function revocable(subject: string, text: string, commit: () => Promise<void>, undo: () => void): void {
  const id = show({
    text,
    kind: "plain",
    undo: () => {
      clearTimeout(timer);
      pending.delete(subject);
      dismiss(id);
      undo();
    },
  });
  const now = async (): Promise<void> => {
    clearTimeout(timer);
    pending.delete(subject);
    dismiss(id);
    await commit();
  };
  const timer = setTimeout(() => void now(), READ_SECONDS * 1000);
  pending.set(subject, now);
}

/** Whether something of a subject can still be taken back. */
export function isRevocable(subject: string): boolean {
  return pending.has(subject);
}

/** Do at once what is pending for a subject. */
export async function settle(subject: string): Promise<void> {
  await pending.get(subject)?.();
}

export function settleAllWhenLeft(): void {
  addEventListener("pagehide", () => {
    for (const now of pending.values()) void now();
  });
}
