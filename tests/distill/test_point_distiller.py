"""PointDistiller: its formula read slowly, the factored edges, and what keeps it from nothing."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from geodistill import dist
from geodistill.checks import UsageError
from geodistill.distill.losses import Seen, build_loss
from geodistill.distill.point_distiller import (
    EdgeConv,
    PointDistiller,
    PointDistillerSettings,
    graphs_of,
    nearest,
)
from geodistill.nn.point_clouds import PointBatch
from geodistill.nn.synced import SyncedNorm, synced
from tests.distill.losses.seen_scans import detector, heads, maps, seen


def built(teacher: Any, student: Any, **options: object) -> PointDistiller:
    loss = build_loss({"loss": "point_distiller", **options}, teacher, student)
    assert isinstance(loss, PointDistiller)
    return loss


@pytest.fixture(scope="module")
def scans() -> Seen:
    return seen(detector(16, 0))


def features(scans: Seen, channels: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(len(scans.inputs.counts), channels, generator=generator).relu()


def slow_edges(conv: EdgeConv, z: np.ndarray, graphs: list[tuple[int, list[int]]]) -> np.ndarray:
    """By concatenation, edge by edge: [N, K, C]."""
    weight, edges = conv.linear.weight.detach().double().numpy(), []
    for center, near in graphs:
        for j in near:
            other = z[j] if conv.fuse == "identity" else z[center] - z[j]
            edges.append(weight @ np.concatenate([other, z[center]]))
    x = np.array(edges)
    x = (x - x.mean(0)) / np.sqrt(x.var(0) + conv.norm.eps)
    if conv.norm.affine:
        x = x * conv.norm.weight.detach().double().numpy()
        x = x + conv.norm.bias.detach().double().numpy()
    return np.maximum(x, 0).reshape(len(graphs), -1, x.shape[1])


def slow_loss(
    loss: PointDistiller, t: np.ndarray, s: np.ndarray, groups: list[list[int]], scores: np.ndarray
) -> float:
    """sum_i phi_i |G_i(t) - G_i(s)|^2 2 / (C' K), the mean over the groups."""
    own, graphs, weights = loss.settings, [], []
    samples, count = own.sizes("voxels")
    for places in groups:
        best = sorted(places, key=lambda i: -scores[i])[:samples]
        phi = [math.exp(scores[i] / own.temperature("voxels")) for i in best]
        for i, weight in zip(best, phi, strict=True):
            near = sorted(places, key=lambda j: ((t[j] - t[i]) ** 2).sum())[:count]
            graphs.append((i, near))
            weights.append((weight / sum(phi) if own.reweight else 1 / len(best)) / len(groups))
    wanted, found = (slow_edges(*x, graphs) for x in ((loss.of_teacher, t), (loss.of_student, s)))
    if own.pool == "max":
        wanted, found = wanted.max(1, keepdims=True), found.max(1, keepdims=True)
    apart = [
        (2 * weight * ((a - b) ** 2).sum() / a.size)
        for weight, a, b in zip(weights, wanted, found, strict=True)
    ]
    return sum(apart)


def few(scans: Seen) -> tuple[Seen, np.ndarray, list[list[int]]]:
    """With counts that differ from voxel to voxel, so that there is one order of importance."""
    generator = torch.Generator().manual_seed(7)
    counts = torch.randperm(len(scans.inputs.counts), generator=generator) // 8
    order = counts + torch.rand(len(counts), generator=generator)
    voxels = replace(scans.inputs, counts=order)
    scan = voxels.cells[:, 0]
    groups = [(scan == k).nonzero()[:, 0].tolist() for k in range(2)]
    return replace(scans, inputs=voxels), order.numpy().astype(np.float32), groups


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"projection": "unit"},
        {"fuse": "difference", "projection": "trained"},
        {"reweight": False, "pool": "max"},
        {"compat": "reference", "tau": 4.0},
    ],
)
def test_the_loss_is_that_of_the_paper(scans: Seen, options: dict[str, object]) -> None:
    own, scores, groups = few(scans)
    torch.manual_seed(0)
    t, s = features(scans, 6, 1), features(scans, 4, 2)
    loss = built(t, s, **{"samples": 9, "neighbours": 5, "channels": 7, **options})
    for conv in (loss.of_teacher, loss.of_student):
        if conv.norm.affine:
            nn.init.normal_(conv.norm.weight)
            nn.init.normal_(conv.norm.bias)
    if options.get("compat") == "reference":  # graphs of the whole batch
        groups = [groups[0] + groups[1]]
    expected = slow_loss(loss, t.double().numpy(), s.double().numpy(), groups, scores)
    assert loss(t, s, own, 0.0).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("fuse", ["identity", "difference"])
