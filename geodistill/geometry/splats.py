"""Gaussian splats: state, files, and changes of frame."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from geodistill.cameras import Similarity, is_identity
from geodistill.checks import InputError, UsageError, check, check_finite
from geodistill.geometry.harmonics import sh_degree, sh_rotation
from geodistill.io.splats import (
    SplatArrays,
    expect_writable,
    format_of,
    read_splats,
    write_splats,
)

_FIELDS = ("means", "rotations", "log_scales", "opacity_logits", "sh")


@dataclass(frozen=True, eq=False)
class Splats:
    """Gaussians in the user's own frame and unit.

    means           [N, 3], N at least 1
    rotations       [N, 4] quaternions (w, x, y, z) of any length but 0
    log_scales      [N, 3] natural logarithms of standard deviations
    opacity_logits  [N]
    sh              [N, (degree + 1)^2, 3] harmonics of colour in 3DGS's basis and order:
                    colour = 0.5 + sum, display-referred

    All of one type, float32 in files. Raises ShapeError for shapes that do not fit, UsageError for
    other types, InputError for no splats, values that are not finite and quaternions of length 0.
    """

    means: Tensor
    rotations: Tensor
    log_scales: Tensor
    opacity_logits: Tensor
    sh: Tensor

    def __post_init__(self) -> None:
        check(
            means=(self.means, "N 3"),
            rotations=(self.rotations, "N 4"),
            log_scales=(self.log_scales, "N 3"),
            opacity_logits=(self.opacity_logits, "N"),
            sh=(self.sh, "N K 3"),
        )
        sh_degree(self.sh.shape[1])
        if not len(self.means):
            raise InputError("a splat scene needs at least one splat")
        for name, tensor in self._tensors().items():
            if not tensor.is_floating_point() or tensor.dtype != self.means.dtype:
                kind = f"{self.means.dtype}, as means" if name != "means" else "floating point"
                raise UsageError(f"{name} must be {kind}, got {tensor.dtype}")
        check_finite(**self._tensors())
        if not bool(self.rotations.any(dim=1).all()):
            raise InputError("rotations must be quaternions, one of them is all zeros")

    def __len__(self) -> int:
        return len(self.means)

    def __getitem__(self, index: Any) -> Splats:
        """Some of the splats: splats[mask], splats[rows], splats[::10]."""
        return Splats(**{name: tensor[index] for name, tensor in self._tensors().items()})

    @property
    def degree(self) -> int:
        """The degree of the harmonics, 0 to 3."""
        return sh_degree(self.sh.shape[1])

    def parameter_count(self) -> int:
        return sum(tensor.numel() for tensor in self._tensors().values())

    def to(self, device: torch.device | str) -> Splats:
        return Splats(**{name: tensor.to(device) for name, tensor in self._tensors().items()})

    def _tensors(self) -> dict[str, Tensor]:
        return {f.name: getattr(self, f.name) for f in fields(self)}


def load_splats(path: Path | str) -> Splats:
    """Read splats; the ending of the name says the format. Quaternions get unit length.

    Formats of fixed axes (y up, z backward) are turned to 3DGS's (y down, z forward), and runs of
    nerfstudio to the world of their data.

    Raises UsageError for an unknown ending, InputError when the file is missing, damaged, no splat
    file, or its values are not finite.
    """
    return load_splats_with_attributes(path)[0]


def load_splats_with_attributes(path: Path | str) -> tuple[Splats, dict[str, Tensor]]:
    """Splats, and what the file says of them beyond the layout: float32 [N] or [N, C] by name.

    Properties feature_0, feature_1, ... are one attribute "feature". Raises like `load_splats`.
    """
    arrays = read_splats(path)
    attributes = {name: torch.from_numpy(values) for name, values in arrays["attributes"].items()}
    splats = Splats(**{name: torch.from_numpy(arrays[name]) for name in _FIELDS})
    return _in_world(splats, Path(path)), attributes


def save_splats(
    path: Path | str, splats: Splats, attributes: Mapping[str, Tensor] | None = None
) -> None:
    """Write splats atomically; the ending of the name says the format.

    Formats of fixed axes are written as `load_splats` reads them.

    Args:
        attributes: further columns, float32 [N] or [N, C], stored as properties `name` or `name_0`,
            `name_1`, ... of PLY.

    Raises:
        ShapeError: an attribute of another length or shape.
        UsageError: another ending, an attribute whose name is taken, or that is not float32.
        InputError: the file cannot be written.
    """
    path = Path(path)
    expect_writable(path)
    splats = _turned(splats) if format_of(path).opengl else splats
    arrays: dict[str, Any] = {
        name: tensor.detach().cpu().float().numpy() for name, tensor in splats._tensors().items()
    }
    arrays["attributes"] = {k: v.detach().cpu().numpy() for k, v in (attributes or {}).items()}
    write_splats(path, cast(SplatArrays, arrays))


def transformed(splats: Splats, similarity: Similarity) -> Splats:
    """The same scene in the frame that `similarity` leads to: means, rotations, scales, harmonics.

    A view of the result from `similarity.apply_camera(camera)` is the view of `splats` from
    `camera`. Computed in float64.
    """
    R = similarity.R.double()
    D = sh_rotation(R, splats.degree).to(splats.sh.device)
    turned = _product(_quaternion(R).to(splats.rotations.device), splats.rotations.double())
    return Splats(
        similarity.apply(splats.means.double()).float(),
        (turned / turned.norm(dim=1, keepdim=True)).float(),
        (splats.log_scales.double() + float(np.log(similarity.s))).float(),
        splats.opacity_logits,
        (D @ splats.sh.double()).float(),
    )


def covariances(splats: Splats, dtype: torch.dtype | None = None) -> Tensor:
    """[N, 3, 3], in the splats' own frame; computed in `dtype`, or as they are."""
    rotations, log_scales = (x.to(dtype or x) for x in (splats.rotations, splats.log_scales))
    axes = rotation_matrices(rotations) * log_scales.exp()[:, None]
    return axes @ axes.mT


