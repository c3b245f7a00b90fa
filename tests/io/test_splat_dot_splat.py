"""The .splat layout: rows of 32 bytes as its own programs write and read them."""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import pytest

from geodistill.checks import InputError
from geodistill.io.splats import SplatArrays, read_splats, write_splats
from tests.io.splat_samples import (
    degrees_apart,
    expect_refused_or_understood,
    mutated,
    some_arrays,
)

C0 = 0.28209479177387814


def byte(value: float) -> int:
    return max(0, min(255, round(value)))


def slow_row(splats: SplatArrays, i: int) -> bytes:
    """The row of a splat by the format's definition."""
    quaternion = splats["rotations"][i].astype(float)
    quaternion = quaternion / math.sqrt(sum(q * q for q in quaternion))
    alpha = 1 / (1 + math.exp(-float(splats["opacity_logits"][i])))
    return struct.pack(
        "<6f8B",
        *splats["means"][i].tolist(),
        *(math.exp(s) for s in splats["log_scales"][i].tolist()),
        *(byte(255 * (0.5 + C0 * c)) for c in splats["sh"][i, 0].tolist()),
        byte(255 * alpha),
        *(byte(q * 128 + 128) for q in quaternion),
    )


def importance(splats: SplatArrays, i: int) -> float:
    size = math.exp(math.fsum(splats["log_scales"][i].tolist()))
    return size / (1 + math.exp(-float(splats["opacity_logits"][i])))


def assert_rows_close(found: bytes, wanted: bytes) -> None:
    """Equal, scales but for the last bits of an exponential."""
    (*floats, a, b) = struct.unpack("<6f4s4s", found)
    (*others, c, d) = struct.unpack("<6f4s4s", wanted)
    assert floats[:3] == others[:3] and (a, b) == (c, d)
    assert floats[3:] == pytest.approx(others[3:], rel=1e-6)


@pytest.mark.parametrize("count", [1, 2, 300])
def test_the_layout_is_that_of_its_programs(count: int, tmp_path: Path) -> None:
    path, splats = tmp_path / "a.splat", some_arrays(count, degree=0)
    write_splats(path, splats)
    order = sorted(range(count), key=lambda i: -importance(splats, i))
    data = path.read_bytes()
    assert len(data) == 32 * count and [f.name for f in tmp_path.iterdir()] == ["a.splat"]
    for row, i in enumerate(order):
        assert_rows_close(data[32 * row : 32 * row + 32], slow_row(splats, i))


def test_a_round_trip_is_within_the_quantisation(tmp_path: Path) -> None:
    path, splats = tmp_path / "a.splat", some_arrays(degree=0)
    write_splats(path, splats)
    found = read_splats(path)
    order = sorted(range(300), key=lambda i: -importance(splats, i))
    assert np.array_equal(found["means"], splats["means"][order])
    np.testing.assert_allclose(found["log_scales"], splats["log_scales"][order], atol=1e-6)
    np.testing.assert_allclose(found["sh"], splats["sh"][order], atol=0.5 / 255 / C0 + 1e-6)
    alpha, wanted = (1 / (1 + np.exp(-x["opacity_logits"].astype(float))) for x in (found, splats))
    np.testing.assert_allclose(alpha, wanted[order], atol=0.501 / 255)
    assert degrees_apart(found["rotations"], splats["rotations"][order]) < 0.9
    write_splats(tmp_path / "b.splat", found)
    again = read_splats(tmp_path / "b.splat")
    for splats in (found, again):  # equal opacities may have changed places
        by_x = splats["means"][:, 0].argsort()
        splats["means"], splats["sh"] = splats["means"][by_x], splats["sh"][by_x]
        splats["opacity_logits"] = splats["opacity_logits"][by_x]
    for name in ("means", "opacity_logits", "sh"):
        assert np.array_equal(again[name], found[name])


def test_reading_one_splat_by_hand(tmp_path: Path) -> None:
    row = struct.pack("<6f8B", 1, -2, 3, 0.5, 0.25, 2.0, 0, 255, 51, 204, 192, 64, 128, 128)
    (tmp_path / "a.splat").write_bytes(row)
    found = read_splats(tmp_path / "a.splat")
    assert found["means"].tolist() == [[1, -2, 3]]
    np.testing.assert_allclose(found["log_scales"][0], np.log([0.5, 0.25, 2]), rtol=1e-6)
    np.testing.assert_allclose(found["rotations"][0], [0.5**0.5, -(0.5**0.5), 0, 0], rtol=1e-6)
    np.testing.assert_allclose(found["sh"][0, 0], np.array([-0.5, 0.5, -0.3]) / C0, rtol=1e-5)
    np.testing.assert_allclose(found["opacity_logits"], [math.log(0.8 / 0.2)], rtol=1e-5)


def test_ends_of_the_range(tmp_path: Path) -> None:
    """Opacities of 0 and 1 come back as they were, no rotation and no scale are understood."""
    rows = [
        struct.pack("<6f8B", i, 0, 0, 0, 1, 1, 0, 0, 0, alpha, 128, 128, 128, 128)
        for i, alpha in enumerate((0, 255))
    ]
    path = tmp_path / "a.splat"
    path.write_bytes(b"".join(rows))
    found = read_splats(path)
    assert found["rotations"].tolist() == [[1, 0, 0, 0]] * 2
    assert (found["log_scales"][:, 0] == -20).all()
    write_splats(path, found)
    assert sorted(path.read_bytes()[27::32]) == [0, 255]
    splats = some_arrays(4, degree=0)
    splats["log_scales"][:, 0] = [-1000, 1000, 0, 0]
    splats["sh"][:] = 1e30
    splats["opacity_logits"][:] = [1e30, -1e30, 700, -700]
    write_splats(path, splats)
    found = read_splats(path)
    assert found["log_scales"].min() == pytest.approx(-87)
    assert found["log_scales"].max() == pytest.approx(88)
    np.testing.assert_allclose(found["sh"], 0.5 / C0, rtol=1e-6)


def test_what_is_left_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    splats = some_arrays(degree=2)
    splats["attributes"]["label"] = np.zeros(300, np.float32)
    write_splats(tmp_path / "a.splat", splats)
    said = capsys.readouterr().err
    assert "a.splat: its format cannot hold the harmonics" in said and "attributes label" in said
    assert said.count("\n") == 1
    write_splats(tmp_path / "a.splat", some_arrays(degree=0))
    assert capsys.readouterr().err == ""


VALID = struct.pack("<6f8B", *[1.0] * 6, *[200] * 8)


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "is empty"),
        (VALID[:-1], "its 31 bytes are no multiple of the 32 of a splat"),
        (VALID * 2 + b"x", "its 65 bytes are no multiple"),
        (VALID[:12] + struct.pack("<f", -1) + VALID[16:], "splat 0 has the negative scale -1"),
        (VALID + struct.pack("<f", math.nan) + VALID[4:], "its means hold 1 NaN .* in splat 1"),
        (VALID[:12] + struct.pack("<f", math.inf) + VALID[16:], "its log scales hold 1 NaN"),
    ],
)
def test_what_is_no_splat_file(data: bytes, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / "a.splat"
    path.write_bytes(data)
    with pytest.raises(InputError, match=rf"a\.splat.*{complaint}"):
        read_splats(path)


def test_damaged_files(tmp_path: Path) -> None:
    write_splats(tmp_path / "a.splat", some_arrays(20, degree=0))
    data = (tmp_path / "a.splat").read_bytes()
    assert expect_refused_or_understood(tmp_path / "b.splat", mutated(data, 80)) > 20
