"""Point clouds: state, files, and what their neighbourhoods say."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geodistill import log
from geodistill.cameras import Similarity
from geodistill.checks import InputError, ShapeError, UsageError, check, check_finite
from geodistill.io.clouds import read_cloud, write_cloud
from geodistill.io.extras import require

_UNIT_TOLERANCE = 1e-3
_SAMPLE = 20_000
_CHUNK = 65536


@dataclass(frozen=True, eq=False)
class Points:
    """A point cloud in the user's own frame and unit.

    positions   float64 [N, 3], N at least 1
    colors      uint8 [N, 4] sRGB RGBA, or None
    normals     float32 [N, 3] unit vectors, or None
    attributes  further columns by name, float32 [N] or [N, C]; these may hold NaN

    Raises ShapeError for shapes that do not fit, UsageError for other types, InputError for no
    points, for positions or normals that are not finite and for normals that are not unit vectors.
    """

    positions: Tensor
    colors: Tensor | None = None
    normals: Tensor | None = None
    attributes: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check(positions=(self.positions, "N 3"))
        if not len(self.positions):
            raise InputError("a point cloud needs at least one point")
        _expect_type("positions", self.positions, torch.float64)
        check_finite(positions=self.positions)
        if self.colors is not None:
            check(positions=(self.positions, "N 3"), colors=(self.colors, "N 4"))
            _expect_type("colors", self.colors, torch.uint8)
        if self.normals is not None:
            check(positions=(self.positions, "N 3"), normals=(self.normals, "N 3"))
            _expect_type("normals", self.normals, torch.float32)
            check_finite(normals=self.normals)
            if float((self.normals.norm(dim=1) - 1).abs().max()) > _UNIT_TOLERANCE:
                raise InputError("normals must be unit vectors: divide them by their lengths")
        for name, values in self.attributes.items():
            if values.ndim not in (1, 2) or len(values) != len(self.positions):
                raise ShapeError(
                    f"attribute '{name}' must have shape [{len(self)}] or [{len(self)}, C], got "
                    f"{[*values.shape]}"
                )
            _expect_type(f"attribute '{name}'", values, torch.float32)

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: Any) -> Points:
        """Some of the points, with all their columns: points[mask], points[rows], points[::10]."""
        return Points(
            self.positions[index],
            None if self.colors is None else self.colors[index],
            None if self.normals is None else self.normals[index],
            {name: values[index] for name, values in self.attributes.items()},
        )


def load_points(path: Path | str) -> Points:
    """Read a cloud from PLY, PCD, XYZ, TXT or NPZ; the suffix names the format.

    Normals get unit length. Where some have no length or are not finite, all of them are left out,
    and one line says so.

    Raises:
        UsageError: an unknown suffix.
        InputError: missing, damaged, or a file without points.
    """
    cloud, _ = read_cloud(path)
    tensors = {name: torch.from_numpy(np.ascontiguousarray(v)) for name, v in cloud.items()}
    positions, colors = tensors.pop("positions"), tensors.pop("colors", None)
    normals = tensors.pop("normals", None)
    if normals is not None:
        lengths = normals.double().norm(dim=1, keepdim=True)
        missing = int((~(lengths > 0) | ~lengths.isfinite()).sum())
        if missing:
            log.say(f"{path}: {missing} of {len(normals)} normals have no length; left out all")
            normals = None
        elif float((lengths - 1).abs().max()) > 1e-6:  # what is unit already keeps its last bit
            normals = (normals.double() / lengths).float()
    return Points(positions, colors, normals, tensors)


def save_points(path: Path | str, points: Points) -> None:
    """Write a cloud atomically to PLY, PCD, XYZ, TXT or NPZ; the suffix names the format.

    Everything reads back as it is, but for an attribute [N, 1], which PCD keeps as [N].

    Raises:
        UsageError: an unknown suffix, or an attribute's name that the format cannot hold.
        InputError: the file cannot be written.
    """
    columns = {"positions": points.positions, "colors": points.colors, "normals": points.normals}
    if clash := columns.keys() & points.attributes.keys():
        raise UsageError(f"an attribute cannot be named '{clash.pop()}' in a point file: rename it")
    columns.update(points.attributes)
    write_cloud(path, {k: v.detach().cpu().numpy() for k, v in columns.items() if v is not None})


def transformed(points: Points, similarity: Similarity) -> Points:
    """The same cloud in the frame that `similarity` leads to: positions and normals turn."""
    normals = points.normals
    if normals is not None:
        normals = (normals.double() @ similarity.R.double().T).float()
    return replace(points, positions=similarity.apply(points.positions), normals=normals)


def points_digest(points: Points) -> str:
    """16 hexadecimal digits that tell clouds apart by positions, colours and normals.

    Attributes do not count: features belong to a cloud whether they are stored in it or not.
    """
    digest = hashlib.sha256()
    for name in ("positions", "colors", "normals"):
        values = getattr(points, name)
        if values is not None:
            digest.update(f"{name} {[*values.shape]}".encode())
            digest.update(values.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def bounds(points: Points) -> tuple[Tensor, Tensor]:
    """Lowest and highest corner of the axis-aligned box. (float64 [3], [3])"""
    return points.positions.amin(dim=0), points.positions.amax(dim=0)


def diagonal(points: Points) -> float:
    """Length of the box's diagonal."""
    low, high = bounds(points)
    return float((high - low).norm())


