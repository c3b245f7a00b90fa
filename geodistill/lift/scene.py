"""What can be lifted onto: a geometry whose elements carry features, seen by cameras."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from geodistill.cameras import Camera
from geodistill.footprint import Footprint
from geodistill.geometry.orientation import Vector


@dataclass(frozen=True, eq=False)
class Look:
    """What one camera sees of a scene.

    Attributes:
        image: [H, W, 3], display-referred, in [0, 1], over the background.
        footprint: makes the operator of the same pixels.
        points: float64 [H, W, 3], the surface point under each pixel.
        trust: [H, W] in [0, 1]: what is seen at a grazing angle or beside an edge counts less, the
            background not at all.
    """

    image: Tensor
    footprint: Callable[[], Footprint]
    points: Tensor
    trust: Tensor


@dataclass(frozen=True, eq=False)
class Spot:
    """A place of a scene, as a weighted mean of elements.

    Attributes:
        index: int64 [K], elements; weights: [K], which add to 1.
        distance: from the point that was asked for.
    """

    index: Tensor
    weights: Tensor
    distance: float


class Scene(Protocol):
    """A geometry whose elements can carry features.

    `positions` [N, 3] are the elements' places in the world; `kind` and `digest` tell it from other
    geometries; `up` is what cameras about it hold upright.
    """

    kind: str
    digest: str
    positions: Tensor
    up: Vector

    @property
    def normals(self) -> Tensor | None:
        """Unit vectors [N, 3] across the surface at the elements, where it has one."""
        ...

    def look(self, camera: Camera, patch_px: float) -> Look:
        """One pinhole camera's view, for a teacher whose patches have `patch_px` pixels."""
        ...

    def filled(self, features: Tensor, seen: Tensor) -> Tensor:
        """The features with those of unseen elements taken from seen neighbours."""
        ...

    def at(self, point: Tensor) -> Spot:
        """The place nearest to a point [3] of the world: of the surface, or of an element."""
        ...

    @property
    def framed(self) -> Tensor:
        """Positions [M, 3] that a camera about the scene has to see."""
        ...

    def expect_ending(self, path: Path) -> None:
        """Raise UsageError for a file that `save` cannot write."""
        ...

    def save(self, path: Path, attributes: Mapping[str, Tensor], colors: Tensor | None) -> None:
        """Write the geometry with columns float32 [N] or [N, C] and, where given, with colours
        [N, 3] in [0, 1] in place of its own.

        A field, which has no file for that, is written as the point cloud of its elements. Raises
        UsageError for a suffix that the geometry has no writer for.
        """
        ...