def rotation_matrices(quaternions: Tensor) -> Tensor:
    """Quaternions (w, x, y, z) [N, 4] of any length to matrices [N, 3, 3]."""
    w, x, y, z = torch.nn.functional.normalize(quaternions, dim=1).unbind(1)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


def coverage(splats: Splats) -> Tensor:
    """Logarithm of opacity times the area of the larger two axes: float64 [N]."""
    scales = splats.log_scales.detach().double().sort(dim=1).values
    opacity = torch.nn.functional.logsigmoid(splats.opacity_logits.detach().double())
    return opacity + scales[:, 1:].sum(1)


def largest(splats: Splats, count: int) -> Tensor:
    """Which splats cover most: int64 [count] in ascending order."""
    order = coverage(splats).argsort(descending=True, stable=True)
    return order[:count].sort().values


def splats_digest(splats: Splats) -> str:
    """16 hexadecimal digits that tell splat scenes apart."""
    digest = hashlib.sha256()
    for name, tensor in splats._tensors().items():
        digest.update(f"{name} {[*tensor.shape]}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _in_world(splats: Splats, path: Path) -> Splats:
    """From the axes of a file to the user's world, as far as the file says how that lies."""
    found = format_of(path)
    world = found.world(path) if found.world else None
    splats = _turned(splats) if found.opengl else splats
    return splats if world is None or is_identity(world) else transformed(splats, world)


def _turned(splats: Splats) -> Splats:
    """Between 3DGS's axes and OpenGL's: y and z change their signs, either way."""
    half_turn = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    return transformed(splats, Similarity(half_turn, torch.zeros(3, dtype=torch.float64), 1.0))


def _quaternion(R: Tensor) -> Tensor:
    """[3, 3] rotation to the unit quaternion (w, x, y, z).

    The eigenvector of the largest eigenvalue of a symmetric matrix (Bar-Itzhack 2000), which has
    no special cases.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = R.tolist()
    K = R.new_tensor(
        [
            [xx + yy + zz, zy - yz, xz - zx, yx - xy],
            [zy - yz, xx - yy - zz, yx + xy, xz + zx],
            [xz - zx, yx + xy, yy - xx - zz, zy + yz],
            [yx - xy, xz + zx, zy + yz, zz - xx - yy],
        ]
    )
    return torch.linalg.eigh(K).eigenvectors[:, -1]


def _product(q: Tensor, p: Tensor) -> Tensor:
    """Hamilton product of one quaternion [4] with many [N, 4]."""
    w, v = q[0], q[1:].expand(len(p), 3)
    scalar = w * p[:, :1] - (v * p[:, 1:]).sum(dim=1, keepdim=True)
    vector = w * p[:, 1:] + p[:, :1] * v + torch.linalg.cross(v, p[:, 1:])
    return torch.cat([scalar, vector], dim=1)
