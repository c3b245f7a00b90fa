"""How faithful one representation of a scene is to another, or to photographs of it."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from geodistill.cameras import Camera
from geodistill.checks import InputError
from geodistill.geometry.fields import Field
from geodistill.io.images import write_png
from geodistill.io.posed import Background, PosedImages
from geodistill.log import progress
from geodistill.metrics.image import SSIM_WINDOW_PX, eight_bit, mean_psnr, psnr, ssim
from geodistill.render.fields import GBuffer
from geodistill.render.viewable import Viewable, field_or_viewable
from geodistill.render.viewpoints import viewpoints
from geodistill.shade.color import srgb_from_linear

Scene = Field | Viewable
BACKGROUND = 1.0
OPAQUE = 0.5
SHEET_VIEWS = 4


@dataclass(frozen=True)
class Comparison:
    """The measurements of `compare`, and the pictures they were taken on.

    Attributes:
        report: JSON-able figures.
        sheet: uint8 [H, W, 3], rows of A | B | difference.
    """

    report: dict[str, Any]
    sheet: Tensor

    def save_sheet(self, path: Path) -> None:
        write_png(path, self.sheet)


def compare(
    a: Scene, b: Scene, views: int = 20, resolution: int = 200, seed: int = 0
) -> Comparison:
    """Render both scenes from the same seeded viewpoints of A and compare.

    PSNR (`mean_psnr`) and SSIM are means over views of whole 8-bit images on white. Opacity IoU
    compares the sets of pixels more than half opaque, over all views. Depth error is the median
    absolute difference where both are opaque, relative to the diagonal of A's cube.

    Args:
        a: the original.
        b: what is judged against it.
        views: number of viewpoints.
        resolution: pixels along an image's longer side.
        seed: of the viewpoints.

    Raises:
        InputError: one scene is sRGB, the other linear.
    """
    return _compare(a, b, viewpoints(field_or_viewable(a), views, resolution, seed), None)


def compare_on_views(
    a: Scene, b: Scene, data: PosedImages, background: float = BACKGROUND
) -> Comparison:
    """The same from a data set's cameras over a grey background, with both scenes' PSNR to its
    images beside it.

    Raises:
        InputError: scenes and images are not all sRGB or all linear.
    """
    return _compare(a, b, data.cameras, data, background)


def shown_on(data: PosedImages, background: Background) -> float:
    """The grey that pictures are compared with the images on: what is behind the object in them,
    white behind alpha. Raises as `PosedImages.behind`."""
    behind = data.behind(background)
    return BACKGROUND if behind is None else behind


def psnr_to_images(scene: Scene, data: PosedImages, background: float = BACKGROUND) -> float:
    """Mean PSNR in dB over a data set's views: whole 8-bit images on a grey background.

    Raises:
        InputError: scene and images are not both sRGB or both linear.
    """
    seen = field_or_viewable(scene)
    _expect_one_space({"the scene": seen.color_space, "the images": data.color_space})
    scores: list[float] = []
    with progress(len(data.cameras), "test views") as bar:
        for i in range(len(data.cameras)):
            picture = _picture(seen.view(data.cameras[i]), background)
            scores.append(psnr(picture, _photograph(data, i, background)))
            bar.advance()
    return mean_psnr(scores)


def _compare(
    one: Scene,
    two: Scene,
    cameras: Camera,
    data: PosedImages | None,
    background: float = BACKGROUND,
) -> Comparison:
    start = time.perf_counter()
    a, b = field_or_viewable(one), field_or_viewable(two)
    spaces = {"A": a.color_space, "B": b.color_space}
    _expect_one_space(spaces if data is None else {**spaces, "the images": data.color_space})
    scores: list[float] = []
    similar: list[float] = []
    truth: list[tuple[float, float]] = []
    rows: list[Tensor] = []
    gaps: list[Tensor] = []
    both = either = 0
    shown = set(torch.linspace(0, len(cameras) - 1, SHEET_VIEWS).round().int().tolist())
    with progress(len(cameras), "comparing views") as bar:
        for i in range(len(cameras)):
            view_a, view_b = a.view(cameras[i]), b.view(cameras[i])
            image_a, image_b = _picture(view_a, background), _picture(view_b, background)
            scores.append(psnr(image_b, image_a))
            if min(image_a.shape[:2]) >= SSIM_WINDOW_PX:
                similar.append(ssim(image_b, image_a))
            # Meshes and points are drawn on the CPU whatever device the other is on.
            solid_a, solid_b = (view.opacity.cpu() > OPAQUE for view in (view_a, view_b))
            both += int((solid_a & solid_b).sum())
            either += int((solid_a | solid_b).sum())
            gap = (view_a.depth.cpu() - view_b.depth.cpu()).abs()
            gaps.append(gap[solid_a & solid_b])
            if data is not None:
                photograph = _photograph(data, i, background)
                truth.append((psnr(image_a, photograph), psnr(image_b, photograph)))
            if i in shown:
                difference = (image_a - image_b).abs().mul(4.0).clamp(max=1.0)
                seen = [image_a, image_b]
                if a.color_space == "linear":
                    seen = [srgb_from_linear(image) for image in seen]
                rows.append(torch.cat([*seen, difference], dim=1))
            bar.advance()
    diagonal = 2.0 * math.sqrt(3.0) * float(a.frame.s)
    gap = torch.cat(gaps)
    report: dict[str, Any] = {
        "psnr_db": mean_psnr(scores),
        "ssim": sum(similar) / len(similar) if similar else None,
        "opacity_iou": both / either if either else 1.0,
        "depth_error": float(gap.median()) / diagonal if len(gap) else None,
        "views": len(cameras),
        "parameters": b.parameter_count(),
        "seconds": time.perf_counter() - start,
    }
    if truth:
        report["truth_psnr_db_a"] = mean_psnr([t[0] for t in truth])
        report["truth_psnr_db_b"] = mean_psnr([t[1] for t in truth])
    return Comparison(report, (torch.cat(rows) * 255.0).round().to(torch.uint8))


def _expect_one_space(spaces: Mapping[str, str]) -> None:
    if len(set(spaces.values())) > 1:
        found = ", ".join(f"{what} {space}" for what, space in spaces.items())
        raise InputError(f"colours of different spaces cannot be compared, and these are: {found}")


def _picture(view: GBuffer, background: float) -> Tensor:
    return eight_bit(view.over(background)).cpu()


def _photograph(data: PosedImages, i: int, background: float) -> Tensor:
    return eight_bit(data.composite(data.images[i], background))
