"""SPZ: bytes against a slow twin of the format, old versions, extensions, and damaged files."""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path

import numpy as np
import pytest
import zstandard

from geodistill.checks import InputError, UsageError
from geodistill.io.splats import SplatArrays, format_of, read_splats, spz, write_splats

FIELDS = ("means", "rotations", "log_scales", "opacity_logits", "sh")


def some_splats(count: int = 13, degree: int = 3, seed: int = 0) -> SplatArrays:
    draw = np.random.default_rng(seed)
    q = draw.normal(size=(count, 4))
    sh = draw.normal(size=(count, (degree + 1) ** 2, 3)) * 0.3
    return SplatArrays(
        means=(draw.normal(size=(count, 3)) * 20).astype(np.float32),
        rotations=(q / np.linalg.norm(q, axis=1, keepdims=True)).astype(np.float32),
        log_scales=(draw.normal(size=(count, 3)) - 4).astype(np.float32),
        opacity_logits=draw.normal(size=count).astype(np.float32),
        sh=sh.astype(np.float32),
        attributes={},
    )


def away(value: float) -> int:
    """Rounded to the nearest, halves away from zero"""
    return int(math.copysign(math.floor(abs(value) + 0.5), value))


def byte(value: float) -> int:
    return min(max(away(value), 0), 255)


def packed_rotation(wxyz: np.ndarray) -> int:
    xyzw = [float(wxyz[i]) for i in (1, 2, 3, 0)]
    largest = max(range(4), key=lambda i: abs(xyzw[i]))
    sign = math.copysign(1, xyzw[largest])
    packed = largest
    for i in range(4):
        if i != largest:
            magnitude = int(511 * abs(xyzw[i]) / math.sqrt(0.5) + 0.5)
            packed = packed << 10 | (sign * xyzw[i] < 0) << 9 | magnitude
    return packed


