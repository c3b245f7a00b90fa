"""Which frames of a data set are for fitting and which are held out."""

from __future__ import annotations

import re
from pathlib import Path

from geodistill.checks import InputError, UsageError, suggest
from geodistill.io.frames import Frame


class NoSuchSplit(InputError):
    """The data set is sound, but has no frames of that split."""


SPLITS = ("train", "val", "test", "all")
HOLD_EVERY = 8
_WORDS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "eval": "test",
}


def expect_split(split: str) -> None:
    if split not in SPLITS:
        raise UsageError(
            f"unknown split '{split}'{suggest(split, SPLITS)}; known: {', '.join(SPLITS)}"
        )


def split_frames(frames: list[Frame], split: str, source: Path) -> list[Frame]:
    """The frames of `split` in the order of their names.

    Where every name says train, val or test (in a folder or between separators, as in
    `frame_eval_003.png`) and at least two of these occur, the names decide. Otherwise every eighth
    frame, beginning with the first, is held out. A data set with one held-out split gives it for
    `val` and for `test`.
    """
    frames = sorted(frames, key=lambda frame: frame.name)
    if split == "all":
        return frames
    labels = [_label(frame.name) for frame in frames]
    if None in labels or len(set(labels)) < 2:
        labels = ["test" if index % HOLD_EVERY == 0 else "train" for index in range(len(frames))]
    if split != "train" and split not in labels:
        split = "test" if split == "val" else "val"
    chosen = [frame for frame, label in zip(frames, labels, strict=True) if label == split]
    return expect_frames(chosen, split, source, len(frames))


def expect_frames(frames: list[Frame], split: str, source: Path, total: int) -> list[Frame]:
    if not frames:
        raise NoSuchSplit(
            f"{source}: the split '{split}' is empty ({total} frames in all): use the split 'all'"
        )
    return frames


def _label(name: str) -> str | None:
    words = re.split(r"[^a-z]+", name.lower())
    return next((_WORDS[word] for word in words if word in _WORDS), None)
