// One chat: its messages, the answer that is on its way, and what can be done about them.

import { computed, signal } from "@preact/signals";
import { api, type Model } from "../talk/api";
import { answered, type Ending, type Question } from "../talk/answer";
import { ServiceError } from "../talk/errors";
import { draftOf, setDraft, setUnsent, unsentOf } from "./drafts";
import { Entry, waitingFor, type Figures } from "./entry";
import { modelNamed, refreshModels } from "./models";
import { announce, isRevocable, notify, revocable, settle } from "./notices";
import { copyParameters, parametersOf } from "./parameters";
import { transport } from "./preferences";
import { putFirst, refreshSessions, sessions } from "./sessions";
import { tellTabs } from "./tabs";

/** `new`: nothing was asked yet. `gone`: the service has it no more. */
export type ChatState = "new" | "loading" | "ready" | "gone" | "failed";

/** What is kept of a chat that has not begun goes by this name. */
export const NEW = "new";
const STALE_SECONDS = 30;

export class Chat {
  readonly id: string;
  readonly state = signal<ChatState>("loading");
  readonly failure = signal<ServiceError | null>(null);
  readonly entries = signal<Entry[]>([]);
  /** Null: the service's own. */
  readonly system = signal<string | null>(null);
  /** Stops the answer that is on its way here. */
  readonly running = signal<AbortController | null>(null);
  readonly busy = computed(() => this.running.value !== null);
  /** Whether the last question is being answered for somebody else: another tab, or this one before a reload. */
  readonly elsewhere = computed(
    () => !this.busy.value && this.state.value === "ready" && this.entries.value.at(-1)?.role === "user" &&
      this.entries.value.at(-1)?.state.value === "done",
  );
  private seen = 0;

  constructor(id: string, isNew: boolean) {
    this.id = id;
    if (isNew) this.state.value = "new";
  }

  /** What the service has of it, unless an answer is on its way here. */
  async load(): Promise<void> {
    if (this.state.value === "new" || this.busy.value || isRevocable(`roll back ${this.id}`)) return;
    if (this.entries.value.length === 0) this.state.value = "loading";
    try {
      const told = await api.messages(this.id);
      if (this.busy.value || isRevocable(`roll back ${this.id}`)) return;
      this.system.value = told[0]?.role === "system" ? told[0].content : "";
      this.take(told.filter((message) => message.role !== "system").map((message) => Entry.of(message)));
      this.state.value = "ready";
      this.failure.value = null;
      this.seen = performance.now();
      this.recallUnsent();
    } catch (error) {
      if (!(error instanceof ServiceError)) throw error;
      this.failure.value = error;
      const gone = error.status === 404;
      if (gone || this.entries.value.length === 0) this.state.value = gone ? "gone" : "failed";
      if (gone) this.recallUnsent();
    }
  }

  /** Keep what is being written. Of a chat that has not begun that is kept as the new one's (see `place`). */
  write(draft: string): void {
    if (this.state.value === "new") draftOf(this.id).value = draft;
    else setDraft(this.id, draft);
  }

  /** Ask. Returns when the answer has ended. */
  async send(text: string, images: string[] = []): Promise<void> {
    if (this.busy.value || !text.trim()) return;
    const stop = new AbortController();
    this.running.value = stop;
    const question = new Entry("user", text, { images, state: "sending" });
    const answer = new Entry("assistant", "", { state: "streaming" });
    answer.waiting.value = { stage: "asked", place: null };
    this.entries.value = [...this.entries.value.filter((entry) => entry.state.value !== "failed"), question, answer];
    setDraft(this.id, "");
    setUnsent(this.keptAs, question.text.value);
    try {
      await this.converse(question, answer, stop.signal);
    } finally {
      this.running.value = null;
    }
  }

  stop(): void {
    this.running.value?.abort();
  }

  /** Ask a question that came to nothing again. */
  async retry(question: Entry): Promise<void> {
    this.entries.value = this.entries.value.filter((entry) => entry !== question);
    await this.send(question.text.value, question.images);
  }

  /** Take a question that came to nothing back into the box. */
  drop(question: Entry): void {
    this.entries.value = this.entries.value.filter((entry) => entry !== question);
    setUnsent(this.keptAs, null);
    const draft = draftOf(this.id).value;
    this.write(draft ? `${question.text.value}\n\n${draft}` : question.text.value);
  }

  /** What was sent and came to nothing, taken out: for another chat. */
  takeUnsent(): string | null {
    const text = unsentOf(this.keptAs) ?? (draftOf(this.id).value || null);
    setUnsent(this.keptAs, null);
    setDraft(this.id, "");
    this.entries.value = this.entries.value.filter((entry) => entry.state.value !== "failed");
    return text;
  }

  /** Have the last question answered anew; its answer is forgotten. */
  async regenerate(): Promise<void> {
    const entries = this.entries.value;
    const at = entries.findLastIndex((entry) => entry.role === "user");
    const question = entries[at];
    if (!question || this.busy.value) return;
    if (question.state.value === "failed") return this.retry(question);
    setUnsent(this.keptAs, question.text.value); // for as long as neither the service nor the question is on its way
    if (await this.dropped(entries.length - at)) await this.send(question.text.value, question.images);
    else setUnsent(this.keptAs, null);
  }

