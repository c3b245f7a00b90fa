"""How far views agree about one place, and features measured by it.

What a network says of a place depends also on where it is seen from. The scatter of single views
around their mean tells in which directions; where it is whitened, all directions of the features
vary alike between views of one place, so that what is left to tell places apart is what views agree
on (within-class covariance normalisation: Hatch, Kajarekar and Stolcke 2006, whose classes are
places here).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geodistill.checks import check
from geodistill.lift.views import Equations, View

SAMPLE = 20_000
"""Elements that the scatter is taken of."""
FLOOR = 1.0
"""Of the mean variance, added to all directions: few views cannot say how far they agree fully, and
of one shape they say it each time a little differently."""


def scatter(views: Sequence[View], features: Tensor, seen: Tensor, seed: int = 0) -> Tensor:
    """Covariance of what single views say of an element around its features. [C, C]

    features: [N, C];  seen: bool [N]. Zero where no element is in two views.
    """
    check(features=(features, "N C"), seen=(seen, "N"))
    draw = torch.Generator().manual_seed(seed)
    known = seen.nonzero()[:, 0]
    chosen = known[torch.randperm(len(known), generator=draw)[:SAMPLE].to(known.device)]
    own, channels = features[chosen], features.shape[1]
    total, count = features.new_zeros(channels, channels, dtype=torch.float64), 0
    for view in views:
        equations = Equations(view)
        mass = equations.mass()[chosen]
        shown = mass > 0
        parts = []
        for start in range(0, channels, 64):
            block = slice(start, start + 64)
            parts.append(equations.adjoint(equations.features(block))[chosen][shown])
        apart = (torch.cat(parts, dim=1) / mass[shown, None] - own[shown]).double()
        total += apart.T @ apart
        count += len(apart)
    return (total / max(count, 1)).float()


def whitening(scatter: Tensor) -> Tensor:
    """The symmetric map [C, C] after which a scatter [C, C] is the same in all directions, and of
    unit mean size before: the identity where it already is, or is zero."""
    mean = float(scatter.diagonal().mean())
    if not mean > 0:
        return torch.eye(len(scatter))
    relative = scatter.double() / mean
    values, vectors = torch.linalg.eigh(relative + FLOOR * torch.eye(len(scatter)))
    return ((vectors * values.clamp_min(FLOOR).rsqrt()) @ vectors.T).float()
