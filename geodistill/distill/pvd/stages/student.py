"""What a student starts from: its teacher's scene and networks, inside the density window."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from geodistill.distill.pvd.stages.settings import PvdSettings
from geodistill.geometry.fields import Field
from geodistill.geometry.fields.composite import SumBranch
from geodistill.geometry.fields.heads import LatentField
from geodistill.geometry.fields.mlp import MlpBranch
from geodistill.geometry.fields.ngp import HashBranch
from geodistill.geometry.fields.plenoxels import DENSITY_UNIT, Plenoxels
from geodistill.geometry.fields.tensorf import CpBranch, VmBranch
from geodistill.geometry.grids import nodes_near


@torch.no_grad()
def inherit(student: Field, teacher: Field) -> tuple[str, ...]:
    """Give the student the teacher's scene, and its networks where role and shape agree.

    Latent fields share the colour head, hash grids and mlps the density network too. Encodings are
    never copied, not even between fields of one architecture: that would not be a distillation.

    Returns:
        The student's parameters that were copied.
    """
    student.copy_scene_from(teacher)
    mine, theirs = _networks(student), _networks(teacher)
    copied = []
    for name, parameter in student.named_parameters():
        if name in mine and name in theirs and parameter.shape == theirs[name].shape:
            parameter.copy_(theirs[name])
            copied.append(name)
    return tuple(copied)


def _networks(owner: Field) -> dict[str, nn.Parameter]:
    """Parameters of the networks that latent fields have in common, by name."""
    if not isinstance(owner, LatentField):
        return {}
    found = {f"color_head.{n}": p for n, p in owner.color_head.named_parameters()}
    if isinstance(owner.branch, HashBranch | MlpBranch):
        net = owner.branch.density_net
        found |= {f"branch.density_net.{n}": p for n, p in net.named_parameters()}
    return found


@torch.no_grad()
def enter_window(student: Field, settings: PvdSettings) -> None:
    """Start the student at log-density 0 if it is outside the window, where nothing can move it.

    Plenoxels without nodes get those that the occupancy reaches. A factored student whose floor is
    below the window gets the difference as its first component.
    """
    if isinstance(student, Plenoxels) and len(student.values) == 0:
        nodes = nodes_near(student.occupancy, student.config.resolution)
        values = torch.zeros(int(nodes.sum()), student.channels, device=nodes.device)
        values[:, 0] = 1.0 / DENSITY_UNIT
        student.allocate(nodes, values)
    branch = student.branch if isinstance(student, LatentField) else None
    factored = branch.vm if isinstance(branch, SumBranch) else branch
    if branch is None or not isinstance(factored, VmBranch | CpBranch):
        return
    if factored.floor > settings.raw_min:
        return
    u = torch.rand(4096, 3, generator=torch.Generator().manual_seed(0)) * 2.0 - 1.0
    if bool((branch.raw(u.to(student.device)) > settings.raw_min).any()):
        return
    parts = list(factored.density_lines)
    if isinstance(factored, VmBranch):
        parts = [factored.density_planes[0], factored.density_lines[0]]
    for part in parts:
        part[..., 0] = (-factored.floor) ** (1.0 / len(parts))


def factor_size(student: Field) -> Tensor:
    """Sum over density planes and lines of their mean absolute value; zero without any."""
    sizes = [
        p.abs().mean()
        for name, p in student.named_parameters()
        if "density_planes" in name or "density_lines" in name
    ]
    return torch.stack(sizes).sum() if sizes else torch.zeros((), device=student.device)
