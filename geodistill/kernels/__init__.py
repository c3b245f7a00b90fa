"""The few hot loops: hash grids, planes, lines, sparse voxels, ray marching, compositing, splats.

Every function here checks its arguments and hands over to one implementation: the C++ library for
float32 tensors in CPU memory where it was built, the pure-torch reference for everything else. Both
have the same meaning; derivatives beyond the first are always the reference's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from geodistill.checks import InputError, ShapeError, UsageError, check, check_finite
from geodistill.kernels import cpu, library, reference
from geodistill.kernels.hashspec import HashSpec
from geodistill.kernels.library import keep_memory, openmp_runtimes
from geodistill.kernels.reference import (
    LINE_AXES,
    PLANE_AXES,
    Composite,
    Samples,
    SplatPlan,
    Splatted,
    ray_index,
)

__all__ = [
    "LINE_AXES",
    "PLANE_AXES",
    "Composite",
    "HashSpec",
    "Samples",
    "SplatPlan",
    "Splatted",
    "backends",
    "composite",
    "fused_mlp",
    "hash_encode",
    "keep_memory",
    "library_status",
    "line_product",
    "march",
    "openmp_runtimes",
    "plane_line",
    "ray_index",
    "ray_weights",
    "segment_sum",
    "sparse_adam_step",
    "splat",
    "splat_adjoint",
    "splat_plan",
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
    "splat_plan",
    "splat",
    "splat_adjoint",
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
    _check_three("planes", planes)
    _check_three("lines", lines)
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
    _check_three("lines", lines)
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
    _check_offsets(offsets, len(sigma))
    return _implementation("ray_weights", sigma, dt)(sigma, dt, offsets)


def segment_sum(weights: Tensor, values: Tensor, offsets: Tensor) -> Tensor:
    """Weighted sum over the samples of each ray. Gradients: weights, values.

    weights: [S];  values: [S, C];  offsets: int64 [N+1].  Returns [N, C]; empty rays get zeros.
    """
    check(weights=(weights, "S"), values=(values, "S C"))
    _check_offsets(offsets, len(weights))
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
    _check_offsets(offsets, len(sigma))
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


def splat_plan(
    means_px: Tensor, conics: Tensor, opacities: Tensor, depths: Tensor, size: tuple[int, int]
) -> SplatPlan:
    """Sort Gaussians into the tiles of one view, front to back. No gradient.

    The plan is made once and serves `splat`, its backward pass and `splat_adjoint` as long as the
    means, conics and opacities are the ones it was made of.

    means_px: [N, 2] in pixels, the first of which spans [0, 1].  conics: [N, 3] inverse covariances
    (a, b, c) = [[a, b], [b, c]].  opacities: [N] in [0, 1].  depths: [N], nearer is smaller; equal
    ones keep their order.  size: (H, W).
    Raises InputError for NaN, opacities outside [0, 1] and conics that are not positive
    semi-definite.
    """
    check(
        means_px=(means_px, "N 2"),
        conics=(conics, "N 3"),
        opacities=(opacities, "N"),
        depths=(depths, "N"),
    )
    if min(size) < 1:
        raise UsageError(f"size must be (height, width) of at least 1, got {size}")
    check_finite(means_px=means_px, conics=conics, opacities=opacities, depths=depths)
    _check_each("opacities", (opacities >= 0) & (opacities <= 1), "outside [0, 1]")
    a, b, c = conics.detach().double().unbind(1)
    # A needle's conic is singular to float32.
    proper = (a >= 0) & (c >= 0) & (b * b <= a * c * (1 + 1e-5))
    _check_each("conics", proper, "not positive semi-definite")
    run = _implementation("splat_plan", means_px, conics, opacities, depths)
    return run(means_px, conics, opacities, depths, size)


def splat(
    means_px: Tensor, conics: Tensor, opacities: Tensor, features: Tensor, plan: SplatPlan
) -> Splatted:
    """Composite Gaussians front to back. Gradients: means_px, conics, opacities, features.

    alpha = opacity exp(-(a dx^2 + c dy^2) / 2 - b dx dy), at most 0.99 and nothing below 1/255;
    weight = alpha times the product of 1 - alpha over what is in front; a pixel ends before less
    than 1e-4 of the light would be left (`reference.splats` says why).

    means_px, conics, opacities: as given to `splat_plan`.  features: [N, C], any C.
    Returns Splatted(pixels [H * W, C], opacity [H * W]).
    Source: Kerbl et al., "3D Gaussian Splatting", 2023, eq. 3, with its constants.
    """
    _check_splats(means_px, conics, opacities, plan)
    check(means_px=(means_px, "N 2"), features=(features, "N C"))
    run = _implementation("splat", means_px, conics, opacities, features)
    return run(means_px, conics, opacities, features, plan)


def splat_adjoint(
    means_px: Tensor, conics: Tensor, opacities: Tensor, pixels: Tensor, plan: SplatPlan
) -> Tensor:
    """Sums over the image of weight times pixel, for every Gaussian: the adjoint of `splat`.

    means_px, conics, opacities: as given to `splat_plan`.  pixels: [H * W, C].
    Returns [N, C]; no gradient.
    """
    _check_splats(means_px, conics, opacities, plan)
    check(pixels=(pixels, f"{plan.size[0] * plan.size[1]} C"))
    run = _implementation("splat_adjoint", means_px, conics, opacities, pixels)
    with torch.no_grad():
        return run(means_px, conics, opacities, pixels, plan)


def _check_splats(means_px: Tensor, conics: Tensor, opacities: Tensor, plan: SplatPlan) -> None:
    check(means_px=(means_px, "N 2"), conics=(conics, "N 3"), opacities=(opacities, "N"))
    if len(plan.extents) != len(means_px):
        raise ShapeError(
            f"the plan was made of {len(plan.extents)} splats, but means_px holds {len(means_px)}"
        )


def _check_each(name: str, good: Tensor, what: str) -> None:
    count = int((~good).sum())
    if count:
        first = int((~good).nonzero()[0, 0])
        raise InputError(
            f"{name} holds {count} of {len(good)} that are {what}, the first at index {first}"
        )


def _check_three(name: str, tensors: Sequence[Tensor]) -> None:
    if len(tensors) != 3:
        raise ShapeError(f"{name} must hold 3 tensors, one per axis, got {len(tensors)}")


def _check_offsets(offsets: Tensor, samples: int) -> None:
    check(offsets=(offsets, "_"))
    if offsets.dtype != torch.int64 or len(offsets) == 0:
        raise ShapeError(
            f"offsets must be int64 of shape [N + 1], got {offsets.dtype} {list(offsets.shape)}"
        )
    compiled = library.LIBRARY is not None and offsets.device.type == "cpu"
    end = (cpu if compiled else reference).offsets_end(offsets)
    if end < 0:
        raise ShapeError("offsets must start at 0 and never decrease, these do not")
    if end != samples:
        raise ShapeError(f"offsets end at {end}, but there are {samples} samples")
