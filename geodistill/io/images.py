"""Pictures and films: PNG, JPEG and WebP through Pillow, OpenEXR, MP4 out.

Values of PNG, JPEG and WebP are display-referred (sRGB) with straight alpha; EXR values are linear
with premultiplied alpha. Colour profiles and orientation tags are ignored, as the tools that
estimate cameras ignore them.
"""

from __future__ import annotations

import io
import itertools
import shutil
import struct
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import Image, ImageFile, UnidentifiedImageError
from torch import Tensor

from geodistill.checks import GeodistillError, InputError, ShapeError, UsageError, check_finite
from geodistill.io.exr import colour_names, exr_header, is_exr, read_exr_image
from geodistill.io.extras import require
from geodistill.runs import atomic_write, scratch_folder

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".exr")
_FORMATS = ("PNG", "JPEG", "WEBP")
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error)


@dataclass(frozen=True)
class ImageInfo:
    """What a file's header says: size (H, W), 3 or 4 channels, numpy type of its samples."""

    size: tuple[int, int]
    channels: int
    dtype: type


def image_info(path: Path | str) -> ImageInfo:
    """Read a picture's header only. Raises InputError as `read_image` does."""
    path = Path(path)
    if is_exr(path):
        size, names = exr_header(path)
        return ImageInfo(size, len(colour_names(path, names)), np.float32)
    with _opened(path) as image:
        width, height = image.size
        return ImageInfo(
            (height, width),
            4 if _has_alpha(image) else 3,
            np.uint16 if _is_deep(path) else np.uint8,
        )


def read_image(path: Path | str) -> Tensor:
    """float32 [H, W, 3 | 4]: PNG, JPEG and WebP in [0, 1] as stored (sRGB), EXR linear.

    Raises InputError when the file is missing, truncated, or not one of these formats.
    """
    pixels = read_pixels(Path(path))
    if pixels.dtype == np.float32:
        return torch.from_numpy(pixels)
    return torch.from_numpy(pixels.astype(np.float32) / np.float32(np.iinfo(pixels.dtype).max))


def read_pixels(path: Path) -> np.ndarray:
    """[H, W, 3 | 4] in the file's own depth: uint8, uint16 (16-bit PNG) or float32 (EXR)."""
    if is_exr(path):
        return read_exr_image(path)
    if _is_deep(path):
        return _read_deep(path)
    with _opened(path) as image:
        return np.array(image.convert("RGBA" if _has_alpha(image) else "RGB"))


def read_mask(path: Path) -> np.ndarray:
    """The brightness of a mask, uint8 [H, W]; if it holds only 0 and 1, they become 0 and 255."""
    if _is_deep(path):
        return (_read_deep(path)[..., 0] >> 8).astype(np.uint8)
    with _opened(path) as image:
        mask = np.array(image.convert("L"))
    return mask * np.uint8(255) if mask.max() <= 1 else mask


def write_png(path: Path | str, image: Tensor) -> None:
    """Write an 8-bit PNG.

    `image` is grey [H, W] or [H, W, 1], RGB [H, W, 3] or RGBA [H, W, 4], uint8 or float in [0, 1]
    (clamped). Raises ShapeError for another shape, InputError for NaN or an unwritable path.
    """
    path = Path(path)
    if image.ndim == 3 and image.shape[-1] == 1:
        image = image[..., 0]
    if (
        image.ndim not in (2, 3)
        or (image.ndim == 3 and image.shape[-1] not in (3, 4))
        or 0 in image.shape
    ):
        raise ShapeError(
            f"the image for {path.name} must have shape [H, W, 3] or [H, W, 4], got "
            f"{[*image.shape]}"
        )
    buffer = io.BytesIO()
    Image.fromarray(_bytes(image, path)).save(buffer, "PNG")
    atomic_write(path, buffer.getvalue())


