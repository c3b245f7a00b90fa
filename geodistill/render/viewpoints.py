"""Seeded viewpoints on a scene, for comparing and distilling without a data set."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Protocol

import torch

from geodistill.cameras import Camera, Similarity, rotations, sphere_cameras
from geodistill.checks import InputError
from geodistill.geometry.fields import Field
from geodistill.rays import Rays, camera_rays, pixel_rays
from geodistill.render.samples import cube_interval, unit_camera

SWAY_RAD = math.radians(12.0)
"""How far a viewpoint turns about each axis through the scene's centre, away from a camera of the
field: two standard deviations."""
DEFAULT_FOV_RAD = math.radians(40.0)


class Framed(Protocol):
    """A scene with a cube about it, and perhaps the cameras it was made from."""

    @property
    def frame(self) -> Similarity: ...

    @property
    def views(self) -> Camera | None: ...


def viewpoints(field: Framed, count: int, resolution: int, seed: int) -> Camera:
    """Cameras like those the field was made from, turned a little about its centre.

    A field that carries no cameras is seen from all sides at a distance that frames its cube. The
    distortion of lenses is left out: not every kind of scene can be seen through one.

    Args:
        field: the scene.
        count: number of cameras.
        resolution: pixels along the longer side.
        seed: of the choice.
    """
    if field.views is None:
        return sphere_cameras(
            count,
            field.frame.t,
            framing_distance(field),
            DEFAULT_FOV_RAD,
            (resolution, resolution),
            seed,
        )
    draw = torch.Generator().manual_seed(seed)
    chosen = torch.randint(len(field.views), (count,), generator=draw)
    if count <= len(field.views):
        chosen = torch.randperm(len(field.views), generator=draw)[:count]
    base = replace(field.views[chosen], distortion=None)
    base = base.scaled(resolution / max(base.size))
    turn = rotations(torch.randn(count, 3, generator=draw, dtype=torch.float64) * SWAY_RAD / 2)
    about = replace(Similarity.identity(), t=-field.frame.t.double().cpu())
    local = about.apply_camera(base.to(dtype=torch.float64)).world_from_cam.clone()
    local[:, :3] = turn @ local[:, :3]
    return about.inverse().apply_camera(replace(base.to(dtype=torch.float64), world_from_cam=local))


def expect_in_view(scene: Framed, cameras: Camera, source: object) -> None:
    """Raise InputError, naming where the cameras are from, if none has the scene's cube in it."""
    exact = cameras.to(dtype=torch.float64)
    local = scene.frame.inverse().apply_camera(exact).to("cpu", torch.float32)
    for i in range(len(local)):
        near, far = cube_interval(camera_rays(local[i]))
        if (near < far).any():
            return
    raise InputError(
        f"none of the {len(cameras)} cameras of {source} sees the scene: they look away from it or "
        "belong to another one"
    )


def framing_distance(field: Framed) -> float:
    """How far a camera of the default field of view must stand, in world units, to see the scene
    whole but for the corners of its cube; of a scene that goes on beyond its cube, the distance to
    the sides, where captures are made from."""
    if getattr(field, "contraction", "none") != "none":
        return float(field.frame.s)
    return math.sqrt(2.0) * float(field.frame.s) / math.sin(DEFAULT_FOV_RAD / 2)


def random_rays(field: Field, count: int, seed: int, cameras: int = 512) -> Rays:
    """Rays through random pixels of random viewpoints of the scene, in its unit cube.

    Args:
        field: the scene.
        count: number of rays N.
        seed: of viewpoints and pixels.
        cameras: number of viewpoints.
    """
    draw = torch.Generator().manual_seed(seed)
    views = unit_camera(field, viewpoints(field, cameras, 256, seed))
    view = torch.randint(cameras, (count,), generator=draw)
    height, width = views.size
    xy_px = torch.rand(count, 2, generator=draw) * torch.tensor([width, height])
    return pixel_rays(views[view], xy_px)
