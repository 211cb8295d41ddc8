"""The engines that peers.py compares, with the same methods.

`steer(on)` switches the vector on or off, `prepare(sequences, longest, tokens)` makes ready what need not be measured,
`generate(prompts, tokens)` answers all prompts at once, greedily, and `close()` ends it. Prompts are lists of token ids; so
are the answers, or their numbers of tokens where that is all an engine tells.
"""

import json
import re
import subprocess
from pathlib import Path

import numpy
from http_server import HttpServer, free_port
from llama_gguf import model_sizes, write_control_vector

BANNED, THREADS, SCALE = (0, 1, 2), 2, 1e-3


def vectors(layers, hidden):
    """One direction of norm SCALE per layer."""
    directions = numpy.random.default_rng(0).uniform(-1, 1, (layers, hidden)).astype(numpy.float32)
    return SCALE * directions / numpy.linalg.norm(directions, axis=1, keepdims=True)


def control_vector(layers, hidden):
    """The same by layer, without layer 0, for which llama.cpp has none."""
    return dict(list(enumerate(vectors(layers, hidden)))[1:])


class Transformers:
    name = "transformers"

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

    def prepare(self, sequences, longest, tokens):
        pass

    def generate(self, prompts, tokens):
        longest = max(map(len, prompts))
        ids = self.torch.tensor([[2] * (longest - len(prompt)) + prompt for prompt in prompts])
        mask = self.torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        with self.torch.inference_mode():
            answer = self.model.generate(ids, attention_mask=mask, do_sample=False, max_new_tokens=tokens,
                                         min_new_tokens=tokens, suppress_tokens=list(BANNED), pad_token_id=2)
        return answer[:, longest:].tolist()

    def close(self):
        pass


class LlamaServer:
    """llama.cpp's HTTP server. Its command line sets the control vector, so there are two servers: without and with it."""

    def __init__(self, name, binary, model, work, cache="f16"):
        self.name, self.binary, self.model, self.vector = name, binary, model, work / "control-vector.gguf"
        self.cache = cache
        architecture, self.layers, hidden = model_sizes(model)
        write_control_vector(self.vector, architecture, control_vector(self.layers, hidden))
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True)
        self.version = "llama.cpp " + " ".join((said.stdout + said.stderr).split("\n")[0].split())
        self.servers, self.started_for, self.on = {}, None, False

    def start(self, sequences, longest, tokens, steered):
        port = free_port()
        context = (longest + tokens + 63) // 64 * 64
        # llama.cpp's cache is in float16 by default; in float32 it is half as fast at 8 sequences. Every sequence has
        # its own slot.
        command = [self.binary, "--model", self.model, "--host", "127.0.0.1", "--port", port, "--parallel", sequences,
                   "--ctx-size", sequences * context, "--batch-size", 2048, "--ubatch-size", 2048,
                   "--threads", THREADS, "--threads-batch", THREADS, "--cache-ram", 0, "--no-cache-prompt",
                   "--cache-type-k", self.cache, "--cache-type-v", self.cache, "--no-kv-unified", "--no-ui"]
        if steered:
            command += ["--control-vector-scaled", f"{self.vector}:1.0", "--control-vector-layer-range", 1, self.layers - 1]
        return HttpServer(command, port)

    def steer(self, on):
        self.on = on

    def prepare(self, sequences, longest, tokens):
        if self.started_for != (sequences, longest, tokens):
            self.close()
            self.started_for = (sequences, longest, tokens)
        if self.on not in self.servers:
            self.servers[self.on] = self.start(sequences, longest, tokens, self.on)

    def generate(self, prompts, tokens):
        bodies = [{"prompt": prompt, "n_predict": tokens, "ignore_eos": True, "cache_prompt": False, "return_tokens": True,
                   "temperature": 0.0, "samplers": ["temperature"], "logit_bias": [[token, False] for token in BANNED]}
                  for prompt in prompts]
        answers = self.servers[self.on].post_at_once("/completion", bodies)
        read = [answer["timings"]["prompt_n"] for answer in answers]
        assert read == [len(prompt) for prompt in prompts], read
        return [answer["tokens"] for answer in answers]

    def close(self):
        for server in self.servers.values():
            server.close()
        self.servers, self.started_for = {}, None


class OurServer:
    """`mistralrs-steered` over HTTP, with the same requests as llama.cpp's server plus the vector's name.

    It takes prompts as text, so those are of as many words as the others' have tokens, each word one token.
    """

    def __init__(self, name, programs, folder, work, gguf=None):
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
        words = {token: text for text, token in self.tokenizer.get_vocab().items() if re.fullmatch("Ġ[a-z]{3,}", text)}
        self.words = [text.replace("Ġ", " ") for token, text in sorted(words.items()) if 1000 <= token < 11_000]
        architecture, layers, hidden = folder_sizes(Path(folder))
        work = Path(work, name.replace(" ", "-"))
        work.mkdir()
        write_control_vector(work / "v.gguf", architecture, control_vector(layers, hidden))
        said = subprocess.run([programs / "mistralrs-steered", "--version"], capture_output=True, text=True, check=True)
        self.name, self.version, self.on = name, said.stdout.strip(), False
        folder = str(Path(folder).resolve())
        if gguf:
            gguf = Path(gguf).resolve()
            source = (f'model_id = "{gguf.parent}"\n[models.format]\nformat = "gguf"\nquantized_file = "{gguf.name}"\n'
                      f'tok_model_id = "{folder}"\n')
        else:
            source = f'model_id = "{folder}"\ndtype = "f32"\n'
        port = free_port()
        (work / "serve.toml").write_text(
            f'command = "serve"\n[server]\nhost = "127.0.0.1"\nport = {port}\n[runtime]\nmax_seqs = 64\nprefix_cache_n = 0\n'
            f'[[models]]\nkind = "text"\n{source}[models.device]\ncpu = true\n'
            f'[steering.vectors]\nv = "v.gguf"\n')
        self.server = HttpServer([programs / "mistralrs-steered", "serve", "--config", work / "serve.toml"], port)

    def steer(self, on):
        self.on = on

    def prepare(self, sequences, longest, tokens):
        pass

    def text(self, prompt):
        """As many words, chosen by the prompt's tokens."""
        text = "".join(self.words[token % len(self.words)] for token in prompt)
        assert len(self.tokenizer.encode(text).ids) == len(prompt), text
        return text

    def generate(self, prompts, tokens):
        # `normalize = false`: the directions have norm SCALE already.
        steering = {"vectors": [{"vector": "v", "scale": 1.0, "normalize": False}]} if self.on else {"mode": "off"}
        bodies = [{"model": "default", "prompt": self.text(prompt), "max_tokens": tokens, "temperature": 0.0,
                   "steering": steering} for prompt in prompts]
        answers = self.server.post_at_once("/v1/completions", bodies)
        return [answer["usage"]["completion_tokens"] for answer in answers]

    def close(self):
        self.server.close()


def folder_sizes(folder):
    """Architecture, number of layers and hidden size of a model of the hub's layout."""
    config = json.loads((folder / "config.json").read_text())
    return config["model_type"], config["num_hidden_layers"], config["hidden_size"]