def neighbours(points: Points, k: int) -> Tensor:
    """The k other points nearest to each, nearest first. int64 [N, k]

    Raises UsageError when there are not so many others.
    """
    if not 1 <= k < len(points):
        raise UsageError(f"{len(points)} points have no {k} neighbours each")
    _, found = _tree(points.positions).query(
        points.positions.cpu().numpy(), k + 1, workers=torch.get_num_threads()
    )
    own = found == np.arange(len(found))[:, None]
    own[~own.any(axis=1), -1] = True  # among coincident points the query may miss the point itself
    return torch.from_numpy(found[~own].reshape(len(found), k)).to(points.positions.device)


def nearest_spacing(points: Points) -> float:
    """Median distance from a point to the nearest one at another place.

    Large clouds are judged by 20,000 of their points, always the same.

    Raises InputError when all points are at one place.
    """
    places = torch.from_numpy(np.unique(points.positions.cpu().numpy(), axis=0))
    if len(places) < 2:
        raise InputError("points at a single place have no spacing: check the cloud")
    draw = torch.Generator().manual_seed(0)
    sample = places[torch.randperm(len(places), generator=draw)[:_SAMPLE]]
    distances, _ = _tree(places).query(sample.numpy(), 2, workers=torch.get_num_threads())
    return float(np.median(distances[:, 1]))


def estimated_normals(points: Points, k: int, towards: Tensor) -> Tensor:
    """Normals of the planes that fit each point and its neighbours best. float32 [N, 3]

    The direction of least variance (Hoppe et al. 1992, "Surface reconstruction from unorganized
    points"), turned to the side of `towards`. Where neighbourhoods have no plane (all at one place
    or on one line) it is one of the directions that fit.

    Args:
        k: other points that the plane goes through, at least 2.
        towards: [3] or [N, 3] what the surface faces, such as the place of the scanner.
    """
    if k < 2:
        raise UsageError(f"a plane needs at least 2 neighbours, got {k}")
    if towards.shape not in ((3,), points.positions.shape):
        raise ShapeError(f"towards must be [3] or [{len(points)}, 3], got {[*towards.shape]}")
    near = neighbours(points, k)
    normals = []
    for start in range(0, len(points), _CHUNK):
        centre = points.positions[start : start + _CHUNK]
        patch = torch.cat(
            [centre[:, None], points.positions[near[start : start + _CHUNK]]], dim=1
        )  # [n, k + 1, 3]
        patch = patch - patch.mean(dim=1, keepdim=True)
        _, vectors = torch.linalg.eigh((patch[..., None] * patch[..., None, :]).mean(dim=1))
        normals.append(vectors[..., 0])
    normal = torch.cat(normals)
    away = ((towards.to(normal) - points.positions) * normal).sum(dim=1) < 0
    return torch.where(away[:, None], -normal, normal).float()


