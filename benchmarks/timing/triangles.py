"""What pixels see of a mesh, and the footprint that follows from it."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor

from geodistill import kernels
from geodistill.kernels import reference
from timing.measure import Case, Form

SIZE = (512, 512)
NEAR = 0.01
K = torch.tensor([[560.0, 0.0, 256.0], [0.0, 560.0, 256.0], [0.0, 0.0, 1.0]])
FAR_KEY = torch.iinfo(torch.int64).max


def rasterize_case(cells: int = 224) -> Case:
    """A bumpy ball of 2 cells^2 faces, about half of them visible, that fills the image."""
    points, faces = ball(cells)
    forms: dict[str, Form] = {
        "pairs of faces and pixels": lambda: [by_pairs(points, faces)],
        "boxes by size": lambda: [by_box_sizes(points, faces)],
        "reference": lambda: [reference.rasterize(points, faces, K, SIZE, NEAR)],
    }
    if find_spec("embreex") and find_spec("trimesh"):
        embree = embree_rays(points, faces)
        forms["Embree rays"] = lambda: [embree()]
    expect_the_same(points, faces, forms)
    return Case(
        f"rasterize {len(faces)} faces, {SIZE[0]} x {SIZE[1]}",
        lambda: [kernels.rasterize(points, faces, K, SIZE, NEAR)],
        forms,
    )


def ball(cells: int) -> tuple[Tensor, Tensor]:
    """Points [cells^2 + cells, 3] in front of the camera and faces [2 cells^2, 3]."""
    theta = torch.linspace(0, math.pi, cells + 1)[:, None]
    phi = torch.arange(cells) * (2 * math.pi / cells)
    radius = 1 + 0.05 * torch.sin(9 * theta) * torch.sin(7 * phi)
    x, y = radius * theta.sin() * phi.cos(), radius * theta.sin() * phi.sin()
    points = torch.stack([x, radius * theta.cos(), y + 2.6], -1).reshape(-1, 3)
    i, j = torch.meshgrid(torch.arange(cells), torch.arange(cells), indexing="ij")
    a, b = i * cells + j, i * cells + (j + 1) % cells
    corners = torch.stack([a, b, b + cells, a, b + cells, a + cells], -1)
    return points, corners.reshape(-1, 3)


def expect_the_same(points: Tensor, faces: Tensor, forms: dict[str, Form]) -> None:
    """Rounding may move a ray across an edge in one form and not in another, but seldom."""
    expected = kernels.rasterize(points, faces, K, SIZE, NEAR)
    for name, run in forms.items():
        (found,) = run()  # pyright: ignore[reportGeneralTypeIssues]
        same = found.triangle == expected.triangle
        close = (found.weights - expected.weights).abs().amax(-1)[same] < 1e-2
        if same.float().mean() < 0.999 or close.float().mean() < 0.999:
            raise RuntimeError(f"{name} sees something else")


class Seen:
    """Faces, and the weights of their corners: what every form has to find."""

    def __init__(self, triangle: Tensor, weights: Tensor) -> None:
        self.triangle, self.weights = triangle.view(SIZE), weights.view(*SIZE, 3)


def planes_and_boxes(points: Tensor, faces: Tensor) -> tuple[Tensor, ...]:
    """Edge functions over inverse depths [F, 3, 3], first pixel, columns and rows [F] of faces that
    are in front of the camera; float32 with the origin of the pixels at each box."""
    q = points @ K.T
    corners = q[faces]
    xy = corners[..., :2] / corners[..., 2:]
    low = (xy.amin(1) - 0.5).ceil().clamp(min=0)
    high = torch.minimum((xy.amax(1) - 0.5).floor(), torch.tensor([SIZE[1] - 1.0, SIZE[0] - 1.0]))
    kept = (high >= low).all(-1).nonzero()[:, 0]
    corners, low, high = corners[kept], low[kept], high[kept]
    shifted = corners.clone()
    shifted[..., :2] -= (low + 0.5)[:, None] * corners[..., 2:]
    normals = torch.linalg.cross(shifted.roll(-1, 1), shifted.roll(-2, 1), dim=-1)
    determinant = (normals[:, 0] * shifted[:, 0]).sum(-1)
    planes = normals / determinant[:, None, None]
    columns, rows = (high - low + 1).long().unbind(-1)
    first = (low[:, 1] * SIZE[1] + low[:, 0]).long()
    return planes, first, columns, rows, kept


def nearest(inverse: Tensor, face: Tensor) -> Tensor:
    """Depth and face in one number, the nearest the smallest."""
    bits = (1 / inverse).view(torch.int32).long()
    return (bits << 32) | face


def from_keys(keys: Tensor, planes: Tensor, first: Tensor, kept: Tensor) -> Seen:
    hit = (keys != FAR_KEY).nonzero()[:, 0]
    face = keys[hit] & 0xFFFFFFFF
    x = (hit % SIZE[1] - first[face] % SIZE[1]).float()
    y = (hit // SIZE[1] - first[face] // SIZE[1]).float()
    p = planes[face]
    e = p[..., 0] * x[:, None] + p[..., 1] * y[:, None] + p[..., 2]
    weights = torch.zeros(len(keys), 3).index_copy(0, hit, e / e.sum(-1, keepdim=True))
    return Seen(torch.full_like(keys, -1).index_copy(0, hit, kept[face]), weights)


def by_pairs(points: Tensor, faces: Tensor) -> Seen:
    planes, first, columns, rows, kept = planes_and_boxes(points, faces)
    area = columns * rows
    face = torch.repeat_interleave(area)
    rank = torch.arange(len(face)) - (area.cumsum(0) - area)[face]
    width = columns[face]
    dy = torch.div(rank, width, rounding_mode="floor")
    dx = rank - dy * width
    a, b, c = planes[face].unbind(-1)
    e = a * dx.float()[:, None] + b * dy.float()[:, None] + c
    hit = (e >= 0).all(-1).nonzero()[:, 0]
    pixel = first[face[hit]] + dy[hit] * SIZE[1] + dx[hit]
    keys = torch.full((SIZE[0] * SIZE[1],), FAR_KEY)
    keys = keys.scatter_reduce(0, pixel, nearest(e[hit].sum(-1), face[hit]), "amin")
    return from_keys(keys, planes, first, kept)


def by_box_sizes(points: Tensor, faces: Tensor) -> Seen:
    """Faces whose boxes have about the same side as one dense block."""
    planes, first, columns, rows, kept = planes_and_boxes(points, faces)
    side = torch.maximum(columns, rows)
    keys = torch.full((SIZE[0] * SIZE[1],), FAR_KEY)
    for low, high in ((0, 1), (1, 2), (2, 3), (3, 4), (4, 6), (6, 8), (8, 16), (16, 64), (64, 512)):
        some = ((side > low) & (side <= high)).nonzero()[:, 0]
        if not len(some):
            continue
        dy, dx = (v.reshape(-1) for v in torch.meshgrid(*[torch.arange(high)] * 2, indexing="ij"))
        a, b, c = (v[..., None] for v in planes[some].unbind(-1))
        e = a * dx.float() + (b * dy.float() + c)
        hit = (e >= 0).all(1) & (dx < columns[some, None]) & (dy < rows[some, None])
        face, at = hit.nonzero().unbind(-1)
        pixel = first[some[face]] + (dy * SIZE[1] + dx)[at]
        keys.scatter_reduce_(0, pixel, nearest(e.sum(1)[hit], some[face]), "amin")
    return from_keys(keys, planes, first, kept)


def embree_rays(points: Tensor, faces: Tensor) -> Callable[[], Seen]:
    """First hits of Embree's rays, its tree built beforehand, and the weights from them."""
    import trimesh
    from trimesh.ray.ray_pyembree import RayMeshIntersector

    mesh = trimesh.Trimesh(points.numpy(), faces.numpy(), process=False)
    tree = RayMeshIntersector(mesh)
    y, x = torch.meshgrid(torch.arange(SIZE[0]), torch.arange(SIZE[1]), indexing="ij")
    pixels = torch.stack([x + 0.5, y + 0.5, torch.ones_like(x)], -1).reshape(-1, 3)
    rays = F.normalize(pixels.double() @ torch.linalg.inv(K.double()).T, dim=-1)
    origins, directions = torch.zeros_like(rays).numpy(), rays.numpy()
    exact = points.double()

    def run() -> Seen:
        triangle = torch.from_numpy(tree.intersects_first(origins, directions))
        hit = (triangle >= 0).nonzero()[:, 0]
        p = exact[faces[triangle[hit]]]
        normals = torch.linalg.cross(p.roll(-1, 1), p.roll(-2, 1), dim=-1)
        e = (normals * rays[hit][:, None]).sum(-1)
        found = (e / e.sum(-1, keepdim=True)).float()
        return Seen(triangle, torch.zeros(len(rays), 3).index_copy(0, hit, found))

    return run


