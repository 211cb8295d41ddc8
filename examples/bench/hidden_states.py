"""transformers' half of bench-collect: the forward passes of both models over the same tokens, hidden states out.

    hidden_states.py SOURCE TARGET TOKENS.json THREADS

TOKENS.json is [texts of the source, texts of the target], each text a list of token ids. Says its versions in a line and `ready` in
the next once the models are loaded; then, for each line that it is given, runs all texts and says the seconds. Float32, batches of 8
texts of about one length, padded behind; no logits are computed, and the states are not copied anywhere.
"""

import json
import sys
import time

import torch
import transformers

BATCH = 8
source, target, path, threads = sys.argv[1:]
torch.set_num_threads(int(threads))


def batches(texts):
    """Ids and masks, longest last."""
    texts = sorted((text for text in texts if text), key=len)
    for start in range(0, len(texts), BATCH):
        part = texts[start : start + BATCH]
        longest = max(map(len, part))
        ids = torch.tensor([text + [0] * (longest - len(text)) for text in part])
        yield ids, torch.tensor([[1] * len(text) + [0] * (longest - len(text)) for text in part])


# The blocks of a causal model, since some families' weights are not found when the blocks are loaded alone.
models = [transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval().model for folder in (source, target)]
with open(path) as file:
    work = [(model, list(batches(texts))) for model, texts in zip(models, json.load(file))]
print(f"transformers {transformers.__version__}, torch {torch.__version__}\nready", flush=True)
for _ in sys.stdin:
    start = time.perf_counter()
    with torch.inference_mode():
        for model, parts in work:
            for ids, mask in parts:
                states = model(ids, attention_mask=mask, output_hidden_states=True, use_cache=False).hidden_states
                assert len(states) == model.config.num_hidden_layers + 1
    print(time.perf_counter() - start, flush=True)