def cleaned(points: Points, k: int = 20, deviations: float = 2.0, voxel: float = 0.0) -> Points:
    """Without statistical outliers, then thinned to one point per voxel.

    An outlier's mean distance to its neighbours exceeds the cloud's mean of that by more than
    `deviations` standard deviations (Rusu et al. 2008; as `remove_statistical_outlier` of Open3D).
    Of the points in a voxel the one nearest to their mean stays, with all its columns.

    Args:
        k: neighbours of a point that are looked at.
        deviations: in standard deviations over the cloud, above 0.
        voxel: edge length in the cloud's unit; 0 keeps every point.
    """
    if not (deviations > 0 and 0 <= voxel < float("inf")):
        raise UsageError(
            f"cleaning needs deviations > 0 and a voxel >= 0, got {deviations} and {voxel}"
        )
    near = neighbours(points, k)
    distance = torch.cat(
        [
            (points.positions[rows] - points.positions[start : start + _CHUNK, None])
            .norm(dim=-1)
            .mean(dim=1)
            for start, rows in zip(range(0, len(near), _CHUNK), near.split(_CHUNK), strict=True)
        ]
    ).numpy()  # whose sums do not depend on the number of threads
    limit = distance.mean() + deviations * distance.std(ddof=1)
    kept = points[torch.from_numpy(distance <= limit)]
    return kept if voxel == 0 else kept[_voxel_representatives(kept.positions.numpy(), voxel)]


def to_open3d(points: Points) -> Any:
    """An `open3d.geometry.PointCloud`. It has no place for alpha and attributes.

    Raises InputError, with what to install, when the package open3d is missing.
    """
    library = require("open3d", "open3d", "conversion to Open3D")
    cloud, vector = library.geometry.PointCloud(), library.utility.Vector3dVector
    cloud.points = vector(points.positions.cpu().numpy())
    if points.colors is not None:
        cloud.colors = vector(points.colors[:, :3].double().cpu().numpy() / 255.0)
    if points.normals is not None:
        cloud.normals = vector(points.normals.double().cpu().numpy())
    return cloud


def from_open3d(cloud: Any) -> Points:
    """Points from an `open3d.geometry.PointCloud`. Raises InputError like `Points`."""
    positions = np.array(cloud.points, np.float64).reshape(-1, 3)
    colors = np.array(cloud.colors, np.float64).reshape(-1, 3)
    normals = np.array(cloud.normals, np.float32).reshape(-1, 3)
    rgba = np.full((len(colors), 4), 255, np.uint8)
    rgba[:, :3] = np.rint(np.clip(colors, 0.0, 1.0) * 255.0)
    return Points(
        torch.from_numpy(positions),
        torch.from_numpy(rgba) if len(colors) else None,
        torch.from_numpy(normals) if len(normals) else None,
    )


def _voxel_representatives(positions: np.ndarray, voxel: float) -> Tensor:
    """Of the points in each voxel the row that is nearest to their mean, rows ascending."""
    cells = np.floor((positions - positions.min(axis=0)) / voxel)
    _, cell, counts = np.unique(cells, axis=0, return_inverse=True, return_counts=True)
    cell = cell.reshape(-1)
    sums = np.stack([np.bincount(cell, column) for column in positions.T], axis=1)
    offsets = positions - (sums / counts[:, None])[cell]
    order = np.lexsort((np.linalg.norm(offsets, axis=1), cell))
    _, first = np.unique(cell[order], return_index=True)
    return torch.from_numpy(np.sort(order[first]))


def _tree(positions: Tensor) -> Any:
    from scipy.spatial import KDTree

    return KDTree(positions.cpu().numpy())


def _expect_type(name: str, tensor: Tensor, dtype: torch.dtype) -> None:
    if tensor.dtype != dtype:
        raise UsageError(f"{name} must be {dtype}, got {tensor.dtype}")
