"""The same greedy workload on transformers with forward hooks and on llama.cpp with a control vector.

Usage:
    serve_compare.py --model models/smollm2-135m [--ours serve.json] [--json out.json]

Each engine goes on from the same prompts (16 tokens each, those of examples/bench/model.rs) with as many tokens each, no
special token among them, in float32 on two threads, with 1, 8 and 32 sequences at once, unsteered and with one small vector
added after every block. `--ours` is what `cargo xtask bench serve -- --json FILE` wrote on the same machine. An engine
whose package is missing is left out and named. llama.cpp reads the model as GGUF in float32, which is made next to `--json`
or in a temporary folder, from the same weights.
"""

import argparse
import ctypes
import json
import statistics
import tempfile
import time
from pathlib import Path

import numpy

PROMPT, BANNED, THREADS, SCALE = 16, (0, 1, 2), 2, 1e-3


def prompt(seed):
    """The prompts of examples/bench/model.rs."""
    state, tokens = seed, []
    for _ in range(PROMPT):
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        tokens.append(1000 + (state >> 33) % 2**32 % 10_000)
    return tokens


def vectors(layers, hidden):
    """One direction of norm SCALE per layer."""
    directions = numpy.random.default_rng(0).uniform(-1, 1, (layers, hidden)).astype(numpy.float32)
    return SCALE * directions / numpy.linalg.norm(directions, axis=1, keepdims=True)


class Transformers:
    name = "transformers, forward hooks"

    def __init__(self, folder):
        import torch
        import transformers

        torch.set_num_threads(THREADS)
        self.torch = torch
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        self.version = f"transformers {transformers.__version__}, torch {torch.__version__}"
        self.hooks = []

    def steer(self, on):
        for hook in self.hooks:
            hook.remove()
        self.hooks = []
        blocks = self.model.model.layers
        for block, vector in zip(blocks, vectors(len(blocks), self.model.config.hidden_size)):
            vector = self.torch.from_numpy(vector)

            def hook(_module, _inputs, output, vector=vector):
                return (output[0] + vector, *output[1:]) if isinstance(output, tuple) else output + vector

            if on:
                self.hooks.append(block.register_forward_hook(hook))

    def generate(self, prompts, tokens):
        ids = self.torch.tensor(prompts)
        with self.torch.inference_mode():
            answer = self.model.generate(ids, attention_mask=self.torch.ones_like(ids), do_sample=False, max_new_tokens=tokens,
                                         min_new_tokens=tokens, suppress_tokens=list(BANNED), pad_token_id=2)
        return answer[:, PROMPT:].tolist()


class LlamaCpp:
    name = "llama.cpp, control vector"

    def __init__(self, folder, work):
        import llama_cpp

        self.api = llama_cpp.llama_cpp
        self.version = f"llama-cpp-python {llama_cpp.__version__}"
        path = work / "model-f32.gguf"
        self.layers, self.hidden, self.vocabulary = write_gguf(Path(folder), path)
        quiet = self.api.llama_log_callback(lambda _level, _text, _data: None)
        self.quiet = quiet  # the library keeps a pointer to it
        self.api.llama_log_set(quiet, None)
        self.api.llama_backend_init()
        self.model = self.api.llama_model_load_from_file(str(path).encode(), self.api.llama_model_default_params())
        assert self.model, path
        self.on = False

    def steer(self, on):
        self.on = on

    def context(self, sequences, tokens):
        parameters = self.api.llama_context_default_params()
        parameters.n_ctx = sequences * (PROMPT + tokens + 16)
        parameters.n_batch = parameters.n_ubatch = max(512, sequences * PROMPT)
        parameters.n_seq_max = sequences
        parameters.n_threads = parameters.n_threads_batch = THREADS
        # The cache in float32, as the others have it.
        parameters.type_k = parameters.type_v = 0
        context = self.api.llama_init_from_model(self.model, parameters)
        assert context
        if self.on:
            # The library has no direction for block 0, and adds `direction.l` after block l.
            data = numpy.ascontiguousarray(vectors(self.layers, self.hidden)[1:])
            pointer = data.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
            apply = getattr(self.api, "llama_set_adapter_cvec", None) or self.api.llama_apply_adapter_cvec
            assert apply(context, pointer, data.size, self.hidden, 1, self.layers - 1) == 0
        return context

    def prepare(self, sequences, tokens):
        """Contexts are made beforehand: the others keep their model ready too."""
        self.ready = self.context(sequences, tokens)

    def generate(self, prompts, tokens):
        context, api = self.ready, self.api
        batch = api.llama_batch_init(len(prompts) * PROMPT, 0, len(prompts))

        def decode(rows):
            """Runs (token, position, sequence, whether its logits are wanted)."""
            batch.n_tokens = len(rows)
            for row, (token, position, sequence, wanted) in enumerate(rows):
                batch.token[row], batch.pos[row], batch.logits[row] = token, position, wanted
                batch.n_seq_id[row], batch.seq_id[row][0] = 1, sequence
            assert api.llama_decode(context, batch) == 0

        def best(row):
            logits = numpy.ctypeslib.as_array(api.llama_get_logits_ith(context, row), (self.vocabulary,))
            logits[list(BANNED)] = -numpy.inf
            return int(logits.argmax())

        rows = [(token, position, sequence, position == PROMPT - 1)
                for sequence, tokens_of in enumerate(prompts) for position, token in enumerate(tokens_of)]
        decode(rows)
        last = [best(PROMPT * (sequence + 1) - 1) for sequence in range(len(prompts))]
        answers = [[token] for token in last]
        for position in range(PROMPT, PROMPT + tokens - 1):
            decode([(token, position, sequence, True) for sequence, token in enumerate(last)])
            last = [best(sequence) for sequence in range(len(prompts))]
            for answer, token in zip(answers, last):
                answer.append(token)
        api.llama_batch_free(batch)
        api.llama_free(context)
        return answers


