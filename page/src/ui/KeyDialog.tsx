// The API key, where the service asks for one.

import { useEffect, useRef } from "preact/hooks";
import { apiKey, keyWanted, setKey } from "../talk/api";

export function KeyDialog() {
  const dialog = useRef<HTMLDialogElement>(null);
  const field = useRef<HTMLInputElement>(null);
  useEffect(() => {
    if (keyWanted.value && !dialog.current?.open) dialog.current?.showModal();
    if (!keyWanted.value) dialog.current?.close();
  }, [keyWanted.value]);
  const save = (event: Event): void => {
    event.preventDefault();
    setKey(field.current?.value ?? "");
  };
  return (
    <dialog class="small" ref={dialog} aria-labelledby="key-title" onClose={() => (keyWanted.value = false)}>
      <form onSubmit={save}>
        <h2 id="key-title">{apiKey.value ? "This key is not accepted" : "This service asks for a key"}</h2>
        <p>It is kept in this browser, and sent to this service only.</p>
        <label class="label" for="key">API key</label>
        <input ref={field} id="key" type="password" autocomplete="off" spellcheck={false} placeholder="sk-…" defaultValue={apiKey.value} />
        <div class="row">
          <button type="submit" class="primary">Use this key</button>
          <button type="button" onClick={() => dialog.current?.close()}>Not now</button>
          {apiKey.value && <button type="button" class="link danger" onClick={() => { setKey(""); }}>Forget it</button>}
        </div>
      </form>
    </dialog>
  );
}
