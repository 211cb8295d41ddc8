// The modules without a page, in the browser that will run them.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";

import { close, open } from "./support.mjs";

let page;
before(async () => (page = await open()));
after(close);

test("events are read however they are cut", async () => {
  const found = await page.evaluate(async () => {
    const { eventParser } = await import("/playground/sse.js");
    const text = 'data: {"a": 1}\n\n: a comment\r\n\r\ndata: one\ndata: two\n\ndata: [DONE]\n\ndata: cut';
    const all = [];
    for (let size = 1; size <= text.length; size++) {
      const parse = eventParser();
      const events = [];
      for (let at = 0; at < text.length; at += size) events.push(...parse(text.slice(at, at + size)));
      all.push(JSON.stringify(events));
    }
    return [...new Set(all)];
  });
  assert.deepEqual(found, [JSON.stringify(['{"a": 1}', "one\ntwo", "[DONE]"])]);
});

test("tokens are matched to the text of the answer", async () => {
  const aligned = await page.evaluate(async () => {
    const { alignTokens } = await import("/playground/tokens.js");
    const tokens = (...texts) => texts.map((token) => ({ token }));
    return [
      alignTokens(tokens(" A", " b"), "A b c"),
      alignTokens(tokens("x", "\ufffd", "\ufffd", "y"), "xéyz"),
      alignTokens(tokens("x", "\ufffd", "\ufffd"), "xé"),
      alignTokens(tokens("x", "</s>"), "x"),
      alignTokens([], "all"),
    ];
  });
  assert.deepEqual(aligned, [
    { pieces: ["A", " b"], rest: " c" },
    { pieces: ["x", "é", "", "y"], rest: "z" },
    { pieces: ["x", "é", ""], rest: "" },
    { pieces: ["x", "</s>"], rest: "" },
    { pieces: [], rest: "all" },
  ]);
});

test("messages of the server are assigned to their controls", async () => {
  const keys = await page.evaluate(async () => {
    const { errorsOf } = await import("/playground/errors.js");
    const settings = {
      cards: [
        { id: "a", on: false },
        { id: "b", on: true },
      ],
    };
    const messages = [
      "steering.vectors[0].scale: found x, expected a number",
      'steering.vectors[0].vector "mood": model.hidden_size: found 64',
      "steering.vectors[0].when.above: found x",
      "steering.vectors[1].scale: there is none",
      "steering.readout[0].layer: found 9",
      "Failed to deserialize the JSON body into the target type: max_tokens: invalid value",
      "prompt: found 600 tokens, expected fewer than 512",
      "no field: at all",
    ];
    return messages.map((message) => Object.entries(errorsOf(message, settings))[0]);
  });
  assert.deepEqual(keys, [
    ["cards.b.amount", "found x, expected a number"],
    ["cards.b.", "model.hidden_size: found 64"],
    ["cards.b.when.threshold", "found x"],
    ["", "steering.vectors[1].scale: there is none"],
    ["see.layer", "found 9"],
    ["request.maxTokens", "invalid value"],
    ["request.prompt", "found 600 tokens, expected fewer than 512"],
    ["", "no field: at all"],
  ]);
});

test("a link restores only valid settings", async () => {
  const read = await page.evaluate(async () => {
    const { defaults, fromFragment, toFragment } = await import("/playground/settings.js");
    const hostile = {
      ...defaults(),
      prompt: { toString: "no" },
      temperature: "hot",
      maxTokens: -4,
      cards: [
        { vector: "mood", op: "explode", amount: null, layers: [1, "2"], when: { layer: "x" } },
        { vector: 3 },
        "card",
      ],
      __proto__: { model: "evil" },
    };
    const settings = fromFragment(`#${toFragment(hostile)}`);
    return { settings, none: [fromFragment("#s=%%%"), fromFragment("#s=bnVsbA"), fromFragment("")] };
  });
  assert.deepEqual(read.none, [null, null, null]);
  assert.equal(read.settings.prompt, "In the garden, Tom saw the");
  assert.deepEqual([read.settings.temperature, read.settings.maxTokens, read.settings.model], [0.7, 60, null]);
  const [card, ...more] = read.settings.cards;
  assert.deepEqual([card.vector, card.op, card.layers, card.when.layer, more.length], ["mood", "add", [], 0, 0]);
});

test("snippets quote their contents", async () => {
  const made = await page.evaluate(async () => {
    const { curlOf, pythonOf, tomlOf } = await import("/playground/snippets.js");
    const request = { path: "/v1/completions", body: { prompt: "it's\n", seed: null, steering: { vectors: [] } } };
    const use = { vector: 'a"b\u007f', scale: 2, schedule: { from: 1, to: 0, tokens: 4 } };
    return [curlOf(request, "http://x"), pythonOf(request, "http://x"), tomlOf({ vectors: [use] }, "m", true)];
  });
  assert.match(made[0], /"prompt": "it'\\''s\\n"/);
  assert.match(made[1], /prompt="it's\\n",\n {4}seed=None,\n {4}extra_body=\{"steering": \{"vectors": \[\]\}\},/);
  assert.match(
    made[2],
    /model = "m"\n\n\[\[steering\.defaults\.vectors\]\]\nvector = "a\\"b\\u007F"\nscale = 2\nschedule = \{ from = 1, to = 0, tokens = 4 \}/,
  );
});

