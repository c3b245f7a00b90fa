"""Views of a surface fused into one signed distance on a grid.

Curless and Levoy, "A Volumetric Method for Building Complex Models from Range Images", 1996: a node
takes the weighted mean of how far in front of each view's surface it lies, truncated. Here a node
that no view looks past is inside, so that what is behind all that is seen is solid: nothing that is
hidden inside a scene can make a surface, and every surface is closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill.checks import InputError
from geodistill.log import progress
from geodistill.rays import camera_rays
from geodistill.render.surfaces import SurfaceView

TRUNCATION = 2
"""Steps of the grid on each side of a surface in which a view measures distance. Behind the surface
it counts less and less (Bylow et al. 2013): of a thin thing, the other side is what is there."""
FREE, HIDDEN = 0.3, 0.014
"""Weight of a view of which a node's pixel shows nothing at all, and of one in which the node is
hidden, against 1 of one that looks straight at a surface near it."""
LEAST_COSINE = 0.1
BLOCK = 4
"""Nodes along the side of the blocks in which those near a surface are found."""
MARGIN = TRUNCATION + 1
"""Steps of the grid beyond what is seen."""
TAIL = 0.01
"""Share of the points on each side of each axis beyond which one is left out that is farther off
than half of what lies between them: a few specks would spend the grid on empty space."""
FEWEST = 100
"""Pixels that show a surface, in all views together."""


@dataclass(frozen=True, eq=False)
class DistanceGrid:
    """Signed distances [X, Y, Z] at nodes `low + step * index`, positive outside, truncated."""

    values: Tensor
    low: Tensor  # float64 [3] in the world
    step: float


def fused(views: Sequence[SurfaceView], resolution: int) -> DistanceGrid:
    """Fuse views into a grid of about `resolution` nodes along the longest side of what they show.

    Raises InputError where they show hardly anything.
    """
    points = torch.cat([view.points() for view in views])
    low, high = _box(points) if len(points) >= FEWEST else (torch.zeros(3).double(),) * 2
    step = float((high - low).max()) / resolution
    if not step > 0:
        raise InputError(
            "there is no surface to make a mesh of: the scene is empty, or transparent everywhere"
        )
    low = low - MARGIN * step
    shape = [int(n) for n in ((high - low) / step).ceil() + MARGIN + 1]
    near = _near_blocks((points - low) / step, shape)
    lenses = [_Lens.of(view, low) for view in views]
    signs = _coarse(near, lenses, step)
    values = _by_nodes(signs * TRUNCATION * step, shape)
    index = _nodes_of(near | _turning(signs), shape)
    fine = _votes(index.float() * step, lenses, step, "fusing views")
    values[tuple(index.unbind(1))] = fine
    return DistanceGrid(values, low, step)


def _box(points: Tensor) -> tuple[Tensor, Tensor]:
    """The box of points [N, 3] but for specks far off. (float64 [3], [3])"""
    some = points[:: max(1, len(points) // 100_000)]
    low, high = (torch.quantile(some, share, dim=0) for share in (TAIL, 1 - TAIL))
    reach = 0.5 * (high - low).max()
    kept = points[((points >= low - reach) & (points <= high + reach)).all(dim=1)]
    return kept.amin(dim=0), kept.amax(dim=0)


def _near_blocks(nodes: Tensor, shape: list[int]) -> Tensor:
    """bool [X / BLOCK, ...]: blocks with a node within half a block of one of the places [N, 3], in
    steps of the grid."""
    count = torch.tensor([-(-n // BLOCK) for n in shape])
    near = torch.zeros(count.tolist(), dtype=torch.bool)
    for corner in torch.cartesian_prod(*[torch.tensor([-0.5, 0.5])] * 3):
        block = (nodes / BLOCK + corner).floor().long()
        block = block[((block >= 0) & (block < count)).all(dim=1)]
        near[tuple(block.unbind(1))] = True
    return near


def _nodes_of(blocks: Tensor, shape: list[int]) -> Tensor:
    """int64 [N, 3], the nodes in the blocks."""
    within = torch.cartesian_prod(*[torch.arange(BLOCK)] * 3)
    index = (blocks.nonzero()[:, None] * BLOCK + within).reshape(-1, 3)
    return index[(index < torch.tensor(shape)).all(dim=1)]


def _coarse(near: Tensor, lenses: list[_Lens], step: float) -> Tensor:
    """1 for blocks outside, -1 for those inside, by their middles; 0 for those near a surface."""
    far = (~near).nonzero()
    middles = (far * BLOCK + (BLOCK - 1) / 2).float() * step
    signs = torch.zeros(near.shape)
    signs[~near] = _votes(middles, lenses, step, "carving").sign()
    return signs


def _turning(signs: Tensor) -> Tensor:
    """Which blocks touch one of the other sign: between them ends what no view looks past."""
    beside_inside, beside_outside = (
        F.max_pool3d(side.float()[None], 3, stride=1, padding=1)[0] > 0
        for side in (signs < 0, signs > 0)
    )
    return ((signs > 0) & beside_inside) | ((signs < 0) & beside_outside)


def _by_nodes(blocks: Tensor, shape: list[int]) -> Tensor:
    """Values of blocks at each of their nodes."""
    for axis in range(3):
        blocks = blocks.repeat_interleave(BLOCK, dim=axis)
    return blocks[: shape[0], : shape[1], : shape[2]].contiguous()


@dataclass(frozen=True, eq=False)
class _Lens:
    """A view for looking nodes up in: its camera, and depth and weight of each pixel."""

    view: SurfaceView
    low: Tensor
    depth: Tensor  # [H * W]
    cosine: Tensor  # [H * W] of the angle between the ray and the surface's normal

    @classmethod
    def of(cls, view: SurfaceView, low: Tensor) -> _Lens:
        cosine = _cosines(view).clamp_min(LEAST_COSINE)
        return cls(view, low, view.depth.reshape(-1), cosine.reshape(-1))

    def pixels(self, places: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Which of the places [N, 3], relative to `low`, are in the picture; their pixels, and how
        far away they are. int64 [K], int64 [K], [K]"""
        camera = self.view.camera.to(dtype=torch.float64)
        rotation, K = camera.world_from_cam[:3, :3], camera.K.float()
        local = places @ rotation.float() + ((self.low - camera.centers) @ rotation).float()
        height, width = camera.size
        slopes = local[:, :2] / local[:, 2:]
        xy = (slopes @ K[:2, :2].T + K[:2, 2]).floor()
        limit = xy.new_tensor([width, height])
        seen = ((local[:, 2] > 0) & ((xy >= 0) & (xy < limit)).all(dim=1)).nonzero()[:, 0]
        x, y = xy[seen].long().unbind(1)
        return seen, y * width + x, local[seen].norm(dim=1)


