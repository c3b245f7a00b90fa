"""Footprints with at most K elements a pixel: an index and a weight for each."""

from __future__ import annotations

import torch
from torch import Tensor

from geodistill import kernels
from geodistill.cameras import Camera
from geodistill.checks import UsageError
from geodistill.footprint import Footprint


class IndexedFootprint(Footprint):
    """Pixel p is the sum over k of `weights[p, k]` times element `index[p, k]`.

    Attributes:
        index: int32 [pixels, K], negative where there is no element.
        weights: [pixels, K], zero there; what `render` is differentiable in beside the features.
    """

    def __init__(self, index: Tensor, weights: Tensor, elements: int) -> None:
        self.index, self.weights = index, weights
        self.pixels, self.elements = len(index), elements

    def render(self, features: Tensor) -> Tensor:
        return kernels.gather(features, self.index, self.weights)

    def adjoint(self, pixels: Tensor) -> Tensor:
        return kernels.scatter(pixels, self.index, self.weights, self.elements)

    def row_sums(self) -> Tensor:
        return self.weights.sum(dim=1)

    def column_sums(self) -> Tensor:
        return self.adjoint(torch.ones_like(self.weights[:, :1]))[:, 0]

    def to_csr(self) -> Tensor:
        index, order = self.index.long().sort(dim=1)
        used = index >= 0
        offsets = torch.nn.functional.pad(used.sum(dim=1).cumsum(0), (1, 0))
        weights = self.weights.detach().gather(1, order)[used]
        return torch.sparse_csr_tensor(offsets, index[used], weights, (self.pixels, self.elements))


def pinhole(camera: Camera) -> Camera:
    """One camera without distortion, in float64. Raises UsageError for any other."""
    if camera.batch_shape:
        raise UsageError(
            f"one camera is rendered at a time, got a batch of {[*camera.batch_shape]}: index it"
        )
    if camera.distortion is not None and bool(camera.distortion.any()):
        raise UsageError(
            "a footprint needs a pinhole camera, this one has lens distortion: undistort the images"
        )
    return camera.to(dtype=torch.float64)


def in_camera(positions: Tensor, camera: Camera) -> Tensor:
    """World positions [N, 3] in the axes of the camera, float64.

    The camera's centre is taken off first, so that scenes far from the origin keep their precision.
    """
    return (positions.double() - camera.centers) @ camera.world_from_cam[:3, :3]
