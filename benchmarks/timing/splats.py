"""Splats: the plan of a view, and compositing with its gradients."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from geodistill import kernels
from geodistill.kernels import SplatPlan, reference
from geodistill.kernels.reference.splats import MAX_ALPHA, MIN_ALPHA, STOP, TILE
from timing.measure import Case, Form, Outputs

SIZE = (256, 256)
SPLATS = 20_000
TILES_AT_ONCE = 16
Geometry = tuple[Tensor, Tensor, Tensor]


def scene() -> tuple[Geometry, Tensor]:
    """Ellipses of 0.7 to 3 pixels all over the image; means, conics and opacities, and depths."""
    means = torch.rand(SPLATS, 2) * torch.tensor([SIZE[1], SIZE[0]])
    deviations = 0.7 + 2.3 * torch.rand(SPLATS, 2)
    angle = torch.pi * torch.rand(SPLATS)
    axes = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1).view(-1, 2, 2)
    form = axes @ torch.diag_embed(deviations**-2) @ axes.mT
    conics = torch.stack([form[:, 0, 0], form[:, 0, 1], form[:, 1, 1]], 1)
    return (means, conics, torch.rand(SPLATS)), torch.rand(SPLATS)


def plan_case() -> Case:
    """20 k splats into the tiles of a 256 x 256 image."""
    arguments = (*(geometry_and_depths := scene())[0], geometry_and_depths[1], SIZE)

    def bounds(make: Form) -> Form:
        return lambda: make(*arguments).offsets  # pyright: ignore[reportCallIssue]

    forms = {"reference": bounds(reference.splat_plan)}
    return Case("splat_plan 20 k, 256^2", bounds(kernels.splat_plan), forms)


def splat_case(channels: int) -> Case:
    """20 k splats at 256 x 256: image and opacity, gradients to geometry and features."""
    geometry, depths = scene()
    plan = kernels.splat_plan(*geometry, depths, SIZE)
    features = torch.rand(SPLATS, channels)
    learned = [v.requires_grad_() for v in (*geometry, features)]

    def ours() -> Outputs:
        return tuple(kernels.splat(*geometry, features, plan))

    forms = splat_forms(geometry, features, plan)
    return Case(f"splat 20 k, 256^2, {channels} channels", ours, forms, learned)


def splat_forms(geometry: Geometry, features: Tensor, plan: SplatPlan) -> dict[str, Form]:
    """What torch offers for it, each with the plan at hand."""
    return {
        "tile by tile, cumprod": lambda: tuple(reference.splat(*geometry, features, plan)),
        "padded tiles, cumprod + bmm": lambda: padded_tiles(geometry, features, plan),
        "sorted pairs, index_add": lambda: sorted_pairs(geometry, features, plan),
        "sorted pairs, segment_reduce": lambda: sorted_pairs(geometry, features, plan, True),
    }


def centres(tile: Tensor) -> Tensor:
    """[..., 256, 2] pixel centres of tiles [...]; the image is made of whole tiles."""
    columns = SIZE[1] // TILE
    side = torch.arange(TILE) + 0.5
    inside = torch.stack(torch.meshgrid(side, side, indexing="xy"), -1).reshape(-1, 2)
    return torch.stack([tile % columns, tile // columns], -1)[..., None, :] * TILE + inside


def alphas(at: Tensor, elements: Tensor, geometry: Geometry) -> Tensor:
    """[..., 256] at pixel centres [..., 256, 2] of elements [...]."""
    means, conics, opacities = (v[elements] for v in geometry)
    dx, dy = (at - means[..., None, :]).unbind(-1)
    a, b, c = (v[..., None] for v in conics.unbind(-1))
    form = 0.5 * (a * dx * dx + c * dy * dy) + b * dx * dy
    alpha = (opacities[..., None] * torch.exp(-form)).clamp(max=MAX_ALPHA)
    return alpha.where(alpha >= MIN_ALPHA, 0.0)


def batches(plan: SplatPlan) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Tiles of about one length together: tiles [T], elements [T, K], and which of them are any."""
    counts = plan.offsets.diff()
    for tiles in counts.argsort().split(TILES_AT_ONCE):
        rank = torch.arange(int(counts[tiles].max()))
        given = rank < counts[tiles, None]
        index = (plan.offsets[tiles, None] + rank).where(given, 0)
        yield tiles, plan.elements[index].long(), given


def padded_tiles(geometry: Geometry, features: Tensor, plan: SplatPlan) -> Outputs:
    order, images, totals = [], [], []
    for tiles, elements, given in batches(plan):
        alpha = alphas(centres(tiles)[:, None], elements, geometry) * given[..., None]
        after = (1 - alpha).cumprod(1)
        before = F.pad(after[:, :-1], (0, 0, 1, 0), value=1.0)
        weights = (before * alpha).where(after >= STOP, 0.0)
        order.append(tiles)
        images.append(torch.bmm(weights.mT, features[elements]))
        totals.append(weights.sum(1))
    place = torch.cat(order).argsort()
    return rows(torch.cat(images)[place]), rows(torch.cat(totals)[place][..., None])[:, 0]


def rows(tiles: Tensor) -> Tensor:
    """[tiles, 256, C] -> [H * W, C]"""
    grid = tiles.view(SIZE[0] // TILE, SIZE[1] // TILE, TILE, TILE, -1)
    return grid.transpose(1, 2).reshape(SIZE[0] * SIZE[1], -1)


def sorted_pairs(
    geometry: Geometry, features: Tensor, plan: SplatPlan, reduce: bool = False
) -> Outputs:
    """Every pixel's splats as a run of pairs: cumulative sums of log(1 - alpha) along the runs."""
    tile = kernels.ray_index(plan.offsets)
    elements = plan.elements.long()
    with torch.no_grad():
        entry, inner = (alphas(centres(tile), elements, geometry) > 0).nonzero(as_tuple=True)
        at = centres(tile)[entry, inner]
        pixel = at[:, 1].long() * SIZE[1] + at[:, 0].long()
        pixel, order = torch.sort(pixel, stable=True)
        element, at = elements[entry[order]], at[order]
        counts = torch.bincount(pixel, minlength=SIZE[0] * SIZE[1])
        first = (counts.cumsum(0) - counts)[pixel]
    alpha = alphas(at[:, None], element, geometry)[:, 0]
    passed = torch.log1p(-alpha)
    total = passed.double().cumsum(0)
    before = total - passed
    light = torch.exp(before - before[first])
    weights = (light * alpha).where(light * (1 - alpha) >= STOP, 0.0).float()
    values = weights[:, None] * features[element]
    if reduce:
        sums = torch.segment_reduce(values, "sum", lengths=counts, axis=0)
    else:
        sums = torch.zeros(len(counts), features.shape[1]).index_add(0, pixel, values)
    return sums, torch.zeros(len(counts)).index_add(0, pixel, weights)
