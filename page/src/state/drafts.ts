// What was typed and not yet kept by the service: it outlives a reload, an expired chat, and a lost connection.

import { signal, type Signal } from "@preact/signals";
import { keep, kept } from "../kept";

const held = new Map<string, Signal<string>>();

export function draftOf(chat: string): Signal<string> {
  let found = held.get(chat);
  if (!found) {
    found = signal(kept(`draft.${chat}`, ""));
    held.set(chat, found);
  }
  return found;
}

export function setDraft(chat: string, text: string): void {
  draftOf(chat).value = text;
  keep(`draft.${chat}`, text || null);
}

export function forgetDraft(chat: string): void {
  held.delete(chat);
  keep(`draft.${chat}`, null);
  keep(`unsent.${chat}`, null);
}

/** A question that was sent, and that the service has not said to have. */
export function unsentOf(chat: string): string | null {
  return kept<string | null>(`unsent.${chat}`, null);
}

export function setUnsent(chat: string, question: string | null): void {
  keep(`unsent.${chat}`, question);
}
