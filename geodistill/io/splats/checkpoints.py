"""Splats in PyTorch checkpoints: gsplat's trainer, and nerfstudio's splatfacto.

gsplat: {"step", "splats": {means, scales, quats, opacities, sh0 [N, 1, 3], shN [N, K, 3]}}, a file
of each process. splatfacto: {"step", "pipeline": {"_model.gauss_params.means", ...}} with
features_dc [N, 3], features_rest [N, K, 3] and opacities [N, 1]. Scales are logarithms, opacities
logits, quaternions w, x, y, z of any length. Source: gsplat examples/simple_trainer.py; nerfstudio
1.1.5 models/splatfacto.py.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from geodistill import log
from geodistill.checks import InputError
from geodistill.io import nerfstudio
from geodistill.io.checkpoints import load_checkpoint, outline_checkpoint
from geodistill.io.splats.arrays import (
    COEFFICIENTS,
    SH_C0,
    SplatArrays,
    finite_rows,
    say_antialiased,
    splat_arrays,
)

if TYPE_CHECKING:
    from geodistill.cameras import Similarity

ENDINGS = (".pt", ".pth", ".ckpt")
_PARTS = ("step", "splats", "pipeline")
_RANK = re.compile(r"(.*)_rank(\d+)(\.\w+)")
_GAUSSIANS = ("means", "scales", "quats", "opacities", "features_dc", "features_rest")
_SPLATS = ("means", "scales", "quats", "opacities", "sh0", "shN")


def holds_checkpoint_splats(path: Path) -> bool:
    """Whether a checkpoint or run holds splats, by its names. Raises InputError for damage."""
    content = outline_checkpoint(nerfstudio.checkpoint_of(path))
    if isinstance(content.get("splats"), dict):
        return True
    pipeline = content.get("pipeline")
    names = pipeline if isinstance(pipeline, dict) else {}
    return any(
        isinstance(name, str) and name.endswith((".gauss_params.means", "_model.means"))
        for name in names
    )


def read_checkpoint_splats(path: Path) -> SplatArrays:
    """The splats of a checkpoint or run, in its own axes.

    Raises InputError for one that is missing, damaged, or holds something else.
    """
    checkpoint = nerfstudio.checkpoint_of(path)
    content = load_checkpoint(checkpoint, _PARTS)
    if isinstance(content.get("splats"), dict):
        return _gsplat(checkpoint, content)
    return _splatfacto(nerfstudio.open_run(path), content)


def world_of_checkpoint(path: Path) -> Similarity | None:
    """From the axes of the file to the user's world, where something says how; else None."""
    checkpoint = nerfstudio.checkpoint_of(path)
    if "pipeline" not in outline_checkpoint(checkpoint):
        return None
    return nerfstudio.user_from_run(nerfstudio.open_run(path).folder)


def _gsplat(path: Path, content: dict[str, Any]) -> SplatArrays:
    parts = [_renamed(_numbers(path, content["splats"]))]
    for other in _other_ranks(path):
        more = load_checkpoint(other, _PARTS)
        if _step(more) != _step(content) or not isinstance(more.get("splats"), dict):
            raise InputError(f"{other} and {path} are of different steps: keep those of one run")
        parts.append(_renamed(_numbers(other, more["splats"])))
    if any(part.keys() != parts[0].keys() for part in parts):
        raise InputError(f"{path} and the files of the other ranks hold different columns")
    values = {name: _joined(path, name, [part[name] for part in parts]) for name in parts[0]}
    if "sh0" not in values and {"features", "colors"} <= values.keys():
        raise InputError(
            f"{path} was trained with app_opt: its colours come from a network, not from harmonics"
        )
    _expect(path, values, _SPLATS)
    sh = _joined_sh(path, values["sh0"], values["shN"])
    return _finite(path, values, sh, {k: v for k, v in values.items() if k not in _SPLATS})


def _splatfacto(run: nerfstudio.Run, content: dict[str, Any]) -> SplatArrays:
    path = run.checkpoint
    tensors = nerfstudio.model_tensors(content, path)
    values = _numbers(
        path,
        {
            name: tensors[key]
            for name in _GAUSSIANS
            for key in (name, f"gauss_params.{name}")
            if key in tensors
        },
    )
    if "means" not in values:
        raise InputError(f"{path} holds no splats" + (f" but {run.method}" if run.method else ""))
    _expect(path, values, _GAUSSIANS)
    dc = values["features_dc"]
    if values["features_rest"].shape[1:2] == (0,):  # sh_degree 0: colours by a sigmoid
        dc = (1 / (1 + np.exp(-dc.astype(np.float64))) - 0.5) / SH_C0
    if run.model.get("rasterize_mode") == "antialiased":
        say_antialiased(path, "rasterize_mode antialiased")
    return _finite(path, values, _joined_sh(path, dc[:, None], values["features_rest"]), {})


