"""TensoRF's checkpoints (.th), written for the `load` of its TensorVMSplit and TensorCP."""

from __future__ import annotations

import io
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill.checks import UsageError
from geodistill.io.fields.arrays import FieldArrays
from geodistill.io.fields.boxes import box_of, world_box
from geodistill.io.fields.expressible import expect_settings
from geodistill.io.fields.tensorf import EXTRA, LINE_AXES
from geodistill.io.fields.tensorf_mask import mask_entries
from geodistill.io.fields.tensorf_write_decoder import WHAT, density_kwargs, harmonics, head_state

_FLOOR = -8.0  # of a configuration that does not say
_EXTRA = dict(zip(EXTRA, (1e-4, 1e-4, 0.5), strict=True))  # as the program's configurations have it
_FAR = 100.0  # box diagonals
_DATE = (1980, 1, 1, 0, 0, 0)


def tensorf_files(field: FieldArrays, path: Path) -> dict[str, bytes]:
    """The file of a field of the architecture "tensorf" or "tensorf-cp".

    Its grid, its density activation (softplus or relu) and its head ("frequencies" in octaves with
    two hidden layers, or "sh" to degree 2) are kept exactly. Components that are zero, behind the
    others, are left out.

    Raises UsageError for what the program cannot hold, with what to set.
    """
    architecture, config = field["architecture"], field["config"]
    if architecture not in ("tensorf", "tensorf-cp"):
        raise UsageError(f"{WHAT} holds no field of the kind {architecture}: convert --to tensorf")
    expect_settings(WHAT, config, {"limits": ()})
    low, high, scale = world_box(field, WHAT)
    decoder = config.get("decoder") or {}
    density, constant = density_kwargs(decoder, float(config.get("floor", _FLOOR)), scale)
    shading, head = head_state(decoder, field["parameters"], box_of(field)[3:], path)
    state = _factors(field["parameters"], architecture == "tensorf", constant)
    if shading["shadingMode"] == "SH":
        state["basis_mat.weight"] = harmonics(state["basis_mat.weight"])
    kwargs = {
        "aabb": np.stack([low, high]).astype(np.float32),
        "gridSize": [state[f"density_line.{LINE_AXES.index(axis)}"].shape[2] for axis in range(3)],
        "density_n_comp": [state[f"density_line.{k}"].shape[1] for k in range(3)],
        "appearance_n_comp": [state[f"app_line.{k}"].shape[1] for k in range(3)],
        "app_dim": len(state["basis_mat.weight"]),
        **density,
        **{name: float(field["extra"].get(name, _EXTRA[name])) for name in EXTRA},
        "near_far": field["extra"].get("near_far", [0.0, _FAR * float(np.linalg.norm(high - low))]),
        **shading,
    }
    checkpoint: dict[str, Any] = {"kwargs": kwargs, "state_dict": OrderedDict(state | head)}
    occupancy = field["occupancy"]
    if occupancy is not None and not occupancy.all():
        centre = np.asarray(field["world_from_field"], np.float64)[:3, 3]
        checkpoint |= mask_entries(occupancy, centre - scale, centre + scale)
    return {path.name: _saved(checkpoint)}


def _factors(
    parameters: Mapping[str, NDArray[np.float32]], vm: bool, constant: float
) -> dict[str, NDArray[np.float32]]:
    """Factors and basis by the program's names and in its order of axes.

    constant: added to the raw sum, as one more product where it is not zero.
    """
    state: dict[str, NDArray[np.float32]] = {}
    basis = np.split(parameters["branch.basis"], 3 if vm else 1, axis=1)
    for ours, theirs in (("density", "density"), ("color", "app")):
        lines = [parameters[f"branch.{ours}_lines.{k}"] for k in range(3)]
        planes = [parameters[f"branch.{ours}_planes.{k}"] for k in range(3)] if vm else []
        counts = _used(lines, planes)
        lines = [line[:, :count] for line, count in zip(lines, counts, strict=True)]
        planes = [plane[:, :, :count] for plane, count in zip(planes, counts, strict=False)]
        if ours == "color":
            columns = [part[:, :count] for part, count in zip(basis, counts, strict=False)]
            state["basis_mat.weight"] = np.concatenate(columns, axis=1)
        elif constant and vm:
            planes[0], lines[0] = _joined(planes[0], constant), _joined(lines[0], 1.0)
        elif constant:
            lines = [_joined(line, v) for line, v in zip(lines, (constant, 1.0, 1.0), strict=True)]
        for k, plane in enumerate(planes):
            state[f"{theirs}_plane.{k}"] = plane.transpose(2, 0, 1)[None]
        for k, line in enumerate(lines):
            state[f"{theirs}_line.{k}"] = line.T[None, :, :, None]
    return state


def _used(lines: list[NDArray], planes: list[NDArray]) -> list[int]:
    """Components of each mode without those behind the last that is not zero, at least one."""
    used = [line.any(axis=0) for line in lines]
    if planes:
        used = [a & plane.any(axis=(0, 1)) for a, plane in zip(used, planes, strict=True)]
    else:
        used = [used[0] & used[1] & used[2]] * 3
    return [max(int(np.flatnonzero(some)[-1]) + 1 if some.any() else 1, 1) for some in used]


def _joined(values: NDArray, constant: float) -> NDArray:
    """With one more component, the same everywhere."""
    more = np.full((*values.shape[:-1], 1), constant, np.float32)
    return np.concatenate([values, more], axis=-1)


def _saved(checkpoint: dict[str, Any]) -> bytes:
    """What torch.save makes of it, arrays of float32 as tensors.

    NumPy's name for itself is that of its versions before 2, which all versions know.
    """
    import torch

    def tensors(values: Any) -> Any:
        if isinstance(values, np.ndarray) and values.dtype == np.float32:
            return torch.from_numpy(np.array(values))
        if isinstance(values, dict):
            return type(values)((name, tensors(value)) for name, value in values.items())
        return values

    made, file = io.BytesIO(), io.BytesIO()
    torch.save(tensors(checkpoint), made)
    with zipfile.ZipFile(made) as source, zipfile.ZipFile(file, "w") as target:
        for entry in source.infolist():
            content = source.read(entry)
            if entry.filename.endswith("/data.pkl"):
                content = content.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
            target.writestr(zipfile.ZipInfo(entry.filename, _DATE), content)
    return file.getvalue()
