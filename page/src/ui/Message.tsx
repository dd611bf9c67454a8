// One message: what was said, how it went, and what can be done with it.

import { useComputed, useSignal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";
import { Markdown } from "../markdown/Markdown";
import type { Chat } from "../state/chat";
import type { Entry, Figures } from "../state/entry";
import { attachmentsIn, type Attached } from "../state/attachments";
import { go } from "../state/place";
import { imagesShown } from "../state/preferences";
import { Boot } from "./Boot";
import { copy } from "./clipboard";
import { Failure } from "./Failure";
import { Icon, type IconName } from "./icons";

interface Props {
  chat: Chat;
  entry: Entry;
  last: boolean;
}

export function Message({ chat, entry, last }: Props) {
  return entry.role === "user" ? <Question chat={chat} entry={entry} last={last} /> : <Answer chat={chat} entry={entry} last={last} />;
}

function Question({ chat, entry, last }: Props) {
  const editing = useSignal(false);
  const { text, files } = attachmentsIn(entry.text.value);
  const failed = entry.state.value === "failed";
  if (editing.value) return <Editing chat={chat} entry={entry} done={() => (editing.value = false)} />;
  return (
    <li class={`message question${failed ? " failed" : ""}`}>
      <h2 class="off-screen">You</h2>
      <div class="bubble" dir="auto">
        {entry.images.map((url, index) => <Shown key={url} url={url} number={index + 1} />)}
        {text && <p>{text}</p>}
        {files.map((file) => <File key={file.name} file={file} />)}
      </div>
      {failed && entry.error.value && (
        <Failure error={entry.error.value} onRetry={() => void chat.retry(entry)} onDrop={() => chat.drop(entry)} />
      )}
      {!failed && (
        <div class="actions">
          <Action icon="copy" label="Copy" act={(button) => void copy(entry.text.value, button)} />
          <Action icon="edit" label="Edit" disabled={chat.busy.value} act={() => (editing.value = true)} />
          <Action icon="rollback" label="Roll back to here" disabled={chat.busy.value} act={() => chat.rollBackTo(entry)} />
          {last && !chat.busy.value && entry.state.value === "done" && (
            <Action icon="regenerate" label="Ask again" act={() => void chat.regenerate()} />
          )}
        </div>
      )}
    </li>
  );
}

/** An image of the chat's own; one that lies elsewhere (of another client's question) only where that is allowed. */
function Shown({ url, number }: { url: string; number: number }) {
  if (url.startsWith("data:image/") || imagesShown()) return <img src={url} alt={`Attached image ${number}`} />;
  return <p><a class="blocked-image" href={url} target="_blank" rel="noopener noreferrer nofollow">Image {number} (not loaded)</a></p>;
}

function File({ file }: { file: Attached }) {
  return (
    <details class="file">
      <summary>{file.name} <span class="figure">{file.text.split("\n").length} lines</span></summary>
      <pre tabIndex={0}>{file.text}</pre>
    </details>
  );
}

function Editing({ chat, entry, done }: { chat: Chat; entry: Entry; done: () => void }) {
  const field = useRef<HTMLTextAreaElement>(null);
  useEffect(() => {
    field.current?.focus();
    field.current?.setSelectionRange(-1, -1);
  }, []);
  const send = async (): Promise<void> => {
    const text = field.current?.value.trim() ?? "";
    if (!text) return;
    const fork = await chat.edit(entry, text);
    if (!fork) return;
    done();
    go(fork.id);
  };
  return (
    <li class="message question editing">
      <div class="bubble">
        <textarea
          ref={field} aria-label="Edit your message" defaultValue={entry.text.value} rows={3}
          onKeyDown={(event) => {
            if (event.key === "Escape") done();
            if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
              event.preventDefault();
              void send();
            }
          }}
        />
        <p class="hint">This begins a chat of its own from here. The one you are in stays as it is.</p>
        <div class="row">
          <button type="button" class="primary" onClick={() => void send()}>Send</button>
          <button type="button" onClick={done}>Cancel</button>
        </div>
      </div>
    </li>
  );
}

function Answer({ chat, entry, last }: Props) {
  const growing = useComputed(() => entry.state.value === "streaming");
  const streaming = growing.value;
  const error = entry.error.value;
  return (
    <li class={`message answer ${entry.state.value}`} aria-busy={streaming}>
      <h2 class="off-screen">Answer</h2>
      {entry.waiting.value && <Boot entry={entry} />}
      <Markdown text={entry.text} growing={growing} />
      {entry.warning.value && <p class="hint">{entry.warning.value.replace(/^\d+ \S+ /, "")}</p>}
      {entry.state.value === "interrupted" && !error && <p class="mark">Stopped here{entry.text.value ? "" : ", before its first word"}.</p>}
      {error && <Failure error={error} onRetry={last ? () => void chat.regenerate() : undefined} />}
      {!streaming && (
        <div class="actions">
          <Action icon="copy" label="Copy" act={(button) => void copy(entry.text.value, button)} />
          {last && <Action icon="regenerate" label="Regenerate" disabled={chat.busy.value} act={() => void chat.regenerate()} />}
          {entry.figures.value && <FiguresLine figures={entry.figures.value} />}
        </div>
      )}
    </li>
  );
}

function FiguresLine({ figures }: { figures: Figures }) {
  const parts = [
    figures.rate === null ? null : `${figures.rate < 10 ? figures.rate.toFixed(1) : Math.round(figures.rate)} tokens/s`,
    `first after ${figures.first.toFixed(2)} s`,
    `${figures.tokens} tokens`,
    figures.cached === null ? null : `${figures.cached}${figures.prompt ? ` of ${figures.prompt}` : ""} cached`,
    figures.finish === "length" ? "cut at max tokens" : null,
    figures.finish === "content_filter" ? "ended by a content filter" : null,
  ];
  return <p class="figures">{parts.filter((part) => part !== null).map((part) => <span key={part}>{part}</span>)}</p>;
}

interface ActionProps {
  icon: IconName;
  label: string;
  act: (button: HTMLElement) => void;
  disabled?: boolean;
}

function Action({ icon, label, act, disabled = false }: ActionProps) {
  return (
    <button type="button" class="quiet action" title={label} aria-label={label} disabled={disabled} onClick={(event) => act(event.currentTarget)}>
      <Icon name={icon} />
    </button>
  );
}
