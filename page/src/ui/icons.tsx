// Line icons, drawn on a grid of 20.

const PATHS = {
  attach: "M14.5 9.5 9 15a3.2 3.2 0 0 1-4.5-4.5l6-6a2.1 2.1 0 0 1 3 3L8 13a1 1 0 0 1-1.5-1.5l5-5",
  close: "m5 5 10 10M15 5 5 15",
  copy: "M7.5 7.5h8v8h-8zM12.5 7.5v-3h-8v8h3",
  down: "M10 4v12m-5-5 5 5 5-5",
  edit: "m4 16 .8-3.4 8.4-8.4a1.8 1.8 0 0 1 2.6 2.6l-8.4 8.4z",
  help: "M7.5 7.5a2.5 2.5 0 1 1 3.6 2.3c-.8.4-1.1.9-1.1 1.7m0 2.7v.1",
  menu: "M3.5 6h13M3.5 10h13M3.5 14h8",
  more: "M4.5 10h.01M10 10h.01M15.5 10h.01",
  plus: "M10 4v12M4 10h12",
  regenerate: "M15.5 9A5.7 5.7 0 0 0 5 7.5M4.5 4v3.7h3.7M4.5 11A5.7 5.7 0 0 0 15 12.5M15.5 16v-3.7h-3.7",
  rollback: "M7.5 4.5 4 8l3.5 3.5M4.5 8h6.8a4 4 0 0 1 0 8H8",
  search: "M9 14.5a5.5 5.5 0 1 0 0-11 5.5 5.5 0 0 0 0 11m4-1.5 3.5 3.5",
  send: "M10 16V4.5m-5 5 5-5 5 5",
  settings: "M4 6.5h7m4 0h1M4 13.5h1m4 0h7M13 4.7v3.6M7 11.7v3.6",
  stop: "M6.5 6.5h7v7h-7z",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg class={`icon icon-${name}`} viewBox="0 0 20 20" width="20" height="20" aria-hidden="true" focusable="false">
      <path d={PATHS[name]} />
    </svg>
  );
}
