"""OpenEXR images: float channels by name, scene-linear, with premultiplied alpha."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geodistill.checks import InputError, ShapeError, check_finite
from geodistill.io.extras import require
from geodistill.runs import atomic_write, scratch_folder

MAGIC = b"\x76\x2f\x31\x01"
_SUFFIX = ".exr"
_LINES_PER_CHUNK = (1, 1, 1, 16, 32, 16, 32, 32, 32, 256)  # by the number of the compression method


def is_exr(path: Path) -> bool:
    return path.suffix.lower() == _SUFFIX


def read_exr(path: Path | str) -> dict[str, Tensor]:
    """Channel name to [H, W]: float32 for half and float channels, int64 for integer ones.

    Raises InputError when the file is missing, damaged, has several windows or subsampled channels,
    or when the package OpenEXR is missing.
    """
    path = Path(path)
    file = _open(path, header_only=False)
    channels = {name: channel.pixels for name, channel in file.channels().items()}
    if len({pixels.shape for pixels in channels.values()}) != 1:
        raise InputError(
            f"{path} has subsampled channels: save it with all channels at full resolution"
        )
    wanted = {np.dtype(np.uint32): np.int64}
    return {
        name: torch.from_numpy(pixels.astype(wanted.get(pixels.dtype, np.float32)))
        for name, pixels in channels.items()
    }


def exr_header(path: Path) -> tuple[tuple[int, int], list[str]]:
    """(height, width) and channel names, without reading pixels."""
    header = _open(path, header_only=True).header()
    (left, top), (right, bottom) = ([int(v) for v in corner] for corner in header["dataWindow"])
    return (bottom - top + 1, right - left + 1), [channel.name for channel in header["channels"]]


def colour_names(path: Path, names: list[str]) -> list[str]:
    """The channels that make the picture: R, G, B and perhaps A, or Y three times."""
    if {"R", "G", "B"} <= set(names):
        return [*"RGB", *(["A"] if "A" in names else [])]
    if "Y" in names:
        return [*"YYY", *(["A"] if "A" in names else [])]
    raise InputError(
        f"{path} has no R, G, B channels (it has {', '.join(names)}): export the colour pass alone"
    )


def read_exr_image(path: Path) -> np.ndarray:
    """float32 [H, W, 3 | 4], linear."""
    channels = read_exr(path)
    return np.stack([channels[name].numpy() for name in colour_names(path, [*channels])], axis=-1)


def write_exr(path: Path | str, channels: Mapping[str, Tensor]) -> None:
    """Write named channels [H, W] losslessly: {"R": ..., "G": ..., "B": ..., "A": ..., "Z": ...}.

    float16 is stored as half, every other float type as 32-bit float. Infinities are allowed (a
    depth that met nothing), NaN is not.

    Raises ShapeError for channels that differ in size, InputError for NaN, an unwritable path or a
    missing package.
    """
    path = Path(path)
    library = require("OpenEXR", "exr", f"writing {path.name}")
    arrays = {}
    for name, tensor in channels.items():
        check_finite(
            **{
                f"channel {name} of {path.name}": tensor.nan_to_num(
                    nan=torch.nan, posinf=0, neginf=0
                )
            }
        )
        kind = torch.float16 if tensor.dtype == torch.float16 else torch.float32
        # The library writes arrays with strides wrongly, so each channel is made contiguous.
        arrays[name] = np.ascontiguousarray(tensor.detach().to("cpu", kind).numpy())
    shapes = {name: [*array.shape] for name, array in arrays.items()}
    if (
        not shapes
        or any(len(s) != 2 for s in shapes.values())
        or len({tuple(s) for s in shapes.values()}) > 1
    ):
        raise ShapeError(
            f"the channels of {path.name} must all have one shape [H, W], got {shapes}"
        )
    header = {"compression": library.ZIP_COMPRESSION, "type": library.scanlineimage}
    with scratch_folder(path) as folder:
        scratch = folder / "image.exr"
        try:
            library.File(header, arrays).write(str(scratch))
        except RuntimeError as error:
            raise InputError(f"cannot write {path}: {error}") from None
        data = scratch.read_bytes()
        if _is_cut_short(data):  # the library does not notice a full disk
            place = folder.parent
            raise InputError(f"no space left in {place} to make {path}: free some and run again")
        atomic_write(path, data)


def _open(path: Path, header_only: bool) -> Any:
    library = require("OpenEXR", "exr", f"reading {path.name}")
    try:
        with path.open("rb") as stream:
            data = stream.read(len(MAGIC) if header_only else -1)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    if not data.startswith(MAGIC):
        raise InputError(f"{path} is not an OpenEXR image: check its name or make it again")
    # The library reports a file cut short on the terminal and goes on without its pixels.
    if not header_only and _is_cut_short(data):
        raise InputError(f"{path} is truncated: copy or make it again")
    try:
        file = library.File(str(path), separate_channels=True, header_only=header_only)
        header = file.header() if file.parts else None
    except (RuntimeError, ValueError, TypeError) as error:
        raise InputError(
            f"{path} is a damaged OpenEXR image ({error}): copy or make it again"
        ) from None
    if header is None:
        raise InputError(f"{path} is a damaged OpenEXR image: copy or make it again")
    windows = [
        [int(v) for corner in header[key] for v in corner]
        for key in ("dataWindow", "displayWindow")
    ]
    if windows[0] != windows[1]:
        raise InputError(
            f"{path} holds the window {windows[0]} of the picture {windows[1]}: export the full "
            "picture"
        )
    return file


def _is_cut_short(data: bytes) -> bool:
    """Whether a single-part scanline file lacks a chunk or its end; False for other kinds.

    Behind the header stands a table of chunk offsets; a chunk is int32 y, int32 size, then its
    bytes (OpenEXR file layout).
    """
    special_kinds = 0x1A  # tiled, deep and multi-part flags of the version field
    if len(data) < 8:
        return True
    if data[5] & special_kinds:
        return False
    attributes, table = _header(data)
    try:
        _, top, _, bottom = struct.unpack("<4i", attributes["dataWindow"])
        lines = _LINES_PER_CHUNK[attributes["compression"][0]]
        count = -(-(bottom - top + 1) // lines)
        chunks = struct.unpack_from(f"<{count}Q", data, table)
        last = max(chunks)
        packed = struct.unpack_from("<i", data, last + 4)[0]
    except (KeyError, IndexError, ValueError):
        return not attributes
    except struct.error:
        return True
    return 0 in chunks or last + 8 + packed > len(data)


def _header(data: bytes) -> tuple[dict[str, bytes], int]:
    """Attributes (name 0 type 0 size value, until an empty name) and the offset behind them."""
    attributes, position = {}, 8
    while data[position : position + 1] not in (b"", b"\0"):
        name_end = data.find(b"\0", position)
        type_end = data.find(b"\0", name_end + 1)
        if name_end < 0 or type_end < 0:
            return {}, len(data)
        start = type_end + 5
        size = int.from_bytes(data[type_end + 1 : start], "little")
        attributes[data[position:name_end].decode("latin-1")] = data[start : start + size]
        position = start + size
    return attributes, position + 1
