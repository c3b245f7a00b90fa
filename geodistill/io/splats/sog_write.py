"""SOG scenes, version 2, as one bundle: an uncompressed ZIP archive of lossless WebP pictures.

Source: PlayCanvas, The SOG Format. Positions take 16 bits an axis of their logarithm, rotations
26 bits, opacities 8; scales and colours are one of 256 values each; the harmonics of a splat are
one of up to 65536 entries of a palette, whose numbers are one of 256 values.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from geodistill.checks import UsageError
from geodistill.io.splats.arrays import COEFFICIENTS, SplatArrays
from geodistill.io.splats.codebook import codebook, nearest_code
from geodistill.io.splats.eight_bits import opacity_bytes, say_left_out
from geodistill.io.splats.order import morton_order
from geodistill.io.splats.palette import palette
from geodistill.io.splats.smallest_three import smallest_three
from geodistill.io.splats.sog import LARGEST_FIRST, ROW
from geodistill.io.splats.sog_file import META

_WIDEST = 16380  # of a WebP picture, a multiple of 4
_LARGEST_PALETTE = 2**16
_WEBP: dict[str, Any] = {"lossless": True, "exact": True, "quality": 50, "method": 4}
_DATE = (1980, 1, 1, 0, 0, 0)  # so that equal scenes are equal files


def sog_files(splats: SplatArrays, path: Path) -> dict[str, bytes]:
    """Splats are put in Morton order, the palette is the largest power of two up to their number.

    Raises UsageError for more splats than a picture holds. The same splats give the same file.
    """
    count = len(splats["means"])
    if count > _WIDEST**2:
        raise UsageError(f"{path.name} cannot hold {count} splats: SOG has room for {_WIDEST**2}")
    say_left_out(splats, path, harmonics=False)
    order = morton_order(splats["means"])
    content: dict[str, Any] = {
        "version": 2,
        "asset": {"generator": "geodistill"},
        "count": count,
    }
    bundle = _Bundle()
    content["means"] = _means(splats["means"][order], bundle)
    content["scales"] = _scales(splats["log_scales"][order], bundle)
    content["quats"] = {"files": [bundle.add("quats", _rotations(splats["rotations"][order]))]}
    content["sh0"] = _colours(splats["sh"][order, 0], splats["opacity_logits"][order], bundle)
    if splats["sh"].shape[1] > 1:
        content["shN"] = _harmonics(splats["sh"][order, 1:], bundle)
    return {path.name: bundle.closed(content)}


class _Bundle:
    """The archive while it grows."""

    def __init__(self) -> None:
        self._buffer = io.BytesIO()
        self._archive = zipfile.ZipFile(self._buffer, "w", zipfile.ZIP_STORED)

    def add(self, name: str, values: np.ndarray) -> str:
        """The name of a picture of uint8 [N, 3 or 4], a pixel for each splat."""
        width = -(-int(np.ceil(np.sqrt(len(values)))) // 4) * 4
        height = -(-len(values) // (4 * width)) * 4
        pixels = np.zeros((height * width, values.shape[1]), np.uint8)
        pixels[: len(values)] = values
        return self.add_picture(name, pixels.reshape(height, width, -1))

    def add_picture(self, name: str, pixels: np.ndarray) -> str:
        encoded = io.BytesIO()
        Image.fromarray(pixels).save(encoded, "WEBP", **_WEBP)
        self._write(f"{name}.webp", encoded.getvalue())
        return f"{name}.webp"

    def closed(self, content: dict[str, Any]) -> bytes:
        self._write(META, json.dumps(content, separators=(",", ":")).encode())
        self._archive.close()
        return self._buffer.getvalue()

    def _write(self, name: str, data: bytes) -> None:
        self._archive.writestr(zipfile.ZipInfo(name, _DATE), data)


def _means(means: np.ndarray, bundle: _Bundle) -> dict[str, Any]:
    values = means.astype(np.float64)
    logarithms = np.sign(values) * np.log1p(np.abs(values))
    low, high = logarithms.min(axis=0), logarithms.max(axis=0)
    extent = np.where(high > low, high - low, 1)
    steps = np.rint((logarithms - low) / extent * 65535).astype(np.uint16)
    pictures = {"means_l": steps & 255, "means_u": steps >> 8}
    return {
        "mins": low.tolist(),
        "maxs": high.tolist(),
        "files": [bundle.add(name, bytes_) for name, bytes_ in pictures.items()],
    }


def _rotations(rotations: np.ndarray) -> np.ndarray:
    """uint8 [N, 4]: the three smaller components, made relative to a positive largest, and which
    of the four that is."""
    largest, others = smallest_three(rotations)
    shares = np.rint(np.clip(others * np.sqrt(0.5) + 0.5, 0, 1) * 255)
    return np.column_stack([shares, largest + LARGEST_FIRST]).astype(np.uint8)


def _scales(log_scales: np.ndarray, bundle: _Bundle) -> dict[str, Any]:
    codes = codebook(log_scales)
    picture = bundle.add("scales", nearest_code(log_scales, codes))
    return {"codebook": _listed(codes), "files": [picture]}


def _colours(sh0: np.ndarray, opacity_logits: np.ndarray, bundle: _Bundle) -> dict[str, Any]:
    codes = codebook(sh0)
    colours = np.column_stack([nearest_code(sh0, codes), opacity_bytes(opacity_logits)])
    picture = bundle.add("sh0", colours)
    return {"codebook": _listed(codes), "files": [picture]}


def _harmonics(sh: np.ndarray, bundle: _Bundle) -> dict[str, Any]:
    count, coefficients = sh.shape[:2]
    size = min(_LARGEST_PALETTE, 1 << (count.bit_length() - 1))
    entries, labels = palette(np.ascontiguousarray(sh.reshape(count, -1)), size)
    codes = codebook(entries)
    rows = -(-size // ROW)
    pixels = np.zeros((rows * ROW, coefficients, 3), np.uint8)
    pixels[:size] = nearest_code(entries, codes).reshape(size, coefficients, 3)
    label_bytes = np.column_stack([labels & 255, labels >> 8, np.zeros_like(labels)])
    return {
        "count": size,
        "bands": COEFFICIENTS.index(coefficients + 1),
        "codebook": _listed(codes),
        "files": [
            bundle.add_picture("shN_centroids", pixels.reshape(rows, ROW * coefficients, 3)),
            bundle.add("shN_labels", label_bytes.astype(np.uint8)),
        ],
    }


def _listed(codes: np.ndarray) -> list[float]:
    """The shortest decimals that are these float32 values again."""
    return [float(str(code)) for code in codes]
