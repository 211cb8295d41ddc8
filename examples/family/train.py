"""Trains the example family: two tokenizers and four Llama models on the text of `stories corpus`.

    cargo run --release --bin stories -- corpus --count 120000 --seed 1 > DATA/train.jsonl
    cargo run --release --bin stories -- corpus --count 4000 --seed 2 --labels > DATA/held.jsonl
    python train.py tokenizers --data DATA --work WORK
    python train.py model --name stories-260k --data DATA --work WORK --out examples/family

Made with Python 3, torch 2.8.0, tokenizers 0.23.3 and safetensors; seeded, but floating-point sums depend on the
machine and the number of threads, so another machine's weights agree in quality, not bit by bit.
A run continues from WORK/NAME.checkpoint.pt if that exists. Each story is one row: BOS (tokenizer A only), text, EOS.
"""

import argparse, json, math, os, time
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn

# name: tokenizer, width, layers, heads, key-value heads, feed-forward width, stories a step, steps, learning rate
SHAPES = {
    "stories-260k": dict(tokenizer="a", width=64, layers=4, heads=4, kv=2, ffn=176, batch=32, steps=1800, lr=2e-3),
    "stories-800k": dict(tokenizer="a", width=96, layers=6, heads=6, kv=6, ffn=256, batch=32, steps=1500, lr=2e-3),
    "stories-3m": dict(tokenizer="a", width=160, layers=8, heads=5, kv=5, ffn=448, batch=32, steps=800, lr=2e-3),
    "stories-400k-b": dict(tokenizer="b", width=80, layers=5, heads=5, kv=5, ffn=224, batch=32, steps=900, lr=2e-3),
}
VOCABULARY = {"a": 1186, "b": 640}
BOS, EOS, PAD = 0, 1, 2
SPECIAL = ["<s>", "</s>", "<pad>"]
THETA, EPS, CONTEXT = 10000.0, 1e-5, 512
CHAT = (
    "{% for message in messages %}{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}{% endif %}{% endfor %}"
    "{% endif %}{% if not loop.last %}{{ ' ' }}{% endif %}{% endfor %}"
)


def texts(path):
    with open(path) as lines:
        return [json.loads(line)["text"] for line in lines]


def train_tokenizers(args):
    """A: byte-level BPE in which nearly every word is one token, BOS first. B: BPE on metaspace with byte fallback."""
    corpus = texts(args.data / "train.jsonl")[:20000]
    a = Tokenizer(models.BPE())
    a.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    a.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    a.train_from_iterator(corpus, trainers.BpeTrainer(
        vocab_size=VOCABULARY["a"], special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False))
    a.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", BOS)])
    # B learns its merges first; the 256 byte tokens of the fallback are inserted after the special tokens.
    b = Tokenizer(models.BPE(unk_token=None))
    metaspace = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    b.pre_tokenizer = metaspace
    b.train_from_iterator(corpus, trainers.BpeTrainer(
        vocab_size=VOCABULARY["b"] - 256, special_tokens=SPECIAL, show_progress=False))
    learnt = json.loads(b.to_str())["model"]
    pieces = sorted(learnt["vocab"], key=learnt["vocab"].get)[len(SPECIAL):]
    order = SPECIAL + [f"<0x{byte:02X}>" for byte in range(256)] + pieces
    merges = [tuple(merge) for merge in learnt["merges"]]
    vocabulary = {piece: i for i, piece in enumerate(order)}
    b = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, byte_fallback=True, fuse_unk=True))
    b.pre_tokenizer = metaspace
    b.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(),
                                   decoders.Strip(" ", 1, 0)])
    b.add_special_tokens(SPECIAL)
    for name, tokenizer in (("a", a), ("b", b)):
        tokenizer.save(str(args.work / f"tokenizer-{name}.json"))
        ids = [tokenizer.encode(text).ids for text in corpus[:500]]
        words = sum(len(text.split()) for text in corpus[:500])
        print(f"tokenizer {name}: {tokenizer.get_vocab_size()} tokens, {sum(map(len, ids)) / words:.3f} tokens a word")


class Norm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), EPS)


