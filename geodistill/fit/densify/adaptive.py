"""Adaptive density control: splats grow where the picture pulls at them (Kerbl et al. 2023)."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from geodistill.fit.densify.change import Change
from geodistill.fit.densify.strategy import Now, Seen, State, is_time
from geodistill.fit.trained_splats import TrainedSplats
from geodistill.geometry.splats import rotation_matrices

CHILDREN = 2
SHRINK = 1.6
"""A child's standard deviations are its parent's over this (Kerbl et al. 2023, sec. 5.2)."""
RESET = 2.0
"""Opacity that a reset leaves, in the opacity below which splats are removed."""


@dataclass(frozen=True)
class Adaptive:
    """The density control of 3DGS with the constants of gsplat's DefaultStrategy.

    Every so often, splats whose mean gradient is high are cloned if they are small and split if
    they are large; faint and huge ones are removed; now and then all opacities are set down, so
    that what nobody needs does not come back. Shares of 3DGS's 30,000 steps became shares of the
    budget.
    """

    opacity: float = 0.1
    width: float = 1.0
    gradient: float = 2e-4
    """Mean gradient (see `Seen`) over the views that see a splat, above which it multiplies."""
    small: float = 0.01
    """Largest standard deviation of what is cloned; larger is split. In extents of the cameras."""
    large: float = 0.1
    """Largest standard deviation that stays, once the first opacities could have been reset."""
    faint: float = 0.005
    """Opacity below which splats are removed."""
    start: float = 1 / 60
    """Share of the budget before the first change."""
    stop: float = 0.5
    """Share of the budget after which splats stay."""
    every: float = 1 / 300
    """Share of the budget between changes."""
    steps: int = 50
    """Fewest steps between changes."""
    reset_every: float = 0.1
    """Share of the budget between resets of the opacities."""
    reset_steps: int = 500
    """Fewest steps between those: opacities take some hundred to come back."""

    def begin(self, trained: TrainedSplats) -> State:
        return State(
            _zeros(trained.parameters["opacity_logits"]), {"changed": (0, 0.0), "reset": (0, 0.0)}
        )

    def note(self, state: State, seen: Seen) -> None:
        state.sums["gradients"] += seen.gradients
        state.sums["views"] += seen.visible

    @torch.no_grad()
    def change(
        self, trained: TrainedSplats, state: State, now: Now, draw: torch.Generator
    ) -> Change | None:
        if not is_time(self, now, state.marks["changed"]):
            return None
        change = self._pruned(trained, self._grown(trained, state, now, draw), now)
        state.marks["changed"] = now.mark
        state.sums = _zeros(change.source)
        if now.is_due(state.marks["reset"], self.reset_every, self.reset_steps):
            state.marks["reset"] = now.mark
            change = _reset(trained, change, RESET * self.faint)
        return change

    def penalty(self, trained: TrainedSplats) -> float:
        return 0.0

    def stir(self, trained: TrainedSplats, draw: torch.Generator) -> None:
        pass

    def _grown(
        self, trained: TrainedSplats, state: State, now: Now, draw: torch.Generator
    ) -> Change:
        mean = state.sums["gradients"] / state.sums["views"].clamp_min(1.0)
        most = max(0, now.most - len(mean))
        order = mean.argsort(descending=True, stable=True)[:most]
        growing = torch.zeros_like(mean, dtype=torch.bool)
        growing[order] = mean[order] > self.gradient
        scales = trained.parameters["log_scales"].exp()
        large = scales.amax(dim=1) > self.small
        return _multiplied(trained, growing & ~large, growing & large, draw)

    def _pruned(self, trained: TrainedSplats, change: Change, now: Now) -> Change:
        p = trained.parameters
        opacities = change.of("opacity_logits", p["opacity_logits"]).sigmoid()
        keep = opacities >= self.faint
        if now.progress > self.reset_every:
            keep &= change.of("log_scales", p["log_scales"]).exp().amax(dim=1) <= self.large
        if not bool(keep.any()):
            keep[opacities.argmax()] = True
        values = {name: rows[keep] for name, rows in change.values.items()}
        return Change(change.source[keep], change.fresh[keep], values)


def _multiplied(
    trained: TrainedSplats, cloned: Tensor, split: Tensor, draw: torch.Generator
) -> Change:
    """Clones lie where their originals are; children are drawn from the Gaussian they replace."""
    stay, again, apart = ((rows).nonzero()[:, 0] for rows in (~split, cloned, split))
    children = apart.repeat(CHILDREN)
    source = torch.cat([stay, again, children])
    fresh = torch.arange(len(source), device=source.device) >= len(stay)
    p = trained.parameters
    means, log_scales = p["means"][source], p["log_scales"][source]
    first = len(source) - len(children)
    noise = torch.randn(len(children), 3, generator=draw).to(means)
    axes = rotation_matrices(p["rotations"][children])
    offsets = axes @ (log_scales[first:].exp() * noise)[:, :, None]
    means[first:] += offsets[:, :, 0]
    log_scales[first:] -= math.log(SHRINK)
    return Change(source, fresh, {"means": means, "log_scales": log_scales})


def _reset(trained: TrainedSplats, change: Change, opacity: float) -> Change:
    """With opacities no higher than `opacity`; what the optimiser knew of them is void."""
    logits = change.of("opacity_logits", trained.parameters["opacity_logits"])
    values = {
        **change.values,
        "opacity_logits": logits.clamp(max=math.log(opacity / (1 - opacity))),
    }
    return Change(change.source, change.fresh, values, ("opacity_logits",))


def _zeros(rows: Tensor) -> dict[str, Tensor]:
    return {name: torch.zeros(len(rows), device=rows.device) for name in ("gradients", "views")}
