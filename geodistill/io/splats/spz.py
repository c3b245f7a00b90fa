"""SPZ, Niantic's compressed splats: read in versions 1 to 4, written in version 3.

Source: the reference implementation, github.com/nianticlabs/spz. Versions 1 to 3 are one gzip
stream, version 4 is a plain header with a zstd stream per attribute; `spz_values` says what the
bytes stand for. The axes are x right, y up, z backward unless an extension says otherwise.
"""

from __future__ import annotations

import itertools
import struct
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np
import zstandard

from geodistill import log
from geodistill.checks import InputError, UsageError
from geodistill.io.splats import spz_values
from geodistill.io.splats.arrays import SplatArrays, say_antialiased, splat_arrays
from geodistill.io.splats.eight_bits import say_left_out
from geodistill.io.splats.spz_extensions import applied_extensions
from geodistill.io.whole_file import read_whole

_MAGIC, _GZIP = b"NGSP", b"\x1f\x8b"
_HEADER, _HEADER_4, _TOC_ENTRY = 16, 32, 16
_WRITTEN = 3
_LEVEL = 4  # of packing: the highest takes three times as long for 3 % less
_ANTIALIASED, _EXTENSIONS, _LEVELS = 0x1, 0x2, 0x80
_KEPT_DEGREE = 3
_MOST_BITS = 30
_MOST_WRITTEN = 10_000_000  # older readers take no more; newer ones ask only for the bytes
_MOST_EXTENSIONS = 2**24
_RATIO = 64  # of what is unpacked to the file; scenes are around 2, deflate itself reaches 1032
_SLACK = 2**26  # bytes that any file may unpack to, such as a million equal splats


Bytes = bytes | memoryview


class _Header(NamedTuple):
    version: int
    count: int
    degree: int
    fraction_bits: int
    flags: int

    @property
    def coefficients(self) -> int:
        """A channel, of the degrees above 0"""
        return (self.degree + 1) ** 2 - 1

    @property
    def sizes(self) -> tuple[int, ...]:
        """Bytes of positions, opacities, colours, scales, rotations and harmonics"""
        each = (6 if self.version == 1 else 9, 1, 3, 3, 3 if self.version < 3 else 4)
        return tuple(self.count * size for size in (*each, 3 * self.coefficients))


def read_spz(path: Path) -> SplatArrays:
    """Harmonics of degree 4 are cut to 3, and opacities of 0 and 1 become finite logits.

    Raises InputError when it is missing, damaged, of another version, or holds a tree of levels of
    detail.
    """
    data = read_whole(path)
    if data.startswith(_GZIP):
        header, streams, extensions = _gzip_streams(path, data)
    elif data.startswith(_MAGIC):
        header = _header(path, data)
        if header.version == 4:
            streams, extensions = _zstd_streams(path, data, header)
        else:
            streams, extensions = _split(path, memoryview(data)[_HEADER:], header)
    else:
        raise InputError(f"{path} is not an SPZ file: check its name or make it again")
    return applied_extensions(path, _splats(path, header, streams), extensions)


def spz_files(splats: SplatArrays, path: Path) -> dict[str, bytes]:
    """Version 3, which every reader knows.

    Quantised: positions to 1/4096 unit (coarser where they go beyond 2048 units), logarithms of
    scales to 1/16, opacities and colours to 1/255 and 1/38, rotations to 0.25 degrees, further
    harmonics to 1/16 in degree 1 and 1/8 above it, within -1 … 1.

    Raises UsageError for more splats than all readers of the format take.
    """
    count = len(splats["means"])
    if count > _MOST_WRITTEN:
        raise UsageError(
            f"an SPZ file holds {_MOST_WRITTEN} splats at most, {path} would have {count}"
        )
    say_left_out(splats, path, harmonics=False)
    means, bits = spz_values.bytes_of_means(splats["means"])
    if bits < 12:
        log.say(f"{path}: positions go beyond 2048 units and are kept to 1/{2**bits} unit")
    degree = round(splats["sh"].shape[1] ** 0.5) - 1
    pieces = [
        _MAGIC + struct.pack("<2I4B", _WRITTEN, count, degree, bits, 0, 0),
        means,
        spz_values.bytes_of_logits(splats["opacity_logits"]),
        spz_values.bytes_of_colours(splats["sh"][:, 0]),
        spz_values.bytes_of_log_scales(splats["log_scales"]),
        spz_values.bytes_of_rotations(splats["rotations"]),
        spz_values.bytes_of_sh(splats["sh"][:, 1:]),
    ]
    packer = zlib.compressobj(_LEVEL, wbits=16 + zlib.MAX_WBITS)
    return {path.name: b"".join([*map(packer.compress, pieces), packer.flush()])}


