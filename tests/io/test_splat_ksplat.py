"""The .ksplat layout of GaussianSplats3D: files of random bits, read one splat at a time."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from geodistill.checks import InputError, UsageError
from geodistill.io.splats import read_splats, write_splats
from tests.io.splat_samples import (
    degrees_apart,
    expect_refused_or_understood,
    mutated,
    some_arrays,
)

C0 = 0.28209479177387814
RANGE, WIDTH = 32767, 5.0
FORMS = {0: ("3f", "3f4f", "f"), 1: ("3H", "3e4e", "e"), 2: ("3H", "3e4e", "B")}
Splat = dict[str, Any]


class Section:
    """A section's header fields and its bytes: full buckets of 4, then those not full."""

    def __init__(
        self, level: int, degree: int, full: int, part: Sequence[int], spare: int = 0, seed: int = 0
    ) -> None:
        draw = np.random.default_rng(seed)
        lengths = [4] * full + [*part]
        self.level, self.degree, count = level, degree, sum(lengths)
        centers = draw.normal(size=(len(lengths), 3)).astype(np.float32) * 10
        self.splats: list[Splat] = []
        rows = []
        for bucket, length in enumerate(lengths):
            for _ in range(length):
                splat, row = random_splat(draw, level, degree, centers[bucket].tolist())
                self.splats.append(splat)
                rows.append(row)
        spare_rows = bytes(spare * len(rows[0])) if rows else b""
        bucketed = level > 0
        head = struct.pack(f"<{len(part)}I", *part) + centers.tobytes() if bucketed else b""
        self.body = head + b"".join(rows) + spare_rows
        self.header = bytearray(1024)
        struct.pack_into("<2I", self.header, 0, count, count + spare)
        if bucketed:
            struct.pack_into("<2IfHxxI", self.header, 8, 4, len(lengths), WIDTH, 12, RANGE)
            struct.pack_into("<2I", self.header, 32, full, len(part))
        struct.pack_into("<I", self.header, 28, len(self.body))
        struct.pack_into("<H", self.header, 40, degree)


def random_splat(
    draw: np.random.Generator, level: int, degree: int, center: list[float]
) -> tuple[Splat, bytes]:
    mean_form, other_form, sh_form = FORMS[level]
    if level:
        stored = draw.integers(0, 65536, 3).tolist()
        means = [(v - RANGE) * (WIDTH / 2 / RANGE) + c for v, c in zip(stored, center, strict=True)]
    else:
        stored = means = draw.normal(size=3).astype(np.float32).tolist()
    kind = np.float16 if level else np.float32
    scales = np.exp(draw.normal(size=3) - 3).astype(kind).tolist()
    turn = draw.normal(size=4).astype(kind).tolist()
    rgba = draw.integers(0, 256, 4).tolist()
    wide = 3 * ((degree + 1) ** 2 - 1)
    rest = draw.integers(0, 256, wide) if level == 2 else draw.normal(size=wide).astype(kind)
    row = struct.pack("<" + mean_form, *stored) + struct.pack("<" + other_form, *scales, *turn)
    row += bytes(rgba) + struct.pack(f"<{wide}{sh_form}", *rest.tolist())
    splat = {"means": means, "scales": scales, "turn": turn, "rgba": rgba, "rest": rest.tolist()}
    return splat, row


def ksplat(sections: Sequence[Section], low: float = 0.0, high: float = 0.0) -> bytes:
    header = bytearray(4096)
    count = sum(len(section.splats) for section in sections)
    header[1] = 1
    struct.pack_into("<4IH", header, 4, len(sections), len(sections), count, count, 0)
    struct.pack_into("<H", header, 20, sections[0].level if sections else 0)
    struct.pack_into("<2f", header, 36, low, high)
    headers = b"".join(bytes(section.header) for section in sections)
    return bytes(header) + headers + b"".join(section.body for section in sections)


