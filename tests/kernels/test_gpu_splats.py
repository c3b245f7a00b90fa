"""Splats on a GPU, drawn by gsplat: values and derivatives of the reference."""

from __future__ import annotations

import pytest
import torch
from kernel_cases import assert_close, draw, splat_case, splat_geometry

from geodistill import kernels
from geodistill.kernels import cuda, reference

pytestmark = pytest.mark.gpu
SIZE = (37, 53)


@pytest.fixture(autouse=True)
def gsplat() -> None:
    pytest.importorskip("gsplat", reason="needs gsplat")
    assert cuda.rasterizer() is not None, "gsplat could not build its kernels"


@pytest.mark.parametrize("channels", [0, 3, 7, 64, 600])
def test_gsplat_agrees_with_the_reference(channels: int) -> None:
    case = splat_case(60, torch.float32, channels=channels, size=SIZE)
    found, expected = [], []
    for module, device, kept in ((kernels, "cuda", found), (reference, "cpu", expected)):
        inputs = [v.to(device).requires_grad_() for v in case.inputs]
        out = case.run(module, *inputs)
        weights = [draw(i, torch.float32)(*v.shape).to(v) for i, v in enumerate(out)]
        torch.autograd.backward(out, weights)
        kept += [*out, *(v.grad for v in inputs if v.grad is not None)]
    assert_close([v.cpu() for v in found], expected, 1e-3)


def test_the_adjoint_is_that_of_the_picture() -> None:
    *geometry, depths = (v.to("cuda") for v in splat_geometry(80, torch.float32, SIZE))
    plan = kernels.splat_plan(*geometry, depths, SIZE)
    normal = draw(3, torch.float32)
    features, pixels = normal(80, 5).to("cuda"), normal(SIZE[0] * SIZE[1], 5).to("cuda")
    there = (kernels.splat(*geometry, features, plan).pixels * pixels).sum()
    back = (kernels.splat_adjoint(*geometry, pixels, plan) * features).sum()
    torch.testing.assert_close(there, back, rtol=1e-4, atol=1e-3)


def test_a_view_of_nothing_is_empty() -> None:
    *geometry, depths = (v.to("cuda") for v in splat_geometry(5, torch.float32, SIZE))
    plan = kernels.splat_plan(geometry[0] + 1e4, *geometry[1:], depths, SIZE)
    drawn = kernels.splat(geometry[0] + 1e4, *geometry[1:], torch.ones(5, 3).to("cuda"), plan)
    assert not drawn.pixels.any() and not drawn.opacity.any()


def test_what_is_no_float32_runs_the_reference() -> None:
    case = splat_case(10, torch.float64, size=SIZE)
    found = case.run(kernels, *(v.to("cuda") for v in case.inputs))
    assert_close([v.cpu() for v in found], list(case.run(reference, *case.inputs)), 1e-9)


def test_doctor_names_gsplat() -> None:
    assert kernels.backends()["splat"]["cuda"] == "gsplat"
    assert kernels.backends()["rasterize"]["cuda"] == "reference"
