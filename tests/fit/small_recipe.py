"""Recipes that train in seconds on the scans of `tests.detect.small_kitti`."""

from __future__ import annotations

from dataclasses import replace

from geodistill.detect.augment import Augmentation, Paste
from geodistill.detect.proposals import Draw
from geodistill.fit.detector.recipe import Recipe
from geodistill.nn.anchor_detector import AnchorSettings
from geodistill.nn.point_settings import PointSettings, Proposing
from geodistill.nn.voxels import VoxelGrid
from geodistill.train.adamw import OneCycle

GRID = VoxelGrid((0.0, -15.36, -3.0), (30.72, 15.36, 1.0), (0.48, 0.48, 4.0), 32, 4000)
SMALL_GRID = (
    "detector.grid.low=0,-15.36,-3",
    "detector.grid.high=30.72,15.36,1",
    "detector.grid.size=0.48,0.48,4",
)
"""The same for --set."""
RECIPE = Recipe(
    AnchorSettings(compression=16, grid=GRID, momentum=0.1),
    epochs=2,
    batch=2,
    cycle=OneCycle(peak=0.005),
    augmentation=Augmentation((Paste("Car", 4),)),
)
POINTS = replace(
    RECIPE,
    detector=PointSettings(
        compression=16,
        points=512,
        low=GRID.low,
        high=GRID.high,
        momentum=0.1,
        pooled=16,
        proposing=Proposing(candidates=200, most=32, most_learning=64),
        drawing=Draw(count=16),
    ),
)
