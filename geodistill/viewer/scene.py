"""A scene as the page is told of it: a description, and arrays by their digests."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from geodistill.cameras import Similarity
from geodistill.checks import UsageError
from geodistill.deform.surface import Surface
from geodistill.geometry.fields import Field
from geodistill.geometry.mesh import Mesh, mesh_digest, vertex_normals
from geodistill.geometry.mesh import bounds as mesh_bounds
from geodistill.geometry.orientation import Axis, Up, Vector, named, up_of
from geodistill.geometry.points import bounds as point_bounds
from geodistill.render.splats import near_depth
from geodistill.render.viewable import FieldView
from geodistill.render.viewpoints import DEFAULT_FOV_RAD
from geodistill.runs import result_file
from geodistill.shade.viewable import MeshView, PointView, SplatView, Viewable
from geodistill.viewer.protocol import VERSION

DType = Literal["float32", "float16", "uint32", "uint8"]
MOST_HALF = 65504.0
WIDE = 1.5
"""In half sides of a scene's cube: splats farther out are shown, and do not count for its box."""


@dataclass(frozen=True, eq=False)
class Array:
    """Numbers for the GPU: raw and little-endian, told apart by their digest."""

    data: bytes
    dtype: DType
    shape: tuple[int, ...]

    @cached_property
    def sha(self) -> str:
        return hashlib.sha256(f"{self.dtype} {self.shape} ".encode() + self.data).hexdigest()

    def described(self) -> dict[str, Any]:
        return {"sha": self.sha, "dtype": self.dtype, "shape": list(self.shape)}


@dataclass(frozen=True)
class Home:
    """Where to look from at first, in the world."""

    eye: Vector
    target: Vector
    fov_y: float


@dataclass(frozen=True, eq=False)
class SceneDescription:
    """What the page needs to show a scene; positions of arrays are relative to `origin`.

    low, high  the box about the scene in the world
    counts     what there is how much of, for people
    groups     runs of faces with one material: first face, count, material or -1
    radius     of points, in world units
    near       depth up to which no splats are drawn, in world units
    digest     of a mesh whose positions are those of a surface, which handles move; `place`
               then says which of them each vertex has, and `order` which of the mesh's faces each
               face is, where these are not their own numbers
    edit       of a page without a server: the edit that it opens with; see `viewer.baked`
    """

    kind: Literal["mesh", "points", "splats", "field"]
    name: str
    up: Up
    low: Vector
    high: Vector
    counts: tuple[tuple[str, int], ...]
    origin: Vector = (0.0, 0.0, 0.0)
    home: Home | None = None
    arrays: Mapping[str, Array] = field(default_factory=dict)
    materials: tuple[dict[str, Any], ...] = ()
    groups: tuple[tuple[int, int, int], ...] = ()
    radius: float | None = None
    near: float | None = None
    digest: str | None = None
    edit: Mapping[str, Any] | None = None

    def manifest(self) -> dict[str, Any]:
        """The description as JSON, which viewer/src/protocol.ts names Manifest."""
        plain = {k: v for k, v in vars(self).items() if k not in ("arrays", "up", "home")}
        return {
            "version": VERSION,
            **plain,
            "up": self.up._asdict(),
            "home": None if self.home is None else asdict(self.home),
            "blobs": {name: array.described() for name, array in self.arrays.items()},
        }

    def by_digest(self) -> dict[str, Array]:
        return {array.sha: array for array in self.arrays.values()}


def describe(scene: Viewable, path: Path, up: Axis | None = None) -> SceneDescription:
    """The description of the scene in a file; `up` takes the place of what is found out."""
    if isinstance(scene, FieldView):
        return _field(scene, path, up)
    if isinstance(scene, SplatView):
        return _splats(scene, path, up)
    if isinstance(scene, PointView):
        return _points(scene, path, up)
    if isinstance(scene, MeshView):
        return _mesh(scene.mesh, path, up)
    raise UsageError(f"a {type(scene).__name__} is no scene that the viewer knows")


