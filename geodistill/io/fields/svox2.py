"""Plenoxels in svox2's .npz: a sparse grid of densities and harmonics, read and written.

Arrays: radius and center [3]; links [X, Y, Z], the row of each node or below zero; density_data
[N, 1]; sh_data [N, 3 K], channel after channel; basis_type. Values between nodes, which are centres
of cells, are interpolated before the density is cut at zero. Source: Fridovich-Keil et al.,
"Plenoxels", 2022, and svox2/svox2.py (`SparseGrid.save` and `load`). Its world is that in which the
program had the cameras, which it scales when it loads a data set.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from geodistill import log
from geodistill.checks import InputError, UsageError
from geodistill.io.fields.arrays import FieldArrays
from geodistill.io.fields.boxes import placed, world_box
from geodistill.io.fields.expressible import expect_settings
from geodistill.io.fields.occupancy import cells_from_nodes
from geodistill.io.fields.values import LARGEST, finite
from geodistill.io.npz import NpzFile, npz_bytes

DENSITY_UNIT = 1000.0
"""Density per length of the unit cube that a raw value of 1 stands for."""
_WHAT = "an .npz file of svox2"
_SH_BASIS = 1
_BASES = {4: "a learned texture", 255: "a network"}
_COEFFICIENTS = (1, 4, 9, 16)
_PLAIN = {"density": "relu", "color": "shifted", "nodes": "centres", "limits": ()}
_MOST_NODES = 2**29
_SMALLEST = 8  # of a resolution; grids state theirs by axis


def holds_voxels(path: Path) -> bool:
    """Whether an .npz file is one of svox2's, rather than a point cloud or one that is damaged."""
    try:
        return "links" in NpzFile(path)
    except InputError:
        return False


