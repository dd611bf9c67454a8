// The service's routes that the page uses, apart from asking for an answer.

import { signal } from "@preact/signals";
import { keep, kept } from "../kept";
import { refusal, unreachable } from "./errors";

export interface Model {
  id: string;
  name: string;
  context_length: number;
  state: "cold" | "booting" | "ready" | "failed" | "unknown";
  phase: "container" | "weights" | "engine" | null;
  seconds: number | null;
  device: Device;
  vision: boolean;
  embedding: boolean;
  reason?: string;
}

export type Device = "cpu" | "cuda" | "metal";

export interface Session {
  id: string;
  title: string;
  model: string | null;
  messages: number;
  created_at: number;
  last_used_at: number;
  expires_at: number;
}

export interface Page {
  data: Session[];
  last_id: string | null;
  has_more: boolean;
}

export interface Told {
  role: "system" | "user" | "assistant";
  content: string;
  /** Their URLs. */
  images?: string[];
  interrupted?: boolean;
}

/** The API key: it is kept in this browser, and sent to this service only. */
export const apiKey = signal(kept("key", ""));
/** Whether the service has refused what was asked for want of a (good) key. */
export const keyWanted = signal(false);

export function setKey(key: string): void {
  apiKey.value = key.trim();
  keep("key", apiKey.value || null);
  keyWanted.value = false;
}

export function headers(): Record<string, string> {
  return apiKey.value ? { authorization: `Bearer ${apiKey.value}` } : {};
}

/** An answer that is one. Throws ServiceError. `keepalive`: it outlives the page. */
export async function ask(
  method: string,
  path: string,
  options: { body?: unknown; keepalive?: boolean; signal?: AbortSignal } = {},
): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, {
      method,
      headers: { ...headers(), ...(options.body === undefined ? {} : { "content-type": "application/json" }) },
      cache: "no-store",
      keepalive: options.keepalive ?? false,
      ...(options.body === undefined ? {} : { body: JSON.stringify(options.body) }),
      ...(options.signal ? { signal: options.signal } : {}),
    });
  } catch (error) {
    if (options.signal?.aborted) throw error;
    throw unreachable();
  }
  if (response.ok) return response;
  const error = await refusal(response);
  if (error.status === 401) keyWanted.value = true;
  throw error;
}

async function json<T>(method: string, path: string, body?: unknown): Promise<T> {
  return (await (await ask(method, path, { body })).json()) as T;
}

const one = (id: string): string => `v1/sessions/${encodeURIComponent(id)}`;

export const api = {
  models: async () => (await json<{ data: Model[] }>("GET", "v1/models")).data,
  sessions: (after: string | null, limit = 100) =>
    json<Page>("GET", `v1/sessions?limit=${limit}${after === null ? "" : `&after=${encodeURIComponent(after)}`}`),
  session: (id: string) => json<Session>("GET", one(id)),
  messages: (id: string) => json<Told[]>("GET", `${one(id)}/messages`),
  change: (id: string, changes: { title?: string; system_prompt?: string }) => json<Session>("PATCH", one(id), changes),
  fork: (id: string, messages: number, as: string) => json<Session>("POST", `${one(id)}/fork`, { messages, id: as }),
  remove: (id: string) => ask("DELETE", one(id), { keepalive: true }),
  rollBack: (id: string, amount: number) =>
    ask("POST", `chat/history/${encodeURIComponent(id)}/rollback`, { body: { amount }, keepalive: true }),
  exported: (id: string, format: "json" | "markdown") => ask("GET", `${one(id)}/export?format=${format}`),
};
