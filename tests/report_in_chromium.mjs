// Opens reports of `mapper eval` in headless Chromium and checks what only a browser can show: no message on the
// console, no request to the network, every figure present with a size and readable text, no horizontal scrolling of
// the page, readable contrast; at desktop and phone width, light and dark.
//
//     STEERMAP_CHROME=/path/to/chromium node tests/report_in_chromium.mjs [--screenshots FOLDER] REPORT.html...
//
// STEERMAP_CHROME names the binary (Chromium, Chrome or chrome-headless-shell); without it the usual names are tried.
// Needs Node 20 or later and no package: it speaks the DevTools protocol over a pipe. Sample reports are written by
//
//     STEERMAP_SAMPLES=FOLDER cargo test -p steermap-report write_samples -- --ignored
//
// Prints a line per view with its errors; exits with 1 if there are any.

import { spawn } from "node:child_process";
import { accessSync, constants, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, delimiter, dirname, join, resolve } from "node:path";
import { pathToFileURL } from "node:url";

const WIDTHS = [1280, 390];
const SCHEMES = ["light", "dark"];
/** Least height of a figure's letters on a phone, in CSS pixels. */
const LEAST_LETTERS = 7.5;
const TIMEOUT_MS = 60_000;

const paths = [];
let screenshots = null;
for (let i = 2; i < process.argv.length; i++) {
  if (process.argv[i] === "--screenshots") screenshots = process.argv[++i];
  else paths.push(process.argv[i]);
}
if (paths.length === 0 || screenshots === undefined) {
  console.error("usage: node tests/report_in_chromium.mjs [--screenshots FOLDER] REPORT.html...");
  process.exit(2);
}

function findChrome() {
  if (process.env.STEERMAP_CHROME) return process.env.STEERMAP_CHROME;
  const names = ["chromium", "chromium-browser", "google-chrome", "chrome-headless-shell"];
  for (const folder of (process.env.PATH ?? "").split(delimiter)) {
    for (const name of names) {
      try {
        accessSync(join(folder, name), constants.X_OK);
        return join(folder, name);
      } catch {
        // Not found; try the next.
      }
    }
  }
  console.error("found no Chromium: set STEERMAP_CHROME to its path");
  process.exit(2);
}

/** A browser, spoken to in messages that end with a zero byte. */
class Browser {
  constructor(binary) {
    this.profile = mkdtempSync(join(tmpdir(), "steermap-chromium-"));
    const flags = [
      "--headless",
      "--remote-debugging-pipe",
      `--user-data-dir=${this.profile}`,
      "--no-first-run",
      "--disable-gpu",
      "--disable-dev-shm-usage",
      "--disable-background-networking",
      "--hide-scrollbars",
    ];
    // Chromium's sandbox does not run as root.
    if (process.getuid?.() === 0) flags.push("--no-sandbox", "--no-zygote");
    this.child = spawn(binary, flags, { stdio: ["ignore", "ignore", "pipe", "pipe", "pipe"] });
    this.waiting = new Map();
    this.listeners = new Set();
    this.next = 1;
    this.errors = "";
    this.child.stderr.on("data", (data) => (this.errors = (this.errors + data).slice(-2000)));
    let buffer = "";
    this.child.stdio[4].setEncoding("utf8");
    this.child.stdio[4].on("data", (data) => {
      const messages = (buffer + data).split("\0");
      buffer = messages.pop();
      for (const message of messages) this.receive(JSON.parse(message));
    });
    const ended = (reason) => {
      for (const { reject } of this.waiting.values()) reject(new Error(`Chromium ended: ${reason}\n${this.errors}`));
      this.waiting.clear();
    };
    this.child.on("error", (error) => ended(error.message));
    this.child.on("exit", (code, signal) => ended(signal ?? `exit status ${code}`));
    this.child.stdio[3].on("error", () => {});
  }

  receive(message) {
    if (message.id === undefined) {
      for (const listener of this.listeners) listener(message);
      return;
    }
    const { resolve, reject } = this.waiting.get(message.id) ?? {};
    this.waiting.delete(message.id);
    if (message.error) reject?.(new Error(message.error.message));
    else resolve?.(message.result);
  }

