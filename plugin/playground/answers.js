// Two answers side by side: one unsteered, one steered, streamed at once.

import { stream } from "./api.js";
import { button, el } from "./dom.js";
import { errorsOf } from "./errors.js";
import { number, plural, signed } from "./format.js";
import { LIMITS } from "./settings.js";
import { baselineOf, kindOf, messagesOf, policyOf, requestOf, steeringOf } from "./spec.js";
import { alignTokens, colourScale, generatedNumbers, meanOf, place } from "./tokens.js";

// How often the page is redrawn while answers arrive.
const DRAW_MS = 40;

let abort = null;

export const stop = () => abort?.abort();

export async function generate(store) {
  abort?.abort();
  const controller = new AbortController();
  abort = controller;
  const { settings, server } = store.get();
  const empty = kindOf(settings, server) === "chat" ? messagesOf(settings).length === 0 : settings.prompt === "";
  if (empty) {
    store.set({ requestErrors: { "request.prompt": "Enter a prompt first." }, running: false });
    return;
  }
  const sides = { unsteered: baselineOf(settings, server), steered: steeringOf(settings, server) };
  // Without a common seed the answers would also differ by sampling.
  const seed = settings.seed ?? Math.floor(Math.random() * 2 ** 31);
  const blank = { text: "", tokens: [], truncated: false, state: "running", error: null, finish: null, usage: null };
  const answers = {
    unsteered: { ...blank, steering: sides.unsteered, started: performance.now() },
    steered: { ...blank, steering: sides.steered, started: performance.now() },
  };
  store.set({ answers: { ...answers }, running: true, requestErrors: {} });
  let timer = null;
  const draw = () => {
    timer ??= setTimeout(() => {
      timer = null;
      if (abort === controller) store.set({ answers: { ...answers } });
    }, DRAW_MS);
  };
  const errors = {};
  const run = async (side) => {
    const update = (patch) => {
      answers[side] = { ...answers[side], ...patch };
      draw();
    };
    const { path, body } = requestOf({ ...settings, seed }, server, sides[side]);
    const usage = { stream_options: { include_usage: true } };
    try {
      await stream(
        path,
        { ...body, ...usage },
        { signal: controller.signal, onEvent: (event) => take(event, answers[side], update) },
      );
      update({ state: "done", seconds: (performance.now() - answers[side].started) / 1000 });
    } catch (error) {
      if (controller.signal.aborted) return update({ state: "stopped" });
      update({ state: "failed", error: error.message });
      Object.assign(errors, errorsOf(error.message, settings));
    }
  };
  await Promise.all([run("unsteered"), run("steered")]);
  // A newer run has taken over the page.
  if (abort !== controller) return;
  clearTimeout(timer);
  store.set({ answers: { ...answers }, running: false, requestErrors: errors });
}

// Adds the content of an event of a stream.
function take(event, answer, update) {
  const choice = event.choices?.[0];
  const piece = choice?.delta?.content ?? choice?.text ?? "";
  update({
    text: answer.text + piece,
    tokens: choice?.readout?.tokens ? [...answer.tokens, ...choice.readout.tokens] : answer.tokens,
    truncated: answer.truncated || choice?.readout?.truncated === true,
    finish: choice?.finish_reason ?? answer.finish,
    usage: event.usage ?? answer.usage,
  });
}

const LABELS = {
  unsteered: { replace: "Unsteered", extend: "The server's default", off: "The server's default" },
  steered: { replace: "Steered", extend: "With your vectors", off: "The server's default, again" },
};

export function mountAnswers(store) {
  const columns = Object.fromEntries(["unsteered", "steered"].map((side) => [side, column(side)]));
  const goOn = button("Continue with this answer", () => continueChat(store), { class: "quiet small", hidden: true });
  columns.steered.element.append(goOn);
  document
    .getElementById("answers-place")
    .replaceChildren(el("div", { class: "answers" }, columns.unsteered.element, columns.steered.element));
  const render = () => {
    const { answers, settings, server } = store.get();
    const { see } = settings;
    const scale = colourScale(answers, see.centre, see.prompt);
    for (const [side, column] of Object.entries(columns)) {
      column.title(LABELS[side][policyOf(server)]);
      column.show(answers[side], see, scale);
    }
    goOn.hidden = kindOf(settings, server) !== "chat" || !answers.steered?.text || answers.steered.state === "running";
  };
  store.subscribe((state) => state.settings.kind, render);
  store.subscribe((state) => state.answers, render);
  store.subscribe((state) => state.settings.see, render);
  store.subscribe((state) => state.server, render);
  const status = document.getElementById("answers-status");
  store.subscribe(
    (state) => `${state.running} ${state.answers.steered?.state}`,
    () => (status.textContent = summary(store.get())),
  );
}

// The steered answer becomes a turn of the chat, and the next one can be written.
function continueChat(store) {
  const { settings, answers } = store.get();
  const turns = [
    { role: "assistant", content: answers.steered.text },
    { role: "user", content: "" },
  ];
  const messages = [...messagesOf(settings), ...turns].slice(-LIMITS.messages);
  store.set({ settings: { ...settings, messages } });
  document.querySelector(".message:last-child textarea")?.focus();
}

function summary({ running, answers: { steered, unsteered } }) {
  if (running) return "Generating…";
  if (!steered) return "";
  const states = [unsteered.state, steered.state];
  if (states.includes("failed")) return "An answer failed.";
  if (states.includes("stopped")) return "Stopped.";
  return steered.text === unsteered.text ? "The two answers are equal." : "Both answers are complete.";
}

