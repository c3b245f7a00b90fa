"""Detectors on a GPU: overlaps, voxels, losses, gradients and trainings of the CPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from geodistill import config
from geodistill.cli import main
from geodistill.detect.datasets import open_dataset
from geodistill.detect.overlap import iou_3d, iou_bev
from geodistill.detect.suppress import suppress
from geodistill.distill.detectors import Teaching
from geodistill.fit.detector.batches import batch_of
from geodistill.fit.detector.recipe import Recipe
from geodistill.fit.detector.training import make_feed, start_detector, with_objects
from geodistill.nn.detector_files import load_detector, save_detector
from geodistill.nn.detector_kinds import new_detector
from geodistill.nn.voxels import VoxelGrid
from tests.detect.made import random_boxes
from tests.detect.small_kitti import write_kitti
from tests.fit.small_recipe import GRID, POINTS, RECIPE

DEVICE = "cuda"
pytestmark = pytest.mark.gpu
FINE = VoxelGrid(GRID.low, GRID.high, (0.24, 0.24, 0.1), 5, 8000)
VOXELS = replace(RECIPE, detector=replace(RECIPE.detector, architecture="second", grid=FINE))
LOSSES = [{"loss": "point_distiller", "samples": 50, "tap": "neck"}, {"loss": "hint"}]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_kitti(tmp_path_factory.mktemp("kitti"), 6, 3, reach_m=28)


def test_boxes_overlap_and_suppress_one_another_as_on_the_cpu() -> None:
    one, two = random_boxes(200, 1), random_boxes(150, 2)
    for overlap in (iou_bev, iou_3d):
        found = overlap(one.to(DEVICE), two.to(DEVICE))
        torch.testing.assert_close(found.cpu(), overlap(one, two), atol=1e-5, rtol=1e-5)
    scores = torch.rand(len(one))
    kept = suppress(one.to(DEVICE), scores.to(DEVICE), 0.1)
    assert kept.cpu().equal(suppress(one, scores, 0.1)) and len(kept) < len(one)


@pytest.mark.parametrize("recipe", [RECIPE, VOXELS, POINTS], ids=["pillars", "second", "points"])
def test_a_step_is_that_of_the_cpu(root: Path, recipe: Recipe) -> None:
    """Losses of labels and of a teacher, and the gradient of both."""
    found = []
    for device in ("cpu", DEVICE):
        student = start_detector(recipe, device).train()
        torch.manual_seed(3)
        teacher = new_detector(replace(recipe.detector, compression=8)).to(device)
        torch.manual_seed(4)  # of what the losses train
        teaching = Teaching(student, [teacher], LOSSES)
        teaching.module.to(device)
        feed = with_objects(make_feed(recipe, open_dataset(root), student))
        batch = batch_of(student, feed, 0, feed.examples(0))
        predictions = student(batch.inputs)
        parts = student.losses(predictions, batch.targets)
        more, said = teaching.loss(batch, predictions, 0.0)
        (torch.stack(list(parts.values())).sum() + more).backward()
        norm = torch.stack([p.grad.norm() for p in student.parameters() if p.grad is not None])
        values = {name: float(value.detach()) for name, value in parts.items()}
        found.append({**values, **said, "gradient": float(norm.norm())})
        teaching.close()
    assert found[0].keys() == found[1].keys()
    for name, value in found[0].items():
        assert found[1][name] == pytest.approx(value, rel=1e-2, abs=1e-5), name


def test_a_student_is_trained_there_and_found_good_on_the_cpu(root: Path, tmp_path: Path) -> None:
    teacher, recipe = tmp_path / "teacher.safetensors", tmp_path / "recipe.yaml"
    save_detector(teacher, new_detector(replace(RECIPE.detector, compression=4)))
    losses = ({"loss": "point_distiller", "samples": 50}, {"loss": "logits"})
    recipe.write_text(config.to_yaml(config.to_dict(replace(RECIPE, losses=losses))))
    run = tmp_path / "student"
    arguments = [str(recipe), "--data", str(root), "--teacher", str(teacher), "-o", str(run)]
    assert main(["train", *arguments, "--device", DEVICE]) == 0
    assert main(["eval", str(run)]) == 0
    assert all(p.device.type == "cpu" for p in load_detector(run).parameters())
