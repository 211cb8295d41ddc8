// Two answers side by side: streaming, stopping, and the settings that change them.

import assert from "node:assert/strict";
import { after, test } from "node:test";

import {
  answer,
  asCompletion,
  close,
  done,
  end,
  generate,
  onlyCard,
  open,
  requests,
  slowly,
  snippet,
  strength,
  shot,
} from "./support.mjs";

after(close);

test("the two answers stream side by side, from requests that differ only in steering", async () => {
  const page = await open();
  await asCompletion(page);
  await onlyCard(page);
  await strength(page).fill("0.4");
  const bodies = requests(page);
  const restore = await slowly(page, 4000);
  await page.evaluate(() => {
    globalThis.lengths = { unsteered: new Set(), steered: new Set() };
    for (const side of ["unsteered", "steered"]) {
      const text = document.getElementById(`answer-${side}`);
      new MutationObserver(() => globalThis.lengths[side].add(text.textContent.length)).observe(text, {
        childList: true,
      });
    }
  });
  await page.locator("#actions .primary").click();
  await done(page);
  await restore();
  const seen = await page.evaluate(() => Object.values(globalThis.lengths).map((lengths) => lengths.size));
  assert.ok(Math.min(...seen) > 3, `texts came in ${seen} pieces`);
  const [off, on] = bodies;
  assert.equal(bodies.length, 2);
  assert.deepEqual(off.steering, { mode: "off" });
  assert.equal(on.steering.vectors[0].vector, "mood");
  delete off.steering;
  delete on.steering;
  assert.deepEqual(off, on);
  assert.equal(typeof off.seed, "number");
  const texts = [await answer(page, "unsteered"), await answer(page, "steered")];
  assert.ok(
    texts.every((text) => text.length > 20),
    texts.join("\n"),
  );
  assert.notEqual(...texts);
  await shot(page, "desktop-light");
  assert.deepEqual(page.troubles, []);
  await end(page);
});

test("stopping ends both answers, and regenerating starts again", async () => {
  const page = await open();
  await asCompletion(page, { tokens: 60 });
  await onlyCard(page);
  const restore = await slowly(page, 1500);
  await page.locator("#actions .primary").click();
  await page.waitForFunction(() => document.getElementById("answer-steered").textContent.length > 10);
  await page.getByRole("button", { name: "Stop" }).click();
  await page.locator("#answers-status", { hasText: "Stopped." }).waitFor();
  const stopped = [await answer(page, "unsteered"), await answer(page, "steered")];
  await restore();
  await page.waitForTimeout(500);
  assert.deepEqual([await answer(page, "unsteered"), await answer(page, "steered")], stopped);
  await page.getByRole("button", { name: "Regenerate" }).click();
  await page.locator("#answers-status", { hasText: /complete|equal/ }).waitFor();
  const whole = await answer(page, "steered");
  assert.ok(whole.length > stopped[1].length, `${whole} | ${stopped[1]}`);
  await end(page);
});

test("the slider changes the steered answer and request only", async () => {
  const page = await open();
  await asCompletion(page);
  const card = await onlyCard(page);
  const texts = {};
  const curls = {};
  for (const value of [0.4, -0.4]) {
    await card.locator(".slider").fill(String(value));
    assert.equal(await strength(page).inputValue(), String(value));
    curls[value] = await snippet(page);
    assert.match(curls[value], new RegExp(`"relative_scale": ${value}\\b`));
    await generate(page);
    texts[value] = [await answer(page, "unsteered"), await answer(page, "steered")];
  }
  assert.equal(texts["0.4"][0], texts["-0.4"][0]);
  assert.notEqual(texts["0.4"][1], texts["-0.4"][1]);
  // The description beside it is the server's.
  await card.locator(".dose-note", { hasText: "40%" }).waitFor();
  assert.deepEqual(page.troubles, []);
  await end(page);
});

test("a chat is answered as a chat and can be continued", async () => {
  const page = await open();
  const chat = page.getByRole("radio", { name: "Chat" });
  assert.ok(await chat.count(), "the model has a template");
  await chat.check({ force: true });
  await page.getByLabel("Max tokens").fill("12");
  await page.getByRole("button", { name: "Add a message", exact: true }).click();
  await page.getByRole("textbox", { name: "Message 2" }).fill("A girl saw a");
  const bodies = requests(page);
  await generate(page);
  assert.deepEqual(
    bodies[0].messages.map(({ role }) => role),
    ["user", "assistant"],
  );
  assert.ok((await answer(page, "steered")).length > 3);
  // The answer becomes a turn of the chat, followed by the next message.
  await page.getByRole("button", { name: "Continue with this answer" }).click();
  await page.keyboard.type("Then");
  await generate(page);
  const { messages } = bodies[3];
  assert.deepEqual(
    messages.map(({ role }) => role),
    ["user", "assistant", "assistant", "user"],
  );
  assert.equal(messages[3].content, "Then");
  assert.deepEqual(page.troubles, []);
  await end(page);
});

