"""Objects of one frame as the nuScenes benchmark compares them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import compress

import numpy as np

from geodistill.checks import InputError


@dataclass(frozen=True, eq=False)
class Objects:
    """N objects, labelled or detected, in any frame with z up that both share.

    Attributes:
        names: of their classes.
        centers: float64 [N, 3] in metres.
        sizes: float64 [N, 3], length, width and height in metres.
        yaws: float64 [N] in radians, from x towards y.
        distances: float64 [N], from the vehicle along the ground in metres.
        velocities: float64 [N, 2] in metres a second, NaN for unknown ones; None where nothing
            says them.
        attributes: their names, "" for none; None where nothing says them.
        scores: float64 [N] of detections; None for labels.
        points: int64 [N] that sensors have of each label; None where nobody counted.
    """

    names: tuple[str, ...]
    centers: np.ndarray
    sizes: np.ndarray
    yaws: np.ndarray
    distances: np.ndarray
    velocities: np.ndarray | None = None
    attributes: tuple[str, ...] | None = None
    scores: np.ndarray | None = None
    points: np.ndarray | None = None

    def __post_init__(self) -> None:
        count = len(self.names)
        shapes = {"centers": (3,), "sizes": (3,), "yaws": (), "distances": (), "velocities": (2,)}
        for name in (*shapes, "scores", "points"):
            value = getattr(self, name)
            wanted = (count, *shapes.get(name, ()))
            if value is not None and value.shape != wanted:
                raise InputError(
                    f"{name} of {count} objects must be {[*wanted]}, got {[*value.shape]}"
                )
        if self.attributes is not None and len(self.attributes) != count:
            raise InputError(f"{len(self.attributes)} attributes of {count} objects")

    def __len__(self) -> int:
        return len(self.names)

    def chosen(self, kept: np.ndarray) -> Objects:
        """Those of a mask, bool [N]."""
        arrays = {k: v[kept] for k, v in vars(self).items() if isinstance(v, np.ndarray)}
        names = tuple(compress(self.names, kept))
        attributes = None if self.attributes is None else tuple(compress(self.attributes, kept))
        return replace(self, names=names, attributes=attributes, **arrays)
