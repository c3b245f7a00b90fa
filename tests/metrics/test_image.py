"""Image metrics against their formulas, by hand and by scikit-image."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from geodistill.checks import ShapeError
from geodistill.metrics.image import eight_bit, psnr, ssim


def picture(height: int = 24, width: int = 31, seed: int = 0) -> Tensor:
    """Smooth waves with some noise, in [0, 1]."""
    draw = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    phase = torch.rand(3, generator=draw) * 6
    waves = 0.5 + 0.35 * torch.sin(0.4 * x[..., None] + 0.27 * y[..., None] + phase)
    return (waves + 0.1 * torch.randn(height, width, 3, generator=draw)).clamp(0, 1)


def test_psnr_by_hand() -> None:
    a = torch.zeros(2, 2, 1)
    b = torch.tensor([[[0.1], [0.1]], [[0.1], [0.1]]])
    assert psnr(a, b) == pytest.approx(20.0)  # mse 0.01
    b[0, 0, 0] = 0.7  # mse (0.49 + 0.03) / 4
    assert psnr(a, b) == pytest.approx(-10 * math.log10(0.13))
    assert psnr(a, torch.ones(2, 2, 1)) == pytest.approx(0.0)


def test_psnr_of_equal_images_is_infinite_and_symmetric_otherwise() -> None:
    a, b = picture(seed=0), picture(seed=1)
    assert psnr(a, a) == math.inf
    assert psnr(a, b) == psnr(b, a)


@pytest.mark.parametrize("metric", [psnr, ssim])
def test_images_must_have_one_shape(metric) -> None:
    with pytest.raises(ShapeError):
        metric(picture(20, 20), picture(20, 21))


def test_ssim_needs_an_image_as_large_as_its_window() -> None:
    with pytest.raises(ShapeError):
        ssim(picture(10, 40), picture(10, 40))
    assert ssim(picture(11, 11), picture(11, 11)) == pytest.approx(1.0)


def test_ssim_is_one_for_equal_images_symmetric_and_falls_with_noise() -> None:
    a = picture()
    noise = torch.randn(a.shape, generator=torch.Generator().manual_seed(9))
    scores = [ssim(a, (a + strength * noise).clamp(0, 1)) for strength in (0.0, 0.02, 0.1, 0.4)]
    assert scores[0] == pytest.approx(1.0)
    assert scores == sorted(scores, reverse=True) and scores[-1] < 0.7
    assert ssim(a, picture(seed=3)) == pytest.approx(ssim(picture(seed=3), a))


def test_ssim_of_constant_images_is_the_luminance_term() -> None:
    a, b = torch.full((15, 15, 3), 0.2), torch.full((15, 15, 3), 0.6)
    expected = (2 * 0.2 * 0.6 + 1e-4) / (0.2**2 + 0.6**2 + 1e-4)
    assert ssim(a, b) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seed", [1, 2])
def test_ssim_is_scikit_image_s(seed: int) -> None:
    metrics = pytest.importorskip("skimage.metrics")
    a = picture()
    b = (0.7 * a + 0.3 * picture(seed=seed)).clamp(0, 1)
    expected = metrics.structural_similarity(
        a.double().numpy(),
        b.double().numpy(),
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1.0,
        channel_axis=-1,
    )
    assert ssim(a, b) == pytest.approx(expected, abs=1e-9)


def test_eight_bit_is_what_a_file_holds() -> None:
    values = torch.tensor([-0.2, 0.0, 0.5, 0.1, 1.0, 1.7])
    torch.testing.assert_close(
        eight_bit(values) * 255, torch.tensor([0.0, 0.0, 128.0, 26.0, 255.0, 255.0])
    )
    assert torch.equal(eight_bit(eight_bit(picture())), eight_bit(picture()))
