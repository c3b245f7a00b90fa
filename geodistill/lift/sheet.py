"""Pictures of what elements carry: features, heat and labels as colours, on the geometry."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from geodistill.cameras import Camera
from geodistill.checks import check
from geodistill.lift.scene import Look, Scene
from geodistill.lift.scenes import BACKGROUND, GREY

VIEWS = 4
"""Views of a sheet."""
SPREAD = 2.5
"""Standard deviations from mid-grey to full colour."""
_LUMINANCE = (0.2126, 0.7152, 0.0722)
_HEAT = ((0.99, 0.78, 0.35), (0.93, 0.36, 0.16), (0.55, 0.0, 0.15))
"""From little to much."""
_GOLDEN = 0.6180339887498949
_LABELS = 0.8
"""How much labels cover what is below them."""


@dataclass(frozen=True, eq=False)
class Paint:
    """What covers the elements in a picture: colours [N, 3] in [0, 1], and how much of each is
    seen over the grey picture of the geometry, [N] in [0, 1]."""

    colors: Tensor
    cover: Tensor

    def __post_init__(self) -> None:
        check(colors=(self.colors, "N 3"), cover=(self.cover, "N"))

    def over_grey(self) -> Tensor:
        """Colours [N, 3] for a geometry that shows nothing else."""
        cover = self.cover[:, None]
        return self.colors * cover + GREY * (1 - cover)


def principal_colors(features: Tensor) -> Tensor:
    """The first three principal components as colours. [N, C] -> [N, 3] in [0, 1]

    Signs are fixed by the largest entry of each axis, so the same features have the same colours.
    """
    centred = features.double() - features.double().mean(dim=0)
    _, axes = torch.linalg.eigh(centred.T @ centred)
    axes = axes[:, -3:].flip(1)
    largest = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))
    scores = centred @ (axes * torch.where(largest < 0, -1.0, 1.0))
    spread = scores.std(dim=0).clamp_min(1e-12) if len(scores) > 1 else 1.0
    colors = torch.full((len(features), 3), 0.5, dtype=torch.float64)
    colors[:, : scores.shape[1]] += 0.5 * scores / (SPREAD * spread)
    return colors.clamp(0.0, 1.0).float()


def feature_paint(features: Tensor) -> Paint:
    """`principal_colors` of features [N, C] over everything."""
    return Paint(principal_colors(features), torch.ones(len(features)))


def heat_paint(weights: Tensor) -> Paint:
    """Weights [N] in [0, 1] from nothing over yellow to dark red."""
    check(weights=(weights, "N"))
    weights = weights.float().clamp(0, 1)
    ramp = torch.tensor(_HEAT)
    place = weights * (len(ramp) - 1)
    low = place.long().clamp(max=len(ramp) - 2)
    part = (place - low)[:, None]
    return Paint(ramp[low] * (1 - part) + ramp[low + 1] * part, weights)


def label_colors(count: int) -> Tensor:
    """Colours [count, 3] in [0, 1] that differ in hue, neighbours most."""
    hues = [(0.02 + i * _GOLDEN) % 1 for i in range(count)]
    return torch.tensor([colorsys.hsv_to_rgb(hue, 0.75, 0.95) for hue in hues]).view(count, 3)


def label_paint(labels: Tensor, held: Tensor | None = None) -> Paint:
    """Labels int64 [N] from 0 as colours; where `held` bool [N] says so, if given."""
    check(labels=(labels, "N"))
    colors = label_colors(int(labels.max()) + 1)[labels]
    cover = torch.full((len(labels),), _LABELS)
    return Paint(colors, cover if held is None else cover * held)


def sheet(scene: Scene, cameras: Camera, paints: Sequence[Paint]) -> Tensor:
    """What cameras see of a scene, and below it a row for each paint. [(1 + P) H, n W, 3]"""
    columns = []
    for i in range(len(cameras)):
        look = scene.look(cameras[i], 1.0)
        pictures = torch.cat([look.image.float(), *_painted(look, paints)])
        columns.append(pictures.clamp(0, 1).cpu())
    return torch.cat(columns, dim=1)


def _painted(look: Look, paints: Sequence[Paint]) -> list[Tensor]:
    """The picture of a look under each paint. [H, W, 3]"""
    footprint = look.footprint()
    grey = (look.image.float() @ look.image.new_tensor(_LUMINANCE).float())[..., None]
    # Where a paint covers all of a pixel's part of the geometry, the background alone is behind.
    back = (1.0 - footprint.row_sums()).reshape(*grey.shape) * BACKGROUND
    pictures = []
    for paint in paints:
        cover = paint.cover[:, None]
        carried = torch.cat([paint.colors * cover, cover], dim=1)
        shown = footprint.render(carried.to(grey.device)).reshape(*grey.shape[:2], 4)
        full = footprint.row_sums().reshape(*grey.shape).clamp_min(1e-6)
        part = shown[..., 3:] / full
        pictures.append(shown[..., :3] + part * back + (1 - part) * grey)
    return pictures
