"""Where the scene is: its cube and its occupancy, carved from the images' alpha."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill.cameras import Camera, Similarity
from geodistill.checks import InputError
from geodistill.geometry.fields.base import OCCUPANCY_RESOLUTION
from geodistill.rays import project

MARGIN = 1.05
COARSE = 16
PASSES = 3
SEARCH_RESOLUTION = 64
SEEN_FRACTION = 0.5
"""Space that fewer cameras see, relative to what most of them see, is not part of the scene."""
FAR_PX = 24
MASK_PIXELS = 256
"""Masks are reduced to this many pixels a side: cells of a 128^3 grid cover several of them."""


def focus(cameras: Camera) -> tuple[Tensor, float]:
    """The point nearest to all optical axes, in the least-squares sense, and the median distance
    of the cameras from it. ([3], world units)

    Raises:
        InputError: the cameras stand in one place, or most have that point behind them.
    """
    centers = cameras.centers.double()
    axes = cameras.world_from_cam[:, :3, 2].double()
    projector = torch.eye(3, dtype=torch.float64) - axes[:, :, None] * axes[:, None, :]
    normal = projector.sum(dim=0)
    # Parallel axes leave the point free along them: the centroid is the least-norm answer.
    mean = centers.mean(dim=0)
    if (centers - mean).norm(dim=1).max() <= 1e-9 * mean.norm():
        raise InputError("all cameras stand in one place: a scene needs views from several places")
    rhs = (projector @ (centers - mean)[:, :, None]).sum(dim=0)[:, 0]
    point = mean + torch.linalg.pinv(normal, rtol=1e-4) @ rhs
    distances = (centers - point).norm(dim=1)
    behind = ((point - centers) * axes).sum(dim=1) < -0.5 * distances
    meet = torch.linalg.eigvalsh(normal)[0] > 1e-4 * len(centers)
    if meet and behind.double().mean() > 0.5:
        raise InputError(
            "most cameras look away from what they could have in common: check the axes of their "
            "poses (OpenGL's y and z point the other way than OpenCV's)"
        )
    return point, float(distances.median())


def carve_scene(cameras: Camera, alpha: Tensor) -> tuple[Similarity, Tensor]:
    """The tight cube around what the masks allow, and the occupancy they allow in it.

    A cell stays if it falls on foreground in every image that sees it (the visual hull,
    Laurentini 1994). Images without any foreground have no say.

    Args:
        cameras: V cameras.
        alpha: [V, H, W], foreground where it is above 0.

    Returns:
        world_from_field and bool [128, 128, 128].

    Raises:
        InputError: the masks agree on no point in space.
    """
    shown = (alpha > 0).flatten(1).any(dim=1)
    if not shown.any():
        raise InputError("every image is transparent everywhere: check the alpha channel")
    center, distance = focus(cameras)
    cameras, gaps = _foreground_distance(cameras[shown].to(dtype=torch.float64), alpha[shown] > 0)
    cube = Similarity(torch.eye(3, dtype=torch.float64), center, distance)
    for _ in range(PASSES):  # each pass sees the object in a tighter cube, hence at finer cells
        cube = _cube_around(cube, _carve(cameras, gaps, cube, SEARCH_RESOLUTION))
    return cube, _carve(cameras, gaps, cube, OCCUPANCY_RESOLUTION)


def open_scene(cameras: Camera) -> tuple[Similarity, Tensor]:
    """The cube around the cameras' focus that reaches as far behind it as they stand before it."""
    center, distance = focus(cameras)
    everything = torch.ones((OCCUPANCY_RESOLUTION,) * 3, dtype=torch.bool)
    return Similarity(torch.eye(3, dtype=torch.float64), center, distance), everything


def shrinkage(size: tuple[int, int]) -> int:
    """Pixels of an image per pixel, along an edge, of the mask that the hull is carved from."""
    return math.ceil(max(size) / MASK_PIXELS)


def _foreground_distance(cameras: Camera, mask: Tensor) -> tuple[Camera, Tensor]:
    """Distance of each pixel from the foreground (Chebyshev, at most FAR_PX), at a reduced size.

    Returns:
        the cameras of the reduced images, and uint8 [V, h, w].
    """
    shrink = shrinkage(cameras.size)
    image = F.max_pool2d(mask[:, None].float(), shrink, ceil_mode=True)[:, 0]
    gaps = torch.zeros(image.shape, dtype=torch.uint8)
    for _ in range(FAR_PX):
        gaps += image == 0
        image = F.max_pool2d(image[:, None], 3, stride=1, padding=1)[:, 0]
    scale = torch.tensor([1.0 / shrink, 1.0 / shrink, 1.0], dtype=torch.float64)
    height, width = gaps.shape[1:]
    return replace(cameras, K=cameras.K * scale[:, None], size=(height, width)), gaps


def _carve(cameras: Camera, gaps: Tensor, cube: Similarity, resolution: int) -> Tensor:
    """bool [G, G, G], some of it True: coarse cells first, then the survivors' children.

    Raises InputError where no cell survives.
    """
    index = torch.cartesian_prod(*[torch.arange(COARSE)] * 3)
    size = COARSE
    while True:
        index = index[_on_foreground(cameras, gaps, cube, index, size)]
        if len(index) == 0:
            raise InputError(
                "no point in space lies on the foreground of every image that sees it: "
                "check the camera poses and the alpha channel"
            )
        if size == resolution:
            break
        children = torch.cartesian_prod(*[torch.arange(2)] * 3)
        index = (2 * index[:, None, :] + children).reshape(-1, 3)
        size *= 2
    grid = torch.zeros((resolution,) * 3, dtype=torch.bool)
    grid[tuple(index.unbind(-1))] = True
    return grid


def _on_foreground(
    cameras: Camera, gaps: Tensor, cube: Similarity, index: Tensor, size: int
) -> Tensor:
    """Which cells [N, 3] of a grid over the cube touch the foreground wherever they are seen."""
    local = cube.inverse().apply_camera(cameras).to(dtype=torch.float32)
    points = (index + 0.5) * (2.0 / size) - 1.0
    reach = math.sqrt(3.0) / size
    keep = torch.ones(len(points), dtype=torch.bool)
    seen = torch.zeros(len(points))
    height, width = cameras.size
    for v in range(len(cameras)):
        camera = local[v]
        alive = keep.nonzero()[:, 0]
        uv, depth = project(camera, points[alive])
        x, y = torch.floor(uv.nan_to_num(-1.0)).long().unbind(-1)
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        gap = gaps[v][y.clamp(0, height - 1), x.clamp(0, width - 1)]
        radius_px = float(camera.K[:2, :2].max()) * reach / depth.clamp_min(reach) + 1.0
        keep[alive] = ~inside | (gap <= radius_px) | (radius_px >= FAR_PX)
        seen[alive] += inside
    return keep & (seen > 0) & (seen >= SEEN_FRACTION * seen.amax(dim=0))


def _cube_around(cube: Similarity, cells: Tensor) -> Similarity:
    size = cells.shape[0]
    index = cells.nonzero().double()
    low = index.amin(dim=0) * (2.0 / size) - 1.0
    high = (index.amax(dim=0) + 1.0) * (2.0 / size) - 1.0
    center = cube.apply(((low + high) / 2)[None])[0]
    half = float((high - low).max()) / 2 * float(cube.s) * MARGIN
    return Similarity(cube.R, center, half)
