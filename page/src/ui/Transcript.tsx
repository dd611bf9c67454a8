// The messages of a chat. Who reads the end stays at the end; who reads further up is left alone.

import { useSignal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import type { Chat } from "../state/chat";
import { current, goNew } from "../state/place";
import { Failure } from "./Failure";
import { Icon } from "./icons";
import { Message } from "./Message";
import { Welcome } from "./Welcome";

const NEAR = 80;
/** Messages that are drawn at once; the ones before them follow when there is time. */
const FIRST = 24;
const STEP = 40;

export function Transcript({ chat }: { chat: Chat }) {
  const frame = useRef<HTMLDivElement>(null);
  const list = useRef<HTMLOListElement>(null);
  const atEnd = useSignal(true);
  const drawn = useSignal(FIRST);
  const entries = chat.entries.value;
  const first = Math.max(0, entries.length - drawn.value);

  const toEnd = (): void => {
    const box = frame.current;
    if (box) box.scrollTop = box.scrollHeight;
  };
  const seen = useRef({ top: 0, height: 0 });
  // What is drawn meanwhile moves the end away too: only who scrolls up has left it.
  const scrolled = (): void => {
    const box = frame.current;
    if (!box) return;
    const { scrollTop: top, scrollHeight: height } = box;
    if (height - top - box.clientHeight < NEAR) atEnd.value = true;
    else if (height === seen.current.height && top < seen.current.top) atEnd.value = false;
    seen.current = { top, height };
  };
  const wheeled = (event: WheelEvent): void => {
    if (event.deltaY < 0 && (frame.current?.scrollTop ?? 0) > 0) atEnd.value = false;
  };
  useLayoutEffect(() => {
    drawn.value = FIRST;
    atEnd.value = true;
    toEnd();
  }, [chat.id]);
  useLayoutEffect(() => {
    if (entries.at(-2)?.state.peek() === "sending" || atEnd.peek()) toEnd();
  }, [entries.length]);
  useEffect(() => {
    const watcher = new ResizeObserver(() => {
      if (atEnd.peek()) toEnd();
    });
    if (list.current) watcher.observe(list.current);
    if (frame.current) watcher.observe(frame.current);
    return () => watcher.disconnect();
  }, [chat.id, entries.length === 0]);
  useEffect(() => {
    if (first === 0) return;
    const timer = setTimeout(() => (drawn.value += STEP), 30);
    return () => clearTimeout(timer);
  }, [first, chat.id]);

  return (
    <div class="transcript" ref={frame} onScroll={scrolled} onWheel={wheeled} tabIndex={-1} role="region" aria-label="Messages">
      <Standing chat={chat} />
      {entries.length > 0 && (
        <ol class="messages" ref={list}>
          {entries.slice(first).map((entry, index) => (
            <Message key={entry.id} chat={chat} entry={entry} last={first + index === entries.length - 1} />
          ))}
          {chat.elsewhere.value && (
            <li class="message answer"><p class="hint">No answer is here yet. It appears once it has ended, if one is on its way.</p></li>
          )}
        </ol>
      )}
      {!atEnd.value && (
        <button type="button" class="to-end" onClick={toEnd} aria-label="To the latest message"><Icon name="down" /></button>
      )}
    </div>
  );
}

/** What there is to say of a chat that has no messages to show. */
function Standing({ chat }: { chat: Chat }) {
  const state = chat.state.value;
  if (state === "new" && chat.entries.value.length === 0) return <Welcome chat={chat} />;
  if (state === "loading" && chat.entries.value.length === 0) return <p class="standing" role="status">Fetching the chat…</p>;
  if (state === "failed" && chat.failure.value) {
    return <div class="standing"><Failure error={chat.failure.value} onRetry={() => void chat.load()} /></div>;
  }
  if (state === "gone") {
    const anew = (): void => {
      const kept = chat.takeUnsent();
      goNew();
      if (kept) current.value.write(kept);
    };
    return (
      <div class="standing">
        <h2>This chat is not there any more</h2>
        <p>It has expired, or was deleted. What you had typed is kept.</p>
        <button type="button" class="primary" onClick={anew}>Begin a new chat</button>
      </div>
    );
  }
  return null;
}
