// The chats: found, opened, named, exported, deleted.

import { useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import type { Session } from "../talk/api";
import { addressOf, current, goNew } from "../state/place";
import {
  download, listState, more, moreSessions, refreshSessions, remove, rename, search, sessions, shown, wanted,
} from "../state/sessions";
import { Icon } from "./icons";
import { Menu } from "./Menu";
import { openHelp } from "./Help";

const DAY = 86_400_000;

function groupOf(session: Session, today: number): string {
  const used = session.last_used_at * 1000;
  if (used >= today) return "Today";
  if (used >= today - DAY) return "Yesterday";
  if (used >= today - 7 * DAY) return "Last seven days";
  return "Earlier";
}

function grouped(all: Session[]): [string, Session[]][] {
  const today = new Date().setHours(0, 0, 0, 0);
  const groups = new Map<string, Session[]>();
  for (const session of all) {
    const name = groupOf(session, today);
    groups.set(name, [...(groups.get(name) ?? []), session]);
  }
  return [...groups];
}

export function Sidebar({ onPick }: { onPick: () => void }) {
  const end = useRef<HTMLDivElement>(null);
  useEffect(() => {
    const watcher = new IntersectionObserver((seen) => seen.some((one) => one.isIntersecting) && void moreSessions());
    if (end.current) watcher.observe(end.current);
    return () => watcher.disconnect();
  }, []);
  return (
    <nav class="sidebar" aria-label="Chats" id="sidebar">
      <div class="sidebar-head">
        <a class="wordmark" href="#" onClick={(event) => { event.preventDefault(); goNew(); onPick(); }}>
          <img src="static/icon.svg" alt="" width="26" height="26" />
          Chat
        </a>
        <button type="button" class="quiet" aria-label="Keyboard shortcuts" title="Keyboard shortcuts (?)" onClick={openHelp}>
          <Icon name="help" />
        </button>
      </div>
      <button type="button" class="new-chat" onClick={() => { goNew(); onPick(); }}>
        <Icon name="plus" /> New chat
      </button>
      <label class="search">
        <Icon name="search" />
        <span class="off-screen">Search chats</span>
        <input
          id="search" type="search" placeholder="Search chats" autocomplete="off" value={wanted.value}
          onInput={(event) => void search(event.currentTarget.value)}
        />
      </label>
      <div class="chats">
        {grouped(shown.value).map(([name, group]) => (
          <section key={name}>
            <h2>{name}</h2>
            <ul>{group.map((session) => <Row key={session.id} session={session} onPick={onPick} />)}</ul>
          </section>
        ))}
        <Nothing />
        <div ref={end} class="list-end">{more.value && "…"}</div>
      </div>
    </nav>
  );
}

function Nothing() {
  if (shown.value.length > 0) return null;
  if (listState.value === "loading") return <p class="hint">Fetching your chats…</p>;
  if (listState.value === "failed") {
    return (
      <p class="hint">
        Your chats cannot be shown now. <button type="button" class="link" onClick={() => void refreshSessions()}>Try again</button>
      </p>
    );
  }
  if (wanted.value && sessions.value.length > 0) return <p class="hint">No title has these words.</p>;
  return <p class="hint">Chats are kept here once you have begun one.</p>;
}

function Row({ session, onPick }: { session: Session; onPick: () => void }) {
  const naming = useSignal(false);
  const here = current.value.id === session.id;
  const title = session.title || "Untitled";
  if (naming.value) return <li><Naming session={session} done={() => (naming.value = false)} /></li>;
  const deleted = (): void => {
    remove(session);
    if (here) goNew();
  };
  return (
    <li class={here ? "here" : ""}>
      <a href={addressOf(session.id)} aria-current={here ? "page" : undefined} title={title} onClick={onPick}>{title}</a>
      <Menu
        label={`Actions for ${title}`}
        items={[
          { label: "Rename", act: () => (naming.value = true) },
          { label: "Export as Markdown", act: () => void download(session, "markdown") },
          { label: "Export as JSON", act: () => void download(session, "json") },
          { label: "Delete", act: deleted, danger: true },
        ]}
      >
        <Icon name="more" />
      </Menu>
    </li>
  );
}

function Naming({ session, done }: { session: Session; done: () => void }) {
  const field = useRef<HTMLInputElement>(null);
  const left = useRef(false);
  useEffect(() => field.current?.select(), []);
  const finish = (taken: boolean): void => {
    if (left.current) return;
    left.current = true;
    const title = field.current?.value.trim() ?? "";
    done();
    if (taken && title && title !== session.title) void rename(session.id, title);
  };
  return (
    <input
      class="naming" ref={field} aria-label="Title" maxLength={200} defaultValue={session.title}
      onBlur={() => finish(true)}
      onKeyDown={(event) => {
        if (event.key === "Enter") finish(true);
        if (event.key === "Escape") finish(false);
      }}
    />
  );
}
