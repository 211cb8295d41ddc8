// The card of one vector in use: its strength, layers and operation.

import { advanced } from "./advanced.js";
import { button, checkbox, el, field, numberInput, placeErrors, select, show } from "./dom.js";
import { number, percent, shortModel, signed } from "./format.js";
import { layerStrip } from "./layers.js";
import {
  activeCards,
  amountOf,
  firstLayers,
  foundLength,
  infoOf,
  isInline,
  isNative,
  layersOf,
  mapsFor,
  modelOf,
  rangeOf,
  withAmount,
} from "./spec.js";
import { removeVector, savePairs, saveVector } from "./vector-files.js";

const OPS = [
  ["add", "Add"],
  ["ablate", "Ablate"],
  ["set", "Set"],
  ["clamp", "Clamp"],
];

const OP_HINTS = {
  add: "Adds the vector to the stream; negative values steer in the opposite direction.",
  ablate: "Removes the component along the vector from the stream, in part or completely.",
  set: "Sets the component along the vector to this value.",
  clamp: "Keeps the component along the vector between two bounds, in the stream's units.",
};

export function mountCard(store, id, tools) {
  const element = el("li", { class: "card" });
  let shape = null;
  let parts = null;
  const open = { advanced: false };
  const cardOf = (state) => state.settings.cards.find((card) => card.id === id);
  const update = (patch) => {
    const changed = (card) => (typeof patch === "function" ? patch(card) : { ...card, ...patch });
    store.set(({ settings }) => ({
      settings: { ...settings, cards: settings.cards.map((card) => (card.id === id ? changed(card) : card)) },
    }));
  };

  const render = () => {
    const state = store.get();
    const card = cardOf(state);
    if (!card) return;
    const next = shapeOf(card, state);
    if (next !== shape) {
      shape = next;
      open.advanced = element.querySelector("details")?.open ?? open.advanced;
      const focused = element.contains(document.activeElement) ? document.activeElement.dataset.key : null;
      parts = build(store, card, update, tools, open);
      element.replaceChildren(...parts.children);
      element.classList.toggle("off", !card.on);
      if (focused) element.querySelector(`[data-key="${focused}"]`)?.focus();
      errors();
    }
    parts.show(card);
  };
  const check = () => {
    const state = store.get();
    const card = cardOf(state);
    if (card) parts.note(card, state.check?.vectors?.[activeCards(state.settings).indexOf(card)]);
  };
  const errors = () => {
    const { checkErrors, requestErrors } = store.get();
    const rest = placeErrors(element, { ...checkErrors, ...requestErrors }, `cards.${id}.`);
    const place = element.querySelector(".card-error");
    if (place) place.textContent = rest.join(" ");
  };
  const ends = [
    store.subscribe((state) => state.settings, render),
    store.subscribe((state) => state.server, render),
    store.subscribe((state) => state.check, check),
    store.subscribe((state) => state.checkErrors, errors),
    store.subscribe((state) => state.requestErrors, errors),
  ];
  return { element, end: () => ends.forEach((end) => end()) };
}

// The values that decide which controls a card has; all others are written into the controls.
function shapeOf(card, { settings, server, uploads, files }) {
  const { cards } = settings;
  return JSON.stringify([
    card.on,
    card.op,
    card.map,
    card.unit,
    card.when && [card.when.vector, card.when.map],
    card.schedule !== null,
    cards.indexOf(card),
    cards.map(({ label }) => label),
    modelOf(settings, server)?.model,
    server?.generation,
    server?.vectors?.length,
    uploads,
    files,
  ]);
}

