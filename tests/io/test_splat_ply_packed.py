"""Compressed PLY, written and read as its definition has it, one splat at a time."""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from geodistill.checks import InputError
from geodistill.io.ply import read_ply
from geodistill.io.ply_write import write_ply
from geodistill.io.splats import SplatArrays, read_splats, write_splats
from geodistill.io.splats.order import morton_order
from tests.io.splat_samples import (
    degrees_apart,
    expect_refused_or_understood,
    mutated,
    some_arrays,
)

C0 = 0.28209479177387814
BOUNDS = [
    *("min_x", "min_y", "min_z", "max_x", "max_y", "max_z"),
    *("min_scale_x", "min_scale_y", "min_scale_z", "max_scale_x", "max_scale_y", "max_scale_z"),
    *("min_r", "min_g", "min_b", "max_r", "max_g", "max_b"),
]
WORDS = ["packed_position", "packed_rotation", "packed_scale", "packed_color"]


def header(count: int, rest: int, colors: bool = True) -> str:
    lines = ["ply", "format binary_little_endian 1.0", f"element chunk {-(-count // 256)}"]
    lines += [f"property float {name}" for name in BOUNDS[: 18 if colors else 12]]
    lines += [f"element vertex {count}", *(f"property uint {name}" for name in WORDS)]
    if rest:
        lines += [f"element sh {count}", *(f"property uchar f_rest_{i}" for i in range(rest))]
    return "\n".join([*lines, "end_header", ""])


