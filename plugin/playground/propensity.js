// The propensity of a two-choice question over the strength of a vector, drawn as it is measured.
//
// An answer's log probability is exact, even if the model would hardly give it: a regular expression lets the server
// generate nothing but that answer, and the log probabilities that it reports are the model's own, from before the expression.

import { postJson } from "./api.js";
import { curve } from "./chart.js";
import { button, el, field, select, show, table } from "./dom.js";
import { number, signed } from "./format.js";
import { amountOf, kindOf, modelOf, policyOf, rangeOf, rowsOf, steeringOf, withAmount } from "./spec.js";

const POINTS = 9;
// The most tokens of an answer.
const MAX_TOKENS = 32;

const SPANS = [
  ["1", "the slider's whole range"],
  ["0.5", "half of it"],
  ["0.2", "a fifth of it"],
];

const BLANKS = [
  ["auto", "as in the model's answer"],
  ["yes", "yes"],
  ["no", "no"],
];

const escapeRegex = (text) => text.replace(/[\\^$.*+?()[\]{}|/-]/g, "\\$&");

// The server's answer to the question: the tokens, their log probabilities, and the finish reason.
async function ask({ question, settings, server, signal }, more) {
  const chat = kindOf(settings, server) === "chat";
  const system = settings.messages.filter(({ role, content }) => role === "system" && content !== "");
  const body = {
    model: modelOf(settings, server)?.model,
    ...(chat ? { messages: [...system, { role: "user", content: question.prompt }] } : { prompt: question.prompt }),
    temperature: 0,
    ...(chat ? { logprobs: true } : { logprobs: 1 }),
    ...more,
  };
  const { choices } = await postJson(chat ? "/v1/chat/completions" : "/v1/completions", body, { signal });
  const { logprobs, finish_reason: finish } = choices[0];
  return {
    finish,
    tokens: chat ? logprobs?.content?.map(({ token }) => token) : logprobs?.tokens,
    values: chat ? logprobs?.content?.map(({ logprob }) => logprob) : logprobs?.token_logprobs,
  };
}

// Whether the answers begin with a space: as chosen, or as in the model's own answer.
async function beginsWithBlank(asked) {
  const { space } = asked.question;
  if (space !== "auto") return space === "yes";
  const { tokens } = await ask(asked, { max_tokens: 1 });
  return /^\s/.test(tokens?.[0] ?? "");
}

// The sum of the log probabilities of an answer's tokens, or why it isn't known.
async function logProbability(answer, asked, steering) {
  const grammar = { type: "regex", value: escapeRegex(answer) };
  const more = { max_tokens: MAX_TOKENS, grammar, ...(steering && { steering }) };
  const { tokens, values, finish } = await ask(asked, more);
  if (!values?.length) return { value: null, reason: "the server gave no log probabilities" };
  if (finish === "length") return { value: null, reason: `the answer has more than ${MAX_TOKENS} tokens` };
  if (!values.every(Number.isFinite)) return { value: null, reason: "its log probability is not finite" };
  return { value: values.reduce((a, b) => a + b, 0), tokens };
}

