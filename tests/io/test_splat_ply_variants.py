"""3DGS's PLY layout as other programs vary it: 2DGS, Mip-Splatting, infinite values."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from geodistill.checks import InputError
from geodistill.geometry.kinds import kind_of
from geodistill.io.ply import read_ply
from geodistill.io.ply_write import write_ply
from geodistill.io.splats import read_splats, write_splats
from geodistill.io.splats.arrays import SH_C0
from tests.io.splat_samples import expect_refused_or_understood, mutated, some_arrays

COUNT = 20
SPLATS = some_arrays(COUNT, degree=1)


def columns(tmp_path: Path) -> dict[str, np.ndarray]:
    write_splats(tmp_path / "plain.ply", SPLATS)
    vertex = read_ply(tmp_path / "plain.ply").elements["vertex"]
    return {name: np.asarray(values) for name, values in vertex.items()}


def test_discs_get_a_thin_third_axis(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vertex = columns(tmp_path)
    del vertex["scale_2"]
    write_ply(tmp_path / "a.ply", {"vertex": vertex})
    found = read_splats(tmp_path / "a.ply")
    assert np.array_equal(found["log_scales"][:, :2], SPLATS["log_scales"][:, :2])
    scales = np.exp(found["log_scales"].astype(float))
    np.testing.assert_allclose(scales[:, 2], 1e-3 * scales[:, :2].min(axis=1), rtol=1e-5)
    assert capsys.readouterr().err.count("are discs (2DGS)") == 1
    for name in ("means", "rotations", "opacity_logits", "sh"):
        assert np.array_equal(found[name], SPLATS[name])


def test_colours_in_the_place_of_harmonics(tmp_path: Path) -> None:
    """nerfstudio's `--ply-color-mode rgb`."""
    vertex = columns(tmp_path)
    colors = np.random.default_rng(0).integers(0, 256, (COUNT, 3), dtype=np.uint8)
    kept = {k: v for k, v in vertex.items() if not k.startswith("f_")}
    named = dict(zip(("red", "green", "blue"), colors.T, strict=True))
    write_ply(tmp_path / "a.ply", {"vertex": {**kept, **named}})
    assert kind_of(tmp_path / "a.ply") == "splats"
    found = read_splats(tmp_path / "a.ply")
    assert found["sh"].shape == (COUNT, 1, 3) and not found["attributes"]
    shown = 255 * (0.5 + SH_C0 * found["sh"][:, 0].astype(float))
    np.testing.assert_allclose(shown, colors, atol=1e-3)
    for name in ("means", "rotations", "log_scales", "opacity_logits"):
        assert np.array_equal(found[name], SPLATS[name])


