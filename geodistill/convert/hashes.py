"""A hash grid's start from another one's: every level's features, gathered where light falls."""

from __future__ import annotations

import torch
from torch import Tensor

from geodistill import kernels
from geodistill.convert.cache import TeacherCache
from geodistill.geometry.fields.ngp import HashBranch

POINTS = 1 << 19
"""Samples that the tables are gathered from."""
ITERATIONS = 4
"""Steps of conjugate gradients; each is one look-up and one gathering of all points."""


def same_networks(student: HashBranch, teacher: HashBranch) -> bool:
    """Whether the student's density network takes and gives what the teacher's does."""
    mine, theirs = (
        {n: p.shape for n, p in b.density_net.named_parameters()} for b in (student, teacher)
    )
    return student.spec.levels == teacher.spec.levels and mine == theirs


def resample_table(student: HashBranch, teacher: HashBranch, cache: TeacherCache) -> None:
    """Take over the teacher's density network, and its features level by level.

    A table of the same layout is taken over as it is. Else the entries of each level are the
    least-squares fit to the teacher's features of that level at the cached samples, by a few
    conjugate gradients that are preconditioned with how often an entry is looked up. What no
    sample looks up is zero.
    """
    student.density_net.load_state_dict(teacher.density_net.state_dict())
    if student.spec == teacher.spec:
        student.table.copy_(teacher.table)
        return
    draw = torch.Generator().manual_seed(0)
    chosen = torch.randperm(len(cache.samples), generator=draw)[:POINTS].sort().values
    x = (cache.samples.u[chosen] + 1.0) * 0.5
    features = kernels.hash_encode(x, teacher.table, teacher.spec)
    table, way = torch.zeros_like(student.table), torch.zeros_like(student.table)
    hits = _gather(x, torch.ones_like(features), student, table).clamp_min(1e-3)
    left, before = _gather(x, features, student, table), torch.inf
    for _ in range(ITERATIONS):
        scaled = left / hits
        power = float((left * scaled).sum())
        way = scaled + way * (power / before)
        image = _gather(x, None, student, way)
        length = power / max(float((way * image).sum()), 1e-30)
        table += length * way
        left -= length * image
        before = max(power, 1e-30)
    student.table.copy_(table)


def _gather(x: Tensor, values: Tensor | None, student: HashBranch, table: Tensor) -> Tensor:
    """The adjoint of the look-up: values [N, levels * features] -> [entries, features].

    Without values it is applied to what is looked up in the table.
    """
    table = table.detach().requires_grad_()
    with torch.enable_grad():
        found = kernels.hash_encode(x, table, student.spec)
        values = found.detach() if values is None else values
        return torch.autograd.grad(found, table, values)[0]
