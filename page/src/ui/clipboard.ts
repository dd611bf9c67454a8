// Copying, also where the page is not served over HTTPS and browsers keep their clipboard from it.

import { announce, notify } from "../state/notices";

export async function copy(text: string, button?: HTMLElement | null): Promise<void> {
  if (!(await copied(text))) {
    notify("The browser did not let the page copy.", "error");
    return;
  }
  announce("Copied.");
  if (!button) return;
  button.dataset.copied = "true";
  setTimeout(() => delete button.dataset.copied, 1500);
}

async function copied(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "off-screen";
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}
