"""Checkpoints that torch-ngp and PVD load, written (`.pth`).

These programs build their networks in fixed sizes before they load weights into them, so that a
field must have these sizes. Densities are exp(raw) per length of a cube [-bound, bound]^3, with
nothing to add: the bound is the constant that the field's densities have before exp(raw).
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill import log
from geodistill.checks import UsageError
from geodistill.io.fields.arrays import FieldArrays
from geodistill.io.fields.cascades import SIDE, cascades_of, to_morton
from geodistill.io.fields.expressible import constant_of_density, expect_uncontracted
from geodistill.io.fields.placing import CYCLE, FRAME_ENTRY, frame_entry, parts_of
from geodistill.io.fields.torch_ngp import PVD_CLIP
from geodistill.io.fields.torch_ngp_states import (
    State,
    cp_state,
    hash_state,
    mlp_state,
    vm_state,
    voxels_state,
)

_WRITERS: dict[str, Callable[[FieldArrays, Path, float], State]] = {
    "ngp": hash_state,
    "tensorf": vm_state,
    "tensorf-cp": cp_state,
    "mlp": mlp_state,
    "plenoxels": voxels_state,
}
_OCCUPIED = 20.0
"""Density of occupied cells: more than what these programs ask of one."""


def torch_ngp_files(field: FieldArrays, path: Path) -> dict[str, bytes]:
    """A checkpoint of torch-ngp (hash grid of 16 levels, TensoRF) or of PVD (hash grid of 14
    levels, VM, network), whichever has a field like this.

    Raises UsageError for a field that neither has, and says what to set.
    """
    expect_uncontracted(field, path, "a checkpoint of torch-ngp")
    writer = _WRITERS.get(field["architecture"])
    if writer is None:
        raise UsageError(
            f"{path}: a checkpoint of torch-ngp or PVD cannot be made of {field['architecture']}: "
            "convert with --to ngp"
        )
    bound = constant_of_density(field)
    if not 0.5 < bound <= 2.0**7:
        raise UsageError(
            f"{path}: the densities of torch-ngp are exp(raw) in a cube whose half side is from "
            f"0.5 to 128, the field's are {bound:g} exp(raw): convert with --to ngp first"
        )
    state = writer(field, path, bound)
    _tell(field, path, bound, state)
    grid, bits = _density_grid(field, bound)
    box = np.array([-bound] * 3 + [bound] * 3, np.float32)
    tensors: dict[str, NDArray] = {
        "aabb_train": box if state.box is None else state.box,
        "aabb_infer": box,
        "density_grid": grid,
        "density_bitfield": bits,
        "step_counter": np.zeros((16, 2), np.int32),
        **state.tensors,
    }
    content = {
        "epoch": 0,
        "global_step": 0,
        "stats": {
            "loss": [],
            "valid_loss": [],
            "results": [],
            "checkpoints": [],
            "best_result": None,
        },
        "mean_count": 0,
        "mean_density": float(grid.mean()),
        **state.more,
        FRAME_ENTRY: {
            **frame_entry(field["world_from_field"]),
            "limits": [float(v) for v in field["config"].get("limits", ())],
        },
    }
    return {path.name: _saved(content, tensors)}


def _saved(content: dict[str, Any], tensors: dict[str, NDArray]) -> bytes:
    import torch

    model = {name: torch.from_numpy(np.ascontiguousarray(a)) for name, a in tensors.items()}
    file = io.BytesIO()
    torch.save({**content, "model": model}, file)
    return file.getvalue()


def _tell(field: FieldArrays, path: Path, bound: float, state: State) -> None:
    """The arguments with which the program shows the field as it is"""
    limits = field["config"].get("limits", ())
    if not state.pvd and limits:
        raise UsageError(
            f"{path}: torch-ngp does not clamp densities, the field clamps them to {limits}: "
            "convert it first, with --set limits=[]"
        )
    place = parts_of(field["world_from_field"])
    words = [f"--bound {bound:g}"]
    if np.allclose(place.rotation, CYCLE.T, atol=1e-6):
        words.append(f"--scale {bound / place.scale:.6g}")
        offset = -(CYCLE @ place.offset) * (bound / place.scale)
        if np.abs(offset).max() > 1e-9:
            words.append("--offset " + " ".join(f"{v:.6g}" for v in offset))
    if state.pvd and tuple(limits[:2]) != PVD_CLIP:
        low, high = limits[:2] or (-1000, 1000)
        words.append(f"--sigma_clip_min {low:g} --sigma_clip_max {high:g}")
    program = "PVD" if state.pvd else "torch-ngp"
    log.say(f"{path}: load it in {program} with {' '.join(words)}")


def _density_grid(
    field: FieldArrays, bound: float
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    cascades = 1 + math.ceil(math.log2(bound))
    occupancy = field["occupancy"]
    if occupancy is None:
        occupancy = np.ones((SIDE, SIDE, SIDE), bool)
    halves = [min(2.0**cascade, bound) / bound for cascade in range(cascades)]
    cells = np.stack([to_morton(grid) for grid in cascades_of(occupancy, halves)])
    bits = np.packbits(cells.reshape(-1), bitorder="little")
    return np.where(cells, np.float32(_OCCUPIED), np.float32(0.0)), bits
