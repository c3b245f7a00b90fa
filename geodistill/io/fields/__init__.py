"""Radiance fields in the files of other programs, as plain arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from geodistill.checks import UsageError
from geodistill.io.fields.arrays import FieldArrays, checked
from geodistill.io.fields.nerfstudio import read_nerfstudio
from geodistill.io.fields.nerfstudio_write import nerfacto_files
from geodistill.io.fields.svox2 import holds_voxels, read_svox2, svox2_files
from geodistill.io.fields.tensorf import read_tensorf
from geodistill.io.fields.tensorf_write import tensorf_files
from geodistill.io.nerfstudio import is_run
from geodistill.runs import atomic_write, make_folder

__all__ = [
    "FORMATS",
    "FieldArrays",
    "Format",
    "format_of",
    "holds_voxels",
    "read_field",
    "write_field",
]

Reader = Callable[[Path], FieldArrays]
Writer = Callable[[FieldArrays, Path], Mapping[str, bytes | list[bytes]]]


class Format(NamedTuple):
    """A program's files: their reader and their writer."""

    read: Reader
    write: Writer | None = None


FORMATS: dict[str, Format] = {
    ".ckpt": Format(read_nerfstudio),
    ".yml": Format(read_nerfstudio, nerfacto_files),
    ".npz": Format(read_svox2, svox2_files),
    ".th": Format(read_tensorf, tensorf_files),
}
"""By the ending of the name."""


def format_of(path: Path) -> Format | None:
    """The format that the name says; None for a name that none of these programs gives."""
    if is_run(path):
        return FORMATS[".yml"]
    return FORMATS.get(path.suffix.lower())


def read_field(path: Path | str) -> FieldArrays:
    """Read a field by the ending of its file's name.

    Raises UsageError for an unknown ending, InputError, naming the file, when it is missing,
    damaged, holds values that are not finite, or what no field of ours computes.
    """
    path = Path(path)
    form = format_of(path)
    if form is None:
        raise UsageError(f"{path} has an ending that no field format has: {', '.join(FORMATS)}")
    return checked(form.read(path), path)


def write_field(path: Path | str, arrays: FieldArrays) -> None:
    """Write a field by the ending of the name, atomically.

    Raises UsageError for an ending that cannot be written or a field that the format does not
    hold, InputError for an unwritable path.
    """
    path = Path(path)
    form = format_of(path)
    if form is None or form.write is None:
        writable = [ending for ending, one in FORMATS.items() if one.write is not None]
        raise UsageError(f"cannot write a field as {path.name}: choose {', '.join(writable)}")
    for name, content in form.write(arrays, path).items():
        pieces = [content] if isinstance(content, bytes) else content
        if "/" in name:
            make_folder((path.parent / name).parent)
        atomic_write(path.parent / name, lambda file, pieces=pieces: file.writelines(pieces))
