// The API key, where the service asks for one.

import { useEffect, useRef } from "preact/hooks";
import { apiKey, keyWanted, setKey } from "../talk/api";

export function KeyDialog() {
  const dialog = useRef<HTMLDialogElement>(null);
  const field = useRef<HTMLInputElement>(null);
  // A dialog says later that it was closed, and the service may have refused the key meanwhile: only what the person
  // closes means that no key is wanted.
  const closings = useRef(0);
  useEffect(() => {
    if (!dialog.current || dialog.current.open === keyWanted.value) return;
    if (keyWanted.value) return dialog.current.showModal();
    closings.current++;
    dialog.current.close();
  }, [keyWanted.value]);
  const closed = (): void => {
    if (closings.current) closings.current--;
    else keyWanted.value = false;
  };
  const save = (event: Event): void => {
    event.preventDefault();
    setKey(field.current?.value ?? "");
  };
  return (
    <dialog class="small" ref={dialog} aria-labelledby="key-title" onClose={closed}>
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