  send(method, params = {}, sessionId = undefined) {
    const id = this.next++;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`${method}: no answer from Chromium\n${this.errors}`)), TIMEOUT_MS);
      const settle = (how) => (value) => (clearTimeout(timer), how(value));
      this.waiting.set(id, { resolve: settle(resolve), reject: settle(reject) });
      this.child.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    });
  }

  async close() {
    await this.send("Browser.close").catch(() => {});
    await new Promise((resolve) => (this.child.exitCode === null ? this.child.once("exit", resolve) : resolve()));
    rmSync(this.profile, { recursive: true, force: true, maxRetries: 5 });
  }
}

/** What is looked at inside the page; runs there. */
function inspect(leastLetters) {
  const wrong = [];
  const name = (element) => {
    const id = element.closest("[id]")?.id;
    const text = (element.textContent ?? "").trim().slice(0, 40);
    return `<${element.tagName.toLowerCase()}${id ? ` in #${id}` : ""}> ${JSON.stringify(text)}`;
  };
  for (const details of document.querySelectorAll("details")) details.open = true;

  const root = document.documentElement;
  if (root.scrollWidth > root.clientWidth) wrong.push(`page is ${root.scrollWidth} wide in ${root.clientWidth}`);
  for (const element of document.body.querySelectorAll("*")) {
    if (element.closest(".scroll, pre, svg, .skip")) continue;
    const box = element.getBoundingClientRect();
    if (box.width > 0 && box.right > root.clientWidth + 1) wrong.push(`beyond the page: ${name(element)}`);
  }
  for (const box of document.querySelectorAll(".scroll, pre")) {
    if (box.scrollWidth > box.clientWidth + 1 && (box.tabIndex !== 0 || !box.getAttribute("aria-label"))) {
      wrong.push(`scrolls but can't be reached by keys, or has no name: ${name(box)}`);
    }
  }

  const figures = [...document.querySelectorAll("figure")];
  let letters = Infinity;
  for (const figure of figures) {
    const svg = figure.querySelector("svg");
    const box = svg?.getBoundingClientRect();
    if (!box || box.width < 100 || box.height < 40) {
      wrong.push(`figure without a size: #${figure.id}`);
      continue;
    }
    if (svg.getAttribute("role") !== "img" || !svg.querySelector("title, desc")?.textContent) {
      wrong.push(`figure without a name: #${figure.id}`);
    }
    const scale = box.width / svg.viewBox.baseVal.width;
    for (const text of svg.querySelectorAll("text")) {
      const size = parseFloat(text.getAttribute("font-size")) * scale;
      letters = Math.min(letters, size);
      if (size < leastLetters) {
        wrong.push(`letters of ${size.toFixed(1)} px: #${figure.id}`);
        break;
      }
      const inner = text.getBoundingClientRect();
      if (inner.left < box.left - 2 || inner.right > box.right + 2 || inner.top < box.top - 2 || inner.bottom > box.bottom + 2) {
        wrong.push(`text beyond its figure: #${figure.id} ${JSON.stringify(text.textContent)}`);
        break;
      }
    }
  }

  // Contrast of texts outside figures (WCAG 2 AA, without the exception for large text).
  const parse = (colour) => colour.match(/[\d.]+/g).map(Number);
  const luminance = (colour) => {
    const [r, g, b] = colour.slice(0, 3).map((c) => (c / 255 <= 0.04045 ? c / 255 / 12.92 : ((c / 255 + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (element) => {
    for (let at = element; at; at = at.parentElement) {
      const colour = parse(getComputedStyle(at).backgroundColor);
      if (colour.length < 4 || colour[3] > 0) return colour;
    }
    return [255, 255, 255];
  };
  for (const element of document.body.querySelectorAll(":not(svg *)")) {
    const own = [...element.childNodes].some((node) => node.nodeType === Node.TEXT_NODE && node.textContent.trim());
    if (!own || element.closest("svg")) continue;
    const [a, b] = [luminance(parse(getComputedStyle(element).color)), luminance(ground(element))].sort((x, y) => y - x);
    const ratio = (a + 0.05) / (b + 0.05);
    if (ratio < 4.5) wrong.push(`contrast ${ratio.toFixed(2)}: ${name(element)}`);
  }
  return {
    wrong: [...new Set(wrong)],
    figures: figures.length,
    letters: Number.isFinite(letters) ? letters : null,
    height: Math.ceil(root.getBoundingClientRect().height),
    ground: getComputedStyle(document.body).backgroundColor,
  };
}

async function look(browser, url, width, scheme) {
  const { targetId } = await browser.send("Target.createTarget", { url: "about:blank" });
  const { sessionId } = await browser.send("Target.attachToTarget", { targetId, flatten: true });
  const send = (method, params) => browser.send(method, params, sessionId);
  const wrong = [];
  let loaded;
  const load = new Promise((resolve) => (loaded = resolve));
  const listener = ({ method, params, sessionId: from }) => {
    if (from !== sessionId) return;
    if (method === "Page.loadEventFired") loaded();
    if (method === "Runtime.consoleAPICalled") wrong.push(`console: ${params.args.map((arg) => arg.value).join(" ")}`);
    if (method === "Runtime.exceptionThrown") wrong.push(`exception: ${params.exceptionDetails.text}`);
    if (method === "Log.entryAdded") wrong.push(`log: ${params.entry.text}`);
    if (method === "Network.requestWillBeSent") {
      const asked = params.request.url;
      if (asked !== url && !asked.startsWith("data:")) wrong.push(`asked for ${asked}`);
    }
  };
  browser.listeners.add(listener);
  try {
    for (const domain of ["Page", "Runtime", "Log", "Network"]) await send(`${domain}.enable`);
    const metrics = { width, height: 900, deviceScaleFactor: 1, mobile: width < 600 };
    await send("Emulation.setDeviceMetricsOverride", metrics);
    await send("Emulation.setEmulatedMedia", { features: [{ name: "prefers-color-scheme", value: scheme }] });
    await send("Page.navigate", { url });
    await load;
    const shot = async (suffix, height) => {
      const clip = { x: 0, y: 0, width, height: Math.min(height, 15_000), scale: 1 };
      const { data } = await send("Page.captureScreenshot", { format: "png", captureBeyondViewport: true, clip });
      mkdirSync(screenshots, { recursive: true });
      const report = basename(dirname(resolve(new URL(url).pathname)));
      writeFileSync(join(screenshots, `${report}-${width}-${scheme}${suffix}.png`), Buffer.from(data, "base64"));
    };
    const expression = `(${inspect})(${LEAST_LETTERS})`;
    if (screenshots) {
      const { result } = await send("Runtime.evaluate", { expression: "document.documentElement.scrollHeight" });
      await shot("", result.value);
    }
    const { result, exceptionDetails } = await send("Runtime.evaluate", { expression, returnByValue: true });
    if (exceptionDetails) throw new Error(exceptionDetails.exception?.description ?? exceptionDetails.text);
    if (screenshots) await shot("-open", result.value.height);
    return { ...result.value, wrong: [...wrong, ...result.value.wrong] };
  } finally {
    browser.listeners.delete(listener);
    await browser.send("Target.closeTarget", { targetId });
  }
}

const browser = new Browser(findChrome());
let failed = false;
try {
  for (const path of paths) {
    const url = pathToFileURL(resolve(path)).href;
    const grounds = new Set();
    const counts = new Set();
    for (const width of WIDTHS) {
      for (const scheme of SCHEMES) {
        const seen = await look(browser, url, width, scheme);
        grounds.add(seen.ground);
        counts.add(seen.figures);
        const letters = seen.letters === null ? "" : `, letters ${seen.letters.toFixed(1)} px or more`;
        const verdict = seen.wrong.length === 0 ? "ok" : `${seen.wrong.length} wrong`;
        console.log(`${path}, ${width} px, ${scheme}: ${verdict}; ${seen.figures} figures, ${seen.height} px high${letters}`);
        for (const wrong of seen.wrong) console.log(`  ${wrong}`);
        failed ||= seen.wrong.length > 0;
      }
    }
    if (grounds.size !== SCHEMES.length || counts.size !== 1) {
      console.log(`${path}: found ${grounds.size} grounds and ${counts.size} counts of figures, expected 2 and 1`);
      failed = true;
    }
  }
} catch (error) {
  console.error(error.message);
  failed = true;
} finally {
  await browser.close();
}
process.exit(failed ? 1 : 0);
