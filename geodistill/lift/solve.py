"""From pixels to elements: weighted means, early-stopped refinement, ridge, and the exact solve.

All of them see the views one after the other and hold a few tensors of elements x channels.
In the notation of `Equations`, with C = diag(A^T D 1), the weighted mean is X = C^-1 A^T D Y: the
minimiser of sum_ij D_i A_ij |X_j - Y_i|^2, which bounds the least-squares error from above by
Jensen's inequality. It is also the first step, from zero, of SIRT, X += C^-1 A^T D (Y - A X)
(Gilbert 1972; van der Sluis and van der Vorst 1990), which goes on towards least squares; stopped
early it is a regularised solution.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from geodistill.checks import InputError, UsageError
from geodistill.lift.views import Equations, View
from geodistill.log import progress

MOST_STEPS = 20
"""Refinement never takes more."""
NOTHING_SEEN = "no view shows the geometry: it is transparent, or the cameras look elsewhere"
CONVERGED = 1e-5
"""Relative residual at which conjugate gradients end."""


@dataclass(frozen=True)
class Lifted:
    """Features [N, C] of the elements, zero where `mass` [N] is: no trusted pixel shows those.

    `steps` is how many refinements were taken.
    """

    features: Tensor
    mass: Tensor
    steps: int = 0

    @property
    def seen(self) -> Tensor:
        """bool [N]"""
        return self.mass > 0


def weighted_mean(views: Sequence[View], channels: slice = slice(None)) -> Lifted:
    """The mean of the pixels that show an element, by how much they show of it.

    Raises:
        InputError: no trusted pixel of any view shows the geometry.
    """
    total = mass = None
    with progress(len(views), "onto the surface, views") as bar:
        for equations in _each(views):
            part, weight = equations.adjoint(equations.features(channels)), equations.mass()
            total = part if total is None else total.add_(part)
            mass = weight if mass is None else mass.add_(weight)
            bar.advance()
    if total is None or mass is None or not bool((mass > 0).any()):
        raise InputError(NOTHING_SEEN)
    return Lifted(_divided(total, mass), mass)


def refined(
    views: Sequence[View], steps: int | None = None, channels: slice = slice(None)
) -> Lifted:
    """The weighted mean, then SIRT steps; how many is chosen on held-out views unless given.

    Every sixth view is held out for the choice and used again for the result.
    """
    if steps is None:
        steps = held_out_steps(views, channels)
    start = weighted_mean(views, channels)
    x = start.features
    with progress(steps, "refinement, steps") as bar:
        for _ in range(steps):
            x = _sirt_step(views, x, start.mass, channels)
            bar.advance()
    return Lifted(x, start.mass, steps)


def held_out_steps(views: Sequence[View], channels: slice = slice(None)) -> int:
    """SIRT steps after which views that took no part are rendered best; 0 with fewer than three."""
    if len(views) < 3:
        return 0
    held = views[2::6]
    used = [view for i, view in enumerate(views) if i % 6 != 2]
    start = weighted_mean(used, channels)
    x, best, chosen = start.features, _error(held, start.features, start.seen, channels), 0
    with progress(None, "refinement, steps tried") as bar:
        for step in range(1, MOST_STEPS + 1):
            x = _sirt_step(used, x, start.mass, channels)
            error = _error(held, x, start.seen, channels)
            bar.advance()
            if error >= best:
                break
            best, chosen = error, step
    return chosen


def ridge(views: Sequence[View], weight: float, channels: slice = slice(None)) -> Lifted:
    """Least squares kept near the weighted mean: the minimiser of

        sum D |A X - Y|^2 + weight * sum C |X - X_0|^2,

    by conjugate gradients preconditioned with C, all channels side by side.

    Raises:
        UsageError: the weight is not positive.
    """
    if not weight > 0:
        raise UsageError(f"ridge needs a positive weight, got {weight}")
    start = weighted_mean(views, channels)
    mass = start.mass[:, None]

    def normal(x: Tensor) -> Tensor:
        total = weight * mass * x
        for equations in _each(views):
            total += equations.adjoint(equations.apply(x))
        return total

    x = start.features.clone()
    residual = _gradient(views, x, channels)
    first = _dots(residual, _divided(residual, start.mass))
    direction, power = torch.zeros_like(x), torch.ones_like(first)
    for _ in range(len(x)):
        step = _divided(residual, start.mass)
        previous, power = power, _dots(residual, step)
        if bool((power <= CONVERGED**2 * first).all()):
            break
        direction = step + direction * (power / previous.clamp_min(1e-30))
        moved = normal(direction)
        length = power / _dots(direction, moved).clamp_min(1e-30)
        x += direction * length
        residual -= moved * length
    return Lifted(x, start.mass)


def exact(views: Sequence[View], channels: slice = slice(None)) -> Lifted:
    """Least squares by a dense factorisation, the oracle for small cases. Elements that no trusted
    pixel shows get zero."""
    rows, values = [], []
    mass = torch.zeros(0)
    for equations in _each(views):
        root = equations.trust.double().sqrt()[:, None]
        eye = torch.eye(equations.footprint.elements)
        rows.append(equations.apply(eye).double() * root)
        values.append(equations.features(channels).double() * root)
        mass = equations.mass() if len(mass) == 0 else mass + equations.mass()
    solution = torch.linalg.lstsq(torch.cat(rows), torch.cat(values), driver="gelsd").solution
    return Lifted(solution.float(), mass)


def _each(views: Sequence[View]) -> Iterator[Equations]:
    for view in views:
        yield Equations(view)


def _sirt_step(views: Sequence[View], x: Tensor, mass: Tensor, channels: slice) -> Tensor:
    return x + _divided(_gradient(views, x, channels), mass)


def _gradient(views: Sequence[View], x: Tensor, channels: slice) -> Tensor:
    """A^T D (Y - A x), summed over the views."""
    total = torch.zeros_like(x)
    for equations in _each(views):
        total += equations.adjoint(equations.features(channels) - equations.apply(x))
    return total


def _error(views: Sequence[View], x: Tensor, seen: Tensor, channels: slice) -> float:
    """Trust-weighted mean square of what is left of the pixels that show nothing but seen
    elements."""
    total, weight = 0.0, 0.0
    known = seen[:, None].float()
    for equations in _each(views):
        trust = equations.trust * (equations.apply(known)[:, 0] > 0.999)
        left = (equations.features(channels) - equations.apply(x)).square().mean(dim=1)
        total += float((trust * left).sum())
        weight += float(trust.sum())
    return total / weight if weight else 0.0


def _divided(x: Tensor, mass: Tensor) -> Tensor:
    return torch.where(mass[:, None] > 0, x / mass.clamp_min(1e-30)[:, None], 0.0)


def _dots(a: Tensor, b: Tensor) -> Tensor:
    """[C]"""
    return (a * b).sum(dim=0)
