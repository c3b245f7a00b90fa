"""The PLY layout of 3D Gaussian Splatting (Kerbl et al. 2023).

x y z, nx ny nz (zeros), f_dc_0..2, f_rest_* (all of red, then green, then blue), opacity (a logit),
scale_0..2 (logarithms), rot_0..3 (w, x, y, z).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from geodistill import log
from geodistill.checks import InputError, UsageError
from geodistill.io.columns import as_float32, as_rows, grouped, to_float32, ungrouped
from geodistill.io.ply import Column, ListColumn, read_ply
from geodistill.io.ply_write import ply_bytes
from geodistill.io.splats.arrays import COEFFICIENTS, SH_C0, SplatArrays, splat_arrays
from geodistill.io.splats.ply_packed import PACKED, read_packed_splats
from geodistill.io.splats.ply_variants import FILTER, THIRD_SCALE, as_reference, say_mode

_MEANS, _NORMALS = ("x", "y", "z"), ("nx", "ny", "nz")
_DC = ("f_dc_0", "f_dc_1", "f_dc_2")
_COLORS = ("red", "green", "blue")  # 0 to 255 in their place, as nerfstudio exports them on demand
_DEGREE_4 = 24  # harmonics of a channel besides the first, of which the first 15 are kept
_SCALES = ("scale_0", "scale_1", "scale_2")
_ROTATIONS = ("rot_0", "rot_1", "rot_2", "rot_3")
_NEEDED = (*_MEANS, *_DC, "opacity", *_SCALES, *_ROTATIONS)


def read_ply_splats(path: Path) -> SplatArrays:
    """Splats in 3DGS's layout, in one of its variants (see ply_variants.py), or compressed (see
    ply_packed.py).

    Raises InputError when it is missing, damaged, no splat file, or not finite.
    """
    file = read_ply(path)
    elements = file.elements
    say_mode(path, file.comments)
    if any(name in PACKED for name in elements.get("vertex", {})):
        return read_packed_splats(path, elements)
    columns = _columns(path, elements)
    rest = _rest_count(path, columns)
    channel = rest // 3
    kept = min(channel, COEFFICIENTS[-1] - 1)
    if kept < channel:
        log.say(f"{path} has harmonics of degree 4: those above degree 3 are left out")
    sh = np.empty((len(columns["x"]), 1 + kept, 3), np.float32)
    sh[:, 0] = _stack(columns, _DC)
    if rest:
        ordered = [f"f_rest_{c * channel + i}" for i in range(kept) for c in range(3)]
        sh[:, 1:] = _stack(columns, ordered).reshape(len(sh), kept, 3)
    known = {*_NEEDED, *_NORMALS, *(f"f_rest_{i}" for i in range(rest))}
    further = grouped({name: values for name, values in columns.items() if name not in known})
    return splat_arrays(
        path,
        _stack(columns, _MEANS),
        _stack(columns, _ROTATIONS),
        _stack(columns, _SCALES),
        to_float32(columns["opacity"]),
        sh,
        {name: as_float32(values, f"{path}: '{name}'") for name, values in further.items()},
    )


def ply_splat_files(splats: SplatArrays, path: Path) -> dict[str, list[bytes]]:
    """float32, little endian, in the reference's order; attributes [N, C] as name_0, name_1, ...

    Raises UsageError for an attribute whose name the layout or a variant of it has.
    """
    count = len(splats["means"])
    rest = splats["sh"][:, 1:].swapaxes(1, 2).reshape(count, -1)
    columns = {
        **dict(zip(_MEANS, splats["means"].T, strict=True)),
        **dict.fromkeys(_NORMALS, np.zeros(count, np.float32)),
        **dict(zip(_DC, splats["sh"][:, 0].T, strict=True)),
        **{f"f_rest_{i}": rest[:, i] for i in range(rest.shape[1])},
        "opacity": splats["opacity_logits"],
        **dict(zip(_SCALES, splats["log_scales"].T, strict=True)),
        **dict(zip(_ROTATIONS, splats["rotations"].T, strict=True)),
    }
    further = ungrouped(splats["attributes"])
    for name in further:
        if name in (*columns, *PACKED, FILTER) or name.startswith("f_rest_"):
            raise UsageError(f"a splat file cannot hold an attribute as '{name}': rename it")
    return {path.name: ply_bytes({"vertex": {**columns, **further}})}


def _columns(path: Path, elements: Mapping[str, Mapping[str, Column]]) -> dict[str, np.ndarray]:
    """The scalar properties of a splat file's vertices; those of the layout are finite."""
    vertices = elements.get("vertex", {})
    columns = {k: c for k, c in vertices.items() if not isinstance(c, ListColumn)}
    if "f_dc_0" not in columns and {"opacity", *_COLORS} <= columns.keys():
        colors = [columns.pop(name) for name in _COLORS]
        columns |= {
            dc: ((color / np.float32(255) - 0.5) / SH_C0).astype(np.float32)
            for dc, color in zip(_DC, colors, strict=True)
        }
    for name in _NEEDED:
        if name not in columns and name != THIRD_SCALE:
            kind = "a mesh" if len(next(iter(elements.get("face", {}).values()), ())) else "a cloud"
            raise InputError(
                f"{path} is not a splat file but looks like {kind}: its vertices have no property "
                f"'{name}' (they have {', '.join([*columns][:12]) or 'none'})"
            )
    if not len(columns["x"]):
        raise InputError(f"{path} holds no splats")
    rest = [name for name in columns if name.startswith("f_rest_")]
    return as_reference(path, columns, (*_NEEDED, *rest))


def _rest_count(path: Path, columns: Mapping[str, np.ndarray]) -> int:
    names = {name for name in columns if name.startswith("f_rest_")}
    allowed = [3 * (count - 1) for count in COEFFICIENTS]
    if len(names) not in (*allowed, 3 * _DEGREE_4) or names != {
        f"f_rest_{i}" for i in range(len(names))
    }:
        raise InputError(
            f"{path} has {len(names)} properties f_rest_*: a splat file has f_rest_0 and so on, "
            f"{', '.join(map(str, allowed))} of them for the degrees 0 to {len(COEFFICIENTS) - 1}, "
            f"or {3 * _DEGREE_4}"
        )
    return len(names)


def _stack(columns: Mapping[str, np.ndarray], names: Sequence[str]) -> np.ndarray:
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
        return as_rows([columns[name] for name in names], np.float32)
