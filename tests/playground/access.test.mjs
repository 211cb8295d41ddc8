// Accessibility: phones, keyboards, the dark theme, screen readers.

import assert from "node:assert/strict";
import { after, test } from "node:test";

import { load, pathOf } from "./packages.mjs";
import { answer, asCompletion, close, done, end, generate, onlyCard, open, overflow, shot } from "./support.mjs";

after(close);

await load("axe-core");
const axe = pathOf("axe-core");

// Opens everything that the page can show at once.
async function full(options) {
  const page = await open(options);
  await asCompletion(page);
  const card = await onlyCard(page);
  await card.getByText("Where and when").click();
  await card.getByLabel("When").selectOption("token");
  await card.getByLabel("Over time").selectOption("linear");
  await page.getByLabel("See it").check();
  await generate(page);
  await page.getByRole("button", { name: "Measure" }).click();
  await page.locator("#propensity .status", { hasText: "Measured" }).waitFor();
  await page.getByText("The numbers").click();
  await page.locator("#find").getByLabel("Examples").selectOption("formal");
  return page;
}

test("a phone needs no horizontal scrolling", async () => {
  const page = await full({ width: 360, height: 740 });
  assert.equal(await overflow(page), 0);
  // Nothing overflows the page invisibly.
  const wide = await page.evaluate(() =>
    [...document.querySelectorAll("main *")]
      .filter((element) => !element.closest("pre, .table-room, .offscreen, svg"))
      .filter((element) => element.getBoundingClientRect().right > innerWidth + 1)
      .map((element) => `${element.tagName} ${element.className} ${element.textContent.slice(0, 60)}`),
  );
  assert.deepEqual(wide, []);
  await shot(page, "phone-end");
  await page.evaluate(() => document.getElementById("cards").scrollIntoView());
  await shot(page, "phone-cards");
  await page.evaluate(() => document.getElementById("answers").scrollIntoView());
  await shot(page, "phone-answers");
  // Touch targets are large enough.
  const small = await page.locator("button:visible, select:visible, input:visible").evaluateAll((all) =>
    all
      .filter((element) => !["radio", "checkbox"].includes(element.type))
      .filter((element) => Math.min(element.offsetWidth, element.offsetHeight) < 24)
      .map((element) => `${element.tagName} ${element.className} ${element.textContent.slice(0, 60)}`),
  );
  assert.deepEqual(small, []);
  await end(page);
});

test("an answer can be requested with the keyboard alone", async () => {
  const page = await open();
  await page.keyboard.press("Tab");
  const seen = [];
  let reached = false;
  for (let i = 0; i < 200 && !reached; i++) {
    const focus = await page.evaluate(() => {
      const element = document.activeElement;
      const label = element.getAttribute("aria-label") ?? element.labels?.[0]?.textContent ?? element.textContent;
      const ring = getComputedStyle(element.type === "radio" ? element.nextElementSibling : element);
      return { label: label.trim(), ring: ring.outlineStyle !== "none", tag: element.tagName };
    });
    seen.push(focus);
    if (focus.tag === "TEXTAREA" && focus.label.startsWith("Message")) {
      await page.keyboard.press("ControlOrMeta+a");
      await page.keyboard.type("Tom saw a");
    }
    reached = focus.label === "Generate";
    if (!reached) await page.keyboard.press("Tab");
  }
  const labels = seen.map(({ label }) => label);
  assert.ok(reached, labels.join(" | "));
  assert.deepEqual(
    seen.filter(({ ring }) => !ring).map(({ label }) => label),
    [],
  );
  const order = ["Skip to the answers", "Temperature", "Seed", "Generate"].map((label) => labels.indexOf(label));
  assert.deepEqual(
    order,
    [...order].sort((a, b) => a - b),
    labels.join(" | "),
  );
  assert.ok(!order.includes(-1), labels.join(" | "));
  await page.keyboard.press("Enter");
  await done(page);
  assert.ok((await answer(page, "steered")).length > 3);
  await end(page);
});

