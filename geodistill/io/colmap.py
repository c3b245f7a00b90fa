"""COLMAP reconstructions as frames.

The sparse model is looked for in sparse/0, sparse and the folder itself, the pictures in images/.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from geodistill.checks import InputError
from geodistill.io.colmap_model import (
    ColmapCamera,
    ColmapImage,
    ColmapPoints,
    read_cameras_binary,
    read_cameras_text,
    read_images_binary,
    read_images_text,
    read_points_binary,
    read_points_text,
)
from geodistill.io.frames import MAX_SIDE_PX, Frame, FrameSet, Lens
from geodistill.io.splits import split_frames

PLACES = ("sparse/0", "sparse", ".", "colmap/sparse/0")
_IMAGES = "images"


def find_model(folder: Path) -> Path | None:
    """Where the sparse model of a data set stands, or None."""
    return next((folder / place for place in PLACES if _suffix(folder / place)), None)


def read_colmap(folder: Path, split: str) -> FrameSet:
    """The frames of `split` (see `split_frames`) in the reconstruction's own frame."""
    model = find_model(folder)
    if model is None:
        raise InputError(
            f"{folder} holds no COLMAP model: looked for cameras and images in {', '.join(PLACES)}"
        )
    suffix = _suffix(model)
    binary = suffix == ".bin"
    source = model / f"images{suffix}"
    cameras_file = model / f"cameras{suffix}"
    cameras = (read_cameras_binary if binary else read_cameras_text)(cameras_file)
    images = (read_images_binary if binary else read_images_text)(source)
    if not images:
        raise InputError(
            f"{source} has zero registered images: the reconstruction failed, run the mapper again"
        )
    root = _image_root(folder, model)
    lenses = {
        identity: _lens(camera, identity, cameras_file) for identity, camera in cameras.items()
    }
    frames = [_frame(image, cameras, lenses, root, source) for image in images]
    metadata = {"layout": "colmap", "model": model.relative_to(folder).as_posix()}
    return FrameSet(source, split_frames(frames, split, source), metadata)


def read_colmap_points(folder: Path) -> ColmapPoints | None:
    """The sparse points of a data set, or None where its model has none."""
    model = find_model(folder)
    if model is None:
        return None
    for suffix, read in ((".bin", read_points_binary), (".txt", read_points_text)):
        if (model / f"points3D{suffix}").is_file():
            return read(model / f"points3D{suffix}")
    return None


def _suffix(model: Path) -> str | None:
    for suffix in (".bin", ".txt"):
        if (model / f"cameras{suffix}").is_file() and (model / f"images{suffix}").is_file():
            return suffix
    return None


def _image_root(folder: Path, model: Path) -> Path:
    """images/ of the data set; a model folder given alone (x/sparse/0) has it beside or above."""
    above = [folder, model, *model.absolute().parents[:2]]
    return next(
        (place / _IMAGES for place in above if (place / _IMAGES).is_dir()), folder / _IMAGES
    )


def _frame(
    image: ColmapImage,
    cameras: dict[int, ColmapCamera],
    lenses: dict[int, Lens],
    root: Path,
    source: Path,
) -> Frame:
    if image.camera_id not in cameras:
        raise InputError(
            f"{source}: {image.name} has the camera {image.camera_id}, which the model does not "
            "list"
        )
    camera = cameras[image.camera_id]
    rotation = _rotation(image, source)  # cam_from_world
    world_from_cam = np.eye(4)
    world_from_cam[:3, :3] = rotation.T
    world_from_cam[:3, 3] = -rotation.T @ np.array(image.translation)
    size = (camera.height, camera.width)
    return Frame(image.name, root / image.name, lenses[image.camera_id], world_from_cam, size)


def _rotation(image: ColmapImage, source: Path) -> np.ndarray:
    """[3, 3] of the quaternion (w, x, y, z), which is normalised as COLMAP does on reading."""
    quaternion = np.array(image.quaternion)
    length = float(np.linalg.norm(quaternion))
    if not 0.5 < length < 2:
        raise InputError(
            f"{source}: {image.name} has a quaternion of length {length:.4g}, not 1: remove the "
            "image"
        )
    w, x, y, z = quaternion / length
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def _lens(camera: ColmapCamera, identity: int, source: Path) -> Lens:
    p = camera.params
    where = f"{source}: camera {identity}"
    if not (1 <= camera.width <= MAX_SIDE_PX and 1 <= camera.height <= MAX_SIDE_PX):
        raise InputError(
            f"{where} has the size {camera.width}x{camera.height}: copy or write the model again"
        )
    shared = camera.model in ("SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL")  # one focal length
    fx, fy, cx, cy = (p[0], p[0], p[1], p[2]) if shared else p[:4]
    if not min(fx, fy) > 0:
        raise InputError(
            f"{where} has the focal length {min(fx, fy):g}: copy or write the model again"
        )
    coefficients = (*p[3 if shared else 4 :], 0.0, 0.0, 0.0, 0.0)[:4]
    k1, k2, p1, p2 = coefficients
    return Lens(fx, fy, cx, cy, distortion=(k1, k2, p1, p2))
