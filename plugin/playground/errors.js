// Finds the control that an error of the server belongs to. Messages begin with the path of the field:
// "steering.vectors[0].scale: found .., expected ..".

import { activeCards } from "./spec.js";

const PATH =
  /^(?:Failed to deserialize[^:]*: )?([a-z_]+(?:\[\d+\])*(?:\.[a-z_]+(?:\[\d+\])*)*)(?: "[^"]*")?: ([\s\S]*)$/;

// The field of a message and the rest; without a field, the whole message.
export function splitMessage(message) {
  const [, path = "", text = message] = PATH.exec(message) ?? [];
  return { path, text };
}

// Keys of a card's controls, by the beginning of the path within the vector.
const CARD_FIELDS = [
  [/^when\.(layer|vector|map|each)/, (found) => `when.${found[1]}`],
  [/^when/, () => "when.threshold"],
  [/^schedule\.(from|to|tokens)/, (found) => `schedule.${found[1]}`],
  [/^schedule/, () => "schedule.shape"],
  [/^apply/, () => "apply"],
  [/^(?:relative_scale|std_scale|scale)/, () => "amount"],
  [/^(layers|map|op|min|max)/, (found) => found[1]],
];

const REQUEST_FIELDS = { prompt: "prompt", messages: "prompt", model: "model", max_tokens: "maxTokens", steering: "" };

// The key under which a component shows the error: "cards.ID.FIELD", "see.FIELD", "request.FIELD", or "" for the message bar.
export function keyOfPath(path, settings) {
  const vector = /^steering\.vectors\[(\d+)\]\.?(.*)$/.exec(path);
  if (vector) {
    const card = activeCards(settings)[Number(vector[1])];
    if (!card) return "";
    const [pattern, key] = CARD_FIELDS.find(([pattern]) => pattern.test(vector[2])) ?? [];
    return `cards.${card.id}.${pattern ? key(pattern.exec(vector[2])) : ""}`;
  }
  const readout = /^steering\.readout\[0\]\.?(vector|layer|map)?/.exec(path);
  if (readout) return `see.${readout[1] ?? "vector"}`;
  if (path === "steering.norm" || path === "steering.mode") return `spec.${path.slice(9)}`;
  const first = /^[a-z_]+/.exec(path)?.[0] ?? "";
  const known = REQUEST_FIELDS[first] ?? (["temperature", "seed"].includes(first) ? first : "");
  return known ? `request.${known}` : "";
}

// The errors of the store, of one message of the server.
export function errorsOf(message, settings) {
  const { path, text } = splitMessage(message);
  const key = keyOfPath(path, settings);
  // Beside its control the path is not needed.
  return key === "" ? { "": message } : { [key]: text };
}
