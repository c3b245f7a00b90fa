"""The .ksplat layout of GaussianSplats3D (Kellogg 2023), to be read.

A header of 4096 bytes, 1024 for each section, then the sections: how many splats each bucket holds
that is not full, the centres of the buckets, and the splats, bucket after bucket. Little endian.
Level 0 stores floats; level 1 halves, and means as 16 bits about the centre of a bucket; level 2
the same with harmonics of 8 bits. Scales are linear, quaternions (w, x, y, z).
Source: https://github.com/mkkellogg/GaussianSplats3D, src/loaders/SplatBuffer.js, which writes
degrees 0 to 2 and leaves room for 3.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np

from geodistill.checks import InputError
from geodistill.io.splats.arrays import COEFFICIENTS, SplatArrays, logit, splat_arrays
from geodistill.io.splats.eight_bits import color_coefficients, log_scales_of
from geodistill.io.whole_file import read_whole

HEADER, SECTION = 4096, 1024
_HEAD = np.dtype({
    "names": ["major", "minor", "sections", "splats", "level", "sh_low", "sh_high"],
    "formats": ["u1", "u1", "<u4", "<u4", "<u2", "<f4", "<f4"],
    "offsets": [0, 1, 4, 16, 20, 36, 40],
    "itemsize": HEADER,
})  # fmt: skip
_SECTION = np.dtype({
    "names": ["splats", "room", "bucket_size", "buckets", "width", "bucket_bytes", "range",
              "full_buckets", "part_buckets", "degree"],
    "formats": ["<u4", "<u4", "<u4", "<u4", "<f4", "<u2", "<u4", "<u4", "<u4", "<u2"],
    "offsets": [0, 4, 8, 12, 16, 20, 24, 32, 36, 40],
    "itemsize": SECTION,
})  # fmt: skip
_KINDS = (("<f4", "<f4", "<f4"), ("<u2", "<f2", "<f2"), ("<u2", "<f2", "u1"))
"""Of means, of scales and quaternions, and of harmonics, by level."""
_BUCKET = 12  # bytes of a centre
_DEFAULT_RANGE = 32767  # steps from the centre of a bucket to its side
_DEFAULT_SH = 1.5


class _Header(NamedTuple):
    level: int
    splats: int
    sh_low: float
    sh_high: float


class _Section(NamedTuple):
    """Where a section lies and what it holds, all checked against the file."""

    name: str
    splats: int
    degree: int
    bucket_size: int
    full_buckets: int
    buckets: int
    width: float
    steps: int
    lengths_at: int
    lengths: int
    centers_at: int
    rows_at: int


def read_ksplat(path: Path) -> SplatArrays:
    """Levels 0 to 2, any number of sections; a section of a lower degree gets zeros.

    Raises InputError when it is missing, of another version, truncated, contradicts itself, or is
    not finite.
    """
    data = read_whole(path)
    header, records = _headers(path, data)
    sections = _sections(path, data, header, records)
    degree = max((section.degree for section in sections), default=0)
    parts = [_splats(data, header, section, degree) for section in sections]
    if not parts:
        raise InputError(f"{path} holds no splats")
    means, rotations, scales, rgba, sh = (
        np.concatenate(columns) for columns in zip(*parts, strict=True)
    )
    sh[:, 0] = color_coefficients(rgba[:, :3] / 255.0)
    return splat_arrays(
        path, means, rotations, log_scales_of(path, scales), logit(rgba[:, 3] / 255.0), sh
    )


def _headers(path: Path, data: bytes) -> tuple[_Header, np.ndarray]:
    """The header, and the records of the sections as the file has them."""
    if len(data) < HEADER:
        raise InputError(
            f"{path} is truncated or no .ksplat file: it has {len(data)} bytes, and its header "
            f"alone {HEADER}"
        )
    head = np.frombuffer(data, _HEAD, 1)[0]
    version, level, count = (int(head["major"]), int(head["minor"])), int(head["level"]), 0
    if version[0] != 0 or version[1] < 1:
        raise InputError(
            f"{path} is a .ksplat file of version {version[0]}.{version[1]} or none: 0.1 is read"
        )
    if level >= len(_KINDS):
        raise InputError(f"{path} is damaged: its compression level is {level}, not 0, 1 or 2")
    count = int(head["sections"])
    if HEADER + count * SECTION > len(data):
        raise InputError(
            f"{path} is truncated or damaged: {count} sections need {HEADER + count * SECTION} "
            f"bytes for their headers, and it has {len(data)}"
        )
    low, high = (0.0 if np.isnan(v) else float(v) for v in (head["sh_low"], head["sh_high"]))
    return (
        _Header(level, int(head["splats"]), low or -_DEFAULT_SH, high or _DEFAULT_SH),
        np.frombuffer(data, _SECTION, count, HEADER),
    )


def _sections(path: Path, data: bytes, header: _Header, records: np.ndarray) -> list[_Section]:
    """Those that hold splats."""
    sections, at = [], HEADER + len(records) * SECTION
    for number, record in enumerate(records):
        section, end = _section(path, header.level, number, record, at)
        if end > len(data):
            raise InputError(
                f"{path} is truncated or damaged: its section {number} ends at byte {end} of "
                f"{len(data)}; copy or make it again"
            )
        if section.splats:
            sections.append(section)
        at = end
    total = sum(section.splats for section in sections)
    if total != header.splats:
        raise InputError(
            f"{path} is damaged: its header says {header.splats} splats, its sections hold "
            f"{total}; make it again"
        )
    return sections


def _section(path: Path, level: int, number: int, record: np.void, at: int) -> tuple[_Section, int]:
    """A section that begins at byte `at`, and where it ends."""
    one = {name: record[name].item() for name in _SECTION.names or ()}
    name = f"{path}: section {number}"
    if one["degree"] >= len(COEFFICIENTS):
        raise InputError(f"{name} is damaged: its degree of harmonics is {one['degree']}")
    if one["splats"] > one["room"]:
        raise InputError(
            f"{name} is damaged: it has {one['splats']} splats, room for {one['room']}"
        )
    if level and one["splats"]:
        _expect_buckets(name, one)
    centers_at = at + 4 * one["part_buckets"]
    rows_at = centers_at + one["bucket_bytes"] * one["buckets"]
    end = rows_at + _row(level, one["degree"]).itemsize * one["room"]
    section = _Section(
        name=name,
        splats=one["splats"],
        degree=one["degree"],
        bucket_size=one["bucket_size"],
        full_buckets=one["full_buckets"],
        buckets=one["buckets"],
        width=one["width"],
        steps=one["range"] or _DEFAULT_RANGE,
        lengths_at=at,
        lengths=one["part_buckets"],
        centers_at=centers_at,
        rows_at=rows_at,
    )
    return section, end


def _expect_buckets(name: str, one: dict[str, float]) -> None:
    used = one["full_buckets"] + one["part_buckets"]
    if one["bucket_bytes"] != _BUCKET or used > one["buckets"] or not np.isfinite(one["width"]):
        raise InputError(
            f"{name} is damaged: {used} used of {one['buckets']} buckets of {one['bucket_bytes']} "
            f"bytes and width {one['width']:g}; a bucket has {_BUCKET} bytes"
        )


def _row(level: int, degree: int) -> np.dtype:
    mean, other, sh = _KINDS[level]
    return np.dtype([
        ("means", mean, 3), ("scales", other, 3), ("rotations", other, 4), ("rgba", "u1", 4),
        ("sh", sh, 3 * (COEFFICIENTS[degree] - 1)),
    ])  # fmt: skip


def _splats(
    data: bytes, header: _Header, section: _Section, degree: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Means, rotations, linear scales, colours in bytes, and harmonics with colour's left empty."""
    rows = np.frombuffer(data, _row(header.level, section.degree), section.splats, section.rows_at)
    with np.errstate(invalid="ignore"):  # a NaN is refused with the values
        means, rotations, scales = (
            rows[name].astype(np.float64) for name in ("means", "rotations", "scales")
        )
        rest = _harmonics(rows["sh"], header)
    if header.level:
        buckets = _buckets(data, section)
        centers = np.frombuffer(data, "<f4", 3 * section.buckets, section.centers_at)
        step = section.width / 2 / section.steps
        with np.errstate(invalid="ignore"):
            means = (means - section.steps) * step + centers.reshape(-1, 3)[buckets]
    sh = np.zeros((len(rows), COEFFICIENTS[degree], 3), np.float32)
    for band in range(1, section.degree + 1):
        begin, end = COEFFICIENTS[band - 1], COEFFICIENTS[band]
        by_channel = rest[:, 3 * (begin - 1) : 3 * (end - 1)].reshape(len(rows), 3, -1)
        sh[:, begin:end] = by_channel.swapaxes(1, 2)
    return means, rotations, scales, rows["rgba"], sh


def _harmonics(stored: np.ndarray, header: _Header) -> np.ndarray:
    """float32, from floats as they are and from bytes between the bounds of the header"""
    if header.level < 2:
        return stored.astype(np.float32)
    shares = np.arange(256) / 255
    table = header.sh_low + shares * (header.sh_high - header.sh_low)
    return table.astype(np.float32)[stored]


def _buckets(data: bytes, section: _Section) -> np.ndarray:
    """The bucket of every splat: full ones first, then those whose lengths the file lists."""
    full = np.full(section.full_buckets, section.bucket_size, np.int64)
    part = np.frombuffer(data, "<u4", section.lengths, section.lengths_at).astype(np.int64)
    ends = np.concatenate([full, part]).cumsum()
    if not len(ends) or ends[-1] < section.splats:
        raise InputError(
            f"{section.name} is damaged: its buckets hold {ends[-1] if len(ends) else 0} splats "
            f"of {section.splats}; make it again"
        )
    return np.searchsorted(ends, np.arange(section.splats), side="right")
