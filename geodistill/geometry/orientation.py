"""Which way is up in a scene: what its file says, what its cameras say, or a guess."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import torch

from geodistill.cameras import Camera
from geodistill.geometry.kinds import Kind

Axis = Literal["x", "y", "z", "-x", "-y", "-z"]
Source = Literal["file", "cameras", "guess", "user"]
Vector = tuple[float, float, float]
SNAP = 0.9
"""Cosine to an axis from which on the mean up of cameras is taken for that axis."""


class Up(NamedTuple):
    axis: Vector
    source: Source


def named(axis: Axis) -> Vector:
    """The vector of an axis."""
    sign = -1.0 if axis.startswith("-") else 1.0
    x, y, z = (sign if name == axis[-1] else 0.0 for name in "xyz")
    return x, y, z


def up_of(kind: Kind, path: Path, views: Camera | None) -> Up:
    """Up of the scene in a file.

    glTF says that y is up. Otherwise the cameras of a scene mostly stand upright. Else it is what
    most files of the kind have: y of meshes, but z of STL, which comes from machines; z of point
    clouds and fields; -y of splats, whose axes are those of a camera that looks ahead.
    """
    suffix = path.suffix.lower()
    if kind == "mesh" and suffix in (".glb", ".gltf"):
        return Up(named("y"), "file")
    if views is not None and (up := _of_cameras(views)) is not None:
        return Up(up, "cameras")
    if kind == "mesh":
        return Up(named("z" if suffix == ".stl" else "y"), "guess")
    return Up(named("-y" if kind == "splats" else "z"), "guess")


def _of_cameras(views: Camera) -> Vector | None:
    """The mean of their upward directions; None where these say nothing in common."""
    cameras = views.world_from_cam.double().reshape(-1, 4, 4).cpu()
    mean = -cameras[:, :3, 1].mean(0)
    if float(mean.norm()) < 0.3:
        return None
    mean = mean / mean.norm()
    nearest = int(mean.abs().argmax())
    if abs(float(mean[nearest])) > SNAP:
        mean = torch.zeros(3, dtype=torch.float64).index_fill(0, torch.tensor(nearest), 1.0) * (
            mean[nearest].sign()
        )
    x, y, z = mean.tolist()
    return x, y, z