def read_svox2(path: Path) -> FieldArrays:
    """A field of the architecture "plenoxels". Background layers are left out, with a line.

    Raises InputError, naming the file, when it is missing, damaged, of another program, has
    another basis than harmonics, contradicting shapes, or values that are not finite.
    """
    file = NpzFile(path)
    log.say(f"{path} does not say at which scale svox2 loaded its data set: lengths are as there")
    _check_basis(file)
    radius, center = _three(file, "radius", 1.0), _three(file, "center", 0.0)
    if not (radius > 0).all():
        raise InputError(f"{path} has the radius {radius.tolist()}: it must be positive")
    world_from_field, box = placed(center - radius, center + radius, f"{path}: its grid")
    links = _links(file)
    density, harmonics = _data(file)
    nodes = links >= 0
    rows = links[nodes]
    if not len(rows):
        raise InputError(f"{path} holds no nodes: its grid is empty")
    if len(rows) > len(density) or rows.max() >= len(density):
        raise InputError(
            f"{path}: its links point at rows up to {rows.max()} of {len(density)} from "
            f"{len(rows)} nodes: it is damaged"
        )
    if "background_data" in file:
        log.say(f"{path}: its background layers are left out, only what is near is read")
    size = np.array(links.shape)
    values = np.empty((len(rows), 1 + harmonics.shape[1]), np.float32)
    with np.errstate(over="ignore", invalid="ignore"):  # refused below
        values[:, 1:] = harmonics[rows]
        values[:, 0] = density[rows, 0] * (world_from_field[0, 0] / DENSITY_UNIT)
    if not np.isfinite(values).all():
        raise InputError(f"{path} holds NaN or infinite densities or harmonics: it is damaged")
    dense = np.zeros(nodes.shape, bool)
    dense[nodes] = values[:, 0] > 0
    half = np.array(box[3:] or (1.0, 1.0, 1.0))
    cubic = len(set(links.shape)) == 1 and links.shape[0] >= _SMALLEST
    return FieldArrays(
        architecture="plenoxels",
        config={
            "resolution": max(*links.shape, _SMALLEST),
            "grid": () if cubic else tuple(links.shape),
            "sh_degree": _COEFFICIENTS.index(harmonics.shape[1] // 3),
            "box": box,
        },
        parameters={"values": values},
        nodes=nodes,
        occupancy=cells_from_nodes(dense, half / size - half, 2 * half / size),
        world_from_field=world_from_field,
        contraction="none",
        extra={},
    )


def svox2_files(field: FieldArrays, path: Path) -> dict[str, bytes]:
    """The file of a field of the architecture "plenoxels"; harmonics in half precision, as its own.

    Raises UsageError for another field, and for harmonics beyond half precision.
    """
    if field["architecture"] != "plenoxels" or field["nodes"] is None:
        raise UsageError(
            f"{_WHAT} holds no field of the kind {field['architecture']}: convert --to plenoxels"
        )
    expect_settings(_WHAT, field["config"], _PLAIN)
    low, high, scale = world_box(field, _WHAT)
    nodes, values = field["nodes"], field["parameters"]["values"]
    links = np.full(nodes.shape, -1, np.int32)
    links[nodes] = np.arange(len(values), dtype=np.int32)
    with np.errstate(over="ignore"):
        harmonics = values[:, 1:].astype(np.float16)
    if not np.isfinite(harmonics).all():
        most = float(np.abs(values[:, 1:]).max())
        raise UsageError(
            f"{_WHAT} holds harmonics up to 65504, this field has {most:g}: fit or convert it again"
        )
    arrays: dict[str, Any] = {
        "radius": ((high - low) / 2).astype(np.float32),
        "center": ((high + low) / 2).astype(np.float32),
        "links": links,
        "density_data": (values[:, :1] * np.float64(DENSITY_UNIT / scale)).astype(np.float32),
        "sh_data": harmonics,
        "basis_type": np.array(_SH_BASIS),
    }
    return {path.name: npz_bytes(arrays)}


def _check_basis(file: NpzFile) -> None:
    kind = _SH_BASIS
    if "basis_type" in file:
        value = file.array("basis_type")
        kind = int(value.reshape(-1)[0]) if value.size == 1 and value.dtype.kind in "iu" else -1
    elif "basis_data" in file:
        kind = 4
    if kind != _SH_BASIS:
        raise InputError(
            f"{file.path} has {_BASES.get(kind, f'the unknown basis {kind}')} for its colours, "
            "which is not read: train it with spherical harmonics (--basis_type sh)"
        )


def _three(file: NpzFile, name: str, default: float) -> NDArray[np.float64]:
    """Three numbers of the world, or one for all axes."""
    if name not in file:
        return np.full(3, default)
    found = finite({name: file.array(name)}, name, file.path).astype(np.float64)
    if found.size not in (1, 3) or np.abs(found).max() > LARGEST:
        raise InputError(f"{file.path} has a {name} that is not three numbers: it is damaged")
    return np.broadcast_to(found.reshape(-1), 3).copy()


def _links(file: NpzFile) -> NDArray[np.integer]:
    links = file.array("links")
    if links.ndim != 3 or links.dtype.kind not in "iu" or min(links.shape) < 2:
        raise InputError(
            f"{file.path} has links of shape {[*links.shape]} and type {links.dtype}: a grid of "
            "whole numbers is needed, it is damaged or of another program"
        )
    if links.size > _MOST_NODES:
        raise InputError(
            f"{file.path} has {links.size} nodes, more than the {_MOST_NODES} that are read: "
            "make it again at a lower resolution"
        )
    return links


def _data(file: NpzFile) -> tuple[NDArray, NDArray]:
    """Densities [N, 1] and harmonics [N, 3 K], numbers of any type"""
    if "data" in file:  # of versions before densities had an array of their own
        both = np.atleast_1d(file.array("data"))
        density, harmonics = both[..., :1], both[..., 1:]
    else:
        density, harmonics = file.array("density_data"), file.array("sh_data")
    fits = density.ndim == 2 and harmonics.ndim == 2 and density.shape[1] == 1
    known = density.dtype.kind in "fiu" and harmonics.dtype.kind in "fiu"
    if not fits or not known or len(density) != len(harmonics):
        raise InputError(
            f"{file.path} has densities {[*density.shape]} and harmonics {[*harmonics.shape]}: "
            "numbers [N, 1] and [N, 3 K] are needed, it is damaged"
        )
    if harmonics.shape[1] not in [3 * count for count in _COEFFICIENTS]:
        raise InputError(
            f"{file.path} has {harmonics.shape[1]} harmonics a node: 3, 12, 27 and 48 are read"
        )
    return density, harmonics