def write_mp4(path: Path | str, frames: Iterable[Tensor], fps: float = 30.0) -> None:
    """Write frames [H, W, 3], uint8 or float in [0, 1], as H.264.

    The format has even sides only: an odd one is extended by its last row or column. Raises
    InputError for no frames, NaN, an unwritable path or a missing package, ShapeError for frames
    that differ.
    """
    path = Path(path)
    library = require("imageio_ffmpeg", "video", f"writing {path.name}")
    if not 0 < fps < 1000:
        raise UsageError(f"a film needs between 0 and 1000 frames per second, got {fps}")
    stream = iter(frames)
    first = next(stream, None)
    if first is None:
        raise InputError(f"there are no frames to write to {path}")
    with scratch_folder(path) as folder:
        scratch = folder / "film.mp4"
        try:
            _encode(library, scratch, itertools.chain([first], stream), first.shape, fps, path)
        except (OSError, RuntimeError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[-1]
            raise InputError(f"cannot write {path}: the video encoder failed ({reason})") from None

        def copy(file: IO[bytes]) -> None:
            with scratch.open("rb") as source:
                shutil.copyfileobj(source, file)

        atomic_write(path, copy)


def _encode(
    library: Any, scratch: Path, frames: Iterator[Tensor], shape: torch.Size, fps: float, path: Path
) -> None:
    if len(shape) != 3 or shape[-1] != 3 or 0 in shape:
        raise ShapeError(f"the frames of {path.name} must have shape [H, W, 3], got {[*shape]}")
    height, width = (side + side % 2 for side in shape[:2])
    padding = ((0, height - shape[0]), (0, width - shape[1]), (0, 0))
    writer = library.write_frames(
        str(scratch),
        (width, height),
        fps=fps,
        quality=8,
        macro_block_size=2,
        ffmpeg_log_level="error",
    )
    with closing(writer):
        writer.send(None)
        for number, frame in enumerate(frames):
            if frame.shape != shape:
                raise ShapeError(
                    f"frame {number} of {path.name} has shape {[*frame.shape]}, the first "
                    f"{[*shape]}"
                )
            writer.send(np.ascontiguousarray(np.pad(_bytes(frame, path), padding, mode="edge")))
    if not scratch.exists() or not scratch.stat().st_size:
        raise RuntimeError("it wrote nothing")


def _bytes(image: Tensor, path: Path) -> np.ndarray:
    """uint8 numpy; floats are clamped to [0, 1] and rounded."""
    if image.dtype == torch.uint8:
        return image.detach().cpu().contiguous().numpy()
    if not image.is_floating_point():
        raise UsageError(f"the pixels for {path.name} must be uint8 or float, got {image.dtype}")
    check_finite(**{f"the image for {path.name}": image})
    return (
        (image.detach().cpu().float().clamp(0, 1) * 255)
        .round()
        .to(torch.uint8)
        .contiguous()
        .numpy()
    )


@contextmanager
def _opened(path: Path) -> Iterator[ImageFile.ImageFile]:
    """A Pillow image whose every failure, then and while it is decoded, is an InputError."""
    try:
        with Image.open(path, formats=_FORMATS) as image:
            yield image  # pyright: ignore[reportReturnType]
    except GeodistillError:
        raise
    except FileNotFoundError:
        raise InputError(f"{path} does not exist") from None
    except IsADirectoryError:
        raise InputError(f"{path} is a folder, not an image") from None
    except PermissionError:
        raise InputError(f"no permission to read {path}") from None
    except UnidentifiedImageError:
        raise InputError(
            f"{path} is not a whole PNG, JPEG, WebP or EXR image: convert or copy it again"
        ) from None
    except Image.DecompressionBombError as error:
        raise InputError(f"{path} is refused: {error}") from None
    except _DAMAGE as error:
        raise InputError(
            f"{path} is truncated or damaged ({error}): copy or make it again"
        ) from None


def _has_alpha(image: Image.Image) -> bool:
    return image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info


def _is_deep(path: Path) -> bool:
    """Whether the file is a PNG with 16 bits a sample: byte 24 of its header."""
    try:
        with path.open("rb") as file:
            start = file.read(25)
    except OSError:
        return False  # opening it as an image names the reason
    return start.startswith(b"\x89PNG") and start[24:] == b"\x10"


def _read_deep(path: Path) -> np.ndarray:
    """uint16 [H, W, 3 | 4].

    Pillow keeps only the high byte of 16-bit colour, so each byte is decoded on its own.
    """
    with _opened(path) as image:
        raw_mode = str(image.tile[0][3]) if image.tile else ""
        if image.mode.startswith("I"):
            return np.repeat(np.array(image).astype(np.uint16)[..., None], 3, axis=-1)
        if raw_mode == "LA;16B":
            pairs = _decode_as(image, "RGBA").astype(np.uint16)
            grey, alpha = pairs[..., 0] << 8 | pairs[..., 1], pairs[..., 2] << 8 | pairs[..., 3]
            return np.stack([grey, grey, grey, alpha], axis=-1)
        high = np.array(image).astype(np.uint16)
    with _opened(path) as image:
        low = _decode_as(image, raw_mode.replace(";16B", ";16L"))
        return high << 8 | low


def _decode_as(image: ImageFile.ImageFile, raw_mode: str) -> np.ndarray:
    """Decode with another byte layout of the same width.

    "16L" takes the second byte of each pair for the high one, "RGBA" takes all four of LA.
    """
    codec, extents, offset, _ = image.tile[0]
    image.tile = [(codec, extents, offset, raw_mode)]  # pyright: ignore[reportAttributeAccessIssue]
    return np.array(image)
