"""Gaussian splats: state, the PLY layout of 3D Gaussian Splatting, and changes of frame.

The layout is that of Kerbl et al. 2023: x y z, nx ny nz (zeros), f_dc_0..2, f_rest_* (all of red,
then green, then blue), opacity (a logit), scale_0..2 (logarithms), rot_0..3 (w, x, y, z).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from geodistill.cameras import Similarity
from geodistill.checks import InputError, ShapeError, UsageError, check, check_finite
from geodistill.geometry.harmonics import MAX_DEGREE, sh_degree, sh_rotation
from geodistill.io.columns import as_float32, grouped, to_float32, ungrouped
from geodistill.io.ply import ListColumn, read_ply
from geodistill.io.ply_write import write_ply

_MEANS, _NORMALS = ("x", "y", "z"), ("nx", "ny", "nz")
_DC = ("f_dc_0", "f_dc_1", "f_dc_2")
_SCALES = ("scale_0", "scale_1", "scale_2")
_ROTATIONS = ("rot_0", "rot_1", "rot_2", "rot_3")
_NEEDED = (*_MEANS, *_DC, "opacity", *_SCALES, *_ROTATIONS)


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

    @property
    def degree(self) -> int:
        """The degree of the harmonics, 0 to 3."""
        return sh_degree(self.sh.shape[1])

    def to(self, device: torch.device | str) -> Splats:
        return Splats(**{name: tensor.to(device) for name, tensor in self._tensors().items()})

    def _tensors(self) -> dict[str, Tensor]:
        return {f.name: getattr(self, f.name) for f in fields(self)}


def load_splats(path: Path | str) -> Splats:
    """Read a 3DGS PLY file; quaternions get unit length.

    Raises InputError when it is missing, damaged, no splat file, or its values are not finite.
    """
    path = Path(path)
    columns = _columns(path)
    rest = _rest_count(path, columns)
    sh = np.empty((len(columns["x"]), 1 + rest // 3, 3), np.float32)
    sh[:, 0] = _stack(columns, _DC)
    if rest:
        by_channel = _stack(columns, [f"f_rest_{i}" for i in range(rest)])
        sh[:, 1:] = by_channel.reshape(len(sh), 3, -1).swapaxes(1, 2)
    quaternions = _stack(columns, _ROTATIONS).astype(np.float64)
    lengths = np.linalg.norm(quaternions, axis=1, keepdims=True)
    if not (lengths > 0).all():
        raise InputError(f"{path}: {int((lengths == 0).sum())} of its rotations rot_0..3 are zero")
    if np.abs(lengths - 1).max() > 1e-6:  # what is unit already keeps its last bit
        quaternions /= lengths
    return Splats(
        torch.from_numpy(_stack(columns, _MEANS)),
        torch.from_numpy(quaternions.astype(np.float32)),
        torch.from_numpy(_stack(columns, _SCALES)),
        torch.from_numpy(_stack(columns, ["opacity"])[:, 0].copy()),
        torch.from_numpy(sh),
    )


def load_splat_attributes(path: Path | str) -> dict[str, Tensor]:
    """What a 3DGS PLY file says of its splats beyond the layout: float32 [N] or [N, C] by name.

    Properties feature_0, feature_1, ... are one attribute "feature". Raises like `load_splats`.
    """
    path = Path(path)
    columns = _columns(path)
    known = {*_NEEDED, *_NORMALS, *(f"f_rest_{i}" for i in range(_rest_count(path, columns)))}
    further = grouped({name: values for name, values in columns.items() if name not in known})
    return {
        name: torch.from_numpy(as_float32(values, f"{path}: '{name}'"))
        for name, values in further.items()
    }


def save_splats(
    path: Path | str, splats: Splats, attributes: Mapping[str, Tensor] | None = None
) -> None:
    """Write a 3DGS PLY file atomically: float32, little endian, in the reference's order.

    Args:
        attributes: further columns, float32 [N] or [N, C], stored behind the layout as properties
            `name` or `name_0`, `name_1`, ...

    Raises:
        ShapeError: an attribute of another length or shape.
        UsageError: an attribute whose name is taken, or that is not float32.
        InputError: the file cannot be written.
    """
    count = len(splats)
    flat = {key: value.detach().cpu().numpy() for key, value in splats._tensors().items()}
    rest = flat["sh"][:, 1:].swapaxes(1, 2).reshape(count, -1)
    columns = {
        **dict(zip(_MEANS, flat["means"].T, strict=True)),
        **dict.fromkeys(_NORMALS, np.zeros(count, np.float32)),
        **dict(zip(_DC, flat["sh"][:, 0].T, strict=True)),
        **{f"f_rest_{i}": rest[:, i] for i in range(rest.shape[1])},
        "opacity": flat["opacity_logits"],
        **dict(zip(_SCALES, flat["log_scales"].T, strict=True)),
        **dict(zip(_ROTATIONS, flat["rotations"].T, strict=True)),
    }
    for name, values in (attributes or {}).items():
        if values.ndim not in (1, 2) or len(values) != count:
            raise ShapeError(
                f"attribute '{name}' must have shape [{count}] or [{count}, C], got "
                f"{[*values.shape]}"
            )
        if values.dtype != torch.float32:
            raise UsageError(f"attribute '{name}' must be torch.float32, got {values.dtype}")
    further = ungrouped({k: v.detach().cpu().numpy() for k, v in (attributes or {}).items()})
    for name in further:
        if name in columns or name.startswith("f_rest_"):
            raise UsageError(f"a splat file cannot hold an attribute as '{name}': rename it")
    write_ply(path, {"vertex": {**columns, **further}})


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


def splats_digest(splats: Splats) -> str:
    """16 hexadecimal digits that tell splat scenes apart."""
    digest = hashlib.sha256()
    for name, tensor in splats._tensors().items():
        digest.update(f"{name} {[*tensor.shape]}".encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _columns(path: Path) -> dict[str, np.ndarray]:
    """The vertex properties of a splat file; those of the layout are finite numbers."""
    elements = read_ply(path).elements
    vertices = elements.get("vertex", {})
    if any(name.startswith("packed_") for name in vertices):
        raise InputError(
            f"{path} is a compressed splat file, which is not read here: export it as a plain 3DGS "
            "PLY"
        )
    columns = {k: c for k, c in vertices.items() if not isinstance(c, ListColumn)}
    for name in _NEEDED:
        if name not in columns:
            kind = "a mesh" if len(next(iter(elements.get("face", {}).values()), ())) else "a cloud"
            raise InputError(
                f"{path} is not a splat file but looks like {kind}: its vertices have no property "
                f"'{name}' (they have {', '.join([*columns][:12]) or 'none'})"
            )
    if not len(columns["x"]):
        raise InputError(f"{path} holds no splats")
    for name, values in columns.items():
        if name not in _NEEDED and not name.startswith("f_rest_"):
            continue
        finite = np.isfinite(to_float32(values))
        if not finite.all():
            raise InputError(
                f"{path}: its property '{name}' holds {int((~finite).sum())} NaN or infinite "
                f"values of {len(values)}, the first in row {int(np.argmin(finite))}"
            )
    return columns


def _rest_count(path: Path, columns: Mapping[str, np.ndarray]) -> int:
    names = {name for name in columns if name.startswith("f_rest_")}
    allowed = [3 * ((degree + 1) ** 2 - 1) for degree in range(MAX_DEGREE + 1)]
    if len(names) not in allowed or names != {f"f_rest_{i}" for i in range(len(names))}:
        raise InputError(
            f"{path} has {len(names)} properties f_rest_*: a splat file has f_rest_0 and so on, "
            f"{', '.join(map(str, allowed))} of them for the degrees 0 to {MAX_DEGREE}"
        )
    return len(names)


def _stack(columns: Mapping[str, np.ndarray], names: tuple[str, ...] | list[str]) -> np.ndarray:
    return np.stack([columns[name] for name in names], axis=1).astype(np.float32)


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
