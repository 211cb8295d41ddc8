"""Control vectors for llama.cpp. Needs the package gguf."""

import numpy


def write_control_vector(path, architecture, directions):
    """Writes a control vector as repeng does it. `directions`: float32, [hidden], by layer, from 1 on."""
    import gguf

    writer = gguf.GGUFWriter(str(path), "controlvector")
    writer.add_string("controlvector.model_hint", architecture)
    writer.add_uint32("controlvector.layer_count", len(directions))
    for layer, values in directions.items():
        writer.add_tensor(f"direction.{layer}", numpy.ascontiguousarray(values, dtype=numpy.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def model_sizes(path):
    """Architecture, number of layers and hidden size of a model."""
    import gguf

    reader = gguf.GGUFReader(path)
    value = lambda key: reader.get_field(key).contents()
    architecture = value("general.architecture")
    return architecture, value(f"{architecture}.block_count"), value(f"{architecture}.embedding_length")
