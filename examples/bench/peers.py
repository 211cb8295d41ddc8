"""The same greedy work on transformers, on llama.cpp's server and on mistralrs-steered, in turns on one machine.

Usage:
    peers.py --model models/smollm2-135m --steermap target/release --llama FOLDER
             [--only WORD ..] [--rounds 5] [--most-rounds 15] [--json out.json] [--write docs/src/benchmarks.md]

`--llama` is a folder with llama-server, llama-quantize and convert_hf_to_gguf.py; `cargo xtask bench peers` makes it. All
compute on two threads; both servers are asked over HTTP, each request on a connection of its own, and transformers runs in
this process. Work:

- decode: 16 tokens of prompt each, 32 more generated, 1, 8 and 32 sequences at once;
- steered: the same at 32, with a vector added after every block (llama.cpp has none for block 0);
- mixed: the same at 32, with prompts of 6 to 37 tokens;
- prefill: one prompt of 256 tokens, one token generated; counted are the 256.

In float32, and in the formats of GGUF with both servers on the same file; llama.cpp keeps its cache in float16, as it does unless
told otherwise. A row's ratio is of ours to the other's in the same round: the median over rounds, with quartiles. A second server of
ours is asked as well. Rounds go on until the 95% interval of its ratio to the first is within 1%, or there are `--most-rounds`; how
far it reaches then tells what was resolved. Since rounds end when it looks narrow, that of all rows together is told as well.
"""

import argparse
import json
import math
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from compare_engines import LlamaServer, OurServer, Transformers

WORK = {
    "decode, 1 at once": (1, False, False),
    "decode, 8 at once": (8, False, False),
    "decode, 32 at once": (32, False, False),
    "steered, 32 at once": (32, True, False),
    "mixed lengths, 32 at once": (32, False, True),
}
RESOLVED = 0.01
GENERATED, PREFILL = 32, "prefill, 256 tokens"
OURS, AGAIN, LLAMA, TRANSFORMERS = "mistralrs-steered", "mistralrs-steered, again", "llama.cpp's server", "transformers"
BEGIN, END = "<!-- cargo xtask bench peers -->", "<!-- end -->"


def prompt(seed, length):
    """Words, as ids of tokens."""
    state, tokens = seed, []
    for _ in range(length):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        tokens.append(1000 + (state >> 33) % 2**32 % 10_000)
    return tokens


def asked(work, turn):
    """The prompts of one round, and the number of tokens of each answer."""
    if work == PREFILL:
        return [prompt(turn, 256)], 1
    count, _, mixed = WORK[work]
    return [prompt(1000 * (turn + 1) + index, 6 + index if mixed else 16) for index in range(count)], GENERATED


def measure(engines, work, rounds, most):
    """Tokens per second of each engine in each round, after one that warms up."""
    speeds = {engine.name: [] for engine in engines}
    steered = work in WORK and WORK[work][1]
    for turn in range(most + 1):
        if turn > rounds and unresolved(speeds) <= RESOLVED:
            break
        prompts, tokens = asked(work, turn)
        # The order changes each time, so that none always follows the same other.
        for engine in engines[turn % len(engines):] + engines[: turn % len(engines)]:
            engine.steer(steered)
            engine.prepare(len(prompts), max(map(len, prompts)), tokens)
            start = time.perf_counter()
            answers = engine.generate(prompts, tokens)
            seconds = time.perf_counter() - start
            made = sum(len(answer) if isinstance(answer, list) else answer for answer in answers)
            assert made > 0, (engine.name, answers)
            if turn > 0:
                # An answer that ends early counts with its actual length.
                speeds[engine.name].append((sum(map(len, prompts)) if work == PREFILL else made) / seconds)
        print(".", end="", file=sys.stderr, flush=True)
    print(f" {work}", file=sys.stderr)
    return speeds


def ratios(of, to):
    return [a / b for a, b in zip(of, to)]


def interval(values):
    """The 95% interval of the mean of the ratios' logarithms, as ratios (Student's t; normal beyond 30 rounds)."""
    table = [12.71, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110,
             2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045]
    logs = [math.log(value) for value in values]
    t = table[len(logs) - 2] if len(logs) - 2 < len(table) else 1.96
    half = t * statistics.stdev(logs) / math.sqrt(len(logs))
    return math.exp(statistics.mean(logs) - half), math.exp(statistics.mean(logs) + half)


def unresolved(speeds):
    """The largest distance from 1 of the 95% interval of ours against itself."""
    low, high = interval(ratios(speeds[AGAIN], speeds[OURS]))
    return max(high - 1, 1 - low)