class Block(nn.Module):
    def __init__(self, s):
        super().__init__()
        d, self.h, self.k = s["width"], s["heads"], s["kv"]
        self.hd = d // self.h
        self.input_layernorm, self.post_attention_layernorm = Norm(d), Norm(d)
        self.q_proj = nn.Linear(d, d, bias=False)
        self.k_proj = nn.Linear(d, self.k * self.hd, bias=False)
        self.v_proj = nn.Linear(d, self.k * self.hd, bias=False)
        self.o_proj = nn.Linear(d, d, bias=False)
        self.gate_proj = nn.Linear(d, s["ffn"], bias=False)
        self.up_proj = nn.Linear(d, s["ffn"], bias=False)
        self.down_proj = nn.Linear(s["ffn"], d, bias=False)

    def forward(self, x, cos, sin):
        b, t, d = x.shape
        y = self.input_layernorm(x)
        q = self.q_proj(y).view(b, t, self.h, self.hd).transpose(1, 2)
        k = self.k_proj(y).view(b, t, self.k, self.hd).transpose(1, 2)
        v = self.v_proj(y).view(b, t, self.k, self.hd).transpose(1, 2)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if self.k != self.h:
            k, v = (z.repeat_interleave(self.h // self.k, dim=1) for z in (k, v))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o_proj(y.transpose(1, 2).reshape(b, t, d))
        y = self.post_attention_layernorm(x)
        return x + self.down_proj(F.silu(self.gate_proj(y)) * self.up_proj(y))


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    turned = torch.cat((-x[..., half:], x[..., :half]), -1)
    return x * cos + turned * sin


class Llama(nn.Module):
    """The Llama architecture, with tied embeddings."""

    def __init__(self, s):
        super().__init__()
        self.embed_tokens = nn.Embedding(VOCABULARY[s["tokenizer"]], s["width"])
        self.layers = nn.ModuleList(Block(s) for _ in range(s["layers"]))
        self.norm = Norm(s["width"])
        hd = s["width"] // s["heads"]
        angles = torch.outer(torch.arange(CONTEXT).float(), THETA ** (-torch.arange(0, hd, 2).float() / hd))
        self.register_buffer("cos", torch.cat((angles, angles), -1).cos(), persistent=False)
        self.register_buffer("sin", torch.cat((angles, angles), -1).sin(), persistent=False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                std = 0.02 if "embed" in name else 1 / math.sqrt(p.shape[1])
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    std /= math.sqrt(2 * s["layers"])
                nn.init.normal_(p, std=std)

    def forward(self, ids):
        x = self.embed_tokens(ids)
        cos, sin = (z[: ids.shape[1]].to(x.dtype) for z in (self.cos, self.sin))
        for layer in self.layers:
            x = layer(x, cos, sin)
        return F.linear(self.norm(x), self.embed_tokens.weight)

    def hugging_face(self):
        """The weights by their Hugging Face names, in half precision."""
        place = {**{n: "self_attn." for n in ("q_proj", "k_proj", "v_proj", "o_proj")},
                 **{n: "mlp." for n in ("gate_proj", "up_proj", "down_proj")}}
        out = {}
        for name, p in self.state_dict().items():
            parts = name.split(".")
            if parts[0] == "layers":
                name = f"layers.{parts[1]}.{place.get(parts[2], '')}{parts[2]}.weight"
            out[f"model.{name}"] = p.half().contiguous()
        return out


def cooccurrence_embeddings(rows, vocabulary, width, rms, generator):
    """Initial embeddings: latent semantic analysis of the training text, in a random basis.

    Tokens are described by the tokens they share stories with, and by those right before and right after them
    (pointwise mutual information); the description is reduced to `width` dimensions. So words that are told together
    start near each other, which saves a small model most of the time it takes to find that out by gradient descent.
    """
    present, pairs = torch.zeros(len(rows), vocabulary), torch.zeros(vocabulary, vocabulary)
    for i, row in enumerate(rows):
        ids = torch.tensor(row)
        present[i, ids] = 1
        pairs.index_put_((ids[:-1], ids[1:]), torch.ones(len(row) - 1), accumulate=True)

    def information(counts, first, second, low, high):
        return (torch.log((counts + 1e-2) / (first[:, None] * second[None] / total + 1e-2))).clamp(low, high)

    total, often = len(rows), present.sum(0)
    together = information(present.T @ present, often, often, -1.0, 1.0)
    together.fill_diagonal_(0)
    total = pairs.sum()
    after = information(pairs, pairs.sum(1), pairs.sum(0), 0.0, 3.0)
    seen = (often > 0).float()[:, None]
    blocks = [block * seen / (block * seen).norm() for block in (together, after, after.T)]
    u, s, _ = torch.linalg.svd(torch.cat((2 * blocks[0], blocks[1], blocks[2]), 1), full_matrices=False)
    table = u[:, :width] * s[:width].sqrt()
    table = table + 0.1 * table.pow(2).mean().sqrt() * torch.randn(table.shape, generator=generator)
    basis = torch.linalg.qr(torch.randn(width, width, generator=generator))[0]
    table = F.normalize(table, dim=1) @ basis
    return table * rms * width**0.5


def newton_schulz(g):
    """Approximately nearest (semi-)orthogonal matrices: the step of the Muon optimizer."""
    x = g / (g.norm(dim=(1, 2), keepdim=True) + 1e-7)
    wide = x.shape[1] <= x.shape[2]
    x = x if wide else x.mT
    for _ in range(5):
        a = x @ x.mT
        x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
    return x if wide else x.mT


class Muon(torch.optim.Optimizer):
    """Momentum orthogonalised by Newton-Schulz, for the matrices of the blocks; those of one shape are a group."""

    def __init__(self, params, lr, momentum=0.95, weight_decay=0.1):
        shapes = {}
        for p in params:
            shapes.setdefault(p.shape, []).append(p)
        super().__init__([{"params": ps} for ps in shapes.values()],
                         dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            updates = []
            for p in group["params"]:
                buffer = self.state[p].setdefault("momentum", torch.zeros_like(p))
                buffer.lerp_(p.grad, 1 - group["momentum"])
                updates.append(p.grad.lerp(buffer, group["momentum"]))
            for p, update in zip(group["params"], newton_schulz(torch.stack(updates))):
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update, alpha=-group["lr"] * max(1, p.shape[0] / p.shape[1]) ** 0.5)


def batches(rows, size, generator):
    """Batches of stories of about the same length, in random order, endlessly."""
    while True:
        order = torch.randperm(len(rows), generator=generator).tolist()
        chunk = size * 50
        for start in range(0, len(order) - chunk + 1, chunk):
            part = sorted(order[start : start + chunk], key=lambda i: len(rows[i]))
            for k in torch.randperm(50, generator=generator).tolist():
                yield pad([rows[i] for i in part[k * size : (k + 1) * size]])


def pad(rows):
    length = max(map(len, rows))
    return torch.tensor([row + [PAD] * (length - len(row)) for row in rows])


def loss_of(model, ids, reduction="mean"):
    logits = model(ids[:, :-1]).float()
    return F.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), ignore_index=PAD, reduction=reduction)


@torch.no_grad()
def evaluate(model, rows):
    """Nats summed over all tokens but the first of each row, and the number of those tokens."""
    rows = sorted(rows, key=len)
    total = sum(loss_of(model, pad(rows[i : i + 64]), "sum").item() for i in range(0, len(rows), 64))
    return total, sum(len(row) - 1 for row in rows)


def write_folder(model, name, args):
    s, folder = SHAPES[name], args.out / name
    folder.mkdir(parents=True, exist_ok=True)
    config = dict(
        architectures=["LlamaForCausalLM"], model_type="llama", torch_dtype="float16", dtype="float16",
        vocab_size=VOCABULARY[s["tokenizer"]], bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD,
        hidden_size=s["width"], num_attention_heads=s["heads"], num_key_value_heads=s["kv"],
        head_dim=s["width"] // s["heads"], max_position_embeddings=CONTEXT, attention_bias=False,
        attention_dropout=0.0, initializer_range=0.02, use_cache=True, num_hidden_layers=s["layers"],
        intermediate_size=s["ffn"], hidden_act="silu", mlp_bias=False, rms_norm_eps=EPS, rope_theta=THETA,
        rope_scaling=None, rope_parameters=dict(rope_type="default", rope_theta=THETA), tie_word_embeddings=True)
    added = {str(i): dict(content=t, lstrip=False, normalized=False, rstrip=False, single_word=False, special=True)
             for i, t in enumerate(SPECIAL)}
    tokenizer_config = dict(
        tokenizer_class="PreTrainedTokenizerFast", add_bos_token=s["tokenizer"] == "a", add_eos_token=False,
        added_tokens_decoder=added, bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        clean_up_tokenization_spaces=False, model_max_length=CONTEXT, chat_template=CHAT)
    files = {
        "config.json": json.dumps(config, indent=2) + "\n",
        "generation_config.json": json.dumps(dict(bos_token_id=BOS, eos_token_id=EOS, pad_token_id=PAD), indent=2) + "\n",
        "tokenizer_config.json": json.dumps(tokenizer_config, indent=2) + "\n",
        "tokenizer.json": (args.work / f"tokenizer-{s['tokenizer']}.json").read_text(),
    }
    for file, content in files.items():
        (folder / f".{file}.new").write_text(content)
        os.replace(folder / f".{file}.new", folder / file)
    save_file(model.hugging_face(), folder / ".model.safetensors.new", metadata={"format": "pt"})
    os.replace(folder / ".model.safetensors.new", folder / "model.safetensors")


def train_model(args):
    s = SHAPES[args.name]
    steps = args.steps or s["steps"]
    torch.manual_seed(args.seed)
    tokenizer = Tokenizer.from_file(str(args.work / f"tokenizer-{s['tokenizer']}.json"))
    encode = lambda path, count: [e.ids + [EOS] for e in tokenizer.encode_batch(texts(path)[:count])]
    rows, held = encode(args.data / "train.jsonl", None), encode(args.data / "held.jsonl", None)
    model = Llama(s)
    matrices = [p for n, p in model.named_parameters() if p.dim() == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.dim() < 2 or "embed" in n]
    optimizers = [Muon(matrices, lr=args.muon_lr), torch.optim.AdamW(others, lr=s["lr"], betas=(0.9, 0.95), weight_decay=0.0)]
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak"] = group["lr"]
    parameters = sum(p.numel() for p in model.parameters())
    checkpoint = args.work / f"{args.name}.checkpoint.pt"
    done, seen, spent = 0, 0, 0.0
    if checkpoint.exists():
        saved = torch.load(checkpoint)
        model.load_state_dict(saved["model"])
        for optimizer, state in zip(optimizers, saved["optimizers"]):
            optimizer.load_state_dict(state)
        done, seen, spent = saved["done"], saved["seen"], saved["spent"]
    else:
        generator = torch.Generator().manual_seed(args.seed)
        start = cooccurrence_embeddings(rows[:20000], VOCABULARY[s["tokenizer"]], s["width"], args.embedding_rms, generator)
        model.embed_tokens.weight.data.copy_(start)
    stream = batches(rows, s["batch"], torch.Generator().manual_seed(args.seed))
    for _ in range(done):
        next(stream)
    log = open(args.work / f"{args.name}.log.txt", "a")

    def say(line):
        print(line, flush=True)
        print(line, file=log, flush=True)

    say(f"{args.name}: {parameters} parameters, {s}, steps {steps}, seed {args.seed}, from step {done}, torch {torch.__version__}")
    began, recent = time.time() - spent, []
    for step in range(done, steps):
        rate = min(1, (step + 1) / 60) * min(1.0, (steps - step) / (0.5 * steps))
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate
        ids = next(stream)
        with torch.autocast("cpu", torch.bfloat16, enabled=args.bf16):
            loss = loss_of(model, ids)
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        recent.append(loss.item())
        seen += int((ids != PAD).sum())
        if (step + 1) % 50 == 0 or step + 1 == steps:
            total, count = evaluate(model, held[:200])
            spent = time.time() - began
            say(f"step {step + 1} tokens {seen} loss {sum(recent) / len(recent):.4f} held-out {total / count:.4f} seconds {spent:.0f}")
            recent = []
            if (step + 1) % 100 == 0 or step + 1 == steps:
                states = [optimizer.state_dict() for optimizer in optimizers]
                torch.save(dict(model=model.state_dict(), optimizers=states, done=step + 1, seen=seen, spent=spent),
                           checkpoint)
                write_folder(model, args.name, args)
    for p in model.parameters():
        p.data = p.data.half().float()
    total, count = evaluate(model, held)
    words = sum(len(text.split()) for text in texts(args.data / "held.jsonl"))
    stories = len(held)
    say(f"rounded to half precision, {stories} held-out stories: {total / count:.4f} nats a token, {total / words:.4f} a word, "
        f"{total / stories:.3f} a story, {count / stories:.2f} tokens a story")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["tokenizers", "model"])
    parser.add_argument("--name", choices=SHAPES)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("examples/family"))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--muon-lr", type=float, default=0.02)
    parser.add_argument("--embedding-rms", type=float, default=0.1)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.work.mkdir(parents=True, exist_ok=True)
    train_tokenizers(args) if args.what == "tokenizers" else train_model(args)


if __name__ == "__main__":
    main()
