"""Pictures of features: their principal components as colours, on the geometry."""

from __future__ import annotations

import torch
from torch import Tensor

from geodistill.cameras import Camera
from geodistill.lift.scenes import BACKGROUND, Scene

SPREAD = 2.5
"""Standard deviations from mid-grey to full colour."""


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


def feature_sheet(scene: Scene, features: Tensor, cameras: Camera) -> Tensor:
    """A row of what cameras see above a row of the features' colours. [2 H, n W, 3] in [0, 1]"""
    colors = principal_colors(features)
    columns = []
    for i in range(len(cameras)):
        look = scene.look(cameras[i], 1.0)
        footprint = look.footprint()
        behind = BACKGROUND * (1.0 - footprint.row_sums()[:, None])
        painted = (footprint.render(colors) + behind).reshape(*cameras.size, 3)
        columns.append(torch.cat([look.image.float(), painted.clamp(0, 1)]))
    return torch.cat(columns, dim=1)
