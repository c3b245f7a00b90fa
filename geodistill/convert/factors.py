"""Closed-form tensor factors of a sampled grid: VM by alternating SVD, CP by splitting planes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

SWEEPS = 2

# Mode m keeps one axis as its line and the other two as its plane, in the order of the kernels:
# planes (x, y), (x, z), (y, z) stored [second, first, C] with lines along z, y, x.
_LINE_FIRST = ((2, 1, 0), (1, 2, 0), (0, 2, 1))


def vm_scalar(
    grid: Tensor, rank: int, known: Tensor | None = None
) -> tuple[list[Tensor], list[Tensor]]:
    """Vector-matrix factors of a scalar grid by block-coordinate truncated SVD.

    Each mode in turn takes the best rank-`rank` approximation of what the other two leave over.

    Args:
        grid: [R, R, R], index [ix, iy, iz].
        rank: components per mode.
        known: bool [R, R, R], as in `vm_vector`.

    Returns:
        3 planes [R, R, rank] and 3 lines [R, rank], in the layout of `kernels.plane_line`.
    """
    planes, lines, ones = vm_vector(grid[None], rank, known)
    scaled = [plane * b[0] for plane, b in zip(planes, ones, strict=True)]
    return _balanced(scaled, lines)


def vm_vector(
    grid: Tensor, rank: int, known: Tensor | None = None
) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
    """Vector-matrix factors of a vector grid whose components share planes and lines.

    grid[f] ~ sum_m sum_k B_m[f, k] plane_mk x line_mk. Per mode, lines are the leading
    eigenvectors of the line axis' Gram matrix summed over channels; each line's coefficient, a
    [channels x plane] matrix, is split by SVD and the `rank` strongest terms are kept.

    Unknown nodes start at the grid's values and are from then on whatever the factors make of them
    (as in hard-impute, Mazumder, Hastie and Tibshirani 2010).

    Args:
        grid: [F, R, R, R].
        rank: components per mode.
        known: bool [R, R, R], where the factors should resemble the grid; everywhere when None.

    Returns:
        3 planes [R, R, rank], 3 lines [R, rank], 3 bases [F, rank].
    """
    parts = [_split(torch.zeros_like(grid), m) for m in range(3)]
    factors: list[tuple[Tensor, Tensor, Tensor]] = []
    residual = grid.clone()
    for _ in range(SWEEPS):
        for m in range(3):
            target = _split(residual, m) + parts[m]
            terms = _best_terms(target, rank)
            factors = [*factors[:m], terms, *factors[m + 1 :]]
            new = _rebuild(terms, target.shape)
            residual -= _join(new - parts[m], m)
            if known is not None:
                residual *= known
            parts[m] = new
    size = grid.shape[1]
    planes = [f[1].t().reshape(size, size, rank) for f in factors]
    return (*_balanced(planes, [f[0] for f in factors]), [f[2] for f in factors])


def cp_from_vm(
    planes: list[Tensor], lines: list[Tensor], bases: list[Tensor] | None, rank: int
) -> tuple[list[Tensor], Tensor]:
    """CP factors from VM factors: each plane is split into its leading rank-1 terms.

    With twice as many CP components as VM components in all, TensoRF's defaults, every plane
    keeps two terms; `rank` terms are kept over all planes, the strongest first.

    Args:
        planes: 3 x [R, R, K]; lines: 3 x [R, K]; bases: 3 x [F, K] or None for a scalar.
        rank: number of components kept.

    Returns:
        lines along z, y, x, each [R, rank], and the basis [F, rank] (ones [1, rank] for a scalar).
    """
    found = []
    for m in range(3):
        u, s, vh = torch.linalg.svd(planes[m].permute(2, 0, 1), full_matrices=False)
        keep = min(8, s.shape[1])
        length = lines[m].norm(dim=0)
        gain = bases[m].norm(dim=0) if bases is not None else torch.ones_like(length)
        strength = s[:, :keep] * (length * gain)[:, None]
        found.append((m, u[:, :, :keep] * s[:, None, :keep], vh[:, :keep], strength))
    order = torch.cat([f[3].reshape(-1) for f in found]).topk(rank).indices
    size = planes[0].shape[0]
    out = [torch.zeros(size, rank) for _ in range(3)]
    basis = torch.ones(1, rank) if bases is None else torch.zeros(len(bases[0]), rank)
    per_mode = found[0][3].numel()
    keep = found[0][3].shape[1]
    for column, flat in enumerate(order.tolist()):
        m, k, term = flat // per_mode, flat % per_mode // keep, flat % keep
        _, second, first, _ = found[m]
        axes = {
            0: (lines[0][:, k], second[k, :, term], first[k, term]),
            1: (second[k, :, term], lines[1][:, k], first[k, term]),
            2: (second[k, :, term], first[k, term], lines[2][:, k]),
        }[m]
        scale = torch.stack([a.norm() for a in axes]).clamp_min(1e-12)
        mean = scale.prod() ** (1.0 / 3.0)
        for axis, vector, length in zip(out, axes, scale, strict=True):
            axis[:, column] = vector / length * mean
        if bases is not None:
            basis[:, column] = bases[m][:, k]
    return out, basis


def _split(grid: Tensor, m: int) -> Tensor:
    """[F, R, R, R] -> [F, line, plane] with the plane's rows along its second axis."""
    line, second, first = _LINE_FIRST[m]
    return grid.permute(0, 1 + line, 1 + second, 1 + first).flatten(2)


