// A chat in which nothing was said yet.

import type { Chat } from "../state/chat";
import { chosenModel } from "../state/chat";
import { chatModels, models, modelsFailed } from "../state/models";

const BEGINNINGS = [
  ["Explain", "Explain how a prefix cache makes long chats faster."],
  ["Write", "Write a Python function that merges two sorted lists, with tests."],
  ["Compare", "Compare TCP and QUIC in a table."],
  ["Rewrite", "Rewrite this so that it is shorter and friendlier:\n\n"],
] as const;

export function Welcome({ chat }: { chat: Chat }) {
  const model = chosenModel(chat);
  const begin = (text: string): void => {
    chat.write(text);
    document.getElementById("message")?.focus();
  };
  return (
    <div class="welcome">
      <h2>What is on your mind?</h2>
      <p class="hint">
        {model && model.state === "cold" && `${model.name} is asleep. Your first question wakes it, and you will see how far it is.`}
        {model && model.state === "booting" && `${model.name} is starting. Ask already: the answer begins when it is ready.`}
        {model && model.state === "ready" && `${model.name} is ready.`}
        {model && model.state === "failed" && `${model.name} does not start. ${model.reason ?? ""}`}
        {model && model.state === "unknown" && `Ask ${model.name} anything.`}
        {!model && models.value.length > 0 && chatModels.value.length === 0 && "No model of this service answers: there are embeddings only."}
        {!model && modelsFailed.value && "The service cannot be asked for its models now."}
      </p>
      <ul class="beginnings">
        {BEGINNINGS.map(([name, text]) => (
          <li key={name}>
            <button type="button" onClick={() => begin(text)}><strong>{name}</strong> <span>{text.trim()}</span></button>
          </li>
        ))}
      </ul>
    </div>
  );
}
