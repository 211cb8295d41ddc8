// The vectors in use, in order, and the vectors of the server.

import { mountCard } from "./card.js";
import { button, el, field, newId, placeErrors, select } from "./dom.js";
import { plural, ranges, shortModel } from "./format.js";
import { LIMITS } from "./settings.js";
import { extendsDefault, isNative, mapsFor, modelOf, newCard, policyOf } from "./spec.js";

// Up to this many vectors are listed without a filter.
const UNFILTERED = 8;

export function mountCards(store, { load }) {
  const list = document.getElementById("cards");
  const mounted = new Map();
  const setCards = (change) =>
    store.set(({ settings }) => ({ settings: { ...settings, cards: change(settings.cards) } }));
  const tools = {
    load,
    remove(id) {
      setCards((cards) => cards.filter((card) => card.id !== id));
      document.getElementById("library").querySelector("button, input")?.focus();
    },
    move(id, by) {
      setCards((cards) => {
        const at = cards.findIndex((card) => card.id === id);
        const moved = [...cards];
        moved.splice(at, 1);
        moved.splice(at + by, 0, cards[at]);
        return moved;
      });
      const element = mounted.get(id)?.element;
      const [first, second] = by < 0 ? ["up", "down"] : ["down", "up"];
      const tool = (key) => element?.querySelector(`[data-key="${key}"]:not(:disabled)`);
      (tool(first) ?? tool(second))?.focus();
    },
  };
  store.subscribe(
    (state) => state.settings.cards,
    (cards) => {
      const ids = new Set(cards.map(({ id }) => id));
      for (const [id, card] of mounted) {
        if (ids.has(id)) continue;
        card.end();
        card.element.remove();
        mounted.delete(id);
      }
      cards.forEach(({ id }, at) => {
        if (!mounted.has(id)) mounted.set(id, mountCard(store, id, tools));
        const { element } = mounted.get(id);
        if (list.children[at] !== element) list.insertBefore(element, list.children[at] ?? null);
      });
    },
  );
  mountSpecOptions(store);
  mountLibrary(store, setCards);
}

// Settings of the whole spec: how it combines with the default, and the stream's norm.
function mountSpecOptions(store) {
  const place = document.getElementById("spec-place");
  const change = (patch) => store.set(({ settings }) => ({ settings: { ...settings, ...patch } }));
  const render = () => {
    const { settings, server } = store.get();
    const parts = [];
    if (policyOf(server) === "replace" && modelOf(settings, server)?.default) {
      const options = [
        ["replace", "instead of the default"],
        ["extend", "after the default"],
      ];
      parts.push(
        field(
          "They act",
          select(options, settings.mode, (mode) => change({ mode }), { "data-field": "mode" }),
        ),
      );
    }
    if (!extendsDefault(settings, server) && policyOf(server) !== "off") {
      const options = [
        ["free", "free"],
        ["preserve", "preserved"],
      ];
      parts.push(
        field(
          "Stream's norm",
          select(options, settings.norm, (norm) => change({ norm }), { "data-field": "norm" }),
        ),
      );
    }
    place.replaceChildren(...parts);
  };
  store.subscribe((state) => state.server, render);
  store.subscribe(
    (state) => `${state.settings.model} ${state.settings.mode} ${state.settings.norm}`,
    () => {
      if (!place.contains(document.activeElement)) render();
    },
  );
  const errors = () => placeErrors(place, { ...store.get().checkErrors, ...store.get().requestErrors }, "spec.");
  store.subscribe((state) => state.checkErrors, errors);
  store.subscribe((state) => state.requestErrors, errors);
}

function mountLibrary(store, setCards) {
  const place = document.getElementById("library");
  let filter = "";
  const rows = el("ul", { class: "library" });
  const use = (name) => {
    const { settings, server } = store.get();
    if (settings.cards.length >= LIMITS.cards) return;
    const card = newCard(name, name, server, modelOf(settings, server));
    setCards((cards) => [...cards, card]);
    // Focus moves to the new card.
    document.querySelector("#cards > li:last-child .slider")?.focus();
  };
  const row = (info, model, server) => {
    const maps = mapsFor(info, model, server);
    const reached = isNative(info, model)
      ? "this model's own"
      : maps.length > 0
        ? "through a map"
        : "no map to this model";
    const facts = [
      info.concept === info.name ? null : info.concept,
      `${shortModel(info.model)}, ${reached}`,
      `layers ${ranges(info.layers)}`,
      info.uploaded ? "uploaded" : "configured",
    ];
    return el(
      "li",
      {},
      el("div", {}, el("strong", {}, info.name), el("p", { class: "facts" }, facts.filter(Boolean).join(" · "))),
      button("Use", () => use(info.name), { class: "small", "aria-label": `Use ${info.name}` }),
    );
  };
  const show = () => {
    const { settings, server } = store.get();
    const model = modelOf(settings, server);
    const wanted = (info) => `${info.name} ${info.concept} ${info.model}`.toLowerCase().includes(filter);
    const found = (server?.vectors ?? []).filter(wanted);
    rows.replaceChildren(...found.slice(0, 200).map((info) => row(info, model, server)));
  };
  const render = () => {
    const { server } = store.get();
    if (!server) return place.replaceChildren();
    const vectors = server.vectors ?? [];
    if (vectors.length === 0) {
      const text = "This server has no vectors yet. Two short lists of examples are enough to find a vector: ";
      place.replaceChildren(el("p", { class: "notice" }, text, el("a", { href: "#find" }, "Find a vector"), "."));
      return;
    }
    const input = el("input", {
      type: "search",
      id: newId("filter"),
      value: filter,
      oninput() {
        filter = input.value.toLowerCase();
        show();
      },
    });
    place.replaceChildren(
      el("h3", { class: "minor" }, `On this server: ${plural(vectors.length, "vector")}`),
      ...(vectors.length > UNFILTERED ? [field("Filter", input, { wide: true })] : []),
      rows,
    );
    show();
  };
  store.subscribe((state) => state.server, render);
  store.subscribe((state) => state.settings.model, show);
}
