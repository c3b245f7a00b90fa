"""One primitive of splats of a glTF file, in the axes of its node."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from geodistill import log
from geodistill.checks import InputError
from geodistill.io.columns import to_float32
from geodistill.io.meshes.glb_file import joined_attributes
from geodistill.io.meshes.gltf_file import GltfFile
from geodistill.io.splats.arrays import COEFFICIENTS, SH_C0, SplatArrays, splat_arrays

EXTENSION = "KHR_gaussian_splatting"
COLOR_SPACE, KERNEL = "srgb_rec709_display", "ellipse"
ROTATION, SCALE, OPACITY = (f"{EXTENSION}:{name}" for name in ("ROTATION", "SCALE", "OPACITY"))
_WIDTHS = {"POSITION": 3, ROTATION: 4, SCALE: 3, OPACITY: 1}
_HARMONIC = re.compile(rf"{EXTENSION}:SH_DEGREE_(\d)_COEF_(\d)")
_TINY = float(np.finfo(np.float32).tiny)
_FLOAT_STEP = 2.0**-24
_STEPS = {5121: 0.5 / 255, 5123: 0.5 / 65535}
_DEFAULTS = {"projection": "perspective", "sortingMethod": "cameraDistance"}


def harmonic_names(degree: int) -> list[str]:
    """The attributes of the degrees 0 to `degree`, in 3DGS's order."""
    return [
        f"{EXTENSION}:SH_DEGREE_{band}_COEF_{order}"
        for band in range(degree + 1)
        for order in range(2 * band + 1)
    ]


def splat_count(file: GltfFile, primitive: dict[str, Any]) -> int:
    """By its positions, which must be stored: their count is then bounded by the file's bytes."""
    entry = file.entry("accessors", primitive["attributes"].get("POSITION"))
    if "bufferView" not in entry or not isinstance(entry.get("count"), int):
        raise InputError(f"{file.path}: the POSITION of its splats has no data")
    return entry["count"]


def primitive_splats(file: GltfFile, primitive: dict[str, Any]) -> SplatArrays:
    """Raises InputError for what is missing, does not fit, or is of another kind of splats."""
    _check_kind(file, primitive["extensions"][EXTENSION])
    columns = _Columns(file, primitive["attributes"], splat_count(file, primitive))
    return splat_arrays(
        file.path,
        columns["POSITION"],
        columns[ROTATION][:, [3, 0, 1, 2]],
        _log_scales(file, columns[SCALE]),
        _logits(columns),
        _harmonics(columns),
        joined_attributes({name: columns[name] for name in columns.attributes if name[:1] == "_"}),
    )


class _Columns:
    """The primitive's attributes by name, each [count, C] as its accessor gives it."""

    def __init__(self, file: GltfFile, attributes: dict[str, Any], count: int) -> None:
        self.file, self.attributes, self.count = file, attributes, count

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self:
            raise InputError(f"{self.file.path}: its splats have no attribute {name}")
        found = self.file.entry("accessors", self.attributes[name]).get("count")
        if found != self.count:
            shown = repr(found)[:40]
            raise InputError(f"{self.file.path}: {name} has {shown} values for {self.count} splats")
        values = self.file.accessor(self.attributes[name])
        wanted = 3 if _HARMONIC.fullmatch(name) else _WIDTHS.get(name, values.shape[1])
        if values.shape[1] != wanted:
            raise InputError(
                f"{self.file.path}: {name} has {values.shape[1]} numbers a splat, not {wanted}"
            )
        return values

    def __contains__(self, name: str) -> bool:
        return name in self.attributes

    def component(self, name: str) -> int:
        return self.file.entry("accessors", self.attributes[name])["componentType"]


def _check_kind(file: GltfFile, extension: dict[str, Any]) -> None:
    kernel, space = extension.get("kernel", KERNEL), extension.get("colorSpace", COLOR_SPACE)
    if kernel != KERNEL:
        shown = repr(str(kernel)[:40])
        raise InputError(f"{file.path}: its splats are of the kernel {shown}, not '{KERNEL}'")
    if space != COLOR_SPACE:
        raise InputError(
            f"{file.path}: its splats blend in the colour space {str(space)[:40]!r}, which "
            f"colours of '{COLOR_SPACE}' cannot copy: export it in that one"
        )
    inner = [*extension.get("extensions", {})]
    if packed := [name for name in inner if "compress" in name.lower()]:
        shown = repr(packed[0][:40])[1:-1]
        raise InputError(f"{file.path}: its splats are packed by {shown}: export it without")
    further = {k: v for k, v in _DEFAULTS.items() if extension.get(k, v) != v}
    if inner or further:
        what = ", ".join([*inner, *(f"{name} {extension[name]}" for name in further)])
        log.say(f"{file.path}: its splats want {what}, which is not known here and left out")


def _log_scales(file: GltfFile, scales: np.ndarray) -> np.ndarray:
    """Of the linear scales; of 0 the least that single precision has. The drafts of 2025 held
    logarithms, which are below 0 somewhere, where scales never are."""
    scales = scales.astype(np.float64)
    if (scales < 0).any():
        log.say(f"{file.path}: scales below 0 are taken as logarithms, as in drafts of {EXTENSION}")
        return scales
    return np.log(np.maximum(scales, _TINY))


def _logits(columns: _Columns) -> np.ndarray:
    """[N], finite: half a step of what stores them from 0 and 1"""
    if OPACITY in columns or "COLOR_0" not in columns:
        name, share = OPACITY, columns[OPACITY][:, 0]
    else:
        name, share = "COLOR_0", _fallback(columns)[:, 3]
    step = _STEPS.get(columns.component(name), _FLOAT_STEP)
    inside = np.clip(share.astype(np.float64), step, 1 - step)
    return np.log(inside) - np.log1p(-inside)


def _harmonics(columns: _Columns) -> np.ndarray:
    """float32 [N, K, 3]; every degree is there wholly or not at all."""
    found = {name: int(m[1]) for name in columns.attributes if (m := _HARMONIC.fullmatch(name))}
    names = harmonic_names(min(max(found.values(), default=0), len(COEFFICIENTS) - 1))
    constant = names[0] in found or "COLOR_0" not in columns
    if wrong := {*names[0 if constant else 1 :]} ^ {*found}:
        raise InputError(
            f"{columns.file.path}: the harmonics of its splats do not fill the degrees 0 to "
            f"{len(COEFFICIENTS) - 1}, see {min(wrong)}"
        )
    sh = np.empty((columns.count, len(names), 3), np.float32)
    for place, name in enumerate(names):
        if place or constant:
            sh[:, place] = to_float32(columns[name])
        else:
            sh[:, 0] = (_fallback(columns)[:, :3] - 0.5) / SH_C0
    return sh


def _fallback(columns: _Columns) -> np.ndarray:
    """[N, 4]: colours and opacities that drafts of 2025 had in COLOR_0 alone, display-referred"""
    log.say(f"{columns.file.path}: COLOR_0 stands for what its splats lack, as in early drafts")
    colors = columns["COLOR_0"].astype(np.float64)
    return np.concatenate([colors, np.ones((len(colors), 4 - colors.shape[1]))], axis=1)
