// From the settings to the `steering` field of a request. Pure functions.

import { shortModel } from "./format.js";

// The model that answers: the chosen one, or the first of the server's.
export function modelOf(settings, server) {
  const models = server?.models ?? [];
  return models.find((model) => model.model === settings.model) ?? models[0] ?? null;
}

// "chat" or "completion": what is chosen, if the model has it.
export function kindOf(settings, server) {
  if (!modelOf(settings, server)?.chat) return "completion";
  return settings.kind ?? "chat";
}

export const isInline = (vector) => typeof vector === "object" && vector !== null;

// The name of a vector in the settings: its name on the server, or the label of a card with pairs.
export const keyOf = (card) => (isInline(card.vector) ? `pairs:${card.label}` : card.vector);

// The data of a card's vector: the server's entry, or the model that reads its pairs.
export function infoOf(card, server) {
  if (!isInline(card.vector)) return (server?.vectors ?? []).find((vector) => vector.name === card.vector) ?? null;
  return infoOfModel(card.vector.model, card.label, server);
}

const unknownRow = (layer) => ({ layer, norm: null, mean_norm: null, auroc: null });

function infoOfModel(name, label, server) {
  const source = (server?.sources ?? []).find((source) => source.source === name);
  const served = (server?.models ?? []).find((model) => model.model === name);
  const model = source ?? served;
  if (!model) return null;
  const layers = Array.from({ length: model.num_layers }, (_, layer) => layer);
  return {
    name: label,
    concept: label,
    model: model.model,
    model_fingerprint: model.fingerprint,
    layers,
    table: layers.map(unknownRow),
    proposed: [],
  };
}

// The vectors that readouts and conditions can use: the server's, and those of cards with pairs.
export function choicesOf(settings, server) {
  const named = (server?.vectors ?? []).map((vector) => ({ key: vector.name, ref: vector.name, info: vector }));
  const inline = settings.cards
    .filter((card) => isInline(card.vector))
    .map((card) => ({ key: keyOf(card), ref: card.vector, info: infoOf(card, server) }));
  return [...named, ...inline].filter(({ info }) => info);
}

const sameModel = (a, b) => a === b || shortModel(a) === shortModel(b);

// Whether two models are the same: by fingerprint where both have one, else by name.
function same(name, print, otherName, otherPrint) {
  const known = [print, otherPrint].every((print) => print && print !== "unknown");
  return known ? print === otherPrint : sameModel(name, otherName);
}

// Whether a vector is native to the model. A GGUF file has no fingerprint, and names the served model.
export function isNative(info, model) {
  if (!info || !model) return false;
  return same(info.model, info.model_fingerprint, model.model, model.fingerprint);
}

// The maps that may carry a vector to the model. If none fits, all maps to the model: a server that ignores fingerprints takes them.
export function mapsFor(info, model, server) {
  if (!info || !model || isNative(info, model)) return [];
  const there = (server?.maps ?? []).filter((map) =>
    same(map.target, map.target_fingerprint, model.model, model.fingerprint),
  );
  const fitting = there.filter(
    (map) =>
      same(map.source, map.source_fingerprint, info.model, info.model_fingerprint) && layersOf(info, map).length > 0,
  );
  return fitting.length > 0 ? fitting : there.filter((map) => layersOf(info, map).length > 0);
}

// The layers of the served model that a vector can steer: from its table, or from the map's pairs.
export function layersOf(info, map) {
  const rows = info.table ?? info.layers.map(unknownRow);
  const byLayer = new Map(rows.map((row) => [row.layer, row]));
  const proposed = new Set(info.proposed ?? []);
  const own = rows.map((row) => ({
    ...row,
    from: [row.layer],
    r2: null,
    proposed: proposed.has(row.layer),
    difference: differenceOf(row),
  }));
  if (!map) return own;
  const pairs = map.pairs.filter((pair) => pair.source_layers.every((layer) => byLayer.has(layer)));
  return pairs
    .map((pair) => ({
      layer: pair.target_layer,
      from: pair.source_layers,
      // The stream's norm in the table is that of the other model.
      mean_norm: null,
      auroc: byLayer.get(pair.source_layers[0]).auroc,
      r2: pair.r2 ?? null,
      proposed: pair.source_layers.some((layer) => proposed.has(layer)),
      // A map keeps a difference's share of the stream's norm, roughly.
      difference: differenceOf(byLayer.get(pair.source_layers[0])),
    }))
    .sort((a, b) => a.layer - b.layer);
}