def _splats(path: Path, header: _Header, streams: list[Bytes]) -> SplatArrays:
    means, alphas, colours, scales, rotations, sh = streams
    if header.flags & _ANTIALIASED:
        say_antialiased(path, "flag 0x1")
    if header.degree > _KEPT_DEGREE:
        log.say(f"{path}: harmonics of degree {header.degree} are cut to degree {_KEPT_DEGREE}")
    kept = min(header.coefficients, (_KEPT_DEGREE + 1) ** 2 - 1)
    harmonics = np.empty((header.count, 1 + kept, 3), np.float32)
    harmonics[:, 0] = spz_values.colours_of(colours)
    if kept:
        harmonics[:, 1:] = spz_values.sh_of(sh, header.count, kept)
    decoded = spz_values.rotations_of if header.version >= 3 else spz_values.old_rotations_of
    return splat_arrays(
        path,
        spz_values.half_means_of(means)
        if header.version == 1
        else spz_values.means_of(means, header.fraction_bits),
        decoded(rotations),
        spz_values.log_scales_of(scales),
        spz_values.logits_of(alphas),
        harmonics,
    )


def _header(path: Path, start: bytes) -> _Header:
    """From the first 16 bytes, which all versions share."""
    if len(start) < _HEADER or not start.startswith(_MAGIC):
        raise InputError(f"{path} is not an SPZ file or is truncated: it has no SPZ header")
    version, count, degree, bits, flags = struct.unpack_from("<2I3B", start, 4)
    if not 1 <= version <= 4:
        raise InputError(f"{path} is SPZ version {version}: versions 1 to 4 are read")
    if degree > 4 or bits > _MOST_BITS:
        raise InputError(
            f"{path} is damaged: its header says harmonics of degree {degree} and {bits} "
            "fractional bits"
        )
    if not count:
        raise InputError(f"{path} holds no splats")
    if flags & _LEVELS:
        raise InputError(
            f"{path} holds a tree of levels of detail (flag 0x80), not one scene: export it without"
        )
    return _Header(version, count, degree, bits, flags)


def _check_ratio(path: Path, header: _Header, size: int) -> None:
    """Before memory is taken for what a damaged or malicious count promises."""
    if sum(header.sizes) > _RATIO * size + _SLACK:
        raise InputError(
            f"{path} is truncated or damaged: it says {header.count} splats in {size} bytes"
        )


def _gzip_streams(path: Path, data: bytes) -> tuple[_Header, list[Bytes], bytes]:
    unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    try:
        start = unpacker.decompress(data, _HEADER)
        header = _header(path, start)
        if header.version == 4:
            raise InputError(f"{path} is damaged: it is SPZ version 4 within gzip")
        _check_ratio(path, header, len(data))
        room = sum(header.sizes) + _MOST_EXTENSIONS
        content = unpacker.decompress(unpacker.unconsumed_tail, room)
    except zlib.error as error:
        raise InputError(f"{path} is damaged: its gzip stream breaks off ({error})") from None
    if not unpacker.eof:
        trouble = "holds more than its header says" if unpacker.unconsumed_tail else "is truncated"
        raise InputError(f"{path} is damaged: its gzip stream {trouble}")
    return header, *_split(path, memoryview(content), header)


def _split(path: Path, content: memoryview, header: _Header) -> tuple[list[Bytes], bytes]:
    """Views of the attributes in what stands behind the header, and the extensions behind them."""
    ends = [0, *itertools.accumulate(header.sizes)]
    if ends[-1] > len(content):
        raise InputError(
            f"{path} is truncated: {header.count} splats take {ends[-1]} bytes unpacked, it has "
            f"{len(content)}"
        )
    streams: list[Bytes] = [content[start:end] for start, end in itertools.pairwise(ends)]
    return streams, bytes(content[ends[-1] :]) if header.flags & _EXTENSIONS else b""


def _zstd_streams(path: Path, data: bytes, header: _Header) -> tuple[list[Bytes], bytes]:
    """The same of version 4: the table of contents says how long each packed stream is."""
    if len(data) < _HEADER_4:
        raise InputError(f"{path} is truncated: it ends within its header")
    number, table = struct.unpack_from("<BI", data, 15)
    at = table + _TOC_ENTRY * number
    needed = 6 if header.coefficients else 5
    if table < _HEADER_4 or at > len(data) or number < needed:
        raise InputError(
            f"{path} is truncated or damaged: its table of {number} streams at byte {table} does "
            f"not fit a file of {len(data)} bytes with harmonics of degree {header.degree}"
        )
    _check_ratio(path, header, len(data))
    streams: list[Bytes] = []
    for stream, size in enumerate(header.sizes[:needed]):
        packed, unpacked = struct.unpack_from("<2Q", data, table + _TOC_ENTRY * stream)
        if unpacked != size or packed > len(data) - at:
            raise InputError(
                f"{path} is truncated or damaged: stream {stream} is said to be {packed} bytes for "
                f"{unpacked}, where {size} are needed and {len(data) - at} are left"
            )
        streams.append(_unpacked(path, stream, data[at : at + packed], size))
        at += packed
    extensions = data[_HEADER_4:table] if header.flags & _EXTENSIONS else b""
    return [*streams, b""][:6], extensions


def _unpacked(path: Path, stream: int, packed: bytes, size: int) -> bytes:
    unpacker = zstandard.ZstdDecompressor()
    try:
        with unpacker.stream_reader(packed, read_across_frames=True) as reader:
            content = reader.read(size + 1)
    except zstandard.ZstdError as error:
        raise InputError(f"{path} is damaged: stream {stream} is no zstd data ({error})") from None
    if len(content) != size:
        came = "more" if len(content) > size else f"{len(content)} bytes"
        raise InputError(f"{path} is damaged: stream {stream} holds {came}, not {size} bytes")
    return content
