// Finds a vector from two lists of examples while the server runs.

import { postJson } from "./api.js";
import { button, el, field, newId, placeErrors, select, setFieldError, setOptions, table } from "./dom.js";
import { splitMessage } from "./errors.js";
import { number, plural, shortModel } from "./format.js";
import { SETS } from "./sets.js";
import { mapsFor, modelOf, newCard } from "./spec.js";
import { readPairs } from "./vector-files.js";

const METHODS = [
  ["mean-difference", "mean difference"],
  ["pca-difference", "first component of differences"],
  ["pca-centred", "first component of centred states"],
  ["logistic", "logistic probe"],
  ["lat", "LAT"],
];

const POSITIONS = [
  ["mean", "mean of all tokens"],
  ["last", "last token"],
  ["answer", "first token that differs"],
];

const linesOf = (text) =>
  text
    .split("\n")
    .map((line) => line.trim())
    .filter(Boolean);

export function mountFind(store, { load }) {
  const place = document.getElementById("find-place");
  const box = (key) => el("textarea", { rows: 6, "data-field": key, spellcheck: false });
  const boxes = { positive: box("positive"), negative: box("negative") };
  const name = el("input", {
    type: "text",
    autocomplete: "off",
    spellcheck: false,
    "data-field": "name",
    placeholder: "happy",
  });
  const model = select([], "", () => reach(), { "data-field": "model" });
  const method = select(METHODS, "mean-difference", () => {}, { "data-field": "method" });
  const position = select(POSITIONS, "mean", () => {}, { "data-field": "position" });
  const sets = select([["", "your own"], ...SETS.map(({ name, title }) => [name, title])], "", pickSet);
  const file = el("input", { type: "file", accept: ".jsonl,.ndjson,.json", "data-field": "file", onchange: pickFile });
  const way = el("p", { class: "hint" });
  const status = el("p", { class: "status", role: "status", "aria-live": "polite" });
  const problem = el("p", { class: "field-error", role: "alert" });
  const result = el("div", {});
  const go = button("Find it", find, { class: "primary" });
  const cancel = button("Cancel", () => running?.abort(), { hidden: true });
  let running = null;

  function pickSet(chosen) {
    const set = SETS.find(({ name }) => name === chosen);
    if (!set) return;
    boxes.positive.value = set.positive.join("\n");
    boxes.negative.value = set.negative.join("\n");
    name.value = set.name;
    counts();
  }

  // A file of pairs. A text of several lines keeps its place in the list: its line breaks become spaces.
  async function pickFile() {
    const [chosen] = file.files;
    if (!chosen) return;
    setFieldError(file, "");
    try {
      const pairs = readPairs(await chosen.text());
      for (const [key, box] of Object.entries(boxes)) {
        box.value = pairs.map((pair) => pair[key].replace(/\s*\n\s*/g, " ")).join("\n");
      }
      name.value = chosen.name.replace(/(\.pairs)?\.\w+$/, "");
      sets.value = "";
      counts();
    } catch (error) {
      setFieldError(file, error.message);
    }
  }

  const counted = { positive: el("span", { class: "hint" }), negative: el("span", { class: "hint" }) };
  function counts() {
    for (const [key, box] of Object.entries(boxes)) {
      const count = linesOf(box.value).length;
      counted[key].textContent = count === 0 ? "" : plural(count, "example");
    }
  }
  for (const box of Object.values(boxes)) box.addEventListener("input", counts);

  // Both lists must have the same number of lines; else there is an error beside the second.
  function pairs() {
    const [positive, negative] = [linesOf(boxes.positive.value), linesOf(boxes.negative.value)];
    if (positive.length !== negative.length) {
      const text = `${plural(positive.length, "example")} there, ${negative.length} here: they are paired line by line.`;
      setFieldError(boxes.negative, text);
      return null;
    }
    return positive.map((text, at) => ({ positive: text, negative: negative[at] }));
  }

  async function find() {
    placeErrors(place, {}, "find.");
    problem.textContent = "";
    result.replaceChildren();
    const examples = pairs();
    if (!examples) return;
    const vector = { model: model.value, pairs: examples, method: method.value, position: position.value };
    const { uploads } = store.get();
    const controller = new AbortController();
    running = controller;
    const began = performance.now();
    const seconds = () => number((performance.now() - began) / 1000, 2);
    const clock = setInterval(
      () =>
        (status.textContent = `Reading ${plural(examples.length, "pair")}: ${Math.round((performance.now() - began) / 1000)} s`),
      1000,
    );
    status.textContent = `Reading ${plural(examples.length, "pair")} …`;
    [go.disabled, cancel.hidden] = [true, false];
    try {
      if (uploads) await keep(vector, controller.signal, seconds);
      else await bring(vector, controller.signal, seconds);
    } catch (error) {
      status.textContent = "";
      if (controller.signal.aborted) {
        status.textContent = "Cancelled. The server finishes the work that it has started.";
      } else {
        showError(error);
      }
    } finally {
      clearInterval(clock);
      const lost = document.activeElement === cancel || document.activeElement === document.body;
      [go.disabled, cancel.hidden] = [false, true];
      if (lost) go.focus({ preventScroll: true });
    }
  }

  // The server keeps it under a name.
  async function keep(vector, signal, seconds) {
    const body = { name: name.value.trim(), ...vector };
    const answer = await postJson("/v1/steering/vectors", body, { signal, admin: true });
    const took = seconds();
    await load();
    use(answer.vector, answer.vector, answer.found.proposed);
    status.textContent = `Found “${answer.vector}” in ${took} s${answer.replaced ? ", replacing the vector of that name" : ""}. It is now a card under Vectors.`;
    result.replaceChildren(...tableOf(answer.found));
  }

  // Nothing is kept: the pairs go with each request. A dry run finds the vector, or reports why it can't.
  async function bring(vector, signal, seconds) {
    const { settings, server } = store.get();
    const label = name.value.trim() || "examples";
    const taken = settings.cards.filter((card) => card.label.startsWith(label)).length;
    const card = newCard(vector, taken ? `${label} ${taken + 1}` : label, server, modelOf(settings, server));
    const use = { vector, ...(card.map && { map: card.map }), relative_scale: card.amount };
    const body = { model: modelOf(settings, server)?.model, steering: { vectors: [use] } };
    await postJson("/v1/steering/check", body, { signal });
    add(card);
    status.textContent = `Found “${card.label}” in ${seconds()} s. It is now a card under Vectors; the examples go with each request.`;
  }

  function use(vector, label, proposed) {
    const { settings, server } = store.get();
    // A vector that is found again keeps its card.
    if (settings.cards.some((card) => card.vector === vector)) return;
    const card = newCard(vector, label, server, modelOf(settings, server));
    add(!card.map && card.layers.length === 0 && proposed?.length ? { ...card, layers: proposed } : card);
  }

  const add = (card) => store.set(({ settings }) => ({ settings: { ...settings, cards: [...settings.cards, card] } }));

  function showError(error) {
    const { path, text } = splitMessage(error.message);
    const field = /(?:^|\.)(name|concept|model|method|position|pairs)\b/.exec(path)?.[1];
    const side = /pairs\[\d+\]\.(positive|negative)/.exec(path)?.[1];
    const line = /pairs\[(\d+)\]/.exec(path)?.[1];
    const key = field === "pairs" ? (side ?? "positive") : field === "concept" ? "name" : field;
    const message = line ? `Line ${Number(line) + 1}: ${text}` : text;
    const rest = key ? placeErrors(place, { [`find.${key}`]: message }, "find.") : [error.message];
    problem.textContent = rest.join(" ");
  }

  // How a vector of the chosen model is carried to the served one.
  function reach() {
    const { settings, server } = store.get();
    const served = modelOf(settings, server);
    const source = (server?.sources ?? []).find(({ source }) => source === model.value);
    if (!server) way.textContent = "";
    else if (!source)
      way.textContent = model.value === served?.model ? "The served model reads the examples itself." : "";
    else {
      const layers = Array.from({ length: source.num_layers }, (_, layer) => layer);
      const info = { model: source.model, model_fingerprint: source.fingerprint, layers };
      const maps = mapsFor(info, served, server);
      way.textContent =
        maps.length > 0
          ? `Carried over by the map ${maps[0].name}.`
          : "There is no map from this model to the served one.";
    }
  }

  const render = () => {
    const { server, uploads, pairs } = store.get();
    const able = Boolean(server) && (uploads || pairs);
    place.classList.toggle("unable", !able);
    go.disabled = !able;
    if (!server) return;
    const models = [
      ...(server.sources ?? []).map(({ source, model }) => [source, `${source} (${shortModel(model)}), a source`]),
      ...server.models.map(({ model }) => [model, `${shortModel(model)}, the served model`]),
    ];
    const chosen = models.some(([value]) => value === model.value) ? model.value : models[0]?.[0];
    setOptions(model, models, chosen);
    reach();
    const texts = {
      keep: "The server finds the vector and keeps it under its name.",
      bring: "The server does not accept uploads from here: the examples go with each request, and nothing is kept.",
      none: "This server accepts neither uploads nor examples in requests, so no vector can be found here.",
    };
    about.textContent = texts[uploads ? "keep" : pairs ? "bring" : "none"];
  };

  const list = (key, label) => {
    const id = newId("examples");
    boxes[key].id = id;
    return el("div", { class: "field" }, el("label", { htmlFor: id }, label, " ", counted[key]), boxes[key]);
  };
  const about = el("p", { class: "lead" });
  place.replaceChildren(
    about,
    el(
      "div",
      { class: "fields" },
      field("Examples", sets),
      field("From a file", file, { hint: 'Lines of {"positive": "…", "negative": "…"}.' }),
    ),
    el("p", { class: "hint" }, "One example a line; the two lists are paired line by line."),
    el("div", { class: "lists" }, list("positive", "With it"), list("negative", "Without it")),
    el("div", { class: "fields" }, field("Name", name), field("Found by", model)),
    way,
    el(
      "details",
      { class: "advanced" },
      el("summary", {}, "How it is found"),
      el("div", { class: "fields" }, field("Method", method), field("States of", position)),
    ),
    el("div", { class: "row" }, go, cancel),
    status,
    problem,
    result,
  );
  store.subscribe((state) => state.server, render);
  store.subscribe((state) => state.uploads, render);
  store.subscribe((state) => state.settings.model, reach);
}

// The server's results by layer.
function tableOf(found) {
  const proposed = new Set(found.proposed);
  const cells = ({ layer, norm, mean_norm: mean, auroc, interval }) => [
    `${layer}${proposed.has(layer) ? " ◆" : ""}`,
    number(norm),
    number(mean, 4),
    auroc === null ? "–" : `${number(auroc)} (${number(interval[0], 2)} to ${number(interval[1], 2)})`,
  ];
  const head = ["Layer", "Vector's norm", "Stream's mean norm", "Held-out AUROC (95%)"];
  const facts = `${plural(found.pairs, "pair")}${found.repeats ? `, ${found.repeats} repeated` : ""}, read by ${shortModel(found.model)}. ◆ proposed.`;
  const missing = found.not_measured ? `AUROC was not measured: ${found.not_measured}.` : null;
  return [
    table("Results by layer", head, found.layers.map(cells)),
    el("p", { class: "hint" }, [facts, missing].filter(Boolean).join(" ")),
  ];
}