def describe_edit(
    mesh: Mesh, surface: Surface, path: Path, up: Axis | None = None
) -> SceneDescription:
    """The description of a mesh whose surface can be deformed."""
    described = _mesh(mesh, path, up)
    origin = torch.tensor(described.origin, dtype=torch.float64)
    arrays = {**described.arrays, "positions": _floats(surface.positions - origin)}
    if len(surface.positions) < len(mesh.vertices):
        arrays["place"] = _array(surface.welded.numpy().astype("<u4"), "uint32")
    order = _order(mesh)
    if order is not None:
        arrays["order"] = _array(order.numpy().astype("<u4"), "uint32")
    return replace(described, arrays=arrays, digest=mesh_digest(mesh))


def _name(path: Path) -> str:
    """Of the file, or of the run folder that it is the result of."""
    folder = path.absolute().parent
    return folder.name if result_file(folder) == path.absolute() else path.name


def _up(kind: Any, path: Path, scene: Viewable | None, up: Axis | None) -> Up:
    if up is not None:
        return Up(named(up), "user")
    return up_of(kind, path, None if scene is None else scene.views)


def _mesh(mesh: Mesh, path: Path, up: Axis | None) -> SceneDescription:
    low, high = mesh_bounds(mesh)
    origin = (low + high) / 2
    faces, groups = _grouped(mesh)
    arrays = {
        "positions": _floats(mesh.vertices - origin),
        "normals": _floats(vertex_normals(mesh)),
        "faces": _array(faces.numpy().astype("<u4"), "uint32"),
    }
    if mesh.uv is not None:
        arrays["uv"] = _floats(mesh.uv)
    if mesh.colors is not None:
        arrays["colors"] = _bytes(mesh.colors)
    materials = []
    for number, material in enumerate(mesh.materials):
        shown = {"color": list(material.base_color), "texture": None}
        if material.texture is not None and mesh.uv is not None:
            shown["texture"] = f"texture_{number}"
            arrays[f"texture_{number}"] = _bytes(material.texture)
        materials.append(shown)
    textures = sum(name.startswith("texture_") for name in arrays)
    counts = [("faces", len(mesh.faces)), ("vertices", len(mesh.vertices))]
    counts += [("materials", len(materials))] * (len(materials) > 1)
    counts += [("textures", textures)] * (textures > 0)
    return SceneDescription(
        kind="mesh",
        name=_name(path),
        up=_up("mesh", path, None, up),
        low=_vector(low),
        high=_vector(high),
        origin=_vector(origin),
        counts=tuple(counts),
        arrays=arrays,
        materials=tuple(materials),
        groups=groups,
    )


def _grouped(mesh: Mesh) -> tuple[Tensor, tuple[tuple[int, int, int], ...]]:
    """Faces in runs of one material; within a material they keep their order."""
    order = _order(mesh)
    if order is None or mesh.face_material is None:
        return mesh.faces, ((0, len(mesh.faces), 0 if mesh.materials else -1),)
    found, counts = mesh.face_material[order].unique_consecutive(return_counts=True)
    first = counts.cumsum(0) - counts
    groups = zip(first.tolist(), counts.tolist(), found.tolist(), strict=True)
    return mesh.faces[order], tuple(groups)


def _order(mesh: Mesh) -> Tensor | None:
    """The faces in runs of one material; None where they are all of one."""
    if not mesh.materials or mesh.face_material is None:
        return None
    return torch.sort(mesh.face_material, stable=True)[1]


def _points(view: PointView, path: Path, up: Axis | None) -> SceneDescription:
    points = view.points
    low, high = point_bounds(points)
    origin = (low + high) / 2
    arrays = {"positions": _floats(points.positions - origin)}
    if points.colors is not None:
        arrays["colors"] = _bytes(points.colors)
    return SceneDescription(
        kind="points",
        name=_name(path),
        up=_up("points", path, None, up),
        low=_vector(low),
        high=_vector(high),
        origin=_vector(origin),
        counts=(("points", len(points)),),
        arrays=arrays,
        radius=view.radius,
    )