def footprint_case(channels: int = 64, cells: int = 806) -> Case:
    """One view of a mesh of 650 k vertices: features to the pixels, and pixels to the vertices."""
    points, faces = ball(cells)
    seen = kernels.rasterize(points, faces, K, SIZE, NEAR)
    hit = seen.triangle >= 0
    index = faces[seen.triangle[hit].long()].int().contiguous()
    weights = seen.weights[hit]
    elements, pixels = len(points), len(index)
    features, image = torch.randn(elements, channels), torch.randn(pixels, channels)
    rows = torch.arange(0, 3 * pixels + 1, 3)
    size = (pixels, elements)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch calls its CSR tensors new
        csr = torch.sparse_csr_tensor(rows, index.reshape(-1).long(), weights.reshape(-1), size)
        transposed = csr.to_sparse_coo().t().coalesce().to_sparse_csr()

    def added() -> Tensor:
        terms = (weights[..., None] * image[:, None]).reshape(-1, channels)
        return torch.zeros(elements, channels).index_add_(0, index.reshape(-1), terms)

    def added_by_corner() -> Tensor:
        out = torch.zeros(elements, channels)
        for k in range(3):
            out.index_add_(0, index[:, k], weights[:, k, None] * image)
        return out

    def selected() -> Tensor:
        parts = features.index_select(0, index.reshape(-1)).view(pixels, 3, channels)
        return torch.einsum("pkc,pk->pc", parts, weights)

    def bag() -> Tensor:
        return F.embedding_bag(index, features, per_sample_weights=weights, mode="sum")

    def both(forward: Callable[[], Tensor], backward: Callable[[], Tensor]) -> Form:
        return lambda: [forward(), backward()]

    ours = both(
        lambda: kernels.gather(features, index, weights),
        lambda: kernels.scatter(image, index, weights, elements),
    )
    forms = {
        "embedding_bag + index_add": both(bag, added),
        "embedding_bag + three index_adds": both(bag, added_by_corner),
        "index_select + index_add": both(selected, added),
        "CSR products, both matrices at hand": both(
            lambda: csr @ features, lambda: transposed @ image
        ),
    }
    for name, run in forms.items():
        for found, expected in zip(run(), ours(), strict=True):  # pyright: ignore
            if not torch.allclose(found, expected, rtol=1e-3, atol=1e-3):
                raise RuntimeError(f"{name} computes something else")
    name = f"gather + scatter, {pixels} pixels, {elements} elements x {channels}"
    return Case(name, ours, forms)
