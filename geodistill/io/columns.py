"""Named scalar columns of point files, and the arrays they stand for.

A cloud is a dictionary: "positions" float64 [N, 3], perhaps "colors" uint8 [N, 4] (sRGB RGBA) and
"normals" float32 [N, 3]; everything else is an attribute, float32 [N] or [N, C]. In files that know
scalars only, an attribute [N, C] is the columns name_0, name_1, ...
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from geodistill import log
from geodistill.checks import InputError, UsageError

XYZ = ("x", "y", "z")
RGB = ("red", "green", "blue")
NORMAL = ("nx", "ny", "nz")
NORMALS = (NORMAL, ("normal_x", "normal_y", "normal_z"))
COLORS = (RGB, ("r", "g", "b"), ("diffuse_red", "diffuse_green", "diffuse_blue"))
_ALPHA = (("alpha",), ("a",), ("diffuse_alpha",))
_OWN = ("positions", "colors", "normals")
_RESERVED = {
    *(name for names in (XYZ, *NORMALS, *COLORS, *_ALPHA) for name in names),
    *("rgb", "rgba", "colours", "points", "xyz", "_"),
}
_NUMBERED = re.compile(r"(.+)_(0|[1-9]\d{0,5})")
_LOST = 1e-3


_BLOCK = 4096


def row_blocks(count: int) -> Iterator[slice]:
    """Rows a few at a time: what goes between rows and columns then stays in the caches, which
    makes many columns four times as fast."""
    return (slice(start, start + _BLOCK) for start in range(0, count, _BLOCK))


def as_rows(columns: Sequence[np.ndarray], kind: type[np.floating]) -> np.ndarray:
    """Columns [N] side by side: [N, C]."""
    found = np.empty((len(columns[0]), len(columns)), kind)
    for rows in row_blocks(len(found)):
        for number, values in enumerate(columns):
            found[rows, number] = values[rows]
    return found


def cloud_from_columns(columns: Mapping[str, np.ndarray], where: str) -> dict[str, np.ndarray]:
    """Sort columns [N] (or [N, C]) into a cloud by their names, in any case and usual spelling.

    Raises InputError beginning with `where` when there are no positions, or colours are none.
    """
    left = dict(columns)
    positions, normals, colors = taken(left, (XYZ,)), taken(left, NORMALS), take_colors(left, where)
    if positions is None:
        raise InputError(
            f"{where} has no columns x, y, z (it has {', '.join([*columns][:12]) or 'none'}): it "
            "holds no points"
        )
    with np.errstate(invalid="ignore"):  # of signalling NaN, which is dropped later
        cloud: dict[str, np.ndarray] = {"positions": positions.astype(np.float64)}
    if colors is not None:
        cloud["colors"] = colors
    if normals is not None:
        cloud["normals"] = to_float32(normals)
    for name, values in left.items():
        if name in _OWN:
            log.say(f"{where}: left out its column '{name}', a name that has another meaning here")
        else:
            cloud[name] = as_float32(values, f"{where}: '{name}'")
    return cloud


def take_colors(columns: dict[str, np.ndarray], where: str) -> np.ndarray | None:
    """Remove red, green, blue and alpha in any spelling: uint8 [N, 4], opaque without alpha.

    Raises InputError beginning with `where` when they are no colours.
    """
    colors = taken(columns, COLORS)
    if colors is None:
        return None
    alpha = taken(columns, _ALPHA)
    opaque = np.full((len(colors), 1), 255, np.uint8)
    parts = [colors, opaque if alpha is None else alpha]
    return np.concatenate([color_bytes(part, where) for part in parts], axis=1)


def taken(
    columns: dict[str, np.ndarray], spellings: tuple[tuple[str, ...], ...]
) -> np.ndarray | None:
    """Remove columns [N] by the first of the spellings that is there, in any case.

    [N, names], or None where there is none.
    """
    by_lower = {name.lower(): name for name in reversed([*columns])}
    for names in spellings:
        if all(name in by_lower and columns[by_lower[name]].ndim == 1 for name in names):
            return np.stack([columns.pop(by_lower[name]) for name in names], axis=1)
    return None


def columns_from_cloud(cloud: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A cloud as named columns, positions first; the inverse of `cloud_from_columns`.

    Alpha is left out where all is opaque.
    """
    columns: dict[str, np.ndarray] = dict(zip(XYZ, cloud["positions"].T, strict=True))
    if "normals" in cloud:
        columns.update(zip(NORMAL, cloud["normals"].T, strict=True))
    if "colors" in cloud:
        channels = 4 if (cloud["colors"][:, 3] < 255).any() else 3
        columns.update(zip((*RGB, "alpha")[:channels], cloud["colors"].T[:channels], strict=True))
    return {**columns, **attributes_of(cloud)}


