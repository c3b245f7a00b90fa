"""The four geometries as scenes that can be lifted onto: what a camera sees of them, element by
element."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from geodistill.cameras import Camera, sphere_cameras
from geodistill.checks import InputError, UsageError
from geodistill.footprint import Footprint
from geodistill.geometry import mesh as meshes
from geodistill.geometry.fields import Field, load_field
from geodistill.geometry.fields.activations import SH_C0
from geodistill.geometry.fields.files import field_tensors
from geodistill.geometry.kinds import Kind, kind_of
from geodistill.geometry.mesh import Mesh
from geodistill.geometry.mesh_files import load_mesh, save_mesh
from geodistill.geometry.orientation import Vector, up_of
from geodistill.geometry.points import Points, load_points, points_digest, save_points
from geodistill.geometry.splats import Splats, load_splats, save_splats, splats_digest
from geodistill.geometry.surface import closest_surface_points
from geodistill.io.clouds import FORMATS as CLOUDS
from geodistill.io.meshes import WRITERS as MESHES
from geodistill.io.splats import FORMATS as SPLATS
from geodistill.lift.fill import filled_along, filled_in_space
from geodistill.lift.scene import Look, Scene, Spot
from geodistill.lift.views import OPAQUE
from geodistill.render.borders import edge_distance_px
from geodistill.render.field_footprint import FieldFootprint, FieldGrid
from geodistill.render.fields import render_view
from geodistill.render.mesh import MeshBuffer, MeshFootprint, grazing, mesh_gbuffer
from geodistill.render.points import PointFootprint, default_radius
from geodistill.render.splats import SplatFootprint, render_splats
from geodistill.runs import result_file
from geodistill.shade.lights import headlight
from geodistill.shade.view import GREY, shaded_view
from geodistill.shade.viewable import TAIL

FOV_RAD = math.radians(40.0)
MARGIN = 1.1
"""How much farther than need be cameras stand: splats and discs reach beyond their centres."""
UP: Vector = (0.0, 1.0, 0.0)
BACKGROUND = 1.0
"""Grey level behind everything, display-referred."""
GRID = 128
"""Nodes an axis of the grid that carries the features of a field."""
EXTENT = (1e-15, 1e15)
"""Sizes of a geometry whose squares and areas single precision holds."""
_SAMPLE = 100_000
BORDER_TRUST = 0.05
"""Trust in pixels at an edge, whose patches show two things."""


class MeshScene:
    """A mesh; its elements are its vertices."""

    kind = "mesh"
    up: Vector = UP

    def __init__(self, mesh: Mesh) -> None:
        _expect_extent(mesh.vertices)
        self.mesh, self.positions, self.digest = mesh, mesh.vertices, meshes.mesh_digest(mesh)
        self.normals = meshes.vertex_normals(mesh)

    def look(self, camera: Camera, patch_px: float) -> Look:
        mesh, buffer = self.mesh, self._buffer(camera)
        image, opacity = shaded_view(mesh, buffer, camera, headlight)
        footprint = MeshFootprint(buffer.triangle, buffer.weights, mesh.faces, len(mesh.vertices))
        inside = _inside(opacity > OPAQUE, buffer.position, patch_px)
        trust = grazing(buffer, camera) * opacity * inside
        return Look(_over(image, opacity), lambda: footprint, buffer.position, trust)

    def picture(self, camera: Camera) -> Tensor:
        """What a camera sees, over the background. [H, W, 3]"""
        return _over(*shaded_view(self.mesh, self._buffer(camera), camera, headlight))

    def _buffer(self, camera: Camera) -> MeshBuffer:
        return mesh_gbuffer(self.mesh.vertices, self.mesh.faces, camera, self.normals)

    def filled(self, features: Tensor, seen: Tensor) -> Tensor:
        """Along the surface; vertices at one place are one."""
        weld = meshes.welded(self.mesh)
        pairs, lengths = meshes.edges(self.mesh)
        first = torch.zeros(int(weld.max()) + 1, dtype=torch.int64)
        first[weld.flip(0)] = torch.arange(len(weld)).flip(0)
        twins = (first[weld] != torch.arange(len(weld))).nonzero()[:, 0]
        bonds = torch.stack([twins, first[weld[twins]]], dim=1)
        short = lengths.new_full((len(twins),), 1e-9 * meshes.diagonal(self.mesh))
        edges = torch.cat([first[pairs], bonds])
        return filled_along(features, seen, self.positions, edges, torch.cat([lengths, short]))

    def at(self, point: Tensor) -> Spot:
        face, weights, distance = closest_surface_points(self.mesh, point[None])
        return Spot(self.mesh.faces[face[0]], weights[0], float(distance[0]))

    @property
    def framed(self) -> Tensor:
        """Vertices that no face uses are not seen."""
        return self.mesh.vertices[self.mesh.faces.reshape(-1).unique()]

    def expect_ending(self, path: Path) -> None:
        _expect_ending(path, "a mesh", MESHES)

    def save(self, path: Path, attributes: Mapping[str, Tensor], colors: Tensor | None) -> None:
        mesh = self.mesh
        if colors is not None:
            mesh = meshes.Mesh(mesh.vertices, mesh.faces, colors=_rgba(colors))
        save_mesh(path, mesh, attributes)


class PointScene:
    """A point cloud, drawn as discs; its elements are its points."""

    kind = "point cloud"
    up: Vector = UP

    def __init__(self, points: Points, radius: float | None = None) -> None:
        _expect_extent(points.positions)
        self.positions, self.digest = points.positions, points_digest(points)
        self.radius = default_radius(points.positions) if radius is None else radius
        self.points, self.normals = points, points.normals
        grey = torch.full((len(points.positions), 3), GREY)
        self._colors = grey if points.colors is None else points.colors[:, :3].float() / 255

    def look(self, camera: Camera, patch_px: float) -> Look:
        footprint = PointFootprint.seen_by(camera, self.positions, self.radius)
        opacity = footprint.row_sums().reshape(camera.size)
        image = footprint.render(self._colors).reshape(*camera.size, 3)
        return _volumetric(
            image + BACKGROUND * (1 - opacity[..., None]),
            lambda: footprint,
            opacity,
            _places(footprint, self.positions, camera),
            patch_px,
        )

    def filled(self, features: Tensor, seen: Tensor) -> Tensor:
        return filled_in_space(features, seen, self.positions)

    def at(self, point: Tensor) -> Spot:
        return _nearest(self.positions, point)

    @property
    def framed(self) -> Tensor:
        return _without_strays(self.positions)

    def expect_ending(self, path: Path) -> None:
        _expect_ending(path, "points", CLOUDS)

    def save(self, path: Path, attributes: Mapping[str, Tensor], colors: Tensor | None) -> None:
        points = self.points
        shown = points.colors if colors is None else _rgba(colors)
        columns = {**points.attributes, **attributes}
        save_points(path, Points(points.positions, shown, points.normals, columns))


class SplatScene:
    """Gaussian splats; each is an element."""

    kind = "splats"
    up: Vector = UP
    normals = None

    def __init__(self, splats: Splats) -> None:
        _expect_extent(splats.means)
        self.splats, self.positions = splats, splats.means.double().cpu()
        self.digest = splats_digest(splats)

    def look(self, camera: Camera, patch_px: float) -> Look:
        view = render_splats(self.splats, camera, BACKGROUND)
        footprint = SplatFootprint.from_camera(self.splats, camera)
        return _volumetric(
            view.image.clamp(0, 1),
            lambda: SplatFootprint.from_camera(self.splats, camera),
            view.opacity,
            _places(footprint, self.splats.means.double(), camera),
            patch_px,
        )

    def filled(self, features: Tensor, seen: Tensor) -> Tensor:
        return filled_in_space(features, seen, self.positions)

    def at(self, point: Tensor) -> Spot:
        return _nearest(self.positions, point)

    @property
    def framed(self) -> Tensor:
        return _without_strays(self.positions)

    def expect_ending(self, path: Path) -> None:
        _expect_ending(path, "splats", [e for e, f in SPLATS.items() if f.write])

    def save(self, path: Path, attributes: Mapping[str, Tensor], colors: Tensor | None) -> None:
        splats = self.splats.to("cpu")
        if colors is not None:
            splats = replace(splats, sh=((colors - 0.5) / SH_C0)[:, None].to(splats.sh))
        save_splats(path, splats, attributes)


class FieldScene:
    """A radiance field; its elements are the nodes of a grid over its occupied cells."""

    kind = "field"
    up: Vector = UP
    normals = None

    def __init__(self, field: Field) -> None:
        self.field, self.grid = field, FieldGrid.of_field(field, GRID)
        self.positions = self.grid.positions
        self.digest = _field_digest(field)

    def look(self, camera: Camera, patch_px: float) -> Look:
        view = render_view(self.field, camera)
        footprint = FieldFootprint(self.field, self.grid, camera)
        return _volumetric(
            view.over(BACKGROUND).clamp(0, 1),
            lambda: FieldFootprint(self.field, self.grid, camera),
            view.opacity,
            _places(footprint, self.positions, camera),
            patch_px,
        )

    def filled(self, features: Tensor, seen: Tensor) -> Tensor:
        return filled_in_space(features, seen, self.positions)

    def at(self, point: Tensor) -> Spot:
        return _nearest(self.positions, point)

    @property
    def framed(self) -> Tensor:
        """Of a contracted field the nodes of its inner cube, where most of it is."""
        local = self.field.frame.inverse().apply(self.positions)
        inner = self.positions[local.abs().amax(1) <= 1]
        return inner if len(inner) else self.positions

    def expect_ending(self, path: Path) -> None:
        _expect_ending(path, "a field's elements", CLOUDS)

    def save(self, path: Path, attributes: Mapping[str, Tensor], colors: Tensor | None) -> None:
        shown = None if colors is None else _rgba(colors)
        save_points(path, Points(self.positions, shown, attributes=attributes))


def load_scene(path: Path | str, device: torch.device | str = "cpu") -> Scene:
    """The scene in a file: a mesh, a point cloud, splats or a field (also a run folder).

    Splats are drawn on the device; of the others the CPU has the faster kernels. What is up is as
    `geometry.orientation.up_of` has it.

    Raises:
        InputError: no such file, or one that is damaged, holds none of these, or is of a size
            beyond `EXTENT`.
    """
    path = result_file(path)
    kind = kind_of(path)
    scene = _MAKERS[kind](path, torch.device(device))
    views = scene.field.views if isinstance(scene, FieldScene) else None
    scene.up = up_of(kind, path, views).axis
    return scene


_MAKERS: dict[Kind, Callable[[Path, torch.device], Scene]] = {
    "mesh": lambda path, device: MeshScene(load_mesh(path)),
    "points": lambda path, device: PointScene(load_points(path)),
    "splats": lambda path, device: SplatScene(load_splats(path).to(device)),
    "field": lambda path, device: FieldScene(load_field(path)),
}


def cameras_around(scene: Scene, count: int, size_px: int, seed: int = 0) -> Camera:
    """Cameras spread over a sphere about the scene, which they see whole and upright.

    Raises InputError for a scene without extent.
    """
    return cameras_about(scene.framed, count, size_px, seed, scene.up)


def cameras_about(
    positions: Tensor, count: int, size_px: int, seed: int = 0, up: Vector = UP
) -> Camera:
    """The same about positions [N, 3]."""
    low, high = positions.amin(dim=0), positions.amax(dim=0)
    center = 0.5 * (low + high)
    radius = float((positions - center).norm(dim=1).max())
    if not radius > 0:
        raise InputError("all of the geometry lies at one point: there is nothing to look at")
    distance = MARGIN * radius / math.sin(0.5 * FOV_RAD)
    return sphere_cameras(count, center, distance, FOV_RAD, (size_px, size_px), seed, up=up)


def _without_strays(positions: Tensor) -> Tensor:
    """Those of positions [N, 3] in twice the box that nearly all are in: a few fly far away."""
    some = positions[:: max(1, len(positions) // _SAMPLE)]
    low, high = (torch.quantile(some, share, dim=0) for share in (TAIL, 1 - TAIL))
    wide = (high - low).amax()
    near = ((positions - (low + high) / 2).abs() <= wide).all(1)
    return positions[near] if wide > 0 else positions


def _expect_ending(path: Path, what: str, known: Collection[str]) -> None:
    if path.suffix.lower() not in known:
        raise UsageError(f"cannot write {what} as {path.name}: choose {', '.join(known)}")


def _expect_extent(positions: Tensor) -> None:
    """Raise InputError for positions [N, 3] whose squares and areas overflow or vanish."""
    extent = float((positions.amax(dim=0) - positions.amin(dim=0)).max()) if len(positions) else 0.0
    low, high = EXTENT
    if extent and not low <= extent <= high:
        raise InputError(
            f"the geometry is {extent:.3g} units large, sizes from {low:g} to {high:g} can be "
            "computed with: scale it"
        )


def _field_digest(field: Field) -> str:
    """16 hexadecimal digits that tell a field from another."""
    digest = hashlib.sha256()
    for name, tensor in sorted(field_tensors(field).items()):
        digest.update(f"{name} {[*tensor.shape]}".encode())
        digest.update(tensor.numpy().tobytes())
    return digest.hexdigest()[:16]


def _nearest(positions: Tensor, point: Tensor) -> Spot:
    """The element nearest to a point [3]."""
    distance, index = (positions - point.to(positions)).norm(dim=1).min(dim=0)
    return Spot(index[None], torch.ones(1, dtype=torch.float64), float(distance))


def _rgba(colors: Tensor) -> Tensor:
    """[N, 3] in [0, 1] -> uint8 [N, 4]"""
    opaque = torch.cat([colors, colors.new_ones(len(colors), 1)], dim=1)
    return (255 * opaque.clamp(0, 1)).round().to(torch.uint8)


def _over(image: Tensor, opacity: Tensor) -> Tensor:
    return image * opacity[..., None] + BACKGROUND * (1.0 - opacity[..., None])


def _inside(hit: Tensor, position: Tensor, patch_px: float) -> Tensor:
    """From `BORDER_TRUST` at an edge to 1 half a patch away from it, 0 where nothing is. [H, W]"""
    half = 0.5 * patch_px
    distance = edge_distance_px(hit, position, max(1, math.ceil(half))) + 0.5
    return (distance / half).clamp(BORDER_TRUST, 1.0) * hit


def _places(footprint: Footprint, positions: Tensor, camera: Camera) -> Tensor:
    """Mean position of what each pixel shows. float64 [H, W, 3]"""
    center = camera.centers.to(positions)
    mean = footprint.render((positions - center).float()).double()
    mean = mean / footprint.row_sums().double().clamp_min(1e-6)[:, None]
    return (mean + center).reshape(*camera.size, 3)


def _volumetric(
    image: Tensor,
    footprint: Callable[[], Footprint],
    opacity: Tensor,
    points: Tensor,
    patch_px: float,
) -> Look:
    """A look at what has no surface normals."""
    trust = opacity.clamp(max=1.0) * _inside(opacity > OPAQUE, points, patch_px)
    return Look(image, footprint, points, trust)