def _cosines(view: SurfaceView) -> Tensor:
    """|cos| between rays and the normal of the surface, by differences of neighbours. [H, W]"""
    rays = camera_rays(view.camera.to(dtype=torch.float32)).directions
    rays = rays.reshape(*view.depth.shape, 3)
    points = rays * torch.where(view.depth.isfinite(), view.depth, 0.0)[..., None]
    padded = F.pad(points.permute(2, 0, 1)[None], (1, 1, 1, 1), mode="replicate")[0]
    across = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]).permute(1, 2, 0)
    down = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]).permute(1, 2, 0)
    normal = F.normalize(torch.linalg.cross(across, down, dim=-1), dim=-1)
    return (normal * rays).sum(dim=-1).abs()


def _votes(places: Tensor, lenses: list[_Lens], step: float, what: str) -> Tensor:
    """Truncated distances [N] of places [N, 3], relative to the grid's corner.

    Positive where no picture shows a place.
    """
    most = TRUNCATION * step
    total, weight = torch.zeros(len(places)), torch.zeros(len(places))
    with progress(len(lenses), what) as bar:
        for lens in lenses:
            seen, pixel, away = lens.pixels(places)
            depth, cosine = lens.depth[pixel], lens.cosine[pixel]
            value = ((depth - away) * cosine).clamp(-most, most)
            own = torch.where(depth.isfinite(), cosine, FREE)
            own = own * (1 + value / most).clamp(HIDDEN, 1)
            total.index_add_(0, seen, own * value)
            weight.index_add_(0, seen, own)
            bar.advance()
    return torch.where(weight > 0, total / weight.clamp_min(1e-30), most)
