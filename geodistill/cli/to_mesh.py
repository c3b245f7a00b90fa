"""The work of `geodistill convert --to mesh`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from geodistill import config as configs
from geodistill.checks import UsageError
from geodistill.cli.conversion import (
    Made,
    converted,
    expect_no_field_options,
    load_teacher,
    place_of,
    source_of,
)
from geodistill.distill.meshes import SMALL, MeshConfig, check_config, to_mesh
from geodistill.geometry.fields import Field, field_path
from geodistill.geometry.kinds import kind_of
from geodistill.geometry.manifold import open_edges
from geodistill.geometry.mesh_files import companions, save_mesh
from geodistill.geometry.splats import Splats, load_splats
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
    scene, source = _scene(arguments), source_of(arguments)
    source = field_path(source) if isinstance(scene, Field) else source
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


def _scene(arguments: Arguments) -> Field | Splats:
    source = source_of(arguments)
    kind = kind_of(source)
    if kind == "mesh":
        raise UsageError(f"{source} holds a mesh already: `export` writes it in another format")
    if kind == "points":
        raise UsageError(f"{source} holds points: meshes are made of fields and splats")
    if kind == "splats" and arguments.teacher is not None:
        raise UsageError(f"--from names an architecture of fields, {source} holds splats")
    return load_splats(source) if kind == "splats" else load_teacher(arguments)


def _expect_packages(config: MeshConfig) -> None:
    """Raise InputError before the work where a package is missing."""
    require("skimage.measure", "mesh", "making a mesh")
    require("fast_simplification", "mesh", "making a mesh")
    if config.textured:
        require("xatlas", "mesh", "making a texture (or leave it out with --set atlas=false)")
