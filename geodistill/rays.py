"""Pixels to rays and points to pixels, through the OpenCV lens model (k1, k2, p1, p2).

Pixel coordinates are continuous, x to the right and y down, with pixel (0, 0) spanning [0, 1]:
integer pixels are looked through at their centres, +0.5.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from geodistill.cameras import Camera
from geodistill.checks import InputError, UsageError, check

TOLERANCE_PX = 1e-6
_MAX_STEPS = 100


@dataclass
class Rays:
    """origins [..., 3] and unit directions [..., 3] in the world; `camera_rays` makes [N, 3]."""

    origins: Tensor
    directions: Tensor

    def __len__(self) -> int:
        return len(self.directions)


def camera_rays(camera: Camera, pixels: Tensor | None = None) -> Rays:
    """Rays [N, 3] of one camera through the centres of integer `pixels` [N, 2] (x, y).

    None means all pixels, row by row. Raises UsageError for a batch of cameras, InputError where
    the lens model has no ray for a pixel.
    """
    if camera.batch_shape:
        raise UsageError(
            f"camera_rays takes one camera, got a batch of {[*camera.batch_shape]}: index it first"
        )
    if pixels is None:
        pixels = all_pixels(camera.size, camera.device)
    check(pixels=(pixels, "N 2"))
    return pixel_rays(camera, pixels.to(camera.K) + 0.5)


def all_pixels(size: tuple[int, int], device: torch.device | str | None = None) -> Tensor:
    """[H * W, 2] integer (x, y), row by row."""
    height, width = size
    y, x = torch.meshgrid(
        torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
    )
    return torch.stack([x, y], dim=-1).reshape(-1, 2)


def pixel_rays(camera: Camera, xy_px: Tensor) -> Rays:
    """Rays [..., 3] through pixel coordinates `xy_px` [..., 2]; batches broadcast.

    A pixel of each of N cameras is `pixel_rays(cameras[index], xy_px)` with `index` [N] and `xy_px`
    [N, 2]. Raises InputError where the lens model has no ray for a pixel.
    """
    check(xy_px=(xy_px, "... 2"))
    K = camera.K
    y = (xy_px[..., 1] - K[..., 1, 2]) / K[..., 1, 1]
    x = (xy_px[..., 0] - K[..., 0, 2] - K[..., 0, 1] * y) / K[..., 0, 0]
    xy = torch.stack([x, y], dim=-1)
    if camera.distortion is not None:
        focal_px = torch.maximum(K[..., 0, 0].abs(), K[..., 1, 1].abs())
        xy = undistort(xy, camera.distortion, TOLERANCE_PX / focal_px.detach())
    in_cam = torch.cat([xy, torch.ones_like(xy[..., :1])], dim=-1)
    in_world = (in_cam[..., None, :] @ camera.world_from_cam[..., :3, :3].mT)[..., 0, :]
    directions = torch.nn.functional.normalize(in_world, dim=-1)
    return Rays(camera.centers.expand_as(directions).contiguous(), directions)


def project(camera: Camera, points: Tensor) -> tuple[Tensor, Tensor]:
    """Pixel coordinates [..., 2] and depths along z [...] of world `points` [..., 3].

    Batches broadcast. Points that no pixel can show have NaN coordinates: those at or behind the
    camera, and those so far off the axis that the lens model folds over and would put them back
    into the picture.
    """
    check(points=(points, "... 3"))
    rotation = camera.world_from_cam[..., :3, :3]
    from_center = points - camera.centers
    if camera.batch_shape:
        in_cam = (from_center[..., None, :] @ rotation)[..., 0, :]
    else:
        in_cam = from_center @ rotation  # one product for all points
    depth = in_cam[..., 2]
    visible = depth > 0
    xy = in_cam[..., :2] / torch.where(visible, depth, torch.ones_like(depth))[..., None]
    if camera.distortion is not None:
        visible = visible & (xy.square().sum(-1) < fold_radius2(camera.distortion))
        xy = distort(xy, camera.distortion)
    K = camera.K
    u = K[..., 0, 0] * xy[..., 0] + K[..., 0, 1] * xy[..., 1] + K[..., 0, 2]
    v = K[..., 1, 1] * xy[..., 1] + K[..., 1, 2]
    return torch.stack([u, v], dim=-1).masked_fill(~visible[..., None], torch.nan), depth


def distort(xy: Tensor, distortion: Tensor) -> Tensor:
    """Ideal to distorted coordinates [..., 2] on the plane z = 1; `distortion` [..., 4]."""
    x, y = xy.unbind(-1)
    k1, k2, p1, p2 = distortion.unbind(-1)
    r2 = x * x + y * y
    radial = 1 + r2 * (k1 + r2 * k2)
    return torch.stack(
        [
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        ],
        dim=-1,
    )


def undistort(xy: Tensor, distortion: Tensor, tolerance: Tensor | float) -> Tensor:
    """Inverse of `distort` by Newton's method in float64, to `tolerance` (on the plane z = 1).

    The result is differentiable in both arguments: the last step is taken at the solution, which
    gives the derivatives of the implicit function. Raises InputError when some point has no
    preimage within the radius where the model folds over.
    """
    # Float32 pixels are no finer than 1e-4, and some accelerators have no float64 at all.
    work = xy.double() if xy.device.type != "mps" else xy.cpu().double()
    lens = distortion.to(work)
    with torch.no_grad():
        found, residual = _damped_newton(work, lens, torch.as_tensor(tolerance).to(work))
        bad = residual > torch.as_tensor(tolerance).to(work)
        if bool(bad.any()):
            _refuse(bad, xy, distortion)
    return (found - _solve(found, lens, distort(found, lens) - work)).to(xy)


def _damped_newton(target: Tensor, lens: Tensor, tolerance: Tensor) -> tuple[Tensor, Tensor]:
    """The preimages [..., 2] within the fold and how far their images are from the targets [...].

    A step that would cross the fold or lead further away is halved until it does neither: inside
    the fold the model is monotonic, so some step along Newton's direction always helps.
    """
    limit2 = fold_radius2(lens)
    r2 = target.square().sum(-1)
    inside = (0.9 * limit2 / torch.maximum(r2, 0.9 * limit2)).nan_to_num(1.0).sqrt()
    found = (target * inside[..., None]).expand(*torch.broadcast_shapes(r2.shape, limit2.shape), 2)
    error = distort(found, lens) - target
    residual = error.norm(dim=-1)
    damping = torch.ones_like(residual)
    for _ in range(_MAX_STEPS):
        if bool((residual <= tolerance).all()):
            break
        trial = found - damping[..., None] * _solve(found, lens, error)
        trial_error = distort(trial, lens) - target
        better = (trial.square().sum(-1) < limit2) & (trial_error.norm(dim=-1) < residual)
        found = torch.where(better[..., None], trial, found)
        error = torch.where(better[..., None], trial_error, error)
        residual = error.norm(dim=-1)
        damping = torch.where(better, (2 * damping).clamp_max(1.0), 0.5 * damping)
    return found, residual


def fold_radius2(distortion: Tensor) -> Tensor:
    """[...] the squared radius at which the radial model stops growing, infinity if it never does.

    With u = r^2, the first positive root of d/dr (r + k1 r^3 + k2 r^5) = 1 + 3 k1 u + 5 k2 u^2.
    """
    k1, k2 = distortion[..., 0], distortion[..., 1]
    discriminant = 9 * k1 * k1 - 20 * k2
    denominator = discriminant.clamp_min(0).sqrt() - 3 * k1
    folds = (discriminant >= 0) & (denominator > 0)
    return torch.where(
        folds, 2 / torch.where(folds, denominator, torch.ones_like(denominator)), torch.inf
    )


def _solve(xy: Tensor, distortion: Tensor, residual: Tensor) -> Tensor:
    """J^-1 residual, with the (symmetric) Jacobian of `distort` at xy."""
    with torch.no_grad():
        x, y = xy.unbind(-1)
        k1, k2, p1, p2 = distortion.unbind(-1)
        r2 = x * x + y * y
        radial, slope = 1 + r2 * (k1 + r2 * k2), 2 * (k1 + 2 * k2 * r2)
        a = radial + slope * x * x + 2 * p1 * y + 6 * p2 * x
        b = slope * x * y + 2 * p1 * x + 2 * p2 * y
        d = radial + slope * y * y + 6 * p1 * y + 2 * p2 * x
        determinant = a * d - b * b
        determinant = torch.where(
            determinant.abs() < 1e-12, torch.full_like(determinant, 1e-12), determinant
        )
    f, g = residual.unbind(-1)
    return torch.stack([d * f - b * g, a * g - b * f], dim=-1) / determinant[..., None]


def _refuse(bad: Tensor, xy: Tensor, distortion: Tensor) -> None:
    first = tuple(bad.nonzero()[0].tolist())
    x, y = xy.expand(*bad.shape, 2)[first].tolist()
    k1, k2, p1, p2 = distortion.expand(*bad.shape, 4)[first].tolist()
    raise InputError(
        f"{int(bad.sum())} of {bad.numel()} pixels have no ray: the lens model k1={k1:.4g} "
        f"k2={k2:.4g} p1={p1:.4g} p2={p2:.4g} folds over before it reaches ({x:.4g}, {y:.4g}); "
        "check the coefficients or undistort the images"
    )
