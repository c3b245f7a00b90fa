"""Several processes at one job, as torchrun starts them; one process is the same code, alone."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from statistics import fmean
from typing import Any

import torch
from torch import Tensor
from torch import distributed as ranks

from geodistill.checks import InputError

PATIENCE = timedelta(hours=12)
"""So long ranks wait for one that is busy, as the first is with measuring."""


def start() -> None:
    """Join the other ranks, if torchrun has started this process."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not ranks.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
        ranks.init_process_group(backend, timeout=PATIENCE)


def stop() -> None:
    if ranks.is_initialized():
        ranks.destroy_process_group()


def device(kind: str) -> str:
    """Of "cpu" or "cuda" the one that is this rank's; a GPU is made the current one, on which
    libraries' own kernels run."""
    if kind != "cuda":
        return kind
    own = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    torch.cuda.set_device(own)
    return own


def world() -> int:
    """How many ranks there are."""
    return ranks.get_world_size() if ranks.is_initialized() else 1


def rank() -> int:
    return ranks.get_rank() if ranks.is_initialized() else 0


def all_sum(values: Tensor) -> Tensor:
    """The sum over all ranks, differentiable: what each rank's loss says of it reaches all.

    Raises InputError where another rank has ended.
    """
    return _AllSum.apply(values) if world() > 1 else values  # type: ignore[no-any-return]


def count(own: Tensor) -> Tensor:
    """How many of something all ranks have, at least 1, of which losses are means."""
    return all_sum(own.float()).clamp(min=1)


def sum_gradients(parameters: Iterable[Tensor]) -> None:
    """Make the gradients those of the sum of all ranks' losses."""
    if world() == 1:
        return
    own = [p for p in parameters if p.requires_grad]
    grads = [torch.zeros_like(p) if p.grad is None else p.grad for p in own]
    flat = torch.cat([grad.flatten() for grad in grads])
    with _together():
        ranks.all_reduce(flat)
    for p, part in zip(own, flat.split([p.numel() for p in own]), strict=True):
        p.grad = part.view_as(p)


def any_rank(flag: bool) -> bool:
    """Whether it is so in any of the ranks."""
    if world() == 1:
        return flag
    value = torch.tensor(float(flag))
    with _together():
        ranks.all_reduce(value)
    return bool(value > 0)


def of_first(value: Any) -> Any:
    """What rank 0 has, in all ranks."""
    if world() == 1:
        return value
    held = [value]
    with _together():
        ranks.broadcast_object_list(held)
    return held[0]


def mean(values: Mapping[str, float]) -> dict[str, float]:
    """Each number's mean over the ranks that have it."""
    if world() == 1:
        return dict(values)
    held: list[Any] = [None] * world()
    with _together():
        ranks.all_gather_object(held, dict(values))
    names = dict.fromkeys(name for own in held for name in own)
    return {name: fmean(own[name] for own in held if name in own) for name in names}


class _AllSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.detach().clone()
        with _together():
            ranks.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        total = grads[0].contiguous().clone()
        with _together():
            ranks.all_reduce(total)
        return total


@contextlib.contextmanager
def _together() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise InputError(
            f"rank {rank()} lost another rank ({str(error).splitlines()[0][:80]}): start the "
            "command again, it goes on from its last checkpoint"
        ) from None
