"""What reads each kind of file, and what must hold for what it returns."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np


class Reader(NamedTuple):
    """`read` as "module:function"; `check` raises AssertionError for what is no valid result."""

    read: str
    check: Callable[[Any], None]

    def function(self) -> Callable[[Path], Any]:
        module, name = self.read.split(":")
        return getattr(import_module(module), name)


def reader_of(kind: str) -> Reader:
    """Of a kind "splats.spz", "mesh.obj", "cloud.pcd", "field.th"."""
    return GROUPS[kind.partition(".")[0]]


def endings() -> set[str]:
    """The kinds that the package has a reader for; .txt is read as .xyz is."""
    from geodistill.io import clouds, fields, meshes, splats

    tables = {
        "splats": splats.FORMATS,
        "mesh": meshes.READERS,
        "cloud": {ending for ending in clouds.FORMATS if ending != ".txt"},
        "field": fields.FORMATS,
    }
    return {f"{group}.{end.lstrip('.')}" for group, ends in tables.items() for end in ends}


def read_field(path: Path) -> Any:
    """The arrays of a foreign field, out of which a field of ours was made as well."""
    from geodistill.geometry.fields.foreign import field_from_arrays
    from geodistill.io import fields

    arrays = fields.read_field(path)
    seen = arrays["occupancy"]
    known = np.ones((4, 4, 4), bool) if seen is None else seen  # which would take long to find
    field_from_arrays({**arrays, "occupancy": known}, str(path))
    return arrays


def check_splats(splats: Any) -> None:
    count = len(splats["means"])
    shapes = {"means": (3,), "rotations": (4,), "log_scales": (3,), "opacity_logits": ()}
    for name, shape in shapes.items():
        _array(splats[name], np.float32, (count, *shape))
    _array(splats["sh"], np.float32, (count, splats["sh"].shape[1], 3))
    assert count and splats["sh"].shape[1] in (1, 4, 9, 16), "harmonics"
    lengths = np.linalg.norm(splats["rotations"].astype(float), axis=1)
    assert np.abs(lengths - 1).max() < 1e-4, "quaternions are not unit"
    assert all(len(values) == count for values in splats["attributes"].values()), "attributes"


def check_mesh(mesh: Any) -> None:
    count = len(mesh["vertices"])
    assert np.isfinite(mesh["vertices"]).all(), "vertices are not finite"
    faces = mesh["faces"]
    assert faces.ndim == 2 and faces.shape[1] == 3 and len(faces), "faces"
    assert faces.min() >= 0 and faces.max() < count, "faces point outside"
    assert all(len(values) == count for values in mesh["attributes"].values()), "attributes"


def check_cloud(file: Any) -> None:
    cloud = file.cloud
    count = len(cloud["positions"])
    _array(cloud["positions"], np.float64, (count, 3))
    assert count and all(len(values) == count for values in cloud.values()), "columns"


def check_field(field: Any) -> None:
    for values in field["parameters"].values():
        _array(values, np.float32, values.shape)
    matrix = field["world_from_field"]
    _array(matrix, np.float64, (4, 4))
    assert np.linalg.det(matrix[:3, :3]) > 0, "its frame is no similarity"
    if field["occupancy"] is not None:
        size = len(field["occupancy"])
        assert field["occupancy"].shape == (size,) * 3, "occupancy"
    if field["nodes"] is not None:
        assert int(field["nodes"].sum()) == len(field["parameters"]["values"]), "nodes"


def _array(values: np.ndarray, dtype: type, shape: tuple[int, ...]) -> None:
    assert values.dtype == dtype, f"{values.dtype} where {dtype.__name__} is due"
    assert values.shape == shape, f"shape {values.shape} where {shape} is due"
    assert np.isfinite(values).all(), "not finite"


GROUPS = {
    "splats": Reader("geodistill.io.splats:read_splats", check_splats),
    "mesh": Reader("geodistill.io.meshes:read_mesh", check_mesh),
    "cloud": Reader("geodistill.io.clouds:read_cloud", check_cloud),
    "field": Reader("fuzzing.readers:read_field", check_field),
}
