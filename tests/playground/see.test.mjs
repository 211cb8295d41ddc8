// Tokens in the colours of a readout, and the curve of a propensity.

import assert from "node:assert/strict";
import { after, test } from "node:test";

import {
  answer,
  asCompletion,
  close,
  end,
  generate,
  onlyCard,
  open,
  requests,
  shot,
  slowly,
  strength,
} from "./support.mjs";

after(close);

test("tokens have colours and numbers", async () => {
  const page = await open();
  await asCompletion(page);
  await onlyCard(page);
  await strength(page).fill("0.4");
  await generate(page);
  const plain = await answer(page, "steered");
  await page.getByLabel("See it").check();
  const bodies = requests(page);
  await generate(page);
  for (const { steering } of bodies) assert.equal(steering.readout[0].vector, "mood");
  // The same answer, token by token.
  const text = await page.locator("#answer-steered").evaluate((body) => {
    const copy = body.cloneNode(true);
    copy.querySelector(".offscreen")?.remove();
    return copy.textContent;
  });
  assert.equal(text.trim(), plain.trim());
  const tokens = page.locator("#answer-steered .token");
  assert.ok((await tokens.count()) > 20);
  const colours = await tokens.evaluateAll((all) => all.map((token) => getComputedStyle(token).backgroundColor));
  assert.ok(new Set(colours).size > 5, colours.join());
  assert.ok((await page.locator(".token.above").count()) > 0);
  assert.ok((await page.locator(".token.below").count()) > 0);
  await tokens.nth(4).hover();
  const bubble = () =>
    page.evaluate(() => {
      const current = document.querySelector(".token.current");
      return current && getComputedStyle(current, "::after").content;
    });
  assert.match(await bubble(), /^"[+-]?\d/);
  // It also works by keyboard and with screen readers.
  await page.locator("#answer-steered").focus();
  await page.keyboard.press("Home");
  await page.keyboard.press("ArrowRight");
  const said = await page.locator("#answer-steered [role=status]").textContent();
  assert.match(said, /^“.*” [+-]?\d/);
  assert.equal(
    await tokens
      .nth(1)
      .getAttribute("class")
      .then((names) => names.includes("current")),
    true,
  );
  const legend = await page.locator(".legend-numbers").innerText();
  assert.match(legend, /≤ -?\d[\s\S]*≥ -?\d/);
  // The prompt's tokens are shown on request.
  await page.getByLabel("The prompt too").check();
  await generate(page);
  assert.ok((await page.locator("#answer-steered .token.prompt").count()) > 3);
  await shot(page, "see");
  assert.deepEqual(page.troubles, []);
  await end(page);
});

test("a curve is measured point by point", async () => {
  const page = await open();
  await asCompletion(page);
  await onlyCard(page);
  await strength(page).fill("0.2");
  const section = page.locator("#propensity");
  await section.getByLabel("Answer A").fill("lovely");
  await section.getByLabel("Answer B").fill("grim");
  await section.getByRole("button", { name: "Measure" }).click();
  await section.locator(".status", { hasText: "Measured at 9 strengths." }).waitFor();
  assert.equal(await section.locator(".point").count(), 9);
  await section.getByText("The numbers").click();
  const rows = await section
    .locator("tbody tr")
    .evaluateAll((all) => all.map((row) => [...row.cells].map((cell) => Number(cell.textContent))));
  assert.equal(rows.length, 9);
  for (const [, a, b, difference] of rows) {
    assert.ok(a < 0 && b < 0, `${a} ${b}`);
    assert.ok(Math.abs(a - b - difference) < 0.01 * (1 + Math.abs(difference)), `${a} ${b} ${difference}`);
  }
  // A vector of a happy mood makes the happy word likelier.
  assert.ok(rows.at(-1)[3] > rows[0][3] + 0.5, JSON.stringify(rows));
  assert.match(await section.locator(".now").textContent(), /now 0\.2/);
  await strength(page).fill("-0.1");
  assert.match(await section.locator(".now").textContent(), /now -0\.1/);
  // It can be cancelled.
  const restore = await slowly(page, 800);
  await section.getByRole("button", { name: "Measure" }).click();
  await section.getByRole("button", { name: "Cancel" }).click();
  await section.locator(".status", { hasText: "Cancelled." }).waitFor();
  await restore();
  assert.ok((await section.locator(".point").count()) < 9);
  assert.deepEqual(page.troubles, []);
  await end(page);
});

test("an answer that the model can't write is reported", async () => {
  const page = await open();
  await asCompletion(page);
  await onlyCard(page);
  const section = page.locator("#propensity");
  await section.getByLabel("Answer A").fill("lovely ".repeat(60).trim());
  await section.getByRole("button", { name: "Measure" }).click();
  await section.locator(".status", { hasText: "Measured" }).waitFor();
  assert.equal(await section.locator(".point").count(), 0);
  assert.match(await section.locator(".notice").textContent(), /more than 32 tokens/);
  await end(page);
});
