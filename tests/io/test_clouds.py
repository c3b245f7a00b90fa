"""Point clouds through every format, their columns' names, and files without points."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

from geodistill.checks import InputError, UsageError
from geodistill.io.clouds import FORMATS, read_cloud, write_cloud
from geodistill.io.columns import color_bytes, grouped, ungrouped
from geodistill.io.pcd import ENCODINGS, write_pcd
from geodistill.io.ply import ListColumn
from geodistill.io.ply_write import write_ply

RNG = np.random.default_rng(5)


def some_cloud(count: int = 20) -> dict[str, np.ndarray]:
    normals = RNG.standard_normal((count, 3))
    return {
        "positions": RNG.standard_normal((count, 3)) * [1e-3, 1, 4e6],
        "colors": RNG.integers(0, 256, (count, 4), dtype=np.uint8),
        "normals": (normals / np.linalg.norm(normals, axis=1, keepdims=True)).astype(np.float32),
        "intensity": RNG.standard_normal(count).astype(np.float32),
        "feature": RNG.standard_normal((count, 12)).astype(np.float32),
    }


def assert_same(found: dict[str, np.ndarray], wanted: dict[str, np.ndarray]) -> None:
    assert found.keys() == wanted.keys()
    for name, values in wanted.items():
        assert found[name].dtype == values.dtype, name
        np.testing.assert_array_equal(found[name], values, err_msg=name)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("left_out", ["", "colors", "normals", "feature", "all"])
def test_round_trip(suffix: str, left_out: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    cloud = {k: v for k, v in some_cloud().items() if k != left_out}
    if left_out == "all":
        cloud = {"positions": cloud["positions"]}
    write_cloud(path, cloud)
    assert_same(read_cloud(path).cloud, cloud)
    again = tmp_path / f"b{suffix}"
    write_cloud(again, read_cloud(path).cloud)
    assert again.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("suffix", FORMATS)
def test_opaque_colours_and_narrow_positions(suffix: str, tmp_path: Path) -> None:
    cloud = some_cloud()
    cloud["colors"][:, 3] = 255
    cloud["positions"] = cloud["positions"].astype(np.float32).astype(np.float64)
    write_cloud(tmp_path / f"a{suffix}", cloud)
    assert_same(read_cloud(tmp_path / f"a{suffix}").cloud, cloud)


def test_positions_that_float32_holds_are_stored_as_such(tmp_path: Path) -> None:
    plyfile = pytest.importorskip("plyfile")
    for cloud, kind in (
        ({"positions": np.ones((2, 3)) / 3}, "f8"),
        ({"positions": np.ones((2, 3))}, "f4"),
    ):
        write_cloud(tmp_path / "a.ply", cloud)
        vertex = plyfile.PlyData.read(tmp_path / "a.ply")["vertex"]
        assert [p.val_dtype for p in vertex.properties] == [kind] * 3
        np.testing.assert_array_equal(vertex["z"], cloud["positions"][:, 2])


def test_plyfile_reads_our_cloud(tmp_path: Path) -> None:
    plyfile = pytest.importorskip("plyfile")
    cloud = some_cloud()
    write_cloud(tmp_path / "a.ply", cloud)
    vertex = plyfile.PlyData.read(tmp_path / "a.ply")["vertex"]
    names = ["x", "y", "z", "nx", "ny", "nz", "red", "green", "blue", "alpha", "intensity"]
    assert [p.name for p in vertex.properties] == names + [f"feature_{i}" for i in range(12)]
    np.testing.assert_array_equal(vertex["alpha"], cloud["colors"][:, 3])
    np.testing.assert_array_equal(vertex["feature_11"], cloud["feature"][:, 11])


def written(tmp_path: Path, text: str, suffix: str = ".xyz") -> Path:
    path = tmp_path / f"a{suffix}"
    path.write_text(text)
    return path


P3 = [[1, 2, 3], [4, 5, 6]]


@pytest.mark.parametrize(
    "text",
    [
        "1 2 3\n4 5 6\n",
        "1,2,3\r\n4,5,6",
        "1; 2; 3\n\n  # a comment\n4; 5; 6 // and one more\n",
        "# one\n// two\n1\t2\t3\n4\t5\t6\n",
        "x,y,z\n1,2,3\n4,5,6\n",
        '"Z" "Y" "X"\n3 2 1\n6 5 4\n',
        "# scan of 2020, made by me\n1 2 3\n4 5 6",
    ],
)
def test_text_layouts(text: str, tmp_path: Path) -> None:
    cloud, _ = read_cloud(written(tmp_path, text, ".txt"))
    assert cloud.keys() == {"positions"} and cloud["positions"].tolist() == P3


@pytest.mark.parametrize(
    "text, colors, normals, others",
    [
        ("1 2 3 255 0 7\n4 5 6 1 2 3\n", [255, 0, 7], None, {}),
        ("1 2 3 0 0.6 0.8\n4 5 6 0 0 1\n", None, [0, 0.6, 0.8], {}),
        ("1 2 3 0.5 0.2 1\n4 5 6 0 0 0\n", [128, 51, 255], None, {}),
        ("1 2 3 9 8 7 0 1 0\n4 5 6 1 2 3 0 1 0\n", [9, 8, 7], [0, 1, 0], {}),
        ("1 2 3 0 -1 0 9 8 7\n4 5 6 0 -1 0 1 2 3\n", [9, 8, 7], [0, -1, 0], {}),
        ("1 2 3 9\n4 5 6 7\n", None, None, {"column_4": [9, 7]}),
        ("1 2 3 9 8 7 -2\n4 5 6 1 2 3 5\n", [9, 8, 7], None, {"column_7": [-2, 5]}),
        ("1 2 3 900 8 7\n4 5 6 1 2 3\n", None, None, {"column": None}),
        ("//X Y Z R G B H\n1 2 3 9 8 7 -2\n4 5 6 1 2 3 5\n", [9, 8, 7], None, {"H": [-2, 5]}),
        ("x y z i nx ny nz\n1 2 3 4 0 0 1\n4 5 6 7 0 1 0", None, [0, 0, 1], {"i": [4, 7]}),
        ("red x y z\n1 1 2 3\n2 4 5 6", None, None, {"red": [1, 2]}),
        ("x y z f_0 f_1\n1 2 3 4 5\n4 5 6 7 8", None, None, {"f": [[4, 5], [7, 8]]}),
    ],
)
def test_text_columns_are_told_apart(
    text: str,
    colors: list[int] | None,
    normals: list[float] | None,
    others: dict[str, list[float]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    cloud, _ = read_cloud(written(tmp_path, text))
    assert cloud["positions"].tolist() == P3
    for name, wanted in (("colors", colors and [*colors, 255]), ("normals", normals)):
        assert (name in cloud) == (wanted is not None)
        if wanted is not None:
            assert cloud[name][0].tolist() == pytest.approx(wanted)
    said = capsys.readouterr().err
    if "column" in others:
        assert said.endswith("took column_4, column_5, column_6 as attributes\n")
    else:
        assert {k: v.tolist() for k, v in cloud.items() if k in others} == others
        assert ("column" in "".join(others)) == bool(said)


@pytest.mark.parametrize(
    "text, complaint",
    [
        ("", "is empty"),
        ("# nothing\n\n", "holds no points: it has no line of numbers"),
        ("1 2 3\n4 5\n", "line 2: 2 values, but line 1 has 3"),
        ("# a\n\n1 2 3\n4 five 6\n", "line 4: 'five' is not a number"),
        ("1,2,3\n4,,6\n", "line 2: 2 values, but line 1 has 3"),
        ("1 2\n", "line 1: 2 values are no point x y z"),
        ("2\n\nC 1 2 3\nH 1 2 3\n", "line 3: 4 values, but line 1 has 1"),
        ("a b c\n1 2 3\n", "line 1: 'a' is not a number"),
        ("x y z a\n1 2 3\n", "line 1: 4 names, but the points have 3 values"),
        ("x y z a a\n1 2 3 4 5\n", "line 1: a column's name appears twice"),
        ("x y z red green blue\n1 2 3 -4 5 6\n", "has colours from -4 to 6"),
        ("nan nan nan\nnan inf 1\n", "all its positions are NaN or infinite"),
    ],
)
def test_bad_text_is_refused_with_its_line(text: str, complaint: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    with pytest.raises(InputError) as refused:
        read_cloud(path)
    assert str(refused.value).startswith(str(path)) and complaint in str(refused.value)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("kind, name", [("f4", "rgb"), ("u4", "rgb"), ("u4", "rgba")])
def test_packed_colours_of_pcd(kind: str, name: str, encoding: str, tmp_path: Path) -> None:
    """0xAARRGGBB in four bytes, whatever they are declared as."""
    packed = np.array([0x40FF8001, 0x00010203], np.uint32).view(kind)
    fields = {"x": np.ones(2), "y": np.ones(2), "z": np.ones(2, np.int16), name: packed}
    fields["normal_x"] = fields["normal_y"] = np.zeros(2, np.float32)
    fields["normal_z"] = np.ones(2, np.float32)
    write_pcd(tmp_path / "a.pcd", fields, (5, 6, 7, 1, 0, 0, 0), encoding)
    cloud, metadata = read_cloud(tmp_path / "a.pcd")
    alphas = (0x40, 0) if name == "rgba" else (255, 255)
    assert cloud["colors"].tolist() == [[255, 128, 1, alphas[0]], [1, 2, 3, alphas[1]]]
    assert cloud["normals"].tolist() == [[0, 0, 1]] * 2 and len(cloud) == 3
    assert metadata == {"viewpoint": (5, 6, 7, 1, 0, 0, 0)}


def test_holes_of_an_organised_cloud_are_dropped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.pcd"
    path.write_text(
        "VERSION 0.7\nFIELDS x y z i\nSIZE 4 4 4 1\nTYPE F F F U\nCOUNT 1 1 1 1\nWIDTH 2\n"
        "HEIGHT 2\nPOINTS 4\nDATA ascii\n1 2 3 4\nnan nan nan 5\n1 inf 2 6\n7 8 9 0\n"
    )
    cloud, _ = read_cloud(path)
    assert cloud["positions"].tolist() == [[1, 2, 3], [7, 8, 9]] and cloud["i"].tolist() == [4, 0]
    said = capsys.readouterr().err
    assert said == f"{path}: dropped 2 of 4 points, which are NaN or infinite\n"


def test_npz_spellings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.npz"
    arrays = {
        "xyz": np.arange(6, dtype=np.float32).reshape(2, 3),
        "rgb": np.array([[0.0, 0.5, 1.0], [1, 1, 1]]),
        "normals": np.array([[0, 0, 1], [0, 1, 0]]),
        "ring": np.array([True, False]),
        "name": np.array("scan"),
    }
    np.savez_compressed(path, allow_pickle=False, **arrays)
    cloud, _ = read_cloud(path)
    assert cloud["positions"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert cloud["colors"].tolist() == [[0, 128, 255, 255], [255] * 4]
    assert cloud["normals"].dtype == np.float32 and cloud["ring"].tolist() == [1, 0]
    assert "ignored 'name', <U4 [] is no attribute" in capsys.readouterr().err


def npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return buffer.getvalue()


XYZ = np.zeros((2, 3))
WHOLE = npz(xyz=XYZ)


@pytest.mark.parametrize(
    "name, content, complaint",
    [
        ("a.npz", b"", "is empty"),
        ("a.npz", b"PK\3\4nonsense", "is truncated or damaged"),
        ("a.npz", WHOLE[:-30], "is truncated or damaged"),
        ("a.npz", WHOLE.replace(b"(2, 3)", b"(2, 9)"), "is truncated or damaged"),
        ("a.npz", bytes(WHOLE[:200]) + b"\1\2" + WHOLE[202:], "is truncated or damaged"),
        ("a.npz", b"\x93NUMPY", "is not an NPZ file"),
        ("a.npz", npz(a=XYZ), "has none of positions, points, xyz (it has a)"),
        ("a.npz", npz(xyz=XYZ[0]), "'xyz' must be numbers [N, 3], not float64 [3]"),
        ("a.npz", npz(xyz=XYZ.astype(str)), "must be numbers [N, 3]"),
        ("a.npz", npz(xyz=XYZ[:0]), "holds no points: it is empty"),
        ("a.npz", npz(xyz=XYZ, normals=XYZ[:1]), "1 normals, but 2 positions"),
        ("a.npz", npz(xyz=np.array([None, {}])), "holds Python objects, which are not read"),
        ("a.ply", b"ply\nformat ascii 1.0\nend_header\n", "has no element 'vertex' (it has none)"),
        (
            "a.ply",
            b"ply\nformat ascii 1.0\nelement vertex 1\nproperty float x\nend_header\n1\n",
            "has no columns x, y, z (it has x)",
        ),
        (
            "a.ply",
            b"ply\nformat ascii 1.0\nelement vertex 0\nproperty float x\nproperty float y\n"
            b"property float z\nend_header\n",
            "holds no points: it is empty",
        ),
    ],
)
def test_files_without_points(name: str, content: bytes, complaint: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError) as refused:
        read_cloud(path)
    text = str(refused.value)
    assert text.startswith(str(path)) and complaint in text and "\n" not in text


def test_faces_are_left_out_with_a_word(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vertex = {name: np.arange(3, dtype=np.float32) for name in ("x", "y", "z")}
    faces = ListColumn(np.array([3]), np.arange(3, dtype=np.int32))
    write_ply(tmp_path / "a.ply", {"vertex": vertex, "face": {"vertex_indices": faces}}, ["hello"])
    cloud, metadata = read_cloud(tmp_path / "a.ply")
    assert [*cloud] == ["positions"] and metadata == {"comments": ("hello",)}
    assert "read the points alone, not its face" in capsys.readouterr().err


def test_unknown_suffix_and_names_that_mean_something_else(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"unknown point cloud format '.las'; known: .ply, .pcd"):
        read_cloud(tmp_path / "a.las")
    for suffix in FORMATS:
        for name in ("red", "X", "rgb", "a b"):
            with pytest.raises(UsageError, match=f"cannot be named '{name}'"):
                write_cloud(tmp_path / f"a{suffix}", {"positions": XYZ, name: XYZ[:, 0]})
    with pytest.raises(UsageError, match="both be stored as 'f_0'"):
        write_cloud(tmp_path / "a.ply", {"positions": XYZ, "f": XYZ, "f_0": XYZ[:, 0]})
    assert not [*tmp_path.iterdir()]


@pytest.mark.parametrize("taken", ["positions", "colors", "normals"])
@pytest.mark.parametrize("columns", [("{}",), ("{}_0", "{}_1", "{}_2")])
def test_columns_named_as_our_own_replace_nothing(
    columns: tuple[str, ...], taken: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Alone or in parts, beside the real ones or without."""
    path = tmp_path / "a.ply"
    names = [column.format(taken) for column in columns]
    for real in ("x y z", "x y z nx ny nz red green blue"):
        header = "".join(f"property float {name}\n" for name in [*real.split(), *names])
        rows = "".join(f"{'0.5 ' * len(real.split())} {'9 ' * len(names)}\n" for _ in range(2))
        path.write_text(f"ply\nformat ascii 1.0\nelement vertex 2\n{header}end_header\n{rows}")
        cloud, _ = read_cloud(path)
        assert cloud["positions"].tolist() == [[0.5] * 3] * 2
        if "nx" in real:
            assert cloud["normals"].tolist() == [[0.5] * 3] * 2
            assert cloud["colors"].tolist() == [[128, 128, 128, 255]] * 2
        else:
            assert [*cloud] == ["positions"]
        said = capsys.readouterr().err
        assert said == (
            f"{path}: left out its column '{taken}', a name that has another meaning here\n"
        )