def test_harmonics_of_degree_4_are_cut(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    vertex = {k: v for k, v in columns(tmp_path).items() if not k.startswith("f_rest_")}
    rest = np.random.default_rng(0).normal(size=(COUNT, 3, 24)).astype(np.float32)
    more = {f"f_rest_{k}": column for k, column in enumerate(rest.reshape(COUNT, 72).T)}
    write_ply(tmp_path / "a.ply", {"vertex": {**vertex, **more}})
    found = read_splats(tmp_path / "a.ply")
    assert np.array_equal(found["sh"][:, 1:], rest[:, :, :15].swapaxes(1, 2))
    assert np.array_equal(found["sh"][:, 0], SPLATS["sh"][:, 0])
    assert "harmonics of degree 4: those above degree 3" in capsys.readouterr().err


def test_the_filter_is_folded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """sqrt(s^2 + f^2), and opacity times sqrt(prod s^2 / prod (s^2 + f^2)), one by one."""
    vertex = columns(tmp_path)
    sizes = np.abs(np.random.default_rng(0).normal(size=COUNT).astype(np.float32)) * 0.02
    sizes[0] = 0
    write_ply(tmp_path / "a.ply", {"vertex": {**vertex, "filter_3D": sizes}})
    found = read_splats(tmp_path / "a.ply")
    assert capsys.readouterr().err.count("its filter_3D is folded") == 1
    assert found["attributes"] == {}
    for i, size in enumerate(sizes.tolist()):
        before = [math.exp(s) for s in SPLATS["log_scales"][i].tolist()]
        after = [math.sqrt(s * s + size * size) for s in before]
        ratio = math.sqrt(math.prod(s * s for s in before) / math.prod(s * s for s in after))
        alpha = ratio / (1 + math.exp(-float(SPLATS["opacity_logits"][i])))
        assert np.exp(found["log_scales"][i]) == pytest.approx(after, rel=1e-5)
        got = 1 / (1 + math.exp(-float(found["opacity_logits"][i])))
        assert got == pytest.approx(alpha, rel=1e-5)
    for name in ("log_scales", "opacity_logits"):
        assert np.array_equal(found[name][0], SPLATS[name][0])


def test_a_filter_of_any_size_stays_finite(tmp_path: Path) -> None:
    vertex = columns(tmp_path)
    sizes = np.logspace(-38, 38, COUNT).astype(np.float32)
    vertex["opacity"] = np.full(COUNT, 200, np.float32)
    write_ply(tmp_path / "a.ply", {"vertex": {**vertex, "filter_3D": sizes}})
    found = read_splats(tmp_path / "a.ply")
    np.testing.assert_allclose(found["log_scales"][-1], np.log(1e38), rtol=1e-5)
    assert (np.diff(found["opacity_logits"]) <= 0).all()


def test_a_filtered_disc(tmp_path: Path) -> None:
    """The filter widens the two axes that are there, and the third is thin beside them."""
    vertex = {name: v for name, v in columns(tmp_path).items() if name != "scale_2"}
    write_ply(tmp_path / "a.ply", {"vertex": {**vertex, "filter_3D": np.ones(COUNT, np.float32)}})
    scales = np.exp(read_splats(tmp_path / "a.ply")["log_scales"].astype(float))
    np.testing.assert_allclose(scales[:, 2], 1e-3 * scales[:, :2].min(axis=1), rtol=1e-5)
    assert (scales[:, :2] > 1).all()


def test_infinite_ends_are_kept_finite(tmp_path: Path) -> None:
    vertex = columns(tmp_path)
    vertex["opacity"][:3] = [np.inf, -np.inf, 30]
    vertex["scale_1"][4] = -np.inf
    write_ply(tmp_path / "a.ply", {"vertex": vertex})
    found = read_splats(tmp_path / "a.ply")
    share = 1 / (1 + np.exp(-found["opacity_logits"].astype(float)))
    assert share[0] == pytest.approx(1, abs=1 / 255) and share[1] == pytest.approx(0, abs=1 / 255)
    assert found["opacity_logits"][2] == 30
    assert found["log_scales"][4, 1] == -20
    assert np.array_equal(found["log_scales"][:4], SPLATS["log_scales"][:4])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("scale_0", np.inf),
        ("scale_0", np.nan),
        ("opacity", np.nan),
        ("filter_3D", np.nan),
        ("filter_3D", np.inf),
    ],
)
def test_what_is_not_finite_is_left_out_and_of_most_refused(
    name: str, value: float, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vertex = {**columns(tmp_path), "filter_3D": np.ones(COUNT, np.float32)}
    vertex[name][7] = value
    plain = {k: v for k, v in vertex.items() if k != "filter_3D"}
    for content in (vertex, plain) if name != "filter_3D" else (vertex,):
        write_ply(tmp_path / "a.ply", {"vertex": content})
        means = read_splats(tmp_path / "a.ply")["means"]
        assert np.array_equal(means, np.delete(SPLATS["means"], 7, axis=0))
        assert "1 of its 20 splats are not finite" in capsys.readouterr().err
    vertex[name][2:15] = value
    write_ply(tmp_path / "a.ply", {"vertex": vertex})
    complaint = rf"a\.ply is damaged: 13 of its 20 .*, 13 by NaN or infinite '{name}', .* row 2:"
    with pytest.raises(InputError, match=complaint):
        read_splats(tmp_path / "a.ply")


def test_damage_of_most_splats_is_refused_wherever_it_lies(tmp_path: Path) -> None:
    """No column of most splats, but all of them together."""
    vertex = columns(tmp_path)
    vertex["scale_0"][:8], vertex["opacity"][8:15] = np.nan, np.nan
    write_ply(tmp_path / "a.ply", {"vertex": vertex})
    with pytest.raises(InputError, match=r"15 of its 20 splats cannot be drawn, 8 by .* 'scale_0'"):
        read_splats(tmp_path / "a.ply")
    vertex = columns(tmp_path)
    for name in ("rot_0", "rot_1", "rot_2", "rot_3"):
        vertex[name][3:15] = 0
    write_ply(tmp_path / "a.ply", {"vertex": {**vertex, "rot_weight": np.ones(COUNT, np.float32)}})
    with pytest.raises(InputError, match=r"12 of its 20 .* 12 by zero 'rotations', .* row 3"):
        read_splats(tmp_path / "a.ply")


@pytest.mark.parametrize(
    ("comments", "said"),
    [
        (["Exported from Brush", "SplatRenderMode: mip"], "SplatRenderMode: mip"),
        (["  SPLATRENDERMODE:  Mip "], "SPLATRENDERMODE:  Mip"),
        (["antialiased 1"], "antialiased 1"),
        (["SplatRenderMode: default", "antialiased 1"], "antialiased 1"),
        (["antialiased 1", "SplatRenderMode: default"], ""),
        (["antialiased 0"], ""),
        (["SplatRenderMode: 2dgs"], ""),
        (["not SplatRenderMode: mip"], ""),
        ([], ""),
    ],
)
@pytest.mark.parametrize("ending", ["ply", "compressed.ply"])
def test_antialiasing_is_said(
    comments: list[str], said: str, ending: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"a.{ending}"
    write_splats(path, SPLATS)
    lines = "".join(f"comment {comment}\n" for comment in comments).encode()
    path.write_bytes(path.read_bytes().replace(b"element", lines + b"element", 1))
    assert len(read_splats(path)["means"]) == COUNT
    err = capsys.readouterr().err
    assert err.count("were trained with antialiasing") == (1 if said else 0)
    assert f"({said})" in err if said else not err


def test_damaged_files(tmp_path: Path) -> None:
    vertex = {name: v for name, v in columns(tmp_path).items() if name != "scale_2"}
    write_ply(tmp_path / "a.ply", {"vertex": {**vertex, "filter_3D": np.ones(COUNT, np.float32)}})
    data = (tmp_path / "a.ply").read_bytes()
    header = data.index(b"end_header")
    assert expect_refused_or_understood(tmp_path / "b.ply", mutated(data, 120, header)) > 30
