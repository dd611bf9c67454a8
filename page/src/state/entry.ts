// One message of a chat, as the page shows it.

import { signal } from "@preact/signals";
import type { Told } from "../talk/api";
import type { ServiceError } from "../talk/errors";

/** `sending`: a question that the service has not said to have. `failed`: it came to nothing, and the service has
 *  forgotten it. `interrupted`: an answer that did not come to its end. */
export type EntryState = "done" | "sending" | "streaming" | "interrupted" | "failed";

export interface Figures {
  /** Seconds from the question to the first text. */
  first: number;
  tokens: number;
  /** A second, after the first text. */
  rate: number | null;
  cached: number | null;
  prompt: number | null;
  finish: string | null;
}

/** What an answer waits for. */
export interface Waiting {
  stage: "asked" | "queued" | "container" | "weights" | "engine" | "booting" | "reading";
  /** In the queue. */
  place: number | null;
}

let last = 0;

export class Entry {
  readonly id = ++last;
  readonly role: "user" | "assistant";
  readonly text = signal("");
  readonly images: string[];
  readonly state = signal<EntryState>("done");
  readonly figures = signal<Figures | null>(null);
  readonly error = signal<ServiceError | null>(null);
  readonly waiting = signal<Waiting | null>(null);
  readonly warning = signal<string | null>(null);
  /** When it was asked for, as `performance.now` tells. */
  readonly began = performance.now();

  constructor(role: "user" | "assistant", text: string, { images = [] as string[], state = "done" as EntryState } = {}) {
    this.role = role;
    this.text.value = text;
    this.images = images;
    this.state.value = state;
  }

  static of(told: Told): Entry {
    return new Entry(told.role === "user" ? "user" : "assistant", told.content, {
      images: told.images ?? [],
      state: told.interrupted ? "interrupted" : "done",
    });
  }
}

/** What a sign of life means: `booting (weights) 12.0 s`, `queued 3 4.0 s`, `waiting 2.0 s`, `streaming 9.0 s`. */
export function waitingFor(status: string): Waiting {
  const booting = /^booting(?: \((container|weights|engine)\))?/.exec(status);
  if (booting) return { stage: (booting[1] as Waiting["stage"] | undefined) ?? "booting", place: null };
  const queued = /^queued (\d+)/.exec(status);
  if (queued) return { stage: "queued", place: Number(queued[1]) };
  return { stage: status.startsWith("busy") ? "queued" : "reading", place: null };
}
