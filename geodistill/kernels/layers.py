"""Layers and the optimiser's step."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from geodistill.checks import UsageError, check
from geodistill.kernels import reference
from geodistill.kernels.table import implementation

MLP_WIDTH = 320
"""Widest layer for which the fused MLP keeps a block of points in the cache."""


def sparse_adam_step(
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    lr: float,
    beta1: float,
    beta2: float,
    eps: float,
    step: int,
) -> None:
    """One Adam step, in place, on the rows (last dimension) whose gradient is not all zero.

    The other rows keep their value and moments, so momentum does not move what no sample touched.
    `grad` is zeroed for the next step. param, grad, exp_avg, exp_avg_sq: [..., F]; step: from 1.
    Source: Kingma and Ba, "Adam", 2015; lazy rows as in Mueller et al., Instant-NGP, 2022.
    """
    shape = " ".join(str(n) for n in param.shape)
    check(grad=(grad, shape), exp_avg=(exp_avg, shape), exp_avg_sq=(exp_avg_sq, shape))
    if step < 1:
        raise UsageError(f"step must be at least 1, got {step}")
    tensors = {"param": param, "grad": grad, "exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq}
    for name, tensor in tensors.items():
        if not tensor.is_contiguous():
            raise UsageError(f"{name} must be contiguous to be changed in place: pass a copy")
    run = implementation("sparse_adam_step", param, grad, exp_avg, exp_avg_sq)
    with torch.no_grad():
        run(param, grad, exp_avg, exp_avg_sq, lr, beta1, beta2, eps, step)


def fused_mlp(x: Tensor, weights: Sequence[Tensor]) -> Tensor:
    """Linear layers without bias, ReLU between them and none at the end. Gradients: x, weights.

    x: [N, D0];  weights: [D1, D0], [D2, D1], ...  Returns [N, D_last].
    """
    if not weights:
        raise UsageError("fused_mlp needs at least one weight matrix, got none")
    check(x=(x, "N D0"), **{f"weights[{i}]": (w, f"D{i + 1} D{i}") for i, w in enumerate(weights)})
    run = implementation("fused_mlp", x, *weights)
    if max(x.shape[1], *(len(w) for w in weights)) > MLP_WIDTH or len(weights) > 16:
        run = reference.fused_mlp
    return run(x, weights)
