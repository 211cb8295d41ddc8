// The top of the page: the choice of the model, and the token.

import { token } from "./api.js";
import { el, field, select } from "./dom.js";
import { plural, shortModel } from "./format.js";
import { modelOf, policyOf } from "./spec.js";

const POLICIES = {
  extend: "This server lets requests add vectors to its default, not replace it. The left answer uses the default.",
  off: 'This server takes no steering from requests (per_request = "off"). Both answers are its default\'s.',
};

export function mountHeader(store, { load }) {
  const place = document.getElementById("model-place");
  const render = () => {
    const { server, settings } = store.get();
    if (!server) return place.replaceChildren();
    const model = modelOf(settings, server);
    if (!model) return place.replaceChildren(el("p", { class: "notice bad" }, "This server has no model to steer."));
    const choose = (name) => store.set({ settings: { ...store.get().settings, model: name } });
    const options = server.models.map(({ model }) => [model, shortModel(model)]);
    const name =
      options.length > 1
        ? field("Model", select(options, model.model, choose, { "data-field": "model" }))
        : el("p", { class: "model-name", title: model.model }, shortModel(model.model));
    const facts = [
      `${plural(model.num_layers, "layer")} × ${model.hidden_size}`,
      model.context ? `${model.context} tokens of context` : null,
      model.bound ? `offsets limited to ${model.bound.max_relative_scale} of the mean norm` : null,
    ].filter(Boolean);
    const notes = [];
    if (!model.steerable) notes.push(`It can't be steered: ${model.reason ?? "its architecture is not known"}.`);
    if (POLICIES[policyOf(server)]) notes.push(POLICIES[policyOf(server)]);
    place.replaceChildren(
      name,
      el("p", { class: "facts" }, facts.join(" · ")),
      ...notes.map((note) => el("p", { class: "notice" }, note)),
    );
  };
  store.subscribe((state) => state.server, render);
  store.subscribe((state) => state.settings.model, render);

  const change = document.getElementById("change-token");
  store.subscribe(
    (state) => state.needsToken,
    (needed) => (change.hidden = !needed),
  );
  change.addEventListener("click", () => {
    token.set(null);
    load();
  });
}
