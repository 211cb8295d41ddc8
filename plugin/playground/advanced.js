// The advanced settings of a card: tokens, condition and schedule.

import { el, field, numberInput, select, show } from "./dom.js";
import { newSchedule, newWhen } from "./settings.js";
import { choicesOf, keyOf, layersOf, mapsFor, modelOf } from "./spec.js";

const APPLY = [
  ["default", "all tokens"],
  ["generation", "generated tokens"],
  ["prompt", "the prompt"],
  ["both", "prompt and generated tokens"],
  ["assistant", "the assistant's turns, past and new"],
  ["user", "the user's turns"],
];

export function advanced(store, card, update, open) {
  const when = whenPart(store, card, update);
  const schedule = schedulePart(card, update);
  const apply = select(APPLY, card.apply, (apply) => update({ apply }), { "data-field": "apply", "data-key": "apply" });
  const used = card.when !== null || card.schedule !== null || card.apply !== "default";
  const element = el(
    "details",
    { class: "advanced", open: open.advanced },
    el("summary", { "data-key": "advanced" }, "Where and when", used ? el("span", { class: "tag" }, "in use") : null),
    field("On which tokens", apply, { wide: true }),
    when.element,
    schedule.element,
  );
  return {
    element,
    show(card) {
      show(apply, card.apply);
      when.show(card);
      schedule.show(card);
    },
  };
}

function whenPart(store, card, update) {
  const { settings, server } = store.get();
  const model = modelOf(settings, server);
  const choices = choicesOf(settings, server);
  // A condition on the component along a vector, with its map and layer.
  const along = (key) => {
    const info = choices.find((choice) => choice.key === key)?.info;
    const map = mapsFor(info, model, server)[0] ?? null;
    const layers = info ? layersOf(info, map).map(({ layer }) => layer) : [];
    return { vector: key, map: map?.name ?? null, layer: layers[Math.floor(layers.length / 2)] ?? 0 };
  };
  const begin = () => {
    const { vector, map, layer } = along(keyOf(card));
    return newWhen(vector, map, layer);
  };
  const set = (patch) => update((card) => ({ ...card, when: { ...card.when, ...patch } }));
  const kinds = [
    ["", "always"],
    ["prompt", "if the prompt passes a test"],
    ["token", "at each token that passes a test"],
  ];
  const kind = select(
    kinds,
    card.when?.each ?? "",
    (each) => update((card) => ({ ...card, when: each ? { ...(card.when ?? begin()), each } : null })),
    { "data-field": "when.each", "data-key": "when" },
  );
  const first = field("When", kind, { wide: true });
  if (!card.when)
    return { element: el("div", { class: "fields" }, first), show: (card) => show(kind, card.when?.each ?? "") };

  const info = choices.find(({ key }) => key === card.when.vector)?.info;
  const maps = mapsFor(info, model, server);
  const map = maps.find(({ name }) => name === card.when.map) ?? null;
  const layers = info ? layersOf(info, map).map(({ layer }) => [String(layer), String(layer)]) : [];
  const vector = select(
    choices.map(({ key, info }) => [key, info.name]),
    card.when.vector,
    (key) => set(along(key)),
    { "data-field": "when.vector", "data-key": "when.vector" },
  );
  const layer = select(layers, String(card.when.layer), (value) => set({ layer: Number(value) }), {
    "data-field": "when.layer",
    "data-key": "when.layer",
  });
  const side = select(
    [
      ["above", "is above"],
      ["below", "is below"],
    ],
    card.when.side,
    (side) => set({ side }),
    { "data-key": "when.side" },
  );
  const threshold = numberInput(card.when.threshold, (threshold) => set({ threshold }), {
    "data-field": "when.threshold",
    "data-key": "when.threshold",
  });
  return {
    element: el(
      "div",
      { class: "fields" },
      first,
      field("Component along", vector),
      field("At layer", layer),
      maps.length > 1
        ? field(
            "Through the map",
            select(
              maps.map(({ name }) => [name, name]),
              card.when.map,
              (map) => set({ map }),
              { "data-field": "when.map" },
            ),
          )
        : null,
      field("Which", side),
      field("Threshold", threshold, { hint: "In the stream's units. “See it” shows them." }),
    ),
    show({ when }) {
      show(kind, when.each);
      show(layer, when.layer);
      show(side, when.side);
      show(threshold, when.threshold);
    },
  };
}

function schedulePart(card, update) {
  const kinds = [
    ["", "constant"],
    ["linear", "linear ramp"],
    ["cosine", "cosine ramp"],
  ];
  const shape = select(
    kinds,
    card.schedule?.shape ?? "",
    (shape) =>
      update((card) => ({ ...card, schedule: shape ? { ...(card.schedule ?? newSchedule(shape)), shape } : null })),
    { "data-field": "schedule.shape", "data-key": "schedule" },
  );
  const first = field("Over time", shape, { wide: true });
  if (!card.schedule) {
    return { element: el("div", { class: "fields" }, first), show: (card) => show(shape, card.schedule?.shape ?? "") };
  }
  const input = (key, props) =>
    numberInput(
      card.schedule[key],
      (value) => update((card) => ({ ...card, schedule: { ...card.schedule, [key]: value } })),
      { "data-field": `schedule.${key}`, "data-key": `schedule.${key}`, ...props },
    );
  const controls = {
    from: input("from", { min: -1, max: 1, step: 0.1 }),
    to: input("to", { min: -1, max: 1, step: 0.1 }),
    tokens: input("tokens", { min: 1, step: 1 }),
  };
  return {
    element: el(
      "div",
      { class: "fields" },
      first,
      field("From factor", controls.from),
      field("To factor", controls.to),
      field("Over tokens", controls.tokens),
    ),
    show({ schedule }) {
      show(shape, schedule.shape);
      for (const [key, control] of Object.entries(controls)) show(control, schedule[key]);
    },
  };
}
