"""CP factors of a tensor that is known at some of its nodes, by alternating least squares."""

from __future__ import annotations

import torch
from torch import Tensor

DAMPING = 1e-2
"""Ridge towards the factors of the last sweep, relative to the mean of the normal matrices."""

Factors = tuple[list[Tensor], Tensor]


def refine_cp(
    lines: list[Tensor], basis: Tensor, values: Tensor, nodes: Tensor, sweeps: int
) -> Factors:
    """Fit values[n, f] = sum_k basis[f, k] z_k[iz] y_k[iy] x_k[ix] at the given nodes alone.

    Each line, and the basis, is in turn the exact least-squares solution for the others fixed
    (Carroll and Chang 1970), damped so that nodes without data keep what they have.

    Args:
        lines: along z, y and x, each [R, K], where to start.
        basis: [F, K]; where F is 1 it stays as it is.
        values: [M, F] the known values, in index order.
        nodes: bool [R, R, R], where values are known.
        sweeps: how often each line is solved for.

    Returns:
        Lines and basis.
    """
    lines, size = list(lines), nodes.shape[0]
    at = nodes.nonzero().flip(-1).unbind(-1)
    orders = [i.argsort(stable=True) for i in at]
    counts = [torch.bincount(i, minlength=size).tolist() for i in at]
    for _ in range(sweeps):
        for k in range(3):
            first, second = (j for j in range(3) if j != k)
            rows = lines[first][at[first]] * lines[second][at[second]]
            order = orders[k]
            lines[k] = _solve_line(rows[order], values[order], basis, counts[k], lines[k])
        if len(basis) > 1:
            rows = lines[0][at[0]] * lines[1][at[1]] * lines[2][at[2]]
            basis = _solve(rows.t() @ rows, values.t() @ rows, basis)
        lines = _balanced(lines)
    return lines, basis


def _solve_line(
    rows: Tensor, values: Tensor, basis: Tensor, counts: list[int], line: Tensor
) -> Tensor:
    """The line [R, K], given the products [M, K] of the other two in the order of its nodes."""
    rank = rows.shape[1]
    normal = torch.stack([part.t() @ part for part in rows.split(counts)])
    target = rows * (values @ basis)
    right = torch.stack([part.sum(dim=0) for part in target.split(counts)])
    return _solve(normal * (basis.t() @ basis), right[:, None], line.view(-1, 1, rank))[:, 0]


def _solve(normal: Tensor, right: Tensor, before: Tensor) -> Tensor:
    """Solve before' @ normal = right for before', damped towards `before`. [..., F, K]"""
    damping = DAMPING * normal.diagonal(dim1=-2, dim2=-1).mean().clamp_min(1e-12)
    damped = normal + damping * torch.eye(normal.shape[-1])
    factor = torch.linalg.cholesky(damped)
    return torch.cholesky_solve((right + damping * before).mT, factor).mT


def _balanced(lines: list[Tensor]) -> list[Tensor]:
    """The three lines of a component with the same length."""
    lengths = torch.stack([line.norm(dim=0) for line in lines]).clamp_min(1e-9)
    mean = lengths.prod(dim=0) ** (1 / 3)
    return [line * (mean / length) for line, length in zip(lines, lengths, strict=True)]
