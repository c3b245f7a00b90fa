"""The operator that everything passes through: one view of a geometry, as a sparse linear map.

Pixels are weighted sums of elements: `pixels = W @ elements`, weights >= 0 and row sums <= 1; what
a row lacks to 1 is background. Rendering applies W, lifting applies its adjoint.
"""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Footprint(ABC):
    """One view's W [pixels, elements], applied without ever being held as a matrix."""

    pixels: int
    elements: int

    @abstractmethod
    def render(self, features: Tensor) -> Tensor:
        """W @ features: [elements, C] -> [pixels, C]; differentiable in features and geometry."""

    def adjoint(self, pixels: Tensor) -> Tensor:
        """W^T @ pixels: [pixels, C] -> [elements, C]; the vector-Jacobian product of `render`."""
        zeros = pixels.new_zeros(self.elements, pixels.shape[1], requires_grad=True)
        with torch.enable_grad():
            (out,) = torch.autograd.grad(self.render(zeros), zeros, pixels)
        return out

    def row_sums(self) -> Tensor:
        """W @ 1: how opaque each pixel is. [pixels]"""
        return self.render(self._ones(self.elements))[:, 0]

    def column_sums(self) -> Tensor:
        """W^T @ 1: how much of the view each element fills. [elements]"""
        return self.adjoint(self._ones(self.pixels))[:, 0]

    @abstractmethod
    def to_csr(self) -> Tensor:
        """W as a torch sparse CSR matrix, for tests and exact solves."""

    def _ones(self, count: int) -> Tensor:
        return torch.ones(count, 1)
