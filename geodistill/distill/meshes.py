"""A field or splats made into a mesh with a texture or colours of vertices."""

from __future__ import annotations

from dataclasses import dataclass

from geodistill.checks import InputError, UsageError
from geodistill.convert.baking import with_texture, with_vertex_colors
from geodistill.convert.fusion import fused
from geodistill.convert.isosurface import isosurface, without_specks, without_unseen
from geodistill.geometry.atlas import unwrapped
from geodistill.geometry.fairing import faired
from geodistill.geometry.fields import Field
from geodistill.geometry.manifold import separated
from geodistill.geometry.mesh import Mesh
from geodistill.geometry.splats import Splats
from geodistill.geometry.surface import decimated
from geodistill.log import progress
from geodistill.render.surfaces import SurfaceView, field_surface, splat_surface
from geodistill.render.viewpoints import viewpoints
from geodistill.shade.viewable import viewable

ATLAS_FACES = 30_000
"""Up to so many faces a mesh gets a texture without being asked: unwrapping more takes long, and
their vertices are nearly as close as texels are."""
FAIRING = 5
"""Rounds against the roughness of the grid."""
MOST_PIXELS = 3 * 10**7
"""Of all views together, which are held in memory."""
TOLERANCE = 5
"""How far a view's surface may be from the mesh that takes colours from it, in steps of the grid:
what is farther off is another part of the scene."""


@dataclass(frozen=True)
class MeshConfig:
    """How a mesh is made."""

    resolution: int = 256
    """Nodes of the grid along the longest side of what is seen."""
    views: int = 48
    """Pictures that the surface and its colours are taken from."""
    pixels: int = 400
    """Along the longer side of those."""
    faces: int = ATLAS_FACES
    """About how many at most."""
    atlas: bool | None = None
    """Whether colours are in a texture, not at the vertices; None: up to 30,000 faces."""
    texture: int = 1024
    """Texels along its side, about."""
    specks: float = 0.01
    """Components of less than this share of the largest one's area are left out."""
    closed: bool = True
    """Whether faces that no view shows stay, so that the mesh is watertight."""

    @property
    def textured(self) -> bool:
        return self.faces <= ATLAS_FACES if self.atlas is None else self.atlas


SMALL = MeshConfig(resolution=96, views=24, pixels=200, faces=5000, texture=512)
"""For a first look."""


def to_mesh(scene: Field | Splats, config: MeshConfig | None = None, seed: int = 0) -> Mesh:
    """A mesh that looks like a scene, in the user's world: opaque, in the colours that are seen of
    it, averaged over the directions that they are seen from.

    Its surface is fused from the depths of views of the scene: what none of them sees, however
    dense it is, leaves no surface behind. Every edge has two faces unless the config wants the
    unseen ones left out; normals look outwards.

    Args:
        scene: a field or splats, seen from outside.
        config: how fine, how many faces, and where colours go.
        seed: of the viewpoints.

    Raises:
        UsageError: a config that is none.
        InputError: a field of linear colours, a scene without a surface, a package that is missing.
    """
    config = config or MeshConfig()
    check_config(config)
    if viewable(scene).color_space != "srgb":
        raise InputError("a mesh holds sRGB colours, this field linear ones")
    views = surface_views(scene, config.views, config.pixels, seed + 1)
    grid = fused(views, config.resolution)
    surface = without_specks(isosurface(grid), config.specks)
    mesh = separated(decimated(faired(surface, FAIRING), config.faces))
    tolerance = TOLERANCE * grid.step
    if not config.closed:
        mesh = without_unseen(mesh, views, tolerance)
    if not config.textured:
        return with_vertex_colors(mesh, views, tolerance)
    mesh, size = unwrapped(mesh, config.texture)
    return with_texture(mesh, views, size, tolerance)


def surface_views(
    scene: Field | Splats, count: int, resolution: int, seed: int
) -> list[SurfaceView]:
    """The surface of a scene as seen from seeded viewpoints, `resolution` pixels along the longer
    side."""
    cameras = viewpoints(viewable(scene), count, resolution, seed)
    views = []
    with progress(count, "teacher views") as bar:
        for i in range(count):
            if isinstance(scene, Field):
                views.append(field_surface(scene, cameras[i]))
            else:
                views.append(splat_surface(scene, cameras[i]))
            bar.advance()
    return views


def check_config(config: MeshConfig) -> None:
    """Raise UsageError, naming the setting, for what no mesh can be made with."""
    for name, least, most in (
        ("resolution", 16, 512),
        ("views", 1, 1000),
        ("pixels", 16, 1600),
        ("faces", 4, 10**7),
        ("texture", 16, 8192),
    ):
        if not least <= getattr(config, name) <= most:
            raise UsageError(
                f"'{name}' must be from {least} to {most}, got {getattr(config, name)}"
            )
    if config.views * config.pixels**2 > MOST_PIXELS:
        raise UsageError(
            f"'views' of 'pixels' a side must have at most {MOST_PIXELS:,} pixels together, got "
            f"{config.views} x {config.pixels}^2"
        )
    if not 0 <= config.specks <= 1:
        raise UsageError(f"'specks' must lie between 0 and 1, got {config.specks}")
