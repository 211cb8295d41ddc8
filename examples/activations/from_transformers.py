"""Writes the activations of a transformers model as `mapper fit --source-activations` reads them (docs/src/reference/files.md).

    python from_transformers.py MODEL-FOLDER text.jsonl OUT-FOLDER FINGERPRINT

FINGERPRINT is what `mapper inspect MODEL-FOLDER` prints. Documents are read whole here; `mapper capture --window 1048576`
cuts none either, and a model that is run by `mapper fit` beside these has to be given the same --window.
"""

import hashlib
import json
import pathlib
import sys

import numpy as np
import torch
from safetensors.numpy import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

name, corpus, out, fingerprint = sys.argv[1:]
tokenizer = AutoTokenizer.from_pretrained(name)
model = AutoModelForCausalLM.from_pretrained(name, torch_dtype=torch.float32)
count, width = model.config.num_hidden_layers, model.config.hidden_size
# transformers provides the last block's stream only after the final norm, so that layer is left out.
layers = list(range(count - 1))

documents, starts, offsets, tokens, ends, states = [], [], [0], [], [], {layer: [] for layer in layers}
for line in open(corpus, encoding="utf-8"):
    text = json.loads(line)["text"]
    # A window has no white space at its ends, so its position is searched after the previous one.
    start = len(text[: len(text) - len(text.lstrip())].encode())
    # Offsets count characters; ends count bytes of the document in UTF-8.
    encoded, body = tokenizer(text.strip(), return_offsets_mapping=True, return_tensors="pt"), text.strip()
    spans = encoded.pop("offset_mapping")[0].tolist()
    ends += [start + len(body[:end].encode()) if end > 0 else -1 for _, end in spans]
    with torch.no_grad():
        hidden = model(**encoded, output_hidden_states=True).hidden_states
    for layer in layers:
        states[layer].append(hidden[layer + 1][0].numpy())
    documents.append(list(hashlib.sha256(text.encode()).digest()))
    starts.append(start)
    tokens += encoded["input_ids"][0].tolist()
    offsets.append(len(tokens))

tensors = {f"layer.{layer}": np.concatenate(rows) for layer, rows in states.items()}
tensors |= {"documents": np.array(documents, dtype=np.uint8), "starts": np.array(starts), "offsets": np.array(offsets)}
tensors |= {"tokens": np.array(tokens), "ends": np.array(ends)}
folder = pathlib.Path(out)
folder.mkdir()
save_file(tensors, folder / "states.safetensors")
sha256 = hashlib.sha256(pathlib.Path(corpus).read_bytes()).hexdigest()
(folder / "activations.toml").write_text(f"""format = "steermap-activations/1"
complete = true
[model]
model = "{pathlib.Path(name).name}"
fingerprint = "{fingerprint}"
hidden_size = {width}
num_layers = {count}
dtype = "f32"
[capture]
layers = {layers}
dtype = "f32"
[[corpus]]
name = "{pathlib.Path(corpus).name}"
sha256 = "{sha256}"
[[shard]]
file = "states.safetensors"
windows = {len(documents)}
tokens = {len(tokens)}
""")
