#!/usr/bin/env python3
"""Writes what Hugging Face transformers generates from a prepared model folder.

    python make_expected.py MODEL_DIR OUT.json

MODEL_DIR is a folder made by `cargo xtask models NAME`. The tests load the same folder in
mistral.rs, generate greedily from the same prompts, and compare with OUT.json.

Needs torch and transformers (versions used are written into OUT.json); runs on a CPU, in float32,
on one thread, in about a minute.
"""

import argparse
import json
import platform
import re
from pathlib import Path

import safetensors
import tokenizers
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

MAX_NEW_TOKENS = 40

# Two engines round differently. If the two best tokens are nearly tied, another engine may correctly pick the other
# one, so prompts that lead to a tie are not used. Differences between engines in float32 are about 1e-4 in the logits.
MIN_GAP = 0.02

# The prompts of each model. "completions" are plain text, without the chat template; "chats" are one user turn each,
# through the chat template, for a model that has one.
PROMPTS = {
    "smollm2-135m": {
        "completions": [
            "The sun rises in the",
            "def add(a, b):\n    return",
        ],
        # The first two answers end by themselves.
        "chats": [
            "What is the capital of France?",
            "Explain what a computer is in one sentence.",
            "What is gravity?",
            "List the days of the week.",
        ],
    },
    # The base model: it is not trained on chats, and has no chat template.
    "gemma3-270m": {
        "completions": [
            "The sun rises in the east and",
            "The quick brown fox",
            "The three primary colours are",
            "My favourite food is",
            "def add(a, b):\n    return",
            # Longer than the window of 512 tokens of most of its blocks.
            "".join(f"{number}, " for number in range(1, 161)).rstrip(),
        ],
        "chats": [],
    },
}

# Text that is difficult for tokenizers: runs of digits, spaces at the start, at the end and in between, line breaks,
# contractions, letters outside ASCII, emoji of several code points, control tokens.
TRICKY_TEXTS = [
    "12345 apples cost $67.89, or 3\u00bd per 10\u00b2 m\u00b2",
    "  two leading spaces, a tab\there, trailing spaces   ",
    "line one\nline two\r\n\n\n    indented\n",
    "It's what they've said: we'll see, I'd bet you're right, don't SHOUT'S",
    "na\u00efve caf\u00e9 \u4f60\u597d\uff0c\u4e16\u754c \u041c\u0438\u0440 \u0661\u0662\u0663",
    "smile \U0001f600, pair \U0001f469\u200d\U0001f467, flag \U0001f1eb\U0001f1f7",
    "<|im_start|>user\nhi<|im_end|>\n",
    "fn main() { let x = vec![1, 22, 333]; }  // ok",
    "",
]

# The same for single models: their control tokens, runs longer than their longest special tokens (runs of spaces, tabs
# and line breaks, HTML), and characters that they spell in bytes.
TRICKY_TEXTS_OF = {
    "smollm2-135m": [],
    "gemma3-270m": [
        "<start_of_turn>user\nhi<end_of_turn>\n<unused42>",
        "<table><tr><td>1</td></tr></table> <0x41>",
        "\t\tx\t" + "\n" * 33 + " " * 33 + "y",
        "\u16a0\u16c7\u16bb \U00013080\U000120d4 \U0010fffd \x00\x7f",
        "aaaaaaaaaaaaaaaaaaaaaaa hahahahahaha ----------------- ........",
    ],
}


def generate(model, prompt_ids):
    """Returns the greedily generated ids and the smallest lead of the best logit over all steps."""
    result = model.generate(
        torch.tensor([prompt_ids]),
        attention_mask=torch.ones(1, len(prompt_ids), dtype=torch.long),
        do_sample=False,
        max_new_tokens=MAX_NEW_TOKENS,
        return_dict_in_generate=True,
        output_logits=True,
    )
    gaps = []
    for logits in result.logits:
        best, second = logits[0].topk(2).values.tolist()
        gaps.append(best - second)
    return result.sequences[0, len(prompt_ids) :].tolist(), min(gaps)


def make_case(model, tokenizer, kind, prompt):
    """Generates from one prompt and describes the result."""
    if kind == "chat":
        messages = [{"role": "user", "content": prompt}]
        text = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    else:
        text = prompt
    prompt_ids = tokenizer(text).input_ids
    generated_ids, gap = generate(model, prompt_ids)
    if gap < MIN_GAP:
        raise SystemExit(f"{prompt!r}: smallest gap {gap:.4f} < {MIN_GAP}; choose another prompt")
    return {
        "kind": kind,
        "prompt": prompt,
        # The model's input: the prompt, for a chat inside its template.
        "prompt_text": text,
        "prompt_ids": prompt_ids,
        # Ends with the end-of-sequence token if the model stopped by itself.
        "generated_ids": generated_ids,
        "generated_text": tokenizer.decode(generated_ids, skip_special_tokens=True),
        "finish": "stop" if generated_ids[-1] == tokenizer.eos_token_id else "length",
        "min_gap": round(gap, 4),
    }


def make_tokenizer_case(tokenizer, text):
    """Tokenises one text and checks that the tokens decode to it."""
    ids = tokenizer(text).input_ids
    # Some tokenizers insert a token before every text.
    first = tokenizer("").input_ids
    if ids[: len(first)] != first:
        raise SystemExit(f"{text!r} does not begin with the tokens {first}, as the empty text does")
    back = tokenizer.decode(ids[len(first) :])
    if back != text:
        raise SystemExit(f"{text!r} comes back from the tokenizer as {back!r}")
    return {"text": text, "ids": ids}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model_dir", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()

    torch.set_num_threads(1)
    tokenizer = AutoTokenizer.from_pretrained(args.model_dir)
    model = AutoModelForCausalLM.from_pretrained(args.model_dir, dtype=torch.float32).eval()
    source = json.loads((args.model_dir / "steermap-source.json").read_text(encoding="utf-8"))
    hashes = {file["name"]: file["sha256"] for file in source["files"]}

    prompts = PROMPTS[source["model"]]
    cases = [make_case(model, tokenizer, "completion", prompt) for prompt in prompts["completions"]]
    cases += [make_case(model, tokenizer, "chat", prompt) for prompt in prompts["chats"]]
    texts = TRICKY_TEXTS + TRICKY_TEXTS_OF[source["model"]]
    expected = {
        "model": source["model"],
        # Other weights or another tokenizer would give other text.
        "sha256": {name: hashes[name] for name in ("model.safetensors", "tokenizer.json")},
        "made_with": {
            # Names only, without the paths of this machine.
            "command": f"python make_expected.py {args.model_dir.name} {args.out.name}",
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "tokenizers": tokenizers.__version__,
            "safetensors": safetensors.__version__,
            "dtype": "float32",
            "device": "cpu",
            "threads": torch.get_num_threads(),
            "decoding": "greedy",
            "max_new_tokens": MAX_NEW_TOKENS,
        },
        "cases": cases,
        "tokenizer_cases": [make_tokenizer_case(tokenizer, text) for text in texts],
    }
    text = json.dumps(expected, indent=1, ensure_ascii=True)
    # Each list of ids is on one line. (Inside a JSON string no line break follows a bracket.)
    text = re.sub(r"\[\n([\d,\s]+)\n\s*\]", lambda ids: f"[{' '.join(ids[1].split())}]", text)
    args.out.write_text(text + "\n", encoding="utf-8")
    for case in cases:
        print(case["min_gap"], case["finish"], repr(case["prompt"][:60]), repr(case["generated_text"]))


if __name__ == "__main__":
    main()