def make_gguf(llama, model, work, form):
    """The model as GGUF in float32, or quantised from that."""
    full = work / "f32" / "model-f32.gguf"
    if not full.exists():
        full.parent.mkdir()
        command = [sys.executable, llama / "convert_hf_to_gguf.py", model, "--outtype", "f32", "--outfile", full]
        subprocess.run(command, check=True, capture_output=True)
    if form == "f32":
        return full
    path = work / form / f"model-{form}.gguf"
    path.parent.mkdir()
    subprocess.run([llama / "llama-quantize", full, path, form], check=True, capture_output=True)
    return path


def engines_for(form, options, work):
    gguf = make_gguf(options.llama, options.model, work, form)
    ours = None if form == "f32" else gguf
    yield lambda: OurServer(OURS, options.steermap, options.model, work / form, ours)
    yield lambda: OurServer(AGAIN, options.steermap, options.model, work / form, ours)
    yield lambda: LlamaServer(LLAMA, options.llama / "llama-server", gguf, work)
    if form == "f32":
        yield lambda: Transformers(options.model)


def processor():
    names = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    flags = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    best = next((name for name in ("avx512f", "avx2", "avx") if name in flags.split()), "no AVX")
    return f"{len(names)} cores of {names[0]} ({best})"


def table(report):
    """The results, as Markdown."""
    lines = ["| work | ours, tokens/s | beside llama.cpp's server | beside transformers | rounds | ours against itself |",
             "| --- | --- | --- | --- | --- | --- |"]
    for row in report["rows"]:
        def beside(name):
            if name not in row["speeds"]:
                return ""
            of = ratios(row["speeds"][OURS], row["speeds"][name])
            low, middle, high = statistics.quantiles(of, n=4)
            return f"{statistics.median(row['speeds'][name]):.1f}: **{middle:.2f}** ({low:.2f} to {high:.2f})"

        speed = statistics.median(row["speeds"][OURS])
        null = f"{len(row['speeds'][OURS])} | within {unresolved(row['speeds']):.1%}"
        lines.append(f"| {row['format']}, {row['work']} | {speed:.1f} | {beside(LLAMA)} | {beside(TRANSFORMERS)} | {null} |")
    low, high = interval([ratio for row in report["rows"] for ratio in ratios(row["speeds"][AGAIN], row["speeds"][OURS])])
    lines += ["", "Beside another engine stand its tokens/s and the ratio of ours to it in the same round: median and quartiles. A "
              "ratio that is nearer to 1 than ours against itself (the 95% interval of the mean over rounds) is not resolved. Rounds "
              f"were added until that was within {RESOLVED:.0%} or there were enough; over all rows together it is {low:.3f} to {high:.3f}.", "",
              f"{report['processor']}; {'; '.join(report['versions'])}."]
    return "\n".join(lines)


def write(path, text):
    """Puts the table between its marks in a page."""
    page = path.read_text()
    before, rest = page.split(BEGIN)
    _, after = rest.split(END, 1)
    path.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, default=Path("models/smollm2-135m"))
    parser.add_argument("--steermap", type=Path, default=Path("target/release"))
    parser.add_argument("--llama", type=Path, required=True)
    parser.add_argument("--formats", nargs="+", default=["f32", "q8_0", "q4_k_m"])
    parser.add_argument("--only", nargs="+", help="words of the work to measure; absent: all")
    parser.add_argument("--rounds", type=int, default=5, help="at least so many")
    parser.add_argument("--most-rounds", type=int, default=15)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--write", type=Path, help="the page that has the table")
    options = parser.parse_args()
    if options.rounds < 2:
        parser.error("--rounds: at least 2, for quartiles")
    if options.most_rounds < options.rounds:
        parser.error("--most-rounds: at least --rounds")
    works = [work for work in [*WORK, PREFILL] if not options.only or any(word in work for word in options.only)]
    if not works:
        parser.error(f"--only: no work has these words; there are: {', '.join([*WORK, PREFILL])}")
    rows, versions = [], []
    with tempfile.TemporaryDirectory() as folder:
        for form in options.formats:
            engines = []
            try:
                for make in engines_for(form, options, Path(folder)):
                    engines.append(make())
                versions = list(dict.fromkeys([*versions, *(engine.version for engine in engines)]))
                for work in works:
                    if form != "f32" and (work == PREFILL or "decode" not in work):
                        continue
                    rows.append({"format": form, "work": work, "speeds": measure(engines, work, options.rounds, options.most_rounds)})
            finally:
                for engine in engines:
                    engine.close()
    report = {"processor": processor(), "system": platform.platform(), "versions": versions, "rows": rows}
    text = table(report)
    print(text)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")
    if options.write:
        write(options.write, text)


if __name__ == "__main__":
    main()
