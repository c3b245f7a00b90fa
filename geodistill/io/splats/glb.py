"""Splats as one GLB file with the extension KHR_gaussian_splatting (release candidate of 2026)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from geodistill.io.meshes.glb_file import VERTICES, GlbBuffer, custom_attributes, glb_pieces
from geodistill.io.meshes.textures import linear_from_srgb
from geodistill.io.splats.arrays import SH_C0, SplatArrays, sigmoid
from geodistill.io.splats.gltf import HALF_TURN
from geodistill.io.splats.gltf_primitive import (
    COLOR_SPACE,
    EXTENSION,
    KERNEL,
    OPACITY,
    ROTATION,
    SCALE,
    harmonic_names,
)
from geodistill.io.splats.turning import turned

_LOGARITHMS = (-87.0, 88.0)


def glb_splat_files(splats: SplatArrays, path: Path) -> dict[str, list[bytes]]:
    """One primitive of points, floats all; programs without the extension show COLOR_0.

    Opacities are shares and scales linear, so that logits beyond ±16 and logarithms beyond -87 …
    88 are clamped. An attribute is `_NAME`, or `_NAME_0`, `_NAME_1`, ... in parts of four.

    Raises InputError for more than a GLB file can hold.
    """
    placed = turned(splats, HALF_TURN, np.zeros(3))
    buffer = GlbBuffer()
    values = {**_layout(placed), **custom_attributes(splats["attributes"])}
    attributes = {
        name: buffer.accessor(column, VERTICES, **_more(name, column))
        for name, column in values.items()
    }
    kind = {"kernel": KERNEL, "colorSpace": COLOR_SPACE}
    primitive = {"attributes": attributes, "mode": 0, "extensions": {EXTENSION: kind}}
    content = {
        "extensionsUsed": [EXTENSION],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "meshes": [{"primitives": [primitive]}],
    }
    return {path.name: glb_pieces(content, buffer, path)}


def _layout(splats: SplatArrays) -> dict[str, np.ndarray]:
    """Columns by attribute name"""
    sh = splats["sh"]
    names = harmonic_names(round(sh.shape[1] ** 0.5) - 1)
    scales = np.exp(np.clip(splats["log_scales"].astype(np.float64), *_LOGARITHMS))
    return {
        "POSITION": splats["means"],
        "COLOR_0": _colors(splats),
        ROTATION: splats["rotations"][:, [1, 2, 3, 0]],
        SCALE: scales.astype(np.float32),
        OPACITY: sigmoid(splats["opacity_logits"]).astype(np.float32),
        **{name: sh[:, place] for place, name in enumerate(names)},
    }


def _colors(splats: SplatArrays) -> np.ndarray:
    """uint16 [N, 4]: the constant colour, linear as COLOR_0 is, and the opacity"""
    shown = np.clip(0.5 + SH_C0 * splats["sh"][:, 0].astype(np.float64), 0, 1)
    share = np.column_stack([linear_from_srgb(shown), sigmoid(splats["opacity_logits"])])
    return np.rint(share * 65535).astype(np.uint16)


def _more(name: str, column: np.ndarray) -> dict[str, Any]:
    """What an accessor says beyond its type."""
    if name == "POSITION":
        return {"min": column.min(axis=0).tolist(), "max": column.max(axis=0).tolist()}
    return {"normalized": True} if name == "COLOR_0" else {}
