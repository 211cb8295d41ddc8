// Drives a steered server with OpenAI's own Node package, as its users do.
//
// Usage: node suite.mjs URL WORDS MODEL VECTOR (described in suite.py) Run from the folder that has the package. Prints
// a line for each check and "ok" at the end; any other end is a failure.

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { pathToFileURL } from "node:url";

// The package lies in the working folder, not beside this file.
const require = createRequire(pathToFileURL(`${process.cwd()}/`));
const { default: OpenAI } = await import(pathToFileURL(require.resolve("openai")));

const [url, words, model, vector] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: "unused", maxRetries: 0, timeout: 120_000 });
const steering = { vectors: [{ vector, scale: 80 }] };

const chat = (more = {}, content = "Name three colours.") =>
  client.chat.completions.create({ model, messages: [{ role: "user", content }], temperature: 0, max_tokens: 12, ...more });
const complete = (more = {}) =>
  client.completions.create({ model: words, prompt: "In the garden, Tom saw the", temperature: 0, max_tokens: 12, ...more });

async function all(stream) {
  const chunks = [];
  for await (const chunk of await stream) chunks.push(chunk);
  return chunks;
}

/// The text and the finish reason of each choice.
function texts(chunks) {
  const text = {}, reasons = {};
  for (const { choices } of chunks) {
    for (const choice of choices) {
      text[choice.index] = (text[choice.index] ?? "") + (choice.delta?.content ?? choice.text ?? "");
      if (choice.finish_reason) reasons[choice.index] = choice.finish_reason;
    }
  }
  return { text, reasons };
}

/// The error of `call`, which must be of `kind` and in OpenAI's form.
async function refused(kind, call, ...says) {
  try {
    await call();
  } catch (error) {
    assert.ok(error instanceof kind, `${error.constructor.name} ${error.status}: ${error.message}`);
    assert.deepEqual(Object.keys(error.error).sort(), ["code", "message", "param", "type"]);
    for (const text of says) assert.match(JSON.stringify(error.error), new RegExp(text));
    return;
  }
  assert.fail(`not refused: ${says}`);
}

