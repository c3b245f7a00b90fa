"""transforms.json: the camera files of NeRF-synthetic (Blender), nerfstudio and instant-ngp.

All have a list of `frames` with a `transform_matrix` from camera to world, with OpenGL camera axes;
intrinsics stand at the top or in a frame, in pixels (`fl_x` ...) or as `camera_angle_x`. nerfstudio
moves a reconstruction before it writes and notes it in `applied_transform` (and `applied_scale`):
that is undone here, so that cameras stand in the frame the user came with. instant-ngp's
`aabb_scale`, `scale` and `offset` describe its own unit cube; they are kept as metadata and never
applied.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geodistill.cameras import (
    RIGID_TOLERANCE,
    Similarity,
    describe_linear,
    nearest_rotation,
    opencv_from_opengl,
    rigid_error,
)
from geodistill.checks import GeodistillError, InputError
from geodistill.io.frames import Frame, FrameSet
from geodistill.io.images import SUFFIXES
from geodistill.io.json_values import json_object, matrix, optional_number, text
from geodistill.io.splits import NoSuchSplit, expect_frames, split_frames
from geodistill.io.transforms_lens import read_lens, read_size
from geodistill.io.whole_file import read_whole

NAME = "transforms.json"
LONGEST_NAME = 250
_LISTED_SPLITS = ("train", "val", "test")
_KEPT = (
    "aabb_scale",
    "scale",
    "offset",
    "applied_transform",
    "applied_scale",
    "camera_model",
    "from_na",
)


def read_split(file: Path, split: str) -> FrameSet:
    """The frames of `split`: as `train_filenames` and so on list them, one held-out list being
    `val` and `test`, else by `split_frames`."""
    table = _table(file)
    parsed = _frame_set(table, file)
    listed = {
        name: table[f"{name}_filenames"] for name in _LISTED_SPLITS if f"{name}_filenames" in table
    }
    if not listed or split == "all":
        return FrameSet(file, split_frames(parsed.frames, split, file), parsed.metadata)
    if split not in listed and split != "train":
        split = "test" if split == "val" else "val"
    if split not in listed:
        raise NoSuchSplit(
            f"{file} lists no {split}_filenames, it lists {', '.join(listed)}: choose one of these "
            "splits"
        )
    wanted = _names(listed[split], f"{file}: {split}_filenames")
    unknown = wanted - {_plain(frame.name) for frame in parsed.frames}
    if unknown:
        raise InputError(
            f"{file}: {split}_filenames lists {len(unknown)} files that no frame has, the first is "
            f"{min(unknown)}"
        )
    chosen = [frame for frame in parsed.frames if _plain(frame.name) in wanted]
    chosen.sort(key=lambda frame: frame.name)
    return FrameSet(file, expect_frames(chosen, split, file, len(parsed.frames)), parsed.metadata)


def read_transforms(file: Path) -> FrameSet:
    """Every frame of the file in its order; errors name the file, the frame and the remedy."""
    return _frame_set(_table(file), file)


def points_file(file: Path) -> tuple[Path, Similarity] | None:
    """The ply of sparse points that the file names (nerfstudio's `ply_file_path`), and the way
    from its frame, that of the stored cameras, to the user's. None where it names none."""
    table = _table(file)
    name = text(table, "ply_file_path", str(file))
    if name is None:
        return None
    return file.parent / name.replace("\\", "/"), _applied(table, file) or Similarity.identity()


def _table(file: Path) -> dict[str, Any]:
    table = json_object(read_whole(file), file)
    if not isinstance(table.get("frames"), list):
        raise InputError(
            f"{file} has no list 'frames': it is not a camera file in the transforms.json form"
        )
    if not table["frames"]:
        raise InputError(f"{file} has zero frames: export the cameras again")
    return table


def _frame_set(table: dict[str, Any], file: Path) -> FrameSet:
    undo = _applied(table, file)
    frames = [
        _frame(table, index, entry, file, undo) for index, entry in enumerate(table["frames"])
    ]
    metadata = {"layout": "transforms", **{key: table[key] for key in _KEPT if key in table}}
    return FrameSet(file, frames, metadata)


def _frame(
    table: dict[str, Any], index: int, entry: Any, file: Path, undo: Similarity | None
) -> Frame:
    where = f"{file}: frame {index}"
    if not isinstance(entry, dict):
        raise InputError(f"{where} is not a JSON object: export the cameras again")
    path = text(entry, "file_path", where)
    if path is not None:
        where += f" ({path})"
    values = {**{key: value for key, value in table.items() if key != "frames"}, **entry}
    mask = text(entry, "mask_path", where)
    return Frame(
        name=path if path is not None else f"frame_{index:05d}",
        image=_file(file.parent, path) if path is not None else None,
        lens=read_lens(values, where),
        world_from_cam=_pose(entry, where, undo),
        size=read_size(values, where),
        mask=_file(file.parent, mask) if mask is not None else None,
    )


def _pose(entry: dict[str, Any], where: str, undo: Similarity | None) -> np.ndarray:
    """[4, 4] with OpenCV axes and the nearest rotation, which removes what rounding has left."""
    pose = torch.from_numpy(matrix(entry, "transform_matrix", (4,), where))
    if not torch.allclose(pose[3], pose.new_tensor([0, 0, 0, 1]), atol=1e-6):
        raise InputError(
            f"{where}: the last row of transform_matrix is {pose[3].tolist()}, not 0, 0, 0, 1: "
            "it may be transposed"
        )
    if rigid_error(pose[:3, :3]) > RIGID_TOLERANCE:
        raise InputError(
            f"{where}: transform_matrix is not a rotation ({describe_linear(pose[:3, :3])}): "
            "export the cameras without scale or mirroring"
        )
    pose[:3, :3] = nearest_rotation(pose[:3, :3])
    if undo is not None:
        pose[:3] = torch.cat([undo.R @ pose[:3, :3], undo.apply(pose[:3, 3])[:, None]], dim=1)
    return opencv_from_opengl(pose).numpy()


def _applied(table: dict[str, Any], file: Path) -> Similarity | None:
    """The way back to the user's frame: stored = applied_scale * applied_transform(the user's)."""
    if "applied_transform" not in table and "applied_scale" not in table:
        return None
    transform = Similarity.identity()
    try:
        if "applied_transform" in table:
            applied = matrix(table, "applied_transform", (3, 4), str(file))
            transform = Similarity.from_matrix(torch.from_numpy(applied))
        scale = optional_number(table, "applied_scale", str(file))
        scaling = replace(Similarity.identity(), s=1.0 if scale is None else scale)
        return scaling.compose(transform).inverse()
    except GeodistillError as error:
        raise InputError(
            f"{file}: applied_transform and applied_scale cannot be undone: {error}"
        ) from None


def _names(value: Any, where: str) -> set[str]:
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise InputError(f"{where} is not a list of file names")
    return {_plain(name) for name in value}


def _plain(name: str) -> str:
    return name.replace("\\", "/").removeprefix("./")


def _file(folder: Path, name: str) -> Path:
    """The file that `name` means: either slash, and perhaps no suffix, as in Blender scenes."""
    path = folder / name
    if len(path.name.encode()) > LONGEST_NAME:
        return path  # which no file system holds, and some refuse to be asked for
    if not path.exists() and "\\" in name:
        path = folder / name.replace("\\", "/")
    if path.is_file() or path.suffix.lower() in SUFFIXES:
        return path
    spelled = [path.with_name(path.name + suffix) for suffix in SUFFIXES]
    absent = path if path.suffix else spelled[0]
    return next((candidate for candidate in spelled if candidate.is_file()), absent)
