// An answer that failed: why, in the service's words, and what to do about it.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import { keyWanted } from "../talk/api";
import type { ServiceError } from "../talk/errors";

const ADVICE: Record<string, string> = {
  rate_limit_exceeded: "This key or address has asked as often as it may for now.",
  server_is_overloaded: "Many are asking at once.",
  model_at_capacity: "Every machine of this model is busy.",
  model_booting: "The model is still starting.",
  session_busy: "Another answer of this chat is on its way: in another tab, perhaps.",
  engine_start_failed: "Another model may answer: the settings have the list.",
  string_above_max_length: "Shorten the message, or leave an attachment out.",
  context_length_exceeded: "Shorten the message, lower “Max tokens”, or begin a new chat.",
};

interface Props {
  error: ServiceError;
  onRetry: (() => void) | undefined;
  onDrop?: () => void;
}

export function Failure({ error, onRetry, onDrop }: Props) {
  const left = useSignal(Math.ceil(error.retryAfter ?? 0));
  useEffect(() => {
    const tick = setInterval(() => (left.value = Math.max(0, left.value - 1)), 1000);
    return () => clearInterval(tick);
  }, [error]);
  const advice = ADVICE[error.code];
  return (
    <div class="failure" role="alert">
      <p><strong>{error.unreachable ? "Connection lost." : "No answer."}</strong> {error.message} {advice}</p>
      <div class="row">
        {error.status === 401 && <button type="button" onClick={() => (keyWanted.value = true)}>Enter a key</button>}
        {onRetry && (
          <button type="button" onClick={onRetry}>{left.value > 0 ? `Retry (expected to work in ${left.value} s)` : "Retry"}</button>
        )}
        {onDrop && <button type="button" class="link" onClick={onDrop}>Put it back into the box</button>}
      </div>
    </div>
  );
}
