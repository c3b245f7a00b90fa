"""ONNX files, written here byte by byte from the protocol-buffer rules."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from geodistill.checks import InputError
from geodistill.io.onnx import read_onnx_weights


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def message(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def tensor(name: str, array: np.ndarray, packed: bool = True) -> bytes:
    kinds = {"float32": 1, "int64": 7, "float16": 10, "float64": 11}
    dims = [varint(size) for size in array.shape]
    shape = message(1, b"".join(dims)) if packed else b"".join(number(1, n) for n in array.shape)
    kind = number(2, kinds[array.dtype.name])
    return shape + kind + message(8, name.encode()) + message(9, array.tobytes())


def node(name: str, inputs: list[str]) -> bytes:
    return b"".join(message(1, i.encode()) for i in inputs) + message(3, name.encode())


def onnx_file(tensors: dict[str, np.ndarray], nodes: dict[str, list[str]]) -> bytes:
    graph = b"".join(message(1, node(name, inputs)) for name, inputs in nodes.items())
    for place, (name, array) in enumerate(tensors.items()):
        graph += message(5, tensor(name, array, packed=place % 2 == 0))
    # Before and behind the graph stand fields of every wire type.
    return number(1, 7) + message(2, b"maker") + message(7, graph) + b"\x55abcd" + b"\x59abcdefgh"


TENSORS = {
    "wide": np.arange(300 * 2, dtype=np.float32).reshape(300, 2),
    "long": np.array([-1, 2**40], dtype=np.int64),
    "half": np.array([[[0.5]]], dtype=np.float16),
    "scalar": np.array(2.5),
    "none": np.zeros((0, 4), dtype=np.float32),
}
NODES = {"/a/MatMul": ["x", "wide"], "/b/Add": []}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(onnx_file(TENSORS, NODES))
    found = read_onnx_weights(path)
    assert found.inputs == NODES
    assert found.tensors.keys() == TENSORS.keys()
    for name, array in TENSORS.items():
        assert torch.equal(found.tensors[name], torch.from_numpy(array))


def test_the_reference_library_agrees(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    initializers = [onnx.numpy_helper.from_array(a, name) for name, a in TENSORS.items()]
    nodes = [onnx.helper.make_node("Op", i, ["y"], name=name) for name, i in NODES.items()]
    graph = onnx.helper.make_graph(nodes, "g", [], [], initializers)
    path = tmp_path / "a.onnx"
    path.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    found = read_onnx_weights(path)
    assert found.inputs == NODES
    for name, array in TENSORS.items():
        assert torch.equal(found.tensors[name], torch.from_numpy(array))


def test_every_way_of_cutting_it_is_refused_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    whole = onnx_file({"w": TENSORS["long"]}, {"/n": ["w"]})
    end = whole.index(b"\x55abcd")
    for length in range(1, end):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match="is not an ONNX file with weights, or it is damaged"):
            read_onnx_weights(path)


@pytest.mark.parametrize("size", [2**63, 2**64 - 1, 2**70])
def test_sizes_that_no_tensor_has(size: int, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    made = number(1, size) + number(1, 0) + number(2, 1) + message(8, b"w")
    path.write_bytes(message(7, message(5, made)))
    with pytest.raises(InputError, match="is not an ONNX file with weights, or it is damaged"):
        read_onnx_weights(path)


def test_numbers_have_64_bits(tmp_path: Path) -> None:
    """Longer ones take time in the square of their length."""
    path = tmp_path / "a.onnx"
    whole = onnx_file({"w": TENSORS["long"]}, {})
    path.write_bytes(b"\x08" + 9 * b"\xff" + b"\1" + whole)
    assert read_onnx_weights(path).tensors.keys() == {"w"}
    path.write_bytes(b"\x08" + 10 * b"\x80" + b"\0" + whole)
    with pytest.raises(InputError, match="is not an ONNX file with weights, or it is damaged"):
        read_onnx_weights(path)


@pytest.mark.parametrize("content", [b"\xff" * 40, b"PK\x03\x04 zip", b"{}"])
def test_other_files_are_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match="is not an ONNX file"):
        read_onnx_weights(path)


def test_missing_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    with pytest.raises(InputError, match=r"a\.onnx does not exist"):
        read_onnx_weights(path)
    os.mkfifo(path)
    with pytest.raises(InputError, match=r"a\.onnx is a pipe or a device, not a file"):
        read_onnx_weights(path)