def slow_read(data: bytes, count: int, rest: int, colors: bool = True) -> list[dict[str, list]]:
    """Every splat from the bytes behind the header."""
    at = len(header(count, rest, colors))
    wide = 18 if colors else 12
    chunks = []
    for _ in range(-(-count // 256)):
        chunks.append(struct.unpack_from(f"<{wide}f", data, at))
        at += 4 * wide
    vertices = [struct.unpack_from("<4I", data, at + 16 * i) for i in range(count)]
    at += 16 * count
    return [
        slow_splat(chunks[i // 256], words, data[at + rest * i : at + rest * (i + 1)])
        for i, words in enumerate(vertices)
    ]


def slow_splat(chunk: tuple, words: tuple, codes: bytes) -> dict[str, list]:
    position, rotation, scale, color = words
    bounds = [*chunk, *([0, 0, 0, 1, 1, 1] if len(chunk) == 12 else [])]

    def within(word: int, group: int) -> list[float]:
        shares = (word >> 21) / 2047, (word >> 11 & 1023) / 1023, (word & 2047) / 2047
        low, high = bounds[6 * group : 6 * group + 3], bounds[6 * group + 3 : 6 * group + 6]
        return [a * (1 - t) + b * t for a, b, t in zip(low, high, shares, strict=True)]

    low, high = bounds[12:15], bounds[15:18]
    rgba = [(color >> shift & 255) / 255 for shift in (24, 16, 8, 0)]
    rgb = [a * (1 - t) + b * t for a, b, t in zip(low, high, rgba[:3], strict=True)]
    others = [((rotation >> s & 1023) / 1023 - 0.5) * math.sqrt(2) for s in (20, 10, 0)]
    quaternion = [*others]
    quaternion.insert(rotation >> 30, math.sqrt(max(0, 1 - sum(a * a for a in others))))
    rest = [(0 if b == 0 else 1 if b == 255 else (b + 0.5) / 256) * 8 - 4 for b in codes]
    return {
        "means": within(position, 0),
        "log_scales": within(scale, 1),
        "rotations": quaternion,
        "color": [(c - 0.5) / C0 for c in rgb],
        "opacity": [rgba[3]],
        "rest": rest,
    }


def assert_same(found: SplatArrays, wanted: list[dict[str, list]]) -> None:
    count = len(wanted)
    table = {name: np.array([splat[name] for splat in wanted]) for name in wanted[0]}
    np.testing.assert_allclose(found["means"], table["means"], atol=1e-6)
    np.testing.assert_allclose(found["log_scales"], table["log_scales"], atol=1e-6)
    np.testing.assert_allclose(found["sh"][:, 0], table["color"], atol=1e-6)
    share = 1 / (1 + np.exp(-found["opacity_logits"].astype(float)))
    inside = np.clip(table["opacity"][:, 0], 0.5 / 255, 1 - 0.5 / 255)
    np.testing.assert_allclose(share, inside, atol=1e-6)
    assert degrees_apart(found["rotations"], table["rotations"]) < 1e-4
    rest = found["sh"][:, 1:].swapaxes(1, 2).reshape(count, -1)
    np.testing.assert_allclose(rest, table["rest"], atol=1e-6)


def encoded(value: float, bits: int) -> int:
    return max(0, min(2**bits - 1, math.floor(value * (2**bits - 1) + 0.5)))


def slow_turn(quaternion: np.ndarray) -> int:
    values = quaternion.astype(float).tolist()
    largest = max(range(4), key=lambda i: abs(values[i]))
    sign = math.copysign(1, values[largest])
    word = largest
    for i in range(4):
        if i != largest:
            word = word << 10 | encoded(sign * values[i] * math.sqrt(0.5) + 0.5, 10)
    return word


@pytest.mark.parametrize("degree", range(4))
@pytest.mark.parametrize("count", [1, 256, 600])
def test_the_layout_and_the_quantisation(count: int, degree: int, tmp_path: Path) -> None:
    path, splats = tmp_path / "a.compressed.ply", some_arrays(count, degree, seed=count)
    write_splats(path, splats)
    data, rest = path.read_bytes(), 3 * (degree + 1) ** 2 - 3
    assert data.startswith(header(count, rest).encode())
    chunks = -(-count // 256)
    assert len(data) == len(header(count, rest)) + 72 * chunks + (16 + rest) * count
    found = read_splats(path)
    assert_same(found, slow_read(data, count, rest))
    order = morton_order(splats["means"])
    words = read_ply(path).elements["vertex"]["packed_rotation"]
    assert list(words) == [slow_turn(q) for q in splats["rotations"][order]]
    assert degrees_apart(found["rotations"], splats["rotations"][order]) < 0.3
    for name, first in (("means", 0), ("log_scales", 0), ("sh", 0)):
        wanted = splats[name][order].reshape(count, -1)[:, first : first + 3].astype(float)
        got = found[name].reshape(count, -1)[:, :3]
        steps = np.array([510, 510, 510] if name == "sh" else [4094, 2046, 4094])
        for chunk in range(0, count, 256):
            rows = slice(chunk, chunk + 256)
            extent = np.ptp(wanted[rows], axis=0)
            assert (np.abs(got[rows] - wanted[rows]) <= extent / steps * 1.001 + 1e-6).all(), name
    np.testing.assert_allclose(found["sh"][:, 1:], splats["sh"][order, 1:], atol=1 / 64 + 1e-6)
    shares = [1 / (1 + np.exp(-x["opacity_logits"].astype(float))) for x in (found, splats)]
    np.testing.assert_allclose(shares[0], shares[1][order], atol=0.501 / 255)


def test_the_order_is_mortons() -> None:
    """Bit by bit, the first axis lowest."""
    means = some_arrays(200)["means"]
    low, high = means.min(axis=0).astype(float), means.max(axis=0).astype(float)
    cells = ((means - low) / (high - low) * (2**21 - 1)).astype(int).tolist()

    def code(cell: list[int]) -> int:
        return sum((cell[a] >> bit & 1) << (3 * bit + a) for bit in range(21) for a in range(3))

    codes = [code(cell) for cell in cells]
    assert [codes[i] for i in morton_order(means)] == sorted(codes)
    assert morton_order(means[:1].repeat(5, axis=0)).tolist() == [0, 1, 2, 3, 4]


def test_a_file_is_sorted_into_small_chunks(tmp_path: Path) -> None:
    splats = some_arrays(4096, degree=0)
    write_splats(tmp_path / "a.compressed.ply", splats)
    chunk = read_ply(tmp_path / "a.compressed.ply").elements["chunk"]
    volumes = np.prod([np.subtract(chunk[f"max_{a}"], chunk[f"min_{a}"]) for a in "xyz"], axis=0)
    assert volumes.mean() < 0.3 * np.prod(np.ptp(splats["means"], axis=0))


@pytest.mark.parametrize("colors", [True, False])
@pytest.mark.parametrize("rest", [0, 9, 24, 45])
def test_any_bits_are_read_as_defined(rest: int, colors: bool, tmp_path: Path) -> None:
    """Older files have no bounds of colours; every code of every field appears."""
    draw, count = np.random.default_rng(rest), 700
    low = draw.normal(size=(3, 18)).astype(np.float32)
    low[:, [3, 4, 5, 9, 10, 11, 15, 16, 17]] = low[:, [0, 1, 2, 6, 7, 8, 12, 13, 14]] + 2
    words = draw.integers(0, 2**32, (count, 4), dtype=np.uint32)
    codes = draw.integers(0, 256, (count, rest), dtype=np.uint8)
    codes.reshape(-1)[:256] = np.arange(min(256, codes.size))
    body = low[:, : 18 if colors else 12].tobytes() + words.tobytes() + codes.tobytes()
    data = header(count, rest, colors).encode() + body
    for name in ("a.compressed.ply", "a.ply"):
        (tmp_path / name).write_bytes(data)
        assert_same(read_splats(tmp_path / name), slow_read(data, count, rest, colors))


Elements = dict[str, dict[str, np.ndarray]]


def elements_of(path: Path) -> Elements:
    return {e: {k: np.asarray(c) for k, c in v.items()} for e, v in read_ply(path).elements.items()}


@pytest.mark.parametrize("format", ["ascii", "binary_big_endian"])
def test_other_orders_formats_and_attributes(format: str, tmp_path: Path) -> None:
    write_splats(tmp_path / "a.compressed.ply", some_arrays(300, degree=1))
    wanted, content = (
        read_splats(tmp_path / "a.compressed.ply"),
        elements_of(tmp_path / "a.compressed.ply"),
    )
    content["vertex"]["label"] = np.arange(300, dtype=np.float32)
    content = {name: dict(reversed(content[name].items())) for name in ("sh", "vertex", "chunk")}
    write_ply(tmp_path / "b.ply", content, format=format)
    found = read_splats(tmp_path / "b.ply")
    assert found["attributes"]["label"].tolist() == [*range(300)]
    for name in ("means", "log_scales", "rotations", "opacity_logits", "sh"):
        np.testing.assert_allclose(found[name], wanted[name], atol=1e-6)


def test_values_beyond_the_range_are_clamped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, splats = tmp_path / "a.compressed.ply", some_arrays(5, degree=1)
    splats["log_scales"][:2, 0] = -100, 100
    splats["sh"][0, 1] = 100
    splats["means"][:, 1] = 7
    splats["rotations"] *= np.float32(3)
    splats["opacity_logits"][:2] = -1e30, 1e30
    splats["attributes"]["label"] = np.zeros(5, np.float32)
    write_splats(path, splats)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and "attributes label" in said and "harmonics" not in said
    found, order = read_splats(path), morton_order(splats["means"])
    assert found["log_scales"][:, 0].min() == -20 and found["log_scales"][:, 0].max() == 20
    assert found["sh"].max() == 4 and (found["means"][:, 1] == 7).all()
    assert degrees_apart(found["rotations"], splats["rotations"][order]) < 0.3
    assert {0, 255} <= {int(w) & 255 for w in elements_of(path)["vertex"]["packed_color"]}


def without(element: str, name: str) -> Callable[[Elements], object]:
    return lambda content: content[element].pop(name)


def cut(element: str) -> Callable[[Elements], None]:
    def cut_it(content: Elements) -> None:
        content[element] = {k: v[:-1] for k, v in content[element].items()}

    return cut_it


def retyped(element: str, name: str, kind: type) -> Callable[[Elements], None]:
    def retype(content: Elements) -> None:
        content[element][name] = content[element][name].astype(kind)

    return retype


def spoilt(value: float) -> Callable[[Elements], None]:
    def spoil(content: Elements) -> None:
        content["chunk"]["max_scale_y"][1] = value

    return spoil


def emptied(content: Elements) -> None:
    for element in content:
        content[element] = {k: v[:0] for k, v in content[element].items()}


BAD: dict[str, tuple[Callable[[Elements], object], str]] = {
    "word": (without("vertex", "packed_scale"), "vertex has no property 'packed_scale' of type ui"),
    "bound": (without("chunk", "max_z"), "element chunk has no property 'max_z' of type float"),
    "color": (without("chunk", "max_g"), "element chunk has no property 'max_g' of type float"),
    "no chunk": (lambda content: content.pop("chunk"), "chunk has no property 'min_x'"),
    "word type": (retyped("vertex", "packed_color", np.int32), "'packed_color' of type uint"),
    "bound type": (retyped("chunk", "min_x", np.float64), "'min_x' of type float"),
    "chunks": (cut("chunk"), "its 300 splats need 2 chunks of 256, but it has 1"),
    "rest": (without("sh", "f_rest_8"), "its element sh has 8 properties: 9, 24 or 45"),
    "rest type": (retyped("sh", "f_rest_0", np.float32), "'f_rest_0' of type uchar"),
    "harmonics": (cut("sh"), "it has 300 splats but harmonics of 299"),
    "nan": (spoilt(math.nan), "its log scales hold .* NaN or infinite values"),
    "infinite": (spoilt(math.inf), "its log scales hold .* NaN or infinite values"),
    "none": (emptied, "holds no splats"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_contradicts_itself_is_refused(case: str, tmp_path: Path) -> None:
    path = tmp_path / "a.compressed.ply"
    write_splats(path, some_arrays(300, degree=1))
    change, complaint = BAD[case]
    content = elements_of(path)
    change(content)
    write_ply(path, content)
    with pytest.raises(InputError, match=rf"a\.compressed\.ply.*{complaint}") as refused:
        read_splats(path)
    assert "\n" not in str(refused.value)


def test_damaged_files(tmp_path: Path) -> None:
    write_splats(tmp_path / "a.compressed.ply", some_arrays(300, degree=1))
    data = (tmp_path / "a.compressed.ply").read_bytes()
    files = mutated(data, 160, data.index(b"end_header") + 11 + 72 * 2)
    assert expect_refused_or_understood(tmp_path / "b.ply", files) > 60
