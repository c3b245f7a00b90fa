"""Small scenes to look at, and a server in the test's own process."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import torch
from aiohttp.test_utils import TestClient, TestServer

from geodistill.geometry.mesh import Material, Mesh
from geodistill.geometry.points import Points
from geodistill.geometry.splats import Splats
from geodistill.render.viewable import Viewable
from geodistill.shade.viewable import MeshView, PointView, SplatView
from geodistill.viewer.scene import describe
from geodistill.viewer.server import Exhibit, make_app

TOKEN = "a-token-for-the-tests"
CAMERA = {
    "type": "camera",
    "id": 1,
    "world_from_cam": [1, 0, 0, 0, 0, 0, 1, -3.5, 0, -1, 0, 0],
    "fov_y": 0.7,
    "width": 40,
    "height": 30,
    "moving": False,
}
"""Looks along +y from (0, -3.5, 0), with z up."""


def textured_square(size: float = 2.0) -> Mesh:
    """A square in x and z that faces -y; its texture has four colours."""
    half = size / 2
    corners = [[-half, 0, -half], [half, 0, -half], [half, 0, half], [-half, 0, half]]
    texture = torch.zeros(8, 8, 4, dtype=torch.uint8)
    texture[..., 3] = 255
    texture[:4, :4, 0] = texture[:4, 4:, 1] = texture[4:, :4, 2] = 230
    texture[4:, 4:] = torch.tensor([250, 200, 20, 255], dtype=torch.uint8)
    return Mesh(
        torch.tensor(corners, dtype=torch.float64),
        torch.tensor([[0, 1, 2], [0, 2, 3]]),
        uv=torch.tensor([[0, 0], [1, 0], [1, 1], [0, 1.0]]),
        materials=(Material("paint", (1.0, 0.8, 1.0, 1.0), texture),),
        face_material=torch.zeros(2, dtype=torch.int64),
    )


def some_splats(count: int = 400, degree: int = 3, seed: int = 0) -> Splats:
    """Needles, discs, specks and blobs about the origin, of every opacity and colour."""
    draw = torch.Generator().manual_seed(seed)
    sh = torch.randn(count, (degree + 1) ** 2, 3, generator=draw) * 0.25
    sh[:, 0] = torch.randn(count, 3, generator=draw)
    return Splats(
        torch.rand(count, 3, generator=draw) * 2 - 1,
        torch.randn(count, 4, generator=draw),
        torch.rand(count, 3, generator=draw) * 6.5 - 8.0,
        torch.randn(count, generator=draw) * 2,
        sh,
    )


def some_points(count: int = 2000, seed: int = 0) -> Points:
    """On the unit sphere, coloured by where they are, far from the world's origin."""
    draw = torch.Generator().manual_seed(seed)
    out = torch.nn.functional.normalize(torch.randn(count, 3, generator=draw).double(), dim=1)
    colors = ((out + 1) * 127.5).round().byte()
    colors = torch.cat([colors, torch.full((count, 1), 255, dtype=torch.uint8)], 1)
    return Points(out + torch.tensor([1e6, -2e6, 300.0], dtype=torch.float64), colors)


def mesh_view() -> MeshView:
    return MeshView(textured_square())


def splat_view(degree: int = 3) -> SplatView:
    return SplatView(some_splats(degree=degree))


def point_view() -> PointView:
    return PointView(some_points())


@contextlib.asynccontextmanager
async def client_of(
    scene: Viewable, name: str, host: str = "127.0.0.1"
) -> AsyncIterator[TestClient]:
    """A client of a server that shows the scene."""
    exhibit = Exhibit(b"the page", scene, describe(scene, Path(name)), TOKEN, host)
    async with TestClient(TestServer(make_app(exhibit))) as client:
        yield client


def origin(client: TestClient) -> dict[str, str]:
    """The header that a browser sends along."""
    return {"Origin": f"http://{client.host}:{client.port}"}
