"""Reads activations that `mapper capture` wrote, with safetensors' own package, and writes them as another program
might: one shard, int64 numbers, no hashes. docs/src/reference/files.md describes the layout."""

import pathlib
import sys
import tomllib

import numpy as np
from safetensors.numpy import load_file, save_file

source, out = map(pathlib.Path, sys.argv[1:])
index = tomllib.loads((source / "activations.toml").read_text())
layers = index["capture"]["layers"]

tensors, first = {}, 0
for entry in index["shard"]:
    shard = load_file(source / entry["file"])
    assert shard["documents"].shape == (entry["windows"], 32) and shard["tokens"].shape == (entry["tokens"],)
    # The shard's last offset is where the next one's tokens begin.
    shard["offsets"] = shard["offsets"][:-1].astype(np.int64) + first
    first += entry["tokens"]
    for name, values in shard.items():
        tensors.setdefault(name, []).append(values)
tensors = {name: np.concatenate(values) for name, values in tensors.items()}
tensors["offsets"] = np.append(tensors["offsets"], first)
for name in ("starts", "tokens", "ends"):
    tensors[name] = tensors[name].astype(np.int64)

out.mkdir()
save_file(tensors, out / "states.safetensors")
model, quoted = index["model"], '"{}"'.format
lines = [
    'format = "steermap-activations/1"',
    "complete = true",
    "[model]",
    *(f"{key} = {quoted(value) if isinstance(value, str) else value}" for key, value in model.items()),
    "[capture]",
    f"layers = {layers}",
    f"dtype = {quoted(index['capture']['dtype'])}",
    "[[corpus]]",
    *(f"{key} = {quoted(value)}" for key, value in index["corpus"][0].items()),
    "[[shard]]",
    'file = "states.safetensors"',
    f"windows = {len(tensors['starts'])}",
    f"tokens = {first}",
]
(out / "activations.toml").write_text("\n".join(lines) + "\n")
