// The dialog for the admin token.

import assert from "node:assert/strict";
import { after, test } from "node:test";

import { close, end, generate, open, openUrl, snippet, token } from "./support.mjs";

after(close);

test("a token is asked for, a wrong one is reported, and the right one lasts for the tab", async () => {
  const page = await open({ signedIn: false });
  const dialog = page.getByRole("dialog", { name: "This server needs a token" });
  await dialog.waitFor();
  assert.equal(await dialog.getByRole("alert").count(), 0);
  await page.keyboard.type("wrong");
  await page.keyboard.press("Enter");
  await dialog.getByText("The server does not accept this token.").waitFor();
  await dialog.getByLabel("Token").fill(token);
  await dialog.getByRole("button", { name: "Use it" }).click();
  await page.locator(".card .slider").first().waitFor();
  assert.equal(await dialog.count(), 0);
  await generate(page);
  // The token is in no snippet and in no link.
  for (const form of ["curl", "Python", "TOML"]) {
    await page.getByRole("radio", { name: form }).check({ force: true });
    assert.ok(!(await snippet(page)).includes(token));
  }
  await page.getByRole("button", { name: "Copy link" }).click();
  assert.ok(!page.url().includes(token));
  await page.reload();
  await page.locator(".card .slider").first().waitFor();
  assert.equal(await dialog.count(), 0);
  // Another tab asks for the token again.
  const other = await page.context().newPage();
  await other.goto(page.url());
  await other.getByRole("dialog").waitFor();
  assert.deepEqual(page.troubles, []);
  await end(page);
});

test("without a token the page says what is missing", async () => {
  const page = await open({ signedIn: false });
  await page.getByRole("button", { name: "Not now" }).click();
  await page.locator(".notice.bad", { hasText: "needs a token" }).waitFor();
  await page.getByRole("button", { name: "Try again" }).click();
  await page.getByRole("dialog").waitFor();
  await end(page);
});

test("on a server that is open on loopback no token is asked for", async () => {
  const page = await open({ signedIn: false, at: openUrl });
  await page.locator(".card .slider").first().waitFor();
  await generate(page);
  const name = `open-${Date.now()}`;
  const form = page.locator("#find");
  await form.getByLabel("Examples").selectOption("happy");
  await form.getByLabel("Name").fill(name);
  await form.getByRole("button", { name: "Find it" }).click();
  await form.locator(".status", { hasText: `Found “${name}”` }).waitFor();
  assert.equal(await page.getByRole("dialog").count(), 0);
  assert.deepEqual(page.troubles, []);
  await end(page);
});
