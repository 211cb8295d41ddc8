// A vector is found on the page, steers, and can be downloaded.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, test } from "node:test";

import { answer, asCompletion, close, end, generate, open, requests, snippet } from "./support.mjs";

after(close);

const form = (page) => page.locator("#find");

test("a vector is found, becomes a card, steers, and is saved", async () => {
  const page = await open();
  await asCompletion(page);
  const name = `found-${Date.now()}`;
  await form(page).getByLabel("Examples").selectOption("happy");
  await form(page).getByLabel("Name").fill(name);
  await form(page).getByRole("button", { name: "Find it" }).click();
  await form(page)
    .locator(".status", { hasText: `Found “${name}”` })
    .waitFor();
  assert.ok((await form(page).locator("tbody tr").count()) >= 2);
  const card = page.locator(".card", { has: page.getByRole("heading", { name }) });
  await card.locator(".slider").waitFor();
  // Layers are chosen on the bars.
  const bars = card.locator(".layer");
  assert.ok((await bars.count()) >= 1);
  assert.match(await bars.first().getAttribute("aria-label"), /^Layer \d+.*AUROC/);
  assert.ok((await card.locator('.layer[aria-pressed="true"]').count()) >= 1);
  await generate(page);
  assert.ok((await snippet(page)).includes(name));
  const names = [];
  page.on("download", (download) => names.push(download.suggestedFilename()));
  await card.getByRole("button", { name: "Save as file" }).click();
  await page.waitForFunction(() => true);
  for (let i = 0; i < 100 && names.length < 2; i++) await page.waitForTimeout(50);
  assert.deepEqual(names.map((file) => file.split(".").at(-1)).sort(), ["safetensors", "toml"]);
  assert.ok(names.includes(`${name}.toml`), names.join());
  // And deleted again.
  page.on("dialog", (dialog) => dialog.accept());
  await card.getByRole("button", { name: "Delete from the server" }).click();
  await card.waitFor({ state: "detached" });
  await page.getByRole("button", { name: `Use ${name}`, exact: true }).waitFor({ state: "detached" });
  assert.deepEqual(page.troubles, []);
  await end(page);
});

test("the served model finds a vector of its own, at every layer", async () => {
  const page = await open();
  const name = `own-${Date.now()}`;
  await form(page).getByLabel("Examples").selectOption("loud");
  await form(page).getByLabel("Name").fill(name);
  await form(page).getByLabel("Found by").selectOption({ index: 1 });
  await form(page).getByRole("button", { name: "Find it" }).click();
  await form(page)
    .locator(".status", { hasText: `Found “${name}”` })
    .waitFor();
  const card = page.locator(".card", { has: page.getByRole("heading", { name }) });
  assert.ok((await card.locator(".layer").count()) >= 8);
  assert.equal(await card.getByLabel("Through the map").count(), 0);
  // Arrow keys move between layers, and Space selects one.
  const pressed = card.locator('.layer[aria-pressed="true"]');
  const before = await pressed.count();
  await pressed.first().focus();
  await page.keyboard.press("Home");
  await page.keyboard.press("Space");
  assert.ok(Math.abs((await pressed.count()) - before) === 1);
  page.on("dialog", (dialog) => dialog.accept());
  await card.getByRole("button", { name: "Delete from the server" }).click();
  await card.waitFor({ state: "detached" });
  await end(page);
});