const checks = {
  async "chats, whole and streamed"() {
    const whole = await chat();
    const chunks = await all(chat({ stream: true, stream_options: { include_usage: true } }));
    const { text, reasons } = texts(chunks);
    assert.deepEqual(text, { 0: whole.choices[0].message.content });
    assert.deepEqual(reasons, { 0: whole.choices[0].finish_reason });
    assert.deepEqual(chunks.at(-1).choices, []);
    assert.equal(chunks.at(-1).usage.completion_tokens, whole.usage.completion_tokens);
    // The package's own stream reader gives the same.
    const runner = client.chat.completions.stream({
      model, messages: [{ role: "user", content: "Name three colours." }], temperature: 0, max_tokens: 12,
    });
    assert.equal((await runner.finalChatCompletion()).choices[0].message.content, whole.choices[0].message.content);
  },

  async "completions, whole and streamed"() {
    const whole = await complete();
    const { text, reasons } = texts(await all(complete({ stream: true })));
    assert.deepEqual(text, { 0: whole.choices[0].text });
    assert.deepEqual(reasons, { 0: "length" });
  },

  async "several choices and prompts"() {
    const whole = await chat({ n: 3, temperature: 1, seed: 3 });
    const { text, reasons } = texts(await all(chat({ n: 3, temperature: 1, seed: 3, stream: true })));
    assert.deepEqual(text, Object.fromEntries(whole.choices.map((choice) => [choice.index, choice.message.content])));
    assert.equal(Object.keys(reasons).length, 3);
    const several = await complete({ prompt: ["Once upon a time", "The dog"] });
    assert.equal(several.choices[1].text, (await complete({ prompt: "The dog" })).choices[0].text);
  },

  async "stop strings"() {
    const free = (await complete({ max_tokens: 24 })).choices[0].text;
    const stop = free.split(" ")[4];
    const whole = (await complete({ max_tokens: 24, stop })).choices[0];
    assert.equal(whole.text, free.slice(0, free.indexOf(stop)));
    assert.equal(whole.finish_reason, "stop");
    assert.deepEqual(texts(await all(complete({ max_tokens: 24, stop, stream: true }))).text, { 0: whole.text });
  },

  async "log probabilities"() {
    const { content } = (await chat({ logprobs: true, top_logprobs: 5 })).choices[0].logprobs;
    assert.equal(content.length, 12);
    for (const { token, logprob, bytes, top_logprobs: top } of content) {
      assert.equal(top.length, 5);
      assert.equal(top[0].token, token);
      assert.ok(logprob <= 0 && top.reduce((sum, other) => sum + Math.exp(other.logprob), 0) <= 1.0001);
      assert.ok(Array.isArray(bytes));
    }
    const { logprobs } = (await complete({ logprobs: 2 })).choices[0];
    assert.equal(logprobs.tokens.length, 12);
    assert.equal(Object.keys(logprobs.top_logprobs[0]).length, 2);
  },

  async "seeds"() {
    const text = async (seed) => (await complete({ temperature: 1, seed, max_tokens: 16 })).choices[0].text;
    assert.equal(await text(4), await text(4));
    assert.notEqual(await text(4), await text(5));
  },

  async "tools"() {
    const parameters = { type: "object", properties: { city: { enum: ["Oslo", "Rome"] } }, required: ["city"], additionalProperties: false };
    const call = {
      type: "object", properties: { name: { const: "weather" }, parameters },
      required: ["name", "parameters"], additionalProperties: false,
    };
    const tools = [{ type: "function", function: { name: "weather", parameters } }];
    // A grammar makes the model call the tool.
    const more = { tools, max_tokens: 60, grammar: { type: "json_schema", value: call } };
    const { finish_reason: reason, message } = (await chat(more)).choices[0];
    assert.equal(reason, "tool_calls");
    assert.equal(message.tool_calls[0].function.name, "weather");
    assert.ok(["Oslo", "Rome"].includes(JSON.parse(message.tool_calls[0].function.arguments).city));
    const chunks = await all(chat({ ...more, stream: true }));
    const calls = chunks.flatMap((chunk) => chunk.choices.flatMap((choice) => choice.delta.tool_calls ?? []));
    assert.deepEqual(calls.map((call) => call.function.name), ["weather"]);
  },

  async "structured output"() {
    const schema = {
      type: "object", properties: { name: { enum: ["red", "blue"] }, warm: { type: "boolean" } },
      required: ["name", "warm"], additionalProperties: false,
    };
    const answer = await chat(
      { max_tokens: 60, response_format: { type: "json_schema", json_schema: { name: "colour", strict: true, schema } } },
      "Answer in JSON: a colour with its name, and whether it is warm.");
    const { content } = answer.choices[0].message;
    assert.deepEqual(Object.keys(JSON.parse(content)), ["name", "warm"]);
    assert.equal(answer.choices[0].finish_reason, "stop");
  },

  async "mistakes"() {
    await refused(OpenAI.NotFoundError, () => chat({ model: "no-such-model" }), "model_not_found");
    await refused(OpenAI.BadRequestError, () => chat({ temperature: -1 }), "temperature");
    await refused(OpenAI.BadRequestError, () => chat({ top_p: 2, stream: true }), "top_p");
    await refused(OpenAI.BadRequestError, () => chat({ messages: [] }), "messages");
    await refused(OpenAI.BadRequestError, () => complete({ prompt: "word ".repeat(3000), stream: true }), "length");
    const wrong = { vectors: [{ vector, scale: 1, layers: [999] }] };
    await refused(OpenAI.UnprocessableEntityError, () => complete({ steering: wrong }), "layers");
  },

  async "responses"() {
    const create = (more = {}) =>
      client.responses.create({ model, input: "Name three colours.", temperature: 0, max_output_tokens: 12, ...more });
    const whole = await create();
    assert.equal(whole.output_text, (await chat()).choices[0].message.content);
    const events = await all(create({ stream: true }));
    const deltas = events.filter(({ type }) => type === "response.output_text.delta").map(({ delta }) => delta);
    assert.equal(deltas.join(""), whole.output_text);
    assert.equal(events.at(-1).type, "response.incomplete");
    const again = await create({ input: "And one more.", previous_response_id: whole.id });
    assert.ok(again.usage.input_tokens > whole.usage.input_tokens);
  },

  async "steering in each"() {
    const plain = await complete(), steered = await complete({ steering });
    assert.notEqual(plain.choices[0].text, steered.choices[0].text);
    const { fingerprint } = steered.usage.steering;
    assert.equal(fingerprint.length, 64);
    const chunks = await all(complete({ steering, stream: true }));
    assert.deepEqual(texts(chunks).text, { 0: steered.choices[0].text });
    assert.equal(chunks.at(-1).usage.steering.fingerprint, fingerprint);
    const { response } = await chat({ model: words, steering }).withResponse();
    assert.equal(response.headers.get("x-steering-fingerprint"), fingerprint);
    const answer = await client.responses.create({ model: words, input: "Tom saw the", max_output_tokens: 8, temperature: 0, steering });
    assert.equal(answer.usage.steering.fingerprint, fingerprint);
    // Abandoning a stream does not disturb the next request.
    const stream = await complete({ steering, stream: true });
    for await (const _ of stream) break;
    assert.equal((await complete({ steering })).choices[0].text, steered.choices[0].text);
  },
};

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    console.log(`${name}: ok`);
  } catch (error) {
    failed += 1;
    console.log(`${name}: FAILED\n${error.stack}`);
  }
}
if (failed > 0) {
  console.error(`${failed} failed`);
  process.exit(1);
}
console.log("ok");
