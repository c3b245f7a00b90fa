"""One small random problem per kernel, in any dtype, to run through both implementations."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from geodistill import kernels

Outputs = tuple[Tensor, ...]


@dataclass(frozen=True)
class Case:
    """`run(module, *inputs)` calls the kernel of `kernels` or of `kernels.reference`."""

    run: Callable[..., Outputs]
    inputs: tuple[Tensor, ...]

    def outputs_and_gradients(self, module: ModuleType | Any) -> list[Tensor]:
        """Outputs, then gradients of a fixed combination of them to every input."""
        inputs = [v.detach().clone().requires_grad_() for v in self.inputs]
        outputs = self.run(module, *inputs)
        generator = torch.Generator().manual_seed(1)
        grads = [torch.randn(o.shape, generator=generator, dtype=o.dtype) for o in outputs]
        found = torch.autograd.grad(outputs, inputs, grads, allow_unused=True)
        zeros = [
            torch.zeros_like(v) if g is None else g for g, v in zip(found, inputs, strict=True)
        ]
        return [*outputs, *zeros]


def draw(seed: int, dtype: torch.dtype) -> Callable[..., Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return lambda *shape: torch.randn(*shape, generator=generator, dtype=dtype)


def hash_spec(convention: str = "tcnn", features: int = 2) -> kernels.HashSpec:
    """Dense and hashed levels, few entries."""
    return kernels.HashSpec(
        levels=4,
        features=features,
        log2_size=9,
        base_resolution=4,
        max_resolution=40,
        convention=convention,  # pyright: ignore[reportArgumentType]
    )


def hash_case(points: int, dtype: torch.dtype, spec: kernels.HashSpec | None = None) -> Case:
    spec = spec or hash_spec()
    normal = draw(0, dtype)
    x = torch.sigmoid(normal(points, 3))
    table = normal(spec.entries, spec.features)
    return Case(lambda module, x, table: (module.hash_encode(x, table, spec),), (x, table))


def plane_line_case(points: int, dtype: torch.dtype, channels: int = 5) -> Case:
    normal = draw(1, dtype)
    planes = [normal(4 + k, 6 - k, channels) for k in range(3)]
    lines = [normal(3 + k, channels) for k in range(3)]
    x = torch.tanh(normal(points, 3))
    return Case(
        lambda module, x, *parts: (module.plane_line(x, parts[:3], parts[3:]),),
        (x, *planes, *lines),
    )


def line_product_case(points: int, dtype: torch.dtype, channels: int = 5) -> Case:
    normal = draw(2, dtype)
    lines = [normal(3 + k, channels) for k in range(3)]
    x = torch.tanh(normal(points, 3))
    return Case(lambda module, x, *lines: (module.line_product(x, lines),), (x, *lines))


def voxel_case(points: int, dtype: torch.dtype, channels: int = 5) -> Case:
    normal = draw(3, dtype)
    generator = torch.Generator().manual_seed(3)
    links = torch.randperm(4 * 5 * 6, generator=generator).view(4, 5, 6).int() - 40
    values = normal(80, channels)
    x = torch.sigmoid(normal(points, 3)) * torch.tensor([3.0, 4.0, 5.0], dtype=dtype)
    return Case(lambda module, x, values: (module.voxel_interp(x, links, values),), (x, values))


def ray_offsets(rays: int, longest: int) -> Tensor:
    """Ray lengths from 0 to `longest`, with empty rays among them and at both ends."""
    generator = torch.Generator().manual_seed(4)
    counts = torch.randint(0, longest + 1, (rays,), generator=generator)
    if rays > 4:
        counts[[0, 2, 3, -1]] = 0
    return F.pad(counts.cumsum(0), (1, 0))


def densities(samples: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Densities over five orders of magnitude, and step lengths."""
    normal = draw(5, dtype)
    return torch.exp(2.5 * normal(samples)), torch.sigmoid(normal(samples)) * 0.1


def ray_weights_case(rays: int, dtype: torch.dtype, longest: int = 40) -> Case:
    offsets = ray_offsets(rays, longest)
    inputs = densities(int(offsets[-1]), dtype)
    return Case(lambda module, sigma, dt: (module.ray_weights(sigma, dt, offsets),), inputs)


def segment_sum_case(rays: int, dtype: torch.dtype, channels: int = 5, longest: int = 40) -> Case:
    offsets = ray_offsets(rays, longest)
    normal = draw(6, dtype)
    samples = int(offsets[-1])
    return Case(
        lambda module, weights, values: (module.segment_sum(weights, values, offsets),),
        (normal(samples), normal(samples, channels)),
    )


def composite_case(rays: int, dtype: torch.dtype, longest: int = 40) -> Case:
    offsets = ray_offsets(rays, longest)
    normal = draw(7, dtype)
    samples = int(offsets[-1])

    def run(module: Any, sigma: Tensor, dt: Tensor, *values: Tensor) -> Outputs:
        seen = module.composite(sigma, dt, values, offsets)
        return seen.weights, seen.opacity, *seen.sums

    inputs = (
        *densities(samples, dtype),
        normal(samples, 3),
        normal(samples, 1),
        normal(samples, 6),
    )
    return Case(run, inputs)


