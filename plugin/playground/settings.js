// The settings that a link restores, and their encoding. Links are untrusted: only values of the right type are accepted.

import { newCard } from "./spec.js";

export const LIMITS = { cards: 32, pairs: 4096, messages: 64 };

export const defaults = () => ({
  model: null,
  kind: null,
  prompt: "In the garden, Tom saw the",
  messages: [{ role: "user", content: "Tell me a short story about a garden." }],
  temperature: 0.7,
  maxTokens: 60,
  seed: 1,
  mode: "replace",
  norm: "free",
  cards: [],
  see: { on: false, vector: null, map: null, layer: null, prompt: false, centre: "unsteered" },
  question: {
    prompt: "The moonlit star of the lighthouse was",
    a: "lovely",
    b: "grim",
    space: "auto",
    card: null,
    span: 1,
  },
});

// The text after "#" of a link.
export function toFragment(settings) {
  const text = JSON.stringify({ v: 1, ...settings });
  const bytes = new TextEncoder().encode(text);
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return `s=${btoa(binary).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "")}`;
}

// The settings of a fragment; `null` if it has none, or none that can be read.
export function fromFragment(fragment) {
  const found = /^#?s=([\w-]+)$/.exec(fragment);
  if (!found) return null;
  try {
    const binary = atob(found[1].replaceAll("-", "+").replaceAll("_", "/"));
    const bytes = Uint8Array.from(binary, (char) => char.charCodeAt(0));
    return readSettings(JSON.parse(new TextDecoder().decode(bytes)));
  } catch {
    return null;
  }
}

const isText = (value) => typeof value === "string";
const isNumber = (value) => typeof value === "number" && Number.isFinite(value);
const isCount = (value) => Number.isSafeInteger(value) && value >= 0;
const isFlag = (value) => typeof value === "boolean";
const orNull = (check) => (value) => value === null || check(value);
const oneOf = (...values) => values.includes.bind(values);
const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);
const listOf = (check, most) => (value) => Array.isArray(value) && value.length <= most && value.every(check);

// `base` with those keys of `from` that pass their checks.
function checked(base, from, checks) {
  const read = { ...base };
  for (const [key, check] of Object.entries(checks)) {
    if (isObject(from) && Object.hasOwn(from, key) && check(from[key])) read[key] = from[key];
  }
  return read;
}

const isMessage = (value) =>
  isObject(value) && oneOf("system", "user", "assistant")(value.role) && isText(value.content);

const SETTINGS = {
  model: orNull(isText),
  kind: orNull(oneOf("chat", "completion")),
  prompt: isText,
  messages: listOf(isMessage, LIMITS.messages),
  temperature: isNumber,
  maxTokens: isCount,
  seed: orNull(Number.isSafeInteger),
  mode: oneOf("replace", "extend"),
  norm: oneOf("free", "preserve"),
};

const SEE = {
  on: isFlag,
  vector: orNull(isText),
  map: orNull(isText),
  layer: orNull(isCount),
  prompt: isFlag,
  centre: oneOf("unsteered", "zero"),
};

const QUESTION = {
  prompt: isText,
  a: isText,
  b: isText,
  space: oneOf("auto", "yes", "no"),
  card: orNull(isCount),
  span: isNumber,
};

const isPair = (pair) => isObject(pair) && isText(pair.positive) && isText(pair.negative);
const isPairs = (vector) =>
  isObject(vector) &&
  isText(vector.model) &&
  listOf(isPair, LIMITS.pairs)(vector.pairs) &&
  Object.entries(vector).every(([key, value]) => key === "model" || key === "pairs" || isText(value));

const WHEN = {
  vector: isText,
  map: orNull(isText),
  layer: isCount,
  side: oneOf("above", "below"),
  threshold: isNumber,
  each: oneOf("prompt", "token"),
};

const SCHEDULE = { shape: oneOf("linear", "cosine"), from: isNumber, to: isNumber, tokens: isCount };

const CARD = {
  vector: (value) => isText(value) || isPairs(value),
  label: isText,
  map: orNull(isText),
  on: isFlag,
  layers: listOf(isCount, 4096),
  unit: oneOf("relative", "scale"),
  amount: isNumber,
  op: oneOf("add", "ablate", "set", "clamp"),
  share: isNumber,
  min: orNull(isNumber),
  max: orNull(isNumber),
  apply: oneOf("default", "both", "generation", "prompt", "assistant", "user"),
};

export const newWhen = (vector, map, layer) => ({ vector, map, layer, side: "above", threshold: 0, each: "prompt" });
export const newSchedule = (shape) => ({ shape, from: 1, to: 0, tokens: 40 });

function readCard(from) {
  const card = checked(newCard("", "", null, null), from, CARD);
  if (isObject(from.when)) card.when = checked(newWhen("", null, 0), from.when, WHEN);
  if (isObject(from.schedule)) card.schedule = checked(newSchedule("linear"), from.schedule, SCHEDULE);
  if (isText(card.vector)) card.label ||= card.vector;
  return card;
}

function readSettings(from) {
  if (!isObject(from) || from.v !== 1) return null;
  const base = defaults();
  const read = checked(base, from, SETTINGS);
  if (read.messages.length === 0) read.messages = base.messages;
  read.see = checked(base.see, from.see, SEE);
  read.question = checked(base.question, from.question, QUESTION);
  const cards = Array.isArray(from.cards) ? from.cards.slice(0, LIMITS.cards).filter(isObject) : [];
  read.cards = cards.map(readCard).filter((card) => card.vector !== "");
  return read;
}