def harmonic(splat: Splat, k: int, channel: int, decode: Callable[[float], float]) -> float:
    """Coefficient k, 1 and on: bands one after another, each all of red, then green, then blue."""
    rest = splat["rest"]
    begin = 0
    for band in (3, 5, 7):
        if k - 1 < begin // 3 + band:
            place = begin + channel * band + (k - 1 - begin // 3)
            return decode(rest[place]) if place < len(rest) else 0.0
        begin += 3 * band
    raise AssertionError


def expect_equal(
    path: Path, splats: Sequence[Splat], degree: int, decode: Callable[[float], float]
) -> None:
    found = read_splats(path)
    wanted = {name: np.array([s[name] for s in splats]) for name in ("means", "scales", "turn")}
    rgba = np.array([s["rgba"] for s in splats]) / 255
    np.testing.assert_allclose(found["means"], wanted["means"], atol=3e-6)
    np.testing.assert_allclose(found["log_scales"], np.log(wanted["scales"]), atol=1e-6)
    assert degrees_apart(found["rotations"], wanted["turn"]) < 1e-4
    np.testing.assert_allclose(found["sh"][:, 0], (rgba[:, :3] - 0.5) / C0, atol=1e-6)
    share = 1 / (1 + np.exp(-found["opacity_logits"].astype(float)))
    np.testing.assert_allclose(share, np.clip(rgba[:, 3], 0.5 / 255, 1 - 0.5 / 255), atol=1e-6)
    assert found["sh"].shape == (len(splats), (degree + 1) ** 2, 3)
    for i, splat in enumerate(splats):
        for k in range(1, (degree + 1) ** 2):
            coefficients = [harmonic(splat, k, channel, decode) for channel in range(3)]
            np.testing.assert_allclose(found["sh"][i, k], coefficients, atol=1e-6)


def plain(value: float) -> float:
    return value


@pytest.mark.parametrize("degree", range(4))
@pytest.mark.parametrize("level", range(3))
def test_every_level_and_degree(level: int, degree: int, tmp_path: Path) -> None:
    path = tmp_path / "a.ksplat"
    section = Section(level, degree, 2, [3, 1, 2])
    path.write_bytes(ksplat([section], -2.0, 3.0))
    decode = (lambda v: -2 + 5 * v / 255) if level == 2 else plain
    expect_equal(path, section.splats, degree, decode)


@pytest.mark.parametrize("level", range(3))
def test_several_sections(level: int, tmp_path: Path) -> None:
    """Of several degrees and fillings, one without splats, one with room to spare."""
    path = tmp_path / "a.ksplat"
    sections = [
        Section(level, 1, 3, [], seed=1),
        Section(level, 2, 0, [1], seed=2),
        Section(level, 0, 0, [], seed=3),
        Section(level, 0, 1, [3, 3, 0, 2], spare=5, seed=4),
    ]
    path.write_bytes(ksplat(sections))
    splats = [splat for section in sections for splat in section.splats]
    # bounds of zero are the default, -1.5 and 1.5
    expect_equal(path, splats, 2, (lambda v: -1.5 + 3 * v / 255) if level == 2 else plain)


def test_a_default_range_and_a_flat_axis(tmp_path: Path) -> None:
    path, section = tmp_path / "a.ksplat", Section(1, 0, 0, [1])
    struct.pack_into("<I", section.header, 24, 0)
    path.write_bytes(ksplat([section]))
    expect_equal(path, section.splats, 0, plain)
    body = bytearray(section.body)
    struct.pack_into("<e", body, 4 + 12 + 6, 0.0)  # behind a length, a centre and a mean
    section.body = bytes(body)
    path.write_bytes(ksplat([section]))
    assert read_splats(path)["log_scales"][0, 0] == -20


def test_it_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot write splats as a\.ksplat: choose \.ply"):
        write_splats(tmp_path / "a.ksplat", some_arrays(3))


def with_fields(level: int, number: int, form: str, at: int, *values: float) -> bytes:
    """A valid file of two sections with a field of a section's header (or, -1, the file's) set."""
    data = bytearray(ksplat([Section(level, 1, 1, [2]), Section(level, 1, 1, [2])]))
    struct.pack_into("<" + form, data, (0 if number < 0 else 4096 + 1024 * number) + at, *values)
    return bytes(data)


VALID = with_fields(1, -1, "B", 0, 0)
BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "short": (VALID[:4095], "it has 4095 bytes, and its header alone 4096"),
    "major": (with_fields(1, -1, "B", 0, 1), "is a .ksplat file of version 1.1 or none: 0.1 is"),
    "minor": (with_fields(1, -1, "B", 1, 0), "of version 0.0 or none"),
    "level": (with_fields(1, -1, "H", 20, 3), "its compression level is 3, not 0, 1 or 2"),
    "sections": (with_fields(1, -1, "I", 4, 2**32 - 1), "4294967295 sections need 439804651"),
    "fewer": (with_fields(1, -1, "I", 4, 1), "its header says 12 splats, its sections hold 6"),
    "none": (with_fields(1, -1, "I", 4, 0), "its header says 12 splats, its sections hold 0"),
    "count": (with_fields(1, -1, "I", 16, 11), "its header says 11 splats, its sections hold 12"),
    "degree": (with_fields(1, 1, "H", 40, 4), "section 1 is damaged: its degree of harmonics is 4"),
    "room": (with_fields(1, 0, "I", 4, 5), "section 0 is damaged: it has 6 splats, room for 5"),
    "huge": (with_fields(0, 1, "I", 4, 2**32 - 1), "its section 1 ends at byte 3435"),
    "buckets": (with_fields(1, 1, "I", 12, 2**32 - 1), "its section 1 ends at byte"),
    "bucket": (with_fields(1, 0, "H", 20, 8), "2 used of 2 buckets of 8 bytes and width 5"),
    "full": (with_fields(1, 0, "I", 32, 2), "3 used of 2 buckets of 12 bytes"),
    "width": (with_fields(1, 0, "f", 16, math.nan), "of 12 bytes and width nan"),
    "size": (with_fields(1, 0, "I", 8, 3), "its buckets hold 5 splats of 6"),
    "cut": (VALID[:-1], "its section 1 ends at byte"),
    "no splats": (ksplat([Section(0, 0, 0, [])]), "holds no splats"),
    "no sections": (ksplat([]), "holds no splats"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_ksplat_file(case: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ksplat"
    data, complaint = BAD[case]
    path.write_bytes(data)
    with pytest.raises(InputError, match=rf"a\.ksplat.*({complaint})") as refused:
        read_splats(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("level", range(3))
def test_damaged_files(level: int, tmp_path: Path) -> None:
    data = ksplat([Section(level, 1, 5, [2, 3]), Section(level, 2, 5, [1])])
    # the fields in use are few among the headers' zeros, so that these are damaged apart
    files = mutated(data, 60, seed=level)
    draw = np.random.default_rng(level)
    for number in range(80):
        at = int(draw.integers(44)) + (0, 4096, 5120)[number % 3]
        changed = bytearray(data)
        changed[at : at + 4] = draw.bytes(4) if number % 2 else b"\xff" * 4
        files.append(bytes(changed))
    assert expect_refused_or_understood(tmp_path / "b.ksplat", files) > 50
