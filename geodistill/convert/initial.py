"""A student's closed-form start: what can be read off the teacher without a gradient step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geodistill.convert.cache import TeacherCache
from geodistill.convert.cp import refine_cp
from geodistill.convert.factors import cp_from_vm, vm_scalar, vm_vector
from geodistill.convert.hashes import resample_table, same_networks
from geodistill.convert.latents import Translator, node_latents
from geodistill.convert.voxels import fill_voxels
from geodistill.geometry.fields import Field
from geodistill.geometry.fields.composite import SumBranch
from geodistill.geometry.fields.decoder import DecodedField
from geodistill.geometry.fields.heads import Branch, LatentField
from geodistill.geometry.fields.ngp import HashBranch
from geodistill.geometry.fields.plenoxels import Plenoxels
from geodistill.geometry.fields.tensorf import CpBranch, FactoredBranch, VmBranch
from geodistill.geometry.grids import nodes_near, resize_lines, resize_planes

DENSITY_RESOLUTION, COLOR_RESOLUTION = 120, 80
"""Grids are sampled at these resolutions for the SVD; finer factors are interpolated from them."""
CP_DENSITY_RESOLUTION, CP_COLOR_RESOLUTION, CP_SWEEPS = 120, 96, 5
"""The same for least squares, which cost more per node."""


@torch.no_grad()
def initialise(student: Field, teacher: Field, cache: TeacherCache, translate: Translator) -> bool:
    """Fill the student with the best closed-form approximation of the teacher that is known.

    Plenoxels: sampled densities and least-squares harmonics. VM: alternating SVD. CP: rank-1 terms
    of the VM planes, refined by alternating least squares. Hash grids from hash grids: the levels'
    features. Every latent student takes over the colour head. MLPs, and hash grids from anything
    else, keep their random start.

    Args:
        student: filled in place.
        teacher: the field that it is to resemble.
        cache: samples of the teacher.
        translate: from the teacher's latent to the student's.

    Returns:
        Whether there was a closed form for more than the head.
    """
    if isinstance(student, Plenoxels):
        fill_voxels(student, teacher, cache)
        return True
    assert isinstance(student, LatentField | DecodedField) and student.color_head is not None
    student.color_head.load_state_dict(translate.color_head.state_dict())
    branch: Branch = student.branch
    if isinstance(branch, SumBranch):
        branch = branch.vm
    if isinstance(branch, VmBranch):
        fill_vm(branch, teacher, cache, translate)
    elif isinstance(branch, CpBranch):
        fill_cp(branch, teacher, cache, translate)
    elif (hashed := shared_hashes(student, teacher)) is not None:
        resample_table(*hashed, cache)
        return True
    return isinstance(branch, FactoredBranch)


def shared_hashes(student: Field, teacher: Field) -> tuple[HashBranch, HashBranch] | None:
    """The hash grids of both, if the student's can take over what the teacher's holds."""
    if not (isinstance(student, LatentField) and isinstance(teacher, LatentField)):
        return None
    branch, source = student.branch, teacher.branch
    if not (isinstance(branch, HashBranch) and isinstance(source, HashBranch)):
        return None
    return (branch, source) if same_networks(branch, source) else None


def fill_vm(branch: VmBranch, teacher: Field, cache: TeacherCache, translate: Translator) -> None:
    """Planes and lines that resemble the translated latents at the nodes near what is seen."""
    nodes, latents = _sampled(branch, teacher, cache, translate, DENSITY_RESOLUTION)
    density = _dense(nodes, latents[:, :1] - branch.floor)[0]
    planes, lines = vm_scalar(density, branch.density_lines[0].shape[1], nodes)
    nodes, latents = _sampled(branch, teacher, cache, translate, COLOR_RESOLUTION)
    color = _dense(nodes, latents[:, 1:])
    color_planes, color_lines, bases = vm_vector(color, branch.color_lines[0].shape[1], nodes)
    _assign(branch.density_planes, resize_planes(planes, branch.resolution))
    _assign(branch.density_lines, resize_lines(lines, branch.resolution))
    _assign(branch.color_planes, resize_planes(color_planes, branch.resolution))
    _assign(branch.color_lines, resize_lines(color_lines, branch.resolution))
    branch.basis.copy_(torch.cat(bases, dim=1))


def fill_cp(branch: CpBranch, teacher: Field, cache: TeacherCache, translate: Translator) -> None:
    """Lines that fit the translated latents at the nodes near what is seen."""
    nodes, latents = _sampled(branch, teacher, cache, translate, CP_DENSITY_RESOLUTION)
    rank, values = branch.density_lines[0].shape[1], latents[:, :1] - branch.floor
    planes, lines = vm_scalar(_dense(nodes, values)[0], -(-rank // 3), nodes)
    lines, _ = refine_cp(*cp_from_vm(planes, lines, None, rank), values, nodes, CP_SWEEPS)
    _assign(branch.density_lines, resize_lines(lines, branch.resolution))
    nodes, latents = _sampled(branch, teacher, cache, translate, CP_COLOR_RESOLUTION)
    rank, values = branch.color_lines[0].shape[1], latents[:, 1:]
    planes, lines, bases = vm_vector(_dense(nodes, values), -(-rank // 6), nodes)
    lines, basis = refine_cp(*cp_from_vm(planes, lines, bases, rank), values, nodes, CP_SWEEPS)
    _assign(branch.color_lines, resize_lines(lines, branch.resolution))
    branch.basis.copy_(basis)


def _sampled(
    branch: FactoredBranch,
    teacher: Field,
    cache: TeacherCache,
    translate: Translator,
    resolution: int,
) -> tuple[Tensor, Tensor]:
    """Nodes near seen cells, bool [R, R, R], and translated latents there, [M, 16].

    R is `resolution`, but not more than the branch's.
    """
    size = min(resolution, branch.resolution)
    nodes = nodes_near(cache.occupancy, size, centred=False)
    spacing = torch.linspace(-1.0, 1.0, size)
    return nodes, node_latents(teacher, translate, nodes.nonzero(), spacing)


def _dense(nodes: Tensor, values: Tensor) -> Tensor:
    """[F, R, R, R] with values [M, F] at the nodes and zeros elsewhere."""
    out = values.new_zeros(values.shape[1], *nodes.shape)
    out[:, nodes] = values.t()
    return out


def _assign(factors: nn.ParameterList, values: list[Tensor]) -> None:
    for parameter, value in zip(factors, values, strict=True):
        parameter.copy_(value)
