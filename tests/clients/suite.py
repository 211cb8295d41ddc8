"""Drives a steered server with OpenAI's own Python package, as its users do.

Usage: suite.py URL WORDS MODEL VECTOR
WORDS is a model whose tokens are words of small stories; VECTOR is the name of a vector that steers it clearly. MODEL is one that
reads chats and writes any text, JSON too. Prints a line for each check and "ok" at the end; any other end is a failure.
"""

import json
import math
import sys
import traceback
from typing import Literal

import openai
from pydantic import BaseModel

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


class Suite:
    def __init__(self, url, words, model, vector):
        self.client = openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0, timeout=120)
        self.words, self.model, self.vector = words, model, vector
        self.steering = {"vectors": [{"vector": vector, "scale": 80.0}]}

    def chat(self, content="Name three colours.", **more):
        fields = {"model": self.model, "temperature": 0.0, "max_tokens": 12} | more
        return self.client.chat.completions.create(messages=[{"role": "user", "content": content}], **fields)

    def complete(self, prompt="In the garden, Tom saw the", **more):
        fields = {"model": self.words, "temperature": 0.0, "max_tokens": 12} | more
        return self.client.completions.create(prompt=prompt, **fields)


def refused(kind, function, *says):
    """The error that `function` raises, which must be of `kind` and in OpenAI's form."""
    try:
        function()
    except openai.APIStatusError as error:
        assert isinstance(error, kind), f"{type(error).__name__} {error.status_code}: {error}"
        # The package returns the content of "error".
        assert isinstance(error.body, dict) and set(error.body) == {"message", "type", "param", "code"}, error.body
        assert isinstance(error.body["message"], str) and error.body["message"], error.body
        for text in says:
            assert text in str(error.body), f"{text!r} is not in {error.body}"
        return error
    raise AssertionError(f"not refused: {says}")


def texts(chunks):
    """The text and finish reason of each choice of a streamed chat."""
    text, reasons = {}, {}
    for chunk in chunks:
        for choice in chunk.choices:
            text[choice.index] = text.get(choice.index, "") + (choice.delta.content or "")
            if choice.finish_reason:
                assert choice.index not in reasons, "a choice ended twice"
                reasons[choice.index] = choice.finish_reason
    return text, reasons


@check
def chats_are_the_same_streamed(suite):
    whole = suite.chat(max_tokens=24)
    chunks = list(suite.chat(max_tokens=24, stream=True, stream_options={"include_usage": True}))
    text, reasons = texts(chunks)
    assert text == {0: whole.choices[0].message.content}, (text, whole)
    assert reasons == {0: whole.choices[0].finish_reason} and reasons[0] in ("stop", "length"), reasons
    assert all(chunk.usage is None for chunk in chunks[:-1]), "usage before the last chunk"
    last = chunks[-1]
    assert last.choices == [] and last.usage.completion_tokens == whole.usage.completion_tokens, last
    assert whole.usage.total_tokens == whole.usage.prompt_tokens + whole.usage.completion_tokens, whole.usage
    without = list(suite.chat(stream=True, stream_options={"include_usage": False}))
    assert all(chunk.usage is None and chunk.choices for chunk in without)
    assert len({chunk.id for chunk in chunks}) == 1 and all(chunk.object == "chat.completion.chunk" for chunk in chunks)


@check
def completions_are_the_same_streamed(suite):
    whole = suite.complete()
    chunks = list(suite.complete(stream=True, stream_options={"include_usage": True}))
    text = "".join(choice.text for chunk in chunks for choice in chunk.choices)
    assert text == whole.choices[0].text and text, (text, whole)
    reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert reasons == [whole.choices[0].finish_reason] == ["length"], reasons
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens == 12 == whole.usage.completion_tokens


@check
def several_choices(suite):
    whole = suite.chat(n=3, temperature=1.0, seed=7)
    assert [choice.index for choice in sorted(whole.choices, key=lambda choice: choice.index)] == [0, 1, 2]
    contents = {choice.index: choice.message.content for choice in whole.choices}
    assert len(set(contents.values())) == 3, contents
    chunks = list(suite.chat(n=3, temperature=1.0, seed=7, stream=True, stream_options={"include_usage": True}))
    text, reasons = texts(chunks)
    assert text == contents, (text, contents)
    assert sorted(reasons) == [0, 1, 2], reasons
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens, (chunks[-1].usage, whole.usage)


