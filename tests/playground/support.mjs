// Opens the playground in a browser.
//
// STEERMAP_URL is the URL of a running server with the admin token STEERMAP_TOKEN, uploads, a source model, and a
// vector `mood` that goes through a map; STEERMAP_OPEN_URL that of one whose admin routes are open on loopback.
// STEERMAP_CHROME names the browser; STEERMAP_SHOTS, if set, a folder for
// screenshots.

import assert from "node:assert/strict";
import { join } from "node:path";

import { load } from "./packages.mjs";

const { default: playwright } = await load("playwright-core");

export const url = process.env.STEERMAP_URL;
export const token = process.env.STEERMAP_TOKEN;
export const openUrl = process.env.STEERMAP_OPEN_URL;
assert.ok(url && token && openUrl, "STEERMAP_URL, STEERMAP_TOKEN and STEERMAP_OPEN_URL say which servers are tested");

const browser = await playwright.chromium.launch({
  executablePath: process.env.STEERMAP_CHROME ?? "/usr/bin/chromium",
  args: ["--no-sandbox"],
});

export const close = () => browser.close();

// The server shares its cores with other tests, so timeouts are long.
const PATIENCE_MS = 30_000;

// Opens the playground in a new browser context. `state` modifies the answer to GET /playground/state. The page's
// errors are collected in `page.troubles`: a test ends with `assert.deepEqual(page.troubles, [])`, or expects some.
export async function open({
  scheme = "light",
  width = 1280,
  height = 900,
  signedIn = true,
  touch = false,
  at = url,
  hash = "",
  state,
} = {}) {
  const context = await browser.newContext({
    viewport: { width, height },
    colorScheme: scheme,
    acceptDownloads: true,
    hasTouch: touch,
  });
  const page = await context.newPage();
  page.setDefaultTimeout(PATIENCE_MS);
  page.troubles = [];
  page.on("pageerror", (error) => page.troubles.push(String(error)));
  page.on("console", (message) => {
    const expected = message.text().startsWith("Failed to load resource");
    if (["error", "warning"].includes(message.type()) && !expected) page.troubles.push(message.text());
  });
  if (signedIn) await page.addInitScript((value) => sessionStorage.setItem("steermap-token", value), token);
  if (state) {
    await page.route("**/playground/state", async (route) => {
      const response = await route.fetch();
      await route.fulfill({ response, json: state(await response.json()) });
    });
  }
  await page.goto(`${at}/playground${hash}`);
  if (signedIn) await page.locator(".top-model p").first().waitFor();
  return page;
}

export const end = (page) => page.context().close();

// Switches to completion if the model has chats too, with settings for which equal requests get equal answers.
export async function asCompletion(page, { prompt = "In the garden, Tom saw the", tokens = 40 } = {}) {
  const kind = page.getByRole("radio", { name: "Completion" });
  if (await kind.count()) await kind.check({ force: true });
  await page.getByLabel("Text for the model to continue").fill(prompt);
  await page.getByLabel("Temperature").fill("0");
  await page.getByLabel("Max tokens").fill(String(tokens));
}

// Leaves a single card, for the vector `name`.
export async function onlyCard(page, name = "mood") {
  const away = page.getByRole("button", { name: /^Remove (?!message)/ });
  while (await away.count()) await away.first().click();
  await page.getByRole("button", { name: `Use ${name}`, exact: true }).click();
  const card = page.locator(".card");
  await card.locator(".slider").waitFor();
  return card;
}

export const strength = (page, name = "mood") => page.getByLabel(`Strength of ${name} as a number`);

export async function generate(page) {
  await page.locator("#actions .primary").click();
  await done(page);
}

export const done = (page) => page.locator("#answers-status", { hasText: /complete|equal|Stopped|failed/ }).waitFor();

export const answer = (page, side) => page.locator(`#answer-${side}`).innerText();

// Collects the bodies of the requests for answers that the page sends from now on.
export function requests(page) {
  const bodies = [];
  page.on("request", (request) => {
    if (/\/v1\/(chat\/)?completions$/.test(request.url())) bodies.push(request.postDataJSON());
  });
  return bodies;
}

export const snippet = (page) => page.locator("#snippet").textContent();

export async function shot(page, name) {
  const folder = process.env.STEERMAP_SHOTS;
  if (folder) await page.screenshot({ path: join(folder, `${name}.png`) });
}

// How far the page can be scrolled horizontally.
export const overflow = (page) => page.evaluate(() => document.documentElement.scrollWidth - innerWidth);

// Slows answers down, so that the page can be observed while they stream.
export async function slowly(page, bytesPerSecond) {
  const session = await page.context().newCDPSession(page);
  await session.send("Network.enable");
  const set = (rate) =>
    session.send("Network.emulateNetworkConditions", {
      offline: false,
      latency: 0,
      downloadThroughput: rate,
      uploadThroughput: -1,
    });
  await set(bytesPerSecond);
  return () => set(-1);
}
