"""Tensors and their JSON metadata in one safetensors file, with a checksum over both.

The header carries two entries: `geodistill`, the JSON `{"format": 1, "metadata": ...}`, and
`geodistill_sha256`, the digest of that text and of every tensor's name, type, shape and bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from geodistill.checks import InputError, UsageError
from geodistill.runs.files import atomic_write

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

FORMAT = 1
_JSON, _DIGEST = "geodistill", "geodistill_sha256"
_SIGNATURES = {
    b"PK\x03\x04": "a PyTorch pickle checkpoint (.pt, .pth) or another zip archive",
    b"\x80": "a Python pickle",
    b"\x93NUMPY": "a NumPy array file",
    b"\x89HDF": "an HDF5 file",
    b"\x89PNG": "a PNG image",
    b"\xff\xd8\xff": "a JPEG image",
    b"ply": "a PLY file",
    b"glTF": "a binary glTF file",
    b"\x1f\x8b": "a gzip archive",
    b"\x76\x2f\x31\x01": "an OpenEXR image",
    b"{": "a JSON text",
}


def save_tensors(
    path: Path | str, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any]
) -> None:
    """Write tensors (any device, saved from the CPU) and JSON-able metadata atomically.

    Raises UsageError for metadata that is not JSON and InputError when the file cannot be written.
    """
    path = Path(path)
    try:
        text = json.dumps({"format": FORMAT, "metadata": metadata})
    except (TypeError, ValueError) as error:
        raise UsageError(f"the metadata of {path.name} is not JSON: {error}") from None
    arrays = {name: _bytes(tensors[name]) for name in sorted(tensors)}
    digest = _digest(text, tensors, arrays)
    header: dict[str, Any] = {"__metadata__": {_JSON: text, _DIGEST: digest}}
    end = 0
    # The format wants wide types first, so that every tensor is aligned in the file.
    order = sorted(arrays, key=lambda name: (-tensors[name].element_size(), name))
    for name in order:
        start, end = end, end + arrays[name].nbytes
        header[name] = {
            "dtype": _type_name(tensors[name]),
            "shape": list(tensors[name].shape),
            "data_offsets": [start, end],
        }
    head = json.dumps(header).encode()
    head += b" " * (-len(head) % 8)

    def write(file: IO[bytes]) -> None:
        file.write(len(head).to_bytes(8, "little"))
        file.write(head)
        for name in order:
            file.write(arrays[name].data)

    atomic_write(path, write)


def load_tensors(path: Path | str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_tensors` wrote, on the CPU, after checking that it is whole and unaltered.

    Raises InputError, with what the file looks like, when it is missing, a folder, another format,
    truncated, altered, not one of ours, or written by a newer version.
    """
    path = Path(path)
    with _opened(path) as file:
        header = file.metadata() or {}
        metadata = _metadata(path, header)
        mapped = {name: file.get_tensor(name) for name in sorted(file.keys())}
    arrays = {name: _bytes(tensor) for name, tensor in mapped.items()}
    if _digest(header[_JSON], mapped, arrays) != header.get(_DIGEST):
        raise InputError(f"{path} is damaged: it does not match its checksum; make it again")
    # Cloned, because the library maps the file and tensors must not change with it.
    return {name: tensor.clone() for name, tensor in mapped.items()}, metadata


def read_metadata(path: Path | str) -> dict[str, Any]:
    """The metadata of such a file, without reading its tensors or proving its checksum."""
    path = Path(path)
    with _opened(path) as file:
        return _metadata(path, file.metadata() or {})


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    from safetensors import SafetensorError, safe_open

    _expect_safetensors(path)
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except SafetensorError as error:
        raise InputError(f"{path} is truncated or damaged ({error}): make it again") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None


def _expect_safetensors(path: Path) -> None:
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder, not a safetensors file") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    if not start:
        raise InputError(f"{path} is empty: make it again")
    # A header's length is far below 2^40, so its upper bytes are zero and then the JSON begins.
    if start[5:8] == b"\0\0\0" and start[8:9] in (b"{", b""):
        return
    for signature, what in _SIGNATURES.items():
        if start.startswith(signature):
            raise InputError(f"{path} is not a safetensors file: it looks like {what}")
    if len(start) < 9:
        raise InputError(f"{path} is truncated: it has only {len(start)} bytes; make it again")
    raise InputError(f"{path} is not a safetensors file, or its beginning is damaged")


def _metadata(path: Path, header: Mapping[str, str]) -> dict[str, Any]:
    if _JSON not in header:
        raise InputError(f"{path} is a safetensors file, but geodistill did not write it")
    try:
        stored = json.loads(header[_JSON])
        version, metadata = int(stored["format"]), dict(stored["metadata"])
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} is damaged: its metadata cannot be read; make it again") from None
    if version > FORMAT:
        raise InputError(
            f"{path} has format {version}, this geodistill reads up to {FORMAT}: upgrade geodistill"
        )
    return metadata


def _bytes(tensor: Tensor) -> np.ndarray:
    import torch

    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()


def _type_name(tensor: Tensor) -> str:
    import torch

    names = {
        torch.float64: "F64",
        torch.float32: "F32",
        torch.float16: "F16",
        torch.bfloat16: "BF16",
        torch.int64: "I64",
        torch.int32: "I32",
        torch.int16: "I16",
        torch.int8: "I8",
        torch.uint8: "U8",
        torch.bool: "BOOL",
    }
    if tensor.dtype not in names:
        raise UsageError(f"tensors of type {tensor.dtype} cannot be saved: convert them first")
    return names[tensor.dtype]


def _digest(text: str, tensors: Mapping[str, Tensor], arrays: Mapping[str, np.ndarray]) -> str:
    digest = hashlib.sha256(text.encode())
    for name, array in arrays.items():
        tensor = tensors[name]
        digest.update(json.dumps([name, _type_name(tensor), list(tensor.shape)]).encode())
        digest.update(array.data)
    return digest.hexdigest()
