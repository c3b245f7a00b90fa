"""NumPy's archives: read as NumPy reads them, and never trusted."""

from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from geodistill.checks import InputError
from geodistill.io.npz import NpzFile, npz_bytes

ARRAYS = {
    "f": np.arange(24, dtype=np.float32).reshape(2, 3, 4),
    "columns_first": np.asfortranarray(np.arange(12).reshape(3, 4)),
    "half": np.ones((3, 0), np.float16),
    "number": np.array(7),
    "yes": np.array([True, False]),
    "big": np.arange(3, dtype=">i4"),
    "text": np.array(["a", "bcd"]),
    "bytes": np.array([b"x"]),
}


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_what_numpy_writes(save, tmp_path: Path) -> None:
    save(tmp_path / "a.npz", **ARRAYS)
    file = NpzFile(tmp_path / "a.npz")
    for name, values in ARRAYS.items():
        assert name in file
        found = file.array(name)
        assert found.dtype == values.dtype and np.array_equal(found, values), name
    assert "other" not in file


def test_numpy_reads_what_is_written() -> None:
    content = npz_bytes(ARRAYS)
    with np.load(io.BytesIO(content)) as back:
        for name, values in ARRAYS.items():
            assert back[name].dtype == values.dtype and np.array_equal(back[name], values), name
    assert npz_bytes(ARRAYS) == content


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_all_versions_of_the_header(version: tuple[int, int], tmp_path: Path) -> None:
    member = io.BytesIO()
    np.lib.format.write_array(member, ARRAYS["f"], version)
    path = archive(tmp_path, member.getvalue())
    assert np.array_equal(NpzFile(path).array("a"), ARRAYS["f"])


def archive(folder: Path, member: bytes) -> Path:
    path = folder / "a.npz"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.npy", member)
    return path


def npy(header: str, body: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header.encode() + body


GOOD = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n"


@pytest.mark.parametrize(
    "member, complaint",
    [
        (b"", "not in NumPy's format"),
        (b"\x93NUMPY\x07\0" + bytes(20), "not in NumPy's format"),
        (npy(GOOD)[:40], "a header of"),
        (npy(GOOD, bytes(7)), "of shape [2] takes 8 bytes, it has 7"),
        (npy(GOOD, bytes(9)), "it has 9"),
        (npy(GOOD.replace("(2,)", "(99999999999999999, 99999999999999999)"), bytes(8)), "takes"),
        (npy(GOOD.replace("(2,)", "(99999999999999999, 99999999999999999, 0)")), "has the shape"),
        (npy(GOOD.replace("(2,)", "(-2,)"), bytes(8)), "no header of numbers"),
        (npy(GOOD.replace("(2,)", "(" + "9" * 5000 + ",)"), bytes(8)), "no header of numbers"),
        (npy(GOOD.replace("(2,)", "(" + "1, " * 40 + ")"), bytes(4)), "has shape"),
        (npy(GOOD.replace("<f4", "<f3"), bytes(8)), "the unknown type <f3"),
        (npy(GOOD.replace("<f4", "|O"), bytes(8)), "Python objects"),
        (npy(GOOD.replace("'<f4'", "[('a', '<f4')]"), bytes(8)), "no header of numbers"),
        (npy("__import__('os')", bytes(8)), "no header of numbers"),
        (npy("(" * 9000, bytes(8)), "no header of numbers"),
    ],
)
def test_damaged_members(member: bytes, complaint: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        NpzFile(archive(tmp_path, member)).array("a")
    assert complaint in str(caught.value) and "\n" not in str(caught.value)


def test_objects_are_never_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", a=np.array([{}, None], object))
    with pytest.raises(InputError, match="Python objects"):
        NpzFile(tmp_path / "a.npz").array("a")


def test_other_files(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with pytest.raises(InputError, match="does not exist"):
        NpzFile(path)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="is empty"):
        NpzFile(path)
    path.write_bytes(b"\x93NUMPY")
    with pytest.raises(InputError, match=r"not an NPZ file"):
        NpzFile(path)
    path.write_bytes(npz_bytes(ARRAYS)[:300])
    with pytest.raises(InputError, match="truncated or damaged"):
        NpzFile(path)
    path.write_bytes(npz_bytes(ARRAYS))
    with pytest.raises(InputError, match="has no array 'x': it holds big, bytes"):
        NpzFile(path).array("x")
