// The models and what state they are in. Asked for when somebody looks, never on and on: an open page keeps no
// container from scaling to zero.

import { computed, signal } from "@preact/signals";
import { api, type Model } from "../talk/api";

export const models = signal<Model[]>([]);
export const modelsFailed = signal(false);

/** Those that answer. */
export const chatModels = computed(() => models.value.filter((model) => !model.embedding));

let asking: Promise<void> | null = null;

export function refreshModels(): Promise<void> {
  asking ??= api
    .models()
    .then((found) => {
      models.value = found;
      modelsFailed.value = false;
    })
    .catch(() => {
      modelsFailed.value = true;
    })
    .finally(() => {
      asking = null;
    });
  return asking;
}

/** The model that is meant; the first one where that is not there (any more). */
export function modelNamed(id: string | null): Model | undefined {
  return chatModels.value.find((model) => model.id === id) ?? chatModels.value[0];
}

const PHASES = { container: "waiting for a machine", weights: "fetching the weights", engine: "starting the engine" };

/** A model's state in words. */
export function stateInWords(model: Model): string {
  switch (model.state) {
    case "ready":
      return "ready";
    case "booting":
      return model.phase ? `booting: ${PHASES[model.phase]}` : "booting";
    case "cold":
      return "cold: the first answer starts it";
    case "failed":
      return model.reason ? `does not start: ${model.reason}` : "does not start";
    default:
      return "its state is not known";
  }
}
