"""The shipped recipes: each is read and builds the detector that it names; what none may say."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from geodistill import config
from geodistill.checks import InputError, UsageError
from geodistill.cli.train import SHIPPED, recipe_file
from geodistill.distill.losses import loss_settings
from geodistill.fit.detector.recipe import Recipe
from geodistill.nn.detector_kinds import new_detector
from geodistill.nn.point_settings import PointSettings
from tests.fit.small_recipe import RECIPE

FILES = sorted(SHIPPED.glob("detector/*.yaml"))
PARAMETERS = {
    ("pointpillars", 1): 4.835,
    ("pointpillars", 4): 1.217,
    ("pointpillars", 16): 0.309,
    ("second", 1): 5.326,
    ("second", 4): 1.343,
    ("second", 16): 0.341,
    ("pointrcnn", 1): 4.039,
    ("pointrcnn", 8): 0.517,
    ("pointrcnn", 16): 0.258,
}

NUSCENES = {("pointpillars", 1): 4.954, ("pointpillars", 2): 2.533, ("pointpillars", 4): 1.277}


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_recipes_build(file: Path) -> None:
    recipe = config.load(Recipe, file)
    own = recipe.detector
    detector = new_detector(own)
    parameters = sum(p.numel() for p in detector.parameters()) / 1e6
    table = NUSCENES if "nuscenes" in file.stem else PARAMETERS
    assert parameters == pytest.approx(table[own.architecture, own.compression], abs=6e-4)
    parts = dict(detector.network.named_modules())
    for options in recipe.losses:
        assert loss_settings(options)[1].tap in parts
    assert bool(recipe.losses) == (own.compression > 1)


def test_shipped_recipes_by_their_names(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    wanted = SHIPPED / "detector" / "pillars_4x.yaml"
    for name in ("detector/pillars_4x", "detector/pillars_4x.yaml", "configs/detector/pillars_4x"):
        assert recipe_file(Path(name)) == wanted
    for name in (wanted.with_suffix(".yml"), "detector/pillars_4x.json"):
        with pytest.raises(InputError, match="does not exist; shipped recipes are"):
            recipe_file(Path(name))


def test_recipes_that_make_no_sense() -> None:
    with pytest.raises(UsageError, match="seed must be from 0 to 9223372036854775807, got -1"):
        replace(RECIPE, seed=-1)
    with pytest.raises(UsageError, match="epochs must be at least 1, got 0"):
        Recipe(epochs=0)
    with pytest.raises(UsageError, match=r"mean must be in \[0, 1\), got 1"):
        Recipe(mean=1.0)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("cycle.peak=-1", "cycle.peak must be above 0"),
        ("cycle.rise=2", "cycle.rise must be from 0 to 1"),
        ("cycle.clip=0", "cycle.clip must be above 0"),
        ("augmentation.scale=2,1", "augmentation.scale must be the least and the largest factor"),
        ("augmentation.flip=2", "augmentation.flip must be from 0 to 1"),
        ("detector.momentum=5", "detector.momentum must be from 0 to 1"),
        ("detector.grid.most_voxels=0", "detector.grid.most_voxels must be at least 1"),
        ("detector.grid.low=nan,0,0", "detector.grid.low must be finite"),
        ("detector.choice.least_score=2", "detector.choice.least_score must be from 0 to 1"),
        ("detector.weights.codes=-1", "detector.weights.codes must be at least 0"),
        ("seed=99999999999999999999", "seed must be from 0 to"),
    ],
)
def test_numbers_of_recipes_that_cannot_be(override: str, message: str) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        config.load(Recipe, recipe_file(Path("detector/pillars_small")), [override])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"unsure": 0.7}, "unsure must be below sure"),
        ({"low": (1.0, 0.0, 0.0), "high": (0.0, 1.0, 1.0)}, "no box reaches from"),
    ],
    ids=["sure", "box"],
)
def test_points_that_cannot_be(change, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        PointSettings(**change)


def test_anchors_that_cannot_be() -> None:
    for change, message in (
        ({"size": (0.0, 1.0, 1.0)}, "size must be above 0"),
        ({"yaws": ()}, "need at least one of yaws"),
        ({"positive": 0.2}, "positive must be at least negative"),
    ):
        with pytest.raises(UsageError, match=message):
            replace(RECIPE.detector.anchors[0], **change)
