"""Coarse-to-fine training: grids start at a fraction of their final resolution."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from geodistill.geometry.fields import Field
from geodistill.geometry.fields.plenoxels import DENSITY_UNIT, Plenoxels
from geodistill.geometry.fields.tensorf import CpBranch, VmBranch
from geodistill.geometry.grids import nodes_near, resize_lines, resize_planes

STAGES = ((0.0, 0.4), (0.08, 0.65), (0.2, 1.0))
"""(budget used, fraction of the final resolution) pairs."""
START_DENSITY = 1.0
"""Density per scene radius that voxels begin with: a ReLU at zero passes no gradient."""


STARTS = tuple(start for start, _ in STAGES)


def stage_at(progress: float, starts: Sequence[float] = STARTS) -> int:
    """Index into `STAGES` of the resolution that training has reached."""
    return sum(progress >= start for start in starts) - 1


def set_stage(field: Field, stage: int) -> None:
    """Bring every grid of the field to the stage's resolution, by linear interpolation."""
    fraction = STAGES[stage][1]
    for module in field.modules():
        if isinstance(module, VmBranch | CpBranch):
            resolution = max(8, round(fraction * module.resolution))
            _resample_factors(module, resolution)
        elif isinstance(module, Plenoxels):
            _resample_voxels(module, max(8, round(fraction * module.config.resolution)))


def _resample_factors(branch: VmBranch | CpBranch, resolution: int) -> None:
    for lines in (branch.density_lines, branch.color_lines):
        _replace(lines, resize_lines(list(lines), resolution))
    if isinstance(branch, VmBranch):
        for planes in (branch.density_planes, branch.color_planes):
            _replace(planes, resize_planes(list(planes), resolution))


def _replace(factors: nn.ParameterList, values: list[Tensor]) -> None:
    for i, value in enumerate(values):
        factors[i] = nn.Parameter(value.detach())


def _resample_voxels(field: Plenoxels, resolution: int) -> None:
    nodes = nodes_near(field.occupancy, resolution)
    index = nodes.nonzero()
    if len(field.values):
        values = field.latent((index + 0.5) * (2.0 / resolution) - 1.0).detach()
    else:
        values = torch.zeros(len(index), field.channels, device=index.device)
        values[:, 0] = START_DENSITY / DENSITY_UNIT
    field.allocate(nodes, values)
