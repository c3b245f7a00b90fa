"""Which of the four geometries a file or folder holds."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from geodistill.io.clouds import FORMATS as CLOUDS
from geodistill.io.fields import holds_voxels
from geodistill.io.meshes import READERS as MESHES
from geodistill.io.nerfstudio import is_run
from geodistill.io.ply import read_ply_header
from geodistill.io.splats import FORMATS as SPLATS
from geodistill.io.splats import holds_checkpoint_splats, holds_splats
from geodistill.io.splats.checkpoints import ENDINGS as CHECKPOINTS
from geodistill.runs import result_file

Kind = Literal["mesh", "points", "splats", "field"]


def kind_of(path: Path) -> Kind:
    """By its suffix, for PLY by its header, for glTF by its JSON, for PyTorch checkpoints and runs
    of nerfstudio by the names in them; what has none of the known suffixes is a field.

    Raises InputError for a PLY file or a checkpoint that is missing or damaged.
    """
    path = result_file(path)
    suffix = "" if path.is_dir() else path.suffix.lower()
    if suffix in CHECKPOINTS or is_run(path):
        return "splats" if holds_checkpoint_splats(path) else "field"
    if suffix == ".ply":
        elements = {element.name: element for element in read_ply_header(path).elements}
        names = {p.name for p in elements["vertex"].properties} if "vertex" in elements else set()
        if names & {"f_dc_0", "packed_position"} or names >= {"opacity", "scale_0", "rot_0"}:
            return "splats"
        return "mesh" if "face" in elements and elements["face"].count else "points"
    if suffix in (".glb", ".gltf"):
        return "splats" if holds_splats(path) else "mesh"
    if suffix in MESHES:
        return "mesh"
    if suffix == ".npz" and holds_voxels(path):
        return "field"
    if any(path.name.lower().endswith(end) for end in SPLATS if end not in CHECKPOINTS):
        return "splats"
    return "points" if suffix in CLOUDS else "field"