def mlp_case(points: int, dtype: torch.dtype, widths: tuple[int, ...] = (7, 20, 16, 3)) -> Case:
    normal = draw(8, dtype)
    pairs = itertools.pairwise(widths)
    weights = [normal(outputs, inputs) / inputs**0.5 for inputs, outputs in pairs]
    return Case(
        lambda module, x, *weights: (module.fused_mlp(x, weights),),
        (normal(points, widths[0]), *weights),
    )


CAMERA = torch.tensor([[40.0, 0.5, 23.0], [0.0, 38.0, 17.5], [0.0, 0.0, 1.0]])
SIZE = (35, 46)


def soup(count: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Points [V, 3] and `count` faces around the camera: in view, crossing its plane, behind it."""
    normal = draw(9, dtype)
    corners = normal(count, 1, 3) * 1.5 + normal(count, 3, 3) * 0.6
    corners[..., 2] += 2.0
    faces = torch.arange(3 * count).view(count, 3)
    return corners.reshape(-1, 3), faces


def rasterize_case(count: int, dtype: torch.dtype) -> Case:
    points, faces = soup(count, dtype)
    return Case(
        lambda module, points: (module.rasterize(points, faces, CAMERA, SIZE, 0.3).weights,),
        (points,),
    )


def some_index(pixels: int, elements: int) -> Tensor:
    """int32 [pixels, 3], some of it negative."""
    generator = torch.Generator().manual_seed(10)
    return torch.randint(-3, max(elements, 1), (pixels, 3), generator=generator).int()


def gather_case(pixels: int, dtype: torch.dtype, channels: int = 5, elements: int = 200) -> Case:
    normal, index = draw(10, dtype), some_index(pixels, elements)
    return Case(
        lambda module, features, weights: (module.gather(features, index, weights),),
        (normal(elements, channels), normal(pixels, 3)),
    )


def scatter_case(pixels: int, dtype: torch.dtype, channels: int = 5, elements: int = 200) -> Case:
    normal, index = draw(11, dtype), some_index(pixels, elements)
    return Case(
        lambda module, values, weights: (module.scatter(values, index, weights, elements),),
        (normal(pixels, channels), normal(pixels, 3)),
    )


def conics_of(deviations: Tensor, angles: Tensor) -> Tensor:
    """Inverse covariances [N, 3] of ellipses with axes `deviations` [N, 2], turned by `angles`."""
    cos, sin = angles.cos(), angles.sin()
    axes = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
    form = axes @ torch.diag_embed(deviations**-2) @ axes.mT
    return torch.stack([form[:, 0, 0], form[:, 0, 1], form[:, 1, 1]], dim=1)


def splat_geometry(
    count: int, dtype: torch.dtype, size: tuple[int, int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Means, conics, opacities and depths of ellipses that reach over the image's borders."""
    normal = draw(9, dtype)
    means = torch.sigmoid(normal(count, 2)) * 1.3 - 0.15
    means = means * torch.tensor([size[1], size[0]], dtype=dtype)
    conics = conics_of(0.5 + 2.5 * torch.sigmoid(normal(count, 2)), 3 * normal(count))
    return means, conics, torch.sigmoid(normal(count)), normal(count)


def splat_case(
    count: int, dtype: torch.dtype, channels: int = 5, size: tuple[int, int] = (37, 53)
) -> Case:
    means, conics, opacities, depths = splat_geometry(count, dtype, size)

    def run(module: Any, *inputs: Tensor) -> Outputs:
        plan = module.splat_plan(*inputs[:3], depths.to(inputs[0].device), size)
        return tuple(module.splat(*inputs, plan))

    return Case(run, (means, conics, opacities, draw(10, dtype)(count, channels)))


CASES: dict[str, Callable[[int, torch.dtype], Case]] = {
    "hash_encode": hash_case,
    "plane_line": plane_line_case,
    "line_product": line_product_case,
    "voxel_interp": voxel_case,
    "ray_weights": ray_weights_case,
    "segment_sum": segment_sum_case,
    "composite": composite_case,
    "fused_mlp": mlp_case,
    "rasterize": rasterize_case,
    "gather": gather_case,
    "scatter": scatter_case,
    "splat": splat_case,
}
"""The differentiable kernels: (points or rays, dtype) -> Case."""


def assert_close(found: list[Tensor], expected: list[Tensor], tolerance: float) -> None:
    """Differences relative to the largest number of each tensor."""
    for index, (a, b) in enumerate(zip(found, expected, strict=True)):
        assert a.shape == b.shape and a.dtype == b.dtype, f"tensor {index}"
        if b.numel():
            scale = max(float(b.detach().abs().max()), 1e-6)
            error = float((a - b).detach().abs().max()) / scale
            assert error <= tolerance, f"tensor {index}: relative difference {error}"
