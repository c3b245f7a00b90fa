"""A point cloud seen through a camera: its footprint, and how large its points should be."""

from __future__ import annotations

import torch
from torch import Tensor

from geodistill import kernels
from geodistill.cameras import Camera
from geodistill.checks import InputError, UsageError, check
from geodistill.rays import all_pixels
from geodistill.render.indexed import IndexedFootprint, in_camera, pinhole

MOST = 4
"""Points that a pixel sees at most."""
NEAR = 1.0
"""The near plane, in radii: nearer points would fill the image."""
SPACINGS = 2.5
"""Default radius in median distances to the nearest neighbour: of points that are spread over a
surface at random, discs of this radius leave less than a hundredth uncovered."""
_SAMPLE = 10_000


class PointFootprint(IndexedFootprint):
    """Pixels are those of the image, row by row, elements are points.

    Each point is a disc parallel to the image. A pixel sees the `MOST` nearest discs that cover its
    centre and are no more than the radius behind the nearest of them. With r the distance to a
    disc's centre over the radius, its weight is 1 - r^2, divided by the sum of the weights where
    that exceeds 1.
    """

    @classmethod
    def seen_by(
        cls,
        camera: Camera,
        positions: Tensor,
        radius: float,
        dtype: torch.dtype = torch.float32,
    ) -> PointFootprint:
        """The footprint of one pinhole camera; differentiable in positions at fixed visibility.

        Args:
            camera: one camera without distortion.
            positions: float64 [N, 3] in the world.
            radius: of the points, in world units; see `default_radius`.
            dtype: of the weights.

        Raises UsageError for a batch of cameras, a lens with distortion or a radius that is not
        positive.
        """
        check(positions=(positions, "N 3"))
        if not 0 < radius < float("inf"):
            raise UsageError(f"a point's radius must be positive and finite, got {radius}")
        camera = pinhole(camera)
        points = in_camera(positions, camera).to(dtype)
        near = NEAR * radius
        seen = kernels.nearest_points(points, radius, camera.K, camera.size, near, MOST)
        index = seen.view(-1, MOST)
        return cls(index, _weights(points, index, radius, camera), len(positions))


def default_radius(positions: Tensor, seed: int = 0) -> float:
    """A radius that closes most gaps of a surface: `SPACINGS` times the points' median spacing.

    The spacing is the distance to the nearest other point, of a sample of the points drawn from
    `seed`; points at one place count as one.

    Raises InputError where no two points are apart.
    """
    check(positions=(positions, "N 3"))
    from scipy.spatial import KDTree

    places = positions.detach().double().cpu()
    places = places[places.isfinite().all(-1)]
    for own in (places, places.unique(dim=0)):  # the latter where most have a twin at their place
        draw = torch.Generator().manual_seed(seed)
        sample = own[torch.randperm(len(own), generator=draw)[:_SAMPLE]]
        if len(own) > 1:
            distance, _ = KDTree(own.numpy()).query(sample.numpy(), k=2)
            apart = torch.from_numpy(distance)[:, 1]
            if 2 * len(apart[apart > 0]) >= len(apart):
                return SPACINGS * float(apart[apart > 0].median())
    raise InputError(
        f"no spacing can be taken from {len(positions)} points, no two of which are apart: a "
        "cloud needs more to be drawn"
    )


def _weights(points: Tensor, index: Tensor, radius: float, camera: Camera) -> Tensor:
    """[pixels, MOST], zero where there is no point."""
    covered = (index[:, 0] >= 0).nonzero()[:, 0]
    some = index[covered]
    K = camera.K
    pixels = all_pixels(camera.size, points.device)[covered] + 0.5
    y = (pixels[:, 1] - K[1, 2]) / K[1, 1]
    x = (pixels[:, 0] - K[0, 2] - K[0, 1] * y) / K[0, 0]
    rays = torch.stack([x, y], -1).to(points)
    discs = points[some.clamp_min(0).long()]
    offset = rays[:, None] * discs[..., 2:] - discs[..., :2]
    inside = (1 - offset.square().sum(-1) / radius**2).clamp_min(0.0)
    weights = torch.where(some >= 0, inside, 0.0)
    weights = weights / weights.sum(1, keepdim=True).clamp_min(1.0)
    return points.new_zeros(len(index), MOST).index_copy(0, covered, weights)
