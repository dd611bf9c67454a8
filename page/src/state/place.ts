// Which chat is shown: the page's address says so (`#/chat/…`), so that it can be kept, sent, and gone back from.

import { effect, signal } from "@preact/signals";
import { NEW, chatOf, freshChat, type Chat } from "./chat";
import { draftOf, setDraft } from "./drafts";
import { hearTabs } from "./tabs";
import { refreshModels } from "./models";
import { refreshSessions } from "./sessions";

const POLL_SECONDS = 1.5;
const LONGEST_POLL_SECONDS = 600;

export const current = signal<Chat>(freshChat());

export function addressOf(id: string): string {
  return `#/chat/${encodeURIComponent(id)}`;
}

export function go(id: string): void {
  location.hash = addressOf(id);
}

export function goNew(): void {
  if (location.hash) history.pushState(null, "", location.pathname + location.search);
  if (current.value.state.value !== "new" || current.value.busy.value) current.value = freshChat();
}

/** Null: none, or nothing that could be an id. */
function namedIn(hash: string): string | null {
  const named = /^#\/chat\/(.+)$/.exec(hash)?.[1];
  try {
    return named === undefined ? null : decodeURIComponent(named);
  } catch {
    return null;
  }
}

function follow(): void {
  const named = namedIn(location.hash);
  if (named === null) {
    goNew();
    return;
  }
  const chat = chatOf(named);
  current.value = chat;
  void chat.load();
}

export function followAddress(): void {
  follow();
  addEventListener("hashchange", follow);
  // A new chat has an address once the service has it.
  effect(() => {
    const chat = current.value;
    if (chat.state.value === "ready" && !location.hash) history.replaceState(null, "", addressOf(chat.id));
  });
  // What is typed into a new chat is nobody's yet.
  effect(() => {
    const chat = current.value;
    if (chat.state.value === "new") setDraft(NEW, draftOf(chat.id).value);
    else if (draftOf(NEW).peek() && chat.state.peek() === "ready" && draftOf(chat.id).value === "") setDraft(NEW, "");
  });
  watchOthers();
}

function watchOthers(): void {
  hearTabs((message) => {
    void refreshSessions();
    if (message.kind === "chat" && message.id === current.value.id) void current.value.load();
  });
  addEventListener("focus", () => void lookAgain());
  addEventListener("online", () => void lookAgain());
  effect(() => {
    const chat = current.value;
    if (!chat.elsewhere.value) return;
    const began = performance.now();
    const timer = setInterval(() => {
      if (document.visibilityState === "visible") void chat.load();
      if (performance.now() - began > LONGEST_POLL_SECONDS * 1000) clearInterval(timer);
    }, POLL_SECONDS * 1000);
    return () => clearInterval(timer);
  });
}

export async function lookAgain(): Promise<void> {
  await Promise.all([refreshModels(), refreshSessions(), current.value.load()]);
}
