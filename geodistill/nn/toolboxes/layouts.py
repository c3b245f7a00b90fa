"""Weights as mmdetection3d and OpenPCDet keep them, to and from those of a network here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]

POINTS = "encoder.linear.weight"
"""Of what a pillar's points are: their values, their way from the mean and from the centre."""

# From [z, y, x, in, out], that of `nn.sparse`, which mmcv and spconv 1 share.
_SPARSE: tuple[tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]], ...] = (
    (lambda own: own, lambda kept: kept),
    (lambda own: own.permute(4, 0, 1, 2, 3), lambda kept: kept.permute(1, 2, 3, 4, 0)),
    (lambda own: own.transpose(3, 4), lambda kept: kept.transpose(3, 4)),
)
SPCONV_1, SPCONV_2 = 0, 1
"""[z, y, x, in, out] and [out, z, y, x, in]; spconv 2's native one is [z, y, x, out, in]."""


def sparse_layout(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> int | None:
    """In which layout all sparse kernels of `state` have the shapes of `own`; None: in no one.

    One layer may fit several (of 16 channels into 16, spconv 1 and spconv 2's native one look the
    same); all layers together fit one at most, since those between two stages double the channels.
    """
    kernels = [name for name, tensor in own.items() if tensor.dim() == 5]
    for layout, (to_kept, _) in enumerate(_SPARSE):
        if all(to_kept(own[name]).shape == state[name].shape for name in kernels):
            return layout
    return None


def with_sparse_layout(state: State, layout: int, reading: bool) -> State:
    """Sparse kernels from a layout to that of `nn.sparse`, or to it."""
    turned = _SPARSE[layout][int(reading)]
    return {
        name: turned(tensor).contiguous() if tensor.dim() == 5 else tensor
        for name, tensor in state.items()
    }


@dataclass(frozen=True)
class HeadOrder:
    """Where the outputs of a head come from.

    Attributes:
        classes: of each class, its number in the other head.
        yaws: of each of a class's anchors in a cell, its number there.
    """

    classes: Sequence[int]
    yaws: Sequence[int]


def with_head_order(state: State, order: HeadOrder) -> State:
    """Classes, and the anchors of each, in another order."""
    moved = dict(state)
    count = (len(order.classes), len(order.yaws))
    for name, tensor in state.items():
        if not name.startswith("head."):
            continue
        rows = tensor.reshape(*count, -1, *tensor.shape[1:])
        rows = rows[list(order.classes)][:, list(order.yaws)]
        if name.startswith("head.logits."):
            rows = rows[:, :, list(order.classes)]
        moved[name] = rows.reshape(tensor.shape)
    return moved


def from_old_boxes(state: State) -> State:
    """A head that predicts boxes of mmdetection3d before 1.0, made to predict those since.

    Then width came before length, and the yaw was -yaw - pi / 2: the codes of the sizes change
    places, that of the yaw its sign, and the first half of the circle, from 0 on, is the second
    from -pi / 2 on. The anchors' yaws change in the same way, see `settings.since_1`.
    """
    moved = dict(state)
    for name in ("head.codes.weight", "head.codes.bias"):
        rows = state[name].unflatten(0, (-1, 7))[:, [0, 1, 2, 4, 3, 5, 6]]
        sign = torch.ones(7, dtype=rows.dtype)
        sign[6] = -1
        moved[name] = (rows * sign.reshape(7, *[1] * (rows.dim() - 2))).flatten(0, 1)
    for name in ("head.halves.weight", "head.halves.bias"):
        moved[name] = state[name].unflatten(0, (-1, 2)).flip(1).flatten(0, 1)
    return moved


def to_absolute(state: State, axes: int = 3) -> State:
    """An encoder whose points come without x, y and z, but with the way from the pillar's centre
    twice, as one whose points have x, y and z: what it gives is the same.

    Args:
        axes: 2 where that is so of x and y alone.
    """
    weight = state[POINTS].clone()
    weight[:, -3:][:, :axes] += weight[:, :axes]
    weight[:, :axes] = 0
    return {**state, POINTS: weight}


def is_without_height(state: State) -> bool:
    """Whether a pillar's points come without their way from its centre along z, as in the first
    versions of mmdetection3d: 4 values, 3 of the way from the mean and 2."""
    return POINTS in state and state[POINTS].shape[1:] == (9,)


def with_height(state: State) -> State:
    """The same with that, which does not count."""
    return {**state, POINTS: F.pad(state[POINTS], (0, 1))}
