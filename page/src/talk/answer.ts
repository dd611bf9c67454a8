// One question, and its answer as it comes: by server-sent events or over a WebSocket, told alike.

import { api, apiKey, headers, keyWanted } from "./api";
import { ServiceError, cut, refusal, told, unreachable, type WireError } from "./errors";
import { EventParser } from "./sse";

export interface Question {
  model: string;
  prompt: string;
  images: string[];
  session_id: string;
  system_prompt?: string;
  device?: string;
  temperature: number;
  top_p: number;
  top_k: number;
  max_tokens: number;
  repeat_penalty: number;
  stop: string[];
}

export interface Ending {
  finish_reason: string | null;
  prompt_tokens?: number;
  cached_tokens?: number;
  tokens?: number;
}

/** `accepted`: the service has the question, and keeps it. `status`: what it waits for. */
export type Told =
  | { kind: "accepted"; warning: string | null }
  | { kind: "status"; status: string }
  | { kind: "text"; text: string }
  | { kind: "end"; ending: Ending };

export type Transport = "sse" | "websocket";

/** Throws ServiceError. An abort ends it without one, and with the finish reason `stopped`. */
export function answered(question: Question, transport: Transport, signal: AbortSignal): AsyncGenerator<Told> {
  // Images are more than a frame takes.
  return transport === "sse" || question.images.length > 0 ? overEvents(question, signal) : overSocket(question, signal);
}

const STOPPED: Told = { kind: "end", ending: { finish_reason: "stopped" } };

async function* overEvents(question: Question, signal: AbortSignal): AsyncGenerator<Told> {
  let response: Response;
  try {
    response = await fetch("chat/completions", {
      method: "POST",
      headers: { ...headers(), "content-type": "application/json" },
      body: JSON.stringify({ ...question, events: true }),
      signal,
    });
  } catch {
    if (!signal.aborted) throw unreachable();
    yield STOPPED;
    return;
  }
  if (!response.ok || !response.body) {
    const error = await refusal(response);
    if (error.status === 401) keyWanted.value = true;
    throw error;
  }
  yield { kind: "accepted", warning: response.headers.get("warning") };
  const parser = new EventParser();
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  try {
    for (;;) {
      const { done, value } = await reader.read();
      for (const event of done ? [] : parser.push(decoder.decode(value, { stream: true }))) {
        if (event.kind === "comment") yield { kind: "status", status: event.data };
        else if (event.name === "error") throw failure(event.data);
        else if (event.name === "done") {
          yield { kind: "end", ending: JSON.parse(event.data || "{}") as Ending };
          return;
        } else yield { kind: "text", text: event.data };
      }
      if (done) throw cut();
    }
  } catch (error) {
    if (error instanceof ServiceError) throw error;
    if (!signal.aborted) throw cut();
    yield STOPPED;
  } finally {
    void reader.cancel().catch(() => undefined);
  }
}

function failure(data: string): ServiceError {
  const body = JSON.parse(data) as { error?: WireError };
  return told(body.error);
}

interface Frame {
  type: "begin" | "piece" | "status" | "error" | "end" | "pong";
  text?: string;
  status?: string;
  warning?: string | null;
  error?: WireError;
}

async function* overSocket(question: Question, signal: AbortSignal): AsyncGenerator<Told> {
  const frames = new Frames(question, signal);
  let begun = false;
  try {
    for (;;) {
      const frame = await frames.next();
      if (frame === null) {
        if (signal.aborted) {
          yield STOPPED;
          return;
        }
        throw begun ? cut() : await whyNot();
      }
      if (frame.type === "error") throw told(frame.error);
      if (frame.type === "begin") {
        begun = true;
        yield { kind: "accepted", warning: frame.warning ?? null };
      } else if (frame.type === "status") yield { kind: "status", status: frame.status ?? "" };
      else if (frame.type === "piece") yield { kind: "text", text: frame.text ?? "" };
      else if (frame.type === "end") {
        yield { kind: "end", ending: frame as unknown as Ending };
        return;
      }
    }
  } finally {
    frames.close();
  }
}

/** A browser does not tell why a handshake failed: a request by other means does. */
async function whyNot(): Promise<ServiceError> {
  try {
    await api.sessions(null, 1);
  } catch (error) {
    if (error instanceof ServiceError) return error;
  }
  return new ServiceError("The WebSocket was refused: a proxy may be in its way. Server-sent events may work.", {
    code: "websocket_refused",
  });
}

/** The frames of a connection of its own for one answer; null once it is closed. */
class Frames {
  private readonly socket: WebSocket;
  private readonly waiting: (Frame | null)[] = [];
  private wake: (() => void) | null = null;

  constructor(question: Question, signal: AbortSignal) {
    const url = new URL("chat/ws?events=1", document.baseURI);
    url.protocol = url.protocol.replace("http", "ws");
    const key = apiKey.value ? [`openai-insecure-api-key.${apiKey.value}`] : [];
    this.socket = new WebSocket(url, ["chat", ...key]);
    this.socket.onopen = () => this.socket.send(JSON.stringify(question));
    this.socket.onmessage = (event) => {
      if (event.data) this.put(JSON.parse(event.data as string) as Frame);
    };
    this.socket.onclose = () => this.put(null);
    signal.addEventListener("abort", () => {
      if (this.socket.readyState === WebSocket.OPEN) this.socket.send('{"type":"stop"}');
      else this.socket.close();
    });
  }

  async next(): Promise<Frame | null> {
    while (this.waiting.length === 0) await new Promise<void>((resolve) => (this.wake = resolve));
    return this.waiting.shift() ?? null;
  }

  close(): void {
    this.socket.onclose = null;
    this.socket.close();
  }

  private put(frame: Frame | null): void {
    this.waiting.push(frame);
    this.wake?.();
  }
}
