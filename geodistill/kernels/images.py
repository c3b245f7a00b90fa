"""What pixels see of triangles and points, and the sparse rows of footprints."""

from __future__ import annotations

import torch
from torch import Tensor

from geodistill.checks import UsageError, check
from geodistill.kernels.arguments import check_index, check_view
from geodistill.kernels.reference import (
    Raster,
)
from geodistill.kernels.table import implementation


def rasterize(
    points: Tensor, faces: Tensor, K: Tensor, size: tuple[int, int], near: float
) -> Raster:
    """The face that each pixel sees, and where on it. Gradient: of the weights, to points.

    points: [V, 3] in camera coordinates, OpenCV axes.  faces: int64 [F, 3], seen from both sides.
    K: [3, 3] intrinsics in pixels, centres at +0.5.  size: (H, W).  near: least z, above 0.
    Returns Raster(triangle int32 [H, W] or -1, weights [H, W, 3], depth [H, W], the hit's z).
    The nearest hit wins, of equal depths the first face; an edge belongs to both of its faces.
    What is behind `near`, without area or not finite hits nothing. The gradient is that of the
    perspective-correct barycentrics at fixed visibility; depth has none.
    Source: Olano and Greer, "Triangle scan conversion using 2D homogeneous coordinates", 1997.
    """
    check(points=(points, "V 3"), faces=(faces, "F 3"), K=(K, "3 3"))
    check_index("faces", faces, torch.int64, 0, len(points))
    check_view(K, size, near)
    return implementation("rasterize", points)(points, faces, K, size, near)


def nearest_points(
    points: Tensor, radius: float, K: Tensor, size: tuple[int, int], near: float, most: int
) -> Tensor:
    """The points that each pixel sees: those whose discs cover its centre, front to back.

    points: [N, 3] in camera coordinates, OpenCV axes.  radius: of the discs, which lie parallel to
    the image.  K: [3, 3] intrinsics in pixels, centres at +0.5.  size: (H, W).  near: least z.
    most: how many of them at most; points deeper than the nearest one by more than the radius are
    hidden.  Returns int32 [H, W, most], of equal depths the first point first, -1 where there are
    no more.  Points that are not finite are not seen. No gradient.
    """
    check(points=(points, "N 3"), K=(K, "3 3"))
    check_view(K, size, near)
    if not 0 < radius < float("inf"):
        raise UsageError(f"radius must be positive and finite, got {radius}")
    if most < 1:
        raise UsageError(f"most must be at least 1, got {most}")
    return implementation("nearest_points", points)(points, radius, K, size, near, most)


def gather(features: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of rows: sum over k of weights[p, k] features[index[p, k]], for every p.

    features: [N, C].  index: int32 [P, K], a negative one contributes nothing.  weights: [P, K].
    Returns [P, C].  Gradients: features, weights.
    """
    check(features=(features, "N C"), index=(index, "P K"), weights=(weights, "P K"))
    check_index("index", index, torch.int32, -(2**31), len(features))
    return implementation("gather", features, weights)(features, index, weights)


def scatter(pixels: Tensor, index: Tensor, weights: Tensor, elements: int) -> Tensor:
    """The adjoint of `gather`: row n sums weights[p, k] pixels[p] over all index[p, k] = n.

    pixels: [P, C].  index: int32 [P, K], a negative one contributes nothing.  weights: [P, K].
    Returns [elements, C].  Gradients: pixels, weights.
    """
    check(pixels=(pixels, "P C"), index=(index, "P K"), weights=(weights, "P K"))
    check_index("index", index, torch.int32, -(2**31), elements)
    return implementation("scatter", pixels, weights)(pixels, index, weights, elements)
