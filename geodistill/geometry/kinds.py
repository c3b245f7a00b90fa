"""Which of the four geometries a file holds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from geodistill.io.clouds import FORMATS as CLOUDS
from geodistill.io.meshes import READERS as MESHES
from geodistill.io.ply import read_ply_header
from geodistill.io.splats import FORMATS as SPLATS
from geodistill.io.splats import holds_splats

Kind = Literal["mesh", "points", "splats", "field"]


def kind_of(path: Path) -> Kind:
    """By its suffix, for PLY by its header, for glTF by its JSON; what has none of the known
    suffixes is a field.

    Raises InputError for a PLY file that is missing or damaged.
    """
    suffix = "" if path.is_dir() else path.suffix.lower()
    if suffix == ".ply":
        elements = {element.name: element for element in read_ply_header(path).elements}
        names = {p.name for p in elements["vertex"].properties} if "vertex" in elements else set()
        if names & {"f_dc_0", "packed_position"}:
            return "splats"
        return "mesh" if "face" in elements and elements["face"].count else "points"
    if suffix in (".glb", ".gltf"):
        return "splats" if holds_splats(path) else "mesh"
    if suffix in MESHES:
        return "mesh"
    if any(path.name.lower().endswith(ending) for ending in SPLATS):
        return "splats"
    return "points" if suffix in CLOUDS else "field"
