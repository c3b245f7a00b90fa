"""Gaussian splats trained on pictures that are known from every side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from geodistill.cameras import Camera
from geodistill.fit.trained_splats import TrainedSplats
from geodistill.geometry.splats import Splats
from geodistill.log import progress
from geodistill.render.splats import NEAR, render_splats
from geodistill.render.viewpoints import viewpoints
from geodistill.shade.viewable import Viewable
from geodistill.train.optimiser import Optimiser

RATES = {
    "means": 5e-4,
    "rotations": 2e-3,
    "log_scales": 1e-2,
    "opacity_logits": 5e-2,
    "base_sh": 5e-3,
    "more_sh": 5e-3,
}
"""Learning rates; means in half sides of the scene's cube."""
LAST_RATE = 0.05
"""Learning rates at the end, over those of the beginning."""
ABSOLUTE = 0.05
"""Weight of the mean absolute error beside the mean square."""


@dataclass(frozen=True)
class SplatTargets:
    """Pictures of a scene.

    cameras: V, in the scene's cube.  color: [V, H, W, 3], premultiplied.  opacity: [V, H, W].
    """

    cameras: Camera
    color: Tensor
    opacity: Tensor


def look_around(scene: Viewable, views: int, resolution: int, seed: int) -> SplatTargets:
    """Pictures from seeded viewpoints, `resolution` pixels along the longer side."""
    cameras = viewpoints(scene, views, resolution, seed)
    colors, opacities = [], []
    with progress(views, "teacher views") as bar:
        for i in range(views):
            seen = scene.view(cameras[i])
            colors.append(seen.color.clamp(max=1.0))
            opacities.append(seen.opacity)
            bar.advance()
    local = scene.frame.inverse().apply_camera(cameras.to(dtype=torch.float64))
    return SplatTargets(local, torch.stack(colors), torch.stack(opacities))


class SplatJob:
    """Training of a fixed number of splats in a scene's cube (a `train.Job`).

    One view a step, over a random background, so that what is transparent stays so.
    """

    def __init__(self, splats: Splats, targets: SplatTargets, seed: int) -> None:
        self.trained = TrainedSplats(splats, RATES)
        self.targets, self.seed = targets, seed

    @property
    def optimiser(self) -> Optimiser:
        return self.trained.optimiser

    @property
    def splats(self) -> Splats:
        return self.trained.splats()

    def lr_scale(self, progress: float) -> float:
        return LAST_RATE**progress

    def before(self, step: int, progress: float) -> None:
        pass

    def finished(self, step: int) -> bool:
        return False

    def loss(self, step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        draw = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        view = int(torch.randint(len(self.targets.color), (1,), generator=draw))
        behind = torch.rand(3, generator=draw)
        shown = render_splats(self.splats, self.targets.cameras[view], behind, NEAR).image
        opacity = self.targets.opacity[view][..., None]
        error = shown - (self.targets.color[view] + (1 - opacity) * behind)
        square = error.square().mean()
        psnr = -10.0 * torch.log10(square.detach()).item()
        return square + ABSOLUTE * error.abs().mean(), {"psnr_db": round(psnr, 2)}

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        return self.trained.state(), {}

    def load(self, tensors: dict[str, Tensor], extra: dict[str, Any]) -> None:
        self.trained.load(tensors)
