"""Gaussian splats through a pinhole camera: projection, colours, the footprint and the image."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from geodistill import kernels
from geodistill.cameras import Camera
from geodistill.checks import UsageError
from geodistill.footprint import Footprint
from geodistill.geometry.harmonics import sh_basis
from geodistill.geometry.splats import Splats, rotation_matrices
from geodistill.kernels import SplatPlan, reference
from geodistill.rays import all_pixels

LOW_PASS_PX2 = 0.3
"""Added to the variances in the image, so that no Gaussian falls between the pixels' centres: the
low-pass filter of EWA splatting (Zwicker et al. 2001, eq. 17) with the width that 3DGS gave it."""
NEAR = 0.01
"""Depth up to which nothing is drawn, for splats in a cube of half side 1."""
EXTENT_SAMPLE = 4096
"""Splats that tell how large a scene is."""
BEYOND = 0.3
"""Share of half the view by which a mean may lie outside before its slope is held (as in 3DGS):
far off the axis the linearised projection makes Gaussians of any size."""


class Projected(NamedTuple):
    """N Gaussians in an image; the opacity is 0 where nothing is drawn."""

    means_px: Tensor  # [N, 2], the first pixel spans [0, 1]
    conics: Tensor  # [N, 3] a, b, c of the inverse covariance [[a, b], [b, c]], in pixels^-2
    opacities: Tensor  # [N]
    depths: Tensor  # [N] along the camera's z


class SplatImage(NamedTuple):
    """One view of splats."""

    image: Tensor  # [H, W, 3] over the background
    opacity: Tensor  # [H, W]
    depth: Tensor  # [H, W] mean distance along the ray in world units, 0 where nothing is


def near_depth(splats: Splats) -> float:
    """The depth in world units up to which nothing is drawn: a hundredth of half the range, along
    the widest axis, in which the middle half of the means lies. What is far away has no say."""
    means = splats.means.detach()[:: max(1, len(splats) // EXTENT_SAMPLE)].double()
    quarter, three = (torch.quantile(means, share, dim=0) for share in (0.25, 0.75))
    return NEAR * (0.5 * float((three - quarter).max()) or 1.0)


def project(splats: Splats, camera: Camera, near: float | None = None) -> Projected:
    """Project Gaussians by the affine approximation of the camera at their means.

    Differentiable in means, rotations, log_scales and opacity_logits. Computed in float64 from the
    camera's centre on, given in the dtype of the means. What is no deeper than `near` is not drawn
    (default: `near_depth`).

    Raises UsageError for a batch of cameras or a lens with distortion.
    Source: Zwicker et al., "EWA Splatting", 2001, sec. 4; Kerbl et al., 2023, eq. 5.
    """
    _check(camera)
    wide = torch.float32 if splats.means.device.type == "mps" else torch.float64
    rotation = camera.world_from_cam[:3, :3].to(splats.means.device, wide)
    K = camera.K.to(splats.means.device, wide)
    from_center = splats.means.to(wide) - camera.centers.to(splats.means.device, wide)
    in_cam = from_center @ rotation
    drawn = in_cam[:, 2] > (near_depth(splats) if near is None else near)
    # What is not drawn is put somewhere harmless, where gradients are finite.
    in_cam = torch.where(drawn[:, None], in_cam, in_cam.new_tensor([0.0, 0.0, 1.0]))
    depth = in_cam[:, 2]
    slopes = in_cam[:, :2] / depth[:, None]
    means_px = slopes @ K[:2, :2].T + K[:2, 2]
    axes = rotation_matrices(splats.rotations.to(wide)) * splats.log_scales.to(wide).exp()[:, None]
    axes = _jacobian(slopes, depth, K, camera.size) @ (rotation.T @ axes)
    covariance = axes @ axes.mT
    a, b, c = covariance[:, 0, 0] + LOW_PASS_PX2, covariance[:, 0, 1], covariance[:, 1, 1]
    c = c + LOW_PASS_PX2
    conics = torch.stack([c, -b, a], dim=1) / (a * c - b * b)[:, None]
    opacities = torch.where(drawn, torch.sigmoid(splats.opacity_logits.to(wide)), 0.0)
    return Projected(*(v.to(splats.means.dtype) for v in (means_px, conics, opacities, depth)))


def _check(camera: Camera) -> None:
    if camera.batch_shape:
        raise UsageError(
            f"splats take one camera, got a batch of {[*camera.batch_shape]}: index it first"
        )
    if camera.distortion is not None and bool(camera.distortion.any()):
        raise UsageError(
            "splats are drawn by pinhole cameras, this one's lens distorts: undistort its images"
        )


def _jacobian(slopes: Tensor, depth: Tensor, K: Tensor, size: tuple[int, int]) -> Tensor:
    """d pixel / d camera coordinates at slopes (x / z, y / z) [N, 2] and depths [N]. [N, 2, 3]"""
    sides = K.new_tensor([size[1], size[0]])
    focal_px, center_px = K.diagonal()[:2], K[:2, 2]
    margin = BEYOND * 0.5 * sides
    low, high = (-margin - center_px) / focal_px, (sides + margin - center_px) / focal_px
    held = torch.maximum(torch.minimum(slopes, high), low)
    by_slope = K[:2, :2] / depth[:, None, None]
    return torch.cat([by_slope, -by_slope @ held[:, :, None]], dim=2)


class SplatFootprint(Footprint):
    """Pixels row by row, elements are splats, the weights are those of alpha compositing."""

    def __init__(self, projected: Projected, size: tuple[int, int]) -> None:
        self.geometry = projected[:3]
        self.plan: SplatPlan = kernels.splat_plan(*projected, size)
        self.pixels, self.elements = size[0] * size[1], len(projected.means_px)

    @classmethod
    def from_camera(cls, splats: Splats, camera: Camera) -> SplatFootprint:
        """One view; differentiable in the splats' geometry. Raises what `project` raises."""
        return cls(project(splats, camera), camera.size)

    def render(self, features: Tensor) -> Tensor:
        return kernels.splat(*self.geometry, features, self.plan).pixels

    def adjoint(self, pixels: Tensor) -> Tensor:
        """W^T @ pixels: [pixels, C] -> [elements, C]; without gradient."""
        return kernels.splat_adjoint(*self.geometry, pixels, self.plan)

    def row_sums(self) -> Tensor:
        nothing = self.geometry[0].new_zeros(self.elements, 0)
        return kernels.splat(*self.geometry, nothing, self.plan).opacity

    def column_sums(self) -> Tensor:
        return self.adjoint(self.geometry[0].new_ones(self.pixels, 1))[:, 0]

    @torch.no_grad()
    def to_csr(self) -> Tensor:
        index = [torch.zeros(2, 0, dtype=torch.long, device=self.plan.offsets.device)]
        values = [self.geometry[0].new_zeros(0)]
        for tile in reference.splat_tiles(*self.geometry, self.plan):
            row, column = tile.weights.nonzero(as_tuple=True)
            index.append(torch.stack([tile.pixels[row], tile.elements[column]]))
            values.append(tile.weights[row, column])
        size = (self.pixels, self.elements)
        return torch.sparse_coo_tensor(torch.cat(index, 1), torch.cat(values), size).to_sparse_csr()


