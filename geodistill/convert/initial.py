"""A student's closed-form start: what can be read off the teacher without a gradient step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geodistill.convert.cache import TeacherCache
from geodistill.convert.factors import (
    cp_from_vm,
    resize_lines,
    resize_planes,
    vm_scalar,
    vm_vector,
)
from geodistill.convert.latents import Translator, grid_latents
from geodistill.convert.voxels import fill_voxels
from geodistill.geometry.fields import Field
from geodistill.geometry.fields.composite import SumBranch
from geodistill.geometry.fields.heads import Branch, LatentField
from geodistill.geometry.fields.plenoxels import Plenoxels
from geodistill.geometry.fields.tensorf import FactoredBranch, VmBranch
from geodistill.geometry.grids import nodes_near

DENSITY_RESOLUTION, COLOR_RESOLUTION = 160, 96
"""Grids are sampled at these resolutions for the SVD; finer factors are interpolated from them."""


@torch.no_grad()
def initialise(student: Field, teacher: Field, cache: TeacherCache, translate: Translator) -> None:
    """Fill the student with the best closed-form approximation of the teacher that is known.

    Plenoxels: sampled densities and least-squares harmonics. VM: alternating SVD. CP: rank-1 terms
    of the VM planes. Every latent student takes over the colour head. Hash grids and MLPs have no
    closed form here and keep their random start.
    """
    if isinstance(student, Plenoxels):
        fill_voxels(student, teacher, cache)
        return
    assert isinstance(student, LatentField)
    student.color_head.load_state_dict(translate.color_head.state_dict())
    branch: Branch = student.branch
    if isinstance(branch, SumBranch):
        branch = branch.vm
    if isinstance(branch, FactoredBranch):
        fill_factors(branch, teacher, cache, translate)


def fill_factors(
    branch: FactoredBranch, teacher: Field, cache: TeacherCache, translate: Translator
) -> None:
    """VM or CP factors of the translated latents on a grid."""
    density = _sampled(branch, teacher, cache, translate, DENSITY_RESOLUTION)[0] - branch.floor
    color = _sampled(branch, teacher, cache, translate, COLOR_RESOLUTION)[1:]
    rank_density, rank_color = branch.density_lines[0].shape[1], branch.color_lines[0].shape[1]
    if isinstance(branch, VmBranch):
        planes, lines = vm_scalar(density, rank_density)
        color_planes, color_lines, bases = vm_vector(color, rank_color)
        basis = torch.cat(bases, dim=1)
        _assign(branch.density_planes, resize_planes(planes, branch.resolution))
        _assign(branch.color_planes, resize_planes(color_planes, branch.resolution))
    else:
        planes, lines = vm_scalar(density, -(-rank_density // 3))
        lines, _ = cp_from_vm(planes, lines, None, rank_density)
        color_planes, color_lines, bases = vm_vector(color, -(-rank_color // 6))
        color_lines, basis = cp_from_vm(color_planes, color_lines, bases, rank_color)
    _assign(branch.density_lines, resize_lines(lines, branch.resolution))
    _assign(branch.color_lines, resize_lines(color_lines, branch.resolution))
    branch.basis.copy_(basis)


def _sampled(
    branch: FactoredBranch,
    teacher: Field,
    cache: TeacherCache,
    translate: Translator,
    resolution: int,
) -> Tensor:
    """Translated latents [16, R, R, R] near seen cells, at no more than the branch's resolution."""
    size = min(resolution, branch.resolution)
    nodes = nodes_near(cache.occupancy, size, centred=False)
    return grid_latents(teacher, translate, nodes, torch.linspace(-1.0, 1.0, size))


def _assign(factors: nn.ParameterList, values: list[Tensor]) -> None:
    for parameter, value in zip(factors, values, strict=True):
        parameter.copy_(value)