test("several vectors act in the order of their cards, and changes are visible", async () => {
  const page = await open();
  await asCompletion(page);
  await onlyCard(page);
  await page.getByRole("button", { name: "Use mood", exact: true }).click();
  const [first, second] = [0, 1].map((at) => page.locator(".card").nth(at));
  await second.getByLabel("What it does").selectOption("ablate");
  const ops = async () =>
    [...(await snippet(page)).matchAll(/"op": "(\w+)"|"relative_scale"/g)].map(([, op]) => op ?? "add");
  assert.deepEqual(await ops(), ["add", "ablate"]);
  await second.getByRole("button", { name: "Move up mood" }).click();
  assert.deepEqual(await ops(), ["ablate", "add"]);
  await first.getByLabel("Use mood").uncheck();
  assert.deepEqual(await ops(), ["add"]);
  const bodies = requests(page);
  await page.getByLabel("Follow").check();
  await done(page);
  await second.locator(".slider").fill("-0.3");
  for (let i = 0; i < 100 && bodies.length < 4; i++) await page.waitForTimeout(50);
  assert.equal(bodies.at(-1).steering.vectors[0].relative_scale, -0.3);
  await done(page);
  assert.deepEqual(page.troubles, []);
  await end(page);
});

test("a link restores all settings", async () => {
  const page = await open();
  await asCompletion(page, { prompt: "Émilie’s café 🙂 was", tokens: 17 });
  await page.getByRole("spinbutton", { name: "Seed" }).fill("42");
  const card = await onlyCard(page);
  await strength(page).fill("-0.25");
  await card.getByText("Where and when").click();
  await card.getByLabel("On which tokens").selectOption("generation");
  await card.getByLabel("Over time").selectOption("cosine");
  await card.getByLabel("Over tokens").fill("12");
  await card.getByLabel("When").selectOption("token");
  await card.getByLabel("Threshold").fill("1.5");
  await page.getByLabel("Stream's norm").selectOption("preserve");
  await page.getByLabel("See it").check();
  await page.getByLabel("Answer A").fill("wonderful");
  await page.getByRole("button", { name: "Copy link" }).click();
  const curl = await snippet(page);
  for (const part of ["café 🙂", '"seed": 42', "-0.25", '"cosine"', '"above": 1.5', '"preserve"', '"readout"']) {
    assert.ok(curl.includes(part), `${part} is not in ${curl}`);
  }
  const hash = await page.evaluate(() => location.hash);
  const other = await open({ hash });
  await other.locator("#snippet", { hasText: "readout" }).waitFor();
  assert.equal(await snippet(other), curl);
  assert.equal(await other.getByLabel("Answer A").inputValue(), "wonderful");
  assert.equal(await other.getByLabel("Temperature").inputValue(), "0");
  // A broken link, or one with invalid settings, is ignored.
  const broken = await open({ hash: "#s=e30" });
  assert.notEqual(await snippet(broken), curl);
  assert.deepEqual([...page.troubles, ...other.troubles, ...broken.troubles], []);
  for (const opened of [page, other, broken]) await end(opened);
});

test("connection errors are reported", async () => {
  const page = await open();
  await asCompletion(page);
  await page.route("**/v1/completions", (route) => route.abort());
  await generate(page);
  const alert = page.locator(".answer.steered .field-error");
  assert.match(await alert.innerText(), /cannot be reached/);
  await page.unroute("**/v1/completions");
  const half = 'data: {"choices": [{"index": 0, "text": "half an"}]}\n\ndata: {"choices": [{"ind';
  await page.route("**/v1/completions", (route) => route.fulfill({ contentType: "text/event-stream", body: half }));
  await generate(page);
  assert.equal(await answer(page, "steered"), "half an");
  assert.match(await alert.innerText(), /ended before the answer was complete/);
  await end(page);
});

test("the snippets are the request in each form", async () => {
  const page = await open();
  await asCompletion(page, { prompt: 'It\'s "so"\n$HOME' });
  await onlyCard(page);
  await strength(page).fill("0.3");
  assert.match(await snippet(page), /'\{.*It'\\''s \\"so\\"\\n\$HOME/s);
  await page.getByRole("radio", { name: "Python" }).check({ force: true });
  assert.match(await snippet(page), /client\.completions\.create\([\s\S]*extra_body=\{"steering": /);
  await page.getByRole("radio", { name: "TOML" }).check({ force: true });
  const toml = await snippet(page);
  assert.match(toml, /^\[\[steering\.defaults\]\]\n\n\[\[steering\.defaults\.vectors\]\]\nvector = "mood"\nmap = "/);
  assert.match(toml, /relative_scale = 0\.3/);
  await end(page);
});
