"""Losses of features against slow readings of their formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from geodistill.distill.losses import build_loss
from geodistill.distill.losses.acam import dice
from geodistill.distill.losses.fgd import attention
from geodistill.distill.losses.masks import footprints, heat, shares
from geodistill.distill.losses.ofd import margins
from geodistill.distill.losses.places import strongest
from tests.distill.losses.seen_scans import AREA, BOXES, detector, maps, seen
from tests.distill.losses.slow_formulas import S, T, close, numbers, sigmoid, value


def test_attention() -> None:
    total = 0.0
    for t, s in zip(numbers(T), numbers(S), strict=True):
        q = [
            np.array([(x[:, i, j] ** 2).sum() for i in range(8) for j in range(8)]) for x in (t, s)
        ]
        total += np.linalg.norm(q[0] / np.linalg.norm(q[0]) - q[1] / np.linalg.norm(q[1]))
    assert value("attention") == close(total / 2)


def test_channels() -> None:
    total, tau = 0.0, 2.0
    for t, s in zip(numbers(T), numbers(S), strict=True):
        for c in range(6):
            p, q = (np.exp(x[c].ravel() / tau) for x in (t, s))
            p, q = p / p.sum(), q / q.sum()
            total += tau**2 / 6 * sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))
    assert value("channels", temperature=tau) == close(total / 2)


def test_similarity_of_places_and_of_scans() -> None:
    def apart(t: np.ndarray, s: np.ndarray) -> float:
        n, parts = len(t), []
        for x in (t, s):
            gram = np.array([[x[i] @ x[j] for j in range(n)] for i in range(n)])
            parts.append(np.array([row / np.linalg.norm(row) for row in gram]))
        return ((parts[0] - parts[1]) ** 2).sum() / n**2

    expected = 0.0
    for t, s in zip(numbers(T), numbers(S), strict=True):
        strength = t.max(0).ravel()
        best = np.argsort(-strength)[:20]
        expected += apart(t.reshape(6, -1).T[best], s.reshape(6, -1).T[best]) / 2
    assert value("similarity", samples=20) == close(expected)
    whole = apart(numbers(T).reshape(2, -1), numbers(S).reshape(2, -1))
    assert value("similarity", among="scans") == close(whole)


def test_similarity_needs_no_more_places_than_there_are() -> None:
    assert value("similarity", samples=10_000) == close(value("similarity", samples=64))


def test_voxels_are_chosen_by_their_points() -> None:
    own = seen(detector(16, 0))
    counts, scan = own.inputs.counts, own.inputs.cells[:, 0]
    chosen = strongest(torch.zeros(len(counts), 3), own, 12, 2.0)
    for k, places in enumerate(chosen):
        assert (scan[places] == k).all() and len(set(places.tolist())) == 12
        left = counts[scan == k].sort(descending=True).values[:12]
        assert counts[places].sort(descending=True).values.tolist() == left.tolist()


def test_crd() -> None:
    loss = build_loss({"loss": "crd", "samples": 10, "embedding": 5}, T, S)
    found = loss(T, S, seen(detector(16, 0)), 0.0).item()
    places = [numbers(x.permute(0, 2, 3, 1).reshape(-1, 6)) for x in (T, S)]
    best = np.concatenate(
        [64 * k + np.argsort(-places[0][64 * k : 64 * k + 64].max(1))[:10] for k in range(2)]
    )
    embedded = []
    for x, layer in zip(places, (loss.of_teacher, loss.of_student), strict=True):
        y = x[best] @ numbers(layer.weight.detach()).T + numbers(layer.bias.detach())
        embedded.append(y / np.linalg.norm(y, axis=1, keepdims=True))
    n, total = 20, 0.0
    e = np.array(
        [[math.exp(embedded[0][j] @ embedded[1][i] / 0.1) for j in range(20)] for i in range(20)]
    )
    for i in range(n):
        for j in range(n):
            h = e[i, j] / (e[i, j] + e.mean() * (n - 1))
            total -= math.log(h) if i == j else math.log(1 - h)
    assert found == close(total / n)


def test_ofd() -> None:
    t, s = numbers(T), numbers(S)
    total = 0.0
    for c in range(6):
        low = [x for x in t[:, c].ravel() if x < 0]
        m = sum(low) / len(low)
        for x, y in zip(t[:, c].ravel(), s[:, c].ravel(), strict=True):
            x = max(x, m)
            total += 0 if y <= x <= 0 else (x - y) ** 2
    assert value("ofd") == close(total / t.size)


def test_margins_are_those_of_normal_values_that_a_batch_norm_knows_of() -> None:
    """E[x | x < 0] = mean - deviation pdf(a) / cdf(-a) with a = mean / deviation."""
    mean, deviation = torch.tensor([0.3, -0.5, 1.0]), torch.tensor([1.0, 0.4, 2.0])
    x = torch.randn(200_000, 3, generator=torch.Generator().manual_seed(0)) * deviation + mean
    normal, a = torch.distributions.Normal(0, 1), mean / deviation
    expected = mean - deviation * normal.log_prob(a).exp() / normal.cdf(-a)
    torch.testing.assert_close(margins(x), expected, atol=0.02, rtol=0)


def test_ab() -> None:
    total = 0.0
    for x, y in zip(numbers(T).ravel(), numbers(S).ravel(), strict=True):
        total += max(0, 1.5 - y) ** 2 if x > 0 else max(0, 1.5 + y) ** 2
    assert value("ab", margin=1.5) == close(total / T.numel())
    assert value("ab", 5 * T.sign(), 5 * T.sign()) == 0


def test_nst_with_more_channels_of_one() -> None:
    more, total = maps(9, 8, seed=4), 0.0
    for t, s in zip(numbers(more), numbers(S), strict=True):
        a, b = ([c.ravel() / np.linalg.norm(c) for c in x] for x in (t, s))
        kernel = [
            np.mean([(x @ y) ** 2 for x in p for y in q]) for p, q in ((a, a), (b, b), (a, b))
        ]
        total += kernel[0] + kernel[1] - 2 * kernel[2]
    assert value("nst", more, S) == close(total / 2)


def test_fsp() -> None:
    fine = [maps(3, 16, seed) for seed in (5, 6)]
    total = 0.0
    for k in range(2):
        flows = []
        for a, b in ((fine[0], T), (fine[1], S)):
            pooled = numbers(a[k]).reshape(3, 8, 2, 8, 2).max((2, 4))
            flows.append(
                [[(pooled[i] * numbers(b[k, j])).sum() / 64 for j in range(6)] for i in range(3)]
            )
        total += ((np.array(flows[0]) - np.array(flows[1])) ** 2).mean()
    assert value("fsp", (fine[0], T), (fine[1], S)) == close(total / 2)


def test_mgd_hides_places_and_changes_them_from_step_to_step() -> None:
    of = seen(detector(16, 0))
    loss = build_loss({"loss": "mgd", "hidden": 0.0}, T, T)
    for layer in (loss.generation[0], loss.generation[2]):
        torch.nn.init.dirac_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    positive = T.abs()
    assert loss(positive, positive, of, 0.0).item() == pytest.approx(0, abs=1e-12)
    hiding = build_loss({"loss": "mgd"}, T, T)
    hiding.generation = loss.generation
    ones = torch.ones(2, 6, 64, 64)
    values = [hiding(ones, ones, of, step / 1000).item() for step in (0, 1, 0)]
    assert values[0] == values[2] != values[1]  # the mean of ones where they are hidden
    assert values[0] == pytest.approx(0.65, abs=0.03)


def slow_footprint(box: Tensor, size: int) -> np.ndarray:
    """Whether each cell's middle, brought into the box's own frame, is in it."""
    x, y, _, length, width, _, yaw = box.tolist()
    found, step = np.zeros((size, size), bool), 12.8 / size
    for row in range(size):
        for column in range(size):
            dx, dy = (column + 0.5) * step - x, -6.4 + (row + 0.5) * step - y
            turned = complex(dx, dy) * complex(math.cos(-yaw), math.sin(-yaw))
            inside = abs(turned.real) <= length / 2 and abs(turned.imag) <= width / 2
            found[row, column] = inside or (abs(dx) <= step / 2 and abs(dy) <= step / 2)
    return found


def test_masks_of_boxes_and_how_much_cells_count() -> None:
    slow = np.array([slow_footprint(box, 16) for box in BOXES[0]])
    assert (footprints(BOXES[0], AREA, (16, 16)).numpy() == slow).all()
    assert slow.any((1, 2)).all() and slow[0].sum() > 5 and slow[1].sum() == 1
    twice = torch.cat([BOXES[0], BOXES[0][:1] * torch.tensor([1, 1, 1, 2, 2, 1, 1.0])])
    everywhere = torch.ones(2, 16, 16, dtype=torch.bool)
    found = shares([twice, BOXES[1][:0]], AREA, everywhere, torch.zeros(1))
    areas = np.array([slow_footprint(box, 16) for box in twice])
    for row in range(16):
        for column in range(16):
            sizes = [own.sum() for own in areas if own[row, column]]
            expected = 1 / min(sizes) if sizes else 0.0
            assert found.objects[0, row, column].item() == pytest.approx(expected)
    empty = ~areas.any(0)
    assert (found.background[0].numpy() > 0).tolist() == empty.tolist()
    assert found.background.sum((1, 2)).tolist() == pytest.approx([1, 1])
    assert found.objects[1].sum() == 0


def slow_weights(foreground: float, background: float) -> np.ndarray:
    weight = np.zeros((2, 8, 8))
    for k, boxes in enumerate(BOXES):
        masks = np.array([slow_footprint(box, 8) for box in boxes])
        bare = ~masks.any(0)
        for row in range(8):
            for column in range(8):
                sizes = [own.sum() for own in masks if own[row, column]]
                weight[k, row, column] = (
                    foreground / min(sizes) if sizes else background / bare.sum()
                )
    return weight


def test_fgd() -> None:
    weight, total = slow_weights(1e-3, 5e-4), 0.0
    for k in range(2):
        t, s = numbers(T[k]), numbers(S[k])

        def looks(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            where, which = np.exp(np.abs(x).mean(0) / 0.5), np.exp(np.abs(x).mean((1, 2)) / 0.5)
            return 64 * where / where.sum(), 6 * which / which.sum()

        (where, which), (where_s, which_s) = looks(t), looks(s)
        for c in range(6):
            total += (weight[k] * where * which[c] * (t[c] - s[c]) ** 2).sum()
        total += 5e-4 * (np.abs(where - where_s).sum() + np.abs(which - which_s).sum())
        total += 5e-6 * ((t - s) ** 2).sum()  # new context blocks add nothing
    assert value("fgd") == close(total / 2)
    places, channels = attention(T, torch.ones(2, 8, 8, dtype=torch.bool), 0.5)
    assert places.mean().item() == pytest.approx(1) and channels.mean().item() == pytest.approx(1)


def test_clock() -> None:
    square = ((numbers(T) - numbers(S)) ** 2).mean(1)
    assert value("clock") == close((slow_weights(1.0, 0.5) * square).sum() / 2)


def test_heat_is_one_at_objects_and_ends_at_their_radius() -> None:
    box = torch.tensor([[6.1, 2.1, 0.0, 1.0, 1.0, 1.0, 0.3]])
    found = heat(box, AREA, (32, 32))
    row, column = int((2.1 + 6.4) / 0.4), int(6.1 / 0.4)
    assert found[row, column] == 1
    for i in range(32):
        for j in range(32):  # radius 2, deviation 5 / 6
            near = max(abs(i - row), abs(j - column)) <= 2
            square = (i - row) ** 2 + (j - column) ** 2
            expected = math.exp(-square / (2 * (5 / 6) ** 2)) if near else 0
            assert found[i, j].item() == pytest.approx(expected, abs=1e-6)
    large = heat(torch.tensor([[6.1, 2.1, 0.0, 12.0, 8.0, 1.0, 0.0]]), AREA, (32, 32))
    assert (large[row] > 0).sum() > 5
    outside = torch.tensor([[20.0, 0.0, 0.0, 4.0, 2.0, 1.0, 0.0]])
    assert heat(outside, AREA, (32, 32)).sum() == 0


def test_vcd_follows_trails() -> None:
    def slow(trails: bool) -> float:
        own = seen(detector(16, 0), trails=True)
        assert own.trails is not None
        above, below = 0.0, 0.0
        mean = numbers(T).mean((0, 2, 3))
        spread = np.sqrt(numbers(T).var((0, 2, 3)) + 1e-3)
        for k in range(2):
            boxes = [*BOXES[k]]
            if trails:
                boxes += [*own.trails[k].reshape(-1, 7)]
            masks = [numbers(heat(box[None], AREA, (8, 8))) for box in boxes]
            m = np.max(masks, 0)
            norm = (numbers(T[k]) - mean[:, None, None]) / spread[:, None, None]
            above += ((m * (numbers(S[k]) - norm)) ** 2).sum()
            below += m.sum()
        return above / below

    own = seen(detector(16, 0), trails=True)
    for trails in (True, False):
        loss = build_loss({"loss": "vcd", "trails": trails}, T, S)
        assert loss(T, S, own, 0.0).item() == close(slow(trails))
    assert slow(True) != pytest.approx(slow(False), rel=1e-3)


def test_acam() -> None:
    loss = build_loss({"loss": "acam", "masks": 2, "side": 8}, T, S)
    found = loss(T, S, seen(detector(16, 0)), 0.0).item()
    w = {key: numbers(x.detach()) for key, x in loss.named_parameters()}
    total = 0.0
    for k in range(2):
        t, s = (numbers(x[k]).reshape(6, 64).T for x in (T, S))
        q, key, v = (
            x @ w[f"{name}.weight"].T + w[f"{name}.bias"]
            for name, x in (("query", t), ("key", s), ("value", s))
        )
        fused = []
        for i in range(64):
            share = np.exp(key @ q[i] / math.sqrt(3))
            fused.append(share @ v / share.sum())
        fused = np.array(fused)
        places = [sigmoid(fused @ m) for m in w["places"]]
        channels = [sigmoid(fused.mean(0) * m) for m in w["channels"]]
        square = (t - s) ** 2
        for m in places:
            total += (m[:, None] * square).sum() / m.sum() / 6 / 2
        for m in channels:
            total += (m * square).sum() / m.sum() / 64 / 2
        for a, b in (places, channels):
            total += 2 * a @ b / (a @ a + b @ b)
    assert found == close(total / 2)
    assert dice(torch.ones(1, 3, 4)).item() == pytest.approx(1)
    assert dice(torch.eye(3)[None]).item() == 0