@check
def stop_strings_never_show(suite):
    free = suite.complete(max_tokens=24).choices[0].text
    words = free.split()
    for stop in (words[4], words[3][-1] + " " + words[4][:2], [words[6], "never there"]):
        whole = suite.complete(max_tokens=24, stop=stop).choices[0]
        first = min(free.index(text) for text in ([stop] if isinstance(stop, str) else stop) if text in free)
        assert whole.text == free[:first] and whole.finish_reason == "stop", (stop, whole, free)
        chunks = list(suite.complete(max_tokens=24, stop=stop, stream=True))
        streamed = "".join(choice.text for chunk in chunks for choice in chunk.choices)
        assert streamed == whole.text, (streamed, whole.text)
    # The last token that is allowed completes it.
    for count in range(2, 6):
        text = suite.complete(max_tokens=count).choices[0].text
        choice = suite.complete(max_tokens=count, stop=text.split()[-1][-2:]).choices[0]
        assert choice.finish_reason == "stop", (count, text, choice)


@check
def logprobs_of_chats(suite):
    def content(**more):
        return suite.chat(logprobs=True, top_logprobs=20, max_tokens=8, **more).choices[0].logprobs.content

    cold = content()
    assert len(cold) == 8
    text = suite.chat(max_tokens=8).choices[0].message.content
    assert b"".join(bytes(token.bytes) for token in cold).decode().strip() == text.strip()
    for token in cold:
        top = [other.logprob for other in token.top_logprobs]
        assert len(top) == 20 and top == sorted(top, reverse=True) and token.logprob == top[0], token
        assert 0.2 < sum(math.exp(logprob) for logprob in top) <= 1.0001, top
        assert token.token == token.top_logprobs[0].token
    # The reported probability of the first token does not depend on how it is drawn.
    warm = content(temperature=1.7, top_p=0.5, seed=1)[0]
    assert [other.token for other in warm.top_logprobs] == [other.token for other in cold[0].top_logprobs]
    for one, other in zip(warm.top_logprobs, cold[0].top_logprobs):
        assert abs(one.logprob - other.logprob) < 1e-4, (one, other)
    chunks = list(suite.chat(logprobs=True, top_logprobs=20, max_tokens=8, stream=True))
    streamed = [token for chunk in chunks for choice in chunk.choices if choice.logprobs for token in choice.logprobs.content]
    assert [token.token for token in streamed] == [token.token for token in cold]
    assert all(abs(one.logprob - other.logprob) < 1e-4 for one, other in zip(streamed, cold))
    plain = suite.chat(logprobs=True, max_tokens=2).choices[0].logprobs.content
    assert len(plain) == 2 and plain[0].top_logprobs == [], plain


@check
def logprobs_of_completions(suite):
    choice = suite.complete(logprobs=3).choices[0]
    found = choice.logprobs
    assert len(found.tokens) == len(found.token_logprobs) == len(found.top_logprobs) == len(found.text_offset) == 12
    assert "".join(found.tokens).strip() == choice.text.strip(), (found.tokens, choice.text)
    for token, logprob, top in zip(found.tokens, found.token_logprobs, found.top_logprobs):
        assert len(top) == 3 and top[token] == logprob == max(top.values()) <= 0, (token, logprob, top)
    assert found.text_offset[0] == 0 and found.text_offset[1] == len(found.tokens[0]), found.text_offset
    chunks = list(suite.complete(logprobs=3, stream=True))
    parts = [choice.logprobs for chunk in chunks for choice in chunk.choices if choice.logprobs]
    assert [token for part in parts for token in part.tokens] == found.tokens
    assert [offset for part in parts for offset in part.text_offset] == found.text_offset


@check
def seeds(suite):
    def text(seed):
        return suite.complete(temperature=1.0, seed=seed, max_tokens=16).choices[0].text

    assert text(1) == text(1) and text(-5) == text(-5)
    assert len({text(seed) for seed in range(4)}) > 1
    # Choice i equals the answer with seed + i alone.
    two = suite.complete(temperature=1.0, seed=1, max_tokens=16, n=2)
    assert {choice.index: choice.text for choice in two.choices} == {0: text(1), 1: text(2)}