def test_factored_edges_are_those_of_a_convolution_to_six_digits(fuse: str) -> None:
    """In values and in gradients, of features and of weights."""
    torch.manual_seed(0)
    conv, z = EdgeConv(6, 5, fuse), torch.randn(30, 6, requires_grad=True)
    centers, near = torch.randperm(30)[:12], torch.randint(30, (12, 7))
    plain = nn.Conv2d(12, 5, 1, bias=False)
    plain.weight.data = conv.linear.weight.data[:, :, None, None].clone()
    own = z[centers][:, None].expand(-1, 7, -1)
    other = z[near] if fuse == "identity" else own - z[near]
    x = plain(torch.cat([other, own], 2).permute(2, 0, 1)[None])
    expected = F.relu(F.batch_norm(x, None, None, training=True, eps=1e-3))[0].permute(1, 2, 0)
    found, push = conv(z, centers, near), torch.randn(12, 7, 5)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)
    one = torch.autograd.grad((found * push).sum(), [z, conv.linear.weight])
    two = torch.autograd.grad((expected * push).sum(), [z, plain.weight])
    torch.testing.assert_close(one[0], two[0], atol=2e-6, rtol=2e-6)
    torch.testing.assert_close(one[1], two[1].flatten(1), atol=2e-6, rtol=2e-6)


def test_neighbours_are_the_nearest_themselves_first() -> None:
    z = torch.randn(300, 8, generator=torch.Generator().manual_seed(0))
    centers = torch.arange(0, 300, 7)
    expected = torch.cdist(z[centers].double(), z.double()).topk(9, largest=False).indices
    found = nearest(z, centers, 9)
    assert found.equal(expected) and found[:, 0].equal(centers)


def test_graphs_stay_in_their_scan_and_depend_on_the_teacher_alone(scans: Seen) -> None:
    t, scan = features(scans, 6, 1), scans.inputs.cells[:, 0]
    settings = PointDistillerSettings(samples=50, neighbours=8)
    graphs = graphs_of(t, scans, settings)
    assert graphs.neighbours.shape == (100, 8) and graphs.scans == 2
    assert (scan[graphs.neighbours] == scan[graphs.centers][:, None]).all()
    whole = graphs_of(t, scans, replace(settings, compat="reference", samples=100))
    assert whole is not None and len(whole.centers) == 100
    assert (scan[whole.neighbours] != scan[whole.centers][:, None]).any()


@pytest.mark.parametrize("compat", ["none", "reference"])
def test_scans_may_have_fewer_voxels_than_graphs_or_neighbours(scans: Seen, compat: str) -> None:
    """As the released code cannot; another scan's graphs stay as they are."""
    cells = scans.inputs.cells
    kept = (cells[:, 0] == 0) | (torch.arange(len(cells)) >= len(cells) - 3)
    voxels = replace(scans.inputs, cells=cells[kept], counts=scans.inputs.counts[kept])
    t = features(scans, 6, 1)[kept]
    settings = PointDistillerSettings(neighbours=8, compat=compat)  # type: ignore[arg-type]
    graphs = graphs_of(t, replace(scans, inputs=voxels), settings)
    assert len(graphs.centers) == kept.sum()
    assert graphs.neighbours.shape[1] == 8
    if compat == "none":
        full = graphs_of(features(scans, 6, 1), scans, settings)
        assert full is not None
        first = graphs.neighbours[: int((cells[:, 0] == 0).sum())]
        assert first.equal(full.neighbours[: len(first)])
        assert set(graphs.neighbours[-1].tolist()) == set(range(len(t) - 3, len(t)))


