"""What things are made of: convex solids between planes, and ellipsoids."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Triple = tuple[float, float, float]
PLANES = 8
"""Of a solid; those that it does not need are passed by everything."""


@dataclass(frozen=True)
class Material:
    """Attributes:
    reflectance: of a beam that comes in at a right angle, 0 to 1.
    clear: share of beams that are not sent back at all: glass, spokes, leaves.
    depth_m: how far beams go into it on average: leaves.
    """

    reflectance: float
    clear: float = 0.0
    depth_m: float = 0.0


@dataclass(frozen=True, eq=False)
class Part:
    """One solid in the frame of the thing that it belongs to.

    Attributes:
        center: float64 [3].
        rotation: float64 [3, 3], from its own axes.
        half: float64 [3], of the box around it along its own axes.
        planes: float64 [8, 4] in its own axes: inside, n . x <= d; None: an ellipsoid.
        material: of its surface.
    """

    center: Array
    rotation: Array
    half: Array
    planes: Array | None
    material: Material


def block(
    center: Triple,
    size: Triple,
    material: Material,
    turn: Triple = (0.0, 0.0, 0.0),
    narrower: tuple[float, float, float] = (0.0, 0.0, 0.0),
) -> Part:
    """A box whose top may be smaller than its bottom.

    Args:
        size: length, width and height in metres.
        turn: yaw, pitch (nose down) and roll in radians.
        narrower: how far the top edge lies behind the bottom edge in front, at the back, and on
            either side, in metres.
    """
    x, y, z = (extent / 2 for extent in size)
    front, back, side = narrower
    normals = [
        *((0, 0, 1, z), (0, 0, -1, z)),
        *(_slanted(0, 1.0, x, z, front), _slanted(0, -1.0, x, z, back)),
        *(_slanted(1, 1.0, y, z, side), _slanted(1, -1.0, y, z, side)),
    ]
    wider = [2 * max(-front, -back, 0.0), 2 * max(-side, 0.0), 0.0]
    half = (np.array(size) + wider) / 2
    return _solid(center, half, material, turn, normals)


def column(center: Triple, radius: float, height: float, material: Material) -> Part:
    """An upright prism of six sides, as wide as a cylinder on average."""
    apothem, edge = radius * 0.95, radius * 0.95 / math.cos(math.pi / 6)
    normals: list[tuple[float, ...]] = [(0, 0, 1, height / 2), (0, 0, -1, height / 2)]
    for k in range(6):
        normals.append((math.cos(k * math.pi / 3), math.sin(k * math.pi / 3), 0, apothem))
    half = np.array([edge, edge, height / 2])
    return _solid(center, half, material, (0.0, 0.0, 0.0), normals)


def ellipsoid(
    center: Triple, size: Triple, material: Material, turn: Triple = (0.0, 0.0, 0.0)
) -> Part:
    """With the given diameters along its own axes."""
    half = np.array(size) / 2
    return Part(np.array(center), rotation(*turn), half, None, material)


def bounds(parts: Sequence[Part]) -> tuple[Array, Array]:
    """Least and largest x, y and z of parts, [3] each."""
    center = np.array([part.center for part in parts])
    reach = []
    for part in parts:
        axes = np.abs(part.rotation) * part.half
        reach.append(axes.sum(1) if part.planes is not None else np.linalg.norm(axes, axis=1))
    return (center - reach).min(0), (center + reach).max(0)


def rotation(yaw: float, pitch: float = 0.0, roll: float = 0.0) -> Array:
    """Turns about z, then y, then x of the turned axes: [3, 3]."""
    cy, sy, cp, sp = math.cos(yaw), math.sin(yaw), math.cos(pitch), math.sin(pitch)
    cr, sr = math.cos(roll), math.sin(roll)
    about_z = np.array([[cy, -sy, 0], [sy, cy, 0], [0, 0, 1.0]])
    about_y = np.array([[cp, 0, sp], [0, 1.0, 0], [-sp, 0, cp]])
    about_x = np.array([[1.0, 0, 0], [0, cr, -sr], [0, sr, cr]])
    return about_z @ about_y @ about_x


def _solid(
    center: Triple,
    half: Array,
    material: Material,
    turn: Triple,
    normals: Sequence[tuple[float, ...]],
) -> Part:
    planes = np.zeros((PLANES, 4))
    planes[:, 3] = 1.0
    planes[: len(normals)] = normals
    return Part(np.array(center), rotation(*turn), half, planes, material)


def _slanted(axis: int, sign: float, half: float, z: float, back: float) -> tuple[float, ...]:
    """The side through the bottom's edge and through the top's, which is `back` behind it."""
    length = math.hypot(2 * z, back)
    out, up = sign * 2 * z / length, back / length
    normal = (out, 0.0, up) if axis == 0 else (0.0, out, up)
    return (*normal, out * sign * half - up * z)
