"""Pictures of what only the server can draw: coarse ones at once, finer ones while nothing moves.

A picture is rendered in bands of rows. Between two bands a newer camera may take over, so that no
camera waits long, however large the canvas is.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from geodistill.cameras import Camera
from geodistill.render.viewable import Viewable
from geodistill.shade.color import srgb_from_linear
from geodistill.viewer.protocol import PictureHeader

FIRST_SIDE_PX = 96
"""The longer side of the first picture ever, before anything has been measured."""
LEAST_SIDE_PX = 48
FRAME_SECONDS = 0.09
"""What a picture may take while the camera moves: about ten a second arrive."""
BAND_SECONDS = 0.12
"""What a band may take: a newer camera waits no longer."""
FINER = 2.0
"""From one picture of a resting camera to the next, along each side."""
FORGET = 0.5


@dataclass(frozen=True)
class Pace:
    """How fast a scene renders: seconds per pixel, None until something has been measured."""

    seconds_per_pixel: float | None = None

    def after(self, pixels: int, seconds: float) -> Pace:
        """What is known after `pixels` took `seconds`; recent pictures count most."""
        found = max(seconds, 1e-6) / pixels
        if self.seconds_per_pixel is None:
            return Pace(found)
        return Pace(self.seconds_per_pixel + FORGET * (found - self.seconds_per_pixel))

    def pixels_in(self, seconds: float) -> float:
        if self.seconds_per_pixel is None:
            return float(FIRST_SIDE_PX**2)
        return seconds / self.seconds_per_pixel


def sizes(canvas: tuple[int, int], pace: Pace, moving: bool) -> list[tuple[int, int]]:
    """Sizes (H, W) of the pictures that a camera gets, each finer than the one before; the last one
    of a camera at rest is the canvas itself."""
    height, width = canvas
    longer = max(canvas)
    within = math.sqrt(pace.pixels_in(FRAME_SECONDS) * longer / min(canvas))
    if pace.seconds_per_pixel is None:
        within = FIRST_SIDE_PX
    side = min(float(longer), max(LEAST_SIDE_PX, within))
    found = []
    while side < longer / math.sqrt(FINER):
        scale = side / longer
        found.append((max(1, round(height * scale)), max(1, round(width * scale))))
        side *= FINER
    found.append(canvas)
    return found[:1] if moving else found


def bands(size: tuple[int, int], pace: Pace) -> Iterator[tuple[int, int]]:
    """Runs of rows (first, count) of a picture, none longer than it takes `BAND_SECONDS`."""
    height, width = size
    rows = max(1, min(height, int(pace.pixels_in(BAND_SECONDS) / width)))
    for first in range(0, height, rows):
        yield first, min(rows, height - first)


def scaled_to(camera: Camera, size: tuple[int, int]) -> Camera:
    """The same view in a picture of another size."""
    ratio = [size[1] / camera.size[1], size[0] / camera.size[0], 1.0]
    return replace(camera, K=camera.K * camera.K.new_tensor(ratio)[:, None], size=size)


def band_of(camera: Camera, first: int, count: int) -> Camera:
    """The camera that sees only these rows of the picture."""
    K = camera.K.clone()
    K[1, 2] -= first
    return replace(camera, K=K, size=(count, camera.size[1]))


def render_band(scene: Viewable, camera: Camera, first: int, count: int) -> tuple[bytes, float]:
    """Rows of a picture as RGBA (display-referred, straight alpha, 8 bits), and the seconds."""
    began = time.perf_counter()
    with torch.no_grad():
        seen = scene.view(band_of(camera, first, count))
        alpha = seen.opacity[..., None]
        color = seen.color / alpha.clamp_min(1e-6)
        if scene.color_space == "linear":
            color = srgb_from_linear(color.clamp_min(0.0))
        rgba = torch.cat([color, alpha], dim=-1).clamp(0.0, 1.0)
        pixels = (rgba * 255).round().to(torch.uint8).cpu().numpy().tobytes()
    return pixels, time.perf_counter() - began


def header(id: int, size: tuple[int, int], first: int, count: int, final: bool) -> PictureHeader:
    return PictureHeader(id, size[1], size[0], first, count, final)
