"""Two small scans with boxes, as losses see them."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from geodistill.distill.losses import Seen
from geodistill.nn.anchor_detector import AnchorDetector, AnchorSettings
from geodistill.nn.bev import Predictions
from geodistill.nn.voxels import VoxelGrid

GRID = VoxelGrid((0.0, -6.4, -3.0), (12.8, 6.4, 1.0), (0.4, 0.4, 4.0), 8, 400)
AREA = (0.0, -6.4, 12.8, 6.4)
BOXES = (
    torch.tensor(
        [
            [6.0, 2.0, -1.0, 3.9, 1.6, 1.5, 0.4],
            [9.0, -3.0, -0.8, 0.8, 0.6, 1.7, 0.0],
            [3.0, -4.0, -0.8, 1.8, 0.6, 1.7, 1.5],
        ]
    ),
    torch.tensor([[5.0, -1.0, -1.0, 4.1, 1.7, 1.5, math.pi / 2]]),
)
LABELS = (torch.tensor([2, 0, 1]), torch.tensor([2]))  # pedestrian, cyclist, car


def detector(compression: int, seed: int, architecture: str = "pointpillars") -> AnchorDetector:
    """With statistics of its own in the batch norms, so that nothing is constant."""
    torch.manual_seed(seed)
    grid = GRID
    if architecture == "second":
        grid = VoxelGrid((0.0, -6.4, -3.0), (12.8, 6.4, 1.0), (0.1, 0.1, 0.1), 5, 2000)
    found = AnchorDetector(
        AnchorSettings(architecture=architecture, compression=compression, grid=grid)  # type: ignore[arg-type]
    )
    for module in found.modules():
        if isinstance(module, torch.nn.BatchNorm1d | torch.nn.BatchNorm2d):
            torch.nn.init.normal_(module.weight, 1, 0.3)
            torch.nn.init.normal_(module.bias, 0, 0.3)
    return found


def clouds(points: int = 700) -> list[Tensor]:
    """Points everywhere, many of them near the sensor."""
    generator = torch.Generator().manual_seed(3)
    found = []
    for k in range(2):
        unit = torch.rand(points - 200 * k, 4, generator=generator)
        unit[:, 0] **= 2
        size, low = torch.tensor([12.8, 12.8, 4, 1]), torch.tensor([0, -6.4, -3, 0])
        found.append(unit * size + low)
    return found


def seen(of: AnchorDetector, trails: bool = False) -> Seen:
    moved = [own[:, None].expand(-1, 2, -1).clone() for own in BOXES]
    for own in moved:
        own[:, 0, 0] += 2.0
        own[:, 1, 0] -= 2.0
    return Seen(
        *(of.prepare(clouds()), BOXES, of.targets(BOXES, LABELS), of.anchors, AREA),
        moved if trails else None,
    )


def maps(
    channels: int, size: int = 16, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, channels, size, size, generator=generator, dtype=dtype)


def heads(seed: int, size: int = 16) -> Predictions:
    generator = torch.Generator().manual_seed(seed)
    count = size * size * 6
    return Predictions(
        torch.randn(2, count, 3, generator=generator) - 1,
        0.2 * torch.randn(2, count, 7, generator=generator),
        torch.randn(2, count, 2, generator=generator),
    )
