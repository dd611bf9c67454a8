// How answers are asked for: of each chat, kept in this browser.

import { signal, type Signal } from "@preact/signals";
import { keep, kept } from "../kept";
import type { Device } from "../talk/api";

export interface Parameters {
  /** Null: the first that there is. */
  model: string | null;
  /** Null: where the model runs. */
  device: Device | null;
  temperature: number;
  top_p: number;
  top_k: number;
  max_tokens: number;
  repeat_penalty: number;
  stop: string[];
}

/** The service's own, but for the length of answers: a reader wants more of one than a script. */
export const SERVICE_DEFAULTS: Parameters = {
  model: null,
  device: null,
  temperature: 0.7,
  top_p: 0.95,
  top_k: 10,
  max_tokens: 1024,
  repeat_penalty: 1,
  stop: [],
};

const held = new Map<string, Signal<Parameters>>();

/** What a new chat begins with. */
export function defaults(): Parameters {
  return { ...SERVICE_DEFAULTS, ...kept<Partial<Parameters>>("defaults", {}) };
}

export function parametersOf(session: string): Signal<Parameters> {
  let found = held.get(session);
  if (!found) {
    found = signal({ ...defaults(), ...kept<Partial<Parameters>>(`parameters.${session}`, {}) });
    held.set(session, found);
  }
  return found;
}

export function setParameters(session: string, changes: Partial<Parameters>): void {
  const parameters = parametersOf(session);
  parameters.value = { ...parameters.value, ...changes };
  keep(`parameters.${session}`, parameters.value);
}

/** Back to what new chats begin with. */
export function resetParameters(session: string): void {
  parametersOf(session).value = defaults();
  keep(`parameters.${session}`, null);
}

export function makeDefault(session: string): void {
  keep("defaults", parametersOf(session).value);
}

export function forgetDefaults(): void {
  keep("defaults", null);
}

export function copyParameters(from: string, to: string): void {
  setParameters(to, parametersOf(from).value);
}

export function forgetParameters(session: string): void {
  held.delete(session);
  keep(`parameters.${session}`, null);
}
