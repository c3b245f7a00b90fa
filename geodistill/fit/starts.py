"""Where splats begin: on known points, on the visual hull, or anywhere in the scene's box."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill.cameras import Camera, Similarity
from geodistill.checks import InputError
from geodistill.fit.bounds import carve_scene, open_scene
from geodistill.fit.photographs import premultiplied
from geodistill.geometry.fields.activations import SH_C0
from geodistill.geometry.points import Points, neighbours
from geodistill.geometry.splats import Splats
from geodistill.io.posed import PosedImages
from geodistill.log import say
from geodistill.rays import project

FEWEST = 16
"""Points that are fewer say nothing of a scene."""
GREY = 0.5
NEIGHBOURS = 3
WIDTHS = (1e-5, 0.1)
"""Least and greatest standard deviation at the start, in the extent of the cameras."""
FARTHEST = 1e4
"""Distance from the cameras' middle, in their extent, beyond which a point is a mistake."""
EXTENT = 1.1
"""Of the scene, in the largest distance of a camera from the middle of all (as in 3DGS)."""


def frame_of(cameras: Camera) -> Similarity:
    """The world from the frame in which splats are trained: the cameras' middle is its origin, and
    its unit is their extent.

    Raises:
        InputError: all cameras stand in one place.
    """
    centers = cameras.centers.double()
    middle = centers.mean(dim=0)
    extent = EXTENT * float((centers - middle).norm(dim=1).max())
    if not extent > 1e-9 * float(middle.norm()):
        raise InputError("all cameras stand in one place: a scene needs views from several places")
    return Similarity(torch.eye(3, dtype=torch.float64), middle, extent)


def without_far(points: Points, frame: Similarity) -> Points | None:
    """Points without those that are out of all proportion to the cameras, of which one line says
    how many; None where none is left."""
    far = ~(frame.inverse().apply(points.positions).norm(dim=1) <= FARTHEST)
    if not bool(far.any()):
        return points
    say(f"left out {int(far.sum())} of {len(points)} points, which are far from all cameras")
    return None if bool(far.all()) else points[~far]


def points_of_data(data: PosedImages, background: float | None, count: int, seed: int) -> Points:
    """`count` coloured points in the world where the pictures say that something may be.

    They lie on the surface of the hull that the pictures' alpha leaves, or anywhere in the box
    about the cameras' focus where there is none. A point has the mean colour of the pixels that it
    falls on, whatever may be before it.

    Args:
        background: as `PosedImages.behind` says it; None where alpha does.

    Raises:
        InputError: as `carve_scene` and `open_scene`.
    """
    draw = torch.Generator().manual_seed(seed)
    if background is None:
        frame, cells = carve_scene(data.cameras, data.images[..., 3])
        shell = (cells & ~_inner(cells)).nonzero()
        chosen = shell[torch.randint(len(shell), (count,), generator=draw)]
        places = chosen + torch.rand(count, 3, generator=draw, dtype=torch.float64)
        u = places * (2.0 / len(cells)) - 1.0
    else:
        frame, _ = open_scene(data.cameras)
        u = torch.rand(count, 3, generator=draw, dtype=torch.float64) * 2.0 - 1.0
    positions = frame.apply(u)
    colors = F.pad(mean_colors(data, positions), (0, 1), value=1.0)
    return Points(positions, (colors * 255).round().to(torch.uint8))


def mean_colors(data: PosedImages, positions: Tensor) -> Tensor:
    """The mean over views of the pixels that points [N, 3] fall on, weighted by alpha; grey where
    there is none. float32 [N, 3] in [0, 1]"""
    sums = torch.zeros(len(positions), 4)
    height, width = data.cameras.size
    for i in range(len(data.cameras)):
        uv, _ = project(data.cameras[i].to(dtype=torch.float64), positions)
        x, y = torch.floor(uv.nan_to_num(-1.0)).long().unbind(-1)
        seen = ((x >= 0) & (x < width) & (y >= 0) & (y < height)).nonzero()[:, 0]
        pixels = data.images[i][y[seen], x[seen]]
        sums[seen] += premultiplied(data, pixels)
    mean = sums[:, :3] / sums[:, 3:].clamp_min(1e-6)
    return torch.where(sums[:, 3:] > 1e-3, mean, GREY).clamp(0.0, 1.0)


def splats_at(
    points: Points, frame: Similarity, width: float, opacity: float, degree: int
) -> Splats:
    """Round splats at points, in `frame`.

    Standard deviations are `width` times the root mean square distance of the nearest three points.

    Args:
        points: at least `FEWEST`, in the world.
        frame: world from the result's frame.
        degree: of the harmonics, which are zero beyond the points' colours.
    """
    local = frame.inverse().apply(points.positions)
    near = neighbours(replace(points, positions=local), NEIGHBOURS)
    square = (local[near] - local[:, None]).square().sum(dim=-1).mean(dim=1)
    scales = (width * square.sqrt()).clamp(*WIDTHS).float()
    sh = torch.zeros(len(points), (degree + 1) ** 2, 3)
    if points.colors is not None:
        sh[:, 0] = (points.colors[:, :3].float() / 255 - 0.5) / SH_C0
    return Splats(
        local.float(),
        torch.tensor([1.0, 0.0, 0.0, 0.0]).repeat(len(points), 1),
        scales.log()[:, None].repeat(1, 3),
        torch.full((len(points),), opacity).logit(),
        sh,
    )


def _inner(cells: Tensor) -> Tensor:
    """Cells [G, G, G] whose six neighbours are all True."""
    padded = F.pad(cells, (1,) * 6)
    inner = cells.clone()
    for axis in range(3):
        for shift in (0, 2):
            part = padded.narrow(axis, shift, cells.shape[axis])
            for other in range(3):
                if other != axis:
                    part = part.narrow(other, 1, cells.shape[other])
            inner &= part
    return inner
