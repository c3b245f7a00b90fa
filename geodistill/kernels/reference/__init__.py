"""Readable pure-torch twins of the kernels: any device and float dtype, differentiable by autograd.

They are the oracle of the tests and what runs where no faster implementation exists.
"""

from geodistill.kernels.reference.clouds import ball_query, farthest_points, nearest_neighbors
from geodistill.kernels.reference.dense import fused_mlp, sparse_adam_step
from geodistill.kernels.reference.gaussians import Gaussians, gaussian_sums
from geodistill.kernels.reference.grids import (
    LINE_AXES,
    PLANE_AXES,
    hash_encode,
    line_product,
    plane_line,
    voxel_interp,
)
from geodistill.kernels.reference.points import nearest_points
from geodistill.kernels.reference.rays import (
    Composite,
    Samples,
    composite,
    march,
    offsets_end,
    ray_index,
    ray_weights,
    segment_sum,
)
from geodistill.kernels.reference.rows import gather, scatter
from geodistill.kernels.reference.splats import (
    TILE,
    SplatPlan,
    Splatted,
    splat,
    splat_adjoint,
    splat_plan,
    splat_tiles,
)
from geodistill.kernels.reference.triangles import Raster, rasterize

__all__ = [
    "LINE_AXES",
    "PLANE_AXES",
    "TILE",
    "Composite",
    "Gaussians",
    "Raster",
    "Samples",
    "SplatPlan",
    "Splatted",
    "ball_query",
    "composite",
    "farthest_points",
    "fused_mlp",
    "gather",
    "gaussian_sums",
    "hash_encode",
    "line_product",
    "march",
    "nearest_neighbors",
    "nearest_points",
    "offsets_end",
    "plane_line",
    "rasterize",
    "ray_index",
    "ray_weights",
    "scatter",
    "segment_sum",
    "sparse_adam_step",
    "splat",
    "splat_adjoint",
    "splat_plan",
    "splat_tiles",
    "voxel_interp",
]
