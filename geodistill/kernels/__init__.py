"""The few hot loops: hash grids, planes and lines, sparse voxels, ray marching, compositing,
triangles, and the sparse rows of footprints.

Every function here checks its arguments and hands over to one implementation: the C++ library for
float32 tensors in CPU memory where it was built, the pure-torch reference for everything else. Both
have the same meaning; derivatives beyond the first are always the reference's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from geodistill.checks import UsageError, check
from geodistill.kernels import cpu, library, reference
from geodistill.kernels.arguments import check_index, check_offsets, check_three, check_view
from geodistill.kernels.hashspec import HashSpec
from geodistill.kernels.library import keep_memory, openmp_runtimes
from geodistill.kernels.reference import (
    LINE_AXES,
    PLANE_AXES,
    Composite,
    Raster,
    Samples,
    ray_index,
)

__all__ = [
    "LINE_AXES",
    "PLANE_AXES",
    "Composite",
    "HashSpec",
    "Raster",
    "Samples",
    "backends",
    "composite",
    "fused_mlp",
    "gather",
    "hash_encode",
    "keep_memory",
    "library_status",
    "line_product",
    "march",
    "nearest_points",
    "openmp_runtimes",
    "plane_line",
    "rasterize",
    "ray_index",
    "ray_weights",
    "scatter",
    "segment_sum",
    "sparse_adam_step",
    "voxel_interp",
]

KERNELS = (
    "hash_encode",
    "plane_line",
    "line_product",
    "voxel_interp",
    "march",
    "ray_weights",
    "segment_sum",
    "composite",
    "sparse_adam_step",
    "fused_mlp",
    "rasterize",
    "nearest_points",
    "gather",
    "scatter",
)


MLP_WIDTH = 320
"""Widest layer for which the fused MLP keeps a block of points in the cache."""

# The one table: kernel -> what runs it on float32 tensors in CPU memory, where not the reference.
_CPU: dict[str, Callable[..., Any]] = (
    {} if library.LIBRARY is None else {name: getattr(cpu, name) for name in KERNELS}
)


def _implementation(kernel: str, *tensors: Tensor) -> Callable[..., Any]:
    if kernel in _CPU and all(t.dtype == torch.float32 and t.device.type == "cpu" for t in tensors):
        return _CPU[kernel]
    return getattr(reference, kernel)


def backends() -> dict[str, dict[str, str]]:
    """Which implementation serves each kernel: {kernel: {"cpu": "c++", "cuda": "reference"}}.

    "cpu" is about float32; other dtypes run the reference.
    """
    return {
        kernel: {"cpu": "c++" if kernel in _CPU else "reference", "cuda": "reference"}
        for kernel in KERNELS
    }


def library_status() -> str:
    """One line for `geodistill doctor`: where the C++ library is, or why there is none."""
    return str(library.PATH) if library.LIBRARY is not None else library.REASON


def hash_encode(x: Tensor, table: Tensor, spec: HashSpec) -> Tensor:
    """Encode points by trilinear look-ups in a multi-resolution hash table. Gradients: table, x.

    x: [N, 3] in [0, 1]; what lies outside is clamped.  table: [spec.entries, spec.features].
    Returns [N, spec.levels * spec.features], level after level.
    Source: Mueller et al., "Instant Neural Graphics Primitives", 2022.
    """
    check(x=(x, "N 3"), table=(table, f"{spec.entries} {spec.features}"))
    run = _implementation("hash_encode", x, table)
    if spec.features not in (1, 2, 4, 8):
        run = reference.hash_encode
    return run(x, table, spec)


def plane_line(x: Tensor, planes: Sequence[Tensor], lines: Sequence[Tensor]) -> Tensor:
    """Products of plane and line samples, the vector-matrix form. Gradients: planes, lines, x.

    x: [N, 3] in [-1, 1], clamped; node 0 of an axis is at -1 and its last node at +1.
    planes: 3 x [H, W, C], plane k spans the axes PLANE_AXES[k] = (x, y), (x, z), (y, z): columns
    run along the first of them, rows along the second.  lines: 3 x [L, C] along z, y, x.
    Returns [N, 3, C].  Source: Chen et al., "TensoRF", 2022, eq. 3 (channels stored last).
    """
    check_three("planes", planes)
    check_three("lines", lines)
    check(
        x=(x, "N 3"),
        **{f"planes[{k}]": (plane, "_ _ C") for k, plane in enumerate(planes)},
        **{f"lines[{k}]": (line, "_ C") for k, line in enumerate(lines)},
    )
    return _implementation("plane_line", x, *planes, *lines)(x, planes, lines)


def line_product(x: Tensor, lines: Sequence[Tensor]) -> Tensor:
    """Products of three line samples, the CP form. Gradients: lines, x.

    x: [N, 3] in [-1, 1], clamped.  lines: 3 x [L, C] along z, y, x, as in `plane_line`.
    Returns [N, C].  Source: Chen et al., "TensoRF", 2022, eq. 2.
    """
    check_three("lines", lines)
    check(x=(x, "N 3"), **{f"lines[{k}]": (line, "_ C") for k, line in enumerate(lines)})
    return _implementation("line_product", x, *lines)(x, lines)


def voxel_interp(x: Tensor, links: Tensor, values: Tensor) -> Tensor:
    """Trilinear interpolation in a sparse voxel grid. Gradients: values, x.

    x: [N, 3] in grid units, node i at coordinate i; clamped to the grid.
    links: int32 [X, Y, Z], row of each node in `values`, negative where the node is empty (zero).
    values: [M, C].  Returns [N, C].  Source: Fridovich-Keil et al., "Plenoxels", 2022.
    """
    check(x=(x, "N 3"), links=(links, "_ _ _"), values=(values, "_ _"))
    if links.dtype != torch.int32:
        raise UsageError(f"links must be int32, got {links.dtype}: pass links.int()")
    return _implementation("voxel_interp", x, values)(x, links, values)


def march(
    origins: Tensor,
    directions: Tensor,
    near: Tensor,
    far: Tensor,
    step: float,
    occupancy: Tensor,
    jitter: Tensor | None = None,
    max_samples: int = 1024,
) -> Samples:
    """Sample rays at near + (k + jitter) * step, k = 0, 1, ..., before far, in occupied cells only.

    origins, directions: [N, 3] in the frame where the grid fills [-1, 1]^3; any length.
    near, far: [N] in units of the direction; near >= far gives no samples.  step: in these units.
    occupancy: bool or uint8 [X, Y, Z] over [-1, 1]^3; outside it is empty.
    jitter: [N] in [0, 1), the middle of each interval (0.5) where it is None.
    max_samples: per ray; the first ones are kept.
    Returns Samples(offsets int64 [N+1], t [S], dt [S]); no gradient.
    """
    check(
        origins=(origins, "N 3"),
        directions=(directions, "N 3"),
        near=(near, "N"),
        far=(far, "N"),
        occupancy=(occupancy, "_ _ _"),
        **({} if jitter is None else {"jitter": (jitter, "N")}),
    )
    if not step > 0:
        raise UsageError(f"step must be positive, got {step}")
    floats = (origins, directions, near, far, *(() if jitter is None else (jitter,)))
    run = _implementation("march", *floats)
    with torch.no_grad():
        return run(origins, directions, near, far, step, occupancy, jitter, max_samples)


def ray_weights(sigma: Tensor, dt: Tensor, offsets: Tensor) -> Tensor:
    """Volume-rendering weights w_i = T_i (1 - exp(-sigma_i dt_i)). Gradients: sigma, dt.

    sigma, dt: [S];  offsets: int64 [N+1], the samples of ray n are offsets[n]:offsets[n+1].
    Returns [S].  Source: Max, "Optical models for direct volume rendering", 1995.
    """
    check(sigma=(sigma, "S"), dt=(dt, "S"))
    check_offsets(offsets, len(sigma))
    return _implementation("ray_weights", sigma, dt)(sigma, dt, offsets)


def segment_sum(weights: Tensor, values: Tensor, offsets: Tensor) -> Tensor:
    """Weighted sum over the samples of each ray. Gradients: weights, values.

    weights: [S];  values: [S, C];  offsets: int64 [N+1].  Returns [N, C]; empty rays get zeros.
    """
    check(weights=(weights, "S"), values=(values, "S C"))
    check_offsets(offsets, len(weights))
    return _implementation("segment_sum", weights, values)(weights, values, offsets)


def composite(sigma: Tensor, dt: Tensor, values: Sequence[Tensor], offsets: Tensor) -> Composite:
    """`ray_weights`, and `segment_sum` of every one of `values`, in one pass over the rays.

    sigma, dt: [S];  values: any number of [S, C];  offsets: int64 [N+1].
    Returns Composite(weights [S], opacity [N], sums: one [N, C] for each of `values`).
    Gradients: sigma, dt, values.
    """
    check(
        sigma=(sigma, "S"),
        dt=(dt, "S"),
        **{f"values[{i}]": (v, "S _") for i, v in enumerate(values)},
    )
    check_offsets(offsets, len(sigma))
    return _implementation("composite", sigma, dt, *values)(sigma, dt, values, offsets)


def sparse_adam_step(
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    step: int,
) -> None:
    """One Adam step, in place, on the rows (last dimension) whose gradient is not all zero.

    The other rows keep their value and moments, so momentum does not move what no sample touched.
    `grad` is zeroed for the next step. param, grad, exp_avg, exp_avg_sq: [..., F]; step: from 1.
    Source: Kingma and Ba, "Adam", 2015; lazy rows as in Mueller et al., Instant-NGP, 2022.
    """
    shape = " ".join(str(n) for n in param.shape)
    check(grad=(grad, shape), exp_avg=(exp_avg, shape), exp_avg_sq=(exp_avg_sq, shape))
    if step < 1:
        raise UsageError(f"step must be at least 1, got {step}")
    tensors = {"param": param, "grad": grad, "exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq}
    for name, tensor in tensors.items():
        if not tensor.is_contiguous():
            raise UsageError(f"{name} must be contiguous to be changed in place: pass a copy")
    run = _implementation("sparse_adam_step", param, grad, exp_avg, exp_avg_sq)
    with torch.no_grad():
        run(param, grad, exp_avg, exp_avg_sq, lr, beta1, beta2, eps, step)


def fused_mlp(x: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Linear layers without bias, ReLU between them and none at the end. Gradients: x, weights.

    x: [N, D0];  weights: [D1, D0], [D2, D1], ...  Returns [N, D_last].
    """
    if not weights:
        raise UsageError("fused_mlp needs at least one weight matrix, got none")
    check(x=(x, "N D0"), **{f"weights[{i}]": (w, f"D{i + 1} D{i}") for i, w in enumerate(weights)})
    run = _implementation("fused_mlp", x, *weights)
    if max(x.shape[1], *(len(w) for w in weights)) > MLP_WIDTH or len(weights) > 16:
        run = reference.fused_mlp
    return run(x, weights)


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
    return _implementation("rasterize", points)(points, faces, K, size, near)


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
    return _implementation("nearest_points", points)(points, radius, K, size, near, most)


def gather(features: Tensor, index: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of rows: sum over k of weights[p, k] features[index[p, k]], for every p.

    features: [N, C].  index: int32 [P, K], a negative one contributes nothing.  weights: [P, K].
    Returns [P, C].  Gradients: features, weights.
    """
    check(features=(features, "N C"), index=(index, "P K"), weights=(weights, "P K"))
    check_index("index", index, torch.int32, -(2**31), len(features))
    return _implementation("gather", features, weights)(features, index, weights)


def scatter(pixels: Tensor, index: Tensor, weights: Tensor, elements: int) -> Tensor:
    """The adjoint of `gather`: row n sums weights[p, k] pixels[p] over all index[p, k] = n.

    pixels: [P, C].  index: int32 [P, K], a negative one contributes nothing.  weights: [P, K].
    Returns [elements, C].  Gradients: pixels, weights.
    """
    check(pixels=(pixels, "P C"), index=(index, "P K"), weights=(weights, "P K"))
    check_index("index", index, torch.int32, -(2**31), elements)
    return _implementation("scatter", pixels, weights)(pixels, index, weights, elements)
