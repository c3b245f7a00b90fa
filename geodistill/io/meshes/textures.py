"""Pictures that belong to meshes: found, decoded and encoded; and the sRGB curve."""

from __future__ import annotations

import io
import struct
import zlib
from contextvars import ContextVar
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from geodistill import log
from geodistill.checks import InputError
from geodistill.io.whole_file import read_whole

files_read: ContextVar[list[Path] | None] = ContextVar("files_read", default=None)
"""Where set, the files that meshes name are noted as they are found."""
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "TGA", "TIFF", "GIF")
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)


def texture_name(stem: str, number: int) -> str:
    """What a writer calls the texture of a material of the mesh `stem`."""
    return f"{stem}_{number}.png"


def find_beside(folder: Path, name: str) -> Path | None:
    """A file that another one names: relative, absolute, with backslashes, or moved beside it."""
    path, noted = _beside(folder, name), files_read.get()
    if path is not None and noted is not None:
        noted.append(path)
    return path


def _beside(folder: Path, name: str) -> Path | None:
    name = name.strip().strip('"').replace("\\", "/")
    leaf = name.rsplit("/", 1)[-1]
    if not leaf or "\0" in name:
        return None
    try:
        for candidate in (folder / name, folder / leaf):
            if candidate.is_file():
                return candidate
        return next(
            (p for p in sorted(folder.iterdir()) if p.name.lower() == leaf.lower() and p.is_file()),
            None,
        )
    except OSError:
        return None


def read_texture(
    folder: Path, name: str, where: Path, known: dict[Path, np.ndarray]
) -> np.ndarray | None:
    """uint8 [H, W, 4] of a picture that `where` names; None, with a line, where it is missing.

    `known` are the mesh's pictures by their files: each is decoded once and is one array. Raises
    InputError when it is no picture.
    """
    path = find_beside(folder, name)
    if path is None:
        log.say(f"{where}: the texture {name.strip()} is missing; its material keeps one colour")
        return None
    place = path.resolve()
    if place not in known:
        known[place] = decode_texture(read_whole(path), str(path))
    return known[place]


def decode_texture(data: bytes, name: str) -> np.ndarray:
    """uint8 [H, W, 4], straight alpha, first row on top. Raises InputError naming the picture."""
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as image:
            if image.mode.startswith("I;16"):
                grey = (np.array(image) >> 8).astype(np.uint8)
                return np.stack([grey, grey, grey, np.full_like(grey, 255)], axis=-1)
            return np.array(image.convert("RGBA"))
    except UnidentifiedImageError:
        raise InputError(
            f"{name} is not a picture (PNG, JPEG, WebP, BMP, TGA, TIFF): convert or copy it again"
        ) from None
    except Image.DecompressionBombError as error:
        raise InputError(f"{name} is refused: {error}") from None
    except _DAMAGE as error:
        raise InputError(f"{name} is truncated or damaged ({error}): copy it again") from None


def encode_png(texture: np.ndarray) -> bytes:
    """A PNG of uint8 [H, W, 4], without alpha where all of it is opaque."""
    opaque = bool((texture[..., 3] == 255).all())
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(texture[..., :3] if opaque else texture)).save(
        buffer, "PNG"
    )
    return buffer.getvalue()


def tinted(texture: np.ndarray, factor: tuple[float, float, float, float]) -> np.ndarray:
    """The texture times its factor, for formats in which a texture has none."""
    if factor == (1.0, 1.0, 1.0, 1.0):
        return texture
    return np.rint(texture * np.clip(factor, 0, 1)).astype(np.uint8)


def linear_from_srgb(values: np.ndarray) -> np.ndarray:
    """IEC 61966-2-1, on [0, 1]."""
    values = np.asarray(values, np.float64)
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def srgb_from_linear(values: np.ndarray) -> np.ndarray:
    """The inverse of `linear_from_srgb`."""
    values = np.clip(np.asarray(values, np.float64), 0, 1)
    curve = np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)
    return np.where(values == 1, 1.0, curve)  # which the formula misses by a bit


def colour_bytes(values: np.ndarray) -> np.ndarray:
    """uint8 [N, 4] of sRGB values in [0, 1], [N, 3 | 4]; alpha is 1 where it is missing."""
    values = np.asarray(values)
    rgba = np.full((len(values), 4), 255, np.uint8)
    rgba[:, : values.shape[1]] = np.rint(np.clip(np.nan_to_num(values), 0, 1) * 255)
    return rgba
