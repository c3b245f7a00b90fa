"""TensoRF's checkpoints (.th), read: planes and lines (VM) or lines alone (CP), and their decoder.

A dictionary {"kwargs", "state_dict"} and, where there is a mask of empty space, "alphaMask.shape",
"alphaMask.mask", "alphaMask.aabb". Source: Chen et al., "TensoRF", 2022, and the program's
models/tensorBase.py and tensoRF.py. Its world is the user's own.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill import log
from geodistill.checks import InputError
from geodistill.io.checkpoints import load_checkpoint
from geodistill.io.fields.arrays import FieldArrays
from geodistill.io.fields.boxes import placed
from geodistill.io.fields.tensorf_decoder import read_decoder
from geodistill.io.fields.tensorf_mask import occupancy_of
from geodistill.io.fields.values import expect, finite, number

PLANE_AXES, LINE_AXES = ((0, 1), (0, 2), (1, 2)), (2, 1, 0)
"""Plane k spans two axes, columns along the first of them; line k runs along the third."""
EXTRA = ("alphaMask_thres", "rayMarch_weight_thres", "step_ratio")
_SMALLEST = 8  # of a resolution; grids state theirs by axis
_MOST_PADDING, _SLACK = 8, 2**20


def read_tensorf(path: Path) -> FieldArrays:
    """A field of the architecture "tensorf" or "tensorf-cp".

    Raises InputError, naming the file, when it is missing, damaged, of another program, has
    contradicting shapes or values that are not finite, or shades with "RGB".
    """
    checkpoint = load_checkpoint(path)
    kwargs, state = checkpoint.get("kwargs"), checkpoint.get("state_dict")
    if not isinstance(kwargs, dict) or not isinstance(state, dict) or "aabb" not in kwargs:
        raise InputError(
            f"{path} is no checkpoint of TensoRF: it lacks kwargs with an aabb, or a state_dict"
        )
    aabb = finite(kwargs, "aabb", f"{path}: its kwargs", (2, 3))
    world_from_field, box = placed(aabb[0], aabb[1], f"{path}: its aabb")
    half = [box[axis + 3] if box else 1.0 for axis in range(3)]
    architecture, config, parameters = _factors(path, state)
    features = len(parameters["branch.basis"])
    decoder, head = read_decoder(path, kwargs, state, features, half, world_from_field[0, 0])
    extra = {name: number(kwargs, name, path) for name in EXTRA if name in kwargs}
    return FieldArrays(
        architecture=architecture,
        config={**config, "floor": 0.0, "box": box, "decoder": decoder},
        parameters={**parameters, **head},
        nodes=None,
        occupancy=occupancy_of(path, checkpoint, world_from_field, box),
        world_from_field=world_from_field,
        contraction="none",
        extra={**extra, **_near_far(path, kwargs)},
    )


def _factors(
    path: Path, state: Mapping[str, Any]
) -> tuple[str, dict[str, Any], dict[str, NDArray[np.float32]]]:
    """Architecture, sizes, parameters."""
    if "plane_coef" in state or "line_coef" in state:
        raise InputError(f"{path} is a TensorVM, which is not read: TensorVMSplit and TensorCP are")
    where = f"{path}: its state_dict"
    vm = "density_plane.0" in state
    lines = {
        kind: [_components(state, f"{kind}_line.{k}", where)[:, :, 0].T for k in range(3)]
        for kind in ("density", "app")
    }
    grid = [0, 0, 0]
    for axis, line in zip(LINE_AXES, lines["density"], strict=True):
        grid[axis] = len(line)
    ranks = {kind: [line.shape[1] for line in three] for kind, three in lines.items()}
    _check_sizes(where, grid, ranks, vm)
    found: dict[str, NDArray[np.float32]] = {}
    for kind, ours in (("density", "density"), ("app", "color")):
        for k, (line, rank) in enumerate(zip(lines[kind], ranks[kind], strict=True)):
            expect(f"{where}: {kind}_line.{k}", line.shape, (grid[LINE_AXES[k]], rank))
            found[f"branch.{ours}_lines.{k}"] = _padded(line, max(ranks[kind]))
            if vm:
                columns, rows = (grid[axis] for axis in PLANE_AXES[k])
                plane = _components(state, f"{kind}_plane.{k}", where)
                expect(f"{where}: {kind}_plane.{k}", plane.shape, (rank, rows, columns))
                padded = _padded(plane.transpose(1, 2, 0), max(ranks[kind]))
                found[f"branch.{ours}_planes.{k}"] = padded
    found["branch.basis"] = _basis(state, where, ranks["app"] if vm else ranks["app"][:1])
    cubic = len(set(grid)) == 1 and grid[0] >= _SMALLEST
    config = {"resolution": max(*grid, _SMALLEST), "grid": () if cubic else tuple(grid)}
    config |= {"density_rank": max(ranks["density"]), "color_rank": max(ranks["app"])}
    return ("tensorf" if vm else "tensorf-cp"), config, found


def _check_sizes(where: str, grid: list[int], ranks: dict[str, list[int]], vm: bool) -> None:
    """Raise InputError for what is no factorisation, before memory is taken for padded modes."""
    counts = [count for three in ranks.values() for count in three]
    if min(grid) < 2 or min(counts) < 1:
        raise InputError(f"{where} has a grid of {grid} nodes and components {ranks}: too few")
    if not vm and any(len(set(three)) > 1 for three in ranks.values()):
        raise InputError(f"{where} has lines of different numbers of components: {ranks}")
    sizes = [math.prod(grid[axis] for axis in axes) for axes in PLANE_AXES]
    held = sum(
        size * count for three in ranks.values() for size, count in zip(sizes, three, strict=True)
    )
    if sum(sizes) * sum(map(max, ranks.values())) > _MOST_PADDING * held + _SLACK:
        raise InputError(
            f"{where} has components {ranks}, which are too different to be held together"
        )


def _basis(state: Mapping[str, Any], where: str, ranks: Sequence[int]) -> NDArray[np.float32]:
    """[features, modes * the largest rank]"""
    basis = finite(state, "basis_mat.weight", where)
    if basis.ndim != 2 or not len(basis):
        raise InputError(f"{where}: basis_mat.weight has shape {[*basis.shape]}, not a matrix's")
    expect(f"{where}: basis_mat.weight", basis.shape, (len(basis), sum(ranks)))
    parts = np.split(basis, np.cumsum(ranks)[:-1], axis=1)
    return np.concatenate([_padded(part, max(ranks)) for part in parts], axis=1)


def _near_far(path: Path, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The range of depths, which tells scenes that were warped before they were trained."""
    value = kwargs.get("near_far")
    if not isinstance(value, (list, tuple)) or len(value) != 2:
        return {}
    try:
        found = [float(v) for v in value]
    except (TypeError, ValueError, OverflowError):
        return {}
    if not all(map(math.isfinite, found)):
        return {}
    if found == [0.0, 1.0]:
        log.say(
            f"{path}: its depths are 0 to 1, as of forward-facing scenes that are trained in "
            "normalised device coordinates: then these are its world, not the cameras'"
        )
    return {"near_far": found}


def _components(state: Mapping[str, Any], key: str, where: str) -> NDArray[np.float32]:
    """A factor [1, R, ...] of two more axes, without its first."""
    found = finite(state, key, where)
    if found.ndim != 4 or found.shape[0] != 1 or ("line" in key and found.shape[3] != 1):
        raise InputError(f"{where}: {key} has shape {[*found.shape]}, which no factor has")
    return found[0]


def _padded(values: NDArray[np.float32], rank: int) -> NDArray[np.float32]:
    """With components of zeros behind those that are there, on the last axis."""
    missing = [(0, 0)] * (values.ndim - 1) + [(0, rank - values.shape[-1])]
    return np.ascontiguousarray(np.pad(values, missing))
