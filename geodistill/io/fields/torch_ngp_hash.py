"""The hash grids of torch-ngp and PVD, whose resolutions a file implies but does not state."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from geodistill import log
from geodistill.checks import InputError, UsageError
from geodistill.io.fields.torch_ngp_model import Model, Named, harmonics_head, network
from geodistill.kernels.hashspec import HashSpec

UNIT_RESOLUTION = 2048
"""Of the finest level, across the half side of the cube."""
_FEATURES = (1, 2, 4, 8)
_OTHERS = tuple(2**k for k in range(13, 6, -1))


def read_hash(model: Model, bound: float) -> Named:
    """Hash grid, `sigma_net` and `color_net`."""
    table, spec = _table(model, bound)
    density = model.matrices("sigma_net.{}.weight", spec.width)
    decoder, head = harmonics_head(model, len(density[-1]) - 1, bound)
    config = {
        "levels": spec.levels,
        "features": spec.features,
        "log2_size": spec.log2_size,
        "base_resolution": spec.base_resolution,
        "max_resolution": spec.max_resolution,
        "convention": "torch-ngp",
        "hidden": len(density[0]),
        "layers": len(density) - 1,
        "decoder": decoder,
    }
    if spec.resolutions is not None:
        config["resolutions"] = spec.resolutions
    if spec.level_scale is not None:
        config["level_scale"] = spec.level_scale
    parameters = {"branch.table": table, **network("branch.density_net", density), **head}
    return Named("ngp", config, parameters)


def _table(model: Model, bound: float) -> tuple[NDArray[np.float32], HashSpec]:
    rows = model.array("encoder.embeddings", None, None)
    sizes = _sizes(model, len(rows))
    features = rows.shape[1]
    if features not in _FEATURES:
        raise InputError(f"{model.path} has {features} features a level, known are {_FEATURES}")
    log2_size = max(int(max(sizes) - 1).bit_length(), 3)
    base = _base_resolution(model, sizes[0], 2**log2_size)
    finest = UNIT_RESOLUTION * bound
    for candidate in dict.fromkeys([finest, *(n * b for b in (bound, 1.0) for n in _OTHERS)]):
        spec = _spec(len(sizes), features, log2_size, base, candidate)
        if spec is not None and _fits(sizes, spec.sizes, spec.strides):
            if candidate != finest:
                log.say(
                    f"{model.path}: its levels are not those of torch-ngp's default, they fit a "
                    f"finest resolution of {candidate:g}"
                )
            return _repacked(rows, sizes, spec), spec
    raise InputError(
        f"{model.path} has levels of {sizes[:6]} ... entries, which fit no resolutions from {base} "
        f"to {finest:g} (2048 times the bound {bound:g}): say which bound it was trained with"
    )


def _sizes(model: Model, rows: int) -> list[int]:
    """Entries of each level"""
    offsets = model.raw("encoder.offsets").reshape(-1)
    levels = len(offsets) - 1
    if offsets.dtype.kind not in "iu" or not 1 <= levels <= 64:
        raise InputError(f"{model.path} is damaged: encoder.offsets are no ends of levels")
    sizes = np.diff(offsets.astype(np.int64))
    if offsets[0] != 0 or offsets[-1] != rows or (sizes < 1).any() or sizes.max() > 2**28:
        raise InputError(
            f"{model.path} is damaged: encoder.offsets do not cut its {rows} entries into levels"
        )
    return [int(size) for size in sizes]


def _base_resolution(model: Model, size: int, cap: int) -> int:
    """That whose (resolution + 1)^3 nodes, perhaps rounded up to a multiple of 8, are `size`"""
    if size == cap:
        return 16
    near = round(size ** (1 / 3)) - 1
    for resolution in range(max(near - 1, 1), near + 2):
        nodes = (resolution + 1) ** 3
        if size in (nodes, _rounded(nodes)):
            return resolution
    raise InputError(f"{model.path} has a first level of {size} entries, which is no cube of nodes")


def _spec(levels: int, features: int, log2_size: int, base: int, finest: float) -> HashSpec | None:
    if finest < base:
        return None
    growth = None if finest == int(finest) else float((finest / base) ** (1 / max(levels - 1, 1)))
    try:
        return HashSpec(
            levels, features, log2_size, base, round(finest), "torch-ngp", level_scale=growth
        )
    except UsageError:
        return None


def _fits(sizes: list[int], own: tuple[int, ...], strides: tuple[int, ...]) -> bool:
    """Level by level; dense ones may lack what rounds them up to a multiple of 8"""
    return all(
        size == wanted or (stride > 0 and size == stride**3)
        for size, wanted, stride in zip(sizes, own, strides, strict=True)
    )


def _repacked(rows: NDArray, sizes: list[int], spec: HashSpec) -> NDArray[np.float32]:
    """Each level at its place in our table"""
    if tuple(sizes) == spec.sizes:
        return rows
    table = np.zeros((spec.entries, spec.features), np.float32)
    start = 0
    for size, place in zip(sizes, spec.offsets, strict=False):
        table[place : place + size] = rows[start : start + size]
        start += size
    return table


def _rounded(nodes: int) -> int:
    return -(-nodes // 8) * 8
