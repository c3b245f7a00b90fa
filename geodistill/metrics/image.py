"""Image metrics."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill.checks import ShapeError, check

SSIM_WINDOW_PX = 11


def psnr(a: Tensor, b: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of two images with values in [0, 1]; inf if they are equal.

    Raises:
        ShapeError: the shapes differ.
    """
    check(a=(a, " ".join(str(n) for n in b.shape)))
    return float(-10.0 * torch.log10((a.double() - b.double()).square().mean()))


def mean_psnr(scores: list[float]) -> float:
    """The mean of views' PSNR in dB, without the views that are equal; inf if all are.

    A view of nothing but background is equal whatever the scene: its infinity says nothing.
    """
    finite = [score for score in scores if score < math.inf]
    return sum(finite) / len(finite) if finite else math.inf


def eight_bit(image: Tensor) -> Tensor:
    """What an 8-bit file would hold: clamped to [0, 1] and rounded to 1/255."""
    return (image.clamp(0.0, 1.0) * 255.0).round() / 255.0


def ssim(a: Tensor, b: Tensor) -> float:
    """Mean structural similarity (Wang et al. 2004) of two [H, W, C] images in [0, 1].

    Gaussian window of sigma 1.5 over 11 x 11 pixels, K = (0.01, 0.03), population covariance,
    the border of 5 pixels left out, as the field reports it.

    Raises:
        ShapeError: the shapes differ, or an image is smaller than the window.
    """
    return float(structural_similarity(a.double(), b.double()))


def structural_similarity(a: Tensor, b: Tensor) -> Tensor:
    """The same as a differentiable scalar, computed in the images' own dtype. Raises alike."""
    check(a=(a, "H W C"), b=(b, "H W C"))
    if min(a.shape[:2]) < SSIM_WINDOW_PX:
        raise ShapeError(f"SSIM needs images of at least 11 x 11 pixels, got {[*a.shape]}")
    window = torch.exp(-0.5 * (torch.arange(-5, 6, dtype=torch.float64) / 1.5) ** 2)
    window = (window / window.sum()).to(a)
    x, y = (image.permute(2, 0, 1)[:, None] for image in (a, b))

    def blur(image: Tensor) -> Tensor:
        return F.conv2d(F.conv2d(image, window.view(1, 1, -1, 1)), window.view(1, 1, 1, -1))

    mean_x, mean_y = blur(x), blur(y)
    var_x, var_y = blur(x * x) - mean_x**2, blur(y * y) - mean_y**2
    covariance = blur(x * y) - mean_x * mean_y
    c1, c2 = 0.01**2, 0.03**2
    score = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    score = score / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return score.mean()