test("without uploads the examples are part of each request", async () => {
  const page = await open({ state: (state) => ({ ...state, uploads: false, requests: { pairs: true } }) });
  await asCompletion(page);
  await form(page).getByLabel("Examples").selectOption("happy");
  await form(page).getByRole("button", { name: "Find it" }).click();
  await form(page).locator(".status", { hasText: "go with each request" }).waitFor();
  const bodies = requests(page);
  await generate(page);
  const inline = bodies[1].steering.vectors.at(-1).vector;
  assert.equal(inline.pairs.length, 16);
  assert.ok((await answer(page, "steered")).length > 10);
  await page.getByRole("radio", { name: "TOML" }).check({ force: true });
  assert.match(await snippet(page), /# Examples can't stand in a default/);
  // The pairs are what there is to keep.
  const card = page.locator(".card", { has: page.getByRole("heading", { name: "happy" }) });
  const saved = page.waitForEvent("download");
  await card.getByRole("button", { name: "Save the pairs as file" }).click();
  const download = await saved;
  assert.equal(download.suggestedFilename(), "happy.pairs.jsonl");
  const lines = (await readFile(await download.path(), "utf8")).trimEnd().split("\n");
  assert.deepEqual(
    lines.map((line) => JSON.parse(line)),
    inline.pairs,
  );
  assert.deepEqual(page.troubles, []);
  await end(page);
});

test("examples are read from a file", async () => {
  const page = await open();
  const pick = (name, text) =>
    form(page)
      .getByLabel("From a file")
      .setInputFiles({ name, mimeType: "application/x-ndjson", buffer: Buffer.from(text) });
  const [positive, negative] = ["With it", "Without it"].map((label) => form(page).getByLabel(label));
  const error = form(page).locator(".field:has([data-field=file]) .field-error");
  const pair = (positive, negative) => `${JSON.stringify({ positive, negative })}\n`;
  await pick("calm.pairs.jsonl", `${pair("All is\n well.", "All is lost.")}\n${pair("Rest.", "Run!")}`);
  await page.waitForFunction(() => document.querySelector("[data-field=positive]").value !== "");
  assert.equal(await positive.inputValue(), "All is well.\nRest.");
  assert.equal(await negative.inputValue(), "All is lost.\nRun!");
  assert.equal(await form(page).getByLabel("Name").inputValue(), "calm");
  // A wrong file changes nothing, and the line is named.
  for (const [text, message] of [
    [`${pair("a", "b")}{"positive": "a"}\n`, "Line 2: found no text as negative"],
    [`${pair("a", "b")}\nHello\n`, "Line 3: found no JSON"],
    ["null\n", "Line 1: found no text as positive"],
    ["", "The file has no pairs."],
  ]) {
    await pick("wrong.jsonl", text);
    await error.filter({ hasText: message }).waitFor();
  }
  assert.equal(await positive.inputValue(), "All is well.\nRest.");
  await pick("right.jsonl", pair("Yes.", "No."));
  await error.waitFor({ state: "detached" });
  assert.equal(await positive.inputValue(), "Yes.");
  assert.deepEqual(page.troubles, []);
  await end(page);
});

test("invalid examples are reported beside their field", async () => {
  const page = await open();
  const positive = form(page).getByLabel("With it");
  const negative = form(page).getByLabel("Without it");
  const find = () => form(page).getByRole("button", { name: "Find it" }).click();
  const error = (key) => form(page).locator(`.field:has([data-field=${key}]) .field-error`);
  await form(page).getByLabel("Name").fill("few");
  await positive.fill("I love it\nI like it");
  await negative.fill("I hate it");
  await find();
  await error("negative").filter({ hasText: "2 examples there, 1 here" }).waitFor();
  await positive.fill("I love it");
  await find();
  await error("positive").filter({ hasText: "expected at least two" }).waitFor();
  assert.equal(await error("negative").count(), 0);
  await positive.fill("I love it\nI like it");
  await negative.fill("I hate it\nI dislike it");
  await form(page).getByLabel("Name").fill("no name");
  await find();
  await error("name").filter({ hasText: "found the name" }).waitFor();
  // A full queue reports when to try again.
  await page.route("**/v1/steering/vectors", (route) =>
    route.fulfill({
      status: 429,
      headers: { "Retry-After": "7" },
      json: { error: { message: "pairs: found no room in the queue, expected some" } },
    }),
  );
  await find();
  await error("positive").filter({ hasText: "Try again in 7 s." }).waitFor();
  await end(page);
});
