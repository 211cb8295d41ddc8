"""Control vectors between `mapper convert`, the gguf package, and repeng: each reads the others' files, bit for bit.

Usage: gguf_interop.py MAPPER MODEL VECTOR FOLDER
MAPPER is the program, MODEL a model's folder, VECTOR a vector file (.toml) for it with layer 0 and more, FOLDER one to write
in. Prints "ok" and what was compared with at the end; any other end is a failure. Needs gguf; repeng is left out where it is
not installed.
"""

import importlib.metadata
import json
import struct
import subprocess
import sys
import tomllib
from pathlib import Path

import gguf
import numpy

try:
    # repeng 0.4.0 uses it, and NumPy 2 has removed it.
    if not hasattr(numpy, "float_"):
        numpy.float_ = numpy.float64
    import repeng
except ImportError:
    repeng = None


def convert(*arguments):
    return subprocess.run([MAPPER, "convert", *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def directions_of_toml(path):
    """The directions by layer, and the whole TOML file."""
    table = tomllib.loads(path.read_text())
    data = (path.parent / table["weights"]["file"]).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header, data = json.loads(data[8 : 8 + length]), data[8 + length :]
    directions = {}
    for layer in table["layer"]:
        start, end = header[layer["tensor"]]["data_offsets"]
        directions[layer["layer"]] = numpy.frombuffer(data[start:end], "<f4")
    return directions, table


def directions_of_gguf(path):
    """The directions by layer, and the metadata, as gguf's reader has them."""
    reader = gguf.GGUFReader(path)
    directions = {}
    for tensor in reader.tensors:
        assert tensor.tensor_type == gguf.GGMLQuantizationType.F32, tensor
        directions[int(tensor.name.removeprefix("direction."))] = numpy.array(tensor.data)
    return directions, {key: field.contents() for key, field in reader.fields.items()}


def assert_same(found, expected):
    """Bit for bit, so that -0.0 is not 0.0."""
    assert found.keys() == expected.keys(), (found.keys(), expected.keys())
    for layer, values in expected.items():
        assert found[layer].dtype == values.dtype == numpy.float32, (layer, found[layer].dtype)
        assert found[layer].tobytes() == values.tobytes(), layer


def ours_is_read(folder):
    """Files by `mapper convert` are read by the others, and convert back unchanged."""
    ours = folder / "ours.gguf"
    text = convert(VECTOR, ours, "--model", MODEL)
    expected, table = directions_of_toml(VECTOR)
    assert 0 in expected and "left out: layer 0" in text, text
    del expected[0]
    found, metadata = directions_of_gguf(ours)
    assert_same(found, expected)
    assert metadata["general.architecture"] == "controlvector", metadata
    assert metadata["controlvector.layer_count"] == len(expected), metadata
    hint = json.loads((MODEL / "config.json").read_text())["model_type"].removesuffix("_text")
    assert metadata["controlvector.model_hint"] == hint, metadata
    if repeng:
        vector = repeng.ControlVector.import_gguf(ours)
        assert vector.model_type == hint, vector.model_type
        assert_same({layer: numpy.array(values) for layer, values in vector.directions.items()}, expected)

    back, again = folder / "back.toml", folder / "again.gguf"
    convert(ours, back, "--model", MODEL, "--concept", table["concept"])
    found, table_back = directions_of_toml(back)
    assert_same(found, expected)
    assert (table_back["concept"], table_back["model"]["fingerprint"]) == (table["concept"], table["model"]["fingerprint"])
    convert(back, again, "--hint", hint)
    assert again.read_bytes() == ours.read_bytes()

    unit = folder / "unit.gguf"
    convert(VECTOR, unit, "--hint", hint, "--normalize", "--scale", "-8")
    for layer, values in directions_of_gguf(unit)[0].items():
        wanted = -8 * expected[layer].astype(numpy.float64) / numpy.linalg.norm(expected[layer].astype(numpy.float64))
        assert numpy.allclose(values, wanted, rtol=1e-6, atol=0), layer
    return hint


def theirs_is_read(folder, hint):
    """Files by the others are converted, and convert back with the same values."""
    random = numpy.random.default_rng(0)
    sizes = directions_of_toml(VECTOR)[1]["model"]
    layers = range(1, sizes["num_layers"])
    directions = {layer: random.standard_normal(sizes["hidden_size"], dtype=numpy.float32) for layer in layers}
    files = {}

    # As cvector-generator's `export_gguf`: a signed count, ascending.
    writer = gguf.GGUFWriter(folder / "generator.gguf", "controlvector")
    writer.add_string("controlvector.model_hint", hint)
    writer.add_int32("controlvector.layer_count", len(directions))
    for layer, values in directions.items():
        writer.add_tensor(f"direction.{layer}", values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    files["generator"] = directions

    # As repeng's `export_gguf`, in the order in which its trainer has them: from the last layer to the first.
    descending = {layer: directions[layer] for layer in reversed(layers)}
    if repeng:
        repeng.ControlVector(hint, descending).export_gguf(folder / "repeng.gguf")
        files["repeng"] = directions

    for name, expected in files.items():
        toml = folder / f"{name}.toml"
        convert(folder / f"{name}.gguf", toml, "--model", MODEL)
        found, table = directions_of_toml(toml)
        assert_same(found, expected)
        assert table["concept"] == name and table["model"]["num_layers"] == sizes["num_layers"], table
        assert all(layer["mean_norm"] == 0 for layer in table["layer"]), table
        # A round trip, with the others' reader.
        convert(toml, folder / f"{name}-again.gguf", "--model", MODEL)
        assert_same(directions_of_gguf(folder / f"{name}-again.gguf")[0], expected)


def main():
    hint = ours_is_read(FOLDER)
    theirs_is_read(FOLDER, hint)
    version = f"repeng {importlib.metadata.version('repeng')}" if repeng else "repeng is not installed"
    print(f"ok: gguf {importlib.metadata.version('gguf')}, {version}")


if __name__ == "__main__":
    MAPPER, MODEL, VECTOR, FOLDER = sys.argv[1], *map(Path, sys.argv[2:])
    main()