export function mountPropensity(store) {
  const place = document.getElementById("propensity-place");
  const set = (patch) =>
    store.set(({ settings }) => ({ settings: { ...settings, question: { ...settings.question, ...patch } } }));
  const { question } = store.get().settings;
  const prompt = el("textarea", { rows: 2, value: question.prompt, oninput: () => set({ prompt: prompt.value }) });
  const text = (key) => {
    const input = el("input", {
      type: "text",
      autocomplete: "off",
      spellcheck: false,
      value: question[key],
      oninput: () => set({ [key]: input.value }),
    });
    return input;
  };
  const [a, b] = [text("a"), text("b")];
  const space = select(BLANKS, question.space, (space) => set({ space }));
  const span = select(SPANS, String(question.span), (value) => set({ span: Number(value) }));
  const card = select([], "", (value) => set({ card: Number(value) }));
  const status = el("p", { class: "status", role: "status", "aria-live": "polite" });
  const problem = el("p", { class: "field-error", role: "alert" });
  const drawing = el("div", { class: "drawing" });
  const numbers = el("div", {});
  const go = button("Measure", measure, { class: "primary" });
  const cancel = button("Cancel", () => running?.abort(), { hidden: true });
  let running = null;
  // The measured points, and the settings they were measured with.
  let measured = null;

  // The vector whose strength is varied.
  const varied = ({ settings: { cards, question }, server }) => {
    if (policyOf(server) === "off") return null;
    const usable = cards.filter((card) => card.on && card.op !== "clamp");
    return usable.find((card) => cards.indexOf(card) === question.card) ?? usable[0] ?? null;
  };

  async function measure() {
    const { settings, server } = store.get();
    const { question } = settings;
    const subject = varied(store.get());
    problem.textContent = "";
    if (!subject || !server) return;
    if (question.prompt === "" || question.a === "" || question.b === "") {
      problem.textContent = "Enter a question and two answers.";
      return;
    }
    const controller = new AbortController();
    running = controller;
    const model = modelOf(settings, server);
    const { min, max } = rangeOf(subject, rowsOf(subject, server, model), model);
    const [low, high] = [min, max].map((bound) => bound * question.span);
    measured = { points: [], low, high, question, id: subject.id, label: subject.label };
    [go.disabled, cancel.hidden] = [true, false];
    draw();
    const asked = { question, settings, server, signal: controller.signal };
    try {
      const blank = (await beginsWithBlank(asked)) ? " " : "";
      for (let at = 0; at < POINTS; at++) {
        const x = Number((low + ((high - low) * at) / (POINTS - 1)).toPrecision(6));
        status.textContent = `Measuring: ${at + 1} of ${POINTS}`;
        const cards = settings.cards.map((card) => (card.id === subject.id ? withAmount(card, x) : card));
        const changed = { ...settings, cards, see: { ...settings.see, on: false } };
        const steering = steeringOf(changed, server);
        const [first, second] = await Promise.all(
          [question.a, question.b].map((answer) => logProbability(blank + answer.trimStart(), asked, steering)),
        );
        const y = first.value === null || second.value === null ? null : first.value - second.value;
        measured.points.push({ x, y, a: first, b: second });
        draw();
      }
      status.textContent = `Measured at ${POINTS} strengths.`;
    } catch (error) {
      status.textContent = controller.signal.aborted ? "Cancelled." : "";
      if (!controller.signal.aborted) problem.textContent = error.message;
    } finally {
      const lost = document.activeElement === cancel || document.activeElement === document.body;
      [go.disabled, cancel.hidden] = [varied(store.get()) === null, true];
      if (lost) go.focus({ preventScroll: true });
    }
  }

  function draw() {
    if (!measured) return;
    const { points, low, high, question, id, label } = measured;
    const card = store.get().settings.cards.find((card) => card.id === id);
    const unit =
      card?.op === "ablate" ? "share removed" : card?.unit === "scale" ? "scale" : "× the stream's mean norm";
    const title = `Log probability of ${question.a} minus that of ${question.b}, against the strength of ${label}`;
    drawing.replaceChildren(
      curve({
        width: Math.max(280, drawing.clientWidth),
        points,
        low,
        high,
        current: card ? amountOf(card) : null,
        xLabel: `strength of ${clip(label)}, ${unit}`,
        yLabel: `log P(${clip(question.a)}) − log P(${clip(question.b)})`,
        title,
      }),
    );
    numbers.replaceChildren(...(points.length > 0 ? tableOf(points, question) : []));
  }

  place.replaceChildren(
    el(
      "p",
      { class: "lead" },
      "How the probabilities of two answers change with a vector's strength. The server is made to write each answer, and reports the model's own log probability of it.",
    ),
    field("Question, or text to continue", prompt, { wide: true }),
    el(
      "div",
      { class: "fields" },
      field("Answer A", a),
      field("Answer B", b),
      field("Vector", card),
      field("Over", span),
      field("Space before answers", space),
    ),
    el("div", { class: "row" }, go, cancel),
    status,
    problem,
    drawing,
    numbers,
  );

  new ResizeObserver(draw).observe(drawing);

  const render = () => {
    const { settings } = store.get();
    const { question } = settings;
    show(prompt, question.prompt);
    show(a, question.a);
    show(b, question.b);
    show(span, question.span);
    show(space, question.space);
    const options = settings.cards
      .map((card, at) => [String(at), card.label, card])
      .filter(([, , card]) => card.on && card.op !== "clamp");
    const subject = varied(store.get());
    const key = JSON.stringify(options.map(([at, label]) => [at, label]));
    if (card.dataset.options !== key) {
      card.dataset.options = key;
      card.replaceChildren(...options.map(([at, label]) => el("option", { value: at }, label)));
    }
    card.value = subject ? String(settings.cards.indexOf(subject)) : "";
    const idle = cancel.hidden;
    if (idle) go.disabled = subject === null;
    if (idle && !measured) status.textContent = subject ? "" : "Use a vector with a strength first.";
    draw();
  };
  store.subscribe((state) => state.settings, render);
  store.subscribe((state) => state.server, render);
}

const clip = (text) => (text.length > 14 ? `${text.slice(0, 13)}…` : text);

function tableOf(points, { a, b }) {
  const missing = points.filter(({ y }) => y === null);
  const reason = missing.map(({ a, b }) => a.reason ?? b.reason).find(Boolean);
  const head = ["Strength", `log P(${clip(a)})`, `log P(${clip(b)})`, "Difference"];
  const cells = ({ x, y, a, b }) => [
    signed(x),
    number(a.value, 4),
    number(b.value, 4),
    y === null ? "–" : signed(y, 4),
  ];
  const [first] = points;
  const tokens = [first.a, first.b].map(({ tokens }) => (tokens ?? []).map((token) => `“${token}”`).join(" "));
  return [
    missing.length > 0 ? el("p", { class: "notice" }, `Points are missing: ${reason}.`) : null,
    el(
      "details",
      { class: "advanced" },
      el("summary", {}, "The numbers"),
      table("The numbers of the curve", head, points.map(cells)),
      el("p", { class: "hint" }, `Natural logarithms, summed over the tokens of each answer: ${tokens.join(", ")}.`),
    ),
  ].filter(Boolean);
}