function build(store, card, update, tools, open) {
  const state = store.get();
  const { settings, server } = state;
  const model = modelOf(settings, server);
  const info = infoOf(card, server);
  const maps = mapsFor(info, model, server);
  const map = maps.find(({ name }) => name === card.map) ?? null;
  const rows = info ? layersOf(info, map) : [];
  const head = heading(card, info, state, update, tools);
  const alert = el("p", { class: "card-error field-error", role: "alert" });
  if (!info) {
    const gone = el("p", { class: "notice" }, server ? "This server has no such vector." : "Waiting for the server.");
    return { children: [head, gone, alert], show() {}, note() {} };
  }
  const strip = layerStrip(rows, card.layers, (layers) => update({ layers }));
  const strength = dose(card, update, (card) => rangeOf(card, rows, model));
  const note = el("p", { class: "dose-note" });
  const more = advanced(store, card, update, open);
  const body = [
    strength.element,
    note,
    el(
      "div",
      { class: "field" },
      el("p", { class: "strip-title" }, "Layers"),
      rows.length > 0 ? strip.element : el("p", { class: "notice" }, "This vector reaches no layer."),
      el("p", { class: "hint" }, stripHint(rows)),
    ),
    alert,
    el("div", { class: "fields" }, mapField(card, info, model, maps, update), opField(card, update)),
    more.element,
    fileButtons(card, info, state, tools),
  ];
  return {
    children: card.on ? [head, ...body.filter(Boolean)] : [head],
    show(card) {
      strip.show(card.layers);
      strength.show(card);
      more.show(card);
      if (card.layers.length === 0) note.textContent = "All of these layers are steered.";
      else if (note.textContent === "") note.textContent = " ";
    },
    note: (card, checked) => (note.textContent = doseText(card, checked, foundLength(card, rows))),
  };
}

function heading(card, info, { settings, server }, update, { move, remove }) {
  const at = settings.cards.findIndex(({ id }) => id === card.id);
  const model = modelOf(settings, server);
  const inline = isInline(card.vector);
  const facts = [
    inline
      ? `${card.vector.pairs.length} pairs, found by each request`
      : info?.concept !== card.label
        ? info?.concept
        : null,
    info?.method,
    info ? `found on ${shortModel(info.model)}${isNative(info, model) ? ", this model" : ""}` : null,
    inline ? "not kept on the server" : info && (info.uploaded ? "uploaded" : "configured"),
  ].filter(Boolean);
  const tool = (key, label, sign, onclick, disabled = false) =>
    button(sign, onclick, {
      class: "quiet icon",
      "aria-label": `${label} ${card.label}`,
      title: label,
      disabled,
      "data-key": key,
    });
  return el(
    "div",
    { class: "card-head" },
    el("div", { class: "card-title" }, el("h3", {}, card.label), el("p", { class: "facts" }, facts.join(" · "))),
    el(
      "div",
      { class: "card-tools" },
      checkbox("On", card.on, (on) => update({ on }), { "data-key": "on", "aria-label": `Use ${card.label}` }),
      tool("up", "Move up", "↑", () => move(card.id, -1), at === 0),
      tool("down", "Move down", "↓", () => move(card.id, 1), at === settings.cards.length - 1),
      tool("remove", "Remove", "×", () => remove(card.id)),
    ),
  );
}

// The vector's files. Of one that each request finds, the pairs are what there is to keep.
function fileButtons(card, info, { uploads, files }, { remove, load }) {
  if (isInline(card.vector)) {
    return el(
      "div",
      { class: "row" },
      button("Save the pairs as file", () => savePairs(card), {
        class: "quiet small",
        "data-key": "save",
        title: "Downloads the pairs as JSON lines, from which mapper vector finds the same vector",
      }),
    );
  }
  if (!files) return null;
  return el(
    "div",
    { class: "row" },
    [
      button("Save as file", (event) => saveVector(card.vector, event.currentTarget), {
        class: "quiet small",
        "data-key": "save",
        title: "Downloads the vector's TOML and its tensors",
      }),
      info?.uploaded && uploads
        ? button("Delete from the server", (event) => removeVector(card, event.currentTarget, { remove, load }), {
            class: "quiet small",
            "data-key": "delete",
          })
        : null,
    ].filter(Boolean),
  );
}