def test_colours_of_every_range() -> None:
    assert color_bytes(np.array([0, 0.5, 1.0]), "").tolist() == [0, 128, 255]
    assert color_bytes(np.array([0.0, 1, 255]), "").tolist() == [0, 1, 255]
    assert color_bytes(np.array([0, 1], np.int32), "").tolist() == [0, 1]
    assert color_bytes(np.array([0, 257, 65535], np.uint16), "").tolist() == [0, 1, 255]
    for bad in (-1.0, 70000.0, np.nan):
        with pytest.raises(InputError, match="here has colours from"):
            color_bytes(np.array([0.5, bad]), "here")


def test_numbered_columns_are_one_attribute_only_when_complete() -> None:
    one, two = np.ones(2), np.full(2, 2.0)
    assert [*grouped({"f_0": one, "g": one, "f_1": two})] == ["f", "g"]
    assert grouped({"f_1": two, "f_0": one})["f"].tolist() == [[1, 2]] * 2
    for names in (("f_1",), ("f_0", "f_2"), ("f_0", "f"), ("f_00",)):
        assert [*grouped(dict.fromkeys(names, one))] == [*names]
    assert [*ungrouped({"f": np.ones((2, 1)), "g": one})] == ["f_0", "g"]


def test_what_float32_blurs_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, xyz=XYZ, time=np.array([1.6e9, 1.6e9 + 7]), fine=np.array([0.1, 0.2]))
    read_cloud(path)
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"{path}: 'time' loses" in said
