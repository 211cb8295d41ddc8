// Take it along: the request as curl and Python, and the steering as TOML, for the present settings.

import { button, copyText, el } from "./dom.js";
import { curlOf, pythonOf, tomlOf } from "./snippets.js";
import { modelOf, requestOf, steeringOf } from "./spec.js";

const TABS = [
  ["curl", "curl", "The steered request."],
  ["python", "Python", "The same request with the openai package."],
  ["toml", "TOML", "The vectors as the model's default, for the server's configuration file."],
];

export function mountTake(store) {
  const place = document.getElementById("take-place");
  let chosen = "curl";
  const code = el("code", { id: "snippet" });
  const about = el("p", { class: "hint" });
  const copy = button("Copy", () => copyText(code.textContent, copy), { class: "quiet small" });
  const render = () => {
    const { settings, server } = store.get();
    const steering = steeringOf(settings, server);
    const request = requestOf(settings, server, steering);
    about.textContent = TABS.find(([key]) => key === chosen)[2];
    code.textContent = {
      curl: () => curlOf(request, location.origin),
      python: () => pythonOf(request, location.origin),
      toml: () => tomlOf(steering, modelOf(settings, server)?.model ?? "default", (server?.models ?? []).length > 1),
    }[chosen]();
  };
  const tab = ([key, label]) =>
    el(
      "label",
      { class: "segment" },
      el("input", {
        type: "radio",
        name: "snippet",
        value: key,
        checked: key === chosen,
        onchange() {
          chosen = key;
          render();
        },
      }),
      el("span", {}, label),
    );
  place.replaceChildren(
    el(
      "div",
      { class: "row between" },
      el("fieldset", { class: "segments" }, el("legend", { class: "offscreen" }, "Form"), TABS.map(tab)),
      copy,
    ),
    about,
    el("pre", { tabIndex: 0, role: "group", "aria-label": "The request, to copy" }, code),
  );
  store.subscribe((state) => state.settings, render);
  store.subscribe((state) => state.server, render);
}
