// How this chat is answered, and how this browser shows it.

import type { ComponentChildren, RefObject } from "preact";
import { useEffect, useId, useLayoutEffect, useRef } from "preact/hooks";
import { signal } from "@preact/signals";
import { apiKey, keyWanted, type Device } from "../talk/api";
import { chosenModel, type Chat } from "../state/chat";
import { chatModels, refreshModels, stateInWords } from "../state/models";
import { notify } from "../state/notices";
import {
  forgetDefaults, makeDefault, parametersOf, resetParameters, setParameters, type Parameters,
} from "../state/parameters";
import { remoteImages, theme, transport, withOtherPolicy, wrapCode, type Theme } from "../state/preferences";
import type { Transport } from "../talk/answer";
import { Icon } from "./icons";

export const settingsShown = signal(false);

export function Settings({ chat }: { chat: Chat }) {
  const panel = useRef<HTMLDialogElement>(null);
  useEffect(() => {
    if (settingsShown.value) panel.current?.showModal();
    else panel.current?.close();
  }, [settingsShown.value]);
  return (
    <dialog
      class="settings" ref={panel} aria-labelledby="settings-title" onClose={() => (settingsShown.value = false)}
      onClick={(event) => event.target === panel.current && panel.current?.close()}
    >
      {settingsShown.value && (
        <div class="sheet">
          <header>
            <h2 id="settings-title">Settings</h2>
            <button type="button" class="quiet" aria-label="Close settings" onClick={() => panel.current?.close()}><Icon name="close" /></button>
          </header>
          <OfChat chat={chat} />
          <OfPage />
        </div>
      )}
    </dialog>
  );
}

function OfChat({ chat }: { chat: Chat }) {
  const parameters = parametersOf(chat.id).value;
  const set = (changes: Partial<Parameters>): void => setParameters(chat.id, changes);
  const model = chosenModel(chat);
  useEffect(() => void refreshModels(), []);
  return (
    <section aria-labelledby="of-chat">
      <h3 id="of-chat">This chat</h3>
      <Field label="Model" hint={model && stateInWords(model)}>
        {(id) => (
          <select id={id} value={model?.id ?? ""} onChange={(event) => set({ model: event.currentTarget.value })}>
            {chatModels.value.map((one) => <option key={one.id} value={one.id}>{one.name} ({one.state})</option>)}
          </select>
        )}
      </Field>
      <Field label="Device" hint={model && `${model.name} runs on ${model.device}. Another device is a wish: where it is not there, the answer comes all the same.`}>
        {(id) => (
          <select id={id} value={parameters.device ?? ""} onChange={(event) => set({ device: (event.currentTarget.value || null) as Device | null })}>
            <option value="">Where the model runs</option>
            <option value="cuda">cuda</option>
            <option value="cpu">cpu</option>
            <option value="metal">metal</option>
          </select>
        )}
      </Field>
      <Field label="System prompt" hint="Kept with the chat. Empty: none.">
        {(id) => (
          <Lines
            id={id} rows={3} value={chat.system.value ?? ""} placeholder={chat.state.value === "new" ? "The service’s own" : "None"}
            onSet={(text) => void chat.setSystem(text)}
          />
        )}
      </Field>
      <Amount label="Temperature" min={0} max={2} step={0.05} value={parameters.temperature} onSet={(temperature) => set({ temperature })} />
      <Amount label="Top-p" min={0.01} max={1} step={0.01} value={parameters.top_p} onSet={(top_p) => set({ top_p })} />
      <Amount label="Top-k" hint="0: no limit" min={0} max={200} step={1} value={parameters.top_k} onSet={(top_k) => set({ top_k })} />
      <Amount label="Max tokens" min={1} max={Math.max(16, model?.context_length ?? 4096)} step={1} value={parameters.max_tokens} onSet={(max_tokens) => set({ max_tokens })} />
      <Amount label="Repetition penalty" min={0.5} max={2} step={0.01} value={parameters.repeat_penalty} onSet={(repeat_penalty) => set({ repeat_penalty })} />
      <Field label="Stop" hint="Up to 16, one on each line; \n stands for a line break.">
        {(id) => (
          <Lines id={id} rows={2} value={parameters.stop.map(written).join("\n")} placeholder="" onSet={(text) => set({ stop: stops(text) })} />
        )}
      </Field>
      <div class="row">
        <button type="button" onClick={() => resetParameters(chat.id)}>Reset</button>
        <button type="button" onClick={() => { makeDefault(chat.id); notify("New chats begin with these settings."); }}>Use for new chats</button>
        <button type="button" class="link" onClick={() => { forgetDefaults(); resetParameters(chat.id); notify("Back to the service’s defaults."); }}>
          The service’s defaults
        </button>
      </div>
    </section>
  );
}

