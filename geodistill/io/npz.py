"""NumPy's .npy, one array, and .npz, a ZIP archive of them. Nothing is unpickled.

Source: NumPy, numpy.lib.format (NPY versions 1 to 3) and numpy.savez.
"""

from __future__ import annotations

import io
import math
import re
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from geodistill.checks import InputError
from geodistill.io.whole_file import read_start
from geodistill.io.zip_entries import expect_whole, unpacked, zip_entries

_MAGIC = b"\x93NUMPY"
_HEADER = re.compile(
    r"\{'descr': '([<>|=]?[biufSU]\d{1,5})', 'fortran_order': (True|False), "
    r"'shape': \(((?:\d{1,18}L?, ?)*(?:\d{1,18}L?)?)\), ?\} *"
)
_LONGEST_HEADER = 10_000
_MOST_AXES = 32
_DATE = (1980, 1, 1, 0, 0, 0)


class NpzFile:
    """The arrays of a file by their names; each is unpacked where it is asked for.

    Raises InputError, naming the file, when it is missing, no archive, or damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        read_start(path, 0, b"PK", "an NPZ file, which is a ZIP archive")
        try:
            self._data = np.memmap(path, np.uint8, "r")
        except (OSError, ValueError) as error:
            raise InputError(f"cannot read {path}: {error}") from None
        entries = zip_entries(path, self._data)
        self._entries = {name.removesuffix(".npy"): entry for name, entry in entries.items()}

    @property
    def names(self) -> list[str]:
        """Of the arrays, in the order of the file."""
        return [*self._entries]

    def __contains__(self, name: str) -> bool:
        return name in self._entries

    def array(self, name: str) -> np.ndarray:
        """The numbers or texts of an array in any layout that NumPy writes; not to be written to.

        Raises InputError where there is none of this name, it holds objects, or is damaged.
        """
        if name not in self._entries:
            found = (
                ", ".join(repr(one[:40])[1:-1] for one in sorted(self._entries)[:12]) or "nothing"
            )
            raise InputError(f"{self.path} has no array '{name}': it holds {found}")
        entry = self._entries[name]
        content = unpacked(self.path, self._data, name, entry)
        expect_whole(self.path, name, entry, content)
        return _array(f"{self.path}: its array '{name}'", content)


def read_npy(path: Path) -> np.ndarray:
    """The numbers or texts of an .npy file, not to be written to.

    Raises InputError, naming the file, where it is missing, holds objects, or is damaged.
    """
    read_start(path, 0, _MAGIC, "an NPY file")
    try:
        content = np.memmap(path, np.uint8, "r")
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}") from None
    return _array(f"{path}: its array", content)


def _array(where: str, content: np.ndarray) -> np.ndarray:
    dtype, shape, transposed, start = _header(where, content)
    count = math.prod(shape)
    if count * dtype.itemsize != len(content) - start:
        raise InputError(
            f"{where} of shape {[*shape]} takes {count * dtype.itemsize} bytes, it has "
            f"{len(content) - start}: it is damaged"
        )
    flat = np.frombuffer(content, dtype, count, start) if count else np.empty(0, dtype)
    try:
        return flat.reshape(shape, order="F" if transposed else "C")
    except ValueError:  # of axes without end beside one of none
        raise InputError(f"{where} has the shape {[*shape]}: it is damaged") from None


def _header(where: str, content: np.ndarray) -> tuple[np.dtype, tuple[int, ...], bool, int]:
    """Type, shape, whether columns come first, and where the numbers begin."""
    start = content[:12].tobytes()
    if len(start) < 12 or start[:6] != _MAGIC or start[6] not in (1, 2, 3):
        raise InputError(f"{where} is not in NumPy's format: the file is damaged")
    wide = start[6] > 1
    (length,) = struct.unpack_from("<I" if wide else "<H", start, 8)
    begin = 12 if wide else 10
    if length > min(_LONGEST_HEADER, len(content) - begin):
        raise InputError(f"{where} has a header of {length} bytes: the file is damaged")
    text = content[begin : begin + length].tobytes().decode("latin1").rstrip("\n")
    if "O" in text.partition(",")[0]:
        raise InputError(f"{where} holds Python objects, which are not read")
    match = _HEADER.fullmatch(text)
    if match is None:
        raise InputError(f"{where} has no header of numbers or texts: {text[:60]!r}")
    sizes = [size.strip(" L") for size in match[3].split(",")]
    shape = tuple(int(size) for size in sizes if size)
    try:
        dtype = np.dtype(match[1])
    except TypeError:
        raise InputError(f"{where} has the unknown type {match[1]}") from None
    if len(shape) > _MOST_AXES or not dtype.itemsize:
        raise InputError(f"{where} has shape {[*shape]} of {match[1]}: the file is damaged")
    return dtype, shape, match[2] == "True", begin + length


def npz_bytes(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The file that `numpy.savez` would write, the same bytes at any time."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, values in arrays.items():
            with archive.open(zipfile.ZipInfo(f"{name}.npy", _DATE), "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(values), allow_pickle=False)
    return buffer.getvalue()
