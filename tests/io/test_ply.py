"""PLY files: every format, type and layout, read across with plyfile, and files that lie."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from geodistill.checks import InputError, ShapeError, UsageError
from geodistill.io.ply import Column, ListColumn, read_ply
from geodistill.io.ply_header import FORMATS, TYPE_NAMES
from geodistill.io.ply_write import write_ply

plyfile = pytest.importorskip("plyfile")

RNG = np.random.default_rng(3)
ALIASES = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "float32", "float64")


def of_kind(kind: str, count: int) -> np.ndarray:
    """Values over the whole range of a type, its ends among them."""
    if kind[0] == "f":
        values = (RNG.standard_normal(count) * 10.0 ** RNG.integers(-9, 9, count)).astype(kind)
        values[:1] = np.nextafter(np.array(1000, kind), np.array(2000, kind))  # takes every digit
        return values
    limits = np.iinfo(kind)
    values = RNG.integers(limits.min, limits.max, count, dtype=kind, endpoint=True)
    values[:2] = limits.min, limits.max
    return values


def ragged(kind: str, counts: list[int]) -> ListColumn:
    return ListColumn(np.array(counts, int), of_kind(kind, sum(counts) + 2)[: sum(counts)])


def every_kind(count: int = 7) -> dict[str, dict[str, Column]]:
    scalars: dict[str, Column] = {f"as_{kind}": of_kind(kind, count) for kind in TYPE_NAMES}
    mixed: dict[str, Column] = {
        "quality": of_kind("f4", 4),
        "corners": ragged("i4", [3, 4, 0, 5]),
        "flags": of_kind("u1", 4),
        "weights": ragged("f8", [1, 1, 300, 0]),
    }
    return {
        "vertex": scalars,
        "triangle": {"vertex_indices": ragged("u4", [3, 3, 3]), "group": of_kind("i2", 3)},
        "mixed": mixed,
        "pairs": {"two": ragged("i1", [2, 2, 2]), "some": ragged("f4", [2, 2, 1])},
        "nothing": {"value": np.empty(0, np.float32), "more": ragged("u1", [])},
        "last": {"value": of_kind("f8", 2)},
    }


def assert_same(found: dict[str, dict[str, Column]], wanted: dict[str, dict[str, Column]]) -> None:
    assert [*found] == [*wanted]
    for name, columns in wanted.items():
        assert [*found[name]] == [*columns]
        for key, column in columns.items():
            got = found[name][key]
            assert isinstance(got, ListColumn) == isinstance(column, ListColumn)
            pairs = zip(got, column) if isinstance(column, ListColumn) else [(got, column)]  # noqa: B905
            for a, b in pairs:
                assert a.dtype == b.dtype and a.flags.c_contiguous and a.dtype.isnative
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("format", FORMATS)
def test_round_trip(format: str, tmp_path: Path) -> None:
    wanted = every_kind()
    write_ply(tmp_path / "a.ply", wanted, ("made here", "and é there"), format)
    found = read_ply(tmp_path / "a.ply")
    assert (found.format, found.comments) == (format, ("made here", "and é there"))
    assert_same(found.elements, wanted)
    assert [file.name for file in tmp_path.iterdir()] == ["a.ply"]


@pytest.mark.parametrize("format", FORMATS)
def test_plyfile_reads_ours(format: str, tmp_path: Path) -> None:
    wanted = every_kind()
    write_ply(tmp_path / "a.ply", wanted, ("made here",), format)
    found = plyfile.PlyData.read(tmp_path / "a.ply")
    assert found.comments == ["made here"] and found.text == (format == "ascii")
    for element in found.elements:
        for key, column in wanted[element.name].items():
            got = element[key]
            if isinstance(column, ListColumn):
                assert [len(row) for row in got] == column.counts.tolist()
                got, column = np.concatenate([*got, []]), column.values
            np.testing.assert_array_equal(got, column)


@pytest.mark.parametrize("text, order", [(True, "="), (False, "<"), (False, ">")])
def test_we_read_plyfile(text: bool, order: str, tmp_path: Path) -> None:
    vertices = np.array([(1.5, -2, 3), (4, 5e-7, 6)], [("x", "f4"), ("y", "f8"), ("n", "i2")])
    faces = np.empty(3, dtype=[("vertex_indices", "O"), ("red", "u1")])
    faces["vertex_indices"] = [np.array(row, "i4") for row in ([0, 1, 2], [3, 2, 1, 0], [1, 2, 3])]
    faces["red"] = [9, 8, 7]
    described = [
        plyfile.PlyElement.describe(vertices, "vertex"),
        plyfile.PlyElement.describe(faces, "face"),
    ]
    plyfile.PlyData(described, text, order).write(tmp_path / "a.ply")
    found = read_ply(tmp_path / "a.ply").elements
    assert_same({"vertex": found["vertex"]}, {"vertex": {k: vertices[k] for k in ("x", "y", "n")}})
    indices = found["face"]["vertex_indices"]
    assert isinstance(indices, ListColumn) and indices.counts.tolist() == [3, 4, 3]
    assert indices.values.tolist() == [0, 1, 2, 3, 2, 1, 0, 1, 2, 3]
    assert np.asarray(found["face"]["red"]).tolist() == [9, 8, 7]


HEAD = b"ply\nformat ascii 1.0\nelement vertex 2\nproperty float x\nproperty uchar r\nend_header\n"


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"])
def test_line_ends_blank_lines_and_aliases(end: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    path.write_bytes((HEAD + b"1 2\n\n  -nan\t255  ").replace(b"\n", end))
    found = read_ply(path).elements["vertex"]
    np.testing.assert_array_equal(found["x"], np.array([1, np.nan], "f4"))
    assert np.asarray(found["r"]).tolist() == [2, 255]
    lines = [b"property %s p%d" % (name.encode(), i) for i, name in enumerate(ALIASES)]
    head = [b"ply", b"format binary_big_endian 1.0", b"obj_info from here", b"element a 1", *lines]
    row = np.zeros(1, ">i1,>u1,>i2,>u2,>i4,>u4,>f4,>f8")
    row[0] = (-1, 2, -3, 4, -5, 6, 7.5, 8.5)
    path.write_bytes(end.join([*head, b"end_header", b""]) + row.tobytes())
    file = read_ply(path)
    assert [float(np.asarray(c)[0]) for c in file.elements["a"].values()] == [*row[0].tolist()]
    assert file.comments == ("from here",)


@pytest.mark.parametrize("format", FORMATS)
def test_what_is_left_over_is_said(
    format: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.ply"
    wanted = every_kind()
    write_ply(path, wanted, (), format)
    path.write_bytes(path.read_bytes() + b"one more\nand two\n")
    assert_same(read_ply(path).elements, wanted)
    left = "2 lines" if format == "ascii" else "17 bytes"
    assert capsys.readouterr().err == f"{path}: ignored {left} behind the last element\n"


def header(*changes: tuple[bytes, bytes]) -> bytes:
    text = HEAD + b"1 2\n3 4\n"
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


LISTS = (b"property uchar r", b"property list int int r")
LITTLE = (b"ascii", b"binary_little_endian")
BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "is empty"),
    "not PLY": (b"solid thing", "is not a PLY file"),
    "first line": (b"plywood" + HEAD[3:], "is not a PLY file: its first line is 'plywood'"),
    "no header end": (HEAD[:-11], "has no end_header line"),
    "no format": (header((b"format ascii 1.0\n", b"")), "has no format line"),
    "format": (header((b"ascii", b"utf8")), "unknown PLY format 'utf8 1.0'"),
    "word": (header((b"element", b"elements")), "line 3: a PLY header has no 'elements' lines"),
    "no element": (header((b"element vertex 2\n", b"")), "line 3: a property stands before"),
    "count": (header((b"vertex 2", b"vertex -2")), "line 3: an element line is 'element NAME"),
    "type": (header((b"uchar", b"byte")), "line 5: unknown type 'byte' of property 'r' in element"),
    "property": (header((b"uchar r", b"uchar")), "line 5: a property line is 'property TYPE NAME'"),
    "twice": (header((b"uchar r", b"uchar x")), "line 5: a second property 'x' in element 'ver"),
    "list": (header((b"uchar r", b"list float int r")), "lengths of type float, not integers"),
    "short": (header((b"3 4\n", b"")), "element 'vertex' declares 2 rows, at least 2 lines, but 1"),
    "few": (header((b"1 2\n", b"1\n")), "line 7: its 1 values do not make a row of element 'vert"),
    "many": (header((b"3 4", b"3 4 5")), "line 8: its 3 values do not make a row of element 'ver"),
    "text": (header((b"3 4", b"3 four")), "line 8: 'four' is not a number"),
    "comma": (header((b"3 4", b"3,5 4")), "line 8: '3,5' is not a number"),
    "joined": (header((b"3 4", b"3-5 4")), "line 8: '3-5' is not a number"),
    "range": (header((b"3 4", b"3 256")), "line 8: 256 does not fit the type uchar of 'r' in ele"),
    "fraction": (header((b"3 4", b"3 0.5")), "line 8: 0.5 does not fit the type uchar of 'r'"),
    "list cut": (header(LISTS, (b"1 2\n", b"1 2 9\n")), "line 7: its 3 values do not make a row"),
    "list sign": (header(LISTS, (b"1 2\n", b"1 -1 9\n")), "line 7: its 3 values do not make a row"),
    "absurd": (header((b"vertex 2", b"vertex 99999999999999")), "declares 99999999999999 rows"),
    "absurd binary": (header(LITTLE, (b"vertex 2", b"vertex 99999999999999")), "are left; copy"),
    "cut": (header(LITTLE, (b"3 4\n", b"")), "at least 10 bytes, but 4 bytes are left"),
    "list binary": (
        header(LITTLE, LISTS, (b"1 2\n3 4\n", b"1 2\n3 42" + b"\0" * 8)),
        "row 0 of its element 'vertex' has 842276915 values",
    ),
    "list negative": (
        header(LITTLE, LISTS, (b"1 2\n3 4\n", b"1234" + b"\xff" * 12)),
        "row 0 of its element 'vertex' has -1 values of r, with 8 bytes left",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    content, complaint = BAD[case]
    path = tmp_path / "a.ply"
    path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        read_ply(path)
    text = str(refused.value)
    assert text.startswith(str(path)) and complaint in text and "\n" not in text


@pytest.mark.parametrize("format", FORMATS)
def test_every_truncation_is_noticed(format: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    write_ply(path, every_kind(2), (), format)
    whole = path.read_bytes()
    start = whole.index(b"end_header")
    # A text can lose its last line end, or the end of its last word, without becoming another one.
    last = whole.rstrip().rindex(b"\n") if format == "ascii" else len(whole) - 1
    for size in (*range(1, start, 40), *range(start + 11, last, 7), last):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError):
            read_ply(path)


def test_no_file_and_no_folder_to_read(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.ply does not exist"):
        read_ply(tmp_path / "a.ply")
    with pytest.raises(InputError, match="is a folder"):
        read_ply(tmp_path)
    with pytest.raises(InputError, match="is a pipe or a device"):
        read_ply("/dev/zero")


X = np.zeros(2, np.float32)
UNWRITABLE: dict[str, tuple[Callable[[Path], None], type[Exception], str]] = {
    "type": (lambda p: write_ply(p, {"v": {"x": X.astype(int)}}), UsageError, "no type for int64"),
    "length": (lambda p: write_ply(p, {"v": {"x": X, "y": X[:1]}}), ShapeError, "one length"),
    "flat": (lambda p: write_ply(p, {"v": {"x": X[None]}}), ShapeError, "one length"),
    "list": (
        lambda p: write_ply(p, {"v": {"x": ListColumn(np.array([1]), X)}}),
        ShapeError,
        "one length",
    ),
    "name": (lambda p: write_ply(p, {"v": {"an x": X}}), UsageError, "without blanks"),
    "comment": (lambda p: write_ply(p, {"v": {"x": X}}, ["a\nb"]), UsageError, "one line"),
    "format": (lambda p: write_ply(p, {}, [], "utf8"), UsageError, "unknown PLY format 'utf8'"),
}


@pytest.mark.parametrize("case", UNWRITABLE)
def test_what_ply_cannot_hold_is_not_written(case: str, tmp_path: Path) -> None:
    write, error, complaint = UNWRITABLE[case]
    with pytest.raises(error, match=complaint):
        write(tmp_path / "a.ply")
    assert not [*tmp_path.iterdir()]
