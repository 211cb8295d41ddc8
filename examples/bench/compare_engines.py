"""The engines that serve_compare.py compares, each behind the same four methods.

`steer(on)` switches the vector on or off, `prepare(sequences, tokens)` makes ready what need not be measured,
`generate(prompts, tokens)` answers all prompts at once, greedily, and `close()` ends it. Prompts are lists of token ids; so
are the answers, or their numbers of tokens where that is all an engine tells.
"""

import ctypes
import json
import re
import subprocess
from pathlib import Path

import numpy
from http_server import HttpServer, free_port
from llama_gguf import model_sizes, write_control_vector, write_model

PROMPT, BANNED, THREADS, SCALE = 16, (0, 1, 2), 2, 1e-3


def vectors(layers, hidden):
    """One direction of norm SCALE per layer."""
    directions = numpy.random.default_rng(0).uniform(-1, 1, (layers, hidden)).astype(numpy.float32)
    return SCALE * directions / numpy.linalg.norm(directions, axis=1, keepdims=True)


def control_vector(layers, hidden):
    """The same by layer, without layer 0, for which llama.cpp has none."""
    return dict(list(enumerate(vectors(layers, hidden)))[1:])


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

    def prepare(self, sequences, tokens):
        pass

    def generate(self, prompts, tokens):
        ids = self.torch.tensor(prompts)
        with self.torch.inference_mode():
            answer = self.model.generate(ids, attention_mask=self.torch.ones_like(ids), do_sample=False, max_new_tokens=tokens,
                                         min_new_tokens=tokens, suppress_tokens=list(BANNED), pad_token_id=2)
        return answer[:, PROMPT:].tolist()

    def close(self):
        pass


class LibLlama:
    name = "libllama in process, control vector"

    def __init__(self, folder, work):
        import llama_cpp

        self.api = llama_cpp.llama_cpp
        self.version = f"llama-cpp-python {llama_cpp.__version__}"
        path = work / "model-f32.gguf"
        self.layers, self.hidden, self.vocabulary = write_model(Path(folder), path)
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

    def close(self):
        pass


class LlamaServer:
    """llama.cpp's HTTP server. A control vector is a matter of its command line, so there are two: without and with it."""

    name = "llama.cpp's server, control vector"

    def __init__(self, binary, model, work):
        self.binary, self.model, self.vector = binary, model, work / "control-vector.gguf"
        architecture, self.layers, hidden = model_sizes(model)
        write_control_vector(self.vector, architecture, control_vector(self.layers, hidden))
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True)
        self.version = "llama.cpp " + " ".join((said.stdout + said.stderr).split("\n")[0].split())
        self.servers, self.started_for, self.on = {}, None, False

    def start(self, sequences, tokens, steered):
        port = free_port()
        # The cache in float32, as the others have it; every sequence has a place of its own.
        command = [self.binary, "--model", self.model, "--host", "127.0.0.1", "--port", port, "--parallel", sequences,
                   "--ctx-size", sequences * 256, "--batch-size", 2048, "--ubatch-size", max(512, sequences * PROMPT),
                   "--threads", THREADS, "--threads-batch", THREADS, "--cache-type-k", "f32", "--cache-type-v", "f32",
                   "--cache-ram", 0, "--no-cache-prompt", "--no-kv-unified", "--no-ui"]
        if steered:
            command += ["--control-vector-scaled", f"{self.vector}:1.0", "--control-vector-layer-range", 1, self.layers - 1]
        return HttpServer(command, port)

    def steer(self, on):
        self.on = on

    def prepare(self, sequences, tokens):
        if self.started_for != (sequences, tokens):
            self.close()
            self.servers = {steered: self.start(sequences, tokens, steered) for steered in (False, True)}
            self.started_for = (sequences, tokens)

    def generate(self, prompts, tokens):
        bodies = [{"prompt": prompt, "n_predict": tokens, "ignore_eos": True, "cache_prompt": False, "return_tokens": True,
                   "temperature": 0.0, "samplers": ["temperature"], "logit_bias": [[token, False] for token in BANNED]}
                  for prompt in prompts]
        answers = self.servers[self.on].post_at_once("/completion", bodies)
        assert all(answer["timings"]["prompt_n"] == PROMPT for answer in answers), answers[0]["timings"]
        return [answer["tokens"] for answer in answers]

    def close(self):
        for server in self.servers.values():
            server.close()
        self.servers, self.started_for = {}, None


class OurServer:
    """`mistralrs-steered` over HTTP, asked as llama.cpp's server is, the vector named in each request.

    It takes prompts as text, so those are of as many words as the others' have tokens, each word one token.
    """

    name = "mistralrs-steered over HTTP"

    def __init__(self, programs, folder, work):
        from tokenizers import Tokenizer

        self.tokenizer = Tokenizer.from_file(str(Path(folder) / "tokenizer.json"))
        words = {token: text for text, token in self.tokenizer.get_vocab().items() if re.fullmatch("Ġ[a-z]{3,}", text)}
        self.words = [text.replace("Ġ", " ") for token, text in sorted(words.items()) if 1000 <= token < 11_000]
        architecture, layers, hidden = folder_sizes(Path(folder))
        write_control_vector(work / "v.gguf", architecture, control_vector(layers, hidden))
        said = subprocess.run([programs / "mistralrs-steered", "--version"], capture_output=True, text=True, check=True)
        self.version, self.model, self.on = said.stdout.strip(), str(Path(folder).resolve()), False
        port = free_port()
        (work / "serve.toml").write_text(
            f'command = "serve"\n[server]\nhost = "127.0.0.1"\nport = {port}\n[runtime]\nmax_seqs = 64\nprefix_cache_n = 0\n'
            f'[[models]]\nkind = "text"\nmodel_id = "{self.model}"\ndtype = "f32"\n[models.device]\ncpu = true\n'
            f'[steering.vectors]\nv = "v.gguf"\n')
        self.server = HttpServer([programs / "mistralrs-steered", "serve", "--config", work / "serve.toml"], port)

    def steer(self, on):
        self.on = on

    def prepare(self, sequences, tokens):
        pass

    def text(self, prompt):
        """As many words, chosen by the prompt's tokens."""
        text = "".join(self.words[token % len(self.words)] for token in prompt)
        assert len(self.tokenizer.encode(text).ids) == len(prompt), text
        return text

    def generate(self, prompts, tokens):
        # `normalize = false`: the directions have norm SCALE already.
        steering = {"vectors": [{"vector": "v", "scale": 1.0, "normalize": False}]} if self.on else {"mode": "off"}
        bodies = [{"model": self.model, "prompt": self.text(prompt), "max_tokens": tokens, "temperature": 0.0,
                   "steering": steering} for prompt in prompts]
        answers = self.server.post_at_once("/v1/completions", bodies)
        return [answer["usage"]["completion_tokens"] for answer in answers]

    def close(self):
        self.server.close()


def folder_sizes(folder):
    """Architecture, number of layers and hidden size of a model of the hub's layout."""
    config = json.loads((folder / "config.json").read_text())
    return config["model_type"], config["num_hidden_layers"], config["hidden_size"]
