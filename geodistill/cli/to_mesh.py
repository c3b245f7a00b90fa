"""The work of `geodistill convert --to mesh`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geodistill import config as configs
from geodistill.checks import UsageError
from geodistill.cli.conversion import (
    Made,
    converted,
    expect_no_field_options,
    load_source,
    place_of,
)
from geodistill.distill.meshes import SMALL, MeshConfig, check_config, to_mesh
from geodistill.geometry.fields import Field
from geodistill.geometry.manifold import open_edges
from geodistill.geometry.mesh import Mesh
from geodistill.geometry.mesh_files import companions, save_mesh
from geodistill.geometry.points import Points
from geodistill.io.extras import require
from geodistill.io.meshes import WRITERS
from geodistill.metrics.fidelity import compare
from geodistill.runs import Run
from geodistill.shade.viewable import viewable

if TYPE_CHECKING:
    from geodistill.cli.convert import Arguments

INSIDE = "mesh.glb"


def run(arguments: Arguments) -> dict[str, Any]:
    expect_no_field_options(arguments, trained=False)
    base = SMALL if arguments.size == "small" else MeshConfig()
    config = configs.load(MeshConfig, None, arguments.set, base=base)
    check_config(config)
    _expect_packages(config)
    scene, source = load_source(arguments)
    if isinstance(scene, Mesh):
        raise UsageError(f"{source} holds a mesh already: `export` writes it in another format")
    if isinstance(scene, Points):
        raise UsageError(f"{source} holds points: meshes are made of fields and splats")
    textures = [True] if config.textured else []
    # Splats that are drawn smaller than what they were trained on are wider than they are.
    looks = {} if isinstance(scene, Field) else {"resolution": config.pixels}
    place = place_of(
        arguments, source, INSIDE, list(WRITERS), lambda file: companions(file, textures)
    )

    def make(opened: Run) -> Made:
        mesh = to_mesh(scene, config, arguments.seed)
        return Made(
            lambda path: save_mesh(path, mesh),
            lambda: compare(viewable(scene), viewable(mesh), **looks),
            {
                "vertices": len(mesh.vertices),
                "faces": len(mesh.faces),
                "open_edges": open_edges(mesh),
            },
        )

    return converted(arguments, place, make)


def _expect_packages(config: MeshConfig) -> None:
    """Raise InputError before the work where a package is missing."""
    require("skimage.measure", "mesh", "making a mesh")
    require("fast_simplification", "mesh", "making a mesh")
    if config.textured:
        require("xatlas", "mesh", "making a texture (or leave it out with --set atlas=false)")