  /** A chat of its own that goes as this one did until a question, which is asked in other words there. */
  async edit(question: Entry, text: string): Promise<Chat | null> {
    const at = this.entries.value.indexOf(question);
    const fork = new Chat(madeUpId(), false);
    try {
      await settle(`roll back ${this.id}`);
      await api.fork(this.id, at, fork.id);
    } catch (error) {
      notify(`The message was not changed. ${(error as Error).message}`, "error");
      return null;
    }
    copyParameters(this.id, fork.id);
    fork.system.value = this.system.value;
    fork.entries.value = this.entries.value.slice(0, at).map((entry) => copyOf(entry));
    fork.state.value = "ready";
    fork.seen = performance.now();
    chats.set(fork.id, fork);
    void fork.send(text, question.images);
    return fork;
  }

  /** Forget a message and all behind it, a few seconds from now. */
  rollBackTo(entry: Entry): void {
    const before = this.entries.value;
    const at = before.indexOf(entry);
    const amount = before.slice(at).filter((other) => other.state.value !== "failed").length;
    const draft = draftOf(this.id).value;
    if (at < 0 || this.busy.value) return;
    this.entries.value = before.slice(0, at);
    if (entry.role === "user" && !draft) setDraft(this.id, entry.text.value);
    const undo = (): void => {
      this.entries.value = [...before, ...this.entries.value.slice(at)];
      if (draftOf(this.id).value === entry.text.value) setDraft(this.id, draft);
    };
    const commit = async (): Promise<void> => {
      if (amount === 0) return;
      try {
        await api.rollBack(this.id, amount);
        tellTabs({ kind: "chat", id: this.id });
      } catch (error) {
        undo();
        notify(`Nothing was rolled back. ${(error as Error).message}`, "error");
      }
    };
    const count = before.length - at;
    revocable(`roll back ${this.id}`, `Removed ${count} ${count === 1 ? "message" : "messages"}.`, commit, undo);
  }

  async setSystem(prompt: string): Promise<void> {
    const before = this.system.value;
    if (prompt === before) return;
    this.system.value = prompt;
    if (this.state.value === "new") return;
    try {
      await api.change(this.id, { system_prompt: prompt });
    } catch (error) {
      this.system.value = before;
      notify(`The system prompt stays as it was. ${(error as Error).message}`, "error");
    }
  }

  private async converse(question: Entry, answer: Entry, signal: AbortSignal): Promise<void> {
    let first = 0;
    let pieces = 0;
    try {
      await settle(`roll back ${this.id}`);
      await this.stillThere();
      for await (const told of answered(this.asked(question), transport.value, signal)) {
        if (told.kind === "accepted") this.accepted(question, answer, told.warning);
        else if (told.kind === "status") {
          if (first === 0) answer.waiting.value = waitingFor(told.status);
        } else if (told.kind === "text") {
          first ||= performance.now();
          pieces += 1;
          answer.text.value += told.text;
          answer.waiting.value = null;
        } else this.ended(answer, told.ending, { first, pieces });
      }
    } catch (error) {
      this.failed(question, answer, error as Error);
    }
    answer.waiting.value = null;
    this.seen = performance.now();
    void refreshModels();
    void refreshSessions();
    tellTabs({ kind: "chat", id: this.id });
  }

  private asked(question: Entry): Question {
    const { model: _, device, ...sampling } = parametersOf(this.id).value;
    const system = this.state.value === "new" && this.system.value !== null ? { system_prompt: this.system.value } : {};
    return {
      model: chosenModel(this)?.id ?? "", prompt: question.text.value, images: question.images, session_id: this.id, ...system, ...(device ? { device } : {}), ...sampling,
    };
  }

  private accepted(question: Entry, answer: Entry, warning: string | null): void {
    question.state.value = "done";
    answer.warning.value = warning;
    setUnsent(this.keptAs, null);
    if (this.state.value === "new") {
      this.state.value = "ready";
      this.system.value ??= "";
      void this.learnSystem();
    }
    putFirst(this.id, shortened(question.text.value), chosenModel(this)?.id ?? null);
    tellTabs({ kind: "sessions" });
  }

  /** The service's own system prompt, of a chat that has begun with it. */
  private async learnSystem(): Promise<void> {
    const told = await api.messages(this.id).catch(() => []);
    if (told[0]?.role === "system") this.system.value = told[0].content;
  }

  private ended(answer: Entry, ending: Ending, { first, pieces }: { first: number; pieces: number }): void {
    const stopped = ending.finish_reason === "stopped";
    answer.state.value = stopped ? "interrupted" : "done";
    answer.figures.value = figures(answer, ending, first, pieces);
    announce(stopped ? "The answer was stopped." : "The answer is complete.");
  }

