"""What handles do: turn, stretch and move about a pivot."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from geodistill.cameras import rotations
from geodistill.checks import UsageError, check, check_finite


@dataclass(frozen=True, eq=False)
class Transforms:
    """K affine maps D_k x = c_k + R_k S_k (x - c_k) + t_k, all float64.

    A rotation is kept as its axis times its angle in radians, so that a full turn is not none.
    """

    pivot: Tensor  # [K, 3] c
    rotation: Tensor  # [K, 3] axis times angle, radians
    stretch: Tensor  # [K, 3, 3] S, symmetric
    translation: Tensor  # [K, 3] t

    def __post_init__(self) -> None:
        check(
            pivot=(self.pivot, "K 3"),
            rotation=(self.rotation, "K 3"),
            stretch=(self.stretch, "K 3 3"),
            translation=(self.translation, "K 3"),
        )
        check_finite(
            pivot=self.pivot,
            rotation=self.rotation,
            stretch=self.stretch,
            translation=self.translation,
        )

    def __len__(self) -> int:
        return len(self.pivot)


def transform(
    pivot: Sequence[float],
    translate: Sequence[float] = (0.0, 0.0, 0.0),
    rotate: Sequence[float] = (0.0, 0.0, 0.0),
    scale: Sequence[float] = (1.0, 1.0, 1.0),
) -> Transforms:
    """One map: scale along the axes about the pivot, rotate [3] (axis times radians), translate."""
    values = [torch.tensor([list(v)], dtype=torch.float64) for v in (pivot, rotate, translate)]
    stretch = torch.diag(torch.tensor(list(scale), dtype=torch.float64))[None]
    return Transforms(values[0], values[1], stretch, values[2])


def joined(parts: Sequence[Transforms]) -> Transforms:
    """Several sets of maps as one; of none, the empty one."""
    if not parts:
        rows, squares = (torch.zeros(0, *shape, dtype=torch.float64) for shape in ((3,), (3, 3)))
        return Transforms(rows, rows, squares, rows)
    names = ("pivot", "rotation", "stretch", "translation")
    return Transforms(*(torch.cat([getattr(part, name) for part in parts]) for name in names))


def matrices(transforms: Transforms) -> Tensor:
    """The maps as float64 [K, 3, 4]: D x = M x + b."""
    linear = rotations(transforms.rotation) @ transforms.stretch
    moved = (linear @ transforms.pivot[..., None])[..., 0]
    offset = transforms.pivot + transforms.translation - moved
    return torch.cat([linear, offset[..., None]], -1)


def axis_angle(axis: Sequence[float], radians: float) -> tuple[float, float, float]:
    """Axis times angle, from an axis of any length. Raises UsageError for a zero axis."""
    length = math.sqrt(sum(value * value for value in axis))
    if not length > 0:
        raise UsageError("a rotation's axis must not be zero")
    x, y, z = (value / length * radians for value in axis)
    return x, y, z


def quaternion_rotation(quaternion: Sequence[float]) -> tuple[float, float, float]:
    """Axis times angle of a quaternion (w, x, y, z) of any length, by the shorter way round.

    Raises UsageError for a zero quaternion.
    """
    length = math.sqrt(sum(value * value for value in quaternion))
    if not length > 0:
        raise UsageError("a quaternion must not be zero")
    w, *axis = (math.copysign(1, quaternion[0]) * value / length for value in quaternion)
    sine = math.sqrt(sum(value * value for value in axis))
    if sine == 0:
        return 0.0, 0.0, 0.0
    return axis_angle(axis, 2 * math.atan2(sine, w))
