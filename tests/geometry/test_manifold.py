"""Meshes whose every edge has two faces."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from geodistill.geometry.manifold import open_edges, separated
from geodistill.geometry.mesh import Mesh, components, corners, triangle_areas, welded
from tests.geometry.solids import box, mesh, sphere, tube


def volume(shape: Mesh) -> float:
    a, b, c = corners(shape).unbind(1)
    return float((torch.linalg.cross(a, b, dim=-1) * c).sum() / 6)


def join(*shapes: Mesh) -> Mesh:
    """One mesh, in which equal positions are one vertex."""
    starts = torch.tensor([0, *(len(s.vertices) for s in shapes)]).cumsum(0)
    vertices = torch.cat([s.vertices for s in shapes])
    faces = torch.cat([s.faces + int(n) for s, n in zip(shapes, starts, strict=False)])
    places, index = vertices.unique(dim=0, return_inverse=True)
    return Mesh(places, index[faces])


def moved(shape: Mesh, *by: float) -> Mesh:
    return Mesh(shape.vertices + torch.tensor(by, dtype=torch.float64), shape.faces)


def euler(shape: Mesh) -> int:
    count = int(welded(shape).max()) + 1
    return count - len(shape.faces) * 3 // 2 + len(shape.faces)


@pytest.mark.parametrize("shape", [box(), sphere(2)])
def test_what_is_closed_stays(shape: Mesh) -> None:
    assert open_edges(shape) == 0
    again = separated(shape)
    assert torch.equal(again.vertices[again.faces], shape.vertices[shape.faces])


def test_open_edges_are_counted_across_seams() -> None:
    assert open_edges(tube(8, 3)) == 16  # the two rims, not the seam
    assert open_edges(Mesh(box().vertices, box().faces[1:])) == 3
    turned = box().faces.clone()
    turned[0] = turned[0].flip(0)
    assert open_edges(Mesh(box().vertices, turned)) == 3
    assert open_edges(separated(tube(8, 3))) == 16


def test_solids_that_touch_at_an_edge_are_parted() -> None:
    cube = box(1, 1, 1)
    both = join(cube, moved(cube, 1, 1, 0))
    assert open_edges(both) == 1
    apart = separated(both)
    assert open_edges(apart) == 0 and len(apart.faces) == 24 and len(apart.vertices) == 16
    assert len(components(apart).unique()) == 2
    assert 1.99 < volume(apart) < 2  # moved inwards, a little


def test_solids_that_touch_at_a_point_are_parted() -> None:
    cube = box(1, 1, 1)
    both = join(cube, moved(cube, 1, 1, 1))
    apart = separated(both)
    assert len(both.vertices) == 15 and len(apart.vertices) == 16
    assert len(components(apart).unique()) == 2 and volume(apart) < 2


def test_faces_back_to_back_cancel() -> None:
    ball = sphere(1)
    fold = torch.tensor([[0, 1, 2], [1, 0, 2]])
    again = separated(Mesh(ball.vertices, torch.cat([ball.faces, fold])))
    assert len(again.faces) == len(ball.faces) and open_edges(again) == 0
    # Of three faces on the same corners one stays.
    twice = torch.cat([ball.faces, ball.faces[:1], ball.faces[:1].flip(1)])
    assert open_edges(separated(Mesh(ball.vertices, twice))) == 0


def pinched(around: int = 6) -> Mesh:
    """A ring of boxes whose hole is closed to a line: the two ends of that line have one surface
    about them, which passes the line twice, or more."""
    angle = 2 * torch.pi * torch.arange(around, dtype=torch.float64) / around
    rim = torch.stack([angle.cos(), angle.sin(), torch.zeros_like(angle)], dim=1)
    high, low = rim.clone(), rim.clone()
    high[:, 2], low[:, 2] = 1, -1
    # All inner corners above are vertex 0, below vertex 1: the inner wall is the edge 0-1.
    ends = torch.tensor([[0.0, 0, 1], [0, 0, -1]], dtype=torch.float64)
    vertices = torch.cat([ends, high, low])
    faces = []
    for k in range(around):
        a, b = 2 + k, 2 + (k + 1) % around
        c, d = a + around, b + around
        faces += [(0, a, b), (1, d, c), (a, c, b), (b, c, d)]
    return mesh(vertices.tolist(), faces)


def with_wedge_out(shape: Mesh, around: int, *gaps: int) -> Mesh:
    """Without the sectors `gaps`, whose walls then meet along the axis."""
    faces = []
    for k in range(around):
        a, b = 2 + k, 2 + (k + 1) % around
        c, d = a + around, b + around
        if k not in gaps:
            faces += [(0, a, b), (1, d, c), (a, c, b), (b, c, d)]
            if (k - 1) % around in gaps:
                faces += [(0, 1, a), (1, c, a)]
            if (k + 1) % around in gaps:
                faces += [(1, 0, b), (d, 1, b)]
    return mesh(shape.vertices.tolist(), faces)


def test_wedges_about_one_edge_are_told_apart() -> None:
    cake = pinched()
    assert open_edges(cake) == 0
    slices = with_wedge_out(cake, 6, 0, 2, 4)
    assert open_edges(slices) == 1
    apart = separated(slices)
    assert open_edges(apart) == 0 and len(components(apart).unique()) == 3
    assert float(triangle_areas(apart).min()) > 0.1
    # The walls keep to their slices: no volume is lost or turned inside out.
    assert volume(apart) == pytest.approx(volume(cake) / 2, rel=1e-2)


def test_a_surface_that_meets_itself_along_an_edge() -> None:
    """Two slices joined by a bridge over the top and one under the bottom: about each end of the
    edge there is one surface, so that doubling its ends does not part it."""
    shape = twice_about_an_edge()
    assert open_edges(shape) == 1
    apart = separated(shape)
    assert open_edges(apart) == 0
    assert len(apart.faces) == len(shape.faces) + 2  # one of the two edges has a middle now
    assert euler(apart) % 2 == 0
    again = separated(apart)
    assert torch.equal(again.vertices[again.faces], apart.vertices[apart.faces])


def twice_about_an_edge() -> Mesh:
    """A closed surface that runs twice along the edge between its vertices 0 and 1, and whose faces
    about either of these are one fan: a strip of faces that leaves the edge, goes about one end and
    comes back to it, glued to another for the other end."""
    positions = torch.randn(10, 3, generator=torch.Generator().manual_seed(1)).double()
    positions[:2] = torch.tensor([[0.0, 0, 0], [0, 0, 1]])
    for k in range(4):  # c_k, in order of the angle about the edge
        angle = torch.tensor(0.3 + k * torch.pi / 2)
        positions[2 + k] = torch.tensor([float(angle.cos()), float(angle.sin()), 0.5])
    # Solid between c0 and c1, and between c2 and c3.
    faces = [(1, 0, 2), (0, 1, 3), (1, 0, 4), (0, 1, 5)]
    # About 0: from c1 over 6 to c2, and from c3 over 7 to c0; about 1 likewise over 8 and 9.
    faces += [(0, 3, 6), (0, 6, 4), (0, 5, 7), (0, 7, 2)]
    faces += [(1, 8, 3), (1, 4, 8), (1, 9, 5), (1, 2, 9)]
    faces += [(3, 8, 6), (6, 8, 4), (5, 9, 7), (7, 9, 2)]
    return mesh(positions.tolist(), faces)


def _outline(faces: Tensor) -> set[tuple[int, int]]:
    return {(int(f[k]), int(f[(k + 1) % 3])) for f in faces for k in range(3)}


def test_the_doubled_edge_is_what_it_says() -> None:
    shape = twice_about_an_edge()
    way = _outline(shape.faces)
    assert all((b, a) in way for a, b in way)
    assert len(way) == 3 * len(shape.faces) - 2  # 0-1 and 1-0 are there twice