def write_gguf(folder, path):
    """Writes a Llama of the hub's layout as GGUF in float32, without a vocabulary: only token ids go in and out."""
    import gguf
    from safetensors.numpy import load_file

    config = json.loads((folder / "config.json").read_text())
    layers, hidden, heads = config["num_hidden_layers"], config["hidden_size"], config["num_attention_heads"]
    grouped = config["num_key_value_heads"]
    weights = load_file(folder / "model.safetensors") if not is_bf16(folder) else load_bf16(folder)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(grouped)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_rope_freq_base(config.get("rope_theta") or config["rope_parameters"]["rope_theta"])
    writer.add_rope_dimension_count(hidden // heads)
    writer.add_vocab_size(config["vocab_size"])
    writer.add_tokenizer_model("none")
    writer.add_file_type(0)

    def interleaved(matrix, count):
        """Rows in the order in which llama.cpp turns them: pairs side by side instead of in two halves."""
        rows, columns = matrix.shape
        return matrix.reshape(count, 2, rows // count // 2, columns).swapaxes(1, 2).reshape(rows, columns)

    names = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
             "self_attn.o_proj": "attn_output", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
             "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm"}

    def add(name, tensor):
        writer.add_tensor(name, numpy.ascontiguousarray(tensor, dtype=numpy.float32))

    add("token_embd.weight", weights["model.embed_tokens.weight"])
    add("output_norm.weight", weights["model.norm.weight"])
    if not config.get("tie_word_embeddings"):
        add("output.weight", weights["lm_head.weight"])
    for layer in range(layers):
        for theirs, ours in names.items():
            tensor = weights[f"model.layers.{layer}.{theirs}.weight"]
            if ours in ("attn_q", "attn_k"):
                tensor = interleaved(tensor, heads if ours == "attn_q" else grouped)
            add(f"blk.{layer}.{ours}.weight", tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return layers, hidden, config["vocab_size"]


def is_bf16(folder):
    with open(folder / "model.safetensors", "rb") as file:
        return b'"BF16"' in file.read(int.from_bytes(file.read(8), "little"))


def load_bf16(folder):
    from safetensors.torch import load_file

    return {name: tensor.float().numpy() for name, tensor in load_file(folder / "model.safetensors").items()}


def measure(engines, at_once, tokens, rounds):
    """Tokens per second of each engine, unsteered and steered, in turns; and its first answer, to compare."""
    speeds, answers = {}, {}
    for count in at_once:
        for turn in range(rounds + 1):
            prompts = [prompt(1000 * (turn + 1) + index) for index in range(count)]
            for engine in engines:
                for steered in (False, True):
                    engine.steer(steered)
                    if hasattr(engine, "prepare"):
                        engine.prepare(count, tokens)
                    start = time.perf_counter()
                    answer = engine.generate(prompts, tokens)
                    seconds = time.perf_counter() - start
                    assert all(len(one) == tokens for one in answer)
                    if not steered:
                        answers.setdefault((count, turn), {})[engine.name] = answer
                    # The first turn warms up.
                    if turn > 0:
                        speeds.setdefault((engine.name, count, steered), []).append(count * tokens / seconds)
    return speeds, answers


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="models/smollm2-135m")
    parser.add_argument("--at-once", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ours", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        engines = []
        for make in (lambda: Transformers(options.model), lambda: LlamaCpp(options.model, Path(folder))):
            try:
                engines.append(make())
            except ImportError as error:
                print(f"left out: {error}")
        speeds, answers = measure(engines, options.at_once, options.tokens, options.rounds)
    report = [{"engine": name, "at_once": count, "steered": steered, "tokens_per_second": statistics.median(values),
               "all": values} for (name, count, steered), values in speeds.items()]
    if options.ours:
        for row in json.loads(options.ours.read_text()):
            steered = {"all steered alike": True, "plugin idle": False}.get(row["mode"])
            if steered is not None and row["at_once"] in options.at_once:
                report.append({"engine": "mistralrs-steered", "at_once": row["at_once"], "steered": steered,
                               "tokens_per_second": row["tokens_per_second"]})
    for engine in engines:
        print(f"{engine.name}: {engine.version}")
    print(f"\n{'tokens/s, median':<32}" + "".join(f"{f'{count} at once':>24}" for count in options.at_once))
    print(f"{'':<32}" + "".join(f"{'unsteered':>13}{'steered':>11}" for _ in options.at_once))
    for name in dict.fromkeys(row["engine"] for row in report):
        cells = ""
        for count in options.at_once:
            for steered, width in ((False, 13), (True, 11)):
                found = [row["tokens_per_second"] for row in report
                         if (row["engine"], row["at_once"], row["steered"]) == (name, count, steered)]
                cells += f"{found[0]:>{width}.1f}" if found else f"{'-':>{width}}"
        print(f"{name:<32}{cells}")
    if len(engines) == 2:
        pairs = [(a, b) for both in answers.values() for a, b in zip(*both.values())]
        same = sum(a == b for a, b in pairs)
        print(f"\nunsteered greedy answers that the two agree on: {same} of {len(pairs)}")
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
