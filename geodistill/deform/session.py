"""An edit of a mesh as data: handles, anchors, transforms, and how they spread over the surface.

Lengths are in the mesh's own unit and frame, angles in degrees.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor

from geodistill.checks import GeodistillError, InputError
from geodistill.config.values import shown
from geodistill.deform.blend import linear_pose, pose, published_pose
from geodistill.deform.features import CENTRING, prepare
from geodistill.deform.locality import localise
from geodistill.deform.mirror import reflect, square_planes, symmetric_edit
from geodistill.deform.rigidity import polish
from geodistill.deform.sites import Site, point_site, region_site, vertex_site
from geodistill.deform.subject import Subject, subject_of
from geodistill.deform.surface import Surface, surface_of
from geodistill.deform.symmetry import SAMPLES, Plane, find_symmetries, surface_samples
from geodistill.deform.transforms import Transforms, joined, quaternion_rotation, transform
from geodistill.deform.weights import (
    cardinal_weights,
    published_anchors,
    published_weights,
)
from geodistill.geometry.mesh import Mesh
from geodistill.geometry.surface import closest_surface_points
from geodistill.lift.files import FeatureSet
from geodistill.log import say

VERSION = 1
Vector3 = tuple[float, float, float]

_STILL = 0.01  # the polish holds what handles hardly move
_POLISHED = 0.03  # of the diagonal: larger shapes stay as they are posed
_NEAR, _FAR = 0.05, 1.0  # of a position to the surface, in diagonals: said beyond, refused beyond
_MOST = 1000.0  # diagonals that a handle may move by or turn about


@dataclass(frozen=True)
class Anchor:
    """A place that stays. Exactly one of vertex, face, region and position says where."""

    vertex: int | None = None  # a vertex of the mesh
    face: int | None = None  # a point of a face, by `barycentric`
    barycentric: Vector3 | None = None  # middle of the face when left out
    region: tuple[int, ...] | None = None  # a set of vertices
    position: Vector3 | None = None  # the surface point nearest to here


@dataclass(frozen=True)
class Handle(Anchor):
    """A place and what it does: scale about the pivot, then rotate about it, then translate."""

    translate: Vector3 = (0.0, 0.0, 0.0)
    rotate: Vector3 | None = None  # axis times degrees
    quaternion: tuple[float, float, float, float] | None = None  # w, x, y, z, instead of rotate
    scale: float | Vector3 = 1.0  # along the axes
    pivot: Vector3 | None = None  # the place itself when left out
    locality: float | None = None  # the session's when left out


@dataclass(frozen=True)
class Mirror:
    """A plane that an edit mirrors itself in: normal · x = offset."""

    normal: Vector3
    offset: float = 0.0


@dataclass(frozen=True)
class Session:
    """All of an edit. `mesh` is the digest of the mesh it is for; without one it fits any mesh."""

    version: int = VERSION
    mesh: str | None = None
    method: Literal["cardinal", "published"] = "cardinal"
    blend: Literal["rotations", "linear"] = "rotations"  # of the cardinal method
    centring: float | None = None  # 0.7, and 0 for the published method, when left out
    radius: float | None = (
        None  # in feature distance, up to 2; found from the features when left out
    )
    falloff: float | None = None  # power of feature distance; found likewise
    locality: float = 0.0  # power of (1 - surface distance)
    seam: float = 0.05  # width on each side of a mirror, in diagonals of the mesh
    rigidity: int = 0  # iterations of the as-rigid-as-possible polish
    handles: tuple[Handle, ...] = ()
    anchors: tuple[Anchor, ...] = ()
    mirrors: tuple[Mirror, ...] = ()


@dataclass(frozen=True, eq=False)
class Edit:
    """What a session does to a mesh of V vertices."""

    vertices: Tensor  # float64 [V, 3] after the edit
    weights: Tensor  # float32 [V, H] of the session's handles, without their mirror images
    columns: Tensor  # float32 [V, K] weights of the K maps: of handles and of their mirror images
    maps: Transforms


def apply(session: Session, mesh: Mesh, features: Tensor) -> Edit:
    """A session's edit of a mesh with features [V, D].

    Raises InputError for a session of another mesh, a handle or anchor that the mesh has no place
    for or that is out of all proportion to it (naming it), a handle that an anchor holds, or
    features that cannot be used.
    """
    return apply_to(session, subject_of(mesh, features, centring_of(session)))


def centring_of(session: Session) -> float:
    """What a session takes off its features' mean."""
    default = 0.0 if session.method == "published" else CENTRING
    return default if session.centring is None else session.centring