const written = (stop: string): string => stop.replaceAll("\n", "\\n");
const stops = (text: string): string[] => text.split("\n").filter(Boolean).map((line) => line.replaceAll("\\n", "\n")).slice(0, 16);

function OfPage() {
  return (
    <section aria-labelledby="of-page">
      <h3 id="of-page">This browser</h3>
      <Choice label="Appearance" value={theme.value} onSet={(value) => (theme.value = value as Theme)} options={[["system", "As the system"], ["light", "Light"], ["dark", "Dark"]]} />
      <Choice label="Answers come by" value={transport.value} onSet={(value) => (transport.value = value as Transport)} options={[["sse", "Server-sent events"], ["websocket", "WebSocket"]]} />
      <Check label="Wrap long lines of code" value={wrapCode.value} onSet={(value) => (wrapCode.value = value)} />
      <Check
        label="Load images that answers name" hint="From wherever an answer says, which tells that place who reads it. The page loads again."
        value={remoteImages.value} onSet={(value) => { remoteImages.value = value; withOtherPolicy(); }}
      />
      <div class="field">
        <span class="label">API key</span>
        <div class="row">
          <span>{apiKey.value ? `…${apiKey.value.slice(-4)}, kept in this browser only` : "None"}</span>
          <button type="button" onClick={() => { settingsShown.value = false; keyWanted.value = true; }}>{apiKey.value ? "Change" : "Enter"}</button>
        </div>
      </div>
      <p class="hint"><a href="static/licenses.txt" target="_blank" rel="noopener">Libraries of this page</a>. <a href="openapi.json" target="_blank" rel="noopener">The service’s API</a>.</p>
    </section>
  );
}

interface FieldProps {
  label: string;
  hint?: string | undefined;
  children: (id: string) => ComponentChildren;
}

function Field({ label, hint, children }: FieldProps) {
  const id = useId();
  return (
    <div class="field">
      <label class="label" for={id}>{label}</label>
      {children(id)}
      {hint && <p class="hint">{hint}</p>}
    </div>
  );
}

/** What a field holds, but for the one that somebody is writing in. */
function useHeld<T extends HTMLInputElement | HTMLTextAreaElement>(value: string): RefObject<T | null> {
  const field = useRef<T>(null);
  useLayoutEffect(() => {
    if (field.current && document.activeElement !== field.current) field.current.value = value;
  }, [value]);
  return field;
}

interface LinesProps {
  id: string;
  rows: number;
  value: string;
  placeholder: string;
  onSet: (text: string) => void;
}

function Lines({ id, rows, value, placeholder, onSet }: LinesProps) {
  const field = useHeld<HTMLTextAreaElement>(value);
  return <textarea ref={field} id={id} rows={rows} placeholder={placeholder} onChange={(event) => onSet(event.currentTarget.value)} />;
}

interface AmountProps {
  label: string;
  hint?: string;
  min: number;
  max: number;
  step: number;
  value: number;
  onSet: (value: number) => void;
}

function Amount({ label, hint, min, max, step, value, onSet }: AmountProps) {
  const id = useId();
  const field = useHeld<HTMLInputElement>(String(value));
  const set = (input: HTMLInputElement): void => {
    const given = input.valueAsNumber;
    const bounded = Number.isFinite(given) ? Math.min(max, Math.max(min, given)) : value;
    const exact = step === 1 ? Math.round(bounded) : bounded;
    input.value = String(exact);
    onSet(exact);
  };
  return (
    <div class="field amount">
      <label class="label" for={id}>{label} {hint && <span class="hint">{hint}</span>}</label>
      <input type="range" aria-hidden="true" tabIndex={-1} min={min} max={max} step={step} value={value} onInput={(event) => set(event.currentTarget)} />
      <input ref={field} id={id} type="number" min={min} max={max} step={step} onChange={(event) => set(event.currentTarget)} />
    </div>
  );
}

interface ChoiceProps {
  label: string;
  value: string;
  options: [string, string][];
  onSet: (value: string) => void;
}

function Choice({ label, value, options, onSet }: ChoiceProps) {
  return (
    <Field label={label}>
      {(id) => (
        <select id={id} value={value} onChange={(event) => onSet(event.currentTarget.value)}>
          {options.map(([name, told]) => <option key={name} value={name}>{told}</option>)}
        </select>
      )}
    </Field>
  );
}

function Check({ label, hint, value, onSet }: { label: string; hint?: string; value: boolean; onSet: (value: boolean) => void }) {
  const id = useId();
  return (
    <div class="field check">
      <input id={id} type="checkbox" checked={value} aria-describedby={hint ? `${id}-hint` : undefined} onChange={(event) => onSet(event.currentTarget.checked)} />
      <label for={id}>{label}</label>
      {hint && <p class="hint" id={`${id}-hint`}>{hint}</p>}
    </div>
  );
}
