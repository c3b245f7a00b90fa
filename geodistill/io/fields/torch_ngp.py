"""Checkpoints of torch-ngp and of PVD (`.pth`), read.

Both programs work in a cube [-bound, bound]^3. Their loaders of data sets take a place of the
user's world (that of transforms.json) there by cycling its axes (their x, y, z are its y, z, x),
then scaling and shifting. The scale and the shift are arguments of these programs, which their
files do not hold. Source: torch-ngp (nerf/, tensoRF/, raymarching/) and PVD (distill_mutual/).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill import log
from geodistill.checks import InputError
from geodistill.io.checkpoints import load_checkpoint
from geodistill.io.fields.arrays import FieldArrays
from geodistill.io.fields.cascades import Bits, from_morton, joined, side_of
from geodistill.io.fields.placing import (
    CYCLE,
    FRAME_ENTRY,
    matrix_of,
    scale_of,
    stored_frame,
    vector,
)
from geodistill.io.fields.torch_ngp_factors import read_cp, read_vm
from geodistill.io.fields.torch_ngp_hash import read_hash
from geodistill.io.fields.torch_ngp_mlp import read_mlp, read_voxels
from geodistill.io.fields.torch_ngp_model import Model, Named, model_of

DENSITY_THRESHOLD = 10.0
"""Cells of the density grid with less are empty, unless the mean over all cells is lower still."""
PVD_CLIP = (-2.0, 7.0)
"""To what PVD clamps raw densities, and VM's features; an argument that is not in its files."""
PVD_LEVELS = 14
"""Of PVD's hash grid; torch-ngp's has 16."""
_WIDEST = 2.0**10
_FUSED = ("encoder.params", "sigma_net.params", "sigma_net.weights")
_BACKGROUND = ("encoder_bg.", "bg_net.", "bg_mat")
_COMMON = {"aabb_train", "aabb_infer", "density_grid", "density_bitfield", "step_counter"}
_READERS: dict[str, Callable[[Model, float], Named]] = {
    "encoder.embeddings": read_hash,
    "sigma_mat.0": read_vm,
    "sigma_vec.0": read_cp,
    "nerf_mlp.0.weight": read_mlp,
    "tensor_volume.0": read_voxels,
}
"""By a weight that only this kind has; the first that is found."""


def read_torch_ngp(
    path: Path,
    bound: float | None = None,
    scale: float = 1.0,
    offset: Sequence[float] = (0.0, 0.0, 0.0),
    clip: tuple[float, float] = PVD_CLIP,
) -> FieldArrays:
    """An "ngp", "tensorf", "tensorf-cp", "mlp" or "plenoxels" field in the user's world.

    Averaged weights ("ema") are used where the file has them, as these programs do to render.

    Args:
        bound, scale, offset: what the program was run with. Without `bound` it is the half side of
            the box in the file; scale and offset are not in files other than ours.
        clip: what PVD clamps raw densities to; other programs' fields are not clamped.

    Raises InputError when the file is missing, damaged, of another program, or holds what no field
    of geodistill computes.
    """
    where = str(path)
    checkpoint = load_checkpoint(path)
    model = model_of(path, checkpoint)
    fused = [name for name in _FUSED if name in model.names]
    if fused:
        raise InputError(
            f"{path} holds {fused[0]}, a network of torch-ngp's --tcnn or --ff, whose activation "
            "such a file does not say: train without"
        )
    kinds = [reader for name, reader in _READERS.items() if name in model.names]
    if not kinds:
        raise InputError(
            f"{path} holds no field of torch-ngp or PVD: no weights named "
            f"{', '.join(_READERS)}; check its name"
        )
    half = _bound(model) if bound is None else bound
    if not 0.5 < half <= _WIDEST:
        raise InputError(f"{path} has the bound {half:g}; it must be from 0.5 to {_WIDEST:g}")
    architecture, config, parameters = kinds[0](model, half)
    _expect_nothing_else(model)
    config["limits"] = _limits(checkpoint, architecture, config, clip, where)
    if "values" in parameters and config["limits"]:
        config["limits"] = tuple(limit + math.log(half) for limit in config["limits"])
    frame = stored_frame(checkpoint, where)
    if frame is None:
        frame = _frame(half, scale, offset, where)
    return FieldArrays(
        architecture=architecture,
        config=config,
        parameters=parameters,
        nodes=_all_nodes(config) if architecture == "plenoxels" else None,
        occupancy=_occupancy(model, checkpoint.get("mean_density"), half),
        world_from_field=frame,
        contraction="none",
        extra={},
    )


