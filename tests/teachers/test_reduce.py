"""Principal components of a stream of tokens, against numpy on all of them at once."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from geodistill.checks import InputError, ShapeError, UsageError
from geodistill.teachers.reduce import channel_blocks, fit


def tokens(count: int = 500, channels: int = 12) -> Tensor:
    """Correlated channels far from the origin."""
    draw = torch.Generator().manual_seed(0)
    mix = torch.randn(channels, channels, generator=draw) * torch.logspace(0, -2, channels)[:, None]
    return torch.randn(count, channels, generator=draw) @ mix + 100.0


def test_it_is_the_singular_value_decomposition() -> None:
    x = tokens()
    found = fit([x[:100].reshape(4, 5, 5, 12), x[100:101], x[101:]], 5)
    exact = x.double().numpy()
    centered = exact - exact.mean(axis=0)
    _, singular, rows = np.linalg.svd(centered, full_matrices=False)
    np.testing.assert_allclose(found.mean, exact.mean(axis=0), rtol=1e-6)
    np.testing.assert_allclose(found.variance, singular[:5] ** 2 / 500, rtol=1e-8)
    signs = np.sign((rows[:5] * found.components.numpy()).sum(axis=1))
    np.testing.assert_allclose(found.components, rows[:5] * signs[:, None], atol=1e-5)
    explained = (singular[:5] ** 2).sum() / (singular**2).sum()
    assert found.explained == pytest.approx(explained)
    reduced = found.apply(x)
    np.testing.assert_allclose(reduced.var(dim=0, correction=0), found.variance, rtol=1e-3)
    lost = (found.restore(reduced) - x).double().square().sum() / (centered**2).sum()
    assert float(lost) == pytest.approx(1 - explained, rel=0.02)


def test_signs_are_fixed() -> None:
    found = fit([tokens()], 6)
    largest = found.components.gather(1, found.components.abs().argmax(dim=1, keepdim=True))
    assert (largest > 0).all()
    turned = fit([200.0 - tokens()], 6)  # the same cloud, point-reflected
    torch.testing.assert_close(turned.components, found.components, rtol=0, atol=1e-4)


def test_it_is_deterministic() -> None:
    a, b = fit(tokens().split(64), 4), fit(tokens().split(64), 4)
    assert torch.equal(a.components, b.components) and torch.equal(a.mean, b.mean)


def test_all_components_lose_nothing() -> None:
    x = tokens(channels=7)
    found = fit([x], 64)
    assert found.channels == 7 and found.explained == pytest.approx(1.0)
    torch.testing.assert_close(found.restore(found.apply(x)), x)


def test_reducing_commutes_with_means() -> None:
    x = tokens()
    found = fit([x], 3)
    torch.testing.assert_close(found.apply(x).mean(0), found.apply(x.mean(0)), atol=1e-4, rtol=1e-4)


def test_constant_tokens() -> None:
    found = fit([torch.full((10, 3), 2.0)], 2)
    assert found.explained == 1.0
    assert not found.apply(torch.full((4, 3), 2.0)).any()


@pytest.mark.parametrize("channels, count", [(1, 1), (64, 1), (65, 2), (384, 6)])
def test_blocks_cover_every_channel_once(channels: int, count: int) -> None:
    blocks = channel_blocks(channels)
    assert len(blocks) == count
    covered = [i for block in blocks for i in range(channels)[block]]
    assert covered == list(range(channels))
    assert all(block.stop - block.start <= 64 for block in blocks)


def test_bad_requests() -> None:
    with pytest.raises(InputError, match="there are no tokens"):
        fit([torch.zeros(0, 4)])
    with pytest.raises(InputError, match="there are no tokens"):
        fit([])
    with pytest.raises(ShapeError, match="tokens must have 4 channels, got 5"):
        fit([torch.zeros(2, 4), torch.zeros(2, 5)])
    with pytest.raises(InputError, match="tokens holds 8 NaN"):
        fit([torch.full((2, 4), torch.nan)])
    with pytest.raises(UsageError, match="at least one channel, got 0"):
        fit([torch.zeros(2, 4)], 0)
    with pytest.raises(ShapeError, match="C = 3 from tokens"):
        fit([tokens()], 2).apply(torch.zeros(5, 3))
    with pytest.raises(UsageError, match="got 0 and 64"):
        channel_blocks(0)
