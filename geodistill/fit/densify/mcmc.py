"""Splats as samples of a Markov chain (Kheradmand et al., "3D Gaussian Splatting as Markov Chain
Monte Carlo", NeurIPS 2024): dead ones are moved to living ones, and all of them are stirred."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from geodistill.fit.densify.change import Change
from geodistill.fit.densify.strategy import Now, Seen, State, is_time
from geodistill.fit.trained_splats import TrainedSplats
from geodistill.geometry.splats import covariances

MOST_COPIES = 51
"""At most so many splats take the place of one at once (as in the authors' code)."""
SHARPNESS = 100.0
"""Of the sigmoid that lets noise pass where opacity is below `Mcmc.faint`."""
OPAQUE = 1 - torch.finfo(torch.float32).eps


@dataclass(frozen=True)
class Mcmc:
    """Relocation, growth and regularisation with the authors' constants, but for the start.

    Shares of 30,000 steps became shares of the budget. The authors start more opaque (0.5) and
    much smaller (0.1), from which it takes more steps than a small budget has to find the surface.
    """

    opacity: float = 0.1
    width: float = 1.0
    growth: float = 0.05
    """Share of new splats at each change, up to the most that may be."""
    faint: float = 0.005
    """Opacity up to which splats are dead."""
    noise: float = 5e5
    """Strength of the noise, in the means' learning rate; as that is three times the authors', so
    is the noise."""
    opacity_weight: float = 0.01
    """Of the mean opacity in the loss."""
    scale_weight: float = 0.01
    """Of the mean standard deviation in the loss."""
    start: float = 1 / 60
    """Share of the budget before the first change."""
    stop: float = 5 / 6
    """Share of the budget after which splats stay."""
    every: float = 1 / 300
    """Share of the budget between changes."""
    steps: int = 10
    """Fewest steps between changes."""

    def begin(self, trained: TrainedSplats) -> State:
        return State({}, {"changed": (0, 0.0)})

    def note(self, state: State, seen: Seen) -> None:
        pass

    @torch.no_grad()
    def change(
        self, trained: TrainedSplats, state: State, now: Now, draw: torch.Generator
    ) -> Change | None:
        if not is_time(self, now, state.marks["changed"]):
            return None
        state.marks["changed"] = now.mark
        p = {name: one.detach() for name, one in trained.parameters.items()}
        count = len(trained)
        opacities = p["opacity_logits"].sigmoid()
        dead = opacities <= self.faint
        weights = opacities.masked_fill(dead, 0.0)
        if bool(dead.all()):
            return None
        rows = torch.arange(count, device=dead.device)
        at = Copies(rows, dead.clone(), opacities.clone(), p["log_scales"].clone())
        at = _copied(at, weights, dead.nonzero()[:, 0], self.faint, draw)
        more = max(0, min(now.most, int((1 + self.growth) * count)) - count)
        new = torch.arange(count, count + more, device=dead.device)
        at = _copied(_longer(at, more), at.opacities, new, self.faint, draw)
        logits, sizes = p["opacity_logits"][at.source], p["log_scales"][at.source]
        values = {  # rows that stay keep their bits
            "opacity_logits": torch.where(at.fresh, at.opacities.logit(), logits),
            "log_scales": torch.where(at.fresh[:, None], at.log_scales, sizes),
        }
        return Change(at.source, at.fresh, values)

    def penalty(self, trained: TrainedSplats) -> Tensor:
        p = trained.parameters
        opacity = self.opacity_weight * p["opacity_logits"].sigmoid().mean()
        return opacity + self.scale_weight * p["log_scales"].exp().mean()

    @torch.no_grad()
    def stir(self, trained: TrainedSplats, draw: torch.Generator) -> None:
        """Noise through the covariances, where splats are all but transparent (eq. 9)."""
        p = {name: one.detach() for name, one in trained.parameters.items()}
        passing = torch.sigmoid(SHARPNESS * (self.faint - p["opacity_logits"].sigmoid()))
        strength = self.noise * trained.rates["means"] * passing
        noise = torch.randn(len(trained), 3, generator=draw).to(p["means"])
        spread = covariances(trained.splats(degree=0))
        p["means"].add_((spread @ (strength[:, None] * noise)[:, :, None])[:, :, 0])


def relocated(opacities: Tensor, copies: Tensor) -> tuple[Tensor, Tensor]:
    """What N copies at one place must be, to look like the one splat that they replace.

    The opacity is 1 - (1 - o)^(1/N), so that as much light is left behind their centre; standard
    deviations shrink so that the integral of 1 minus what they let through, along a line through
    the centre, is the original's. (eq. 8 and supplement; its double sum is contracted by
    sum_i binom(i - 1, k) = binom(N, k + 1))

    Args:
        opacities: [n] above 0, below 1.
        copies: int64 [n], N, from 1 to 51.

    Returns:
        float64 opacities [n], and factors [n] of the standard deviations.
    """
    o, copies = opacities.double(), copies.clamp(1, MOST_COPIES)
    each = -torch.expm1(torch.log1p(-o) / copies)
    power = torch.arange(1, MOST_COPIES + 1, dtype=torch.float64, device=o.device)
    table = [[math.comb(n, j) for j in range(1, MOST_COPIES + 1)] for n in range(MOST_COPIES + 1)]
    chosen = torch.tensor(table, dtype=torch.float64, device=o.device)[copies]
    signs = 1 - 2 * ((power - 1) % 2)
    terms = signs * chosen * each[:, None] ** power / power.sqrt()
    return each, o / terms.sum(dim=1)


@dataclass(frozen=True, eq=False)
class Copies:
    """Rows that copying changes: their sources, which are fresh, opacities and log_scales."""

    source: Tensor
    fresh: Tensor
    opacities: Tensor
    log_scales: Tensor


def _longer(at: Copies, more: int) -> Copies:
    """With `more` rows, which `_copied` is going to fill."""
    return Copies(
        torch.cat([at.source, at.source.new_zeros(more)]),
        torch.cat([at.fresh, at.fresh.new_ones(more)]),
        torch.cat([at.opacities, at.opacities.new_zeros(more)]),
        torch.cat([at.log_scales, at.log_scales.new_zeros(more, 3)]),
    )


def _copied(
    at: Copies, weights: Tensor, rows: Tensor, faint: float, draw: torch.Generator
) -> Copies:
    """Put copies of splats, drawn by `weights`, into `rows`; originals and copies share alike."""
    if not len(rows):
        return at
    drawn = torch.multinomial(weights.cpu(), len(rows), True, generator=draw).to(rows.device)
    copies = torch.bincount(drawn, minlength=len(at.source))[drawn] + 1
    opacities, factors = relocated(at.opacities[drawn].clamp(max=OPAQUE), copies)
    values = opacities.clamp(faint, OPAQUE).to(at.opacities)
    log_scales = at.log_scales[drawn] + factors.log().to(at.log_scales)[:, None]
    source, fresh = at.source.clone(), at.fresh.clone()
    shown, sizes = at.opacities.clone(), at.log_scales.clone()
    source[rows] = source[drawn]
    for places in (drawn, rows):
        fresh[places], shown[places], sizes[places] = True, values, log_scales
    return Copies(source, fresh, shown, sizes)
