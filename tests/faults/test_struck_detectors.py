"""Trainings of students, and caches for them, that are struck in the middle."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from geodistill import config
from geodistill.nn.anchor_detector import AnchorDetector
from geodistill.nn.detector_files import save_detector
from tests.detect.small_kitti import write_kitti
from tests.faults.commands import Host, complaint, lasting, struck, then
from tests.fit.small_recipe import RECIPE

LOSSES = ({"loss": "point_distiller", "samples": 50}, {"loss": "crd"}, {"loss": "logits"})
"""With parts that are trained beside the student, and draws at random."""
SOME = (
    ("folder", 1),  # nothing is there yet
    ("written", 2),
    ("step", 2),
    ("checkpoint", 1),  # a step is done and not saved
    ("written", 3),  # a checkpoint is complete, the one before it in place
    ("log", 1),
    ("validate", 1),
    ("finish", 1),
)


@pytest.fixture(scope="module")
def lesson(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with scans, a teacher and a recipe."""
    folder = tmp_path_factory.mktemp("lesson")
    write_kitti(folder / "kitti", 6, 2, reach_m=28)
    torch.manual_seed(5)
    teacher = AnchorDetector(replace(RECIPE.detector, compression=4))
    save_detector(folder / "teacher.safetensors", teacher)
    recipe = replace(RECIPE, losses=LOSSES, mean=0.9, measure_every=1)
    (folder / "recipe.yaml").write_text(config.to_yaml(config.to_dict(recipe)))
    return folder


def command(verb: str, lesson: Path) -> tuple[object, ...]:
    teacher = lesson / "teacher.safetensors"
    rest = ("--data", lesson / "kitti", "--teacher", teacher, "--quiet", "-o", "out")
    return (verb, lesson / "recipe.yaml", *rest)


@pytest.fixture(scope="module")
def whole(
    host: Host, lesson: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, bytes]]:
    """What each command makes when nothing happens to it."""
    return {
        verb: then(host, tmp_path_factory.mktemp("whole"), command(verb, lesson))
        for verb in ("train", "cache")
    }


@pytest.mark.parametrize("strike", ["kill", "interrupt", "full"])
def test_a_student_that_was_struck_has_the_same_bits(
    strike: str, host: Host, lesson: Path, whole: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    training = command("train", lesson)
    points = SOME if strike == "kill" else SOME[2::2]
    for result in struck(host, tmp_path, training, points, strike):
        if strike == "kill":
            assert result.code == -9
        elif strike == "interrupt":
            assert "goes on from its last checkpoint" in complaint(result, 130)
        else:
            assert complaint(result, 1).startswith("geodistill train: cannot write out/")
    assert then(host, tmp_path, training) == whole["train"]


@pytest.mark.parametrize("strike", ["kill", "interrupt", "full"])
def test_a_cache_that_was_struck_has_the_same_bits(
    strike: str, host: Host, lesson: Path, whole: dict[str, dict[str, bytes]], tmp_path: Path
) -> None:
    caching = command("cache", lesson)
    points = (("folder", 1), ("batch", 1), ("written", 2), ("batch", 3))
    for result in struck(host, tmp_path, caching, points, strike):
        assert result.code == {"kill": -9, "interrupt": 130, "full": 1}[strike]
    assert then(host, tmp_path, caching) == whole["cache"]
    assert not list(tmp_path.rglob("*.tmp-*"))
    assert len(lasting(tmp_path)) == 6 + 1
