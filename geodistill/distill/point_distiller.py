"""PointDistiller: local graphs of the teacher's features, learnt where they matter.

Source: Zhang, Dong, Tai and Ma, "PointDistiller: Structured Knowledge Distillation Towards
Efficient and Compact 3D Detection" (CVPR 2023).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geodistill.checks import UsageError
from geodistill.distill.losses.base import Loss, LossSettings, Seen, expect_alike
from geodistill.nn.pillars import EPSILON, MOMENTUM

CHUNK = 1 << 23  # distances at a time
COUNT_TAU, MAP_TAU = 8.0, 1.0
REFERENCE_FACTOR, PLAIN_FACTOR = 2.0, 5e-4


@dataclass(frozen=True, kw_only=True)
class PointDistillerSettings(LossSettings):
    """Attributes:
    samples: graphs of each scan, those of the largest importance.
    neighbours: of a graph.
    channels: of an edge; None: the student's.
    reweight: whether graphs count by their importance.
    tau: the temperature of that, in points of a voxel, or of maps in standard deviations; None: 8
        and 1.
    fuse: an edge is the neighbour beside the center, "identity", or their difference beside it,
        "difference".
    pool: over a graph's edges: "none" or "max".
    projection: the teacher's edges go through a layer that is "trained" with the student's, as
        published, under which both may shrink; through one of "unit" variance, the student's too;
        or through a random one that stays, "frozen".
    compat: "paper"; or "reference", as the released code does: graphs over the whole batch, maps
        without weights, the loss of plain graphs a norm.
    """

    tap: str = "encoder"
    samples: int = 2000
    neighbours: int = 32
    channels: int | None = None
    reweight: bool = True
    tau: float | None = None
    fuse: Literal["identity", "difference"] = "identity"
    pool: Literal["none", "max"] = "none"
    projection: Literal["trained", "unit", "frozen"] = "unit"
    compat: Literal["paper", "reference"] = "paper"

    def __post_init__(self) -> None:
        for name in ("samples", "neighbours"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.tau is not None and not self.tau > 0:
            raise UsageError(f"tau must be above 0, got {self.tau}")


class EdgeConv(nn.Module):
    """Edges of graphs through a linear layer, batch norm and ReLU.

    An edge from a center i to a neighbour j is W [z_j, z_i] = W1 z_j + W2 z_i: both products are
    made once for each place, and edges are sums of them.
    """

    def __init__(self, channels: int, out: int, fuse: str, affine: bool = True) -> None:
        super().__init__()
        self.fuse = fuse
        self.linear = nn.Linear(2 * channels, out, bias=False)
        self.norm = nn.BatchNorm1d(out, EPSILON, MOMENTUM, affine, track_running_stats=False)

    def forward(self, features: Tensor, centers: Tensor, neighbours: Tensor) -> Tensor:
        """Of features [V, C], centers int64 [N] and their neighbours [N, K]: [N, K, out]."""
        first, second = self.linear.weight.chunk(2, 1)
        near, own = features @ first.T, features @ second.T
        if self.fuse == "difference":
            near, own = -near, near + own
        edges = near[neighbours] + own[centers][:, None]
        return F.relu(self.norm(edges.flatten(0, 1))).view_as(edges)


class PointDistiller(Loss):
    """sum_i phi_i |G_i(teacher) - G_i(student)|^2 over graphs (equation 2), by 2 / (C' K).

    Graph i joins a place of large importance with its neighbours among the teacher's features;
    the student's graph has the same edges. Importance is the number of a voxel's points, of a map
    the largest of the teacher's channels; phi its softmax.
    """

    Settings = PointDistillerSettings

    def __init__(self, settings: PointDistillerSettings, teacher: Any, student: Any) -> None:
        super().__init__(settings)
        expect_alike("point_distiller", teacher, student)
        out = settings.channels or student.shape[1]
        affine = settings.projection == "trained"
        self.of_teacher = EdgeConv(teacher.shape[1], out, settings.fuse, affine)
        student_affine = affine or settings.projection == "frozen"
        self.of_student = EdgeConv(student.shape[1], out, settings.fuse, student_affine)
        if settings.projection == "frozen":
            nn.init.orthogonal_(self.of_teacher.linear.weight)
            self.of_teacher.requires_grad_(False)
        self._effective = 0.0

    def forward(self, teacher: Tensor, student: Tensor, seen: Seen, progress: float) -> Tensor:
        scores, scan = _importance(teacher, seen)
        mapped = teacher.dim() == 4
        if mapped:
            teacher, student = (x.permute(0, 2, 3, 1).flatten(0, 2) for x in (teacher, student))
        reference = self.settings.compat == "reference"
        groups = [torch.arange(len(scan), device=scan.device)]
        if not reference:
            groups = [(scan == k).nonzero()[:, 0] for k in range(seen.voxels.scans)]
        groups = [own for own in groups if len(own) > 1]
        if not groups:
            return student.sum() * 0
        centers, neighbours, weights = [], [], []
        for own in groups:
            best = scores[own].topk(min(self.settings.samples, len(own))).indices
            near = nearest(teacher[own], best, min(self.settings.neighbours, len(own)))
            centers.append(own[best])
            neighbours.append(own[near])
            weights.append(self._weights(scores[own], best, mapped))
        least = min(near.shape[1] for near in neighbours)  # a scan may have few places
        edges = torch.cat([near[:, :least] for near in neighbours])
        center, phi = torch.cat(centers), torch.cat(weights) / len(groups)
        wanted = self.of_teacher(teacher, center, edges)
        found = self.of_student(student, center, edges)
        if self.settings.pool == "max":
            wanted, found = wanted.amax(1, keepdim=True), found.amax(1, keepdim=True)
        away = (wanted - found).square()
        with torch.no_grad():
            self._effective = float(1 / phi.square().sum() / len(groups))
        if reference and not self.settings.reweight:
            return PLAIN_FACTOR * away.sum().sqrt()
        return REFERENCE_FACTOR * (phi * away.mean((1, 2))).sum()

    def report(self) -> dict[str, float]:
        """How many graphs of a scan would count as much, if all counted alike: 1 / sum phi^2."""
        return {"effective_samples": self._effective}

    def _weights(self, scores: Tensor, best: Tensor, mapped: bool) -> Tensor:
        """phi of the graphs of a scan, whose sum is 1."""
        chosen = scores[best]
        plain = self.settings.compat == "reference" and mapped
        if not self.settings.reweight or plain:
            return torch.full_like(chosen, 1 / len(best))
        tau = self.settings.tau or (MAP_TAU if mapped else COUNT_TAU)
        if mapped:
            chosen = (chosen - scores.mean()) / scores.std().clamp(min=1e-6)
        return torch.softmax(chosen / tau, 0)


def _importance(teacher: Tensor, seen: Seen) -> tuple[Tensor, Tensor]:
    """Of each place, and its scan."""
    if teacher.dim() == 2:
        return seen.voxels.counts.to(teacher.dtype), seen.voxels.cells[:, 0]
    best = teacher.amax(1)
    scan = torch.arange(len(best), device=best.device)[:, None, None].expand_as(best)
    return best.flatten(), scan.flatten()


@torch.no_grad()
def nearest(features: Tensor, centers: Tensor, count: int) -> Tensor:
    """The nearest places of features [V, C] to centers int64 [N] among them, by the features'
    distance, themselves included: int64 [N, count], nearest first."""
    square = features.square().sum(1)
    rows = max(1, CHUNK // len(features))
    found = []
    for part in centers.split(rows):
        # Without the center's own square, which is the same along a row.
        distance = torch.addmm(square[None], features[part], features.T, alpha=-2)
        found.append(distance.topk(count, largest=False).indices)
    return torch.cat(found)