def _splats(view: SplatView, path: Path, up: Axis | None) -> SceneDescription:
    splats = view.splats
    frame = view.frame
    means = splats.means.detach().double().cpu()
    # A few splats far away would make everything else small.
    inner = ((means - frame.t).abs() <= WIDE * frame.s).all(1)
    low, high = means[inner].amin(0), means[inner].amax(0)
    origin = frame.t
    flat = splats.sh.detach().cpu().float().flatten(1).clamp(-MOST_HALF, MOST_HALF)
    arrays = {
        "means": _floats(means - origin),
        "rotations": _floats(torch.nn.functional.normalize(splats.rotations.double(), dim=1)),
        "scales": _floats(splats.log_scales.double().exp()),
        "opacities": _floats(torch.sigmoid(splats.opacity_logits.double())),
        "harmonics": _array(flat.numpy().astype("<f2"), "float16"),
    }
    return SceneDescription(
        kind="splats",
        name=_name(path),
        up=_up("splats", path, view, up),
        low=_vector(low),
        high=_vector(high),
        origin=_vector(origin),
        counts=(("splats", len(splats)), ("SH degree", splats.degree)),
        arrays=arrays,
        near=near_depth(splats),
    )


def _field(view: FieldView, path: Path, up: Axis | None) -> SceneDescription:
    found = view.field
    low, high = _occupied(found)
    upward = _up("field", path, view, up)
    home = None
    if found.contraction != "none" and found.views is not None:
        home = _first_view(view)
    return SceneDescription(
        kind="field",
        name=_name(path),
        up=upward,
        low=_vector(low),
        high=_vector(high),
        origin=_vector(found.frame.t),
        counts=(("parameters", found.parameter_count()),),
        home=home,
    )


def _occupied(found: Field) -> tuple[Tensor, Tensor]:
    """The box about the occupied cells of a field, in the world; of a contracted one, its inner
    cube: beyond it goes everything."""
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=torch.float64)] * 3)
    cells = found.occupancy.nonzero().double().cpu()
    size = found.occupancy.shape[0]
    low, high = torch.full((3,), -1.0).double(), torch.full((3,), 1.0).double()
    if found.contraction == "none" and len(cells):
        low, high = cells.amin(0) * (2 / size) - 1, (cells.amax(0) + 1) * (2 / size) - 1
    world = _exact(found.frame).apply(low + corners * (high - low))
    return world.amin(0), world.amax(0)


def _first_view(view: FieldView) -> Home | None:
    """The first of the cameras, and what it looks at: the place on its axis nearest the middle."""
    assert view.views is not None
    camera = view.views.to("cpu", torch.float64)
    camera = camera[0] if camera.batch_shape else camera
    forward = camera.world_from_cam[:3, 2]
    ahead = float((view.frame.t.double().cpu() - camera.centers) @ forward)
    ahead = max(ahead, 0.1 * float(view.frame.s))
    fov_y = 2 * float(torch.atan(0.5 * camera.size[0] / camera.K[1, 1]))
    target = camera.centers + ahead * forward
    return Home(_vector(camera.centers), _vector(target), fov_y or DEFAULT_FOV_RAD)


def _exact(frame: Similarity) -> Similarity:
    return Similarity(frame.R.double().cpu(), frame.t.double().cpu(), frame.s)


def _floats(tensor: Tensor) -> Array:
    return _array(tensor.detach().cpu().numpy().astype("<f4"), "float32")


def _bytes(tensor: Tensor) -> Array:
    return _array(tensor.detach().cpu().numpy(), "uint8")


def _array(values: np.ndarray, dtype: DType) -> Array:
    return Array(np.ascontiguousarray(values).tobytes(), dtype, values.shape)


def _vector(tensor: Tensor) -> Vector:
    x, y, z = tensor.double().tolist()
    return x, y, z
