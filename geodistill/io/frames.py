"""What every layout of posed images comes down to: frames with a lens, a pose and files."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from geodistill import log
from geodistill.cameras import Camera
from geodistill.checks import InputError

MAX_SIDE_PX = 100_000
FARTHEST_LENS = 1e4
"""Bounds a focal length from above and, inverted, from below, in units of the image's side."""
FARTHEST = 1e15
"""Bounds a camera's distance from the origin."""
OUT_OF_PROPORTION = 1e4
"""Distance of a camera from the cameras' middle, relative to the median of what is not 0."""


@dataclass(frozen=True)
class Lens:
    """Intrinsics as a file states them; what is None follows from the rest or the image size."""

    fx: float | None = None
    fy: float | None = None
    cx: float | None = None
    cy: float | None = None
    angle_x_rad: float | None = None
    angle_y_rad: float | None = None
    distortion: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)

    def matrix(self, size: tuple[int, int]) -> list[list[float]]:
        """K for `size` (H, W): square pixels and a centred principal point unless stated."""
        height, width = size
        fx = self.fx if self.fx is not None else _focal(self.angle_x_rad, width)
        fy = self.fy if self.fy is not None else _focal(self.angle_y_rad, height)
        fx, fy = fx or fy, fy or fx
        assert fx is not None and fy is not None, "a lens needs a focal length or an angle"
        cx = 0.5 * width if self.cx is None else self.cx
        cy = 0.5 * height if self.cy is None else self.cy
        return [[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]]

    def scaled(self, x: float, y: float) -> Lens:
        """Of pictures so many times as wide and as high."""
        pixels = ((self.fx, x), (self.fy, y), (self.cx, x), (self.cy, y))
        fx, fy, cx, cy = (None if value is None else value * by for value, by in pixels)
        return replace(self, fx=fx, fy=fy, cx=cx, cy=cy)


@dataclass(frozen=True)
class Frame:
    """One picture of a data set. `size` (H, W) is None where the file does not state it."""

    name: str
    image: Path | None
    lens: Lens
    world_from_cam: np.ndarray  # [4, 4] float64, OpenCV axes, the user's frame
    size: tuple[int, int] | None = None
    mask: Path | None = None


@dataclass(frozen=True)
class FrameSet:
    """The frames of a split. `source` is the file that errors name."""

    source: Path
    frames: list[Frame]
    metadata: dict[str, Any] = field(default_factory=dict)


def common_size(frames: list[Frame], source: Path) -> tuple[int, int] | None:
    """The size (H, W) that frames declare, None if none does, InputError for several sizes."""
    declared = [frame for frame in frames if frame.size is not None]
    for frame in declared:
        if frame.size != declared[0].size:
            raise InputError(
                f"{source} declares {size_text(declared[0].size)} for {declared[0].name} but "
                f"{size_text(frame.size)} for {frame.name}: all pictures of a data set must have "
                "one size, resize or crop them"
            )
    return declared[0].size if declared else None


def of_pictures(frames: list[Frame], size: tuple[int, int], source: Path) -> list[Frame] | None:
    """Frames of pictures of `size` (H, W): those of smaller or larger ones than the declared have
    their lenses scaled, with a line. None where their proportions are others, beyond a pixel."""
    declared = common_size(frames, source)
    if declared is None or declared == size:
        return frames
    y, x = (own / known for own, known in zip(size, declared, strict=True))
    if abs(declared[0] * x - size[0]) > 1 and abs(declared[1] * y - size[1]) > 1:
        return None
    log.say(
        f"the pictures of {source} are {size_text(size)} and its cameras of {size_text(declared)}: "
        "these are scaled"
    )
    return [replace(frame, lens=frame.lens.scaled(x, y), size=size) for frame in frames]


def to_camera(
    frames: list[Frame], size: tuple[int, int], source: Path, dtype: torch.dtype
) -> Camera:
    """A batch [V]. Raises InputError when `dtype` is too coarse for where the cameras are."""
    K = torch.tensor([frame.lens.matrix(size) for frame in frames], dtype=dtype)
    _expect_lenses(frames, size, source)
    world_from_cam = torch.from_numpy(np.stack([frame.world_from_cam for frame in frames]))
    _expect_together(world_from_cam[:, :3, 3], frames, source)
    _expect_resolved(world_from_cam[:, :3, 3], source, dtype)
    distortion = None
    if any(any(frame.lens.distortion) for frame in frames):
        distortion = torch.tensor([frame.lens.distortion for frame in frames], dtype=dtype)
    return Camera(K, world_from_cam.to(dtype), size, distortion)


def size_text(size: tuple[int, int] | None) -> str:
    return f"{size[1]}x{size[0]}" if size else "no size"


def _focal(angle_rad: float | None, side_px: int) -> float | None:
    return None if angle_rad is None else 0.5 * side_px / math.tan(0.5 * angle_rad)


def _expect_lenses(frames: list[Frame], size: tuple[int, int], source: Path) -> None:
    """Intrinsics that no camera has: images in other units than pixels, or a slip of the pen."""
    side = max(size)
    for frame in frames:
        (fx, _, cx), (_, fy, cy), _ = frame.lens.matrix(size)
        if not all(side / FARTHEST_LENS < focal < side * FARTHEST_LENS for focal in (fx, fy)):
            raise InputError(
                f"{source}: the focal length of {frame.name} is {fx:.4g} x {fy:.4g} pixels, its "
                f"image {size_text(size)}: correct the intrinsics"
            )
        if not max(abs(cx), abs(cy), *map(abs, frame.lens.distortion)) < side * FARTHEST_LENS:
            raise InputError(
                f"{source}: the principal point of {frame.name} is {cx:.4g}, {cy:.4g}, its "
                f"distortion {', '.join(f'{k:.4g}' for k in frame.lens.distortion)}: correct the "
                "intrinsics"
            )


def _expect_together(centers: torch.Tensor, frames: list[Frame], source: Path) -> None:
    """A single camera out of all proportion is a mistake, and would make the scene as large."""
    away = (centers - centers.median(dim=0).values).norm(dim=-1)
    if not away.any():
        return
    usual, worst = float(away[away > 0].median()), int(away.argmax())
    if float(away[worst]) > OUT_OF_PROPORTION * usual:
        raise InputError(
            f"{source}: the camera of {frames[worst].name} stands {float(away[worst]):.3g} from "
            f"the others' middle, they {usual:.3g}: correct its pose or remove it"
        )


def _expect_resolved(centers: torch.Tensor, source: Path, dtype: torch.dtype) -> None:
    """Geographic coordinates do not fit float32: distances would be rounding noise."""
    far = float(centers.abs().max())
    if not far < FARTHEST:
        raise InputError(f"{source}: a camera is {far:.4g} from the origin: correct its pose")
    extent = float((centers - centers.mean(0)).norm(dim=-1).max())
    if far > 1e5 and far * torch.finfo(dtype).eps > 1e-4 * extent:
        raise InputError(
            f"{source}: the cameras are {far:.4g} from the origin but only {extent:.4g} apart, "
            f"which {str(dtype).removeprefix('torch.')} cannot resolve: subtract a common offset "
            "from their positions"
        )
