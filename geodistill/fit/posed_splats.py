"""Fit Gaussian splats to posed images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from geodistill import kernels
from geodistill.checks import InputError
from geodistill.fit.densify.change import apply
from geodistill.fit.densify.strategy import Now, Seen, State, Strategy
from geodistill.fit.photographs import reduced, shrunk
from geodistill.fit.splat_config import SplatFitConfig, StrategyName
from geodistill.fit.starts import FEWEST, frame_of, points_of_data, splats_at, without_far
from geodistill.fit.trained_splats import TrainedSplats
from geodistill.geometry.points import Points
from geodistill.geometry.splats import Splats, transformed
from geodistill.io.posed import Background, PosedImages
from geodistill.log import say
from geodistill.metrics.image import SSIM_WINDOW_PX, structural_similarity
from geodistill.render.splats import NEAR, project, splat_colors
from geodistill.runs import Run
from geodistill.train import Budget, train
from geodistill.train.optimiser import Optimiser

RATES = {
    "means": 4.8e-4,
    "rotations": 2e-3,
    "log_scales": 1e-2,
    "opacity_logits": 5e-2,
    "base_sh": 1e-2,
    "more_sh": 5e-4,
}
"""Learning rates; means in the extent of the cameras. All but that of opacities are higher than
those of 3DGS, as steps on a CPU are fewer by far than the 30,000 that it is made for."""
LAST_MEANS_RATE = 0.01
"""The means' learning rate at the end, over that of the beginning."""
DEGREE_EVERY = 0.1
"""Share of the budget after which harmonics gain a degree."""
STAGES = ((0.0, 4), (0.05, 2), (0.2, 1))
"""(budget used, pixels of a picture along the side of one that is trained on) pairs."""
COARSEST_PX = 64
"""No stage makes pictures smaller than this along their longer side."""


@dataclass(frozen=True)
class SplatFitSettings:
    """What decides how splats are fitted, apart from the numbers of `SplatFitConfig`."""

    strategy: StrategyName = "default"
    """How they multiply: adaptive density control or MCMC."""
    max_splats: int = 100_000
    """Most splats that there may be."""
    seed: int = 0
    """Of points, of the order of views, and of everything random in the strategy."""
    background: Background = "auto"
    """What lies behind the object (`PosedImages.behind`)."""