def test_nothing_is_lost_in_empty_scans(scans: Seen) -> None:
    voxels = replace(scans.inputs, cells=scans.inputs.cells[:0], counts=scans.inputs.counts[:0])
    t, s = torch.zeros(0, 6), torch.zeros(0, 4, requires_grad=True)
    loss = built(t, s)(t, s, replace(scans, inputs=voxels), 0.0)
    loss.backward()
    assert loss.item() == 0 and s.grad is not None


def test_effective_samples(scans: Seen) -> None:
    """All graphs when they count alike; at a low temperature those of the fullest voxels alone."""
    counts = scans.inputs.counts
    t, s = features(scans, 6, 1), features(scans, 4, 2)
    plain = built(t, s, samples=40, reweight=False)
    plain(t, s, scans, 0.0)
    assert plain.report() == {"effective_samples": pytest.approx(40)}
    scan = scans.inputs.cells[:, 0]
    full = [int((counts[scan == k] == counts[scan == k].max()).sum()) for k in range(2)]
    hard = built(t, s, samples=5000, tau=0.01)
    hard(t, s, scans, 0.0)
    mean = 2 / (1 / full[0] + 1 / full[1])
    assert hard.report()["effective_samples"] == pytest.approx(mean, rel=1e-4)


def test_maps_count_by_the_largest_of_the_teachers_channels(scans: Seen) -> None:
    t, s = maps(6, 8, 1), maps(4, 8, 2)
    graphs = graphs_of(t, scans, PointDistillerSettings(samples=10, neighbours=4))
    best = t.amax(1).flatten(1)
    for k in range(2):
        order = best[k].argsort(descending=True)[:10]
        assert (graphs.centers[10 * k : 10 * k + 10] - 64 * k).tolist() == order.tolist()
        phi = torch.softmax(best[k][order] / best[k].std(), 0) / 2
        torch.testing.assert_close(graphs.weights[10 * k : 10 * k + 10], phi)
    assert built(t, s)(t, s, scans, 0.0).item() > 0


@pytest.mark.parametrize("size", [32, 16, 8])
def test_places_count_by_how_sure_the_head_is(scans: Seen, size: int) -> None:
    """Whatever the features are: of a coarser map's cell the surest of the head's in it."""
    said, settings = heads(3), PointDistillerSettings(importance="head", samples=10, neighbours=4)
    sure = said.logits.view(2, 16, 16, 18).amax(3)
    if size == 8:
        sure = sure.view(2, 8, 2, 8, 2).amax((2, 4))
    if size == 32:
        sure = sure.repeat_interleave(2, 1).repeat_interleave(2, 2)
    graphs = graphs_of(maps(6, size, 1), scans, settings, said)
    for k, own in enumerate(sure.flatten(1)):
        chosen = graphs.centers[10 * k : 10 * k + 10] - size * size * k
        torch.testing.assert_close(own[chosen], own.topk(10).values)
        phi = torch.softmax(own[chosen] / own.std(), 0) / 2
        torch.testing.assert_close(graphs.weights[10 * k : 10 * k + 10], phi)


def test_a_student_learns_where_the_head_of_its_teacher_is_sure(scans: Seen) -> None:
    teacher, student = (maps(6, 16, 1), heads(3)), (maps(4, 16, 2).requires_grad_(), heads(4))
    loss = built(teacher, student, importance="head", tap="neck", samples=10, neighbours=4)
    assert loss.settings.taps == ("neck", "head")
    loss(teacher, student, scans, 0.0).backward()
    learnt = student[0].grad.abs().sum(1) > 0
    graphs = graphs_of(teacher[0], scans, loss.settings, teacher[1])
    places = torch.cat([graphs.centers, graphs.neighbours.flatten()]).unique()
    assert learnt.flatten()[places].float().mean() > 0.9 and learnt.sum() <= len(places)
    rows_ = features(scans, 6, 1)
    with pytest.raises(UsageError, match="point_distiller by the head compares maps"):
        built((rows_, heads(3)), (rows_, heads(3)), importance="head")