def harmonic_byte(value: float, bucket: int) -> int:
    whole = away(value * 128) + 128
    return min(max((whole + bucket // 2) // bucket * bucket, 0), 255)


def twin(splats: SplatArrays) -> bytes:
    """The unpacked file, version 3, one splat after the other."""
    count, degree = len(splats["means"]), round(splats["sh"].shape[1] ** 0.5) - 1
    out = struct.pack("<4s2I4B", b"NGSP", 3, count, degree, 12, 0, 0)
    for mean in splats["means"]:
        for value in mean:
            out += struct.pack("<i", away(float(value) * 4096))[:3]
    for logit in splats["opacity_logits"]:
        out += bytes([byte(255 / (1 + math.exp(-logit)))])
    for sh in splats["sh"]:
        out += bytes(byte(float(value) * 0.15 * 255 + 127.5) for value in sh[0])
    for scales in splats["log_scales"]:
        out += bytes(byte((float(value) + 10) * 16) for value in scales)
    for rotation in splats["rotations"]:
        out += struct.pack("<I", packed_rotation(rotation))
    for sh in splats["sh"]:
        for place, values in enumerate(sh[1:]):
            out += bytes(harmonic_byte(float(v), 8 if place < 3 else 16) for v in values)
    return out


@pytest.mark.parametrize("degree", range(4))
@pytest.mark.parametrize("count", [1, 13])
def test_the_bytes_are_those_of_the_format(count: int, degree: int, tmp_path: Path) -> None:
    splats = some_splats(count, degree)
    splats["sh"][0] = np.linspace(-2, 4, splats["sh"][0].size).reshape(-1, 3)
    splats["log_scales"][0] = -30, 30, 0
    splats["opacity_logits"][0] = 80
    write_splats(tmp_path / "a.spz", splats)
    assert gzip.decompress((tmp_path / "a.spz").read_bytes()) == twin(splats)
    assert [file.name for file in tmp_path.iterdir()] == ["a.spz"]


@pytest.mark.parametrize("degree", range(4))
def test_a_round_trip_stays_within_the_steps(degree: int, tmp_path: Path) -> None:
    splats = some_splats(500, degree)
    write_splats(tmp_path / "a.spz", splats)
    found = read_splats(tmp_path / "a.spz")
    assert all(found[name].dtype == np.float32 for name in FIELDS)
    steps = {"means": 0.5 / 4096 + 4e-6, "log_scales": 0.5 / 16 + 1e-6}
    for name, step in steps.items():
        assert np.abs(found[name] - splats[name]).max() <= step
    shares = [1 / (1 + np.exp(-each["opacity_logits"])) for each in (found, splats)]
    assert np.abs(shares[0] - shares[1]).max() <= 0.5 / 255 + 1e-6
    off = np.abs(found["sh"] - splats["sh"])
    inside = np.abs(splats["sh"]) < 0.9
    assert off[:, 0].max() <= 0.5 / (0.15 * 255) + 1e-6
    assert off[:, 1:4][inside[:, 1:4]].max(initial=0) <= 4.5 / 128
    assert off[:, 4:][inside[:, 4:]].max(initial=0) <= 8.5 / 128
    turn = np.abs((found["rotations"] * splats["rotations"]).sum(axis=1)).clip(0, 1)
    assert np.rad2deg(2 * np.arccos(turn)).max() < 0.25
    write_splats(tmp_path / "b.spz", found)
    again = read_splats(tmp_path / "b.spz")
    for name in ("means", "log_scales", "opacity_logits", "sh"):
        assert np.array_equal(again[name], found[name]), name


COLUMN_SIZES = {1: (6, 1, 3, 3, 3), 2: (9, 1, 3, 3, 3), 3: (9, 1, 3, 3, 4), 4: (9, 1, 3, 3, 4)}


def columns(version: int, degree: int, count: int, seed: int = 1) -> list[bytes]:
    """Random attributes of a version, as its streams."""
    draw = np.random.default_rng(seed)
    found = [draw.integers(1, 255, s * count, np.uint8).tobytes() for s in COLUMN_SIZES[version]]
    if version == 1:
        found[0] = draw.normal(size=3 * count).astype("<f2").tobytes()
    if version < 3:
        found[4] = draw.integers(60, 200, 3 * count, np.uint8).tobytes()
    else:
        rotations = some_splats(count, 0, seed)["rotations"]
        found[4] = b"".join(struct.pack("<I", packed_rotation(q)) for q in rotations)
    harmonics = 3 * ((degree + 1) ** 2 - 1)
    return [*found, draw.integers(0, 256, harmonics * count, np.uint8).tobytes()]


def old_file(version: int, degree: int = 1, count: int = 7, flags: int = 0, tail: bytes = b""):
    head = struct.pack("<4s2I4B", b"NGSP", version, count, degree, 11, flags, 0)
    return head + b"".join(columns(version, degree, count)) + tail


def zstd_file(
    degree: int = 1, count: int = 7, flags: int = 0, records: bytes = b"", streams: int = 0
) -> bytes:
    parts = columns(4, degree, count)
    parts = parts[: streams or (6 if degree else 5)]
    packed = [zstandard.ZstdCompressor().compress(part) for part in parts]
    table = 32 + len(records)
    head = struct.pack("<4s2I4BI12x", b"NGSP", 4, count, degree, 11, flags, len(packed), table)
    sizes = b"".join(struct.pack("<2Q", len(p), len(u)) for p, u in zip(packed, parts, strict=True))
    return head + records + sizes + b"".join(packed)


def a_file(version: int, degree: int = 1, count: int = 7) -> bytes:
    if version == 4:
        return zstd_file(degree, count)
    return gzip.compress(old_file(version, degree, count))


def slow_rotation(version: int, data: bytes) -> list[float]:
    """w, x, y, z"""
    if version < 3:
        x, y, z = (value / 127.5 - 1 for value in data)
        return [math.sqrt(max(0.0, 1 - x * x - y * y - z * z)), x, y, z]
    packed = int.from_bytes(data, "little")
    found = [0.0] * 4
    largest = packed >> 30
    for i in reversed([i for i in range(4) if i != largest]):
        found[i] = (packed & 511) / 511 * math.sqrt(0.5) * (-1 if packed & 512 else 1)
        packed >>= 10
    found[largest] = math.sqrt(max(0.0, 1 - sum(value * value for value in found)))
    return [found[3], *found[:3]]


@pytest.mark.parametrize("version", [1, 2, 3, 4])
@pytest.mark.parametrize("degree", range(5))
def test_every_version_is_read(version: int, degree: int, tmp_path: Path, capsys) -> None:
    path, count = tmp_path / "a.spz", 7
    path.write_bytes(a_file(version, degree, count))
    found = read_splats(path)
    kept = (min(degree, 3) + 1) ** 2
    assert found["sh"].shape == (count, kept, 3)
    means, alphas, colours, scales, rotations, sh = columns(version, degree, count)
    for i in range(count):
        for c in range(3):
            if version == 1:
                mean = struct.unpack_from("<e", means, 6 * i + 2 * c)[0]
            else:
                mean = int.from_bytes(means[9 * i + 3 * c :][:3], "little", signed=True) / 2048
            assert found["means"][i, c] == np.float32(mean)
            assert found["log_scales"][i, c] == scales[3 * i + c] / 16 - 10
            dc = (colours[3 * i + c] / 255 - 0.5) / 0.15
            assert found["sh"][i, 0, c] == pytest.approx(dc, abs=1e-6)
            for k in range(kept - 1):
                stored = sh[(i * ((degree + 1) ** 2 - 1) + k) * 3 + c]
                assert found["sh"][i, 1 + k, c] == (stored - 128) / 128
        share = alphas[i] / 255
        assert found["opacity_logits"][i] == pytest.approx(math.log(share / (1 - share)), abs=1e-5)
        wide = len(rotations) // count
        q = np.array(slow_rotation(version, rotations[wide * i :][:wide]))
        assert found["rotations"][i] == pytest.approx(q / np.linalg.norm(q), abs=1e-6)
    cut = f"{path}: harmonics of degree 4 are cut to degree 3\n"
    assert capsys.readouterr().err == (cut if degree == 4 else "")


def test_what_other_writers_do(tmp_path: Path, capsys) -> None:
    """Not packed at all; six streams where five have content; opacities of 0 and 1."""
    path = tmp_path / "a.spz"
    path.write_bytes(gzip.compress(old_file(3)))
    wanted = read_splats(path)
    path.write_bytes(old_file(3))
    assert all(np.array_equal(read_splats(path)[name], wanted[name]) for name in FIELDS)
    path.write_bytes(zstd_file(0, streams=6))
    assert read_splats(path)["sh"].shape == (7, 1, 3)
    data = bytearray(old_file(3))
    data[16 + 9 * 7 : 16 + 9 * 7 + 2] = b"\0\xff"
    path.write_bytes(gzip.compress(bytes(data)))
    low, high = read_splats(path)["opacity_logits"][:2]
    assert low == -high and high == pytest.approx(math.log(509), abs=1e-4)
    assert capsys.readouterr().err == ""


def test_flags_and_extensions_are_said(tmp_path: Path, capsys) -> None:
    path = tmp_path / "a.spz"
    unknown = struct.pack("<2I", 0x12340001, 5) + b"hello"
    orbit = struct.pack("<2I3f", 0xADBE0002, 12, 0, 1, 2)
    for data in (
        gzip.compress(old_file(2, flags=3, tail=orbit + unknown)),
        zstd_file(flags=3, records=unknown + orbit),
    ):
        path.write_bytes(data)
        assert len(read_splats(path)["means"]) == 7
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 2 and "with antialiasing (flag 0x1)" in lines[0]
        assert "extension 0x12340001 (5 bytes) is not known here" in lines[1]
    for data in (gzip.compress(old_file(2, tail=unknown)), zstd_file(records=unknown)):
        path.write_bytes(data)  # no flag, no extension
        read_splats(path)
    assert capsys.readouterr().err == ""


LETTERS = [
    *("LDB", "RDB", "LUB", "RUB", "LDF", "RDF", "LUF", "RUF"),
    *("LFD", "RFD", "LFU", "RFU", "LBD", "RBD", "LBU", "RBU"),
]
POINTS = {"R": (1, 0, 0), "L": (-1, 0, 0), "U": (0, 1, 0), "D": (0, -1, 0)}
POINTS |= {"B": (0, 0, 1), "F": (0, 0, -1)}


def covariances(splats: SplatArrays) -> np.ndarray:
    w, x, y, z = splats["rotations"].astype(float).T
    R = np.array([
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]).transpose(2, 0, 1)  # fmt: skip
    return R @ (np.exp(2.0 * splats["log_scales"])[:, :, None] * R.transpose(0, 2, 1))


def colours(splats: SplatArrays, d: np.ndarray) -> np.ndarray:
    """[D, N, 3] with torch's basis of the geometry room"""
    import torch

    from geodistill.geometry.harmonics import sh_basis

    degree = round(splats["sh"].shape[1] ** 0.5) - 1
    basis = sh_basis(torch.from_numpy(d), degree).numpy()
    return np.einsum("dk,nkc->dnc", basis, splats["sh"].astype(float))


@pytest.mark.parametrize("code", range(1, 17))
@pytest.mark.parametrize("degree", [0, 3])
def test_axes_of_an_extension(code: int, degree: int, tmp_path: Path) -> None:
    path = tmp_path / "a.spz"
    path.write_bytes(zstd_file(degree))
    stored = read_splats(path)
    path.write_bytes(zstd_file(degree, flags=2, records=struct.pack("<3I", 0xADBE0003, 4, code)))
    found = read_splats(path)
    M = np.array([POINTS[letter] for letter in LETTERS[code - 1]], float).T
    assert np.array_equal(found["means"], (stored["means"] @ M.T).astype(np.float32))
    wanted = M @ covariances(stored) @ M.T
    assert np.abs(covariances(found) - wanted).max() < 1e-5 * np.abs(wanted).max()
    d = np.random.default_rng(3).normal(size=(40, 3))
    d /= np.linalg.norm(d, axis=1, keepdims=True)
    assert np.abs(colours(found, d @ M.T) - colours(stored, d)).max() < 1e-5
    if LETTERS[code - 1][1] in "UD":
        assert np.array_equal(np.abs(found["sh"]), np.abs(stored["sh"]))


def test_what_the_format_cannot_hold_is_said(tmp_path: Path, capsys, monkeypatch) -> None:
    path = tmp_path / "a.spz"
    splats = some_splats()
    splats["attributes"] = {"label": np.zeros(13, np.float32), "f": np.zeros((13, 2), np.float32)}
    write_splats(path, splats)
    assert capsys.readouterr().err == (
        f"{path}: its format cannot hold the attributes label, f: left out\n"
    )
    splats = some_splats()
    splats["means"][3, 1] = -9000
    write_splats(path, splats)
    assert "go beyond 2048 units and are kept to 1/512 unit" in capsys.readouterr().err
    found = read_splats(path)["means"]
    assert np.abs(found - splats["means"]).max() <= 0.5 / 512 + 1e-5 and found[3, 1] == -9000
    splats["means"][3, 1] = 1e9
    write_splats(path, splats)
    assert read_splats(path)["means"][3, 1] == 2**23 - 1
    monkeypatch.setattr(spz, "_MOST_WRITTEN", 12)
    with pytest.raises(UsageError, match=r"holds 12 splats at most, .* would have 13"):
        write_splats(path, splats)
    assert format_of(path).opengl


def changed(data: bytes, place: int, new: bytes) -> bytes:
    return data[:place] + new + data[place + len(new) :]


V3, V4 = old_file(3), zstd_file()
HEADER_4 = zstd_file(0)
TABLE = 32
BAD = {
    "other": (b"PK\3\4" + bytes(60), "is not an SPZ file: check its name"),
    "magic": (gzip.compress(changed(V3, 0, b"NGSX")), "has no SPZ header"),
    "short": (gzip.compress(V3[:9]), "has no SPZ header"),
    "gzip": (gzip.compress(V3)[:-30], "its gzip stream"),
    "checksum": (changed(gzip.compress(V3), len(gzip.compress(V3)) - 8, b"12"), "breaks off"),
    "version": (gzip.compress(changed(V3, 4, b"\5")), "is SPZ version 5: versions 1 to 4 are read"),
    "inside": (gzip.compress(changed(V3, 4, b"\4")), "SPZ version 4 within gzip"),
    "degree": (gzip.compress(changed(V3, 12, b"\7")), "says harmonics of degree 7 and 11"),
    "bits": (gzip.compress(changed(V3, 13, b"\x1f")), "degree 1 and 31 fractional bits"),
    "none": (gzip.compress(changed(V3, 8, bytes(4))), "holds no splats"),
    "levels": (gzip.compress(changed(V3, 14, b"\x80")), "a tree of levels of detail"),
    "more": (gzip.compress(changed(V3, 8, b"\x08")), "8 splats take 232 bytes unpacked, it has"),
    "huge": (gzip.compress(changed(V3, 8, b"\xff" * 4)), "it says 4294967295 splats in"),
    "bomb": (gzip.compress(V3 + bytes(2**25)), "holds more than its header says"),
    "record": (gzip.compress(changed(V3, 14, b"\2") + bytes(7)), "an extension reaches beyond"),
    "cut": (V4[:20], "it ends within its header"),
    "table": (changed(V4, 16, struct.pack("<I", 2**31)), "at byte 2147483648 does not fit"),
    "early": (changed(V4, 16, struct.pack("<I", 31)), "at byte 31 does not fit"),
    "streams": (changed(V4, 15, b"\5"), "its table of 5 streams .* harmonics of degree 1"),
    "promise": (changed(V4, 8, b"\xff" * 4), "it says 4294967295 splats in"),
    "size": (changed(V4, TABLE + 8, b"\x40"), "stream 0 is said to be .* for 64, where 63 are"),
    "beyond": (changed(V4, TABLE + 2, b"\1"), "stream 0 is said to be .* where 63 are needed"),
    "zstd": (changed(V4, TABLE + 6 * 16, b"abcd"), "stream 0 is no zstd data"),
    "axes": (
        zstd_file(flags=2, records=struct.pack("<3I", 0xADBE0003, 4, 17)),
        "says axes of number 17",
    ),
    "extension": (
        zstd_file(flags=2, records=struct.pack("<3I", 0xADBE0003, 400, 17)),
        "an extension reaches beyond its place",
    ),
    "half": (
        gzip.compress(changed(old_file(1), 16, b"\0\x7c")),
        "its means hold 1 NaN or infinite values",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_refused_in_one_line(case: str, tmp_path: Path) -> None:
    path = tmp_path / "a.spz"
    data, complaint = BAD[case]
    path.write_bytes(data)
    with pytest.raises(InputError, match=complaint) as refused:
        read_splats(path)
    assert str(refused.value).startswith(str(path)) and "\n" not in str(refused.value)


@pytest.mark.parametrize("version", [3, 4])
def test_a_count_that_no_scene_of_the_size_has(version: int, tmp_path: Path) -> None:
    """5 million splats of 29 bytes each are 710 times the file, which deflate could make of it."""
    path = tmp_path / "a.spz"
    count = struct.pack("<I", 5_000_000)
    data = changed(zstd_file(), 8, count) if version == 4 else gzip.compress(changed(V3, 8, count))
    path.write_bytes(data + bytes(204_000 - len(data)))
    with pytest.raises(InputError, match="it says 5000000 splats in 204000 bytes"):
        read_splats(path)


def test_equal_splats_take_next_to_nothing(tmp_path: Path) -> None:
    splats = some_splats(1)
    for name in FIELDS:
        splats[name] = np.repeat(splats[name], 100_000, axis=0)
    write_splats(tmp_path / "a.spz", splats)
    assert (tmp_path / "a.spz").stat().st_size < 100_000 * 64 / 300
    assert len(read_splats(tmp_path / "a.spz")["means"]) == 100_000


def test_a_stream_that_unpacks_to_more_or_less(tmp_path: Path) -> None:
    path = tmp_path / "a.spz"
    for content, complaint in ((bytes(2**24), "holds more, not 7"), (b"abc", "holds 3 bytes")):
        data = bytearray(V4)
        packed = zstandard.ZstdCompressor().compress(content)
        first = struct.unpack_from("<Q", data, TABLE)[0]
        start = TABLE + 6 * 16 + first
        length = struct.unpack_from("<Q", data, TABLE + 16)[0]
        data[start : start + length] = packed
        struct.pack_into("<Q", data, TABLE + 16, len(packed))
        path.write_bytes(bytes(data))
        with pytest.raises(InputError, match=rf"stream 1 {complaint}"):
            read_splats(path)


@pytest.mark.parametrize("version", [1, 2, 3, 4])
@pytest.mark.parametrize("packed", [True, False])
def test_mutations_are_read_or_refused(version: int, packed: bool, tmp_path: Path) -> None:
    """Flipped bytes, cuts, insertions and huge counts; before and behind the gzip stream."""
    path, draw = tmp_path / "a.spz", np.random.default_rng(version)
    whole = zstd_file(3) if version == 4 else old_file(version, 3)
    outcomes = set()
    for turn in range(80):
        data = bytearray(whole if not packed or version == 4 else gzip.compress(whole))
        limit = len(data) if turn % 2 else min(len(data), 48)
        place = int(draw.integers(limit))
        match turn % 5:
            case 0:
                del data[place:]
            case 1:
                data[place:place] = draw.integers(0, 256, 5, np.uint8).tobytes()
            case 2 | 3:
                data[place] ^= int(draw.integers(1, 256))
            case 4:
                data[place : place + 4] = b"\xff" * 4
        path.write_bytes(bytes(data))
        try:
            found = read_splats(path)
            assert all(np.isfinite(found[name]).all() for name in FIELDS)
            assert {len(found[name]) for name in FIELDS} == {len(found["means"])}
            outcomes.add("read")
        except InputError as error:
            assert "\n" not in str(error) and str(path) in str(error)
            outcomes.add("refused")
    assert "refused" in outcomes and (packed or "read" in outcomes)
