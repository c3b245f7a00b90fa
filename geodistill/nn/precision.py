"""Arithmetic in bfloat16 where it is fast and does no harm: the convolutions of maps."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import wraps
from typing import Any, Literal

import torch
from torch import Tensor

Precision = Literal["float32", "bfloat16"]


def computing(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """Within it, networks' maps are computed in a precision; their weights stay float32."""
    if precision == "float32":
        return nullcontext()
    return torch.autocast(device.type, torch.bfloat16)


def lifted(x: Tensor) -> Tensor:
    """In float32 where it is in bfloat16."""
    return x.float() if x.dtype == torch.bfloat16 else x


def in_float32(forward: Callable[..., Any]) -> Callable[..., Any]:
    """A module's forward that stays in float32 whatever is around it."""

    @wraps(forward)
    def wrapped(self: Any, *arguments: Any) -> Any:
        device = next(self.parameters()).device.type
        if device == "meta" or not torch.is_autocast_enabled(device):
            return forward(self, *arguments)
        with torch.autocast(device, enabled=False):
            return forward(self, *arguments)

    return wrapped
