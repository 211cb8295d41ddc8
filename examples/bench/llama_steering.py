"""Checks that llama.cpp, with files by `mapper convert`, steers as transformers does with the same vectors added by hooks.

Usage:
    llama_steering.py --llama-server PATH --gguf FILE [--model models/smollm2-135m] [--steermap target/release]
                      [--vector happy.toml] [--json out.json]

`--gguf` is the model in F32, as convert_hf_to_gguf.py of llama.cpp writes it (`--outtype f32`). The vector is one that
`mapper vector` found, or, without `--vector`, the mean difference of the last token's states over the first pairs of
examples/concepts/happy-sad.jsonl, which transformers computes and `mapper convert` takes in from GGUF. Either is converted by
`mapper convert`, and llama-server adds it (`--control-vector-scaled`). Compared is what it changes in the hidden states after
the last norm, which the server gives as embeddings, one for each token of each prompt: the cosine of llama.cpp's change with
that of transformers, over all of a prompt's tokens together, and token by token; and the lengths' ratio. It must be above
0.99. So that the comparison is known to see a vector in the wrong place, transformers adds it one block too early and too
late as well. Needs torch, transformers, safetensors and gguf.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import numpy
import torch
import transformers
from http_server import HttpServer, free_port
from llama_gguf import write_control_vector

PAIRS = Path(__file__).parent.parent / "concepts" / "happy-sad.jsonl"
PAIRS_USED = 16
LEAST = 0.99
PROMPTS = (
    "The weather report for tomorrow says that",
    "How was your day?",
    "She opened the letter, read it twice, and put it back into its envelope.",
    "In 1969, three men flew to the Moon and",
    "def mean(values):\n    return sum(values) /",
    "My neighbour's dog barks whenever the postman comes, and yesterday it",
    "Water boils at 100 degrees Celsius at sea level; on a mountain",
    "They had been driving for nine hours through the rain when the engine",
)


class Transformers:
    """The reference, in float32."""

    def __init__(self, folder):
        torch.set_num_threads(1)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.architecture, self.body = model.config.model_type, model.model

    def states(self, ids, added=None):
        """States after the last norm, [tokens, hidden], with `added` (by layer) added after those blocks."""
        hooks = []
        for layer, values in (added or {}).items():
            vector = torch.from_numpy(values)

            def hook(_module, _inputs, output, vector=vector):
                return (output[0] + vector, *output[1:]) if isinstance(output, tuple) else output + vector

            hooks.append(self.body.layers[layer].register_forward_hook(hook))
        with torch.inference_mode():
            states = self.body(torch.tensor([ids])).last_hidden_state[0].numpy()
        for hook in hooks:
            hook.remove()
        return states

    def mean_difference(self):
        """Of the last token's states after each block but the first, positive less negative text."""
        pairs = [json.loads(line) for line in PAIRS.read_text().splitlines()]
        # The others are chats.
        pairs = [pair for pair in pairs if isinstance(pair["positive"], str)][:PAIRS_USED]

        def last(text):
            with torch.inference_mode():
                out = self.body(torch.tensor([self.tokenizer.encode(text)]), output_hidden_states=True)
            # The last of the hidden states is after the norm, so the last block gets the direction of the one before
            # it.
            states = [state[0, -1].numpy() for state in out.hidden_states[1:-1]]
            return numpy.stack([*states, states[-1]])

        means = numpy.mean([last(pair["positive"]) - last(pair["negative"]) for pair in pairs], axis=0, dtype=numpy.float32)
        return {layer: means[layer] for layer in range(1, len(means))}


def llama_states(options, prompts, vector=None, scale=1.0, layers=None):
    """The same of llama.cpp for each prompt: `scale` times the directions of `vector`, at `layers` (first and last)."""
    port = free_port()
    command = [options.llama_server, "--model", options.gguf, "--host", "127.0.0.1", "--port", port, "--parallel", 1,
               "--ctx-size", 512, "--threads", 1, "--threads-batch", 1, "--cache-type-k", "f32", "--cache-type-v", "f32",
               "--embeddings", "--pooling", "none", "--no-ui"]
    if vector:
        command += ["--control-vector-scaled", f"{vector}:{scale}"]
    if layers:
        command += ["--control-vector-layer-range", *layers]
    with HttpServer(command, port) as server:
        answers = [server.post("/embedding", {"content": ids}) for ids in prompts]
    states = [numpy.array(answer[0]["embedding"], dtype=numpy.float64) for answer in answers]
    assert all(len(state) == len(ids) for state, ids in zip(states, prompts)), [state.shape for state in states]
    return states


def convert(options, *arguments):
    command = [options.steermap / "mapper", "convert", *arguments]
    subprocess.run([str(part) for part in command], check=True, capture_output=True)


def directions_of(toml):
    """The directions of a vector file, by layer, without layer 0."""
    from safetensors.numpy import load_file

    table = tomllib.loads(toml.read_text())
    tensors = load_file(toml.parent / table["weights"]["file"])
    directions = {layer["layer"]: tensors[layer["tensor"]] for layer in table["layer"]}
    directions.pop(0, None)
    return directions


