"""Triangle meshes: state, and what follows from positions and faces alone.

A vertex with two texture coordinates is two vertices at one place, so whatever must not see such
seams works on `welded` vertices. Meshes may be non-manifold, disconnected, and hold faces without
area; nothing here repairs them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from geodistill.checks import InputError, check, check_finite
from geodistill.io.meshes import distinct_rows


@dataclass(frozen=True, eq=False)
class Material:
    """A surface colour: a display-referred (sRGB) RGBA factor, times a texture where there is one.

    Raises InputError or ShapeError for a factor outside [0, 1] or a texture of another form.
    """

    name: str
    base_color: tuple[float, float, float, float]
    texture: Tensor | None = None  # uint8 [H, W, 4] sRGB RGBA, first row = top of the image

    def __post_init__(self) -> None:
        if len(self.base_color) != 4 or not all(0 <= value <= 1 for value in self.base_color):
            raise InputError(
                f"the base colour of material '{self.name}' must be four values in [0, 1], got "
                f"{self.base_color}"
            )
        if self.texture is not None:
            check(**{f"the texture of material '{self.name}'": (self.texture, "_ _ 4")})
            _check_type(f"the texture of material '{self.name}'", self.texture, torch.uint8)


@dataclass(frozen=True, eq=False)
class Mesh:
    """Triangles in the user's own frame and unit.

    Raises InputError for vertices that are not finite, indices out of range or other number types,
    ShapeError for tensors that do not fit one another.
    """

    vertices: Tensor  # float64 [V, 3]
    faces: Tensor  # int64 [F, 3]
    uv: Tensor | None = None  # float32 [V, 2], origin at the lower left of the texture
    colors: Tensor | None = None  # uint8 [V, 4] sRGB RGBA
    materials: tuple[Material, ...] = ()
    face_material: Tensor | None = None  # int64 [F], index into materials, -1 for none

    def __post_init__(self) -> None:
        given = {
            "vertices": (self.vertices, "V 3", torch.float64),
            "faces": (self.faces, "F 3", torch.int64),
            "uv": (self.uv, "V 2", torch.float32),
            "colors": (self.colors, "V 4", torch.uint8),
            "face_material": (self.face_material, "F", torch.int64),
        }
        check(**{n: (t, pattern) for n, (t, pattern, _) in given.items() if t is not None})
        for name, (tensor, _, dtype) in given.items():
            if tensor is not None:
                _check_type(name, tensor, dtype)
        if not len(self.faces):
            raise InputError("a mesh needs at least one face")
        check_finite(vertices=self.vertices, **({} if self.uv is None else {"uv": self.uv}))
        _check_range("faces", self.faces, 0, len(self.vertices), "vertices")
        if self.face_material is not None:
            _check_range("face_material", self.face_material, -1, len(self.materials), "materials")


def _check_type(name: str, tensor: Tensor, dtype: torch.dtype) -> None:
    if tensor.dtype != dtype:
        raise InputError(f"{name} must be {dtype}, got {tensor.dtype}: convert it")


def _check_range(name: str, index: Tensor, least: int, count: int, what: str) -> None:
    low, high = int(index.min()), int(index.max())
    if low < least or high >= count:
        raise InputError(
            f"{name} refers to number {low if low < least else high}, but there are {count} {what}"
        )


def bounds(mesh: Mesh) -> tuple[Tensor, Tensor]:
    """Corners of the axis-aligned box of the vertices that faces use. (float64 [3], [3])"""
    used = mesh.vertices[mesh.faces.reshape(-1)]
    return used.amin(dim=0), used.amax(dim=0)


def center(mesh: Mesh) -> Tensor:
    """The middle of the bounds, float64 [3]."""
    low, high = bounds(mesh)
    return (low + high) / 2


def diagonal(mesh: Mesh) -> float:
    """The length of the bounds' diagonal: the unit of every relative tolerance."""
    low, high = bounds(mesh)
    return float((high - low).norm())


def welded(mesh: Mesh) -> Tensor:
    """Number of each vertex's distinct position, int64 [V], in the order of first appearance.

    Positions are one when they are exactly equal, so near duplicates stay apart.
    """
    number, _ = distinct_rows(mesh.vertices.detach().cpu().numpy())
    return torch.from_numpy(number).to(mesh.vertices.device)


def corners(mesh: Mesh) -> Tensor:
    """The positions of every face's vertices, float64 [F, 3, 3]."""
    return mesh.vertices[mesh.faces]


def area_vectors(mesh: Mesh) -> Tensor:
    """Normal of every face times its area, float64 [F, 3]; right-handed about the corners."""
    a, b, c = corners(mesh).unbind(dim=1)
    return torch.linalg.cross(b - a, c - a) / 2


def triangle_areas(mesh: Mesh) -> Tensor:
    """float64 [F], in squared units of the mesh."""
    return area_vectors(mesh).norm(dim=-1)


