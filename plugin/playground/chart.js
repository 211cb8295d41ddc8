// The curve of a propensity as SVG.

import { svg } from "./dom.js";
import { number } from "./format.js";

const HEIGHT = 300;
const LEFT = 56;
const RIGHT = 16;
const TOP = 16;
const BOTTOM = 48;

// Round numbers from `low` to `high`, about `count` of them.
export function ticks(low, high, count) {
  const rough = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((factor) => factor * power).find((step) => step >= rough);
  const first = Math.ceil(low / step - 1e-9);
  const last = Math.floor(high / step + 1e-9);
  return Array.from({ length: last - first + 1 }, (_, at) => Number(((first + at) * step).toPrecision(12)));
}

// `points` have x and y, `null` if missing. `current` is marked. `width` is the available width in pixels, so that letters keep
// their size.
export function curve({ width, points, low, high, current, xLabel, yLabel, title }) {
  const known = points.filter(({ y }) => y !== null);
  const ys = [0, ...known.map(({ y }) => y)];
  const [yLow, yHigh] = padded(Math.min(...ys), Math.max(...ys));
  const x = (value) => LEFT + ((value - low) / (high - low)) * (width - LEFT - RIGHT);
  const y = (value) => TOP + ((yHigh - value) / (yHigh - yLow)) * (HEIGHT - TOP - BOTTOM);
  const text = (content, attributes) => {
    const element = svg("text", attributes);
    element.textContent = content;
    return element;
  };
  const line = (x1, y1, x2, y2, name) => svg("line", { x1, y1, x2, y2, class: name });
  const chart = svg("svg", { viewBox: `0 0 ${width} ${HEIGHT}`, class: "chart", role: "img", "aria-label": title });
  for (const tick of ticks(yLow, yHigh, 5)) {
    chart.append(line(LEFT, y(tick), width - RIGHT, y(tick), tick === 0 ? "zero" : "grid"));
    chart.append(text(number(tick), { x: LEFT - 8, y: y(tick) + 4, class: "tick", "text-anchor": "end" }));
  }
  for (const tick of ticks(low, high, width < 480 ? 4 : 8)) {
    chart.append(line(x(tick), HEIGHT - BOTTOM, x(tick), HEIGHT - BOTTOM + 5, "axis"));
    chart.append(text(number(tick), { x: x(tick), y: HEIGHT - BOTTOM + 20, class: "tick", "text-anchor": "middle" }));
  }
  chart.append(line(LEFT, HEIGHT - BOTTOM, width - RIGHT, HEIGHT - BOTTOM, "axis"));
  chart.append(
    text(xLabel, { x: (LEFT + width - RIGHT) / 2, y: HEIGHT - 8, class: "axis-label", "text-anchor": "middle" }),
  );
  const middle = (TOP + HEIGHT - BOTTOM) / 2;
  const turned = { transform: `translate(14 ${middle}) rotate(-90)`, class: "axis-label", "text-anchor": "middle" };
  chart.append(text(yLabel, turned));
  if (current !== null && current >= low && current <= high) {
    chart.append(line(x(current), TOP, x(current), HEIGHT - BOTTOM, "current"));
    const side = current > (low + high) / 2 ? { x: x(current) - 6, "text-anchor": "end" } : { x: x(current) + 6 };
    chart.append(text(`now ${number(current)}`, { ...side, y: TOP + 10, class: "tick now" }));
  }
  // A missing point breaks the line.
  let path = "";
  let down = false;
  for (const point of points) {
    if (point.y === null) down = false;
    else {
      path += `${down ? "L" : "M"}${x(point.x)} ${y(point.y)}`;
      down = true;
    }
  }
  if (path) chart.append(svg("path", { d: path, class: "curve" }));
  for (const point of known) chart.append(svg("circle", { cx: x(point.x), cy: y(point.y), r: 4, class: "point" }));
  return chart;
}

function padded(low, high) {
  const room = Math.max(0.1 * (high - low), 0.25);
  return [low - room, high + room];
}