def features_for(session: Session, found: FeatureSet) -> Tensor:
    """Features [V, D] as a session's method compares them: the published one the teacher's own,
    the other what views agree on."""
    return found.directions() if session.method == "published" else found.whitened()


def apply_to(session: Session, subject: Subject) -> Edit:
    """A session's edit of a subject, which was made with the session's centring; as `apply`."""
    expect_own(session, subject.digest)
    surface = subject.surface
    if not session.handles:
        rest = subject.mesh.vertices.detach().cpu().double()
        none = torch.zeros(len(rest), 0)
        return Edit(rest.clone(), none, none, joined([]))
    handles = places(session.handles, "handles", surface, subject.table)
    anchors = places(session.anchors, "anchors", surface, subject.table)
    planes = [plane_of(mirror) for mirror in session.mirrors]
    _expect_apart(handles, _on_all_sides(anchors, surface, planes))
    _expect_lengths(session.handles, surface)
    maps = joined(
        [handle_transform(h, site) for h, site in zip(session.handles, handles, strict=True)]
    )
    weights = handle_weights(session, subject, handles, anchors, planes)
    holds = [surface.positions[site.vertices] for site in handles]
    columns, all_maps = symmetric_edit(
        surface.positions, weights, maps, holds, planes, session.seam * surface.diagonal
    )
    posed = _posed(session, surface.positions, columns, all_maps)
    if session.rigidity:
        held = weights.sum(1) < _STILL
        for site in (*handles, *anchors):
            held[with_images(surface, site, planes)] = True
        reach = _POLISHED * surface.diagonal
        posed, _ = polish(surface, posed, held, session.rigidity, reach)
    welded = surface.welded
    return Edit(posed[welded], weights[welded], columns[welded], all_maps)


def expect_own(session: Session, digest: str) -> None:
    """Raise InputError for a session of another mesh than the one with this digest."""
    if session.mesh is not None and session.mesh != digest:
        raise InputError(
            f"the session is for the mesh {session.mesh}, this one is {digest}: "
            "open the mesh it was made with, or remove 'mesh' from it"
        )


def expect_room(session: Session, surface: Surface) -> None:
    """Raise InputError, naming the entry, for places that a surface does not have and for lengths
    that are out of all proportion to it: what can be told without features."""
    for kind, entries in (("handles", session.handles), ("anchors", session.anchors)):
        for index, entry in enumerate(entries):
            try:
                _expect_there(entry, surface)
            except InputError as error:
                raise InputError(f"{kind}[{index}]: {error}") from None
    _expect_lengths(session.handles, surface)


def find_mirrors(mesh: Mesh, features: Tensor, seed: int = 0) -> tuple[Mirror, ...]:
    """The planes in which an edit of a mesh with features [V, D] can mirror itself, best first.

    Raises InputError when there is none, or any of a continuum.
    """
    surface = surface_of(mesh)
    table = prepare(features, surface, centring=0.0)
    found = find_symmetries(surface_samples(surface, table, SAMPLES, seed))
    planes = square_planes(found.planes)
    if not planes and found.axes:
        raise InputError(
            "the shape is nearly the same all around an axis, through which any plane is a mirror"
        )
    if not planes:
        raise InputError(
            "the shape has no mirror plane in which both its surface and its features mirror; "
            "features of more views may show one"
        )
    normals = [plane.normal.tolist() for plane in planes]
    return tuple(
        Mirror((x, y, z), plane.offset) for (x, y, z), plane in zip(normals, planes, strict=True)
    )