def test_points_count_by_the_largest_of_the_teachers_channels(scans: Seen) -> None:
    points = PointBatch(torch.zeros(2, 32, 4), torch.tensor([32, 32]), [], 0)
    of_points = replace(scans, inputs=points)
    t = 40 * torch.randn(64, 6, generator=torch.Generator().manual_seed(1)).relu()
    graphs = graphs_of(t, of_points, PointDistillerSettings(samples=10, neighbours=4))
    best = t.amax(1).view(2, 32)
    for k in range(2):
        order = best[k].argsort(descending=True)[:10]
        assert (graphs.centers[10 * k : 10 * k + 10] - 32 * k).tolist() == order.tolist()
        phi = torch.softmax(best[k][order] / best[k].std(), 0) / 2
        torch.testing.assert_close(graphs.weights[10 * k : 10 * k + 10], phi)
    reference = PointDistillerSettings(compat="reference", samples=10, neighbours=4)
    graphs = graphs_of(t, of_points, reference)
    assert graphs.weights.tolist() == pytest.approx([0.05] * 20)
    assert (graphs.neighbours // 32 == graphs.centers[:, None] // 32).all()
    usual = PointDistillerSettings(compat="reference")
    assert usual.sizes("points") == (6000, 128)
    assert usual.pooled("points") and not usual.pooled("voxels") and not usual.pooled("map")
    assert not PointDistillerSettings().pooled("points")


def test_reference_maps_have_no_weights_but_the_batch(scans: Seen) -> None:
    """Its softmax is over an axis of length 1."""
    t, s = maps(6, 8, 1), maps(4, 8, 2)
    torch.manual_seed(0)
    reference = built(t, s, compat="reference", samples=10, neighbours=4)
    paper = built(t, s, reweight=False, projection="trained", samples=10, neighbours=4)
    paper.load_state_dict(reference.state_dict())
    assert reference.of_teacher.norm.eps == 1e-5
    for conv in (paper.of_teacher, paper.of_student):
        conv.norm.eps = 1e-5
    assert reference(t, s, scans, 0.0).item() == pytest.approx(2 * paper(t, s, scans, 0.0).item())
    assert reference.settings.sizes("map") == (10, 4)
    assert PointDistillerSettings(compat="reference").sizes("map") == (256, 256)
    assert PointDistillerSettings(compat="reference").sizes("voxels") == (6000, 128)


def test_reference_without_weights_is_a_norm(scans: Seen) -> None:
    t, s = features(scans, 6, 1), features(scans, 4, 2)
    loss = built(t, s, compat="reference", reweight=False, samples=9, neighbours=5)
    graphs = graphs_of(t, scans, loss.settings)
    g = [conv(x, graphs.centers, graphs.neighbours) for conv, x in
         ((loss.of_teacher, t), (loss.of_student, s))]  # fmt: skip
    assert loss(t, s, scans, 0.0).item() == pytest.approx(5e-4 * (g[0] - g[1]).norm().item())


@pytest.mark.parametrize(
    ("projection", "vanishes"),
    [
        ("trained", True),
        ("frozen", False),
    ],
)
def test_projections_that_are_trained_make_the_loss_vanish_and_one_that_stays_does_not(
    scans: Seen, projection: str, vanishes: bool
) -> None:
    """Of a student that knows nothing of the teacher and does not learn."""
    torch.manual_seed(0)
    t, s = features(scans, 6, 1), features(scans, 4, 2)
    loss = built(t, s, samples=60, neighbours=8, projection=projection)
    first = loss(t, s, scans, 0.0).item()
    optimiser = torch.optim.Adam([p for p in loss.parameters() if p.requires_grad], 0.05)
    for _ in range(120):
        optimiser.zero_grad()
        loss(t, s, scans, 0.0).backward()
        optimiser.step()
    last = loss(t, s, scans, 0.0).item()
    assert last < 0.05 * first if vanishes else last > 0.3 * first


def test_a_frozen_projection_is_orthogonal_and_stays(scans: Seen) -> None:
    t, s = features(scans, 6, 1), features(scans, 4, 2)
    loss = built(t, s, projection="frozen", channels=4)
    weight = loss.of_teacher.linear.weight
    torch.testing.assert_close(weight @ weight.T, torch.eye(4), atol=1e-5, rtol=0)
    assert not weight.requires_grad and loss.of_student.linear.weight.requires_grad


def test_an_empty_cloud_teaches_nothing(scans: Seen) -> None:
    """It stands in its batch with zeros for points."""
    points = replace(scans, inputs=PointBatch(torch.zeros(2, 32, 4), torch.tensor([32, 0]), [], 0))
    t, s = (torch.randn(64, 6, generator=torch.Generator().manual_seed(k)) for k in (1, 2))
    graphs = graphs_of(t, points, PointDistillerSettings(samples=10, neighbours=4))
    assert graphs.scans == 1 and bool((graphs.centers < 32).all())
    assert float(graphs.weights.sum()) == pytest.approx(1)
    hint = build_loss({"loss": "hint"}, t, s)
    of_one = (t - s)[:32].square().mean().item()
    assert hint(t, s, points, 0.0).item() == pytest.approx(of_one)


def test_norms_without_weights_or_statistics_are_shared_between_ranks() -> None:
    x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
    for affine in (False, True):
        norm = nn.BatchNorm1d(3, 1e-3, 0.01, affine, track_running_stats=False)
        torch.testing.assert_close(SyncedNorm(norm)(x), norm(x), atol=1e-5, rtol=1e-5)
    kept = nn.BatchNorm1d(3)
    assert set(SyncedNorm(kept).state_dict()) == set(kept.state_dict())


def test_scans_count_alike_on_whichever_rank_they_are(
    scans: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another rank, with three scans, makes five of these two."""
    t, s = features(scans, 6, 1), features(scans, 4, 2)
    alone = [graphs_of(t, scans, PointDistillerSettings(samples=10, neighbours=4)).weights.sum()]
    similar = build_loss({"loss": "similarity"}, t, s)
    alone.append(similar(t, s, scans, 0.0))
    monkeypatch.setattr(dist, "world", lambda: 2)
    monkeypatch.setattr(dist, "all_sum", lambda x: x + 3)
    shared = [graphs_of(t, scans, PointDistillerSettings(samples=10, neighbours=4)).weights.sum()]
    shared.append(similar(t, s, scans, 0.0))
    # The mean over both ranks has two fifths of these scans.
    for one, other in zip(shared, alone, strict=True):
        assert float(one) / 2 == pytest.approx(2 / 5 * float(other), rel=1e-6)


def test_a_rank_without_graphs_takes_part_in_the_norms(
    scans: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other ranks have graphs, and wait for its sums, forth and back."""
    nothing = replace(scans, inputs=detector(16, 0).prepare([torch.zeros(0, 4)] * 2))
    t, s = torch.zeros(0, 6), torch.zeros(0, 4)
    loss = built(features(scans, 6, 1), features(scans, 4, 2))
    forth, back = [], []

    class Others(torch.autograd.Function):
        @staticmethod
        def forward(ctx: object, x: Tensor) -> Tensor:
            forth.append(x)
            return x + 1

        @staticmethod
        def backward(ctx: object, grad: Tensor) -> Tensor:  # type: ignore[override]
            back.append(grad)
            return grad

    monkeypatch.setattr(dist, "world", lambda: 2)
    monkeypatch.setattr(dist, "all_sum", Others.apply)
    synced(loss)
    found = loss(t, s, nothing, 0.0)
    found.backward()
    assert found.item() == 0 and len(forth) == 7 and len(back) == 2  # the student's mean, variance
    assert loss.report() == {"effective_samples": 0.0}


def test_settings_that_make_no_sense_are_named() -> None:
    for options, words in (
        ({"samples": 0}, "samples must be at least 1, got 0"),
        ({"tau": 0.0}, "tau must be above 0"),
        ({"neighbours": 1}, "neighbours must be at least 2, got 1"),
        ({"projection": "free"}, "'projection' must be"),
    ):
        with pytest.raises(UsageError, match=words):
            built(torch.zeros(3, 2), torch.zeros(3, 2), **options)
    with pytest.raises(UsageError, match=r"gives \(3, 2\) and the student \(4, 2\)"):
        built(torch.zeros(3, 2), torch.zeros(4, 2))
