"""PointDistiller: local graphs of the teacher's features, learnt where they matter.

Source: Zhang, Dong, Tai and Ma, "PointDistiller: Structured Knowledge Distillation Towards
Efficient and Compact 3D Detection" (CVPR 2023).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geodistill import dist
from geodistill.checks import ABOVE_ZERO, expect_within
from geodistill.distill.losses.base import (
    Loss,
    PlaceSettings,
    Seen,
    expect_alike,
    expect_heads,
    expect_maps,
    over_ranks,
)
from geodistill.distill.losses.places import Places, by_scan, importance, kind_of, rows
from geodistill.nn.bev import Predictions
from geodistill.nn.pillars import EPSILON

CHUNK = 1 << 21  # distances at a time
REFERENCE_EPSILON = 1e-5
FACTOR, PLAIN_FACTOR = 2.0, 5e-4
"""Of the loss as published code has it, and of its norm where graphs all count alike."""


@dataclass(frozen=True, kw_only=True)
class PointDistillerSettings(PlaceSettings):
    """What is None is chosen by `compat` and by what is at the tap: voxels, points or a map.

    Attributes:
        samples: graphs of each scan, those of the largest importance: 2000. The reference: 6000 of
            a batch's voxels or of a scan's points, 256 of each scan's map.
        neighbours: of a graph: 32. The reference: 128, and 256 of maps.
        channels: of an edge: 32. The reference: as many as the student's, and 32 of maps. (Its
            nuScenes detectors: 64, and 128 neighbours.)
        importance: of a place: by its "own" points or features; or, of maps, by how sure the
            teacher's "head" is of an object there.
        reweight: whether graphs count by their importance.
        tau: the temperature of that, in points of a voxel: 8; or, of points and maps, in standard
            deviations: 1. The reference: 0.01 points, by which only the fullest voxels count.
        fuse: an edge is the neighbour beside the center, "identity", or their difference beside it,
            "difference".
        pool: over a graph's edges: "none" or "max". The reference: "max" of points.
        projection: the teacher's edges go through a layer that is random and stays, "frozen"; or
            is "trained" with the student's, as published and in the reference; or so with batch
            norms that have no weights, "unit". Where it is trained, both layers settle on the few
            directions that are easiest to agree on, and the loss is small while the student knows
            little.
        compat: "none"; or "reference", as the released code does: voxels' graphs over the whole
            batch, graphs of points and maps without weights, the loss of graphs that count alike
            a norm.
    """

    tap: str = "encoder"
    samples: int | None = None
    neighbours: int | None = None
    channels: int | None = None
    importance: Literal["own", "head"] = "own"
    reweight: bool = True
    tau: float | None = None
    fuse: Literal["identity", "difference"] = "identity"
    pool: Literal["none", "max"] | None = None
    projection: Literal["trained", "unit", "frozen"] | None = None
    compat: Literal["none", "reference"] = "none"

    def __post_init__(self) -> None:
        super().__post_init__()
        one = (1, math.inf)
        expect_within(self, samples=one, neighbours=(2, math.inf), channels=one, tau=ABOVE_ZERO)

    @property
    def taps(self) -> tuple[str, ...]:
        return (self.tap, "head") if self.importance == "head" else (self.tap,)

    @property
    def reference(self) -> bool:
        return self.compat == "reference"

    @property
    def within(self) -> float | None:
        """`reach`, of which the reference knows nothing."""
        return None if self.reference else self.reach

    def sizes(self, kind: Places) -> tuple[int, int]:
        """Graphs, and neighbours of each."""
        usual = (2000, 32)
        if self.reference:
            usual = (256, 256) if kind == "map" else (6000, 128)
        return self.samples or usual[0], self.neighbours or usual[1]

    def pooled(self, kind: Places) -> bool:
        usual = "max" if self.reference and kind == "points" else "none"
        return (self.pool or usual) == "max"

    def temperature(self, kind: Places) -> float:
        return self.tau or (0.01 if self.reference else 8.0 if kind == "voxels" else 1.0)


@dataclass(frozen=True, eq=False)
class Graphs:
    """Which places of a batch are compared; they depend on the teacher's features alone.

    Attributes:
        centers: int64 [N].
        neighbours: int64 [N, K], nearest first.
        weights: [N], phi of equation 2 divided by the number of scans that have graphs, over all
            ranks: their sum is 1.
        scans: how many have graphs, each as heavy as another.
    """

    centers: Tensor
    neighbours: Tensor
    weights: Tensor
    scans: int

    def effective(self) -> float:
        """How many graphs of a scan would count as much, if all counted alike: 1 / sum phi^2."""
        square = self.weights.square().sum().clamp(min=1e-12)
        return float(self.weights.sum().square() / square / max(1, self.scans))


@torch.no_grad()
def graphs_of(
    teacher: Tensor,
    seen: Seen,
    settings: PointDistillerSettings,
    said: Predictions | None = None,
) -> Graphs:
    """Graphs of a teacher's voxels or points [V, C], or maps [B, C, H, W]: none of a scan that has
    not two places. A scan with fewer than K places repeats them.

    Args:
        said: by the teacher's head, where the importance is that.
    """
    kind = kind_of(teacher, seen)
    scores, scan = importance(teacher, seen, said)
    features = rows(teacher)
    groups = by_scan(teacher, scan, seen, settings.within)
    if settings.reference and kind == "voxels" and groups:
        groups = [torch.arange(len(scan), device=scan.device)]
    samples, count = settings.sizes(kind)
    scans = over_ranks(torch.tensor(len(groups), device=scan.device))
    centers, neighbours, weights = [scan[:0]], [scan.new_zeros(0, count)], [features[:0, 0]]
    for own in groups:
        best = scores[own].topk(min(samples, len(own))).indices
        near = nearest(features[own], best, min(count, len(own)))
        turn = torch.arange(count, device=near.device) % near.shape[1]
        centers.append(own[best])
        neighbours.append(own[near[:, turn]])
        weights.append(_weights(scores[own], best, settings, kind) / scans)
    return Graphs(torch.cat(centers), torch.cat(neighbours), torch.cat(weights), len(groups))


def _weights(
    scores: Tensor, best: Tensor, settings: PointDistillerSettings, kind: Places
) -> Tensor:
    """phi of the graphs of a scan, whose sum is 1."""
    chosen = scores[best]
    # The released code takes the softmax of a map's scores over an axis of length 1, and leaves
    # that of points unused.
    if not settings.reweight or (settings.reference and kind != "voxels"):
        return torch.full_like(chosen, 1 / len(best))
    if kind != "voxels":
        chosen = (chosen - scores.mean()) / scores.std().clamp(min=1e-6)
    return torch.softmax(chosen / settings.temperature(kind), 0)


class EdgeConv(nn.Module):
    """Edges of graphs through a linear layer, batch norm and ReLU.

    An edge from a center i to a neighbour j is W [z_j, z_i] = W1 z_j + W2 z_i: both products are
    made once for each place, and edges are sums of them.
    """

    def __init__(
        self, channels: int, out: int, fuse: str, affine: bool = True, epsilon: float = EPSILON
    ) -> None:
        super().__init__()
        self.fuse = fuse
        self.linear = nn.Linear(2 * channels, out, bias=False)
        self.norm = nn.BatchNorm1d(out, epsilon, affine=affine, track_running_stats=False)

    def forward(self, features: Tensor, centers: Tensor, neighbours: Tensor) -> Tensor:
        """Of features [V, C], centers int64 [N] and their neighbours [N, K]: [N, K, out]."""
        first, second = self.linear.weight.chunk(2, 1)
        near, own = features @ first.T, features @ second.T
        if self.fuse == "difference":
            near, own = -near, near + own
        edges = near[neighbours] + own[centers][:, None]
        return F.relu(self.norm(edges.flatten(0, 1))).view_as(edges)


class PointDistiller(Loss):
    """sum_i phi_i |G_i(teacher) - G_i(student)|^2 over graphs (equation 2), by 2 / (C' K), or by
    2 / C' where edges are pooled; the mean over scans. `compat: reference` has other factors.

    Graph i joins a place of large importance with its neighbours among the teacher's features;
    the student's graph has the same edges. Importance is the number of a voxel's points, of a point
    or a map's cell the largest of the teacher's channels; phi its softmax over a scan's graphs. (So
    the released code; the paper weighs graphs of points by the largest channel of their edges.)
    """

    Settings = PointDistillerSettings

    def __init__(self, settings: PointDistillerSettings, teacher: Any, student: Any) -> None:
        super().__init__(settings)
        if settings.importance == "head":
            (teacher, said), (student, _) = teacher, student
            expect_maps("point_distiller by the head", teacher, student)
            expect_heads("point_distiller by the head", said, said)
        expect_alike("point_distiller", teacher, student)
        as_student = settings.reference and student.dim() == 2
        out = settings.channels or (student.shape[1] if as_student else 32)
        projection = settings.projection or ("trained" if settings.reference else "frozen")
        epsilon = REFERENCE_EPSILON if settings.reference else EPSILON
        self.of_teacher, self.of_student = (
            EdgeConv(one.shape[1], out, settings.fuse, affine, epsilon)
            for one, affine in ((teacher, projection == "trained"), (student, projection != "unit"))
        )
        if projection == "frozen":
            nn.init.orthogonal_(self.of_teacher.linear.weight)
            self.of_teacher.requires_grad_(False)
        self._effective = 0.0

    def forward(self, teacher: Any, student: Any, seen: Seen, progress: float) -> Tensor:
        said = None
        if self.settings.importance == "head":
            (teacher, said), (student, _) = teacher, student
        graphs = graphs_of(teacher, seen, self.settings, said)
        self._effective = graphs.effective()
        if not graphs.scans and dist.world() == 1:  # otherwise the norms wait for this rank
            return student.sum() * 0
        wanted = self.of_teacher(rows(teacher), graphs.centers, graphs.neighbours)
        found = self.of_student(rows(student), graphs.centers, graphs.neighbours)
        if self.settings.pooled(kind_of(teacher, seen)):
            wanted, found = wanted.amax(1, keepdim=True), found.amax(1, keepdim=True)
        away = wanted - found
        if self.settings.reference and not self.settings.reweight:
            return PLAIN_FACTOR * away.norm()
        loss = FACTOR * (graphs.weights * away.square().mean((1, 2))).sum()
        if self.settings.reference and teacher.dim() == 4:
            return loss * len(teacher)  # what its softmax of ones is multiplied by
        return loss

    def report(self) -> dict[str, float]:
        return {"effective_samples": self._effective}


@torch.no_grad()
def nearest(features: Tensor, centers: Tensor, count: int) -> Tensor:
    """The nearest places of features [V, C] to centers int64 [N] among them, by the features'
    distance, themselves included: int64 [N, count], nearest first."""
    square = features.square().sum(1)
    chunk = max(1, CHUNK // len(features))
    found = []
    for part in centers.split(chunk):
        # Without the center's own square, which is the same along a row.
        distance = torch.addmm(square[None], features[part], features.T, alpha=-2)
        found.append(distance.topk(count, largest=False).indices)
    return torch.cat(found)
