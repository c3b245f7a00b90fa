"""Fields from and to the plain arrays that files of other programs are read as."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from geodistill import config as configs
from geodistill.checks import InputError, UsageError, choose
from geodistill.geometry.contraction import expand
from geodistill.geometry.fields.base import OCCUPANCY_RESOLUTION, Field
from geodistill.geometry.fields.build import ARCHITECTURES, build_field
from geodistill.geometry.fields.plenoxels import Plenoxels
from geodistill.io.fields import FieldArrays, format_of
from geodistill.log import progress

CELL_POINTS = 4
"""Points in which the density of a cell is looked at."""
THIN = 1e-3
"""Optical depth along an edge of a cell below which it counts as empty."""
CHUNK = 1 << 18


def field_from_arrays(arrays: FieldArrays, name: str) -> Field:
    """The field that a reader of `io.fields` found in the file `name`.

    Where the file says nothing of empty space, the field is looked at in every cell.

    Raises InputError, naming the file, for arrays that are not those of their description.
    """
    architecture = choose("field architecture", arrays["architecture"], ARCHITECTURES)
    try:
        config = configs.from_dict(architecture.config, arrays["config"])
        field = build_field(arrays["architecture"], config)
    except UsageError as error:
        raise InputError(f"{name} holds a field that cannot be: {error}") from None
    parameters = {k: torch.from_numpy(v) for k, v in arrays["parameters"].items()}
    if isinstance(field, Plenoxels):
        _fill_nodes(field, arrays, parameters, name)
    own = dict(field.named_parameters())
    if own.keys() != parameters.keys():
        odd = ", ".join(sorted(own.keys() ^ parameters.keys()))
        raise InputError(f"{name} does not hold what its description says: {odd}")
    with torch.no_grad():
        for key, parameter in own.items():
            if parameters[key].shape != parameter.shape:
                raise InputError(
                    f"{name}: {key} has shape {[*parameters[key].shape]}, expected "
                    f"{[*parameter.shape]}"
                )
            parameter.copy_(parameters[key])
    field.world_from_field = torch.from_numpy(arrays["world_from_field"]).double()
    field.contraction = arrays["contraction"]
    field.views = arrays.get("views")
    occupancy = arrays["occupancy"]
    field.occupancy = torch.from_numpy(occupancy) if occupancy is not None else seen_cells(field)
    return field


def arrays_from_field(field: Field) -> FieldArrays:
    """What a writer of `io.fields` takes. Raises UsageError for fields of linear colours."""
    if field.color_space != "srgb":
        raise UsageError(f"files of other programs hold sRGB colours, not {field.color_space} ones")
    own = {k: p.detach().cpu().float().numpy() for k, p in field.named_parameters()}
    return FieldArrays(
        architecture=field.architecture,
        config=configs.to_dict(field.config),
        parameters=own,
        nodes=(field.links >= 0).cpu().numpy() if isinstance(field, Plenoxels) else None,
        occupancy=field.occupancy.cpu().numpy(),
        world_from_field=field.world_from_field.cpu().numpy(),
        contraction=field.contraction,
        extra={},
    )


def expect_holds(
    path: Path,
    architecture: str,
    config: Any,
    teacher: Field | None = None,
    color_space: str = "srgb",
) -> None:
    """Raise UsageError for a config whose fields the format of this name does not hold, in the
    frame and with the colours of a teacher, or with colours of another space."""
    field = build_field(architecture, config)
    field.color_space = color_space
    if teacher is not None:
        field.copy_scene_from(teacher)
    form = format_of(path)
    if not isinstance(field, Plenoxels) and form is not None and form.write is not None:
        form.write(arrays_from_field(field), path)


def _fill_nodes(
    field: Plenoxels, arrays: FieldArrays, parameters: dict[str, Tensor], name: str
) -> None:
    nodes, values = arrays["nodes"], parameters.get("values")
    if nodes is None or values is None or nodes.shape != tuple(field.links.shape):
        raise InputError(f"{name} does not say which of its nodes exist")
    if values.shape != (int(nodes.sum()), field.channels):
        raise InputError(f"{name} has {int(nodes.sum())} nodes, and values {[*values.shape]}")
    field.allocate(torch.from_numpy(nodes), values)


@torch.no_grad()
def seen_cells(field: Field, resolution: int = OCCUPANCY_RESOLUTION) -> Tensor:
    """Cells of the unit cube, and their neighbours, that are not empty. bool [G, G, G]

    Of each cell, random points are looked at, one in each of as many slices.
    """
    draw = torch.Generator().manual_seed(0)
    cells = torch.cartesian_prod(*[torch.arange(resolution)] * 3)
    found = torch.zeros(len(cells), dtype=torch.bool)
    with progress(len(cells), "empty space") as bar:
        for rows in torch.arange(len(cells)).split(CHUNK):
            for part in range(CELL_POINTS):
                inside = torch.rand(len(rows), 3, generator=draw)
                inside[:, 0] = (inside[:, 0] + part) / CELL_POINTS
                u = (cells[rows] + inside) * (2.0 / resolution) - 1.0
                found[rows] |= field.sigma(u) * _edge(field, u, 2.0 / resolution) > THIN
            bar.advance(len(rows))
    grown = F.max_pool3d(found.view(1, 1, *[resolution] * 3).float(), 3, stride=1, padding=1)
    return grown[0, 0] > 0


def _edge(field: Field, u: Tensor, side: float) -> Tensor:
    """Length of a cell's edge along the ray from the centre, in the unit of densities. [N]"""
    if field.contraction == "none":
        return torch.full((len(u),), side)
    near, far = (expand(u * scale, field.contraction) for scale in (1.0, 1.0 - side))
    return (near - far).norm(dim=1).clamp_min(2.0 * side)
