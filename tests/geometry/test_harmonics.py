"""The basis of spherical harmonics and its rotations."""

from __future__ import annotations

import pytest
import torch

from geodistill.cameras import rotations
from geodistill.checks import ShapeError, UsageError
from geodistill.geometry.harmonics import sh_basis, sh_degree, sh_rotation


def directions(count: int = 200, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    d = torch.randn(count, 3, generator=draw, dtype=torch.float64)
    return d / d.norm(dim=-1, keepdim=True)


def some_rotation(seed: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return rotations(3 * torch.randn(3, generator=draw, dtype=torch.float64))


def test_the_signs_and_order_of_3dgs() -> None:
    """Kerbl et al.'s eval_sh, at one direction, by its published constants."""
    x, y, z = 0.48, -0.6, 0.64
    wanted = [
        0.28209479177387814,
        *(-0.4886025119029199 * y, 0.4886025119029199 * z, -0.4886025119029199 * x),
        1.0925484305920792 * x * y,
        -1.0925484305920792 * y * z,
        0.31539156525252005 * (2 * z * z - x * x - y * y),
        -1.0925484305920792 * x * z,
        0.5462742152960396 * (x * x - y * y),
        -0.5900435899266435 * y * (3 * x * x - y * y),
        2.890611442640554 * x * y * z,
        -0.4570457994644658 * y * (4 * z * z - x * x - y * y),
        0.3731763325901154 * z * (2 * z * z - 3 * x * x - 3 * y * y),
        -0.4570457994644658 * x * (4 * z * z - x * x - y * y),
        1.445305721320277 * z * (x * x - y * y),
        -0.5900435899266435 * x * (x * x - 3 * y * y),
    ]
    found = sh_basis(torch.tensor([x, y, z], dtype=torch.float64), 3)
    torch.testing.assert_close(found, torch.tensor(wanted, dtype=torch.float64))
    for degree in range(4):
        lower = sh_basis(torch.tensor([[[x, y, z]]], dtype=torch.float64), degree)
        assert torch.equal(lower[0, 0], found[: (degree + 1) ** 2])


def test_the_basis_is_orthonormal() -> None:
    """Gauss-Legendre nodes in z and even ones in azimuth integrate degree 6 exactly."""
    t = torch.arange(1, 8, dtype=torch.float64)
    off = t / (4 * t * t - 1).sqrt()
    nodes, vectors = torch.linalg.eigh(torch.diag(off, 1) + torch.diag(off, -1))
    weights = 2 * vectors[0] ** 2
    azimuth = torch.arange(16, dtype=torch.float64) * (2 * torch.pi / 16)
    z = nodes[:, None].expand(8, 16)
    ring = (1 - z * z).sqrt()
    d = torch.stack([ring * azimuth.cos(), ring * azimuth.sin(), z], dim=-1).reshape(-1, 3)
    w = (weights[:, None] * (2 * torch.pi / 16)).expand(8, 16).reshape(-1)
    basis = sh_basis(d, 3)
    gram = basis.T @ (w[:, None] * basis)
    torch.testing.assert_close(gram, torch.eye(16).double(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("degree", range(4))
def test_a_turned_function_has_its_old_value_in_the_turned_direction(degree: int) -> None:
    for seed in range(5):
        R, d = some_rotation(seed), directions(seed=seed)
        c = torch.randn((degree + 1) ** 2, 3, dtype=torch.float64)
        turned = sh_rotation(R, degree) @ c
        torch.testing.assert_close(sh_basis(d @ R.T, degree) @ turned, sh_basis(d, degree) @ c)


def test_rotations_form_a_group_of_orthogonal_blocks() -> None:
    R, S = some_rotation(1), some_rotation(2)
    D, one = sh_rotation(R, 3), torch.eye(16).double()
    torch.testing.assert_close(D @ D.T, one)
    torch.testing.assert_close(sh_rotation(R @ S, 3), D @ sh_rotation(S, 3))
    torch.testing.assert_close(sh_rotation(torch.eye(3), 3), one)
    bands = torch.tensor([0, 1, 1, 1, *[2] * 5, *[3] * 7])
    assert (D[bands[:, None] != bands] == 0).all()
    torch.testing.assert_close(sh_rotation(R, 2), D[:9, :9])
    # The first band is the rotation itself, in the order (y, z, x) and with signs (-, +, -).
    order, signs = torch.tensor([1, 2, 0]), torch.tensor([-1.0, 1, -1]).double()
    torch.testing.assert_close(D[1:4, 1:4], R[order][:, order] * signs[:, None] * signs)


def test_what_is_refused() -> None:
    for degree in (-1, 4):
        with pytest.raises(UsageError, match=f"from degree 0 to 3 here, got {degree}"):
            sh_basis(directions(), degree)
    with pytest.raises(ShapeError, match="directions must have shape"):
        sh_basis(torch.zeros(4, 2), 1)
    for not_rotation in (2 * torch.eye(3), torch.diag(torch.tensor([1.0, 1, -1]))):
        with pytest.raises(UsageError, match="turn with rotations only"):
            sh_rotation(not_rotation, 2)
    assert [sh_degree(count) for count in (1, 4, 9, 16)] == [0, 1, 2, 3]
    with pytest.raises(ShapeError, match="1, 4, 9 or 16 coefficients, got 12"):
        sh_degree(12)
