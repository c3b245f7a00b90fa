"""The shipped recipes: each is read, and builds the detector that it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from geodistill import config
from geodistill.checks import InputError
from geodistill.cli.train import SHIPPED, recipe_file
from geodistill.distill.losses import loss_settings
from geodistill.fit.detector.recipe import Recipe
from geodistill.nn.detector_kinds import new_detector

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