def face_normals(mesh: Mesh) -> Tensor:
    """Unit normals, float64 [F, 3]; zero for a face without area."""
    return _unit(area_vectors(mesh))


def vertex_normals(mesh: Mesh) -> Tensor:
    """Unit normals, float64 [V, 3]: the sum of area vectors around each distinct position.

    Vertices at one place get one normal, so texture seams show no crease. Zero where no face with
    an area meets.
    """
    return area_weighted_normals(mesh.vertices, mesh.faces, welded(mesh))


def area_weighted_normals(vertices: Tensor, faces: Tensor, weld: Tensor | None = None) -> Tensor:
    """Unit normals [V, 3] of vertices, averages over their faces; differentiable.

    Args:
        vertices: [V, 3].
        faces: int64 [F, 3].
        weld: int64 [V], the number of each vertex's position; None: no two are at one place.

    Vertices of no face, or whose faces cancel, have zero.
    """
    check(vertices=(vertices, "V 3"), faces=(faces, "F 3"))
    a, b, c = vertices[faces].unbind(1)
    across = torch.linalg.cross(b - a, c - a).repeat_interleave(3, 0)
    point = torch.arange(len(vertices), device=faces.device) if weld is None else weld
    total = torch.zeros_like(vertices).index_add(0, point[faces].reshape(-1), across)
    return _unit(total)[point]


def _unit(vectors: Tensor) -> Tensor:
    """Vectors of length 1; a zero vector stays zero, the smallest one does not."""
    scaled = vectors / vectors.abs().amax(dim=-1, keepdim=True).clamp_min(1e-300)
    return scaled / scaled.norm(dim=-1, keepdim=True).clamp_min(1e-300)


def edges(mesh: Mesh) -> tuple[Tensor, Tensor]:
    """The distinct edges between distinct positions, and their lengths.

    Returns:
        Pairs of numbers of `welded`, int64 [E, 2], the smaller first, in ascending order; float64
        [E]. Edges of a face that uses one position twice are left out.
    """
    weld = welded(mesh)
    count = int(weld.max()) + 1
    face = weld[mesh.faces]
    pairs = torch.cat([face[:, [0, 1]], face[:, [1, 2]], face[:, [2, 0]]])
    low, high = pairs.amin(dim=1), pairs.amax(dim=1)
    keys = torch.unique((low * count + high)[low != high])
    pairs = torch.stack([keys // count, keys % count], dim=1)
    places = weld.new_empty(count)
    places[weld.flip(0)] = torch.arange(len(weld), device=weld.device).flip(0)
    ends = mesh.vertices[places[pairs]]
    return pairs, (ends[:, 1] - ends[:, 0]).norm(dim=-1)


def components(mesh: Mesh) -> Tensor:
    """Connected component of each vertex over distinct positions, int64 [V].

    Components are numbered in the order of their first vertex; a vertex without faces is one by
    itself.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components

    weld = welded(mesh)
    count = int(weld.max()) + 1
    pairs = edges(mesh)[0].cpu().numpy()
    ones = torch.ones(len(pairs), dtype=torch.bool).numpy()
    graph = coo_matrix((ones, (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    _, label = connected_components(graph, directed=False)
    number, _ = distinct_rows(label[:, None])
    return torch.from_numpy(number).to(weld.device)[weld]


def transformed(mesh: Mesh, matrix: Tensor) -> Mesh:
    """The mesh moved by an affine matrix [4, 4]; a mirroring one also turns the faces around.

    Raises InputError when the matrix is not finite or its last row is not (0, 0, 0, 1).
    """
    check(matrix=(matrix, "4 4"))
    check_finite(matrix=matrix)
    matrix = matrix.to(mesh.vertices)
    if matrix[3].tolist() != [0, 0, 0, 1]:
        raise InputError(f"the last row of an affine matrix is 0 0 0 1, got {matrix[3].tolist()}")
    vertices = mesh.vertices @ matrix[:3, :3].T + matrix[:3, 3]
    faces = mesh.faces if torch.linalg.det(matrix[:3, :3]) >= 0 else mesh.faces[:, [0, 2, 1]]
    return replace(mesh, vertices=vertices, faces=faces)


def mesh_digest(mesh: Mesh) -> str:
    """16 hexadecimal digits that tell this geometry from another, whatever it looks like.

    Taken from positions in single precision and faces, in order, so that a copy of the mesh in
    another format has the same one.
    """
    vertices = (mesh.vertices.detach().cpu().float() + 0.0).contiguous()  # -0 is 0
    digest = hashlib.sha256(f"{len(mesh.vertices)} {len(mesh.faces)} ".encode())
    digest.update(vertices.numpy().astype("<f4", copy=False).tobytes())
    digest.update(mesh.faces.cpu().contiguous().numpy().astype("<i8", copy=False).tobytes())
    return digest.hexdigest()[:16]
