"""PyTorch checkpoints of all kinds, and what is said of those that are refused."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from geodistill.checks import InputError
from geodistill.io.checkpoints import load_checkpoint


def save(path: Path, value: Any, layout: str = "archive") -> Path:
    torch.save(value, path, _use_new_zipfile_serialization=layout == "archive")
    return path


def archive_of(path: Path, pickled: bytes, **entries: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickled)
        for key, data in entries.items():
            archive.writestr(f"a/data/{key.strip('_')}", data)
    return path


def repack(path: Path, change: Any, method: int = zipfile.ZIP_STORED) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(packed, "w", method) as new:
        for name in old.namelist():
            new.writestr(name, change(name, old.read(name)))
    path.write_bytes(packed.getvalue())


def refusal(path: Path) -> str:
    """What is said of a checkpoint that is refused: one line that begins with its path."""
    with pytest.raises(InputError) as caught:
        load_checkpoint(path)
    said = str(caught.value)
    assert said.startswith(str(path)) and "\n" not in said
    return said


def same(ours: Any, theirs: Any) -> bool:
    if isinstance(theirs, torch.Tensor):
        theirs = theirs.detach()
        return (
            isinstance(ours, torch.Tensor) and ours.dtype == theirs.dtype
            and ours.shape == theirs.shape and torch.equal(ours, theirs)
        )  # fmt: skip
    if isinstance(theirs, (np.ndarray, np.generic)):
        return ours.dtype == theirs.dtype and np.array_equal(ours, theirs)
    if isinstance(theirs, dict):
        return list(ours) == list(theirs) and all(same(ours[k], v) for k, v in theirs.items())
    if isinstance(theirs, (list, tuple)):
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(theirs, (torch.device, torch.dtype)):
        return ours == str(theirs)
    return type(ours) is type(theirs) and ours == theirs
