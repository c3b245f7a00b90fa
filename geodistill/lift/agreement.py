"""How far views agree about one place, and features measured by it.

What a network says of a place depends also on where it is seen from. The scatter of single views
around their mean says in which directions of feature space; in those, differences between places
count for less once it is whitened. In speech this is within-class covariance normalisation (Hatch,
Kajarekar and Stolcke 2006); the classes are places here.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geodistill.lift.views import Equations, View

SAMPLE = 20_000
"""Elements that the scatter is taken of."""
RIDGE = 0.3
"""Of the mean variance, added to all directions: a few views of one shape say only roughly how far
they agree."""
_BLOCK = 64


def view_scatter(views: Sequence[View], channels: int, seed: int = 0) -> Tensor:
    """Covariance between what single views say of an element, over all elements. [C, C]

    The views should be `equalised`: what one shows of an element counts by its mass, up to 1. Zero
    where no element is in two views.
    """
    equations = Equations(views[0])
    draw = torch.Generator().manual_seed(seed)
    chosen = torch.randperm(equations.footprint.elements, generator=draw)[:SAMPLE]
    total, mass = torch.zeros(len(chosen), channels).double(), torch.zeros(len(chosen)).double()
    squares, products = mass.clone(), torch.zeros(channels, channels).double()
    for view in views:
        equations = Equations(view)
        own = equations.mass().cpu()[chosen]
        parts = [
            equations.adjoint(equations.features(slice(start, min(start + _BLOCK, channels))))
            for start in range(0, channels, _BLOCK)
        ]
        weight = own.clamp(max=1).double()
        said = torch.cat([part.cpu()[chosen] for part in parts], dim=1).double()
        said /= own.clamp_min(1e-30).double()[:, None]
        weighted = weight[:, None] * said
        products += weighted.T @ said
        total += weighted
        mass += weight
        squares += weight.square()
    mean = total / mass.clamp_min(1e-30)[:, None]
    free = float((mass - squares / mass.clamp_min(1e-30)).sum())
    if free < 1e-6 * max(float(mass.sum()), 1e-30):
        return torch.zeros(channels, channels)
    return ((products - total.T @ mean) / free).float()


def whitening(scatter: Tensor) -> Tensor:
    """(scatter / s + RIDGE)^(-1/2) with the mean variance s, [C, C]: symmetric. What varies little
    gets longer, by RIDGE^(-1/2) at most, what varies much shorter. The identity where the scatter
    is zero."""
    mean = float(scatter.diagonal().mean())
    if not mean > 0:
        return torch.eye(len(scatter))
    values, vectors = torch.linalg.eigh(scatter.double() / mean)
    return ((vectors * (values.clamp_min(0) + RIDGE).rsqrt()) @ vectors.T).float()
