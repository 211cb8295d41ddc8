// The strip of bars to choose layers with: one bar per layer, as high as its AUROC.

import { el } from "./dom.js";
import { number, ranges } from "./format.js";

const describe = ({ layer, from, auroc, r2, proposed }) =>
  [
    `Layer ${layer}`,
    from.length > 1 || from[0] !== layer ? `from layer ${ranges(from)} of the other model` : null,
    auroc === null ? "AUROC not measured" : `AUROC ${number(auroc)}`,
    r2 === null ? null : `R² of the map ${number(r2, 2)}`,
    proposed ? "proposed" : null,
  ]
    .filter(Boolean)
    .join(", ");

// `rows` come from layersOf. The strip is one stop of the Tab key: arrow keys move within it, Space or Enter toggles.
export function layerStrip(rows, chosen, onchange) {
  const buttons = rows.map((row) => {
    const bar = el("span", { class: row.auroc === null ? "bar unknown" : "bar" });
    bar.style.setProperty("--height", `${Math.max(6, 200 * ((row.auroc ?? 0.5) - 0.5))}%`);
    return el(
      "button",
      {
        type: "button",
        class: row.proposed ? "layer proposed" : "layer",
        title: describe(row),
        "aria-label": describe(row),
        onclick: () => onchange(toggled(row.layer)),
      },
      el("span", { class: "bar-room" }, bar),
      el("span", { class: "layer-number" }, String(row.layer)),
    );
  });
  let selected = new Set(chosen);
  const toggled = (layer) => {
    const next = new Set(selected);
    if (!next.delete(layer)) next.add(layer);
    return [...next].sort((a, b) => a - b);
  };
  const stopAt = (index) => buttons.forEach((button, at) => (button.tabIndex = at === index ? 0 : -1));
  const start = rows.findIndex((row) => selected.has(row.layer));
  stopAt(Math.max(0, start));
  const element = el(
    "div",
    {
      class: "layers",
      role: "group",
      "aria-label": "Layers",
      "data-field": "layers",
      onkeydown(event) {
        const at = buttons.indexOf(document.activeElement);
        const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
        if (at < 0 || to === undefined || !buttons[to]) return;
        event.preventDefault();
        stopAt(to);
        buttons[to].focus();
      },
    },
    buttons,
  );
  const show = (layers) => {
    selected = new Set(layers);
    buttons.forEach((button, at) => button.setAttribute("aria-pressed", String(selected.has(rows[at].layer))));
  };
  show(chosen);
  return { element, show };
}
