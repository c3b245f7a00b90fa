"""Splats: the 3DGS layout byte by byte, files that are none, and changes of frame."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from geodistill.cameras import Similarity, rotations
from geodistill.checks import InputError, ShapeError, UsageError
from geodistill.geometry.harmonics import sh_basis
from geodistill.geometry.splats import (
    Splats,
    load_splats,
    load_splats_with_attributes,
    save_splats,
    splats_digest,
    transformed,
)
from geodistill.io.ply import ListColumn, read_ply
from geodistill.io.ply_write import write_ply


def some_splats(count: int = 12, degree: int = 3, seed: int = 0) -> Splats:
    draw = torch.Generator().manual_seed(seed)
    quaternions = torch.randn(count, 4, generator=draw)
    return Splats(
        torch.randn(count, 3, generator=draw),
        quaternions / quaternions.norm(dim=1, keepdim=True),
        torch.randn(count, 3, generator=draw) - 3,
        torch.randn(count, generator=draw),
        torch.randn(count, (degree + 1) ** 2, 3, generator=draw),
    )


FIELDS = ("means", "rotations", "log_scales", "opacity_logits", "sh")


def assert_same(found: Splats, wanted: Splats) -> None:
    for name in FIELDS:
        assert torch.equal(getattr(found, name), getattr(wanted, name)), name


@pytest.mark.parametrize("degree", range(4))
def test_round_trip(degree: int, tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    wanted = some_splats(degree=degree)
    save_splats(path, wanted)
    found = load_splats(path)
    assert found.degree == degree and len(found) == 12
    assert_same(found, wanted)
    assert splats_digest(found) == splats_digest(wanted)
    assert load_splats_with_attributes(path)[1] == {}
    assert [file.name for file in tmp_path.iterdir()] == ["a.ply"]


def reference_names(rest: int) -> list[str]:
    """construct_list_of_attributes of the reference implementation."""
    return [
        *("x", "y", "z", "nx", "ny", "nz"),
        *(f"f_dc_{i}" for i in range(3)),
        *(f"f_rest_{i}" for i in range(rest)),
        "opacity",
        *(f"scale_{i}" for i in range(3)),
        *(f"rot_{i}" for i in range(4)),
    ]


@pytest.mark.parametrize("degree, rest", [(0, 0), (1, 9), (2, 24), (3, 45)])
def test_the_layout_is_that_of_the_reference(degree: int, rest: int, tmp_path: Path) -> None:
    """Read with plyfile, as viewers do; f_rest holds all of red, then green, then blue."""
    plyfile = pytest.importorskip("plyfile")
    splats = some_splats(degree=degree)
    save_splats(tmp_path / "a.ply", splats)
    file = plyfile.PlyData.read(tmp_path / "a.ply")
    assert not file.text and file.byte_order == "<"
    assert [element.name for element in file.elements] == ["vertex"]
    vertex = file["vertex"]
    assert [p.name for p in vertex.properties] == reference_names(rest)
    assert {p.val_dtype for p in vertex.properties} == {"f4"}
    for axis, name in enumerate("xyz"):
        assert vertex[name].tolist() == splats.means[:, axis].tolist()
        assert not vertex[f"n{name}"].any()
        assert vertex[f"scale_{axis}"].tolist() == splats.log_scales[:, axis].tolist()
    assert vertex["rot_0"].tolist() == splats.rotations[:, 0].tolist()
    assert vertex["opacity"].tolist() == splats.opacity_logits.tolist()
    for channel, k in itertools.product(range(3), range((degree + 1) ** 2)):
        name = f"f_rest_{channel * (rest // 3) + k - 1}" if k else f"f_dc_{channel}"
        assert vertex[name].tolist() == splats.sh[:, k, channel].tolist()


def table(splats: Splats, path: Path) -> dict[str, np.ndarray]:
    """The columns of a splat file, to be spoilt."""
    save_splats(path, splats)
    return {k: np.asarray(v) for k, v in read_ply(path).elements["vertex"].items()}


@pytest.mark.parametrize("format", ["ascii", "binary_big_endian"])
def test_other_writers(format: str, tmp_path: Path) -> None:
    """Another order and format, doubles, no normals, quaternions of any length."""
    path = tmp_path / "a.ply"
    splats = some_splats()
    columns = {
        k: v.astype(np.float64) for k, v in reversed(table(splats, path).items()) if k[0] != "n"
    }
    for i in range(4):
        columns[f"rot_{i}"] *= np.linspace(0.1, 9.0, 12)
    write_ply(path, {"vertex": columns}, format=format)
    found = load_splats(path)
    torch.testing.assert_close(found.rotations, splats.rotations)
    assert_same(replace(found, rotations=splats.rotations), splats)


def test_attributes_ride_along(tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    splats = some_splats(degree=1)
    wanted = {"feature": torch.randn(12, 20), "label": torch.arange(12.0)}
    save_splats(path, splats, wanted)
    names = [*read_ply(path).elements["vertex"]]
    assert names == [*reference_names(9), *(f"feature_{i}" for i in range(20)), "label"]
    assert_same(load_splats(path), splats)
    found = load_splats_with_attributes(path)[1]
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], values) for name, values in wanted.items())
    for attributes, error, complaint in (
        ({"a": torch.zeros(3)}, ShapeError, r"'a' must have shape \[12\] or \[12, C\]"),
        ({"a": torch.zeros(12).double()}, UsageError, "'a' must be float32"),
        ({"opacity": torch.zeros(12)}, UsageError, "cannot hold an attribute as 'opacity'"),
        ({"rot": torch.zeros(12, 2)}, UsageError, "cannot hold an attribute as 'rot_0'"),
        ({"filter_3D": torch.zeros(12)}, UsageError, "cannot hold an attribute as 'filter_3D'"),
        ({"f_rest": torch.zeros(12, 99)}, UsageError, "cannot hold an attribute as 'f_rest_0'"),
    ):
        with pytest.raises(error, match=complaint):
            save_splats(tmp_path / "b.ply", splats, attributes)
    assert not (tmp_path / "b.ply").exists()


Columns = dict[str, np.ndarray]


def without(*names: str) -> Callable[[Columns], Columns]:
    return lambda columns: {k: v for k, v in columns.items() if k not in names}


def spoilt(name: str, value: float, rows: Sequence[int] = (7,)) -> Callable[[Columns], Columns]:
    def spoil(columns: Columns) -> Columns:
        column = np.where(np.isin(np.arange(12), rows), value, columns[name].astype(np.float64))
        return {**columns, name: column}

    return spoil


def positions_alone(columns: Columns) -> Columns:
    return {k: v for k, v in columns.items() if k in ("x", "y", "z")}


def unturned(columns: Columns) -> Columns:
    return {k: np.zeros(12) if k.startswith("rot_") else v for k, v in columns.items()}


BAD: dict[str, tuple[Callable[[Columns], Columns], str]] = {
    "cloud": (
        positions_alone,
        "is not a splat file but looks like a cloud: its vertices have no property 'f_dc_0' (they "
        "have x, y, z)",
    ),
    "scale": (without("scale_1"), "its vertices have no property 'scale_1'"),
    "opacity": (without("opacity"), "its vertices have no property 'opacity'"),
    "rotation": (without("rot_0"), "its vertices have no property 'rot_0'"),
    "rest": (
        without("f_rest_44"),
        "has 44 properties f_rest_*: a splat file has f_rest_0 and so on, 0, 9, 24, 45 of them",
    ),
    "rest gap": (without(*(f"f_rest_{i}" for i in range(21))), "has 24 properties f_rest_*"),
    "nan": (
        spoilt("f_rest_3", np.nan, rows=range(5, 12)),
        "7 of its 12 splats cannot be drawn, 7 by NaN or infinite 'f_rest_3', the first in row 5",
    ),
    "infinite": (
        spoilt("scale_0", np.inf, rows=range(12)),
        "12 by NaN or infinite 'scale_0', the first in row 0",
    ),
    "zero": (unturned, "12 by zero 'rotations'"),
    "none": (lambda c: {k: v[:0] for k, v in c.items()}, "holds no splats"),
    "packed": (
        lambda c: {"packed_position": c["x"].astype(np.uint32)},
        "is no compressed splat file: its element vertex has no property 'packed_rotation' of type",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_no_splat_file_is_refused_in_one_line(case: str, tmp_path: Path) -> None:
    path = tmp_path / "a.ply"
    change, complaint = BAD[case]
    write_ply(path, {"vertex": change(table(some_splats(), path))})
    with pytest.raises(InputError) as refused:
        load_splats(path)
    text = str(refused.value)
    assert text.startswith(str(path)) and complaint in text and "\n" not in text


@pytest.mark.parametrize(
    ("name", "value"), [("f_rest_3", np.nan), ("scale_0", np.inf), ("x", 1e300), ("rot_0", np.nan)]
)
def test_a_splat_that_is_not_finite_is_left_out(
    name: str, value: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "a.ply"
    whole = some_splats()
    write_ply(path, {"vertex": spoilt(name, value)(table(whole, path))})
    found = load_splats(path)
    others = [row for row in range(12) if row != 7]
    assert torch.equal(found.means, whole.means[others])
    assert torch.equal(found.sh, whole.sh[others])
    assert "1 of its 12 splats are not finite and left out" in capsys.readouterr().err


def test_a_mesh_is_no_splat_file(tmp_path: Path) -> None:
    vertex = {name: np.arange(3, dtype=np.float32) for name in ("x", "y", "z")}
    faces = ListColumn(np.array([3]), np.arange(3, dtype=np.int32))
    write_ply(tmp_path / "a.ply", {"vertex": vertex, "face": {"vertex_indices": faces}})
    with pytest.raises(InputError, match=r"a\.ply is not a splat file but looks like a mesh"):
        load_splats(tmp_path / "a.ply")
    write_ply(tmp_path / "a.ply", {})
    with pytest.raises(InputError, match=r"no property 'x' \(they have none\)"):
        load_splats(tmp_path / "a.ply")


S = some_splats()
NO_SPLATS: dict[str, tuple[dict[str, torch.Tensor], type[Exception], str]] = {
    "means": ({"means": S.means[:, :2]}, ShapeError, r"means must have shape \[N, 3\]"),
    "opacity": ({"opacity_logits": S.opacity_logits[:, None]}, ShapeError, "opacity_logits must"),
    "count": ({"log_scales": S.log_scales[:5]}, ShapeError, "log_scales must have shape"),
    "degree": ({"sh": S.sh[:, :5]}, ShapeError, "1, 4, 9 or 16 coefficients, got 5"),
    "type": ({"sh": S.sh.double()}, UsageError, "sh must be torch.float32, as means"),
    "finite": ({"sh": S.sh / 0}, InputError, "sh holds 576 NaN or infinite values"),
    "turns": ({"rotations": S.rotations * 0}, InputError, "one of them is all zeros"),
}


@pytest.mark.parametrize("case", NO_SPLATS)
def test_what_are_no_splats_is_refused(case: str) -> None:
    changes, error, complaint = NO_SPLATS[case]
    with pytest.raises(error, match=complaint):
        replace(S, **changes)
    with pytest.raises(InputError, match="at least one splat"):
        Splats(*(getattr(S, name)[:0] for name in FIELDS))


def test_a_digest_sees_every_column() -> None:
    digests = {splats_digest(S)}
    for name in FIELDS:
        changed = getattr(S, name).clone()
        changed.view(-1)[-1] = torch.nextafter(changed.view(-1)[-1], torch.tensor(9.0))
        digests.add(splats_digest(replace(S, **{name: changed})))
    assert len(digests) == 6 and all(len(digest) == 16 for digest in digests)


def some_similarity(seed: int) -> Similarity:
    draw = torch.Generator().manual_seed(seed)
    turn = rotations(3 * torch.randn(3, generator=draw, dtype=torch.float64))
    return Similarity(turn, torch.randn(3, generator=draw, dtype=torch.float64), 0.2 + seed)


def covariances(splats: Splats) -> torch.Tensor:
    """R diag(s^2) R^T, with the textbook matrix of a quaternion."""
    w, x, y, z = splats.rotations.double().unbind(dim=1)
    R = torch.stack([
        1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y),
        2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x),
        2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y),
    ], dim=1).reshape(-1, 3, 3)  # fmt: skip
    return R @ torch.diag_embed((2 * splats.log_scales.double()).exp()) @ R.mT


@pytest.mark.parametrize("degree", range(4))
@pytest.mark.parametrize("seed", range(3))
def test_a_change_of_frame(seed: int, degree: int) -> None:
    """Means, covariances, and what colour is seen from a direction that turns along."""
    splats, similarity = some_splats(degree=degree, seed=seed), some_similarity(seed)
    R, s = similarity.R, similarity.s
    there = transformed(splats, similarity)
    means = s * splats.means.double() @ R.T + similarity.t
    torch.testing.assert_close(there.means.double(), means, atol=1e-5, rtol=1e-5)
    wanted = s * s * R @ covariances(splats) @ R.T
    torch.testing.assert_close(covariances(there), wanted, atol=1e-6, rtol=1e-4)
    assert torch.equal(there.opacity_logits, splats.opacity_logits)
    d = torch.nn.functional.normalize(torch.randn(50, 3, dtype=torch.float64), dim=-1)
    before = torch.einsum("dk,nkc->dnc", sh_basis(d, degree), splats.sh.double())
    after = torch.einsum("dk,nkc->dnc", sh_basis(d @ R.T, degree), there.sh.double())
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)


def test_frames_can_be_left_again_and_composed() -> None:
    splats, a, b = some_splats(), some_similarity(1), some_similarity(2)

    def assert_close(found: Splats, wanted: Splats) -> None:
        sign = (found.rotations * wanted.rotations).sum(dim=1, keepdim=True).sign()
        found = replace(found, rotations=found.rotations * sign)  # q and -q are one rotation
        for name in FIELDS:
            pair = getattr(found, name), getattr(wanted, name)
            torch.testing.assert_close(*pair, atol=2e-5, rtol=1e-5)

    assert_close(transformed(transformed(splats, a), a.inverse()), splats)
    assert_close(transformed(transformed(splats, a), b), transformed(splats, b.compose(a)))
    assert_close(transformed(splats, Similarity.identity()), splats)
    for axis in torch.eye(3, dtype=torch.float64):  # half turns are where quaternions are delicate
        half = Similarity(rotations(torch.pi * axis), torch.zeros(3))
        assert_close(transformed(transformed(splats, half), half), splats)