@check
def logit_biases(suite):
    plain = suite.chat(max_tokens=1, logprobs=True, top_logprobs=2).choices[0]
    # The id of the likeliest token, which must be forbidden for the answer to change. It is found by requests, since
    # this client has no tokenizer.
    first, second = (other.token for other in plain.logprobs.content[0].top_logprobs)
    ids = [token for token in range(0, 600) if token % 100 == 7]
    forced = suite.chat(max_tokens=3, logit_bias={str(ids[1]): 100}, logprobs=True).choices[0].logprobs.content
    assert len({token.token for token in forced}) == 1, forced
    assert forced[0].token not in (first, second), forced
    # The reported probability is the model's own.
    assert forced[0].logprob < -1, forced
    other = suite.chat(max_tokens=1, logit_bias={str(ids[1]): -100}).choices[0].message.content
    assert other == plain.message.content, (other, plain)
    refused(openai.BadRequestError, lambda: suite.chat(logit_bias={"5": 1000}), "logit_bias.5", "1000")


@check
def several_prompts(suite):
    prompts = ["In the garden, Tom saw the", "Once upon a time", "The dog"]
    alone = [suite.complete(prompt).choices[0].text for prompt in prompts]
    whole = suite.complete(prompts, n=2)
    assert [choice.index for choice in whole.choices] == list(range(6))
    assert [choice.text for choice in whole.choices] == [text for text in alone for _ in range(2)]
    assert whole.usage.completion_tokens == 6 * 12, whole.usage
    pieces = {}
    for chunk in suite.complete(prompts, stream=True):
        for choice in chunk.choices:
            pieces[choice.index] = pieces.get(choice.index, "") + choice.text
    assert pieces == dict(enumerate(alone)), (pieces, alone)
    tokens = suite.complete([[5, 6, 7], [8, 9]])
    assert len(tokens.choices) == 2
    assert tokens.choices[1].text == suite.complete([8, 9]).choices[0].text
    refused(openai.BadRequestError, lambda: suite.complete([10_000_000]), "10000000")
    refused(openai.BadRequestError, lambda: suite.complete([]), "prompt")
    # With an invalid one, all are refused.
    refused(openai.BadRequestError, lambda: suite.complete(["fine", "word " * 3000]), "length")


@check
def echo_and_nothing_to_write(suite):
    prompt = "In the garden, Tom saw the"
    plain = suite.complete(prompt).choices[0].text
    whole = suite.complete(prompt, echo=True).choices[0].text
    assert whole.startswith(prompt) and whole.removeprefix(prompt).strip() == plain, whole
    streamed = "".join(choice.text for chunk in suite.complete(prompt, echo=True, stream=True) for choice in chunk.choices)
    assert streamed == whole, streamed
    nothing = suite.complete(prompt, echo=True, max_tokens=0)
    assert (nothing.choices[0].text, nothing.choices[0].finish_reason) == (prompt, "length"), nothing
    assert nothing.usage.completion_tokens == 0, nothing.usage
    assert suite.complete(prompt, max_tokens=0).choices[0].text == ""
    refused(openai.BadRequestError, lambda: suite.chat(max_tokens=0), "max_tokens")


class Colour(BaseModel):
    name: Literal["red", "blue"]
    warm: bool


@check
def structured_output(suite):
    ask = "Answer in JSON: a colour with its name, and whether it is warm."
    parsed = suite.client.chat.completions.parse(
        model=suite.model, messages=[{"role": "user", "content": ask}], response_format=Colour, max_tokens=60,
        temperature=0.0)
    choice = parsed.choices[0]
    assert isinstance(choice.message.parsed, Colour), choice
    # It ends with its closing brace, not at the token limit.
    assert choice.finish_reason == "stop" and choice.message.content.rstrip().endswith("}"), choice
    free = suite.chat(ask, response_format={"type": "json_object"}, max_tokens=60)
    if free.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(free.choices[0].message.content), dict), free
    assert free.choices[0].message.content.lstrip().startswith("{"), free
    refused(openai.BadRequestError,
            lambda: suite.chat(response_format={"type": "json_schema", "json_schema": {
                "name": "bad", "schema": {"type": "no such type"}}}), "rammar")


