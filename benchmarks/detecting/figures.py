"""Parameters and multiply-adds of detectors, beside the published ones."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from rows import Row
from torch import Tensor, nn

from geodistill.nn.anchor_detector import AnchorDetector, AnchorSettings
from geodistill.nn.point_detector import PointDetector
from geodistill.nn.point_settings import PointSettings
from geodistill.nn.pointpillars import KITTI_GRID as PILLARS
from geodistill.nn.second import KITTI_GRID as VOXELS

PUBLISHED = {
    ("pointpillars", 1): (4.835, 34.3),
    ("pointpillars", 4): (1.217, 9.0),
    ("pointpillars", 16): (0.309, 2.5),
    ("second", 1): (5.326, 69.8),
    ("second", 4): (1.343, 17.8),
    ("second", 16): (0.341, 4.6),
    ("pointrcnn", 1): (4.039, 104.9),
    ("pointrcnn", 8): (0.517, 13.7),
    ("pointrcnn", 16): (0.258, 7.1),
}
"""Millions of parameters by the published widths: printed with one digit, and the losses' layers
are in that; 10^9 operations as printed (PointDistiller, table 1)."""
PROPOSALS = 512
CLOSE, PRINTED = 0.01, 0.05


def rows() -> list[Row]:
    found = []
    for (architecture, compression), (parameters, operations) in PUBLISHED.items():
        detector: AnchorDetector | PointDetector
        if architecture == "pointrcnn":
            detector = PointDetector(PointSettings(compression=compression))
            products, all_ = of_points(detector)
        else:
            grid = VOXELS if architecture == "second" else PILLARS
            detector = AnchorDetector(AnchorSettings(architecture, compression, grid))
            products, all_ = of_maps(detector)
        name = f"{architecture} {compression}x"
        count = sum(p.numel() for p in detector.parameters()) / 1e6
        found += [
            Row(
                f"{name}, million parameters",
                f"{count:.4g}",
                f"{parameters:g} to {CLOSE:.0%}",
                abs(count / parameters - 1) <= CLOSE,
            ),
            Row(
                f"{name}, 10^9 operations as published",
                f"{all_ / 1e9:.4g} (multiply-adds {products / 1e9:.4g})",
                f"{operations:.1f} as printed",
                abs(all_ / 1e9 - operations) <= PRINTED,
            ),
        ]
    return found


class Operations:
    """Counts what parts of a network do whenever they run.

    Attributes:
        products: multiply-adds of layers.
        all: as the published figures count, to the last printed digit: multiply-adds, one for each
            bias, two for each value of a norm and one of an activation, and parts as often as
            `published` says.
    """

    def __init__(self, parts: Sequence[nn.Module], each: int = 1, published: int = 1) -> None:
        self.products = self.all = 0
        for layer in (one for part in parts for one in part.modules()):
            if not list(layer.children()):
                layer.register_forward_hook(self._counted(each, published))

    def _counted(self, each: int, published: int) -> Any:
        def count(layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
            products, more = _operations(layer, inputs[0], output)
            self.products += each * products
            self.all += each * published * (products + more)

        return count


def _operations(layer: nn.Module, given: Tensor, output: Tensor) -> tuple[int, int]:
    """Multiply-adds of a layer, and what else it does."""
    if isinstance(layer, nn.Linear | nn.Conv2d | nn.ConvTranspose2d):
        side = given if isinstance(layer, nn.ConvTranspose2d) else output
        places = side.numel() // side.shape[min(1, side.dim() - 1)]
        return places * prod(layer.weight.shape), output.numel() * (layer.bias is not None)
    if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
        return 0, 2 * output.numel()
    return 0, output.numel() * isinstance(layer, nn.ReLU)


@torch.no_grad()
def of_points(detector: PointDetector) -> tuple[int, int]:
    """Multiply-adds and published operations for one scan, of both stages. In the published figures
    `neck` and `head` are there twice."""
    torch.manual_seed(0)
    settings, network = detector.settings, detector.eval().network
    some = 2  # proposals; each costs the same
    first = Operations([network.backbone])
    twice = Operations([network.neck, network.head], published=2)
    second = Operations([network.refiner], each=PROPOSALS // some)
    found = network(detector.prepare([torch.rand(settings.points, settings.values) * 30]))
    network.refiner(torch.rand(some, settings.pooled, 5 + found.features.shape[-1]))
    counted = (first, twice, second)
    return sum(one.products for one in counted), sum(one.all for one in counted)


@torch.no_grad()
def of_maps(detector: AnchorDetector) -> tuple[int, int]:
    """The same of backbone, neck and head, on the map, for one scan."""
    settings = detector.settings
    x, y, _ = settings.grid.cells
    stride = 1 if settings.architecture == "pointpillars" else 8
    network = detector.network.to("meta")
    counted = Operations([network.backbone, network.neck, network.head])
    channels = next(network.backbone.parameters()).shape[1]
    image = torch.zeros(1, channels, y // stride, x // stride, device="meta")
    network.head(network.neck(network.backbone(image)))
    return counted.products, counted.all