def places(entries: tuple[Anchor, ...], kind: str, surface: Surface, table: Tensor) -> list[Site]:
    """Find the entries of a session on a surface. Raises InputError naming the entry."""
    sites = []
    for index, entry in enumerate(entries):
        name = f"{kind}[{index}]"
        try:
            sites.append(_site(entry, surface, table, name))
        except GeodistillError as error:
            raise InputError(f"{name}: {error}") from None
    return sites


def handle_transform(handle: Handle, site: Site) -> Transforms:
    """What a handle at a site does."""
    if handle.quaternion is not None:
        rotate = quaternion_rotation(handle.quaternion)
    else:
        x, y, z = handle.rotate or (0.0, 0.0, 0.0)
        rotate = math.radians(x), math.radians(y), math.radians(z)
    scale = handle.scale if isinstance(handle.scale, tuple) else (handle.scale,) * 3
    pivot = site.center.tolist() if handle.pivot is None else handle.pivot
    return transform(pivot, handle.translate, rotate, scale)


def handle_weights(
    session: Session,
    subject: Subject,
    handles: list[Site],
    anchors: list[Site],
    planes: list[Plane],
) -> Tensor:
    """Weights float32 [P, H] of a session's handles, by its method and with its locality.

    With mirrors, what belongs to handles and anchors does so on all sides, and distance is from
    the nearest of a handle and its images.
    """
    table = subject.table
    handles, anchors = (
        _on_all_sides(sites, subject.surface, planes) for sites in (handles, anchors)
    )
    if session.method == "published":
        pins = [published_weights(table, site.features[0]) for site in anchors]
        columns = [published_weights(table, site.features[0]) for site in handles]
        if pins:
            columns = [published_anchors(column, torch.stack(pins)) for column in columns]
        weights = torch.stack(columns, 1)
    else:
        kernel = subject.kernel(session.radius, session.falloff)
        weights = cardinal_weights(table, handles, anchors, kernel, subject.distances)
    for k, (handle, site) in enumerate(zip(session.handles, handles, strict=True)):
        power = session.locality if handle.locality is None else handle.locality
        if power:
            away = subject.distances(site.vertices)
            weights[:, k] = localise(weights[:, k], away, power)
    return weights


def _posed(session: Session, positions: Tensor, weights: Tensor, maps: Transforms) -> Tensor:
    if session.method == "published":
        return published_pose(positions, weights, maps)
    if session.blend == "linear":
        return linear_pose(positions, weights, maps)
    return pose(positions, weights, maps)


def _on_all_sides(sites: list[Site], surface: Surface, planes: list[Plane]) -> list[Site]:
    """Sites with their images in mirrors."""
    return [replace(site, vertices=with_images(surface, site, planes)) for site in sites]


def _expect_apart(handles: list[Site], anchors: list[Site]) -> None:
    """Raise InputError for a handle that an anchor holds; say which places overlap."""
    sites = {f"handles[{k}]": site.vertices for k, site in enumerate(handles)}
    sites |= {f"anchors[{k}]": site.vertices for k, site in enumerate(anchors)}
    for (one, own), (other, more) in itertools.combinations(sites.items(), 2):
        if one.startswith("anchors"):
            break
        common = int(torch.isin(own, more).sum())
        held = other.startswith("anchors")
        if held and common == len(own):
            raise InputError(f"{other} holds all of {one}, which then cannot move: move either")
        if common:
            what = f"{other} holds them" if held else "they follow each by half"
            say(f"{one} and {other} have {common} vertices in common: {what}")