@check
def tools(suite):
    weather = {"type": "function", "function": {"name": "weather", "description": "The weather of a city", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}
    # Whether a model calls a tool is up to the model; here a grammar makes it call.
    call = {"type": "object", "properties": {"name": {"const": "weather"}, "parameters": {
        "type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"],
        "additionalProperties": False}}, "required": ["name", "parameters"], "additionalProperties": False}
    more = {"tools": [weather], "max_tokens": 60,
            "extra_body": {"grammar": {"type": "json_schema", "value": call}}}
    whole = suite.chat("What is the weather in Rome?", **more).choices[0]
    assert whole.finish_reason == "tool_calls", whole
    called = whole.message.tool_calls[0]
    assert called.type == "function" and called.function.name == "weather" and called.id, called
    assert json.loads(called.function.arguments)["city"] in ("Oslo", "Rome"), called
    chunks = list(suite.chat("What is the weather in Rome?", stream=True, **more))
    calls = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or []]
    assert [call.function.name for call in calls] == ["weather"], chunks
    assert calls[0].function.arguments == called.function.arguments
    assert texts(chunks)[1] == {0: "tool_calls"}
    # The answer of the tool is sent back.
    history = [
        {"role": "user", "content": "What is the weather in Rome?"},
        {"role": "assistant", "content": None, "tool_calls": [called.model_dump()]},
        {"role": "tool", "tool_call_id": called.id, "content": "sunny"},
    ]
    answer = suite.client.chat.completions.create(model=suite.model, messages=history, max_tokens=8, temperature=0.0)
    assert answer.choices[0].message.content, answer


@check
def mistakes_are_the_clients(suite):
    bad = openai.BadRequestError
    refused(openai.NotFoundError, lambda: suite.chat(model="no-such-model"), "model_not_found", "no-such-model")
    refused(openai.NotFoundError, lambda: suite.complete(model="no-such-model"), "model_not_found")
    refused(openai.NotFoundError,
            lambda: suite.client.responses.create(model="no-such-model", input="hi"), "model_not_found")
    for field, value in [("temperature", -1), ("top_p", 2), ("top_p", -0.1), ("frequency_penalty", 3),
                         ("presence_penalty", -2.5), ("n", 0)]:
        refused(bad, lambda: suite.chat(**{field: value}), field)
        refused(bad, lambda: suite.complete(**{field: value}), field)
    for field, value in [("repetition_penalty", 0), ("min_p", 1.5)]:
        refused(bad, lambda: suite.chat(extra_body={field: value}), field)
    refused(bad, lambda: suite.client.chat.completions.create(model=suite.model, messages=[]), "messages")
    refused(bad, lambda: suite.chat(temperature="warm"))
    refused(bad, lambda: suite.client.chat.completions.create(model=suite.model, messages=[{"content": "no role"}]))
    refused(bad, lambda: suite.complete("word " * 3000), "length")
    # Also before a stream begins.
    refused(bad, lambda: suite.complete("word " * 3000, stream=True), "length")
    refused(bad, lambda: suite.chat(temperature=-1, stream=True), "temperature")
    refused(openai.NotFoundError, lambda: suite.client.get("/no/such/route", cast_to=object), "/no/such/route")
    refused(openai.APIStatusError, lambda: suite.client.get("/chat/completions", cast_to=object))
    unprocessable = openai.UnprocessableEntityError
    wrong = {"vectors": [{"vector": suite.vector, "scale": 1.0, "layers": [999]}]}
    refused(unprocessable, lambda: suite.complete(extra_body={"steering": wrong}), "layers")
    late = {"vectors": [{"vector": suite.vector, "scale": 1.0, "apply": {"prompt": {"positions": [500]}}}]}
    for stream in (False, True):
        refused(unprocessable, lambda: suite.complete(stream=stream, extra_body={"steering": late}), "positions")


@check
def generation_ends_with_the_context(suite):
    choice = suite.complete("Once upon a time " * 20, max_tokens=4000).choices[0]
    assert choice.finish_reason in ("length", "stop") and choice.text, choice


@check
def both_models_answer(suite):
    served = {model.id for model in suite.client.models.list().data}
    assert {suite.words, suite.model} <= served, served
    by_model = {model: suite.complete(model=model) for model in (suite.words, suite.model)}
    assert by_model[suite.words].choices[0].text != by_model[suite.model].choices[0].text
    for model, answer in by_model.items():
        assert answer.model == model, (answer.model, model)


