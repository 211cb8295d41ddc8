"""Writes repeng.gguf, which tests.rs compares with: a control vector by repeng's own exporter. Needs repeng (0.4.0 was used,
with gguf 0.19.0).

Usage: make_repeng.py repeng.gguf
"""

import sys

import numpy

# repeng 0.4.0 names it, and NumPy 2 has it no more.
if not hasattr(numpy, "float_"):
    numpy.float_ = numpy.float64

from repeng import ControlVector

directions = {1: [0.0, -1.0, 0.5], 2: [1.0, 2.0, 2.0]}
directions = {layer: numpy.array(values, dtype=numpy.float32) for layer, values in directions.items()}
ControlVector("llama", directions).export_gguf(sys.argv[1])
