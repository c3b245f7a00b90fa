"""Small networks and the optimiser of tables."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch

from geodistill import kernels
from geodistill.kernels import reference
from timing.measure import Case


def adam_case() -> Case:
    """A hash table of 6.1 M rows of which a fifth was touched."""
    spec = kernels.HashSpec()
    shape = (spec.entries, spec.features)
    touched = (torch.rand(spec.entries, 1) < 0.2).float()
    gradient = torch.randn(shape) * touched
    param, grad, exp_avg, exp_avg_sq = (torch.zeros(shape) for _ in range(4))
    rates = (1e-2, 0.9, 0.99, 1e-15, 10)
    learned = torch.nn.Parameter(torch.zeros(shape))
    dense = torch.optim.Adam([learned], fused=True)
    learned.grad = torch.zeros(shape)

    def step(run: Callable[..., None]) -> None:
        grad.copy_(gradient)
        run(param, grad, exp_avg, exp_avg_sq, *rates)

    def fused() -> None:
        assert learned.grad is not None
        learned.grad.copy_(gradient)
        dense.step()

    forms = {"reference": lambda: step(reference.sparse_adam_step), "dense fused Adam": fused}
    return Case("sparse_adam_step 6.1 M x 2", lambda: step(kernels.sparse_adam_step), forms)


def mlp_case(widths: Sequence[int]) -> Case:
    """2^17 points, gradients to the points and all weights."""
    x = torch.randn(2**17, widths[0], requires_grad=True)
    pairs = itertools.pairwise(widths)
    weights = [torch.randn(b, a).div_(a**0.5).requires_grad_() for a, b in pairs]
    ours = lambda: kernels.fused_mlp(x, weights)  # noqa: E731
    forms = {"linear + relu": lambda: reference.fused_mlp(x, weights)}
    return Case(f"fused_mlp {'-'.join(map(str, widths))}, 2^17 points", ours, forms, [x, *weights])