def _frame(half: float, scale: float, offset: Sequence[float], where: str) -> NDArray[np.float64]:
    """The cube of half side `half` in the user's world, of data loaded at a scale and an offset."""
    if scale == 1.0:
        log.say(
            f"{where}: it does not say at which scale its data set was loaded: lengths are those "
            "of the program, not of the user's world"
        )
    scale = scale_of(scale, where)
    shift = vector(offset, 3, "offset", where)
    return matrix_of(half / scale, CYCLE.T, -(CYCLE.T @ shift) / scale)


def _limits(
    checkpoint: dict[str, Any],
    architecture: str,
    config: dict[str, Any],
    clip: tuple[float, float],
    where: str,
) -> tuple[float, ...]:
    """What raw densities, and perhaps features, are clamped to: () for nothing"""
    ours = checkpoint.get(FRAME_ENTRY)
    if isinstance(ours, dict):
        stored = ours.get("limits", ())
        size = len(stored) if isinstance(stored, (list, tuple)) else 0
        return tuple(float(v) for v in vector(stored, size, "limits", where))
    vm = architecture == "tensorf" and config["decoder"]["head"] == "harmonics"
    hashed = architecture == "ngp" and config["levels"] == PVD_LEVELS
    return (*clip, *clip) if vm else clip if hashed or architecture in ("mlp", "plenoxels") else ()


def _all_nodes(config: dict[str, Any]) -> Bits:
    return np.ones(config["grid"] or (config["resolution"],) * 3, bool)


def _bound(model: Model) -> float:
    """Half the side of the box, which is a cube about the origin"""
    box = model.array("aabb_infer", 6)
    half = float(np.abs(box).max())
    if not np.allclose(box, [-half] * 3 + [half] * 3):
        raise InputError(
            f"{model.path} has the box {[round(float(v), 4) for v in box]}, which is no cube about "
            "the origin: say which bound it was trained with"
        )
    return half


def _expect_nothing_else(model: Model) -> None:
    rest = model.names - model.used - _COMMON
    background = {name for name in rest if name.startswith(_BACKGROUND)}
    if background:
        log.say(f"{model.path}: its background is left out, it has no place in a field")
    if rest - background:
        raise InputError(
            f"{model.path} holds {min(rest - background)!r}, of which there is no field here"
        )


def _occupancy(model: Model, mean_density: object, bound: float) -> Bits | None:
    cascades = 1 + math.ceil(math.log2(bound))
    cells = _bits(model)
    if cells is None:
        cells = _dense_cells(model, mean_density)
    if cells is None or not cells.any():
        return None
    side = side_of(cells.size // cascades) if cells.size % cascades == 0 else None
    if side is None or side < 8:
        raise InputError(
            f"{model.path} has a density grid of {cells.size} cells, which are no {cascades} cubes "
            f"as belong to the bound {bound:g}: say which bound it was trained with"
        )
    grids = [from_morton(part) for part in cells.reshape(cascades, -1)]
    return joined(grids, [min(2.0**cascade, bound) / bound for cascade in range(cascades)])


def _bits(model: Model) -> NDArray[np.bool_] | None:
    if "density_bitfield" not in model.names:
        return None
    packed = model.raw("density_bitfield")
    if packed.dtype != np.uint8 or packed.ndim != 1:
        raise InputError(f"{model.path} has a density_bitfield that is no list of bytes")
    return np.unpackbits(packed, bitorder="little").astype(bool)


def _dense_cells(model: Model, mean_density: object) -> NDArray[np.bool_] | None:
    """Of the densities themselves, where there are no bits; unseen cells are negative"""
    if "density_grid" not in model.names:
        return None
    density = model.raw("density_grid").astype(np.float32)
    if density.ndim != 2:
        log.say(f"{model.path}: its density grid is of an old form and left out")
        return None
    if isinstance(mean_density, (int, float)) and math.isfinite(mean_density):
        mean = float(mean_density)
    else:
        mean = float(np.maximum(density, 0.0).mean())
    return density.reshape(-1) > min(mean, DENSITY_THRESHOLD)
