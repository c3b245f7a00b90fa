"""Splats fitted on a GPU, drawn by gsplat where it is installed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from geodistill.fit.posed_splats import SplatFitJob, SplatFitSettings, fit_splats, start_of
from geodistill.fit.splat_config import SMALL, StrategyName
from geodistill.metrics.fidelity import psnr_to_images
from geodistill.shade.viewable import viewable
from geodistill.train import Budget
from tests.fit.splat_worlds import known_splats, pictures, views

pytestmark = pytest.mark.gpu
CONFIG = replace(SMALL, start=400)


@pytest.mark.parametrize("strategy", ["default", "mcmc"])
def test_a_known_scene_is_found_on_a_gpu(strategy: StrategyName) -> None:
    data, held_out = (pictures(known_splats(), views(n, 64, seed)) for n, seed in ((12, 0), (4, 1)))
    settings = SplatFitSettings(strategy, 2000)
    found = fit_splats(data, CONFIG, Budget(steps=300), settings, device="cuda")
    assert found.means.device.type == "cpu"
    start = fit_splats(data, CONFIG, Budget(steps=1), settings, device="cuda")
    better = psnr_to_images(viewable(found), held_out) - psnr_to_images(viewable(start), held_out)
    assert better > 5


def test_a_step_is_that_of_the_cpu() -> None:
    """Up to what gsplat rounds otherwise."""
    data = pictures(known_splats(), views(6, 64))
    settings = SplatFitSettings("default", 2000)
    start = start_of(data, CONFIG, settings)
    losses = []
    for device in ("cpu", "cuda"):
        job = SplatFitJob(start, data, CONFIG, settings, device)
        job.before(0, 0.0)
        loss, _ = job.loss(0, 0.5)
        loss.backward()
        grads = {n: p.grad for n, p in job.trained.parameters.items() if p.grad is not None}
        losses.append((float(loss), {n: g.cpu() for n, g in grads.items()}))
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-3)
    for name, grad in losses[0][1].items():
        scale = float(grad.abs().max())
        torch.testing.assert_close(losses[1][1][name], grad, atol=5e-3 * scale, rtol=0)


def test_a_run_on_a_gpu_goes_on() -> None:
    data = pictures(known_splats(), views(6, 64))
    settings = SplatFitSettings("default", 2000)
    start = start_of(data, CONFIG, settings)
    job = SplatFitJob(start, data, CONFIG, settings, "cuda")
    tensors, extra = job.state()
    other = SplatFitJob(start, data, CONFIG, settings, "cuda")
    other.load({name: values.cpu() for name, values in tensors.items()}, extra)
    assert all(p.device.type == "cuda" for p in other.trained.parameters.values())
    loss, _ = other.loss(0, 0.5)
    assert bool(torch.isfinite(loss))