def _join(parts: Tensor, m: int) -> Tensor:
    channels, size = parts.shape[:2]
    line, second, first = _LINE_FIRST[m]
    inverse = [0, 0, 0]
    for position, axis in enumerate((line, second, first)):
        inverse[axis] = 1 + position
    return parts.reshape(channels, size, size, size).permute(0, *inverse)


def _best_terms(target: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """[F, R, P] -> lines [R, rank], planes [rank, P], bases [F, rank]."""
    channels, size, _ = target.shape
    gram = torch.einsum("frp,fsp->rs", target, target)
    vectors = torch.linalg.eigh(gram.double())[1].flip(-1).to(target.dtype)
    lines = vectors[:, : min(rank, size)]
    coefficients = torch.einsum("rl,frp->lfp", lines, target)
    if channels == 1:
        return _padded(lines, coefficients[:, 0], torch.ones(1, lines.shape[1]), rank)
    small = torch.einsum("lfp,lgp->lfg", coefficients, coefficients)
    values, axes = torch.linalg.eigh(small.double())
    order = values.reshape(-1).topk(min(rank, values.numel())).indices
    line_index, axis_index = order // channels, order % channels
    bases = axes.transpose(1, 2)[line_index, axis_index].to(target.dtype)
    planes = torch.einsum("kf,kfp->kp", bases, coefficients[line_index])
    return _padded(lines[:, line_index], planes, bases.t(), rank)


def _padded(
    lines: Tensor, planes: Tensor, bases: Tensor, rank: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The terms, with zero terms added up to `rank`."""
    missing = rank - lines.shape[1]
    return (
        F.pad(lines, (0, missing)),
        F.pad(planes, (0, 0, 0, missing)),
        F.pad(bases, (0, missing)),
    )


def _rebuild(terms: tuple[Tensor, Tensor, Tensor], shape: torch.Size) -> Tensor:
    lines, planes, bases = terms
    return torch.stack([(lines * b) @ planes for b in bases]).reshape(shape)


def _balanced(planes: list[Tensor], lines: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """Give a component's plane and line the same root mean square."""
    out_planes, out_lines = [], []
    for plane, line in zip(planes, lines, strict=True):
        p = plane.pow(2).mean(dim=(0, 1)).sqrt().clamp_min(1e-12)
        v = line.pow(2).mean(dim=0).sqrt().clamp_min(1e-12)
        scale = (v / p).sqrt()
        out_planes.append((plane * scale).contiguous())
        out_lines.append((line / scale).contiguous())
    return out_planes, out_lines
