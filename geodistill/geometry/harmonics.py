"""Real spherical harmonics up to degree 3 in 3DGS's basis, order and signs, and how they turn.

The values are those of `fields.activations.spherical_harmonics`; the colour of coefficients c in
direction d is 0.5 + sh_basis(d) @ c.
"""

from __future__ import annotations

import torch
from torch import Tensor

from geodistill.cameras import RIGID_TOLERANCE, rigid_error
from geodistill.checks import ShapeError, UsageError, check
from geodistill.geometry.fields.activations import spherical_harmonics

MAX_DEGREE = 3


def sh_basis(directions: Tensor, degree: int) -> Tensor:
    """Basis values at unit directions. [..., 3] -> [..., (degree + 1)^2]"""
    check(directions=(directions, "... 3"))
    _expect_degree(degree)
    return spherical_harmonics(directions, degree)


def sh_degree(coefficients: int) -> int:
    """The degree whose basis has so many functions. Raises ShapeError when none up to 3 has."""
    for degree in range(MAX_DEGREE + 1):
        if (degree + 1) ** 2 == coefficients:
            return degree
    raise ShapeError(f"spherical harmonics have 1, 4, 9 or 16 coefficients, got {coefficients}")


def sh_rotation(R: Tensor, degree: int) -> Tensor:
    """The matrix D that turns coefficients: sh_basis(R d) @ (D c) = sh_basis(d) @ c for all d.

    Each band turns within itself, by an orthogonal matrix (Ivanic and Ruedenberg 1996). Here that
    is found by least squares over directions, which is exact because the turned functions lie in
    the span of the band.

    Args:
        R: [3, 3] rotation.
        degree: 0 to 3.

    Returns:
        float64 [(degree + 1)^2, (degree + 1)^2].

    Raises:
        UsageError: another degree, or R is not a rotation.
    """
    check(R=(R, "3 3"))
    R = R.detach().double().cpu()
    if rigid_error(R) > RIGID_TOLERANCE:
        raise UsageError("spherical harmonics turn with rotations only, R is not one")
    directions = _directions()
    before, after = sh_basis(directions, degree), sh_basis(directions @ R.T, degree)
    D = torch.zeros(before.shape[1], before.shape[1], dtype=torch.float64)
    for band in range(degree + 1):
        of_band = slice(band**2, (band + 1) ** 2)
        D[of_band, of_band] = torch.linalg.lstsq(after[:, of_band], before[:, of_band]).solution
    return D


def _directions() -> Tensor:
    """64 directions spread evenly: a Fibonacci lattice. float64 [64, 3]"""
    index = torch.arange(64, dtype=torch.float64)
    z = 1 - (2 * index + 1) / 64
    azimuth = index * (torch.pi * (3 - 5**0.5))
    ring = (1 - z * z).sqrt()
    return torch.stack([ring * azimuth.cos(), ring * azimuth.sin(), z], dim=-1)


def _expect_degree(degree: int) -> None:
    if degree not in range(MAX_DEGREE + 1):
        raise UsageError(f"spherical harmonics go from degree 0 to {MAX_DEGREE} here, got {degree}")
