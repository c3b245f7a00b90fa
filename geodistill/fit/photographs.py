"""Pictures of a data set as training looks at them: through pinholes, and smaller at first."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill.cameras import Camera
from geodistill.checks import InputError
from geodistill.io.posed import PosedImages
from geodistill.rays import distort, fold_radius2

ZOOM_STEP, MOST_ZOOM = 1.01, 4.0


def reduced(data: PosedImages, view: int, factor: int) -> tuple[Camera, Tensor]:
    """One view at 1 / `factor` of its size: means over squares of pixels.

    Rows and columns that fill no square are left out.

    Returns:
        the camera, and float32 [h, w, 4], premultiplied.
    """
    height, width = (side // factor for side in data.cameras.size)
    pixels = premultiplied(data, data.images[view, : height * factor, : width * factor])
    image = F.avg_pool2d(pixels.permute(2, 0, 1), factor).permute(1, 2, 0)
    camera = data.cameras[view]
    scale = camera.K.new_tensor([[1.0 / factor], [1.0 / factor], [1.0]])
    return replace(camera, K=camera.K * scale, size=(height, width)), image


def shrunk(data: PosedImages, factor: int) -> PosedImages:
    """The same pictures at 1 / `factor` of their size, as `reduced` makes them."""
    if factor == 1:
        return data
    views = [reduced(data, view, factor) for view in range(len(data.cameras))]
    images = torch.stack([_stored(data, image) for _, image in views])
    K = torch.stack([camera.K for camera, _ in views])
    return replace(data, cameras=replace(data.cameras, K=K, size=views[0][0].size), images=images)


def _stored(data: PosedImages, pixels: Tensor) -> Tensor:
    """Premultiplied pixels [..., 4] as the data set stores its own."""
    if data.has_alpha and not data.premultiplied:
        alpha = pixels[..., 3:]
        pixels = torch.cat([pixels[..., :3] / alpha.clamp_min(1e-6), alpha], dim=-1)
    pixels = pixels[..., : data.images.shape[-1]]
    if data.images.dtype != torch.uint8:
        return pixels
    return (pixels * 255).round().clamp(0, 255).to(torch.uint8)


def premultiplied(data: PosedImages, pixels: Tensor) -> Tensor:
    """Pixels of the images [..., 3 | 4] as float32 [..., 4]; alpha is 1 where there is none."""
    color = data.composite(pixels, 0.0)
    behind = data.composite(pixels, 1.0) - color
    return torch.cat([color, 1.0 - behind[..., :1]], dim=-1)


def pinholes(data: PosedImages) -> PosedImages:
    """The same pictures without their lenses' distortion, resampled bilinearly.

    Each is zoomed in as far as is needed for every pixel to have been photographed; a data set
    without distortion is returned as it is.

    Raises:
        InputError: a lens that leaves less than a quarter of the picture's width.
    """
    cameras = data.cameras
    if cameras.distortion is None or not bool(cameras.distortion.any()):
        return replace(data, cameras=replace(cameras, distortion=None))
    images, K = torch.empty_like(data.images), cameras.K.clone()
    for i in range(len(cameras)):
        camera = cameras[i].to(dtype=torch.float64)
        zoom = _zoom(camera, data.names[i])
        K[i, :2, :2] *= zoom
        pixels = premultiplied(data, data.images[i])
        grid = _photographed(camera, zoom, *_centers(camera.size))[0]
        size = torch.tensor([camera.size[1], camera.size[0]])
        sampled = F.grid_sample(
            pixels.permute(2, 0, 1)[None],
            (2 * grid / size - 1).float().view(1, *camera.size, 2),
            padding_mode="border",
            align_corners=False,
        )[0].permute(1, 2, 0)
        images[i] = _stored(data, sampled)
    return replace(data, cameras=replace(cameras, K=K, distortion=None), images=images)


def _zoom(camera: Camera, name: str) -> float:
    x, y = _centers(camera.size)
    height, width = camera.size
    edge = (x < 1) | (y < 1) | (x > width - 1) | (y > height - 1)
    size = torch.tensor([width, height])
    zoom = 1.0
    while zoom < MOST_ZOOM:
        found, before_fold = _photographed(camera, zoom, x[edge], y[edge])
        if bool((before_fold & (found >= 0).all(dim=1) & (found <= size).all(dim=1)).all()):
            return zoom
        zoom *= ZOOM_STEP
    raise InputError(
        f"the lens of {name} distorts so strongly that a pinhole would see little of its picture: "
        "check its coefficients, or undistort the images"
    )


def _photographed(camera: Camera, zoom: float, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Where pixel coordinates [N] of the zoomed pinhole are in the distorted picture, [N, 2], and
    whether the lens maps them there one to one, [N]."""
    K = camera.K
    assert camera.distortion is not None
    v = (y - K[1, 2]) / (K[1, 1] * zoom)
    u = (x - K[0, 2] - K[0, 1] * zoom * v) / (K[0, 0] * zoom)
    slopes = torch.stack([u, v], dim=1)
    bent = distort(slopes, camera.distortion)
    place = bent @ K[:2, :2].T + K[:2, 2]
    return place, slopes.square().sum(dim=1) < fold_radius2(camera.distortion)


def _centers(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """x and y of all pixels' centres, row by row. float64 [H * W]"""
    y, x = torch.meshgrid(
        *(torch.arange(side, dtype=torch.float64) + 0.5 for side in size), indexing="ij"
    )
    return x.reshape(-1), y.reshape(-1)