def _other_ranks(path: Path) -> list[Path]:
    """The files that the other processes of the same run wrote at the same step, by rank."""
    named = _RANK.fullmatch(path.name)
    if named is None:
        return []
    found: dict[int, Path] = {}
    for other in path.parent.iterdir():
        rank = _RANK.fullmatch(other.name)
        if rank is not None and (rank[1], rank[3]) == (named[1], named[3]):
            found[int(rank[2])] = other
    missing = [rank for rank in range(len(found)) if rank not in found]
    if missing:
        raise InputError(f"{path.parent} lacks {named[1]}_rank{missing[0]}{named[3]}: copy it too")
    others = [found[rank] for rank in sorted(found) if rank != int(named[2])]
    if others:
        log.say(f"{path} is one of {len(found)} files of its step: all of them are read")
    return others


def _numbers(path: Path, columns: dict[str, Any]) -> dict[str, np.ndarray]:
    import torch

    found = {}
    for name, value in columns.items():
        if not isinstance(value, torch.Tensor) or not value.is_floating_point():
            raise InputError(f"{path}: '{str(name)[:40]}' is no tensor of floating-point numbers")
        found[str(name)] = value.float().numpy()
    return found


def _step(content: dict[str, Any]) -> int | None:
    step = content.get("step")
    return step if isinstance(step, int) else None


def _renamed(columns: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """gsplat 1.0 called the means otherwise."""
    return {"means" if name == "means3d" else name: column for name, column in columns.items()}


def _joined(path: Path, name: str, parts: list[np.ndarray]) -> np.ndarray:
    if len({part.shape[1:] for part in parts}) > 1 or parts[0].ndim == 0:
        raise InputError(f"{path}: '{name[:40]}' has other shapes in the files of other ranks")
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _expect(path: Path, values: dict[str, np.ndarray], names: tuple[str, ...]) -> None:
    """Raise InputError for a column that is missing or has another shape than it must."""
    means, scales, quats, opacities, dc, rest = names
    for name in names:
        if name not in values:
            raise InputError(f"{path} lacks '{name}' of its splats")
    count = len(values[means]) if values[means].ndim else 0
    shapes = {
        means: [(count, 3)],
        scales: [(count, 3)],
        quats: [(count, 4)],
        opacities: [(count,), (count, 1)],
        dc: [(count, 3)] if dc == "features_dc" else [(count, 1, 3)],
    }
    for name, allowed in shapes.items():
        if values[name].shape not in allowed:
            raise InputError(
                f"{path}: '{name}' has shape {[*values[name].shape]} of {count} splats"
            )
    shape = values[rest].shape
    if len(shape) != 3 or shape[0] != count or shape[2] != 3:
        raise InputError(f"{path}: '{rest}' has shape {[*shape]} of {count} splats")


def _joined_sh(path: Path, dc: np.ndarray, rest: np.ndarray) -> np.ndarray:
    held = 1 + rest.shape[1]
    if held not in COEFFICIENTS:
        kept = max(count for count in COEFFICIENTS if count < held)
        if held != 25:
            raise InputError(f"{path} has {held} harmonics a colour, not one of {COEFFICIENTS}")
        log.say(f"{path} has harmonics of degree 4: those above degree 3 are left out")
        rest = rest[:, : kept - 1]
    return np.concatenate([dc, rest], axis=1)


def _finite(
    path: Path, values: dict[str, np.ndarray], sh: np.ndarray, further: dict[str, np.ndarray]
) -> SplatArrays:
    count = len(values["means"])
    columns = {name: values[name] for name in ("means", "scales", "quats", "opacities")}
    columns["harmonics"] = sh
    keep = finite_rows(path, columns, values["quats"])
    means, scales, quats, opacities, sh = (column[keep] for column in columns.values())
    held = {k: c for k, c in further.items() if c.ndim in (1, 2) and len(c) == count}
    if left := [name[:40] for name in further if name not in held]:
        log.say(f"{path}: {', '.join(left)} are no columns of its {count} splats: left out")
    attributes = {name: column[keep] for name, column in held.items()}
    return splat_arrays(path, means, quats, scales, opacities.reshape(-1), sh, attributes)
