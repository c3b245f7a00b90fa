"""What hangs in the air is left out, and nothing else is."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from geodistill.cameras import Similarity
from geodistill.geometry.floaters import REACH, SOLID, anchored, clumps
from geodistill.geometry.splats import Splats, covariances, rotation_matrices, transformed


def splats(means: torch.Tensor, scale: float = 0.1, opacity: float = 0.9, seed: int = 0) -> Splats:
    draw = torch.Generator().manual_seed(seed)
    count = len(means)
    return Splats(
        means.float(),
        F.normalize(torch.randn(count, 4, generator=draw), dim=1),
        math.log(scale) + 0.2 * torch.randn(count, 3, generator=draw),
        torch.full((count,), math.log(opacity / (1 - opacity))),
        torch.zeros(count, 1, 3),
    )


def joined(*parts: Splats) -> Splats:
    names = ("means", "rotations", "log_scales", "opacity_logits", "sh")
    return Splats(**{n: torch.cat([getattr(p, n) for p in parts]) for n in names})


def ball(count: int, at: tuple[float, float, float], radius: float, seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    way = F.normalize(torch.randn(count, 3, generator=draw), dim=1)
    return way * radius + torch.tensor(at)


def partition(labels: torch.Tensor) -> set[frozenset[int]]:
    return {frozenset((labels == k).nonzero()[:, 0].tolist()) for k in labels.unique()}


@pytest.mark.parametrize("seed", range(8))
def test_clumps_of_a_few_are_those_of_all_pairs(seed: int) -> None:
    """With no more splats than neighbours are asked for, every pair is looked at."""
    draw = torch.Generator().manual_seed(seed)
    count = 12
    some = splats(torch.randn(count, 3, generator=draw), 0.15, seed=seed)
    opacity = torch.where(torch.rand(count, generator=draw) < 0.3, 0.5 * SOLID, 0.8)
    some = Splats(some.means, some.rotations, some.log_scales, opacity.logit(), some.sh)
    spread, label = covariances(some).double(), list(range(count))
    near: dict[int, tuple[float, int]] = {}
    for i in range(count):
        for j in range(count):
            gap = (some.means[j] - some.means[i]).double()
            way = gap / gap.norm() if i != j else gap
            reach = sum(float(way @ spread[k] @ way) ** 0.5 for k in (i, j))
            if i == j or float(gap.norm()) > REACH * reach or opacity[j] < SOLID:
                continue
            if opacity[i] >= SOLID:
                old, new = label[j], label[i]
                label = [new if k == old else k for k in label]
            else:
                near[i] = min(near.get(i, (math.inf, -1)), (float(gap.norm()), j))
    for i, (_, j) in near.items():
        label[i] = label[j]
    assert partition(clumps(some)) == partition(torch.tensor(label))


def test_a_surface_is_one_clump_and_what_is_off_it_another() -> None:
    scene = joined(
        splats(ball(3000, (0, 0, 0), 1.0, 0), 0.05),
        splats(ball(40, (3, 0, 0), 0.1, 1), 0.05),
        splats(torch.tensor([[0.0, 4.0, 0.0]]), 0.05),
    )
    labels = clumps(scene)
    assert len(labels.unique()) == 3
    assert labels[:3000].unique().numel() == labels[3000:3040].unique().numel() == 1
    assert anchored(scene, 0.1).tolist() == [True] * 3000 + [False] * 41
    assert anchored(scene, 0.002).tolist() == [True] * 3040 + [False]
    assert bool(anchored(scene, 1e-9).all())


def test_haze_between_two_things_does_not_join_them() -> None:
    bridge = torch.stack([torch.linspace(1, 2, 20), torch.zeros(20), torch.zeros(20)], dim=1)
    ends = [splats(ball(300, (x, 0, 0), 0.5, 0), 0.08) for x in (0.5, 2.5)]
    solid = joined(*ends, splats(bridge, 0.08))
    assert len(clumps(solid).unique()) == 1
    haze = clumps(joined(*ends, splats(bridge, 0.08, opacity=0.5 * SOLID)))
    assert haze[:300].unique().numel() == haze[300:600].unique().numel() == 1
    assert haze[0] != haze[300]
    assert haze[600] == haze[0] and haze[619] == haze[300]


def test_flat_splats_side_by_side_touch_and_face_to_face_do_not() -> None:
    flat = splats(torch.tensor([[0.0, 0, 0], [0.25, 0, 0]]))
    log_scales = torch.tensor([[0.1, 0.1, 0.001]] * 2).log()
    upright = torch.tensor([[1.0, 0, 0, 0]] * 2)
    side = Splats(flat.means, upright, log_scales, flat.opacity_logits, flat.sh)
    assert len(clumps(side).unique()) == 1
    turned = torch.tensor([[math.cos(math.pi / 4), 0, math.sin(math.pi / 4), 0]] * 2)
    normal = rotation_matrices(turned)[0, :, 2]
    torch.testing.assert_close(normal.abs(), torch.tensor([1.0, 0, 0]))
    face = Splats(flat.means, turned, log_scales, flat.opacity_logits, flat.sh)
    assert len(clumps(face).unique()) == 2


def test_a_moved_scene_has_the_same_floaters() -> None:
    scene = joined(splats(ball(500, (0, 0, 0), 1.0, 0)), splats(ball(30, (3, 1, 0), 0.2, 1)))
    R = rotation_matrices(torch.tensor([[0.3, -0.5, 0.7, 0.2]])).double()[0]
    moved = transformed(scene, Similarity(R, torch.tensor([5.0, -2.0, 9.0]).double(), 7.0))
    assert torch.equal(anchored(scene, 0.1), anchored(moved, 0.1))
    assert int(anchored(moved, 0.1).sum()) == 500


def test_one_splat_is_a_scene() -> None:
    assert anchored(splats(torch.zeros(1, 3)), 0.5).tolist() == [True]
