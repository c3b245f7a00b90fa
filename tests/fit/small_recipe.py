"""A recipe that trains in a second on the scans of `tests.detect.small_kitti`."""

from __future__ import annotations

from geodistill.detect.augment import Augmentation, Paste
from geodistill.fit.detector.recipe import Recipe
from geodistill.nn.detector import DetectorSettings
from geodistill.nn.voxels import VoxelGrid
from geodistill.train.adamw import OneCycle

GRID = VoxelGrid((0.0, -15.36, -3.0), (30.72, 15.36, 1.0), (0.48, 0.48, 4.0), 32, 4000)
RECIPE = Recipe(
    DetectorSettings(compression=16, grid=GRID, momentum=0.1),
    epochs=2,
    batch=2,
    cycle=OneCycle(peak=0.005),
    augmentation=Augmentation((Paste("Car", 4),)),
)
