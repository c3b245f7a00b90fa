"""The sRGB curve."""

from __future__ import annotations

import pytest
import torch

from geodistill.shade.color import linear_from_srgb, srgb_from_linear


def test_known_values() -> None:
    srgb = torch.tensor([0.0, 0.04045, 0.5, 1.0], dtype=torch.float64)
    expected = torch.tensor([0.0, 0.0031308, 0.21404114, 1.0], dtype=torch.float64)
    torch.testing.assert_close(linear_from_srgb(srgb), expected, rtol=0, atol=1e-7)


def test_the_two_are_inverse_and_differentiable() -> None:
    values = torch.linspace(0, 1, 257, dtype=torch.float64)
    torch.testing.assert_close(srgb_from_linear(linear_from_srgb(values)), values)
    for curve in (srgb_from_linear, linear_from_srgb):
        assert torch.autograd.gradcheck(curve, values[3::16].clone().requires_grad_())
        black = torch.zeros(1, requires_grad=True)
        assert torch.autograd.grad(curve(black).sum(), black)[0].isfinite().all()


@pytest.mark.parametrize("curve", [srgb_from_linear, linear_from_srgb])
def test_they_rise(curve) -> None:
    assert (curve(torch.linspace(0, 1, 1000)).diff() > 0).all()
