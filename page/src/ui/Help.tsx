// What the keyboard does.

import { signal } from "@preact/signals";
import { useEffect, useRef } from "preact/hooks";

const shown = signal(false);

export function openHelp(): void {
  shown.value = true;
}

const MAC = /Mac|iPhone|iPad/.test(navigator.platform);
const MAIN = MAC ? "⌘" : "Ctrl";

const KEYS = [
  [["Enter"], "Send"],
  [["Shift", "Enter"], "A new line"],
  [["Esc"], "Stop the answer"],
  [["/"], "Write a message"],
  [[MAIN, "K"], "Search chats"],
  [[MAIN, "Shift", "O"], "New chat"],
  [[MAIN, ","], "Settings"],
  [[MAIN, "B"], "Show or hide the chats"],
  [["↑"], "In an empty box: edit your last message"],
  [["?"], "This list"],
] as const;

export function Help() {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (shown.value) dialog.current?.showModal();
  }, [shown.value]);
  return (
    <dialog class="small" ref={dialog} aria-labelledby="help-title" onClose={() => (shown.value = false)}>
      <h2 id="help-title">Keyboard</h2>
      <dl class="keys">
        {KEYS.map(([keys, does]) => (
          <div key={does}>
            <dt>{keys.map((key) => <kbd key={key}>{key}</kbd>)}</dt>
            <dd>{does}</dd>
          </div>
        ))}
      </dl>
      <button type="button" onClick={() => dialog.current?.close()}>Close</button>
    </dialog>
  );
}
