// The page: reads the server's state and builds the parts.

import { ApiError, getJson, token } from "./api.js";
import { mountAnswers } from "./answers.js";
import { mountCards } from "./cards.js";
import { startChecks } from "./check.js";
import { copyText, el } from "./dom.js";
import { mountFind } from "./find.js";
import { mountHeader } from "./header.js";
import { mountPrompt } from "./prompt.js";
import { mountPropensity } from "./propensity.js";
import { mountSee } from "./see.js";
import { defaults, fromFragment, toFragment } from "./settings.js";
import { isNative, mapsFor, modelOf, newCard } from "./spec.js";
import { createStore } from "./store.js";
import { mountTake } from "./take.js";
import { askForToken } from "./token.js";

const restored = fromFragment(location.hash);

// settings: what a link restores. server: the answer of GET /v1/steering, `null` until it is known. uploads, pairs, files: whether
// vectors may be kept, sent as pairs and downloaded. ..Errors: messages by the key of their control. check: the dry run.
// answers: the running and finished answers.
const store = createStore({
  settings: restored ?? defaults(),
  server: null,
  trouble: null,
  needsToken: false,
  uploads: false,
  pairs: false,
  files: true,
  requestErrors: {},
  checkErrors: {},
  check: null,
  running: false,
  answers: { steered: null, unsteered: null },
});

// Reads the server's state; asks for a token if one is needed. Returns whether the state could be read.
async function load() {
  for (;;) {
    try {
      const state = await getJson("/playground/state", { admin: true });
      if (!state.steering) throw new ApiError("The server's answer has no list of vectors.");
      store.set({
        server: state.steering,
        trouble: null,
        needsToken: state.token,
        uploads: state.uploads,
        pairs: Boolean(state.requests?.pairs),
        files: state.files ?? true,
      });
      return true;
    } catch (error) {
      if (error.status === 401) {
        const wrong = token.get() !== null;
        store.set({ needsToken: true, trouble: wrong ? error.message : "This server needs a token." });
        token.set(null);
        if (await askForToken(wrong)) continue;
        return false;
      }
      store.set({ trouble: error.message });
      return false;
    }
  }
}

// The first usable vector is in use from the beginning, so that the page shows an effect.
function begin() {
  const { settings, server } = store.get();
  if (restored || settings.cards.length > 0) return;
  const model = modelOf(settings, server);
  const usable = (server.vectors ?? []).find((info) => {
    const map = mapsFor(info, model, server)[0] ?? null;
    return map !== null || isNative(info, model);
  });
  if (!usable) return;
  const card = newCard(usable.name, usable.name, server, model);
  store.set({ settings: { ...settings, cards: [card] } });
}

function notices() {
  const place = document.getElementById("notices");
  store.subscribe(
    (state) => state.trouble,
    (trouble) => {
      const retry = el("button", { type: "button", class: "quiet", onclick: start }, "Try again");
      place.replaceChildren(...(trouble ? [el("p", { class: "notice bad" }, el("span", {}, trouble), retry)] : []));
    },
  );
}

let begun = false;

async function start() {
  if (!(await load()) || begun) return;
  begun = true;
  begin();
}

mountHeader(store, { load: start });
mountPrompt(store);
mountCards(store, { load });
mountFind(store, { load });
mountAnswers(store);
mountSee(store);
mountPropensity(store);
mountTake(store);
startChecks(store);
notices();

document.getElementById("copy-link").addEventListener("click", (event) => {
  const link = new URL(location.href);
  link.hash = toFragment(store.get().settings);
  history.replaceState(null, "", link);
  copyText(link.href, event.currentTarget);
});

addEventListener("hashchange", () => {
  const settings = fromFragment(location.hash);
  if (settings) store.set({ settings });
});

start();
