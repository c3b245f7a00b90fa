"""PyTorch checkpoints (.pt, .pth, .ckpt, .th) read as data: nothing in them is ever called.

Two layouts: since PyTorch 1.6 a ZIP archive of `data.pkl` and one entry `data/KEY` for each
storage; before, a stream of five pickles and the storages behind them. Source:
torch/serialization.py and torch/_utils.py, whose names the table below explains.
"""

from __future__ import annotations

import io
import mmap
import struct
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from geodistill.checks import InputError
from geodistill.io.checkpoint_values import (
    STORAGES,
    Storage,
    in_words,
    known_names,
    natural,
)
from geodistill.io.pickled import Call, Damage, Unread, read_pickle
from geodistill.io.whole_file import read_start
from geodistill.io.zip_entries import expect_whole, unpacked, zip_entries

STREAM_MAGIC = 0x1950A86A20F9469CFC6C
STREAM_START = b"\x80\x02\x8a\x0a" + STREAM_MAGIC.to_bytes(10, "little")
_SPENT_AT_LEAST = 1 << 20
_WIDEST = 8  # bytes of a number


def load_checkpoint(path: Path | str, parts: Collection[str] | None = None) -> dict[str, Any]:
    """The dictionary in a PyTorch checkpoint: tensors, numbers, texts and containers of these.

    Tensors come as they are stored, on the CPU, and share their memory with the mapped file until
    they are written to; gradients, hooks and devices are left out. NumPy's scalars and arrays,
    OrderedDict, defaultdict, Size and Parameter are read, no other class is.

    Args:
        parts: the entries that are wanted; others, such as an optimiser's state, are left out,
            whatever they hold, and their tensors are not read.

    Raises InputError, naming the file, when it is missing, no checkpoint, damaged, no dictionary
    with texts as keys, or holds another class or a sparse, quantised or expanded tensor.
    """
    path = Path(path)
    value, archive = _read(path)
    if parts is not None:
        value = {key: inner for key, inner in value.items() if key in parts}
    for inner in _within(value):
        if isinstance(inner, Unread):
            raise _not_read(path, inner)
    if archive is not None:
        archive.prove(value)
    return value


def outline_checkpoint(path: Path | str) -> dict[str, Any]:
    """The same without reading what tensors hold, which costs little; checksums are not proved, and
    what is of another class is an `Unread`."""
    return _read(Path(path))[0]


def _read(path: Path) -> tuple[dict[str, Any], _Archive | None]:
    mapped = _mapped(path)
    archive = None
    data, start = np.frombuffer(mapped, np.uint8), mapped[: len(STREAM_START)]
    try:
        if start.startswith(b"PK\x03\x04"):
            archive = _Archive(path, data)
            value = archive.value()
        elif start == STREAM_START:
            value = _stream(mapped, data)
        else:
            raise InputError(
                f"{path} is not a PyTorch checkpoint: it is neither a ZIP archive nor a stream of "
                "pickles; check its name or save it again"
            )
    except Damage as damage:
        raise InputError(f"{path} is truncated or damaged ({damage}): copy it again") from None
    if isinstance(value, Unread):
        raise _not_read(path, value)
    if not isinstance(value, dict) or not all(isinstance(key, str) for key in value):
        kind = "dictionary without names" if isinstance(value, dict) else type(value).__name__
        raise InputError(f"{path} holds a {kind}, not the dictionary of a checkpoint")
    return value, archive


def _not_read(path: Path, what: Unread) -> InputError:
    return InputError(f"{path} holds a {in_words(what.name)}, which is not read: save it without")


def _within(value: Any) -> Iterator[Any]:
    """What a value holds, however deep, each once."""
    left, seen = [value], set()
    while left:
        inner = left.pop()
        if id(inner) in seen:
            continue
        seen.add(id(inner))
        yield inner
        if isinstance(inner, dict):
            left.extend(inner.values())
        elif isinstance(inner, (list, tuple)):
            left.extend(inner)


def _mapped(path: Path) -> mmap.mmap:
    """The bytes of a file, mapped so that writing to them changes the memory and not the file."""
    read_start(path, len(STREAM_START))
    try:
        with path.open("rb") as file:
            return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


