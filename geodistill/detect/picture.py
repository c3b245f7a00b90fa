"""Pictures of scans from above and from the sensor, with boxes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from geodistill.detect.boxes import corners, corners_bev
from geodistill.detect.scenes import Detections

BACKGROUND, LABELLED = (18, 20, 26), (245, 245, 245)
COLORS = ((90, 200, 255), (255, 190, 70), (190, 255, 110), (255, 130, 220), (170, 150, 255))
"""Of classes, one after the other."""
REACH_PX = 1e5
"""Pillow cannot draw to places that are much farther off the picture."""
_EDGES = (
    *((0, 1), (1, 2), (2, 3), (3, 0), (4, 5), (5, 6), (6, 7), (7, 4)),
    *((0, 4), (1, 5), (2, 6), (3, 7)),
)
_AWAY_M = (3.0, 8.0, 20.0, 60.0)
_AWAY_RGB = ((255, 235, 130), (245, 140, 90), (190, 80, 150), (70, 70, 190))


@dataclass(frozen=True, eq=False)
class Outlines:
    """Boxes that are drawn alike.

    Attributes:
        boxes: [M, 7].
        color: red, green and blue, 0 to 255.
        texts: beside each box, where no earlier one is; none for no texts.
        dashed: whether outlines have gaps.
    """

    boxes: Tensor
    color: tuple[int, int, int]
    texts: Sequence[str] = ()
    dashed: bool = False


def outlines_of(found: Detections, classes: Sequence[str]) -> list[Outlines]:
    """Of each class in its colour, with names and scores."""
    outlines = []
    for number, name in enumerate(classes):
        own = found.labels == number
        texts = [f"{name} {score:.2f}" for score in found.scores[own].tolist()]
        outlines.append(Outlines(found.boxes[own], COLORS[number % len(COLORS)], texts))
    return outlines


def bird_view(
    points: Tensor,
    outlines: Sequence[Outlines],
    area: tuple[float, float, float, float],
    px_per_m: float = 12.0,
) -> Tensor:
    """A scan from above: x up, y to the left, points brighter the higher they are.

    Args:
        points: [N, F], x, y and z in metres.
        area: least x and y, largest x and y in metres.

    Returns:
        float32 [H, W, 3], 0 to 1.
    """
    low_x, low_y, high_x, high_y = area
    width, height = round((high_y - low_y) * px_per_m), round((high_x - low_x) * px_per_m)

    def place(xy: np.ndarray) -> np.ndarray:
        return np.stack([(high_y - xy[..., 1]) * px_per_m, (high_x - xy[..., 0]) * px_per_m], -1)

    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = BACKGROUND
    xyz = points[:, :3].cpu().double().numpy()
    xyz = xyz[np.argsort(xyz[:, 2], kind="stable")]
    at = np.floor(place(xyz))
    seen = ((at >= 0) & (at < [width, height])).all(1)
    column, row = at[seen].astype(int).T
    tone = np.clip((xyz[seen, 2] + 2.0) / 3.5, 0, 1)[:, None]
    low, high = np.array([70.0, 80, 110]), np.array([255.0, 225, 150])
    canvas[row, column] = (low + tone * (high - low)).astype(np.uint8)
    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    size = np.array([width, height])
    written: list[tuple[float, ...]] = []
    for one in outlines:
        around = place(corners_bev(one.boxes.cpu().double()).numpy())
        for k, plan in enumerate(around):
            if not ((plan.max(0) >= 0) & (plan.min(0) <= size)).all():
                continue  # outside, or nowhere
            plan = np.clip(plan, -REACH_PX, REACH_PX)
            _outline(draw, plan, one)
            if one.texts:
                corner = float(plan[:, 0].max() + 3), float(plan[:, 1].min() - 4)
                place_taken = draw.textbbox(corner, one.texts[k])
                if not any(_overlap(place_taken, other) for other in written):
                    draw.text(corner, one.texts[k], fill=one.color)
                    written.append(place_taken)
    return torch.from_numpy(np.asarray(image).astype(np.float32) / 255)


def range_view(
    points: Tensor,
    outlines: Sequence[Outlines],
    area: tuple[float, float, float, float] = (-20.0, -42.0, 4.0, 42.0),
    px_per_degree: float = 7.15,
) -> Tensor:
    """A scan as its sensor has it: azimuth to the right, elevation upwards, points from yellow to
    blue the farther they are.

    Args:
        points: [N, F], x, y and z in metres.
        area: least elevation and azimuth, largest elevation and azimuth in degrees.

    Returns:
        float32 [H, W, 3], 0 to 1.
    """
    low_up, low_left, high_up, high_left = area
    width, height = (
        round((high - low) * px_per_degree)
        for low, high in ((low_left, high_left), (low_up, high_up))
    )

    def place(xyz: np.ndarray) -> np.ndarray:
        left = np.degrees(np.arctan2(xyz[..., 1], xyz[..., 0]))
        up = np.degrees(np.arctan2(xyz[..., 2], np.hypot(xyz[..., 0], xyz[..., 1])))
        return np.stack([(high_left - left) * px_per_degree, (high_up - up) * px_per_degree], -1)

    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:] = BACKGROUND
    xyz = points[:, :3].cpu().double().numpy()
    away = np.linalg.norm(xyz, axis=1)
    order = np.argsort(-away, kind="stable")
    at = np.floor(place(xyz[order])).astype(int)
    tones = [np.interp(away[order], _AWAY_M, tone) for tone in zip(*_AWAY_RGB, strict=True)]
    colors = np.stack(tones, 1).astype(np.uint8)
    for down in (0, 1, 2):  # rings are some pixels apart
        row, column = at[:, 1] + down, at[:, 0]
        seen = (row >= 0) & (row < height) & (column >= 0) & (column < width)
        canvas[row[seen], column[seen]] = colors[seen]
    image = Image.fromarray(canvas)
    draw = ImageDraw.Draw(image)
    for one in outlines:
        for around in corners(one.boxes.cpu().double()).numpy():
            for start, end in _EDGES:
                between = np.linspace(around[start], around[end], 9)
                if (between[:, 0] > 0).all():  # what reaches behind would cross the whole picture
                    line = [(float(x), float(y)) for x, y in place(between)]
                    draw.line(line, fill=one.color, width=1)
    return torch.from_numpy(np.asarray(image).astype(np.float32) / 255)


def _overlap(one: Sequence[float], two: Sequence[float]) -> bool:
    """Whether two rectangles, left, top, right and bottom, do."""
    return one[0] < two[2] and two[0] < one[2] and one[1] < two[3] and two[1] < one[3]


def _outline(draw: ImageDraw.ImageDraw, corners: np.ndarray, one: Outlines) -> None:
    """Four sides, and a line from the middle to the front."""
    ends = [(corners[k], corners[(k + 1) % 4]) for k in range(4)]
    ends.append((corners.mean(0), (corners[0] + corners[1]) / 2))
    for start, end in ends:
        parts = np.linspace(start, end, 12) if one.dashed else np.stack([start, end])
        for a, b in zip(parts[::2], parts[1::2], strict=True):
            draw.line([*map(float, a), *map(float, b)], fill=one.color, width=1)
