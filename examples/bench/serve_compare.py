"""The same greedy workload on transformers with forward hooks, on llama.cpp with a control vector, and on ours.

Usage:
    serve_compare.py --model models/smollm2-135m [--llama-server PATH --gguf FILE] [--steermap target/release]
                     [--ours serve.json] [--json out.json]

Each engine goes on from the same prompts (16 tokens each, those of examples/bench/model.rs) with as many tokens each, no
special token among them, in float32 on two threads, with 1, 8 and 32 sequences at once, unsteered and with one small vector
added after every block (after all but the first in llama.cpp and over HTTP: it has no direction for block 0).

- transformers with forward hooks, in this process, where it is installed;
- libllama in this process, where llama_cpp (llama-cpp-python) is installed, on a GGUF made of the same weights;
- with `--llama-server`, llama.cpp's HTTP server with `--control-vector-scaled`, on `--gguf`: the same model in F32 with its
  vocabulary, as convert_hf_to_gguf.py of llama.cpp writes it (`--outtype f32`);
- with `--steermap`, the folder of mistralrs-steered: that server, the vector named in each request. It takes text,
  so its prompts are other words, as many; answers that end early count as long as they are;
- with `--ours`, what `cargo xtask bench serve -- --json FILE` wrote on the same machine: the engine in process.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from compare_engines import LibLlama, LlamaServer, OurServer, PROMPT, Transformers


def prompt(seed):
    """The prompts of examples/bench/model.rs."""
    state, tokens = seed, []
    for _ in range(PROMPT):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        tokens.append(1000 + (state >> 33) % 2**32 % 10_000)
    return tokens


def measure(engines, at_once, tokens, rounds):
    """Tokens per second of each engine, unsteered and steered, in turns; and its first answers, to compare."""
    speeds, answers = {}, {}
    for count in at_once:
        for turn in range(rounds + 1):
            prompts = [prompt(1000 * (turn + 1) + index) for index in range(count)]
            # Another order each time, so that none always follows the same other.
            for engine in engines[turn % len(engines) :] + engines[: turn % len(engines)]:
                for steered in (False, True):
                    engine.steer(steered)
                    engine.prepare(count, tokens)
                    start = time.perf_counter()
                    answer = engine.generate(prompts, tokens)
                    seconds = time.perf_counter() - start
                    in_tokens = all(isinstance(one, list) for one in answer)
                    made = sum(map(len, answer)) if in_tokens else sum(answer)
                    assert made == count * tokens or not in_tokens and made > 0, (engine.name, made)
                    if in_tokens and not steered:
                        answers.setdefault((count, turn), {})[engine.name] = answer
                    # The first turn warms up.
                    if turn > 0:
                        speeds.setdefault((engine.name, count, steered), []).append(made / seconds)
    return speeds, answers


def agreement(answers):
    """How many of the unsteered answers each two engines agree on."""
    names = list(dict.fromkeys(name for one in answers.values() for name in one))
    for index, first in enumerate(names):
        for second in names[index + 1 :]:
            pairs = [pair for one in answers.values() for pair in zip(one[first], one[second])]
            same = sum(a == b for a, b in pairs)
            print(f"unsteered greedy answers that are the same: {same} of {len(pairs)} ({first}; {second})")


def make_engines(options, work):
    makers = {
        Transformers: lambda: Transformers(options.model),
        LibLlama: lambda: LibLlama(options.model, work),
        LlamaServer: options.llama_server and (lambda: LlamaServer(options.llama_server, options.gguf, work)),
        OurServer: options.steermap and (lambda: OurServer(options.steermap, options.model, work)),
    }
    engines = []
    for kind, make in makers.items():
        if not make or options.only and not any(word in kind.name for word in options.only):
            continue
        try:
            engines.append(make())
        except ImportError as error:
            print(f"left out: {error}")
    return engines


def show(report, at_once):
    print(f"\n{'tokens/s, median':<38}" + "".join(f"{f'{count} at once':>24}" for count in at_once))
    print(f"{'':<38}" + "".join(f"{'unsteered':>13}{'steered':>11}" for _ in at_once))
    for name in dict.fromkeys(row["engine"] for row in report):
        cells = ""
        for count in at_once:
            for steered, width in ((False, 13), (True, 11)):
                found = [row["tokens_per_second"] for row in report
                         if (row["engine"], row["at_once"], row["steered"]) == (name, count, steered)]
                cells += f"{found[0]:>{width}.1f}" if found else f"{'-':>{width}}"
        print(f"{name:<38}{cells}")
    print()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="models/smollm2-135m")
    parser.add_argument("--llama-server", type=Path)
    parser.add_argument("--gguf", type=Path)
    parser.add_argument("--steermap", type=Path)
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="+", help="words of the names of the engines to measure; absent: all")
    parser.add_argument("--ours", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.llama_server and not options.gguf:
        parser.error("--llama-server needs --gguf, the model in F32 with its vocabulary")
    with tempfile.TemporaryDirectory() as folder:
        engines = make_engines(options, Path(folder))
        try:
            speeds, answers = measure(engines, options.at_once, options.tokens, options.rounds)
        finally:
            for engine in engines:
                engine.close()
    report = [{"engine": name, "at_once": count, "steered": steered, "tokens_per_second": statistics.median(values),
               "all": values} for (name, count, steered), values in speeds.items()]
    if options.ours:
        for row in json.loads(options.ours.read_text()):
            steered = {"all steered alike": True, "plugin idle": False}.get(row["mode"])
            if steered is not None and row["at_once"] in options.at_once:
                report.append({"engine": "mistralrs-steered, in process", "at_once": row["at_once"], "steered": steered,
                               "tokens_per_second": row["tokens_per_second"]})
    for engine in engines:
        print(f"{engine.name}: {engine.version}")
    show(report, options.at_once)
    agreement(answers)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
