"""A run with everything in it, and what tests ask of folders and messages."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from geodistill.runs import (
    Run,
    atomic_write,
    save_tensors,
)

TENSORS = {
    "weights": torch.arange(12, dtype=torch.float32).reshape(3, 4) / 7,
    "scalar": torch.tensor(2.5, dtype=torch.float64),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "mask": torch.tensor([True, False, True]),
    "ids": torch.tensor([[1, -2]], dtype=torch.int64),
    "empty": torch.zeros(0, 3),
}
METADATA = {"architecture": "ngp", "levels": [1, 2], "scale": 1 / 3, "note": "ü"}


def save(folder: Path) -> Path:
    path = folder / "field.safetensors"
    save_tensors(path, TENSORS, METADATA)
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def message(error: type[Exception], call: Callable[[], object]) -> str:
    with pytest.raises(error) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def whole_run(
    folder: Path,
    seed: int,
    overwrite: bool = True,
    field: Path | None = None,
    folders: bool = False,
) -> None:
    """Three steps, and a field in the folder or, where given, outside of it; with `folders` in the
    folder as well."""
    field = field or folder / "field.safetensors"
    run = Run.open(folder, "fit", {"seed": seed}, overwrite=overwrite, outputs=[field])
    start = 0
    if (latest := run.latest()) is not None:
        start = latest[0]
        assert latest[1]["seed"] == seed, "a checkpoint of another run"
    for step in range(start + 1, 4):
        run.log(step, loss=seed / step)
        run.checkpoint(step, {"seed": torch.tensor(seed)}, {})
    save_tensors(run.staged(field), {"seed": torch.tensor(seed)}, {})
    if seed == 1:
        atomic_write(run.path("only_in_the_first.txt"), b"")
    if folders:
        for name in ("logs", f"logs_{seed}"):
            run.path(name).mkdir(exist_ok=True)
            (run.path(name) / f"{seed}.txt").write_text("")
    run.finish({"seed": seed})
