"""The lazy Adam step against torch's Adam on the rows that have a gradient."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from torch import Tensor

from geodistill import kernels
from geodistill.kernels import library, reference

RATES = (1e-2, 0.9, 0.99, 1e-15)

both = pytest.mark.parametrize(
    "module",
    [
        reference,
        pytest.param(
            kernels,
            marks=pytest.mark.skipif(library.LIBRARY is None, reason=kernels.library_status()),
        ),
    ],
    ids=["reference", "fastest"],
)


def gradients(step: int, shape: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(step)
    return torch.randn(shape, generator=generator)


@both
@pytest.mark.parametrize("shape", [(1000, 2), (37, 1), (50, 3), (40, 28), (5, 7, 16)])
def test_touched_rows_follow_adam_and_the_others_stay(
    module: ModuleType, shape: tuple[int, ...]
) -> None:
    touched = torch.rand(shape[:-1], generator=torch.Generator().manual_seed(0)) < 0.4
    learned = torch.nn.Parameter(gradients(99, shape))
    param = learned.detach().clone()
    start = param.clone()
    optimiser = torch.optim.Adam([learned], lr=1e-2, betas=(0.9, 0.99), eps=1e-15)
    exp_avg, exp_avg_sq = torch.zeros(shape), torch.zeros(shape)
    for step in (1, 2, 3):
        grad = gradients(step, shape) * touched[..., None]
        learned.grad = grad.clone()
        optimiser.step()
        module.sparse_adam_step(param, grad, exp_avg, exp_avg_sq, *RATES, step=step)
        assert not grad.any()
    torch.testing.assert_close(param[touched], learned.detach()[touched], rtol=1e-5, atol=1e-6)
    assert torch.equal(param[~touched], start[~touched])
    assert not exp_avg[~touched].any() and exp_avg[touched].all()


@both
def test_momentum_does_not_move_a_row_without_gradient(module: ModuleType) -> None:
    param, grad = torch.ones(3, 2), torch.tensor([[0.0, 0.0], [-0.0, 0.0], [0.0, 1e-30]])
    exp_avg, exp_avg_sq = torch.ones(3, 2), torch.ones(3, 2)
    module.sparse_adam_step(param, grad, exp_avg, exp_avg_sq, *RATES, step=5)
    assert (param[:2] == 1).all() and (exp_avg[:2] == 1).all()
    # One number of a row is enough for the whole row to take its step.
    assert (param[2] < 1).all() and (exp_avg[2] < 1).all()


@both
def test_nan_gradients_are_not_swallowed(module: ModuleType) -> None:
    param, grad = torch.ones(2, 2), torch.tensor([[torch.nan, 0.0], [0.0, 0.0]])
    module.sparse_adam_step(param, grad, torch.zeros(2, 2), torch.zeros(2, 2), *RATES, step=1)
    assert param[0, 0].isnan() and param[1].isfinite().all()


def test_an_empty_table_is_fine() -> None:
    empty = torch.zeros(0, 2)
    kernels.sparse_adam_step(empty, empty, empty, empty, *RATES, step=1)
