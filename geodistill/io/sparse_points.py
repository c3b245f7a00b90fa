"""The sparse points that a reconstruction left beside its cameras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from geodistill.checks import InputError
from geodistill.io import blender, colmap, transforms
from geodistill.io.clouds import read_cloud
from geodistill.io.colmap_model import ColmapPoints

GREY = 128


def read_sparse_points(path: Path | str) -> ColmapPoints | None:
    """The points of a data set, in the frame of its cameras as `load_posed_images` gives them.

    They are COLMAP's points3D.bin or .txt beside its cameras, or the ply that a transforms.json
    names as `ply_file_path`. None where the data set has none, or none of them is left.

    Args:
        path: the folder of a data set or its transforms.json.

    Raises:
        InputError: a file of points that is missing or damaged.
    """
    path = Path(path)
    table = path if path.is_file() else path / transforms.NAME
    try:
        if path.is_dir() and blender.is_blender(path):
            return None
        points = _named(table) if table.is_file() else colmap.read_colmap_points(path)
    except OSError as error:
        raise InputError(f"cannot read {error.filename or path}: {error.strerror}") from None
    return points if points is not None and len(points.positions) else None


def _named(table: Path) -> ColmapPoints | None:
    found = transforms.points_file(table)
    if found is None:
        return None
    file, world = found
    if not file.is_file():
        raise InputError(
            f"{table} names the points {file}, which do not exist: put them there or remove its "
            "ply_file_path"
        )
    if file.suffix.lower() != ".ply":
        raise InputError(f"{table}: ply_file_path is {file.name}, not a .ply file: correct it")
    cloud = read_cloud(file).cloud
    positions = world.apply(torch.from_numpy(cloud["positions"])).numpy()
    grey = np.full((len(positions), 3), GREY, np.uint8)
    return ColmapPoints(positions, cloud["colors"][:, :3] if "colors" in cloud else grey)
