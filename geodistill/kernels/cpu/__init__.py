"""The C++ kernels as autograd functions: float32 tensors in CPU memory, first derivatives.

Each function has the meaning of its namesake in `reference`; its arguments have been checked.
"""

from geodistill.kernels.cpu.clouds import ball_query, farthest_points, nearest_neighbors
from geodistill.kernels.cpu.dense import fused_mlp, sparse_adam_step
from geodistill.kernels.cpu.gaussians import gaussian_sums
from geodistill.kernels.cpu.grids import hash_encode, line_product, plane_line, voxel_interp
from geodistill.kernels.cpu.points import nearest_points
from geodistill.kernels.cpu.rays import composite, march, offsets_end, ray_weights, segment_sum
from geodistill.kernels.cpu.rows import gather, scatter
from geodistill.kernels.cpu.splats import splat, splat_adjoint, splat_plan
from geodistill.kernels.cpu.triangles import rasterize

__all__ = [
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
    "ray_weights",
    "scatter",
    "segment_sum",
    "sparse_adam_step",
    "splat",
    "splat_adjoint",
    "splat_plan",
    "voxel_interp",
]