// The length of the vector as it was found, in units of the stream's mean norm, or null. The vector of a mean difference is then as
// long as the distance between the two sides of its pairs.
function differenceOf({ norm, mean_norm: mean }) {
  return norm > 0 && mean > 0 ? norm / mean : null;
}

// The initial layers: the proposed ones, else the one nearest to the middle of the model's depth.
export function firstLayers(rows, model) {
  const proposed = rows.filter((row) => row.proposed).map((row) => row.layer);
  if (proposed.length > 0) return proposed;
  const middle = ((model?.num_layers ?? 0) - 1) / 2;
  const nearest = [...rows].sort((a, b) => Math.abs(a.layer - middle) - Math.abs(b.layer - middle))[0];
  return nearest ? [nearest.layer] : [];
}

// The strength of a new card, in units of the stream's mean norm, if the slider leaves room for it.
const FIRST_AMOUNT = 0.2;

let lastId = 0;

export function newCard(vector, label, server, model) {
  const card = {
    id: `card${++lastId}`,
    vector,
    label,
    map: null,
    on: true,
    layers: [],
    unit: "relative",
    amount: FIRST_AMOUNT,
    op: "add",
    share: 1,
    min: null,
    max: null,
    apply: "default",
    when: null,
    schedule: null,
  };
  const info = infoOf(card, server);
  if (!info) return card;
  const map = mapsFor(info, model, server)[0] ?? null;
  const rows = layersOf(info, map);
  const layers = firstLayers(rows, model);
  // Without a mean norm there is no relative scale; a map states the mean norm of its target.
  const relative = map !== null || isInline(vector) || rows.every((row) => row.mean_norm !== null);
  const placed = { ...card, map: map?.name ?? null, layers };
  const amount = relative ? Math.min(FIRST_AMOUNT, widest(placed, rows, model)) : 1;
  return { ...placed, unit: relative ? "relative" : "scale", amount };
}

// The layers that a card's vector can steer, through the card's map if it has one.
export function rowsOf(card, server, model) {
  const info = infoOf(card, server);
  const map = mapsFor(info, model, server).find(({ name }) => name === card.map);
  return info ? layersOf(info, map) : [];
}

// The length of the vector as it was found at the card's layers, of `rows`, in units of the stream's mean norm: the largest, or null.
export function foundLength({ layers }, rows) {
  const used = rows.filter(({ layer }) => layers.length === 0 || layers.includes(layer));
  const lengths = used.map(({ difference }) => difference).filter((length) => length !== null);
  return lengths.length > 0 ? Math.max(...lengths) : null;
}

// The largest strength that the slider offers in units of the stream's mean norm, as far as the operator's bound allows. It is eight
// times the vector's own length: at a single layer it takes some multiple of the difference between two texts to change an answer,
// and far beyond that texts fall apart. Larger strengths can be entered as a number.
function widest(card, rows, model) {
  const found = foundLength(card, rows);
  const wide = found === null ? 0.5 : Math.min(1, Math.max(0.1, Math.ceil(8 * found * 20) / 20));
  return Math.min(wide, model?.bound?.max_relative_scale ?? Infinity);
}

// The slider of a card, whose vector can steer the layers of `rows`: its range and step.
export function rangeOf(card, rows, model) {
  if (card.op === "ablate") return { min: 0, max: 1, step: 0.05 };
  if (card.unit === "relative") {
    const most = widest(card, rows, model);
    return { min: -most, max: most, step: Number((most / 50).toPrecision(1)) };
  }
  const most = Math.max(10, 10 ** Math.ceil(Math.log10(2 * Math.abs(card.amount) || 1)));
  return { min: -most, max: most, step: most / 50 };
}

// The value of the card's slider.
export const amountOf = (card) => (card.op === "ablate" ? card.share : card.amount);
export const withAmount = (card, value) =>
  card.op === "ablate" ? { ...card, share: value } : { ...card, amount: value };

