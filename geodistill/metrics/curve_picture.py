"""Pictures of precision over recall."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from geodistill.metrics.kitti import LEVELS, POSITIONS, KittiReport

SIZE, LEFT, TOP, GAP = 260, 44, 26, 30
INK, FRAME = (30, 30, 34), (214, 214, 220)
SHADES = ((40, 120, 220), (230, 130, 30), (150, 150, 160))
"""Of the levels."""


def curve_picture(
    report: KittiReport, classes: Sequence[str], views: Sequence[str] = ("bev", "3d")
) -> Tensor:
    """Precision over recall, a row for each class and a column for each view, a line for each level
    with its AP40.

    Returns:
        float32 [H, W, 3], 0 to 1.
    """
    width = LEFT + len(views) * (SIZE + GAP + LEFT)
    height = len(classes) * (SIZE + GAP + TOP) + TOP
    image = Image.new("RGB", (width, height), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    for row, name in enumerate(classes):
        for column, view in enumerate(views):
            x, y = LEFT + column * (SIZE + GAP + LEFT), TOP + row * (SIZE + GAP + TOP)
            _panel(draw, x, y, f"{name}, {view}")
            for number, level in enumerate(LEVELS):
                curve = report.curves[name, view, level]
                places = np.arange(POSITIONS) / (POSITIONS - 1)
                at = [
                    (x + float(r) * SIZE, y + (1 - float(p)) * SIZE)
                    for r, p in zip(places, curve.precision, strict=True)
                ]
                draw.line(at, fill=SHADES[number], width=2)
                text = f"{level} {curve.ap40:.1f}"
                draw.text((x + 8, y + SIZE - 16 * (3 - number)), text, fill=SHADES[number])
    return torch.from_numpy(np.asarray(image).astype(np.float32) / 255)


def _panel(draw: ImageDraw.ImageDraw, x: int, y: int, title: str) -> None:
    for k in range(6):
        at = SIZE * k / 5
        draw.line([x + at, y, x + at, y + SIZE], fill=FRAME)
        draw.line([x, y + at, x + SIZE, y + at], fill=FRAME)
        draw.text((x + at - 8, y + SIZE + 3), f"{k / 5:.1f}", fill=INK)
        draw.text((x - 24, y + SIZE - at - 6), f"{k / 5:.1f}", fill=INK)
    draw.text((x, y - 16), f"{title}: precision over recall", fill=INK)