def _expect_lengths(handles: tuple[Handle, ...], surface: Surface) -> None:
    """Raise InputError, naming the entry, for lengths that no edit of this mesh can mean."""
    middle = _middle(surface)
    for index, handle in enumerate(handles):
        lengths = {"translate": math.hypot(*handle.translate)}
        if handle.pivot is not None:
            lengths["pivot"] = math.dist(handle.pivot, middle)
        for key, length in lengths.items():
            if length > _MOST * surface.diagonal:
                raise InputError(
                    f"handles[{index}].{key} is {length / surface.diagonal:.3g} times as long as "
                    "the mesh's diagonal: is it in the mesh's unit?"
                )


def _expect_there(entry: Anchor, surface: Surface) -> None:
    vertices = entry.region or (() if entry.vertex is None else (entry.vertex,))
    count = len(surface.welded)
    if beyond := [vertex for vertex in vertices if not 0 <= vertex < count]:
        what = f"vertex {beyond[0]} is" if len(beyond) == 1 else f"vertices {shown(beyond)} are"
        raise InputError(f"{what} not of the mesh, whose vertices are 0 to {count - 1}")
    count = len(surface.faces)
    if entry.face is not None and not 0 <= entry.face < count:
        raise InputError(f"face {entry.face} is not of the mesh, whose faces are 0 to {count - 1}")
    if entry.position is not None:
        _expect_near(entry.position, surface)


def _expect_near(position: Vector3, surface: Surface) -> None:
    away = math.dist(position, _middle(surface)) / surface.diagonal
    if away > _FAR + 0.5:  # the surface is within half a diagonal of the middle
        raise InputError(
            f"the position is {away:.3g} diagonals away from the mesh's middle: is it in the "
            "mesh's frame and unit?"
        )


def _middle(surface: Surface) -> list[float]:
    low, high = surface.bounds
    return ((low + high) / 2).tolist()


def _site(entry: Anchor, surface: Surface, table: Tensor, name: str) -> Site:
    _expect_there(entry, surface)
    if entry.vertex is not None:
        return vertex_site(surface, table, entry.vertex)
    if entry.region is not None:
        return region_site(surface, table, torch.tensor(entry.region))
    if entry.face is not None:
        weights = entry.barycentric or (1 / 3, 1 / 3, 1 / 3)
        return point_site(surface, table, entry.face, torch.tensor(weights).double())
    if entry.position is None:
        raise InputError("one of vertex, face, region and position must say where it is")
    found = located(entry.position, surface, name)
    assert found.face is not None and found.barycentric is not None
    return point_site(surface, table, found.face, torch.tensor(found.barycentric).double())


def located(position: Vector3, surface: Surface, name: str) -> Anchor:
    """The point of a surface that is nearest to a position. Raises InputError where it is too far
    away to be meant; `name` is what the position belongs to."""
    _expect_near(position, surface)
    mesh, point = Mesh(surface.positions, surface.faces), torch.tensor([position]).double()
    face, weights, distance = closest_surface_points(mesh, point)
    away = float(distance[0]) / surface.diagonal
    text = f"the surface is {away:.3g} of its diagonal away from the position"
    if away > _FAR:
        raise InputError(f"{text}: is it in the mesh's frame and unit?")
    if away > _NEAR:
        say(f"{name}: {text}, the nearest point is taken")
    a, b, c = weights[0].tolist()
    return Anchor(face=int(face[0]), barycentric=(a, b, c))


def with_images(surface: Surface, site: Site, planes: list[Plane]) -> Tensor:
    """A site's positions, and those nearest to their mirror images."""
    found = site.vertices
    for plane in planes:
        images = surface.nearest(reflect(plane, surface.positions[found].double()))
        found = torch.cat([found, images]).unique()
    return found


def plane_of(mirror: Mirror) -> Plane:
    """Raises InputError for a normal without length."""
    length = math.hypot(*mirror.normal)  # which neither overflows nor underflows
    if not 0 < length < math.inf:
        raise InputError(f"a mirror's normal must have a length, got {mirror.normal}")
    normal = torch.tensor([value / length for value in mirror.normal], dtype=torch.float64)
    return Plane(normal, mirror.offset / length)
