// The prompt, or the messages of a chat; sampling; the buttons that run it.

import { generate, stop } from "./answers.js";
import { button, checkbox, debounce, el, field, numberInput, placeErrors, select, show } from "./dom.js";
import { LIMITS } from "./settings.js";
import { kindOf, modelOf } from "./spec.js";

const ROLES = [
  ["system", "System"],
  ["user", "User"],
  ["assistant", "Assistant"],
];

export function mountPrompt(store) {
  const change = (patch) => store.set(({ settings }) => ({ settings: { ...settings, ...patch } }));
  mountKind(store, change);
  mountText(store, change);
  mountSampling(store, change);
  mountActions(store);
  const root = document.getElementById("prompt");
  const errors = () => placeErrors(root, { ...store.get().checkErrors, ...store.get().requestErrors }, "request.");
  store.subscribe((state) => state.requestErrors, errors);
  store.subscribe((state) => state.checkErrors, errors);
}

// Chat or completion, if the model has a chat template.
function mountKind(store, change) {
  const place = document.getElementById("kind-place");
  const render = () => {
    const { settings, server } = store.get();
    if (!server) return;
    if (!modelOf(settings, server)?.chat) {
      place.replaceChildren(el("p", { class: "facts" }, "Completion: the model has no chat template"));
      return;
    }
    const kind = kindOf(settings, server);
    const option = (value, label) =>
      el(
        "label",
        { class: "segment" },
        el("input", {
          type: "radio",
          name: "kind",
          value,
          checked: kind === value,
          onchange: () => change({ kind: value }),
        }),
        el("span", {}, label),
      );
    place.replaceChildren(
      el(
        "fieldset",
        { class: "segments" },
        el("legend", { class: "offscreen" }, "Kind of request"),
        option("chat", "Chat"),
        option("completion", "Completion"),
      ),
    );
  };
  store.subscribe((state) => state.server, render);
  store.subscribe((state) => modelOf(state.settings, state.server), render);
}

function mountText(store, change) {
  const place = document.getElementById("prompt-place");
  let kind = null;
  let shape = "";
  let boxes = [];
  const render = () => {
    const { settings, server } = store.get();
    const next = kindOf(settings, server);
    const nextShape = settings.messages.map(({ role }) => role).join();
    if (next !== kind || (kind === "chat" && shape !== nextShape)) {
      [kind, shape] = [next, nextShape];
      boxes = [];
      place.replaceChildren(kind === "chat" ? chat(store, change, boxes) : completion(change, boxes));
    }
    const texts = kind === "chat" ? settings.messages.map(({ content }) => content) : [settings.prompt];
    boxes.forEach((box, index) => show(box, texts[index]));
  };
  store.subscribe((state) => state.server, render);
  store.subscribe((state) => state.settings, render);
}

function completion(change, boxes) {
  const box = el("textarea", {
    rows: 4,
    "data-field": "prompt",
    oninput: () => change({ prompt: box.value }),
  });
  boxes.push(box);
  return field("Text for the model to continue", box, { wide: true });
}

function chat(store, change, boxes) {
  const edit = (index, patch) =>
    change({
      messages: store.get().settings.messages.map((message, at) => (at === index ? { ...message, ...patch } : message)),
    });
  const { messages } = store.get().settings;
  const rows = messages.map(({ role }, index) => {
    const box = el("textarea", {
      rows: role === "system" ? 2 : 3,
      "aria-label": `Message ${index + 1}`,
      oninput: () => edit(index, { content: box.value }),
    });
    // An error of the prompt is shown at the last message.
    if (index === messages.length - 1) box.dataset.field = "prompt";
    boxes.push(box);
    const remove = () => change({ messages: store.get().settings.messages.filter((_, at) => at !== index) });
    return el(
      "li",
      { class: "message field" },
      el(
        "div",
        { class: "row between" },
        select(ROLES, role, (value) => edit(index, { role: value }), { "aria-label": `Role of message ${index + 1}` }),
        messages.length > 1
          ? button("Remove", remove, { class: "quiet small", "aria-label": `Remove message ${index + 1}` })
          : null,
      ),
      box,
    );
  });
  const add = () => {
    const all = store.get().settings.messages;
    const role = all.at(-1)?.role === "user" ? "assistant" : "user";
    if (all.length < LIMITS.messages) change({ messages: [...all, { role, content: "" }] });
    boxes.at(-1)?.focus();
  };
  const addSystem = () => change({ messages: [{ role: "system", content: "" }, ...store.get().settings.messages] });
  return el(
    "div",
    {},
    el("ol", { class: "messages" }, rows),
    el(
      "div",
      { class: "row" },
      button("Add a message", add, { class: "quiet small" }),
      messages[0]?.role === "system" ? null : button("Add a system message", addSystem, { class: "quiet small" }),
    ),
  );
}

function mountSampling(store, change) {
  const { settings } = store.get();
  const temperature = numberInput(settings.temperature, (value) => change({ temperature: value }), {
    min: 0,
    max: 2,
    step: 0.1,
    "data-field": "temperature",
  });
  const maxTokens = numberInput(settings.maxTokens, (value) => change({ maxTokens: Math.max(0, Math.round(value)) }), {
    min: 1,
    step: 1,
    "data-field": "maxTokens",
  });
  const seed = numberInput(settings.seed, (value) => change({ seed: value === null ? null : Math.round(value) }), {
    step: 1,
    optional: true,
    placeholder: "random",
    "data-field": "seed",
  });
  const draw = () => change({ seed: Math.floor(Math.random() * 1e6) });
  const again = button("↻", draw, {
    class: "quiet icon",
    title: "Another seed",
    "aria-label": "Another seed",
  });
  const seedField = field("Seed", seed);
  seedField.append(el("div", { class: "with-button" }, seed, again));
  document
    .getElementById("sampling-place")
    .replaceChildren(field("Temperature", temperature), field("Max tokens", maxTokens), seedField);
  store.subscribe(
    (state) => state.settings,
    (settings) => {
      show(temperature, settings.temperature);
      show(maxTokens, settings.maxTokens);
      show(seed, settings.seed);
    },
  );
}

function mountActions(store) {
  let follow = false;
  const run = () => {
    if (store.get().server) generate(store);
  };
  const go = button("Generate", run, { class: "primary", title: "Ctrl + Enter" });
  const end = button("Stop", stop, { disabled: true });
  const following = checkbox("Follow", follow, (on) => {
    follow = on;
    if (on) run();
  });
  following.title = "Generates again after each change";
  const jump = el("a", { href: "#answers", class: "to-answers" }, "Answers");
  document.getElementById("actions").replaceChildren(go, end, following, jump);
  store.subscribe(
    (state) => state.running,
    (running) => {
      // Focus stays where it is useful: a disabled button would lose it.
      if (running) end.disabled = false;
      else if (document.activeElement === end) go.focus();
      if (!running) end.disabled = true;
    },
  );
  store.subscribe(
    (state) => state.answers.steered !== null,
    (some) => (go.textContent = some ? "Regenerate" : "Generate"),
  );
  const again = debounce(() => follow && run(), 400);
  store.subscribe((state) => state.settings, again);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && !document.querySelector("dialog[open]")) {
      event.preventDefault();
      run();
    }
  });
}