const APPLY = {
  both: { prompt: "all", generation: "all" },
  generation: { generation: "all" },
  prompt: { prompt: "all" },
  assistant: { prompt: { roles: ["assistant"] }, generation: "all" },
  user: { prompt: { roles: ["user"] } },
};

function scaleOf(card) {
  if (card.op === "clamp") {
    return { ...(card.min !== null && { min: card.min }), ...(card.max !== null && { max: card.max }) };
  }
  if (card.op === "ablate") return { scale: card.share };
  return card.unit === "relative" ? { relative_scale: card.amount } : { scale: card.amount };
}

function whenOf(when, settings, server) {
  const choice = choicesOf(settings, server).find(({ key }) => key === when.vector);
  return {
    vector: choice ? choice.ref : when.vector,
    ...(when.map && { map: when.map }),
    layer: when.layer,
    [when.side]: when.threshold,
    ...(when.each === "token" && { each: "token" }),
  };
}

// One vector of a spec.
export function useOf(card, settings, server) {
  const { op, map, layers, apply, when, schedule } = card;
  return {
    vector: card.vector,
    ...(map && { map }),
    ...(op !== "add" && { op }),
    ...scaleOf(card),
    ...(layers.length > 0 && { layers }),
    ...(APPLY[apply] && { apply: APPLY[apply] }),
    ...(when && { when: whenOf(when, settings, server) }),
    ...(schedule && {
      schedule: {
        from: schedule.from,
        to: schedule.to,
        tokens: schedule.tokens,
        ...(schedule.shape === "cosine" && { shape: "cosine" }),
      },
    }),
  };
}

export const activeCards = (settings) => settings.cards.filter((card) => card.on);

function readoutOf(settings, server) {
  const { see } = settings;
  const choice = see.on && choicesOf(settings, server).find(({ key }) => key === see.vector);
  if (!choice || see.layer === null) return {};
  const readout = { vector: choice.ref, ...(see.map && { map: see.map }), layer: see.layer };
  return { readout: [{ ...readout, ...(!see.prompt && { phase: "generation" }) }] };
}

// What the operator allows requests to do with the model's default: "replace", "extend" or "off".
export const policyOf = (server) => server?.per_request ?? "replace";

// Whether the request's vectors come after the default's.
export const extendsDefault = (settings, server) =>
  policyOf(server) === "extend" || (settings.mode === "extend" && Boolean(modelOf(settings, server)?.default));

// The field of the steered request; `undefined` if the operator allows none.
export function steeringOf(settings, server) {
  if (policyOf(server) === "off") return undefined;
  const cards = activeCards(settings);
  const readout = readoutOf(settings, server);
  const extend = extendsDefault(settings, server);
  if (extend && cards.length === 0) return Object.keys(readout).length > 0 ? readout : undefined;
  return {
    ...(extend && { mode: "extend" }),
    vectors: cards.map((card) => useOf(card, settings, server)),
    ...(settings.norm === "preserve" && !extend && { norm: "preserve" }),
    ...readout,
  };
}

// The field of the unsteered request: off or, if the default is binding, a field that keeps it.
export function baselineOf(settings, server) {
  const readout = readoutOf(settings, server);
  if (policyOf(server) === "replace") return { mode: "off", ...readout };
  return policyOf(server) === "extend" && Object.keys(readout).length > 0 ? readout : undefined;
}

// The messages of a chat that are not empty.
export const messagesOf = (settings) => settings.messages.filter(({ content }) => content !== "");

// Route and body of a request, without `stream`.
export function requestOf(settings, server, steering) {
  const chat = kindOf(settings, server) === "chat";
  const model = modelOf(settings, server)?.model ?? "default";
  return {
    path: chat ? "/v1/chat/completions" : "/v1/completions",
    body: {
      model,
      ...(chat ? { messages: messagesOf(settings) } : { prompt: settings.prompt }),
      max_tokens: settings.maxTokens,
      temperature: settings.temperature,
      ...(settings.seed !== null && { seed: settings.seed }),
      ...(steering && { steering }),
    },
  };
}
