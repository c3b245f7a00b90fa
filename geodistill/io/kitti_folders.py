"""Frames of the KITTI benchmark in folders of text files."""

from __future__ import annotations

from pathlib import Path

from geodistill.checks import InputError
from geodistill.io.kitti import Labels, read_labels
from geodistill.io.kitti_frames import split_names


def read_frames(
    labels: Path, predictions: Path, split: Path | None = None
) -> tuple[list[str], list[Labels], list[Labels]]:
    """The frames that are evaluated: their names, labels and predictions.

    Args:
        labels: folder of NAME.txt, such as training/label_2.
        predictions: folder of NAME.txt with scores; an empty file is a frame without detections.
        split: file of names, one a line, such as ImageSets/val.txt; None for all that are
            predicted.

    Raises InputError for folders without such files, and for a frame that lacks one of its own.
    """
    names = split_names(split) if split is not None else _names(predictions)
    for name in names:
        for folder, what in ((labels, "labels"), (predictions, "predictions")):
            if not (folder / f"{name}.txt").is_file():
                raise InputError(
                    f"{folder} has no {what} of frame {name}: {name}.txt is missing"
                    + (" (an empty file says that nothing was found)" if folder != labels else "")
                )
    return (
        names,
        [read_labels(labels / f"{name}.txt") for name in names],
        [read_labels(predictions / f"{name}.txt", scored=True) for name in names],
    )


def _names(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise InputError(f"{folder} is no folder of predictions, NAME.txt of each frame")
    names = sorted(path.stem for path in folder.glob("*.txt"))
    if not names:
        raise InputError(f"{folder} has no predictions: NAME.txt of each frame")
    return names
