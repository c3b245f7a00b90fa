"""PCD files and the LZF inside them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from geodistill.checks import InputError, ShapeError, UsageError
from geodistill.io.lzf import compress, decompress
from geodistill.io.pcd import ENCODINGS, read_pcd, write_pcd
from geodistill.io.scans import read_points

RNG = np.random.default_rng(4)

STREAMS = {
    "nothing": (b"", b""),
    "literal": (b"\x02abc", b"abc"),
    "longest literal": (b"\x1f" + bytes(32), bytes(32)),
    "copy": (b"\x02abc\x20\x02", b"abcabc"),
    "copy over its end": (b"\x01ab\x60\x01", b"ab" + b"ababa"),
    "run": (b"\x00a\xe0\x00\x00", b"a" * 10),
    "longest copy": (b"\x00a\xe0\xff\x00", b"a" * 265),
    "far copy": (
        b"".join(b"\x1f" + bytes([i]) * 32 for i in range(256)) + b"\x5f\xff",
        b"".join(bytes([i]) * 32 for i in range(256)) + bytes(4),
    ),
}


@pytest.mark.parametrize("name", STREAMS)
def test_lzf_streams_made_by_hand(name: str) -> None:
    packed, plain = STREAMS[name]
    assert decompress(packed, len(plain)) == plain
    assert decompress(compress(plain), len(plain)) == plain


def data_of(seed: int) -> bytes:
    """Random and repetitive stretches of many lengths."""
    rng = np.random.default_rng(seed)
    out = b""
    for _ in range(rng.integers(0, 12)):
        piece = rng.integers(0, rng.choice([2, 256]), rng.integers(0, 400), dtype=np.uint8)
        out += piece.tobytes() * int(rng.choice([1, 1, 2, 40])) + out[: rng.integers(0, 9000)]
    return out[:60000]


def test_lzf_round_trips() -> None:
    for seed in range(120):
        plain = data_of(seed)
        assert decompress(compress(plain), len(plain)) == plain
    for distance, copied in ((8192, True), (8193, False)):  # the farthest, and one more
        far = bytes(range(250)) + bytes(distance - 250) + bytes(range(250))
        packed = compress(far)
        assert decompress(packed, len(far)) == far
        assert (len(packed) < 400) == copied


def test_lzf_packs_what_repeats_and_hardly_grows_what_does_not() -> None:
    assert len(compress(bytes(100_000))) < 100_000 / 80
    noise = RNG.integers(0, 256, 100_000, dtype=np.uint8).tobytes()
    assert len(compress(noise)) <= 100_000 * 33 / 32 + 1


def test_lzf_refuses_damaged_streams() -> None:
    for packed, size, complaint in (
        (b"\x02ab", 3, "ends within a literal"),
        (b"\x00a\x20", 4, "ends within a copy"),
        (b"\x00a\xe0\x01", 9, "ends within a copy"),
        (b"\x00a\x20\x01", 4, "begins before"),
        (b"\x00a\xe0\xff\x00", 264, "more than the 264"),
        (b"\x00a", 2, "holds 1 bytes, not the 2"),
    ):
        with pytest.raises(ValueError, match=complaint):
            decompress(packed, size)


def test_lzf_survives_random_damage() -> None:
    """A damaged stream is refused or unpacks to as many bytes; nothing else happens."""
    plain = data_of(7)
    packed = compress(plain)
    refused = 0
    for _ in range(200):
        spoilt = bytearray(packed)
        spoilt[RNG.integers(len(spoilt))] ^= int(RNG.integers(1, 256))
        try:
            assert len(decompress(bytes(spoilt), len(plain))) == len(plain)
        except ValueError:
            refused += 1
    assert refused > 20


def fields(count: int = 5) -> dict[str, np.ndarray]:
    sizes = {"f": (4, 8), "i": (1, 2, 4), "u": (1, 2, 4)}
    out = {"x": RNG.standard_normal(count).astype("f4")}
    for letter, widths in sizes.items():
        for width in widths:
            values = RNG.integers(0, 100, (count, width)) * (1 if letter == "u" else -1)
            out[f"{letter}{width}"] = (values / (3 if letter == "f" else 1)).astype(
                f"{letter}{width}"
            )
    out["u1"][:, 0] = 255
    return {name: v[:, 0] if v.shape[1:] == (1,) else v for name, v in out.items()}


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_round_trip(encoding: str, tmp_path: Path) -> None:
    wanted = {**fields(), "t": np.array([0, 1, 2**40, 3, 4])}
    write_pcd(tmp_path / "a.pcd", wanted, (1, 2, 3, 0, 1, 0, 0), encoding)
    found = read_pcd(tmp_path / "a.pcd")
    assert (found.width, found.height, found.encoding) == (5, 1, encoding)
    assert found.viewpoint == (1, 2, 3, 0, 1, 0, 0)
    assert [*found.fields] == [*wanted]
    for name, values in wanted.items():
        assert found.fields[name].dtype == values.dtype
        np.testing.assert_array_equal(found.fields[name], values)


HEAD = (
    b"# .PCD v.7\nVERSION .7\nFIELDS x _ n\nSIZE 4 1 2\nTYPE F U I\nCOUNT 1 4 2\n"
    b"WIDTH 2\nHEIGHT 1\nPOINTS 2\nDATA "
)


def test_a_layout_made_by_hand_with_padding(tmp_path: Path) -> None:
    path = tmp_path / "a.pcd"
    row = np.dtype([("x", "<f4"), ("_", "4u1"), ("n", "<2i2")])
    table = np.array([(1.5, [9] * 4, [-1, 2]), (np.nan, [8] * 4, [3, -4])], row)
    columns = b"".join(np.ascontiguousarray(table[name]).tobytes() for name in row.names or ())
    packed = bytes([len(columns) - 1]) + columns
    sizes = np.array([len(packed), len(columns)], "<u4").tobytes()
    for data in (
        b"ascii\r\n1.5 9 9 9 9 -1 2\r\nnan 8 8 8 8 3 -4",
        b"binary\n" + table.tobytes(),
        b"binary_compressed\n" + sizes + packed,
    ):
        path.write_bytes(HEAD + data)
        found = read_pcd(path)
        assert [*found.fields] == ["x", "n"] and found.viewpoint == (0, 0, 0, 1, 0, 0, 0)
        np.testing.assert_array_equal(found.fields["x"], np.array([1.5, np.nan], "f4"))
        assert found.fields["n"].tolist() == [[-1, 2], [3, -4]]


ASCII = HEAD + b"ascii\n1 9 9 9 9 1 2\n2 8 8 8 8 3 4\n"
BINARY = HEAD + b"binary\n" + bytes(24)
PACKED = HEAD + b"binary_compressed\n" + np.array([2, 24], "<u4").tobytes() + b"\x00a"
BAD = {
    "empty": (b"", b"", b"", "is empty"),
    "not PCD": (b"ply\n", b"", b"", "line 1: a PCD header has no 'ply' lines"),
    "one long line": (bytes(70000).replace(b"\0", b"#"), b"", b"", "no DATA line"),
    "no DATA": (HEAD[:-5], b"", b"", "header has no DATA line"),
    "no SIZE": (ASCII, b"SIZE 4 1 2\n", b"", "header has no SIZE line"),
    "no FIELDS": (ASCII, b"FIELDS x _ n\n", b"", "header has no FIELDS line"),
    "lengths": (ASCII, b"SIZE 4 1 2", b"SIZE 4 1", "3 FIELDS, 2 SIZE, 3 TYPE and 3 COUNT"),
    "size": (ASCII, b"SIZE 4 1 2", b"SIZE 2 1 2", "'x' has TYPE F, SIZE 2 and COUNT 1"),
    "type": (ASCII, b"TYPE F", b"TYPE Q", "'x' has TYPE Q"),
    "count": (ASCII, b"COUNT 1", b"COUNT 0", "COUNT 0, which PCD does not know"),
    "twice": (ASCII, b"x _ n", b"n _ n", "a field appears twice"),
    "width": (ASCII, b"WIDTH 2", b"WIDTH two", "WIDTH 'two' is not a whole number"),
    "points": (ASCII, b"POINTS 2", b"POINTS 3", "POINTS 3 is not WIDTH 2 x HEIGHT 1"),
    "data": (ASCII, b"ascii", b"zip", "unknown DATA 'zip'"),
    "viewpoint": (ASCII, b"WIDTH", b"VIEWPOINT 1 2\nWIDTH", "VIEWPOINT '1 2' is not 7 numbers"),
    "line": (ASCII, b"1 9 9 9 9 1 2", b"1 9 9 9 9 1", "line 11: 6 values, but the header declares"),
    "word": (ASCII, b"2 8 8", b"2 8 a", "line 12: 'a' is not a number"),
    "range": (ASCII, b"3 4\n", b"3 40000\n", "40000 does not fit the field 'n' of TYPE I, SIZE 2"),
    "cut": (ASCII, b"2 8 8 8 8 3 4\n", b"", "declares 2 lines of data, 1 are there"),
    "binary cut": (BINARY[:-1], b"", b"", "declares 24 bytes of data, 23 are there"),
    "absurd": (
        BINARY,
        b"WIDTH 2\nHEIGHT 1\nPOINTS 2",
        b"WIDTH 99999999999999\nHEIGHT 9999",
        "bytes of data, 24 are there",
    ),
    "packed": (PACKED, b"", b"", "compressed data is damaged: it holds 1 bytes, not the 24"),
    "packed cut": (PACKED[:-1], b"", b"", "declares 10 bytes of data, 9 are there"),
    "packed size": (PACKED, b"\x18", b"\x17", "its points take 24 bytes, its compressed data 23"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    content, old, new, complaint = BAD[case]
    assert old in content
    path = tmp_path / "a.pcd"
    path.write_bytes(content.replace(old, new))
    with pytest.raises(InputError) as refused:
        read_pcd(path)
    text = str(refused.value)
    assert text.startswith(str(path)) and complaint in text and "\n" not in text


def test_what_pcd_cannot_hold_is_not_written(tmp_path: Path) -> None:
    path, x = tmp_path / "a.pcd", np.zeros(3, np.float32)
    with pytest.raises(UsageError, match="unknown PCD encoding 'zip'"):
        write_pcd(path, {"x": x}, encoding="zip")
    with pytest.raises(ShapeError, match="with one N"):
        write_pcd(path, {"x": x, "y": x[1:]})
    with pytest.raises(UsageError, match="no type for float16"):
        write_pcd(path, {"x": x.astype(np.float16)})
    for name in ("_", "a b", ""):
        with pytest.raises(UsageError, match="cannot hold a field"):
            write_pcd(path, {name: x})
    assert not path.exists()


@pytest.mark.parametrize("name", ["y", "intensity"])
def test_a_scans_fields_have_one_value_each(tmp_path: Path, name: str) -> None:
    """Of others they may have several."""
    path = tmp_path / "a.pcd"
    fields = {key: np.full(3, float(k)) for k, key in enumerate(("x", "y", "z", "intensity"))}
    write_pcd(path, {"normal": np.ones((3, 3)), **fields})
    assert read_points(path).tolist() == [[0, 1, 2, 3]] * 3
    write_pcd(path, {**fields, name: np.ones((3, 2))})
    with pytest.raises(InputError, match=rf"its field {name} has 2 values a point \(COUNT\)"):
        read_points(path)
