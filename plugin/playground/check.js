// The dry run: what the server would do with the settings, repeated when they change.

import { postJson } from "./api.js";
import { debounce } from "./dom.js";
import { errorsOf } from "./errors.js";
import { plural, ranges } from "./format.js";
import { activeCards, kindOf, messagesOf, modelOf, policyOf, steeringOf } from "./spec.js";

const WAIT_MS = 250;
// The longest prompt that the server accepts in a dry run; a longer one is left out.
const MAX_PROMPT_BYTES = 16384;

export function startChecks(store) {
  let running = null;
  let last = "";
  const run = async () => {
    const { settings, server } = store.get();
    if (!server) return;
    const steering = steeringOf(settings, server);
    const prompt = kindOf(settings, server) === "chat" ? messagesOf(settings) : settings.prompt;
    const fits = new TextEncoder().encode(JSON.stringify(prompt)).length <= MAX_PROMPT_BYTES;
    const body = {
      model: modelOf(settings, server)?.model,
      steering,
      ...(fits && prompt.length > 0 && { prompt }),
    };
    const text = JSON.stringify([body, server.generation]);
    if (text === last) return;
    last = text;
    running?.abort();
    if (steering === undefined) {
      store.set({ check: null, checkErrors: {} });
      return;
    }
    running = new AbortController();
    const { signal } = running;
    try {
      const check = await postJson("/v1/steering/check", body, { signal });
      if (signal.aborted) return;
      store.set({ check, checkErrors: check.refused ? errorsOf(check.refused, settings) : {} });
    } catch (error) {
      if (signal.aborted) return;
      // If the server can't be reached, the next change tries again.
      if (error.status === 0) last = "";
      store.set({ check: null, checkErrors: errorsOf(error.message, settings) });
    }
  };
  const soon = debounce(run, WAIT_MS);
  store.subscribe((state) => state.settings, soon);
  store.subscribe((state) => state.server, soon);

  const line = document.getElementById("check");
  const show = () => {
    const state = store.get();
    const rest = { ...state.checkErrors, ...state.requestErrors }[""];
    line.classList.toggle("bad", Boolean(rest));
    line.textContent = rest ?? describe(state);
  };
  store.subscribe((state) => state.check, show);
  store.subscribe((state) => state.checkErrors, show);
  store.subscribe((state) => state.requestErrors, show);
}

function describe({ check, settings, server, checkErrors }) {
  if (Object.keys(checkErrors).length > 0) return "The server would refuse this: see below.";
  if (!check) return policyOf(server) === "off" ? "This server does not allow requests to steer." : "";
  if (activeCards(settings).length === 0) return "No vector is in use: nothing is steered.";
  const parts = [`Steers ${check.layers.length === 1 ? "layer" : "layers"} ${ranges(check.layers)}`];
  if (check.prompt_tokens !== null) parts.push(`a prompt of ${plural(check.prompt_tokens, "token")}`);
  if (check.clamped_layers.length > 0) parts.push(`limited by the operator's bound at ${ranges(check.clamped_layers)}`);
  if (check.late_layers.length > 0) parts.push(`from the second token on at ${ranges(check.late_layers)}`);
  if (check.fingerprint) parts.push(`fingerprint ${check.fingerprint.slice(0, 10)}`);
  return `${parts.join(" · ")}.`;
}