const FINISHED = { length: "cut off at max tokens", stop: "ended", eos: "ended" };

function column(side) {
  const heading = el("h3", {});
  const body = el("div", {
    class: "answer-text",
    id: `answer-${side}`,
    "aria-live": "polite",
    "aria-busy": "false",
  });
  const tokens = tokenView(body);
  const error = el("p", { class: "field-error", role: "alert" });
  const facts = el("p", { class: "facts" });
  const element = el("article", { class: `answer ${side}` }, heading, body, error, facts);
  return {
    element,
    title: (text) => (heading.textContent = text),
    show(answer, see, scale) {
      element.classList.toggle("running", answer?.state === "running");
      body.setAttribute("aria-busy", String(answer?.state === "running"));
      error.textContent = answer?.error ?? "";
      facts.textContent = answer ? factsOf(answer) : "";
      if (!answer) {
        tokens.clear();
        body.replaceChildren(
          el(
            "p",
            { class: "placeholder" },
            side === "steered" ? "The steered answer appears here." : "The answer without steering appears here.",
          ),
        );
      } else if (answer.tokens.length > 0 && see.on && scale) {
        tokens.show(answer, see, scale);
      } else {
        tokens.clear();
        body.replaceChildren(answer.text);
      }
    },
  };
}

function factsOf(answer) {
  const { usage, finish, state, seconds, truncated } = answer;
  const numbers = generatedNumbers(answer);
  const parts = [
    usage ? plural(usage.completion_tokens, "token") : null,
    seconds ? `${number(seconds, 2)} s` : null,
    state === "stopped" ? "stopped" : (FINISHED[finish] ?? finish),
    numbers.length > 0 ? `mean readout ${signed(meanOf(numbers))}` : null,
    truncated ? "readouts truncated by the server's limit" : null,
    usage?.steering ? `fingerprint ${usage.steering.fingerprint.slice(0, 10)}` : null,
    usage?.steering?.clamped_layers?.length
      ? `limited by the bound at layer ${usage.steering.clamped_layers.join(", ")}`
      : null,
  ];
  return parts.filter(Boolean).join(" · ");
}

// The maximal width of the number shown at a token.
const NUMBER_PX = 72;

// Coloured tokens. They are one stop of the Tab key; arrow keys move between tokens, and the current one shows its number.
function tokenView(body) {
  let shown = [];
  let current = null;
  const note = el("p", { class: "offscreen", role: "status" });
  const rest = document.createTextNode("");
  const choose = (at) => {
    shown[current]?.span.classList.remove("current");
    current = at;
    const token = shown[at];
    token?.span.classList.add("current");
    // The number of a token at the right edge is shown to its left.
    const room = token && body.getBoundingClientRect().right - token.span.getBoundingClientRect().right;
    token?.span.classList.toggle("at-edge", room < NUMBER_PX);
    note.textContent = token ? `“${token.span.textContent}” ${token.span.dataset.value}` : "";
  };
  const indexOf = (target) => shown.findIndex(({ span }) => span === target);
  body.addEventListener("pointerover", (event) => {
    const at = indexOf(event.target);
    if (at >= 0) choose(at);
  });
  body.addEventListener("click", (event) => {
    const at = indexOf(event.target);
    if (at >= 0) choose(at);
  });
  body.addEventListener("pointerleave", () => document.activeElement !== body && choose(null));
  body.addEventListener("blur", () => choose(null));
  body.addEventListener("focus", () => shown.length > 0 && current === null && choose(0));
  body.addEventListener("keydown", (event) => {
    const at = current ?? 0;
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: shown.length - 1 }[event.key];
    if (to === undefined || !shown[to]) return;
    event.preventDefault();
    choose(to);
    shown[to].span.scrollIntoView({ block: "nearest" });
  });
  const clear = () => {
    shown = [];
    current = null;
    body.removeAttribute("tabindex");
    body.removeAttribute("role");
    body.removeAttribute("aria-label");
    body.classList.remove("seen");
  };
  return {
    clear,
    show(answer, see, scale) {
      const generated = answer.tokens.filter(({ phase }) => phase === "generation");
      const prompt = see.prompt ? answer.tokens.filter(({ phase }) => phase === "prompt") : [];
      const { pieces, rest: after } = alignTokens(generated, answer.text);
      const all = [
        ...prompt.map((token) => [token, token.token]),
        ...generated.map((token, at) => [token, pieces[at]]),
      ];
      const [head] = all;
      // The answer or its tokens have changed: start over.
      if (shown.length === 0 || shown[0].token !== head?.[0] || shown.length > all.length) {
        clear();
        body.replaceChildren(rest, note);
        body.classList.add("seen");
        body.tabIndex = 0;
        body.setAttribute("role", "group");
        body.setAttribute("aria-label", "Tokens with their readouts. Arrow keys move between tokens.");
      }
      all.forEach(([token, text], at) => {
        if (!shown[at]) {
          const span = el("span", { class: `token ${token.phase}` });
          rest.before(span);
          shown[at] = { token, span };
        }
        const { span } = shown[at];
        if (span.textContent !== text) span.textContent = text;
        colour(span, token.values[0], scale);
      });
      rest.data = after;
    },
  };
}

function colour(span, value, scale) {
  const known = Number.isFinite(value);
  const at = known ? place(value, scale) : 0;
  span.classList.toggle("above", at > 0);
  span.classList.toggle("below", at < 0);
  span.style.setProperty("--share", `${Math.round(100 * Math.abs(at))}%`);
  span.dataset.value = known ? signed(value) : "no number";
}
