"""Data sets on disk for whole commands: a small analytic object in Blender's layout."""

from __future__ import annotations

import json
import math
from pathlib import Path

import torch
from scenes import AnalyticField, photograph, ring
from torch import Tensor

from geodistill.cameras import Camera, Similarity
from geodistill.io.images import write_png

VIEWS = {"train": 12, "test": 2}
RESOLUTION = 32
FLIP_YZ = torch.diag(torch.tensor([1.0, -1.0, -1.0, 1.0], dtype=torch.float64))


def write_world(
    folder: Path, world: Similarity | None = None, resolution: int = RESOLUTION
) -> Path:
    """Photograph the analytic object from all around, placed in the user's world by `world`."""
    world = world or Similarity.identity()
    field = AnalyticField()
    for number, (split, count) in enumerate(VIEWS.items()):
        cameras = ring(count, resolution, seed=number)
        images = photograph(field, cameras).images
        write_split(folder, split, world.apply_camera(cameras.to(dtype=torch.float64)), images)
    return folder


def write_split(folder: Path, split: str, cameras: Camera, images: Tensor) -> None:
    """Write one split: images [V, H, W, C] uint8, cameras with square pixels centred in them."""
    (folder / split).mkdir(parents=True, exist_ok=True)
    frames = []
    for i in range(len(cameras)):
        write_png(folder / split / f"r_{i}.png", images[i])
        opengl = cameras.world_from_cam[i].double() @ FLIP_YZ
        frames.append({"file_path": f"./{split}/r_{i}", "transform_matrix": opengl.tolist()})
    angle = 2.0 * math.atan(0.5 * cameras.size[1] / float(cameras.K[0, 0, 0]))
    table = {"camera_angle_x": angle, "frames": frames}
    (folder / f"transforms_{split}.json").write_text(json.dumps(table))
