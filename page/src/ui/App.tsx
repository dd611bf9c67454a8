// The whole page: chats on the left, the one that is open, what can be set.

import { signal, useSignalEffect } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { chosenModel } from "../state/chat";
import { refreshModels, stateInWords } from "../state/models";
import { announcement, dismiss, notices } from "../state/notices";
import { current, goNew } from "../state/place";
import { sidebarShown, wrapCode } from "../state/preferences";
import { titleOf } from "../state/sessions";
import { copy } from "./clipboard";
import { Composer } from "./Composer";
import { Help, openHelp } from "./Help";
import { Icon } from "./icons";
import { KeyDialog } from "./KeyDialog";
import { Settings, settingsShown } from "./Settings";
import { Sidebar } from "./Sidebar";
import { Transcript } from "./Transcript";

/** Where the chats lie over the page, and not beside it. */
const NARROW = matchMedia("(max-width: 46rem)");
const drawerOpen = signal(false);

function toggleSidebar(): void {
  if (NARROW.matches) drawerOpen.value = !drawerOpen.value;
  else sidebarShown.value = !sidebarShown.value;
}

export function App() {
  const chat = current.value;
  const title = titleOf(chat.id);
  useSignalEffect(() => {
    const named = titleOf(current.value.id);
    document.title = named ? `${named} · Chat` : "Chat";
  });
  useEffect(() => {
    addEventListener("keydown", shortcut);
    return () => removeEventListener("keydown", shortcut);
  }, []);
  const classes = ["frame", sidebarShown.value ? "" : "without-sidebar", drawerOpen.value ? "drawer-open" : ""];
  return (
    <div class={classes.filter(Boolean).join(" ")} onClick={pressed}>
      <a class="skip" href="#message" onClick={(event) => { event.preventDefault(); focusMessage(); }}>Skip to the message box</a>
      <Sidebar onPick={() => (drawerOpen.value = false)} />
      <button type="button" class="scrim" aria-label="Close the list of chats" tabIndex={drawerOpen.value ? 0 : -1} onClick={() => (drawerOpen.value = false)} />
      <main>
        <header class="top">
          <button type="button" class="quiet" aria-label="Chats" title="Show or hide the chats" aria-controls="sidebar" onClick={toggleSidebar}>
            <Icon name="menu" />
          </button>
          <h1>{title || (chat.state.value === "new" ? "New chat" : "Chat")}</h1>
          <ModelButton />
          <button type="button" class="quiet" aria-label="Settings" title="Settings" onClick={() => (settingsShown.value = true)}>
            <Icon name="settings" />
          </button>
        </header>
        <Transcript chat={chat} key={chat.id} />
        <Composer chat={chat} />
      </main>
      <Settings chat={chat} />
      <KeyDialog />
      <Help />
      <section class="notices" aria-label="Notices">
        {notices.value.map((notice) => (
          <div key={notice.id} class={`notice ${notice.kind}`} role={notice.kind === "error" ? "alert" : "status"}>
            <span>{notice.text}</span>
            {notice.undo && <button type="button" onClick={notice.undo}>Undo</button>}
            <button type="button" class="quiet" aria-label="Dismiss" onClick={() => dismiss(notice.id)}><Icon name="close" /></button>
          </div>
        ))}
      </section>
      <p class="off-screen" role="status">{announcement.value}</p>
    </div>
  );
}

function ModelButton() {
  const model = chosenModel(current.value);
  if (!model) return null;
  return (
    <button
      type="button" class="model" title={`${model.name}: ${stateInWords(model)}`}
      onClick={() => { void refreshModels(); settingsShown.value = true; }}
    >
      <span class={`lamp ${model.state}`} aria-hidden="true" />
      <span class="model-name">{model.name.replace(/^.*\//, "")}</span>
      <span class="model-state">{model.state}</span>
    </button>
  );
}

function focusMessage(): void {
  document.getElementById("message")?.focus();
}

/** The buttons of code blocks, which are drawn with the markup that they stand in. */
function pressed(event: MouseEvent): void {
  const button = (event.target as Element).closest<HTMLElement>("[data-action]");
  if (!button) return;
  if (button.dataset.action === "wrap") wrapCode.value = !wrapCode.value;
  if (button.dataset.action === "copy") void copy(button.closest("figure")?.querySelector("code")?.textContent ?? "", button);
}

function shortcut(event: KeyboardEvent): void {
  const main = event.metaKey || event.ctrlKey;
  const key = event.key.toLowerCase();
  const writing = event.target instanceof HTMLElement && event.target.matches("input, textarea, select");
  if (document.querySelector("dialog[open]")) return;
  const does: (() => void) | null =
    main && key === "k" ? openSearch
    : main && event.shiftKey && key === "o" ? goNew
    : main && key === "," ? () => (settingsShown.value = true)
    : main && key === "b" ? toggleSidebar
    : event.key === "Escape" && drawerOpen.value ? () => (drawerOpen.value = false)
    : event.key === "Escape" && current.value.busy.value ? () => current.value.stop()
    : event.key === "ArrowUp" && emptyBox(event.target) ? editLast
    : !writing && event.key === "/" ? focusMessage
    : !writing && event.key === "?" ? openHelp
    : null;
  if (!does) return;
  event.preventDefault();
  does();
}

function openSearch(): void {
  if (NARROW.matches) drawerOpen.value = true;
  else sidebarShown.value = true;
  requestAnimationFrame(() => document.getElementById("search")?.focus());
}

function emptyBox(target: EventTarget | null): boolean {
  return target instanceof HTMLTextAreaElement && target.id === "message" && target.value === "";
}

function editLast(): void {
  const buttons = document.querySelectorAll<HTMLButtonElement>('.question button[aria-label="Edit"]:not(:disabled)');
  buttons[buttons.length - 1]?.click();
}