  private failed(question: Entry, answer: Entry, error: Error): void {
    const known = error instanceof ServiceError ? error : new ServiceError(`The page failed: ${error.message}`);
    announce(`No answer: ${known.message}`);
    if (answer.text.value || (question.state.value === "done" && known.unreachable)) {
      answer.state.value = "interrupted";
      answer.error.value = known;
      return;
    }
    // Of a turn that failed before its first word the service keeps nothing, and this browser its question.
    this.entries.value = this.entries.value.filter((entry) => entry !== answer);
    question.state.value = "failed";
    question.error.value = known;
    setUnsent(this.keptAs, question.text.value);
    if (known.code === EXPIRED) this.state.value = "gone";
  }

  /** A question to a chat that has expired would begin another one without a word of what was said. */
  private async stillThere(): Promise<void> {
    const fresh = performance.now() - this.seen < STALE_SECONDS * 1000;
    if (this.state.value === "gone") throw expired();
    if (this.state.value === "new" || fresh) return;
    try {
      await api.session(this.id);
    } catch (error) {
      if (error instanceof ServiceError && error.status === 404) throw expired();
      throw error;
    }
  }

  private async dropped(amount: number): Promise<boolean> {
    const before = this.entries.value;
    this.entries.value = before.slice(0, before.length - amount);
    try {
      await settle(`roll back ${this.id}`);
      await api.rollBack(this.id, amount);
      return true;
    } catch (error) {
      this.entries.value = before;
      notify(`The answer stays. ${(error as Error).message}`, "error");
      return false;
    }
  }

  /** The service's messages, in the entries that are here already where they are the same: what is known of them stays. */
  private take(told: Entry[]): void {
    const known = this.entries.value.filter((entry) => entry.state.value !== "failed" && entry.state.value !== "sending");
    this.entries.value = told.map((entry, index) => {
      const same = known[index];
      const fits = same?.role === entry.role && same.text.value === entry.text.value;
      if (fits && same) same.state.value = entry.state.value;
      return fits && same ? same : entry;
    });
  }

  /** Under which name its unsent question is kept: one that nobody has begun has no name that lasts. */
  private get keptAs(): string {
    return this.state.value === "new" ? NEW : this.id;
  }

  /** What was sent, and did not come through before the page was loaded again. */
  recallUnsent(): void {
    const text = unsentOf(this.keptAs);
    if (text === null) return;
    const last = this.entries.value.findLast((entry) => entry.role === "user");
    if (last?.text.value === text && this.state.value === "ready") {
      setUnsent(this.keptAs, null); // it came through, and the page had not heard so
      return;
    }
    const question = new Entry("user", text, { state: "failed" });
    question.error.value = this.state.value === "gone" ? expired() : new ServiceError("It was not sent, or came to nothing.");
    this.entries.value = [...this.entries.value, question];
  }
}

const EXPIRED = "session_expired";

function expired(): ServiceError {
  return new ServiceError("The service has forgotten this chat: it has expired, or was deleted. Your message is kept here.", {
    code: EXPIRED,
  });
}

function copyOf(entry: Entry): Entry {
  const copy = new Entry(entry.role, entry.text.value, { images: entry.images, state: entry.state.value });
  copy.figures.value = entry.figures.value;
  return copy;
}

function shortened(text: string): string {
  const words = text.split(/\s+/).join(" ").trim();
  return words.length <= 80 ? words : `${words.slice(0, 79)}…`;
}

function figures(answer: Entry, ending: Ending, first: number, pieces: number): Figures | null {
  if (first === 0) return null;
  const tokens = ending.tokens ?? pieces;
  const seconds = (performance.now() - first) / 1000;
  return {
    first: (first - answer.began) / 1000,
    tokens,
    rate: tokens > 1 && seconds > 0.01 ? (tokens - 1) / seconds : null,
    cached: ending.cached_tokens ?? null,
    prompt: ending.prompt_tokens ?? null,
    finish: ending.finish_reason,
  };
}

/** The model that a chat asks: the one chosen here, or else the one that it asked last. */
export function chosenModel(chat: Chat): Model | undefined {
  const asked = sessions.value.find((session) => session.id === chat.id)?.model ?? null;
  return modelNamed(parametersOf(chat.id).value.model ?? asked);
}

const chats = new Map<string, Chat>();

/** The chat of this id; a new one where none was asked for. */
export function chatOf(id: string, isNew = false): Chat {
  let found = chats.get(id);
  if (!found) {
    found = new Chat(id, isNew);
    chats.set(id, found);
  }
  return found;
}

/** A chat that nobody has begun. What was typed into one before is there still. */
export function freshChat(): Chat {
  const beginning = [...chats.values()].some((chat) => chat.state.value === "new" && chat.busy.value);
  const chat = chatOf(madeUpId(), true);
  const draft = draftOf(NEW).value;
  if (draft) chat.write(draft);
  if (!beginning) chat.recallUnsent();
  return chat;
}

function madeUpId(): string {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  return `chat-${[...bytes].map((byte) => byte.toString(16).padStart(2, "0")).join("")}`;
}
