"""The few hot loops: grids, rays, layers, triangles, points and splats.

Every function here checks its arguments and hands over to one implementation: the C++ library for
float32 tensors in CPU memory where it was built, the pure-torch reference for everything else. Both
have the same meaning; derivatives beyond the first are always the reference's.
"""

from geodistill.kernels.clouds import ball_query, farthest_points, nearest_neighbors
from geodistill.kernels.gaussians import gather_gaussians, gaussian_sums
from geodistill.kernels.grids import hash_encode, line_product, plane_line, voxel_interp
from geodistill.kernels.hashspec import HashSpec
from geodistill.kernels.images import gather, nearest_points, rasterize, scatter
from geodistill.kernels.layers import fused_mlp, sparse_adam_step
from geodistill.kernels.library import keep_memory, openmp_runtimes
from geodistill.kernels.rays import composite, march, ray_weights, segment_sum
from geodistill.kernels.reference import (
    LINE_AXES,
    PLANE_AXES,
    Composite,
    Gaussians,
    Raster,
    Samples,
    SplatPlan,
    Splatted,
    ray_index,
)
from geodistill.kernels.splats import splat, splat_adjoint, splat_plan
from geodistill.kernels.table import KERNELS, backends, library_status

__all__ = [
    "KERNELS",
    "LINE_AXES",
    "PLANE_AXES",
    "Composite",
    "Gaussians",
    "HashSpec",
    "Raster",
    "Samples",
    "SplatPlan",
    "Splatted",
    "backends",
    "ball_query",
    "composite",
    "farthest_points",
    "fused_mlp",
    "gather",
    "gather_gaussians",
    "gaussian_sums",
    "hash_encode",
    "keep_memory",
    "library_status",
    "line_product",
    "march",
    "nearest_neighbors",
    "nearest_points",
    "openmp_runtimes",
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
    "voxel_interp",
]
