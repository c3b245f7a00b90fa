"""What is lifted from: views of a geometry, each with the features of its pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from geodistill import kernels
from geodistill.checks import check
from geodistill.footprint import Footprint

OPAQUE = 0.5
"""Opacity below which a pixel shows more background than geometry and is not lifted from."""


@dataclass(frozen=True, eq=False)
class PixelFeatures:
    """Features of P pixels as mixtures of T tokens; the upsampled image is never held.

    Attributes:
        tokens: [T, C].
        index: int32 [P, K], the tokens of each pixel.
        mix: [P, K], their shares, which sum to 1.
    """

    tokens: Tensor
    index: Tensor
    mix: Tensor

    def __post_init__(self) -> None:
        check(tokens=(self.tokens, "T C"), index=(self.index, "P K"), mix=(self.mix, "P K"))

    def __call__(self, channels: slice) -> Tensor:
        """[P, channels]"""
        return kernels.gather(self.tokens[:, channels].float(), self.index, self.mix)


@dataclass(frozen=True, eq=False)
class View:
    """One view: which elements its pixels show, what the teacher says of them, and how far to
    believe it.

    Attributes:
        footprint, features: make the operator and the pixels' features; called once for every pass
            over the views, so that what is large need not be kept.
        trust: [P] >= 0; 0 leaves a pixel out.
    """

    footprint: Callable[[], Footprint]
    features: Callable[[], PixelFeatures]
    trust: Tensor


class Equations:
    """A view's rows of the system that lifting solves: A X = Y with weights D.

    A is the footprint with its rows divided by their sums, so that the background in a pixel does
    not dim the features of what stands before it; a constant then renders as itself. D is the
    trust, zero where the pixel is mostly background.
    """

    def __init__(self, view: View) -> None:
        self.footprint, self.features = view.footprint(), view.features()
        opacity = self.footprint.row_sums()
        solid = opacity > OPAQUE
        self._scale = torch.where(solid, 1.0 / opacity.clamp_min(OPAQUE), 0.0)[:, None]
        self.trust = torch.where(solid, view.trust, 0.0)

    def apply(self, x: Tensor) -> Tensor:
        """A x: [elements, C] -> [pixels, C]"""
        return self.footprint.render(x) * self._scale

    def adjoint(self, y: Tensor) -> Tensor:
        """A^T D y: [pixels, C] -> [elements, C]"""
        return self.footprint.adjoint(y * (self._scale * self.trust[:, None]))

    def mass(self) -> Tensor:
        """A^T D 1: how much trusted picture shows each element. [elements]"""
        return self.adjoint(torch.ones_like(self._scale))[:, 0]


def equalised(view: View) -> View:
    """The view with its trust so divided that it has about as much to say of each element it shows
    as any other view: the oblique or distant one no less than the one that shows it large.

    A pixel's trust is divided by how much trusted picture its elements have, A A^T trust. What one
    view says of a thing is also about where it is seen from; the more views count, the less.
    """
    equations = Equations(view)
    share = equations.apply(equations.mass()[:, None])[:, 0]
    trust = torch.where(share > 0, equations.trust / share.clamp_min(1e-30), 0.0)
    return replace(view, trust=trust)
