"""Activations and direction encodings shared by the field architectures."""

from __future__ import annotations

import torch
from torch import Tensor

LOG_DENSITY_MAX = 11.0
"""exp(11) per scene radius: one step of any sensible march is opaque far below it."""


class _TruncatedExp(torch.autograd.Function):
    @staticmethod
    def forward(ctx, raw: Tensor) -> Tensor:
        sigma = torch.exp(raw.clamp(max=LOG_DENSITY_MAX))
        ctx.save_for_backward(sigma)
        return sigma

    @staticmethod
    def backward(ctx, *grads: Tensor) -> Tensor:
        (sigma,) = ctx.saved_tensors
        return grads[0] * sigma


def truncated_exp(raw: Tensor) -> Tensor:
    """exp(min(raw, 11)) whose gradient stays alive above the bound. [...] -> [...]"""
    return _TruncatedExp.apply(raw)


SH_C0 = 0.28209479177387814


def spherical_harmonics(directions: Tensor, degree: int) -> Tensor:
    """Real spherical harmonics with the Condon-Shortley phase, as 3DGS and Plenoxels order them
    (Sloan, "Efficient spherical harmonic evaluation", 2013).

    Args:
        directions: [N, 3] unit vectors.
        degree: highest band, 0 to 3.

    Returns:
        [N, (degree + 1)^2] basis values.
    """
    x, y, z = directions.unbind(-1)
    basis = [torch.full_like(x, SH_C0)]
    if degree >= 1:
        c1 = 0.4886025119029199
        basis += [-c1 * y, c1 * z, -c1 * x]
    if degree >= 2:
        basis += [
            1.0925484305920792 * x * y,
            -1.0925484305920792 * y * z,
            0.31539156525252005 * (2.0 * z * z - x * x - y * y),
            -1.0925484305920792 * x * z,
            0.5462742152960396 * (x * x - y * y),
        ]
    if degree >= 3:
        xx, yy, zz = x * x, y * y, z * z
        basis += [
            -0.5900435899266435 * y * (3.0 * xx - yy),
            2.890611442640554 * x * y * z,
            -0.4570457994644658 * y * (4.0 * zz - xx - yy),
            0.3731763325901154 * z * (2.0 * zz - 3.0 * xx - 3.0 * yy),
            -0.4570457994644658 * x * (4.0 * zz - xx - yy),
            1.445305721320277 * z * (xx - yy),
            -0.5900435899266435 * x * (xx - 3.0 * yy),
        ]
    return torch.stack(basis, dim=-1)


def positional_encoding(u: Tensor, octaves: int) -> Tensor:
    """NeRF's encoding with the identity: [x, sin(2^k x), cos(2^k x)] for k < octaves.

    Mildenhall et al. 2020, eq. 4, without the factor pi, as their released code does.

    Args:
        u: [N, D].

    Returns:
        [N, D (2 octaves + 1)].
    """
    scaled = u[:, None, :] * (2.0 ** torch.arange(octaves, device=u.device, dtype=u.dtype))[:, None]
    waves = torch.stack([torch.sin(scaled), torch.cos(scaled)], dim=2)
    return torch.cat([u, waves.flatten(1)], dim=1)