class SplatFitJob:
    """Photometric training of splats whose number changes (a `train.Job`).

    One whole view a step, in a new random order each time round; over a random colour where the
    pictures are transparent.
    """

    def __init__(
        self,
        start: Splats,
        data: PosedImages,
        config: SplatFitConfig,
        settings: SplatFitSettings,
        device: torch.device | str = "cpu",
    ) -> None:
        """
        Args:
            start: in the frame of `frame_of(data.cameras)`.
            data: pictures of pinholes, on the CPU.
            device: where the splats are; one picture at a time follows them there.
        """
        self.strategy: Strategy = config.strategy(settings.strategy)
        self.trained = TrainedSplats(start, RATES, device)
        self.density: State = self.strategy.begin(self.trained)
        self.config, self.settings = config, settings
        self.background = data.behind(settings.background)
        data = shrunk(data, -(-max(data.cameras.size) // config.resolution))
        local = frame_of(data.cameras).inverse().apply_camera(data.cameras.to(dtype=torch.float64))
        self.data = replace(data, cameras=local)
        self._drawn: tuple[Tensor, kernels.SplatPlan] | None = None

    @property
    def optimiser(self) -> Optimiser:
        return self.trained.optimiser

    def lr_scale(self, progress: float) -> float:
        return 1.0  # `before` sets the rates, of which only that of the means falls

    def before(self, step: int, progress: float) -> None:
        self._note()
        self.trained.set_rates({**RATES, "means": RATES["means"] * LAST_MEANS_RATE**progress})
        draw = torch.Generator().manual_seed(self.settings.seed * 7_000_003 + step)
        if step:
            self.strategy.stir(self.trained, draw)
        now = Now(step, progress, self.settings.max_splats)
        change = self.strategy.change(self.trained, self.density, now, draw)
        if change is not None:
            apply(change, self.trained)

    def finished(self, step: int) -> bool:
        return False

    def loss(self, step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        camera, picture = reduced(self.data, self._view(step), self._factor(progress))
        splats = self.trained.splats(degree=int(progress / DEGREE_EVERY))
        projected = project(splats, camera, NEAR)
        projected.means_px.retain_grad()
        plan = kernels.splat_plan(*projected, camera.size)
        seen = kernels.splat(*projected[:3], splat_colors(splats, camera), plan)
        self._drawn = projected.means_px, plan
        if self.background is None:
            draw = torch.Generator().manual_seed(self.settings.seed * 1_000_003 + step)
            behind = torch.rand(3, generator=draw)
        else:
            behind = torch.full((3,), self.background)
        behind, picture = behind.to(seen.pixels), picture.to(seen.pixels)
        shown = seen.pixels + (1.0 - seen.opacity)[:, None] * behind
        wanted = picture[..., :3] + (1.0 - picture[..., 3:]) * behind
        loss, square = _photometric(shown.view_as(wanted), wanted, self.config.ssim)
        metrics = {"psnr_db": round(-10.0 * square.log10().item(), 3), "splats": len(splats)}
        return loss + self.strategy.penalty(self.trained), metrics

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        self._note()
        sums = {f"density.{name}": rows for name, rows in self.density.sums.items()}
        return {**self.trained.state(), **sums}, {"marks": self.density.marks}

    def load(self, tensors: dict[str, Tensor], extra: dict[str, Any]) -> None:
        self.trained.load(tensors)
        self.density.sums = {
            name: tensors[f"density.{name}"].to(self.trained.device) for name in self.density.sums
        }
        self.density.marks = {name: (at[0], at[1]) for name, at in extra["marks"].items()}

    def _note(self) -> None:
        """Tell the strategy what the last step said, once its gradients are there."""
        if self._drawn is None:
            return
        (means_px, plan), self._drawn = self._drawn, None
        visible = torch.zeros(len(means_px), dtype=torch.bool, device=means_px.device)
        visible[plan.elements.long()] = True
        height, width = plan.size
        half = means_px.new_tensor([0.5 * width, 0.5 * height])
        gradients = torch.zeros_like(means_px) if means_px.grad is None else means_px.grad
        self.strategy.note(self.density, Seen((gradients * half).norm(dim=1), visible))

    def _view(self, step: int) -> int:
        views = len(self.data.cameras)
        order = torch.Generator().manual_seed(self.settings.seed * 3_000_017 + step // views)
        return int(torch.randperm(views, generator=order)[step % views])

    def _factor(self, progress: float) -> int:
        """Pixels of a picture along the side of one that is trained on now."""
        stage = next(factor for start, factor in reversed(STAGES) if progress >= start)
        coarsest = max(1, max(self.data.cameras.size) // COARSEST_PX)
        return min(stage, coarsest, *self.data.cameras.size)


def fit_splats(
    data: PosedImages,
    config: SplatFitConfig,
    budget: Budget,
    settings: SplatFitSettings | None = None,
    points: Points | None = None,
    run: Run | None = None,
    device: torch.device | str = "cpu",
) -> Splats:
    """Fit splats to posed images (Kerbl et al., "3D Gaussian Splatting", 2023).

    Args:
        data: the training views, of pinholes (`photographs.pinholes`).
        config: how to train.
        budget: steps or seconds; the schedule is in shares of it.
        settings: the strategy, the most splats, the seed and the background.
        points: where to start, in the world; otherwise where the pictures say that something is.
        run: a run folder for checkpoints and metrics; an interrupted one is continued.
        device: where to train; on a GPU, gsplat draws where it is installed.

    Returns:
        The splats, in the world of the cameras, on the CPU.

    Raises:
        InputError: pictures of linear colours, which splats do not hold; masks that agree on
            nothing; images with neither alpha nor a stated background; or training diverged.
        UsageError: a lens that distorts.
    """
    settings = settings or SplatFitSettings()
    start = start_of(data, config, settings, points)
    job = SplatFitJob(start, data, config, settings, device)
    train(job, budget, run, "fit splats")
    with torch.no_grad():
        return transformed(job.trained.splats().to("cpu"), frame_of(data.cameras))


def start_of(
    data: PosedImages,
    config: SplatFitConfig,
    settings: SplatFitSettings,
    points: Points | None = None,
) -> Splats:
    """The splats that training begins with, in the frame of `frame_of(data.cameras)`."""
    expect_srgb(data)
    background = data.behind(settings.background)
    count, frame = min(config.start, settings.max_splats), frame_of(data.cameras)
    points = None if points is None else without_far(points, frame)
    if points is not None and len(points) < FEWEST:
        say(f"the data set has {len(points)} points, too few to start from: they are left out")
        points = None
    if points is None:
        points = points_of_data(data, background, count, settings.seed)
    elif len(points) > count:
        draw = torch.Generator().manual_seed(settings.seed)
        points = points[torch.randperm(len(points), generator=draw)[:count].sort().values]
    strategy = config.strategy(settings.strategy)
    return splats_at(points, frame, strategy.width, strategy.opacity, config.degree)


def expect_srgb(data: PosedImages) -> None:
    """Raise InputError for pictures of linear colours, which splats do not hold."""
    if data.color_space != "srgb":
        raise InputError(
            f"splats hold sRGB colours, these pictures {data.color_space} ones: convert them to "
            "PNG, or fit a field"
        )


def _photometric(shown: Tensor, wanted: Tensor, weight: float) -> tuple[Tensor, Tensor]:
    """The loss of an image [H, W, 3], and its mean square error without gradient.

    Images that are smaller than the window of SSIM are judged by their absolute error alone.
    """
    error = shown - wanted
    loss = error.abs().mean()
    if weight and min(wanted.shape[:2]) >= SSIM_WINDOW_PX:
        loss = (1 - weight) * loss + weight * (1 - structural_similarity(shown, wanted))
    return loss, error.detach().square().mean()
