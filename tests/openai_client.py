"""Drives a steered server with the openai package, as its users do: chat, streaming, completions.

Usage: openai_client.py URL MODEL VECTOR
VECTOR is the name of a vector that steers MODEL clearly. Prints "ok" at the end; any other end is a failure.
"""

import sys

import openai


def main(url: str, model: str, vector: str) -> None:
    client = openai.OpenAI(base_url=f"{url}/v1", api_key="unused", max_retries=0)
    steering = {"vectors": [{"vector": vector, "scale": 80.0}]}
    chat = {"model": model, "messages": [{"role": "user", "content": "In the garden, Tom saw the"}],
            "max_tokens": 12, "temperature": 0.0}

    def text(field):
        extra = {} if field is None else {"extra_body": {"steering": field}}
        raw = client.chat.completions.with_raw_response.create(**chat, **extra)
        return raw.parse().choices[0].message.content, raw.headers["x-steering-fingerprint"], raw.parse()

    plain, none, _ = text(None)
    steered, fingerprint, answer = text(steering)
    assert none == "none", none
    assert len(fingerprint) == 64 and int(fingerprint, 16) >= 0, fingerprint
    assert steered != plain, steered
    # The package keeps fields that it does not know.
    assert answer.usage.model_dump()["steering"]["fingerprint"] == fingerprint, answer.usage
    assert text({"mode": "off"})[:2] == (plain, "none")
    assert text(steering)[:2] == (steered, fingerprint)

    # Streamed, the same text comes in pieces.
    stream = client.chat.completions.create(**chat, stream=True, extra_body={"steering": steering})
    chunks = list(stream)
    pieces = [chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices]
    assert len(pieces) > 3 and "".join(pieces).strip() == steered.strip(), pieces
    usages = [chunk.usage.model_dump() for chunk in chunks if chunk.usage]
    assert usages and usages[-1]["steering"]["fingerprint"] == fingerprint, usages

    # Completions, whole and streamed.
    completion = {"model": model, "prompt": "In the garden, Tom saw the", "max_tokens": 12, "temperature": 0.0}
    whole = client.completions.create(**completion, extra_body={"steering": steering}).choices[0].text
    unsteered = client.completions.create(**completion).choices[0].text
    assert whole != unsteered, whole
    stream = client.completions.create(**completion, stream=True, extra_body={"steering": steering})
    assert "".join(chunk.choices[0].text for chunk in stream).strip() == whole.strip()

    # Several answers to one request.
    several = client.chat.completions.create(**chat, n=2, extra_body={"steering": steering})
    assert [choice.message.content for choice in several.choices] == [steered, steered], several

    # A mistake is the client's, and its message names the field.
    try:
        text({"vectors": [{"vector": vector, "scale": 1.0, "layers": [999]}]})
    except openai.APIStatusError as error:
        assert 400 <= error.status_code < 500 and "layers" in str(error), error
    else:
        raise AssertionError("a layer that the model does not have was accepted")

    # Abandoning a stream does not disturb the next request.
    stream = client.chat.completions.create(**chat, stream=True, extra_body={"steering": steering})
    next(iter(stream))
    stream.close()
    assert text(steering)[0] == steered
    print("ok")


if __name__ == "__main__":
    main(*sys.argv[1:])
