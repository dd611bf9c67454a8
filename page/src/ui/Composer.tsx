// Where messages are written: kept while they are, with files beside them.

import { useComputed, useSignal } from "@preact/signals";
import { useEffect, useLayoutEffect, useRef } from "preact/hooks";
import { attach, attachments, detach, withFiles } from "../state/attachments";
import { chosenModel, type Chat } from "../state/chat";
import { draftOf } from "../state/drafts";
import { notify } from "../state/notices";
import { Icon } from "./icons";

const COARSE = matchMedia("(pointer: coarse)");

export function Composer({ chat }: { chat: Chat }) {
  const field = useRef<HTMLTextAreaElement>(null);
  const files = useRef<HTMLInputElement>(null);
  const draft = draftOf(chat.id);
  const over = useSignal(false);
  const busy = chat.busy.value;
  const sees = useComputed(() => chosenModel(chat)?.vision ?? false).value;
  const empty = !draft.value.trim() && attachments.value.length === 0;

  useLayoutEffect(() => {
    const area = field.current;
    if (!area || CSS.supports("field-sizing", "content")) return;
    area.style.height = "auto";
    area.style.height = `${area.scrollHeight}px`;
  }, [draft.value]);
  useEffect(() => {
    if (!COARSE.matches) field.current?.focus();
  }, [chat.id]);

  const take = async (chosen: Iterable<File>): Promise<void> => {
    for (const refused of await attach(chosen, sees)) notify(refused, "error");
    field.current?.focus();
  };
  const send = (): void => {
    if (busy || empty) return;
    const held = attachments.value;
    const images = held.filter((file) => file.kind === "image").map((file) => file.content);
    const text = withFiles(draft.value.trim(), held) || "What is in this image?";
    attachments.value = [];
    void chat.send(text, images);
  };
  const typed = (event: KeyboardEvent): void => {
    if (event.key !== "Enter" || event.isComposing) return;
    if (event.shiftKey || (COARSE.matches && !event.ctrlKey && !event.metaKey)) return;
    event.preventDefault();
    send();
  };
  const pasted = (event: ClipboardEvent): void => {
    const found = [...(event.clipboardData?.files ?? [])];
    if (found.length === 0) return;
    event.preventDefault();
    void take(found);
  };
  const dropped = (event: DragEvent): void => {
    event.preventDefault();
    over.value = false;
    void take(event.dataTransfer?.files ?? []);
  };

  return (
    <div
      class={`composer${over.value ? " over" : ""}`}
      onDragOver={(event) => { event.preventDefault(); over.value = true; }}
      onDragLeave={() => (over.value = false)}
      onDrop={dropped}
    >
      {attachments.value.length > 0 && (
        <ul class="attachments" aria-label="Attached files">
          {attachments.value.map((file) => (
            <li key={file.id}>
              {file.kind === "image" && <img src={file.content} alt="" />}
              <span>{file.name}</span>
              <button type="button" class="quiet" aria-label={`Remove ${file.name}`} onClick={() => detach(file.id)}><Icon name="close" /></button>
            </li>
          ))}
        </ul>
      )}
      <div class="composer-row">
        <button type="button" class="quiet" aria-label="Attach files" title={sees ? "Attach texts or images" : "Attach texts"} onClick={() => files.current?.click()}>
          <Icon name="attach" />
        </button>
        <input
          ref={files} type="file" multiple hidden aria-label="Files to attach"
          onChange={(event) => { void take([...(event.currentTarget.files ?? [])]); event.currentTarget.value = ""; }}
        />
        <textarea
          ref={field} id="message" rows={1} dir="auto" aria-label="Message" placeholder="Write a message" value={draft.value}
          onInput={(event) => chat.write(event.currentTarget.value)} onKeyDown={typed} onPaste={pasted}
        />
        {busy ? (
          <button type="button" class="send stop" aria-label="Stop" title="Stop (Esc)" onClick={() => chat.stop()}><Icon name="stop" /></button>
        ) : (
          <button type="button" class="send" aria-label="Send" title="Send (Enter)" disabled={empty} onClick={send}><Icon name="send" /></button>
        )}
      </div>
    </div>
  );
}
