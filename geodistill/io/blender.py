"""NeRF-synthetic scenes: one camera file per split, transforms_train.json and its like."""

from __future__ import annotations

from pathlib import Path

from geodistill.io.frames import FrameSet
from geodistill.io.splits import NoSuchSplit
from geodistill.io.transforms import read_transforms

BLENDER_SPLITS = ("train", "val", "test")


def is_blender(folder: Path) -> bool:
    return any(blender_file(folder, split).is_file() for split in BLENDER_SPLITS)


def blender_file(folder: Path, split: str) -> Path:
    return folder / f"transforms_{split}.json"


def read_blender(folder: Path, split: str) -> FrameSet:
    """The frames of transforms_<split>.json in its order; "all" joins the files that exist."""
    present = [name for name in BLENDER_SPLITS if blender_file(folder, name).is_file()]
    if split != "all" and split not in present:
        raise NoSuchSplit(
            f"{folder} has no {blender_file(folder, split).name}, it has the splits "
            f"{', '.join(present)}: choose one"
        )
    sets = [
        read_transforms(blender_file(folder, name))
        for name in (present if split == "all" else [split])
    ]
    metadata = {**sets[0].metadata, "layout": "blender"}
    return FrameSet(sets[0].source, [frame for part in sets for frame in part.frames], metadata)