def cosines(found, expected):
    """Of rows, and of all together."""
    rows = (found * expected).sum(1) / (numpy.linalg.norm(found, axis=1) * numpy.linalg.norm(expected, axis=1))
    return rows, float((found * expected).sum() / (numpy.linalg.norm(found) * numpy.linalg.norm(expected)))


def compare(found, expected):
    """The reported figures of the changes in the states, over prompts."""
    both = [cosines(a, b) for a, b in zip(found, expected)]
    lengths = [float(numpy.linalg.norm(a) / numpy.linalg.norm(b)) for a, b in zip(found, expected)]
    return {"cosine_mean": float(numpy.mean([whole for _, whole in both])), "cosine_least": min(whole for _, whole in both),
            "token_cosine_least": float(min(rows.min() for rows, _ in both)), "length_ratios": [min(lengths), max(lengths)]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llama-server", type=Path, required=True)
    parser.add_argument("--gguf", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=Path("models/smollm2-135m"))
    parser.add_argument("--steermap", type=Path, default=Path("target/release"))
    parser.add_argument("--vector", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    reference = Transformers(options.model)
    prompts = [reference.tokenizer.encode(text) for text in PROMPTS]

    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        if not options.vector:
            write_control_vector(work / "found.gguf", reference.architecture, reference.mean_difference())
            options.vector = work / "found.toml"
            convert(options, work / "found.gguf", options.vector, "--model", options.model)
        directions = directions_of(options.vector)
        convert(options, options.vector, work / "raw.gguf", "--model", options.model)
        convert(options, options.vector, work / "unit.gguf", "--model", options.model, "--normalize", "--scale", "20")
        norms = {layer: numpy.linalg.norm(values.astype(numpy.float64)) for layer, values in directions.items()}
        unit = {layer: (20 * values / norms[layer]).astype(numpy.float32) for layer, values in directions.items()}
        mid = sorted(directions)[len(directions) // 2]
        some = [layer for layer in directions if abs(layer - mid) <= 5]
        everywhere = sorted(directions)
        cases = [
            (f"layer {mid}, as it is", "raw", 1.0, directions, [mid]),
            (f"layers {some[0]} to {some[-1]}, as they are", "raw", 1.0, directions, some),
            ("all layers but 0, as they are", "raw", 1.0, directions, everywhere),
            (f"layer {mid}, scale -2 given to llama.cpp", "raw", -2.0, directions, [mid]),
            (f"layer {mid}, --normalize --scale 20", "unit", 1.0, unit, [mid]),
        ]

        plain_theirs = llama_states(options, prompts)
        plain = [reference.states(ids).astype(numpy.float64) for ids in prompts]
        apart = max(numpy.linalg.norm(a - b) / numpy.linalg.norm(b) for a, b in zip(plain_theirs, plain))
        print(f"{options.model.name}, {len(prompts)} prompts, {sum(map(len, prompts))} tokens")
        print(f"unsteered states: relative difference {apart:.1e} at most\n")

        def change(added):
            return [reference.states(ids, added) - before for ids, before in zip(prompts, plain)]

        report = []
        print(f"{'cosine of the change':<42}{'mean':>11}{'least':>11}{'least of a token':>18}{'lengths, ratio':>20}")
        for name, file, scale, values, layers in cases:
            theirs = llama_states(options, prompts, work / f"{file}.gguf", scale, (layers[0], layers[-1]))
            theirs = [after - before for after, before in zip(theirs, plain_theirs)]
            ours = change({layer: numpy.float32(scale) * values[layer] for layer in layers})
            row = {"case": name, "relative_size": float(numpy.mean([numpy.linalg.norm(a) / numpy.linalg.norm(b)
                                                                  for a, b in zip(ours, plain)])), **compare(theirs, ours)}
            report.append(row)
            low, high = row["length_ratios"]
            print(f"{name:<42}{row['cosine_mean']:>11.6f}{row['cosine_least']:>11.6f}{row['token_cosine_least']:>18.6f}"
                  f"{low:>11.4f}-{high:.4f}")
            if len(layers) == 1 and file == "raw" and scale == 1.0:
                for moved in (-1, 1):
                    wrong = compare(theirs, change({mid + moved: values[mid]}))
                    report.append({"case": f"{name}; by transformers after block {mid + moved}", **wrong})
                    print(f"  (by transformers after block {mid + moved}:{wrong['cosine_mean']:>21.6f}"
                          f"{wrong['cosine_least']:>11.6f})")
    if options.json:
        options.json.write_text(json.dumps({"unsteered_relative_difference": apart, "cases": report}, indent=1) + "\n")
    worst = min(row["cosine_least"] for row in report if "by transformers" not in row["case"])
    print(f"\nleast cosine {worst:.6f}, expected more than {LEAST}")
    sys.exit(worst <= LEAST)


if __name__ == "__main__":
    main()
