// A button that opens a menu, in the browser's top layer: it closes itself on Escape and on a click beside it.

import { useSignal } from "@preact/signals";
import type { ComponentChildren } from "preact";
import { useId, useRef } from "preact/hooks";

export interface Item {
  label: string;
  act: () => void;
  danger?: boolean;
}

export function Menu({ label, children, items }: { label: string; children: ComponentChildren; items: Item[] }) {
  const id = useId();
  const button = useRef<HTMLButtonElement>(null);
  const menu = useRef<HTMLDivElement>(null);
  const shown = useSignal(false);

  const placed = (): void => {
    const anchor = button.current?.getBoundingClientRect();
    const box = menu.current;
    if (!anchor || !box) return;
    const height = box.offsetHeight;
    const below = anchor.bottom + height + 8 < innerHeight;
    box.style.top = `${below ? anchor.bottom + 4 : Math.max(8, anchor.top - height - 4)}px`;
    box.style.left = `${Math.min(Math.max(8, anchor.right - box.offsetWidth), innerWidth - box.offsetWidth - 8)}px`;
  };
  const toggled = (event: { newState: string }): void => {
    const open = event.newState === "open";
    button.current?.setAttribute("aria-expanded", String(open));
    if (!open) {
      shown.value = false;
      return;
    }
    requestAnimationFrame(() => {
      placed();
      menu.current?.querySelector<HTMLElement>("[role=menuitem]")?.focus();
    });
  };
  // Made when it is opened: a long list has a menu in each row.
  const opening = (event: { newState: string }): void => {
    if (event.newState === "open") shown.value = true;
  };
  const moved = (event: KeyboardEvent): void => {
    const all = [...(menu.current?.querySelectorAll<HTMLElement>("[role=menuitem]") ?? [])];
    const at = all.indexOf(document.activeElement as HTMLElement);
    const steps: Record<string, number> = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 };
    const next = steps[event.key];
    if (event.key === "Tab") menu.current?.hidePopover();
    if (next === undefined) return;
    event.preventDefault();
    all.at(next % all.length)?.focus();
  };
  const chosen = (item: Item): void => {
    menu.current?.hidePopover();
    item.act();
  };

  return (
    <>
      <button
        type="button" class="quiet" ref={button} popovertarget={id} aria-haspopup="menu" aria-expanded="false"
        aria-label={label} title={label}
      >
        {children}
      </button>
      <div id={id} class="menu" role="menu" aria-label={label} popover="auto" ref={menu} onBeforeToggle={opening} onToggle={toggled} onKeyDown={moved}>
        {shown.value && items.map((item) => (
          <button
            type="button" role="menuitem" tabIndex={-1} key={item.label} class={item.danger ? "danger" : ""}
            onClick={() => chosen(item)}
          >
            {item.label}
          </button>
        ))}
      </div>
    </>
  );
}