test("the slider goes as far as the vector and the operator propose", async () => {
  const ranges = await page.evaluate(async () => {
    const { newCard, rangeOf, rowsOf } = await import("/playground/spec.js");
    const row = (layer, norm, mean_norm) => ({ layer, norm, mean_norm, auroc: null });
    const ranges = (more) => {
      const model = { model: "large", num_layers: 8, fingerprint: "sm1:large", ...more };
      const own = { model: "large", model_fingerprint: "sm1:large", layers: [2, 5], proposed: [5] };
      const server = {
        models: [model],
        vectors: [
          { ...own, name: "own", table: [row(2, 9, 10), row(5, 1, 20)] },
          { ...own, name: "weak", table: [row(2, 0.1, 10), row(5, 0.1, 20)] },
          { ...own, name: "bare", table: [row(2, 3, null), row(5, 3, null)] },
          { ...own, name: "far", model: "small", model_fingerprint: "sm1:small", layers: [1], table: [row(1, 0.2, 5)] },
        ],
        maps: [
          { name: "up", source: "small", target: "large", pairs: [{ source_layers: [1], target_layer: 6, r2: 0.5 }] },
        ],
      };
      const card = (name, change) => ({ ...newCard(name, name, server, model), ...change });
      const range = (card) => rangeOf(card, rowsOf(card, server, model), model);
      const most = (card) => [range(card).max, card.amount];
      return [
        most(card("own")),
        most(card("own", { layers: [2, 5] })),
        most(card("weak")),
        most(card("far")),
        most(card("own", { op: "ablate" })),
        range(card("bare")).max,
      ];
    };
    return [ranges({}), ranges({ bound: { max_relative_scale: 0.15 } })];
  });
  assert.deepEqual(ranges, [
    // Eight times 1 / 20; as far as the longest layer, at most 1; never below 0.1; by the source's table; a share.
    [[0.4, 0.2], [1, 0.2], [0.1, 0.1], [0.35, 0.2], [1, 0.2], 10],
    [[0.15, 0.15], [0.15, 0.15], [0.1, 0.1], [0.15, 0.15], [1, 0.15], 10],
  ]);
});

test("cards become vectors of a spec", async () => {
  const specs = await page.evaluate(async () => {
    const { newCard, useOf, steeringOf } = await import("/playground/spec.js");
    const { defaults, newSchedule, newWhen } = await import("/playground/settings.js");
    const row = (layer, mean_norm) => ({ layer, mean_norm, auroc: null });
    const model = { model: "large", num_layers: 8, fingerprint: "sm1:large", chat: false, default: {} };
    const own = { name: "own", model: "large", model_fingerprint: "sm1:large", layers: [2, 5], proposed: [5] };
    const server = {
      per_request: "replace",
      models: [model],
      vectors: [
        { ...own, table: [row(2, 10), row(5, 20)] },
        { ...own, name: "bare", proposed: [], table: [row(2, null), row(5, null)] },
        { ...own, name: "far", model: "small", model_fingerprint: "sm1:small", layers: [1], table: [row(1, 3)] },
      ],
      maps: [
        { name: "up", source: "small", target: "large", pairs: [{ source_layers: [1], target_layer: 6, r2: 0.5 }] },
      ],
    };
    const settings = defaults();
    const card = (name, more) => ({ ...newCard(name, name, server, model), ...more });
    const use = (name, more) => useOf(card(name, more), settings, server);
    settings.cards = [card("own", { on: false }), card("far")];
    return [
      use("own"),
      use("bare"),
      use("far", { layers: [] }),
      use("own", { op: "ablate", share: 0.5, apply: "assistant" }),
      use("own", { op: "clamp", min: -1, max: null }),
      use("own", { op: "set", unit: "scale", amount: 3 }),
      use("own", { when: { ...newWhen("far", "up", 6), threshold: 2, side: "below", each: "token" } }),
      use("own", { schedule: { ...newSchedule("cosine"), tokens: 9 } }),
      steeringOf(settings, server),
      steeringOf({ ...settings, mode: "extend", norm: "preserve" }, server),
      steeringOf(settings, { ...server, per_request: "off" }) ?? "none",
    ];
  });
  const own = { vector: "own", relative_scale: 0.2, layers: [5] };
  const far = { vector: "far", map: "up", relative_scale: 0.2, layers: [6] };
  assert.deepEqual(specs, [
    own,
    // There is no norm to which it could be relative.
    { vector: "bare", scale: 1, layers: [2] },
    { vector: "far", map: "up", relative_scale: 0.2 },
    {
      vector: "own",
      op: "ablate",
      scale: 0.5,
      layers: [5],
      apply: { prompt: { roles: ["assistant"] }, generation: "all" },
    },
    { vector: "own", op: "clamp", min: -1, layers: [5] },
    { vector: "own", op: "set", scale: 3, layers: [5] },
    { ...own, when: { vector: "far", map: "up", layer: 6, below: 2, each: "token" } },
    { ...own, schedule: { from: 1, to: 0, tokens: 9, shape: "cosine" } },
    { vectors: [far] },
    { mode: "extend", vectors: [far] },
    "none",
  ]);
});
