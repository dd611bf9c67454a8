// What an answer waits for, in words: where it stands, for how long, and what comes next.

import { useSignal } from "@preact/signals";
import { useEffect } from "preact/hooks";
import type { Entry, Waiting } from "../state/entry";
import { current } from "../state/place";
import { chosenModel } from "../state/chat";
import { models, refreshModels } from "../state/models";
import type { Model } from "../talk/api";

const STEPS = [
  { stage: "container", name: "Machine" },
  { stage: "weights", name: "Weights" },
  { stage: "engine", name: "Engine" },
  { stage: "reading", name: "Answer" },
] as const;

type Step = (typeof STEPS)[number]["stage"];

const LOOK_SECONDS = 2;

export function Boot({ entry }: { entry: Entry }) {
  const seconds = useSignal(0);
  useEffect(() => {
    const tick = setInterval(() => {
      seconds.value = Math.floor((performance.now() - entry.began) / 1000);
      if (seconds.value % LOOK_SECONDS === 0) void refreshModels();
    }, 1000);
    return () => clearInterval(tick);
  }, [entry]);
  const waiting = entry.waiting.value;
  if (!waiting) return null;
  const model = chosenModel(current.value);
  const stage = stageOf(waiting, model ? models.value.find((one) => one.id === model.id) : undefined);
  const [now, next] = words(stage, waiting, model?.name ?? "the model");
  const at = STEPS.findIndex((step) => step.stage === stage);
  return (
    <div class="boot">
      <p class="boot-now">
        <strong>{now}</strong> <span class="figure">{seconds.value} s</span>
      </p>
      {at >= 0 && stage !== "reading" && (
        <ol class="boot-steps" aria-hidden="true">
          {STEPS.map((step, index) => (
            <li key={step.stage} class={index < at ? "past" : index === at ? "now" : ""}>{step.name}</li>
          ))}
        </ol>
      )}
      <p class="boot-next">{next}</p>
    </div>
  );
}

/** The stream's own word, or before its first one, what is known of the model. */
function stageOf(waiting: Waiting, model: Model | undefined): Step | "queued" {
  if (waiting.stage === "queued") return "queued";
  if (waiting.stage !== "asked" && waiting.stage !== "booting") return waiting.stage;
  if (model?.state === "booting") return model.phase ?? "container";
  if (model?.state === "cold" || waiting.stage === "booting") return "container";
  return "reading";
}

function words(stage: Step | "queued", waiting: Waiting, name: string): [string, string] {
  switch (stage) {
    case "queued":
      return [
        waiting.place === null ? `${name} is busy.` : `Number ${waiting.place} in the queue for ${name}.`,
        "Your question is kept. The answer begins when a place is free.",
      ];
    case "container":
      return [
        `${name} was asleep: waiting for a machine.`,
        "Then its weights are fetched and its engine starts. Later answers need none of this.",
      ];
    case "weights":
      return [`Fetching the weights of ${name}.`, "Then the engine loads them. The first time takes longest: they are kept for the next."];
    case "engine":
      return [`Starting the engine of ${name}.`, "It loads the weights into memory. Then it reads your question and answers."];
    case "reading":
      return [`${name} is reading your question.`, "The first words follow in a moment."];
  }
}
