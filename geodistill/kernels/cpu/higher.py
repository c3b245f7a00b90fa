"""Second derivatives: a backward pass that is to be differentiated itself is the reference's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def differentiable_gradients(
    run: Callable[..., Tensor | tuple[Tensor, ...]],
    inputs: Sequence[Tensor],
    wanted: Sequence[bool],
    grads: Sequence[Tensor | None],
) -> tuple[Tensor | None, ...]:
    """Gradients of `run(*inputs)` to the inputs that are wanted, with a graph of their own.

    The C++ kernels call it where the caller asked for `create_graph`; `run` is the reference.
    """
    with torch.enable_grad():
        # Views, so that the history of one input is no part of the gradient to another.
        views = [v.view_as(v) for v in inputs]
        outputs = run(*views)
        outputs = (outputs,) if isinstance(outputs, Tensor) else outputs
        pairs = [(o, g) for o, g in zip(outputs, grads, strict=True) if g is not None]
        targets = [v for v, want in zip(views, wanted, strict=True) if want]
        found = iter(
            torch.autograd.grad(
                [output for output, _ in pairs],
                targets,
                [grad for _, grad in pairs],
                create_graph=True,
                allow_unused=True,
            )
        )
    return tuple(next(found) if want else None for want in wanted)
