"""Gaussian splats in files, as plain arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from geodistill.checks import ShapeError, UsageError
from geodistill.io.nerfstudio import CONFIG, is_run
from geodistill.io.splats.arrays import SplatArrays
from geodistill.io.splats.checkpoints import (
    ENDINGS,
    holds_checkpoint_splats,
    read_checkpoint_splats,
    world_of_checkpoint,
)
from geodistill.io.splats.checkpoints_write import gsplat_files, splatfacto_files
from geodistill.io.splats.glb import glb_splat_files
from geodistill.io.splats.gltf import holds_splats, read_gltf_splats
from geodistill.io.splats.ksplat import read_ksplat
from geodistill.io.splats.ply import ply_splat_files, read_ply_splats
from geodistill.io.splats.ply_packed import packed_ply_files
from geodistill.io.splats.sog import read_sog
from geodistill.io.splats.sog_write import sog_files
from geodistill.io.splats.splat import dot_splat_files, read_dot_splat
from geodistill.io.splats.spz import read_spz, spz_files
from geodistill.runs import write_files

if TYPE_CHECKING:
    from geodistill.cameras import Similarity

__all__ = [
    "FORMATS",
    "Format",
    "SplatArrays",
    "format_of",
    "holds_checkpoint_splats",
    "holds_splats",
    "read_splats",
    "write_splats",
]

Reader = Callable[[Path], SplatArrays]
Writer = Callable[[SplatArrays, Path], Mapping[str, bytes | list[bytes]]]


class Format(NamedTuple):
    """A splat format: its reader, its writer, whether its axes are fixed as OpenGL's (x right, y
    up, z backward) where 3DGS's are x right, y down, z forward, and what tells how the axes of a
    file lie in the user's world, where files say that."""

    read: Reader
    write: Writer | None = None
    opengl: bool = False
    world: Callable[[Path], Similarity | None] | None = None


_CHECKPOINT = Format(read_checkpoint_splats, world=world_of_checkpoint)
FORMATS: dict[str, Format] = {
    ".ply": Format(read_ply_splats, ply_splat_files),
    ".compressed.ply": Format(read_ply_splats, packed_ply_files),
    ".splat": Format(read_dot_splat, dot_splat_files),
    ".ksplat": Format(read_ksplat),
    ".glb": Format(read_gltf_splats, glb_splat_files, opengl=True),
    ".gltf": Format(read_gltf_splats, opengl=True),
    ".spz": Format(read_spz, spz_files, opengl=True),
    ".sog": Format(read_sog, sog_files),
    "meta.json": Format(read_sog),
    **dict.fromkeys(ENDINGS, _CHECKPOINT),
    ".pt": _CHECKPOINT._replace(write=gsplat_files),
    CONFIG: _CHECKPOINT._replace(write=splatfacto_files),
}
"""By the ending of the name, the longest that fits."""


def format_of(path: Path) -> Format:
    """By the ending of the name; a folder is a run of nerfstudio.

    Raises UsageError for an ending that no splat format has.
    """
    if path.is_dir() and is_run(path):
        return FORMATS[CONFIG]
    name = path.name.lower()
    for ending in sorted(FORMATS, key=len, reverse=True):
        if name.endswith(ending):
            return FORMATS[ending]
    raise UsageError(f"{path} has an ending that no splat format has: {', '.join(FORMATS)}")


def writable_endings() -> list[str]:
    return [ending for ending, one in FORMATS.items() if one.write is not None]


def expect_writable(path: Path) -> None:
    """Raise UsageError, naming the endings, for one that splats cannot be written with."""
    if not any(path.name.lower().endswith(ending) for ending in FORMATS):
        known = ", ".join(writable_endings())
        raise UsageError(f"{path} has an ending that no splat format has: choose {known}")
    if format_of(path).write is None:
        raise UsageError(
            f"cannot write splats as {path.name}: choose {', '.join(writable_endings())}"
        )


def expect_one_file(path: Path) -> None:
    """Raise UsageError for a name that stands for several files: a run folder keeps one as its
    result."""
    if path.name.lower().endswith(CONFIG):
        raise UsageError(f"-o {path}: name a folder, and `export` its splats to {path.name}")


def read_splats(path: Path | str) -> SplatArrays:
    """Read splats by the ending of the file's name, in the file's own axes.

    Raises UsageError for an unknown ending, InputError, naming the file, when it is missing,
    empty, damaged, or holds values that are not finite.
    """
    path = Path(path)
    with np.errstate(invalid="ignore"):  # of NaN, which is refused
        return format_of(path).read(path)


def write_splats(path: Path | str, splats: SplatArrays) -> None:
    """Write splats, given in the format's axes, by the ending of the name, atomically.

    Raises UsageError for an ending or an attribute's name that cannot be written, ShapeError for
    attributes of another length, InputError for an unwritable path.
    """
    path = Path(path)
    expect_writable(path)
    write = format_of(path).write
    assert write is not None
    _check_attributes(splats)
    write_files(path, write(splats, path))


def _check_attributes(splats: SplatArrays) -> None:
    count = len(splats["means"])
    for name, values in splats["attributes"].items():
        if values.ndim not in (1, 2) or len(values) != count:
            raise ShapeError(
                f"attribute '{name}' must have shape [{count}] or [{count}, C], got "
                f"{[*values.shape]}"
            )
        if values.dtype != np.float32:
            raise UsageError(f"attribute '{name}' must be float32, got {values.dtype}")
