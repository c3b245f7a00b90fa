"""Radiance fields in the files of other programs, as plain arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from geodistill.checks import UsageError
from geodistill.io.fields.arrays import FieldArrays, checked
from geodistill.io.fields.ingp import read_ingp
from geodistill.io.fields.ingp_write import ingp_files
from geodistill.io.fields.nerfstudio import read_nerfstudio
from geodistill.io.fields.nerfstudio_write import nerfacto_files
from geodistill.io.fields.svox2 import holds_voxels, read_svox2, svox2_files
from geodistill.io.fields.tensorf import read_tensorf
from geodistill.io.fields.tensorf_write import tensorf_files
from geodistill.io.fields.torch_ngp import read_torch_ngp
from geodistill.io.fields.torch_ngp_write import torch_ngp_files
from geodistill.io.nerfstudio import is_run
from geodistill.runs import write_files

__all__ = [
    "FORMATS",
    "FieldArrays",
    "Format",
    "expect_writable",
    "format_of",
    "holds_voxels",
    "read_field",
    "write_field",
]

Reader = Callable[[Path], FieldArrays]
Writer = Callable[[FieldArrays, Path], Mapping[str, bytes | list[bytes]]]


class Format(NamedTuple):
    """A program's files: their reader, their writer, and by architecture the settings of fields
    that it writes exactly, where they are not our own."""

    read: Reader
    write: Writer | None = None
    settings: Mapping[str, Mapping[str, Any]] = {}


LIKE_TENSORF = {
    "floor": -15.0,
    "decoder": {
        "density": "softplus",
        "density_scale": 1000.0,
        "features": 27,
        "head": "frequencies",
        "width": 128,
        "bias": True,
        "view_frequencies": [1.0, 2.0],
        "feature_frequencies": [1.0, 2.0],
    },
}
"""TensoRF's network, with a softplus whose bend lies where a step is opaque."""

LIKE_PVD = {
    "ngp": {"log2_size": 19, "max_resolution": 2048},
    "tensorf": {"density_rank": 15},
    "mlp": {"depth": 8, "width": 256, "octaves": 10},
}
"""The sizes that are in PVD's code and not in its files; one component of density is the floor."""
LIKE_TORCH_NGP = {
    "density_rank": 95,
    "decoder": {
        "features": 27,
        "head": "frequencies",
        "width": 128,
        "view_frequencies": [1.0, 2.0],
        "feature_frequencies": [1.0, 2.0],
    },
}
"""CP, which PVD has not; again with a component for the floor."""

FORMATS: dict[str, Format] = {
    ".ckpt": Format(read_nerfstudio),
    ".yml": Format(read_nerfstudio, nerfacto_files),
    ".ingp": Format(read_ingp, ingp_files, {"ngp": {"convention": "tcnn"}}),
    ".msgpack": Format(read_ingp, ingp_files, {"ngp": {"convention": "tcnn"}}),
    ".pth": Format(read_torch_ngp, torch_ngp_files, {**LIKE_PVD, "tensorf-cp": LIKE_TORCH_NGP}),
    ".npz": Format(read_svox2, svox2_files, {"plenoxels": {}}),
    ".th": Format(
        read_tensorf, tensorf_files, {"tensorf": LIKE_TENSORF, "tensorf-cp": LIKE_TENSORF}
    ),
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
    write_files(path, form.write(arrays, path))


def expect_writable(path: Path, architecture: str) -> Mapping[str, Any]:
    """Settings of an architecture with which a field can be written under this name.

    Raises UsageError for a name whose format holds other architectures only, or is only read.
    """
    form = FORMATS[path.suffix.lower()]
    if form.write is None:
        raise UsageError(f"-o {path}: {path.suffix} is read, and not written")
    if not form.settings:
        raise UsageError(f"-o {path}: name a folder, and `export` its field to {path.name}")
    if architecture not in form.settings:
        raise UsageError(
            f"-o {path}: {path.suffix} files hold {' or '.join(form.settings)}, not {architecture}"
        )
    return form.settings[architecture]