test("a vector is found and its slider moved with the keyboard alone", async () => {
  const page = await open();
  const focused = () => page.evaluate(() => document.activeElement.dataset.key ?? document.activeElement.textContent);
  // Goes on to a control with Tab.
  const reach = async (wanted, most = 150) => {
    const seen = [];
    for (let i = 0; i < most; i++) {
      const label = await page.evaluate(() => {
        const { activeElement: element } = document;
        return (element.getAttribute("aria-label") ?? element.labels?.[0]?.textContent ?? element.textContent).trim();
      });
      if (wanted.test(label)) return;
      seen.push(label);
      await page.keyboard.press("Tab");
    }
    assert.fail(`${wanted} is not among ${seen.join(" | ")}`);
  };
  await page.locator("#find").getByLabel("Examples").waitFor();
  await reach(/^Examples$/);
  await page.keyboard.press("ArrowDown");
  const name = `keys-${Date.now()}`;
  await reach(/^Name$/);
  await page.keyboard.press("ControlOrMeta+a");
  await page.keyboard.type(name);
  await reach(/^Find it$/);
  await page.keyboard.press("Enter");
  await page.locator("#find .status", { hasText: `Found “${name}”` }).waitFor();
  assert.equal(await focused(), "Find it");
  await page.evaluate(() => document.activeElement.blur());
  await reach(new RegExp(`^Strength of ${name}$`));
  const amount = page.getByLabel(`Strength of ${name} as a number`);
  const before = Number(await amount.inputValue());
  await page.keyboard.press("ArrowLeft");
  await page.keyboard.press("ArrowLeft");
  const after = Number(await amount.inputValue());
  assert.ok(after < before, `${before} became ${after}`);
  await page.keyboard.press("Home");
  assert.ok(Number(await amount.inputValue()) < 0);
  // It is still the slider that has the focus, with its value for screen readers.
  assert.equal(await focused(), "slider");
  assert.match(
    await page.evaluate(() => document.activeElement.getAttribute("aria-valuetext")),
    /^-\d.*of the stream's mean norm$/,
  );
  page.on("dialog", (dialog) => dialog.accept());
  await reach(/^Delete from the server$/);
  await page.keyboard.press("Enter");
  await page.getByRole("heading", { name }).waitFor({ state: "detached" });
  assert.deepEqual(page.troubles, []);
  await end(page);
});

test("a tap shows a token's number", async () => {
  const page = await open({ width: 390, height: 800, touch: true });
  await asCompletion(page);
  await onlyCard(page);
  await page.getByLabel("See it").check();
  await page.locator("#actions .primary").tap();
  await done(page);
  const tokens = page.locator("#answer-steered .token");
  for (const at of [3, 7]) {
    await tokens.nth(at).tap();
    const current = page.locator("#answer-steered .token.current");
    assert.equal(await current.count(), 1);
    assert.equal(await current.textContent(), await tokens.nth(at).textContent());
    assert.match(await current.evaluate((token) => getComputedStyle(token, "::after").content), /^"[+-]?\d/);
  }
  assert.deepEqual(page.troubles, []);
  await end(page);
});

for (const scheme of ["light", "dark"]) {
  for (const width of [1280, 360]) {
    test(`the page keeps WCAG's rules of levels A and AA that axe can check, ${scheme}, ${width} px wide`, async () => {
      const page = await full({ scheme, width });
      // Show an error, and a number at a token.
      const card = page.locator(".card");
      await card.getByLabel("From factor").fill("3");
      await card.locator(".field-error", { hasText: "found 3" }).waitFor();
      await page.locator("#answer-steered").focus();
      const session = await page.context().newCDPSession(page);
      // The page's content security policy blocks scripts that the server does not serve.
      await session.send("Page.setBypassCSP", { enabled: true });
      await page.addScriptTag({ path: axe }).catch(() => {});
      if (!(await page.evaluate(() => "axe" in globalThis))) {
        const { default: source } = await load("axe-core");
        await page.evaluate(source.source);
      }
      const { violations, passes } = await page.evaluate(() =>
        globalThis.axe.run(document, {
          runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"],
          resultTypes: ["violations"],
        }),
      );
      assert.ok(passes.length > 20);
      const told = violations.map(
        ({ id, nodes }) =>
          `${id}: ${nodes.map(({ target, failureSummary }) => `${target} ${failureSummary}`).join("; ")}`,
      );
      assert.deepEqual(told, []);
      await shot(page, `${scheme}-${width}`);
      await end(page);
    });
  }
}

test("the dark theme is dark, and nothing moves with reduced motion", async () => {
  const page = await open({ scheme: "dark" });
  const light = (colour) => {
    const [red, green, blue] = colour.match(/[\d.]+/g).map(Number);
    return (0.2126 * red + 0.7152 * green + 0.0722 * blue) / 255;
  };
  const style = await page.evaluate(() => {
    const { backgroundColor, color } = getComputedStyle(document.body);
    return { backgroundColor, color };
  });
  assert.ok(light(style.backgroundColor) < 0.15 && light(style.color) > 0.8, JSON.stringify(style));
  await page.emulateMedia({ reducedMotion: "reduce" });
  const moving = await page.evaluate(() => {
    const answer = document.querySelector(".answer");
    answer.classList.add("running");
    return getComputedStyle(answer.querySelector("h3"), "::after").animationName;
  });
  assert.equal(moving, "none");
  await end(page);
});
