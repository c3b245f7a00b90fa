"""The weights of an ONNX file: its named tensors, and which of them each operator uses.

The file is one protocol-buffer message (onnx.proto). Only the fields named below are decoded.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from geodistill.checks import InputError
from geodistill.io.whole_file import read_whole

_GRAPH = 7  # of ModelProto
_NODE, _INITIALIZER = 1, 5  # of GraphProto
_INPUT, _NODE_NAME = 1, 3  # of NodeProto
_DIMS, _TYPE, _TENSOR_NAME, _RAW = 1, 2, 8, 9  # of TensorProto
_TYPES = {1: np.float32, 6: np.int32, 7: np.int64, 10: np.float16, 11: np.float64}
_LONGEST_SHIFT = 63


class OnnxWeights(NamedTuple):
    """What an ONNX file stores.

    Attributes:
        tensors: initialisers by name.
        inputs: operator name to the names of its inputs: an exporter gives the weight of a linear
            layer a number for a name, but keeps the layer's name for the operator.
    """

    tensors: dict[str, Tensor]
    inputs: dict[str, list[str]]


def read_onnx_weights(path: Path | str) -> OnnxWeights:
    """The initialisers that are stored as raw little-endian numbers, and the operators' inputs.

    Raises InputError when the file is missing, no file, truncated or not ONNX.
    """
    path = Path(path)
    data = memoryview(read_whole(path))
    found = OnnxWeights({}, {})
    try:
        for graph in _every(data, _GRAPH):
            for message in _every(graph, _INITIALIZER):
                found.tensors[_text(message, _TENSOR_NAME)] = _tensor(message)
            for node in _every(graph, _NODE):
                names = [bytes(name).decode() for name in _every(node, _INPUT)]
                found.inputs[_text(node, _NODE_NAME)] = names
    except (IndexError, KeyError, TypeError, ValueError, OverflowError):
        found.tensors.clear()
    if not found.tensors:
        raise InputError(f"{path} is not an ONNX file with weights, or it is damaged")
    return found


def _tensor(message: memoryview) -> Tensor:
    shape: list[int] = []
    kind, raw = 0, memoryview(b"")
    for field, value in _fields(message):
        if field == _DIMS:
            shape += [value] if isinstance(value, int) else _varints(value)
        elif field == _TYPE and isinstance(value, int):
            kind = value
        elif field == _RAW and not isinstance(value, int):
            raw = value
    return torch.from_numpy(np.frombuffer(raw, _TYPES[kind]).reshape(shape).copy())


def _every(message: memoryview, number: int) -> Iterator[memoryview]:
    """The values of one field that are strings, bytes or messages."""
    for field, value in _fields(message):
        if field == number and not isinstance(value, int):
            yield value


def _text(message: memoryview, number: int) -> str:
    return b"".join(_every(message, number)).decode()


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Field number and value, in the order of the message; fixed-width numbers as bytes."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        kind = key & 7
        if kind == 0:
            value, position = _varint(message, position)
            yield key >> 3, value
            continue
        if kind == 2:
            size, position = _varint(message, position)
        else:
            size = {1: 8, 5: 4}[kind]
        if position + size > len(message):
            raise ValueError("a field is longer than its message")
        yield key >> 3, message[position : position + size]
        position += size


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """A number in groups of seven bits, lowest first, and where it ends."""
    value = shift = 0
    while True:
        byte = message[position]
        value |= (byte & 0x7F) << shift
        position, shift = position + 1, shift + 7
        if byte < 0x80:
            return value, position
        if shift > _LONGEST_SHIFT:
            raise ValueError("a number has more than 64 bits")


def _varints(packed: memoryview) -> list[int]:
    values, position = [], 0
    while position < len(packed):
        value, position = _varint(packed, position)
        values.append(value)
    return values