class _Archive:
    """The layout since PyTorch 1.6."""

    def __init__(self, path: Path, data: np.ndarray) -> None:
        self.path, self.data = path, data
        self.unpacked: dict[str, np.ndarray] = {}
        self.entries = zip_entries(path, data)
        tops = {name.partition("/")[0] for name in self.entries if name.endswith("/data.pkl")}
        pickles = [f"{top}/data.pkl" for top in tops if f"{top}/data.pkl" in self.entries]
        if len(pickles) != 1:
            raise InputError(f"{path} is a ZIP archive, but no PyTorch checkpoint: no data.pkl")
        self.top = pickles[0].removesuffix("data.pkl")
        if f"{self.top}constants.pkl" in self.entries:
            raise InputError(f"{path} holds a TorchScript program: save its state_dict instead")
        order = self.entries.get(f"{self.top}byteorder")
        if order is not None and order.size <= 8 and self._content("byteorder") != b"little":
            raise InputError(f"{path} was saved on a big-endian machine, which is not read")

    def value(self) -> Any:
        content = self._content("data.pkl")
        return _unpickled(io.BytesIO(content), len(content), self._storage)

    def _storage(self, key: str) -> np.ndarray:
        name = f"{self.top}data/{key}"
        if name not in self.entries:
            raise Damage(f"its entry {name[:60]!r} is missing")
        if name not in self.unpacked:
            content = unpacked(self.path, self.data, name, self.entries[name])
            self.unpacked[name] = _aligned(content)
        return self.unpacked[name]

    def prove(self, value: Any) -> None:
        """Raise InputError unless the storages of all tensors in a value have their checksums."""
        import torch

        names = {content.ctypes.data: name for name, content in self.unpacked.items()}
        for inner in _within(value):
            if isinstance(inner, torch.Tensor) and inner.numel():
                name = names.pop(inner.untyped_storage().data_ptr(), None)
                if name is not None:
                    expect_whole(self.path, name, self.entries[name], self.unpacked[name])

    def _content(self, name: str) -> bytes:
        entry = self.entries[self.top + name]
        content = unpacked(self.path, self.data, name, entry)
        expect_whole(self.path, name, entry, content)
        return content.tobytes()


def _stream(file: mmap.mmap, data: np.ndarray) -> Any:
    """The layout before PyTorch 1.6: magic, version, system, value, keys, then the storages.

    Each storage is its count of numbers in 8 bytes, and these numbers. Tensors come before the
    bytes they are made of, so that the value is read again once it is known where these lie.
    """
    head = [_unpickled(file, len(data), None) for _ in range(3)]
    if head[:2] != [STREAM_MAGIC, 1001]:
        raise Damage("it is of an unknown version")
    if isinstance(head[2], dict) and head[2].get("little_endian") is False:
        raise Damage("it was saved on a big-endian machine")
    begin = file.tell()
    widths: dict[str, tuple[int, int]] = {}
    _unpickled(file, len(data), None, widths)
    keys = _unpickled(file, len(data), None)
    texts = isinstance(keys, list) and all(isinstance(key, str) for key in keys)
    if not texts or sorted(keys) != sorted(widths):
        raise Damage("its list of storages does not fit what it holds")
    at, found = file.tell(), {}
    for key in keys:
        count, width = widths[key]
        if at + 8 > len(data):
            raise Damage("its storages are cut off")
        (stored,) = struct.unpack("<q", data[at : at + 8].tobytes())
        at += 8
        if stored != count or stored * width > len(data) - at:
            raise Damage("its storages are cut off or of another length than declared")
        found[key] = _aligned(data[at : at + stored * width])
        at += stored * width
    file.seek(begin)
    return _unpickled(file, len(data), found.__getitem__)


def _aligned(content: np.ndarray) -> np.ndarray:
    """The bytes where numbers may stand, one copy for all tensors that share them if need be."""
    return content.copy() if content.ctypes.data % _WIDEST else content


def _unpickled(
    file: IO[bytes] | mmap.mmap,
    length: int,
    storage: Callable[[str], np.ndarray] | None,
    widths: dict[str, tuple[int, int]] | None = None,
) -> Any:
    """The next pickle of the file, of at most `length` bytes.

    Without `storage` tensors are None, and `widths` collects count and bytes of each storage.
    """

    def persistent(identity: Any) -> Storage | Unread | None:
        """("storage", type, key, device, count[, view]) as torch names its storages."""
        if not isinstance(identity, tuple) or len(identity) not in (5, 6):
            raise Damage("it names a storage in an unknown way")
        if not isinstance(identity[0], str):
            raise Damage("it names a storage in an unknown way")
        if identity[0] != "storage":
            return Unread(f"{identity[0][:40]!r} saved with its source text")
        _, kind, key, _, count = identity[:5]
        if isinstance(kind, Unread) and widths is None:
            return kind
        if len(identity) == 6 and identity[5] is not None:
            raise Damage("it holds a storage that is a part of another, as before PyTorch 0.4")
        name = kind.name if isinstance(kind, Call) else ""
        if name not in STORAGES or not isinstance(key, str) or not natural(count):
            raise Damage("it names a storage in an unknown way")
        width, dtype = STORAGES[name]
        if storage is None:
            if widths is None or widths.setdefault(key, (count, width)) != (count, width):
                raise Damage("it contradicts itself on a storage")
            return None
        content = storage(key)
        if len(content) != count * width:
            raise Damage(f"a storage has {len(content)} bytes, {count * width} are declared")
        return Storage(content, dtype)

    return read_pickle(file, known_names(max(length, _SPENT_AT_LEAST)), persistent)
