// How the page looks and behaves in this browser.

import { effect, signal } from "@preact/signals";
import { keep, kept } from "../kept";
import type { Transport } from "../talk/answer";

export type Theme = "system" | "light" | "dark";

function preference<T>(name: string, otherwise: T) {
  const held = signal<T>(kept(name, otherwise));
  effect(() => keep(name, held.value === otherwise ? null : held.value));
  return held;
}

export const theme = preference<Theme>("theme", "system");
export const transport = preference<Transport>("transport", "sse");
/** Whether pictures that an answer names are fetched: from wherever it says, which tells that place who reads. */
export const remoteImages = preference("images", false);
export const wrapCode = preference("wrap", false);
export const sidebarShown = preference("sidebar", true);

const IMAGES_ALLOWED = "images";

/** The page's policy is the server's to say: another page is asked for when pictures become allowed, or forbidden. */
export function needsOtherPolicy(): boolean {
  return (new URLSearchParams(location.search).get(IMAGES_ALLOWED) === "allow") !== remoteImages.value;
}

/** Whether pictures may be shown now: they are allowed, and the page that shows them was asked for. */
export function imagesShown(): boolean {
  return remoteImages.value && !needsOtherPolicy();
}

export function withOtherPolicy(): void {
  const url = new URL(location.href);
  url.search = remoteImages.value ? `?${IMAGES_ALLOWED}=allow` : "";
  location.replace(url);
}

export function followTheme(): void {
  effect(() => {
    if (theme.value === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme.value;
  });
}