def attributes_of(cloud: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The further columns of a cloud. Raises UsageError for a name that means something else."""
    attributes = {name: values for name, values in cloud.items() if name not in _OWN}
    for name in attributes:
        if name.lower() in _RESERVED or len(name.split()) != 1:
            raise UsageError(f"an attribute cannot be named '{name}' in a point file: rename it")
    return attributes


def grouped(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Join columns name_0, name_1, ... into one [N, C] at the place of the first."""
    members: dict[str, dict[int, str]] = {}
    for name in columns:
        if match := _NUMBERED.fullmatch(name):
            members.setdefault(match[1], {})[int(match[2])] = name
    whole = {
        base: [numbers[i] for i in range(len(numbers))]
        for base, numbers in members.items()
        if sorted(numbers) == [*range(len(numbers))] and base not in columns
    }
    base_of = {name: base for base, names in whole.items() for name in names}
    out: dict[str, np.ndarray] = {}
    for name, values in columns.items():
        base = base_of.get(name)
        if base is None:
            out[name] = values
        elif base not in out:
            out[base] = np.stack([columns[member] for member in whole[base]], axis=1)
    return out


def ungrouped(columns: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Split columns [N, C] into name_0, name_1, ... Raises UsageError when names then collide."""
    out: dict[str, np.ndarray] = {}
    for name, values in columns.items():
        parts = {name: values}
        if values.ndim == 2:
            parts = {f"{name}_{i}": values[:, i] for i in range(values.shape[1])}
        if twice := sorted(out.keys() & parts.keys()):
            raise UsageError(f"two attributes would both be stored as '{twice[0]}': rename one")
        out.update(parts)
    return out


def color_bytes(values: np.ndarray, where: str) -> np.ndarray:
    """Colours as bytes from bytes, from [0, 1], from 0..255 or from 0..65535. Any shape."""
    if values.dtype == np.uint8 or not values.size:
        return values.astype(np.uint8)
    low, high = float(values.min()), float(values.max())
    if not (low >= 0 and high <= 65535):  # false for NaN too
        raise InputError(
            f"{where} has colours from {low:g} to {high:g}: they must be 0..1 or 0..255"
        )
    whole = values.dtype.kind in "iu"
    scale = 255.0 if high <= 1 and not whole else 1.0 if high <= 255 else 255.0 / 65535.0
    return np.rint(values * scale).astype(np.uint8)


def narrowed(cloud: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The cloud with float32 positions, which every tool reads, where that changes none of them."""
    narrow = to_float32(cloud["positions"])
    same = np.array_equal(narrow, cloud["positions"])
    return {**cloud, "positions": narrow if same else cloud["positions"]}


def as_float32(values: np.ndarray, what: str) -> np.ndarray:
    """float32, with one line where that blurs what the values differ by (times, identities)."""
    narrow = to_float32(values)
    finite = np.isfinite(narrow)
    kept = values[finite].astype(np.float64)
    if kept.size and np.ptp(kept) > 0:
        lost = float(np.abs(narrow[finite] - kept).max() / np.ptp(kept))
        if lost > _LOST:
            log.say(f"{what} loses {lost:.1%} of its range: attributes have 24 significant bits")
    return narrow


def to_float32(values: np.ndarray) -> np.ndarray:
    """float32; what is too large for it becomes infinite without a warning."""
    with np.errstate(over="ignore"):
        return values.astype(np.float32)
