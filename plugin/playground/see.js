// See it: which vector the tokens are read along, at which layer, and the legend of the colours.

import { checkbox, el, field, placeErrors, select, show } from "./dom.js";
import { number } from "./format.js";
import { activeCards, choicesOf, keyOf, layersOf, mapsFor, modelOf, policyOf } from "./spec.js";
import { colourScale } from "./tokens.js";

const BEFORE =
  "A readout shows the state before the layer's own steering. A layer after the steered ones shows their effect.";

// The initial settings of a readout along a vector: the map, and a layer after those that the vector steers, where its own steering
// shows; a readout at a steered layer is of the state before.
function beginWith(key, { settings, server }) {
  const model = modelOf(settings, server);
  const info = choicesOf(settings, server).find((choice) => choice.key === key)?.info;
  if (!info) return {};
  const map = mapsFor(info, model, server)[0] ?? null;
  const layers = layersOf(info, map).map(({ layer }) => layer);
  const steered = activeCards(settings).flatMap((card) => card.layers);
  const behind = layers.find((layer) => layer > Math.max(-1, ...steered));
  return { vector: key, map: map?.name ?? null, layer: behind ?? layers.at(-1) ?? null };
}

export function mountSee(store) {
  const place = document.getElementById("see-place");
  const set = (patch) =>
    store.set(({ settings }) => ({ settings: { ...settings, see: { ...settings.see, ...patch } } }));
  const toggle = (on) => {
    const state = store.get();
    const { see } = state.settings;
    const choices = choicesOf(state.settings, state.server);
    const known = choices.some(({ key }) => key === see.vector) && see.layer !== null;
    const first = activeCards(state.settings)[0];
    const key = first ? keyOf(first) : choices[0]?.key;
    set({ on, ...(on && !known && key && beginWith(key, state)) });
  };
  let shape = null;
  let controls = null;
  const legend = el("div", { class: "legend" });
  const note = el("p", { class: "hint", role: "status" });

  const render = () => {
    const state = store.get();
    const next = shapeOf(state);
    if (next !== shape) {
      shape = next;
      const focused = place.contains(document.activeElement) ? document.activeElement.dataset.key : null;
      controls = build(state, set, toggle);
      place.replaceChildren(...controls.children, legend, note);
      if (focused) place.querySelector(`[data-key="${focused}"]`)?.focus();
    }
    controls.show(state.settings.see);
    showLegend(state);
  };
  const showLegend = ({ answers, settings: { see } }) => {
    const scale = see.on ? colourScale(answers, see.centre, see.prompt) : null;
    const fresh = isFresh(store.get());
    note.textContent = see.on && !fresh ? "Generate to apply these settings." : "";
    const readout = scale && readoutOf(answers);
    legend.replaceChildren(...(readout ? legendOf(scale, readout) : []));
  };
  store.subscribe((state) => state.settings, render);
  store.subscribe((state) => state.server, render);
  store.subscribe(
    (state) => state.answers,
    () => showLegend(store.get()),
  );
  const errors = () => placeErrors(place, { ...store.get().checkErrors, ...store.get().requestErrors }, "see.");
  store.subscribe((state) => state.checkErrors, errors);
  store.subscribe((state) => state.requestErrors, errors);
}

// What the present answers were read along.
const readoutOf = (answers) => answers.unsteered?.steering?.readout?.[0] ?? answers.steered?.steering?.readout?.[0];

// Whether they were read with the present settings.
function isFresh({ answers, settings: { see } }) {
  const readout = readoutOf(answers);
  if (!readout) return false;
  const named = typeof readout.vector === "string" ? readout.vector === see.vector : see.vector?.startsWith("pairs:");
  return (
    named &&
    readout.layer === see.layer &&
    (readout.map ?? null) === see.map &&
    (!see.prompt || readout.phase !== "generation")
  );
}

function shapeOf({ settings, server }) {
  const keys = choicesOf(settings, server).map(({ key }) => key);
  return JSON.stringify([
    settings.see.on,
    settings.see.vector,
    settings.see.map,
    keys,
    server?.generation,
    settings.model,
  ]);
}

function build(state, set, toggle) {
  const { settings, server } = state;
  const { see } = settings;
  const model = modelOf(settings, server);
  const choices = choicesOf(settings, server);
  const allowed = server?.reading?.readouts !== false && policyOf(server) !== "off";
  const head = checkbox("See it: colour tokens by a readout", see.on, toggle, {
    "data-key": "on",
    disabled: !allowed || choices.length === 0,
  });
  const why =
    !server || (allowed && choices.length > 0)
      ? null
      : allowed
        ? "Use a vector to read along first."
        : "This server does not allow readouts.";
  const children = [head, why && el("p", { class: "hint" }, why)].filter(Boolean);
  if (!see.on || !allowed) return { children, show() {} };
  const info = choices.find(({ key }) => key === see.vector)?.info;
  const maps = mapsFor(info, model, server);
  const map = maps.find(({ name }) => name === see.map) ?? null;
  const layers = info ? layersOf(info, map).map(({ layer }) => [String(layer), String(layer)]) : [];
  const vector = select(
    choices.map(({ key, info }) => [key, info.name]),
    see.vector,
    (key) => set(beginWith(key, state)),
    { "data-field": "vector", "data-key": "vector" },
  );
  const layer = select(layers, String(see.layer), (value) => set({ layer: Number(value) }), {
    "data-field": "layer",
    "data-key": "layer",
  });
  const centre = select(
    [
      ["unsteered", "mean of the unsteered answer"],
      ["zero", "zero"],
    ],
    see.centre,
    (centre) => set({ centre }),
    { "data-key": "centre" },
  );
  const through = select(
    maps.map(({ name }) => [name, name]),
    see.map ?? "",
    (name) => set({ map: name }),
    { "data-field": "map", "data-key": "map" },
  );
  const prompt = checkbox("The prompt too", see.prompt, (prompt) => set({ prompt }), { "data-key": "prompt" });
  const row = el(
    "div",
    { class: "fields" },
    field("Along", vector),
    maps.length > 1 ? field("Through the map", through) : null,
    field("At layer", layer),
    field("Centre of the colours", centre),
  );
  return {
    children: [...children, row, el("p", { class: "hint" }, BEFORE), prompt],
    show(see) {
      show(layer, see.layer);
      show(centre, see.centre);
      prompt.querySelector("input").checked = see.prompt;
    },
  };
}

// The legend belongs to the present answers, which may have been read with earlier settings.
function legendOf({ centre, span }, { vector, layer }) {
  const texts = [`≤ ${number(centre - span)}`, number(centre), `≥ ${number(centre + span)}`];
  const ends = texts.map((text) => el("span", {}, text));
  const label = `Colours: ${number(centre - span)} is blue, ${number(centre)} has no colour, ${number(centre + span)} is orange`;
  const name = typeof vector === "string" ? vector : "the examples' vector";
  const text = `Component along ${name} at layer ${layer}, in the stream's units. Point at a token, tap it, or use the arrow keys to see its number.`;
  return [
    el("div", { class: "legend-bar", role: "img", "aria-label": label }),
    el("div", { class: "legend-numbers", "aria-hidden": "true" }, ends),
    el("p", { class: "hint" }, text),
  ];
}
