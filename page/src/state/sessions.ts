// The chats that the service keeps: listed, found by title, named, deleted, exported.

import { computed, signal } from "@preact/signals";
import { api, ask, type Session } from "../talk/api";
import { ServiceError } from "../talk/errors";
import { forgetDraft } from "./drafts";
import { notify, revocable } from "./notices";
import { forgetParameters } from "./parameters";
import { tellTabs } from "./tabs";

export const sessions = signal<Session[]>([]);
export const listState = signal<"loading" | "ready" | "failed">("loading");
export const more = signal(false);
export const wanted = signal("");

/** Deleted, and not yet told to the service: it can be taken back. */
const leaving = signal<ReadonlySet<string>>(new Set());

export const shown = computed(() => {
  const words = wanted.value.toLocaleLowerCase().split(/\s+/).filter(Boolean);
  return sessions.value.filter((session) => {
    const title = session.title.toLocaleLowerCase();
    return !leaving.value.has(session.id) && words.every((word) => title.includes(word));
  });
});

/** The list anew, as far as it was shown. */
export async function refreshSessions(): Promise<void> {
  const known = sessions.value.length;
  try {
    let page = await api.sessions(null);
    let found = page.data;
    while (page.has_more && (found.length < known || wanted.value)) {
      page = await api.sessions(page.last_id);
      found = [...found, ...page.data];
    }
    sessions.value = found;
    more.value = page.has_more;
    listState.value = "ready";
  } catch (error) {
    if (!(error instanceof ServiceError)) throw error;
    if (sessions.value.length === 0) listState.value = "failed";
  }
}

let fetching = false;

/** The next page of the list. */
export async function moreSessions(): Promise<void> {
  const last = sessions.value.at(-1);
  if (fetching || !more.value || !last) return;
  fetching = true;
  try {
    const page = await api.sessions(last.id);
    const known = new Set(sessions.value.map((session) => session.id));
    sessions.value = [...sessions.value, ...page.data.filter((session) => !known.has(session.id))];
    more.value = page.has_more;
  } catch {
    more.value = false;
  } finally {
    fetching = false;
  }
}

/** Titles are searched here: so all of them have to be. */
export async function search(words: string): Promise<void> {
  wanted.value = words;
  while (wanted.value && more.value && !fetching) await moreSessions();
}

export function titleOf(id: string): string {
  return sessions.value.find((session) => session.id === id)?.title ?? "";
}

/** A chat that was just begun, until the service's own list tells of it. */
export function putFirst(id: string, title: string, model: string | null): void {
  const now = Math.floor(Date.now() / 1000);
  const known = sessions.value.find((session) => session.id === id);
  const session = known ?? { id, title, model, messages: 0, created_at: now, last_used_at: now, expires_at: 0 };
  sessions.value = [{ ...session, last_used_at: now }, ...sessions.value.filter((other) => other.id !== id)];
}

export async function rename(id: string, title: string): Promise<void> {
  const before = sessions.value;
  sessions.value = before.map((session) => (session.id === id ? { ...session, title } : session));
  try {
    await api.change(id, { title });
    tellTabs({ kind: "sessions" });
  } catch (error) {
    sessions.value = before;
    notify(`The chat keeps its name. ${(error as Error).message}`, "error");
  }
}

/** Gone at once for who looks, and a few seconds later for good. */
export function remove(session: Session): void {
  leaving.value = new Set([...leaving.value, session.id]);
  const back = (): void => {
    leaving.value = new Set([...leaving.value].filter((id) => id !== session.id));
  };
  const commit = async (): Promise<void> => {
    try {
      await api.remove(session.id);
    } catch (error) {
      if (!(error instanceof ServiceError && error.status === 404)) {
        back();
        notify(`The chat was not deleted. ${(error as Error).message}`, "error");
        return;
      }
    }
    sessions.value = sessions.value.filter((other) => other.id !== session.id);
    back();
    forgetParameters(session.id);
    forgetDraft(session.id);
    tellTabs({ kind: "sessions" });
  };
  revocable(`delete ${session.id}`, `Deleted “${session.title || "Untitled"}”.`, commit, back);
}

export async function download(session: Session, format: "json" | "markdown"): Promise<void> {
  try {
    const response = await ask("GET", `v1/sessions/${encodeURIComponent(session.id)}/export?format=${format}`);
    const link = document.createElement("a");
    link.href = URL.createObjectURL(await response.blob());
    link.download = `${fileName(session)}.${format === "json" ? "json" : "md"}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  } catch (error) {
    notify(`The chat was not exported. ${(error as Error).message}`, "error");
  }
}

function fileName(session: Session): string {
  const words = session.title.normalize("NFKD").replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-+|-+$/g, "");
  return words.slice(0, 60) || session.id;
}