def splat_colors(splats: Splats, camera: Camera) -> Tensor:
    """What colour each splat has as seen from the camera's centre. [N, 3], never negative

    max(0, 0.5 + sum of harmonics in the direction from the camera to the mean), as in 3DGS.
    """
    wide = torch.float32 if splats.means.device.type == "mps" else torch.float64
    from_center = splats.means.to(wide) - camera.centers.to(splats.means.device, wide)
    directions = F.normalize(from_center, dim=1).to(splats.sh.dtype)
    basis = sh_basis(directions, splats.degree)
    return (0.5 + (basis[:, :, None] * splats.sh).sum(dim=1)).clamp(min=0)


def render_splats(
    splats: Splats,
    camera: Camera,
    background: Tensor | float = 0.0,
    near: float | None = None,
) -> SplatImage:
    """Colour over a `background` ([3] or [H, W, 3]), opacity and depth of one view.

    Differentiable in the splats. `near` and what is raised are those of `project`.
    """
    projected = project(splats, camera, near)
    plan = kernels.splat_plan(*projected, camera.size)
    features = torch.cat([splat_colors(splats, camera), projected.depths[:, None]], dim=1)
    pixels, opacity = kernels.splat(*projected[:3], features, plan)
    image = pixels[:, :3] + (1 - opacity)[:, None] * _flat(background, pixels)
    depth = pixels[:, 3] / opacity.clamp_min(1e-6) * ray_lengths(camera).to(pixels)
    return SplatImage(
        image.unflatten(0, camera.size), opacity.view(camera.size), depth.view(camera.size)
    )


def _flat(background: Tensor | float, like: Tensor) -> Tensor:
    value = torch.as_tensor(background).to(like)
    return value.reshape(-1, 3) if value.dim() == 3 else value


def ray_lengths(camera: Camera) -> Tensor:
    """Length of every pixel's ray from depth 0 to depth 1. [H * W]"""
    K = camera.K.double()
    pixels = F.pad(all_pixels(camera.size, camera.device).double() + 0.5, (0, 1), value=1.0)
    return torch.linalg.solve(K, pixels.T).norm(dim=0)
