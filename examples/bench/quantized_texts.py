"""Greedy texts of quantised weights: the effect of rounding the activations on them.

Usage:
    target/peers/python/bin/python examples/bench/quantized_texts.py [--formats q8_0 q4_k_m] [--prompts 20] [--tokens 24]

For each format, one GGUF file of the model is asked by mistralrs-steered and by llama.cpp's server, and the same weights, unpacked
to float32, by llama.cpp's server. Counted are the texts that equal those of the last. `cargo xtask bench peers` installs what is
needed.
"""

import argparse
import subprocess
import tempfile
from pathlib import Path

from compare_engines import LlamaServer, OurServer
from peers import make_gguf, prompt


def llama_texts(options, model, work, texts):
    server = LlamaServer("llama.cpp's server", options.llama / "llama-server", model, work, cache="f32")
    try:
        # Room for the longest text, one at a time.
        server.prepare(1, 4 * options.prompts, options.tokens)
        body = {"n_predict": options.tokens, "cache_prompt": False, "temperature": 0.0, "samplers": ["temperature"]}
        return [server.servers[False].post("/completion", {**body, "prompt": text})["content"].strip() for text in texts]
    finally:
        server.close()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models/smollm2-135m"))
    parser.add_argument("--steermap", type=Path, default=Path("target/release"))
    parser.add_argument("--llama", type=Path, default=Path("target/peers/llama"))
    parser.add_argument("--formats", nargs="+", default=["q8_0", "q4_k_m"])
    parser.add_argument("--prompts", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=24)
    options = parser.parse_args()
    for form in options.formats:
        with tempfile.TemporaryDirectory() as folder:
            work = Path(folder)
            quantised = make_gguf(options.llama, options.model, work, form)
            unpacked = work / "unpacked.gguf"
            command = [options.llama / "llama-quantize", "--allow-requantize", quantised, unpacked, "f32"]
            subprocess.run(command, check=True, capture_output=True)
            ours = OurServer("mistralrs-steered", options.steermap, options.model, work, quantised)
            try:
                texts = [ours.text(prompt(seed, 3 + 2 * seed)) for seed in range(options.prompts)]
                body = {"model": "default", "max_tokens": options.tokens, "temperature": 0.0}
                own = [ours.server.post("/v1/completions", {**body, "prompt": text})["choices"][0]["text"].strip() for text in texts]
            finally:
                ours.close()
            theirs = llama_texts(options, quantised, work, texts)
            exact = llama_texts(options, unpacked, work, texts)
            same = [sum(a == b for a, b in zip(some, exact)) for some in (own, theirs)]
            print(f"{form}: of {len(exact)} texts, as with the weights in float32: mistralrs-steered {same[0]}, llama.cpp {same[1]}")


if __name__ == "__main__":
    main()
