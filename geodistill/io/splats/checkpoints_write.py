"""Splats as checkpoints: gsplat's .pt, and a run of nerfstudio's splatfacto."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np

from geodistill.checks import UsageError
from geodistill.io.nerfstudio_write import camera_optimizer, made, no_collider, run_files
from geodistill.io.splats.arrays import COEFFICIENTS, SplatArrays
from geodistill.io.splats.eight_bits import say_left_out

_SPLATS = ("means", "scales", "quats", "opacities", "sh0", "shN")


def gsplat_files(splats: SplatArrays, path: Path) -> dict[str, bytes]:
    """One file as gsplat's trainer writes it; attributes are further columns.

    Raises UsageError for an attribute whose name the layout has.
    """
    import torch

    for name in splats["attributes"]:
        if name in _SPLATS:
            raise UsageError(f"a gsplat checkpoint cannot hold an attribute as '{name}': rename it")
    columns = {
        "means": splats["means"],
        "scales": splats["log_scales"],
        "quats": splats["rotations"],
        "opacities": splats["opacity_logits"],
        "sh0": splats["sh"][:, :1],
        "shN": splats["sh"][:, 1:],
        **splats["attributes"],
    }
    tensors = {name: torch.from_numpy(np.array(c, np.float32)) for name, c in columns.items()}
    saved = io.BytesIO()
    torch.save({"step": 0, "splats": tensors}, saved)
    return {path.name: saved.getvalue()}


def splatfacto_files(splats: SplatArrays, path: Path) -> dict[str, bytes]:
    """A run whose world is that of the splats. Colours without harmonics get those of degree 1, all
    zero, for splatfacto reads degree 0 through a sigmoid. Attributes are left out, with a line."""
    import torch

    say_left_out(splats, path, harmonics=False)
    count, held = splats["sh"].shape[:2]
    rest = np.zeros((count, max(held, COEFFICIENTS[1]) - 1, 3), np.float32)
    rest[:, : held - 1] = splats["sh"][:, 1:]
    columns = {
        "means": splats["means"],
        "scales": splats["log_scales"],
        "quats": splats["rotations"],
        "opacities": splats["opacity_logits"][:, None],
        "features_dc": splats["sh"][:, 0],
        "features_rest": rest,
    }
    state = {
        f"gauss_params.{name}": torch.from_numpy(np.array(column, np.float32))
        for name, column in columns.items()
    }
    module = "nerfstudio.models.splatfacto"
    model = made(
        f"{module}.SplatfactoModelConfig",
        "SplatfactoModel",
        sh_degree=round(np.sqrt(1 + rest.shape[1])) - 1,
        random_init=True,
        num_random=8,
        camera_optimizer=camera_optimizer(),
        **no_collider(),
    )
    middle = np.median(splats["means"].astype(np.float64), axis=0)
    away = np.linalg.norm(splats["means"] - middle, axis=1)
    return run_files(
        path,
        "splatfacto",
        "nerfstudio.data.datamanagers.full_images_datamanager.FullImageDatamanagerConfig",
        model,
        state,
        np.eye(4),
        (middle, max(float(np.quantile(away, 0.9)), 1e-3)),
    )
