"""Camera files: cameras without pictures, in the transforms.json form that other tools read too."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from geodistill.cameras import Camera, opengl_from_opencv
from geodistill.checks import UsageError, check_finite
from geodistill.runs import atomic_write

_KEYS = ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "p1", "p2")


def save_cameras(path: Path | str, cameras: Camera, names: Sequence[str] | None = None) -> None:
    """Write a camera or a batch [V]; what all views share stands once at the top.

    `load_camera_file` reads it. Raises UsageError for a skewed K or a wrong number of names,
    InputError for NaN or an unwritable path.
    """
    path = Path(path)
    if not cameras.batch_shape:
        cameras = cameras[None]
    check_finite(K=cameras.K, world_from_cam=cameras.world_from_cam)
    if bool((cameras.K[:, 0, 1] != 0).any()):
        raise UsageError("a camera file has no place for skew: K[0, 1] must be 0")
    names = [f"{index:05d}" for index in range(len(cameras))] if names is None else list(names)
    if len(names) != len(cameras):
        raise UsageError(f"{len(cameras)} cameras need as many names, got {len(names)}")
    columns = _columns(cameras)
    shared = {key: values[0] for key, values in columns.items() if len(set(values)) <= 1}
    own = [key for key in columns if key not in shared]
    matrices = opengl_from_opencv(cameras.world_from_cam.detach().cpu().double()).tolist()
    frames = [
        {
            "file_path": name,
            **{key: columns[key][view] for key in own},
            "transform_matrix": matrices[view],
        }
        for view, name in enumerate(names)
    ]
    height, width = cameras.size
    table: dict[str, Any] = {
        "camera_model": "OPENCV",
        "w": width,
        "h": height,
        **shared,
        "frames": frames,
    }
    atomic_write(path, (json.dumps(table, indent=1) + "\n").encode())


def _columns(cameras: Camera) -> dict[str, list[float]]:
    K = cameras.K.detach().cpu().double()
    distortion = torch.zeros(len(cameras), 4) if cameras.distortion is None else cameras.distortion
    values = torch.stack(
        [K[:, 0, 0], K[:, 1, 1], K[:, 0, 2], K[:, 1, 2], *distortion.detach().cpu().double().T]
    )
    return dict(zip(_KEYS, values.tolist(), strict=True))
