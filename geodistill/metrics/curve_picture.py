"""Pictures of precision over recall."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from geodistill.metrics.kitti import LEVELS, KittiReport
from geodistill.metrics.nuscenes import DISTANCES_M, NuscenesReport

SIZE, LEFT, TOP, GAP = 260, 44, 26, 30
INK, FRAME = (30, 30, 34), (214, 214, 220)
SHADES = ((40, 120, 220), (230, 130, 30), (150, 150, 160), (60, 160, 90))
"""Of the levels, or the distances."""
Line = tuple[str, np.ndarray]  # what it is called, and precision at even recalls


def curve_picture(report: KittiReport | NuscenesReport, classes: Sequence[str]) -> Tensor:
    """Precision over recall, a row for each class, with AP: of KITTI a column for each view and a
    line for each level (AP40), of nuScenes a line for each distance.

    Returns:
        float32 [H, W, 3], 0 to 1.
    """
    rows = [_panels(report, name) for name in classes]
    width = LEFT + len(rows[0]) * (SIZE + GAP + LEFT)
    height = len(classes) * (SIZE + GAP + TOP) + TOP
    image = Image.new("RGB", (width, height), (255, 255, 255))
    draw = ImageDraw.Draw(image)
    for row, panels in enumerate(rows):
        for column, (title, lines) in enumerate(panels.items()):
            x, y = LEFT + column * (SIZE + GAP + LEFT), TOP + row * (SIZE + GAP + TOP)
            _panel(draw, x, y, title)
            for number, (text, precision) in enumerate(lines):
                places = np.linspace(0, 1, len(precision))
                at = [
                    (x + float(r) * SIZE, y + (1 - float(p)) * SIZE)
                    for r, p in zip(places, precision, strict=True)
                ]
                draw.line(at, fill=SHADES[number], width=2)
                draw.text((x + 8, y + SIZE - 16 * (len(lines) - number)), text, fill=SHADES[number])
    return torch.from_numpy(np.asarray(image).astype(np.float32) / 255)


def _panels(report: KittiReport | NuscenesReport, name: str) -> dict[str, list[Line]]:
    if isinstance(report, NuscenesReport):
        curves = [(limit, report.curves[name, limit]) for limit in DISTANCES_M]
        return {name: [(f"{limit:g} m {curve.ap:.1f}", curve.precision) for limit, curve in curves]}
    panels = {}
    for view in ("bev", "3d"):
        own = [(level, report.curves[name, view, level]) for level in LEVELS]
        panels[f"{name}, {view}"] = [(f"{one} {c.ap40:.1f}", c.precision) for one, c in own]
    return panels


def _panel(draw: ImageDraw.ImageDraw, x: int, y: int, title: str) -> None:
    for k in range(6):
        at = SIZE * k / 5
        draw.line([x + at, y, x + at, y + SIZE], fill=FRAME)
        draw.line([x, y + at, x + SIZE, y + at], fill=FRAME)
        draw.text((x + at - 8, y + SIZE + 3), f"{k / 5:.1f}", fill=INK)
        draw.text((x - 24, y + SIZE - at - 6), f"{k / 5:.1f}", fill=INK)
    draw.text((x, y - 16), f"{title}: precision over recall", fill=INK)