@check
def steering_is_in_all_of_it(suite):
    plain, steered = suite.complete(), suite.complete(extra_body={"steering": suite.steering})
    assert plain.choices[0].text != steered.choices[0].text
    # The package keeps unknown fields.
    fingerprint = steered.usage.model_dump()["steering"]["fingerprint"]
    assert len(fingerprint) == 64 and "steering" not in plain.usage.model_dump()
    chunks = list(suite.complete(stream=True, stream_options={"include_usage": True}, extra_body={"steering": suite.steering}))
    assert "".join(choice.text for chunk in chunks for choice in chunk.choices) == steered.choices[0].text
    assert chunks[-1].usage.model_dump()["steering"]["fingerprint"] == fingerprint
    usual = list(suite.complete(stream=True, extra_body={"steering": suite.steering}))
    assert usual[-1].usage.model_dump()["steering"]["fingerprint"] == fingerprint, usual[-1]

    def chat(field):
        raw = suite.client.chat.completions.with_raw_response.create(
            model=suite.words, messages=[{"role": "user", "content": "In the garden, Tom saw the"}], max_tokens=12,
            temperature=0.0, extra_body={"steering": field})
        return raw.headers["x-steering-fingerprint"], raw.parse().choices[0].message.content

    assert chat(suite.steering)[0] == fingerprint and chat({"mode": "off"})[0] == "none"
    assert chat(suite.steering)[1] != chat({"mode": "off"})[1]
    several = suite.complete(["Once", "Tom"], n=2, extra_body={"steering": suite.steering})
    alone = [suite.complete(prompt, extra_body={"steering": suite.steering}).choices[0].text for prompt in ("Once", "Tom")]
    assert [choice.text for choice in several.choices] == [text for text in alone for _ in range(2)]
    # Abandoning a stream does not disturb the next request.
    stream = suite.complete(stream=True, extra_body={"steering": suite.steering})
    next(iter(stream))
    stream.close()
    assert suite.complete(extra_body={"steering": suite.steering}).choices[0].text == steered.choices[0].text


@check
def responses(suite):
    def create(model=suite.model, **more):
        return suite.client.responses.create(**{"model": model, "input": "Name three colours.", "temperature": 0.0,
                                                "max_output_tokens": 12} | more)

    whole = create()
    assert whole.output_text == suite.chat().choices[0].message.content, whole
    assert whole.status == "incomplete" and whole.incomplete_details.reason == "max_output_tokens", whole
    assert whole.usage.output_tokens == 12 and whole.usage.total_tokens == whole.usage.input_tokens + 12, whole.usage
    assert suite.client.responses.retrieve(whole.id).output_text == whole.output_text
    events = list(create(stream=True))
    assert events[0].type == "response.created" and events[-1].type == "response.incomplete", events
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == whole.output_text
    assert events[-1].response.output_text == whole.output_text
    assert [event.sequence_number for event in events] == sorted(event.sequence_number for event in events)
    again = create(input="And one more.", previous_response_id=whole.id)
    assert again.usage.input_tokens > whole.usage.input_tokens, again.usage
    suite.client.responses.delete(whole.id)
    refused(openai.NotFoundError, lambda: suite.client.responses.retrieve(whole.id))
    refused(openai.NotFoundError, lambda: create(previous_response_id=whole.id), "previous_response_id")
    refused(openai.BadRequestError, lambda: create(temperature=-1), "temperature")
    refused(openai.BadRequestError, lambda: create(temperature=-1, stream=True), "temperature")
    plain, steered = (create(model=suite.words, extra_body=field) for field in ({}, {"steering": suite.steering}))
    assert plain.output_text != steered.output_text
    events = list(create(model=suite.words, stream=True, extra_body={"steering": suite.steering}))
    assert events[-1].response.output_text == steered.output_text
    for answer in (steered, events[-1].response):
        assert len(answer.usage.model_dump()["steering"]["fingerprint"]) == 64, answer.usage


def main(url, words, model, vector):
    suite, failed = Suite(url, words, model, vector), 0
    for function in CHECKS:
        name = function.__name__.replace("_", " ")
        try:
            function(suite)
            print(f"{name}: ok")
        except Exception:
            failed += 1
            print(f"{name}: FAILED")
            traceback.print_exc()
    if failed:
        sys.exit(f"{failed} of {len(CHECKS)} failed")
    print("ok")


if __name__ == "__main__":
    main(*sys.argv[1:])