// The map that carries the vector to the served model.
function mapField(card, info, model, maps, update) {
  if (isNative(info, model)) return null;
  if (maps.length === 0) {
    const text = `It was found on ${shortModel(info.model)}, and no map leads from there to ${shortModel(model?.model ?? "this model")}.`;
    return el("p", { class: "notice wide", "data-field": "map" }, text);
  }
  const choose = (name) => {
    const map = maps.find((map) => map.name === name);
    update({ map: name, layers: firstLayers(layersOf(info, map), model) });
  };
  const options = maps.map(({ name, source, target }) => [
    name,
    `${name}: ${shortModel(source)} → ${shortModel(target)}`,
  ]);
  if (!maps.some(({ name }) => name === card.map)) options.unshift(["", "choose a map"]);
  return field("Through the map", select(options, card.map ?? "", choose, { "data-field": "map", "data-key": "map" }));
}

function opField(card, update) {
  const choose = (op) => update((card) => ({ ...card, op, ...(op === "clamp" && card.max === null && { max: 0 }) }));
  return field("What it does", select(OPS, card.op, choose, { "data-field": "op", "data-key": "op" }), {
    hint: OP_HINTS[card.op],
  });
}

// The slider with its number and unit, or the two bounds of `clamp`.
function dose(card, update, range) {
  if (card.op === "clamp") {
    const min = numberInput(card.min, (value) => update({ min: value }), {
      optional: true,
      "data-field": "min",
      placeholder: "none",
    });
    const max = numberInput(card.max, (value) => update({ max: value }), {
      optional: true,
      "data-field": "max",
      placeholder: "none",
    });
    return {
      element: el("div", { class: "row fields" }, field("At least", min), field("At most", max)),
      show(card) {
        show(min, card.min);
        show(max, card.max);
      },
    };
  }
  const set = (value) => update((card) => withAmount(card, value));
  const slider = el("input", {
    type: "range",
    class: "slider",
    "aria-label": `Strength of ${card.label}`,
    "data-key": "slider",
    oninput: () => set(slider.valueAsNumber),
  });
  // The value is set after the bounds, which would otherwise clip it.
  Object.assign(slider, range(card));
  slider.value = amountOf(card);
  const exact = numberInput(amountOf(card), set, {
    step: "any",
    "data-field": "amount",
    "data-key": "amount",
    "aria-label": `Strength of ${card.label} as a number`,
  });
  const units = [
    ["relative", "× mean norm"],
    ["scale", card.op === "set" ? "stream's units" : "length"],
  ];
  const unit =
    card.op === "ablate"
      ? el("span", { class: "unit" }, "share removed")
      : select(
          units,
          card.unit,
          (unit) => update((card) => ({ ...card, unit, amount: unit === "relative" ? 0.1 : 1 })),
          { class: "unit", "aria-label": "Unit of the strength", "data-key": "unit" },
        );
  return {
    element: el("div", { class: "field dose" }, el("div", { class: "dose-row" }, slider, exact, unit)),
    show(card) {
      const value = amountOf(card);
      Object.assign(slider, range(card));
      if (slider.valueAsNumber !== value) slider.value = value;
      slider.setAttribute(
        "aria-valuetext",
        `${number(value)} ${card.unit === "relative" ? "of the stream's mean norm" : ""}`,
      );
      show(exact, Number(value.toPrecision(6)));
    },
  };
}

const stripHint = (rows) =>
  [
    rows.some(({ auroc }) => auroc !== null) ? "Bars: held-out AUROC, from 0.5 (chance) to 1." : "AUROC not measured.",
    rows.some(({ proposed }) => proposed) ? "◆ proposed." : null,
  ]
    .filter(Boolean)
    .join(" ");

// The strength at each layer, from the dry run.
function doseText(card, checked, found) {
  const layers = checked?.layers ?? [];
  if (card.op === "clamp" || card.op === "ablate" || layers.length === 0) return " ";
  const { layer, scale, mean_norm: norm, relative } = layers[0];
  const more = layers.length > 1 ? `, and similarly at ${layers.length - 1} more` : "";
  const what = card.op === "set" ? "component" : "offset";
  if (norm === null || norm === undefined)
    return `Layer ${layer}: ${what} ${signed(scale)}; the stream's norm is not known${more}.`;
  const own = found === null ? "" : ` As it was found, the vector has ${percent(found)}.`;
  return `Layer ${layer}: ${what} ${signed(scale)} for a stream of mean norm ${number(norm, 4)}, ${percent(Math.abs(relative))}${more}.${own}`;
}
