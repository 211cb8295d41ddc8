// Errors of the server are shown beside their controls, and its policies are stated.

import assert from "node:assert/strict";
import { after, test } from "node:test";

import { asCompletion, close, end, generate, onlyCard, open, requests, snippet } from "./support.mjs";

after(close);

test("an error of the server is shown beside the field that it names", async () => {
  const page = await open();
  await asCompletion(page);
  const card = await onlyCard(page);
  await card.getByLabel("What it does").selectOption("clamp");
  await card.getByLabel("At least").fill("3");
  await card.getByLabel("At most").fill("1");
  const field = page.locator(".field", { has: page.getByLabel("At least") });
  await field.locator(".field-error", { hasText: "found 3" }).waitFor();
  assert.equal(await card.getByLabel("At least").getAttribute("aria-invalid"), "true");
  assert.equal(await card.getByLabel("At most").getAttribute("aria-invalid"), null);
  // It disappears when the field is valid.
  await card.getByLabel("At most").fill("5");
  await field.locator(".field-error").waitFor({ state: "detached" });
  await end(page);
});

test("an error is shown at its card", async () => {
  const page = await open();
  await asCompletion(page);
  await onlyCard(page);
  await page.getByRole("button", { name: "Use mood", exact: true }).click();
  const second = page.locator(".card").nth(1);
  await second.getByText("Where and when").click();
  await second.getByLabel("Over time").selectOption("linear");
  await second.getByLabel("From factor").fill("3");
  await second.locator(".field-error", { hasText: "found 3" }).waitFor();
  assert.equal(await page.locator(".card").first().locator(".field-error:not(:empty)").count(), 0);
  // With the first card off, the second card is the first vector of the request.
  await page.locator(".card").first().getByLabel("Use mood").uncheck();
  await page.waitForTimeout(600);
  assert.equal(await second.locator(".field-error", { hasText: "found 3" }).count(), 1);
  await end(page);
});

test("the reason of a refused request is shown beside its field", async () => {
  const page = await open();
  await asCompletion(page);
  await page.route("**/v1/completions", (route) =>
    route.fulfill({
      status: 403,
      json: { error: { message: "steering.mode: found off, expected no steering", code: "steering_not_allowed" } },
    }),
  );
  await generate(page);
  assert.match(await page.locator(".answer.unsteered .field-error").innerText(), /found off, expected no steering/);
  await page.unroute("**/v1/completions");
  await page.route("**/v1/completions", (route) =>
    route.fulfill({ status: 413, json: { error: { message: "prompt: found 9999 bytes, expected at most 10" } } }),
  );
  await generate(page);
  await page.locator("#prompt .field-error", { hasText: "found 9999 bytes" }).waitFor();
  await end(page);
});

test("policies are stated and followed", async () => {
  const policy = (per_request) => (state) => ({ ...state, steering: { ...state.steering, per_request } });
  const extend = await open({ state: policy("extend") });
  await asCompletion(extend);
  await onlyCard(extend);
  const bodies = requests(extend);
  assert.match(await extend.locator(".top-model").innerText(), /add vectors to its default/);
  await generate(extend);
  assert.equal(bodies[0].steering, undefined);
  assert.equal(bodies[1].steering.mode, "extend");
  const off = await open({ state: policy("off") });
  await asCompletion(off);
  await onlyCard(off);
  assert.match(await off.locator(".top-model").innerText(), /takes no steering from requests/);
  assert.ok(!(await snippet(off)).includes("steering"));
  for (const page of [extend, off]) {
    assert.deepEqual(page.troubles, []);
    await end(page);
  }
});

test("without vectors the page says how to make one", async () => {
  const page = await open({
    state: (state) => ({ ...state, steering: { ...state.steering, vectors: [], sources: [], maps: [] } }),
  });
  await page.getByRole("link", { name: "Find a vector" }).waitFor();
  // The served model can find its own vectors.
  const finder = page.locator("#find").getByLabel("Found by");
  assert.match(await finder.locator("option").first().textContent(), /the served model/);
  assert.ok(await page.getByLabel("See it").isDisabled());
  assert.deepEqual(page.troubles, []);
  await end(page);
});

test("an unreachable server is reported and tried again", async () => {
  const page = await open({ signedIn: false });
  await page.route("**/playground/state", (route) => route.abort());
  await page.reload();
  await page.locator(".notice.bad", { hasText: "cannot be reached" }).waitFor();
  await page.unroute("**/playground/state");
  await page.route("**/playground/state", (route) =>
    route.fulfill({ status: 403, json: { error: { message: "host: found evil.example, expected this machine" } } }),
  );
  await page.getByRole("button", { name: "Try again" }).click();
  await page.locator(".notice.bad", { hasText: "expected this machine" }).waitFor();
  await end(page);
});

test("several models can be chosen from, with and without chats", async () => {
  const page = await open({
    state(state) {
      const [model] = state.steering.models;
      const other = { ...model, model: "owner/other", chat: false, fingerprint: "sm1:other" };
      return { ...state, steering: { ...state.steering, models: [{ ...model, chat: true }, other] } };
    },
  });
  assert.equal(await page.getByRole("radio", { name: "Chat" }).count(), 1);
  await page.locator(".top").getByLabel("Model").selectOption("owner/other");
  await page.locator("#kind-place", { hasText: "no chat template" }).waitFor();
  assert.match(await snippet(page), /\/v1\/completions[\s\S]*"model": "owner\/other"/);
  assert.equal(await page.locator(".card").count(), 1);
  assert.deepEqual(page.troubles, []);
  await end(page);
});

test("without downloads no card offers one", async () => {
  const page = await open({ state: (state) => ({ ...state, uploads: false, files: false }) });
  await onlyCard(page);
  assert.equal(await page.getByRole("button", { name: "Save as file" }).count(), 0);
  await end(page);
});

test("a link to a deleted vector is reported", async () => {
  const page = await open();
  await asCompletion(page);
  await onlyCard(page);
  await page.getByRole("button", { name: "Copy link" }).click();
  const hash = await page.evaluate(() => location.hash);
  const other = await open({
    hash,
    state: (state) => ({ ...state, steering: { ...state.steering, vectors: [] } }),
  });
  await other.locator(".card .notice", { hasText: "no such vector" }).waitFor();
  await other.getByRole("button", { name: "Remove mood" }).click();
  assert.equal(await other.locator(".card").count(), 0);
  assert.deepEqual(other.troubles, []);
  for (const opened of [page, other]) await end(opened);
});
