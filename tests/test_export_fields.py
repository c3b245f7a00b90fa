"""`geodistill export` of fields: other programs' files, and other axes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from geodistill.cameras import rotations
from geodistill.cli import main
from geodistill.geometry.axes import turn
from geodistill.geometry.fields import build_field, load_field, save_field
from geodistill.geometry.fields.ngp import HashBranch, NgpConfig
from geodistill.geometry.fields.plenoxels import Plenoxels, PlenoxelsConfig

TCNN = NgpConfig(levels=4, log2_size=8, base_resolution=4, max_resolution=32, convention="tcnn")


def voxels() -> Plenoxels:
    field = build_field("plenoxels", PlenoxelsConfig(resolution=12))
    assert isinstance(field, Plenoxels)
    draw = torch.Generator().manual_seed(0)
    nodes = torch.rand(12, 12, 12, generator=draw) > 0.4
    field.allocate(nodes, torch.rand(int(nodes.sum()), 28, generator=draw) * 0.01)
    field.world_from_field = torch.diag(torch.tensor([2.0, 2, 2, 1], dtype=torch.float64))
    return field


def same(a, b, tolerance: float = 1e-3) -> None:
    draw = torch.Generator().manual_seed(1)
    x = a.frame.apply(torch.rand(500, 3, generator=draw).double() * 1.9 - 0.95)
    d = torch.nn.functional.normalize(torch.randn(500, 3, generator=draw), dim=1)
    assert torch.allclose(a.density(x), b.density(x), rtol=tolerance, atol=1e-4)
    assert torch.allclose(a.color(x, d), b.color(x, d), atol=2e-3)


@torch.no_grad()
@pytest.mark.parametrize("ending", [".ingp", ".msgpack", ".npz"])
def test_fields_go_through_the_files_of_other_programs(ending: str, tmp_path: Path) -> None:
    field = voxels() if ending == ".npz" else build_field("ngp", TCNN, 3)
    save_field(field, tmp_path / "own.safetensors")
    there, back = str(tmp_path / f"theirs{ending}"), str(tmp_path / "back.safetensors")
    assert main(["export", str(tmp_path / "own.safetensors"), "-o", there]) == 0
    assert main(["export", there, "-o", back]) == 0
    same(field, load_field(back))


@torch.no_grad()
def test_a_turned_field_is_the_same_scene_in_other_axes(tmp_path: Path) -> None:
    field = voxels()
    field.occupancy = torch.ones_like(field.occupancy)
    save_field(field, tmp_path / "own.safetensors")
    out = tmp_path / "turned.safetensors"
    argv = ["export", str(tmp_path / "own.safetensors"), "-o", str(out), "--frame", "z-up"]
    assert main(argv) == 0
    turned, way = load_field(out), turn("opencv", "z-up")
    draw = torch.Generator().manual_seed(2)
    x = torch.rand(300, 3, generator=draw).double() * 3 - 1.5
    d = torch.nn.functional.normalize(torch.randn(300, 3, generator=draw), dim=1)
    assert not torch.allclose(way.R, torch.eye(3, dtype=torch.float64))
    assert torch.allclose(turned.density(way.apply(x)), field.density(x), rtol=1e-3, atol=1e-4)
    turned_d = (d.double() @ way.R.T).float()
    assert torch.allclose(turned.color(way.apply(x), turned_d), field.color(x, d), atol=1e-4)


@pytest.mark.parametrize(
    ("out", "words"),
    [
        ("x.npz", "convert"),
        ("x.th", "convert --to tensorf"),
        ("x.ply", "fields are written as .safetensors"),
        ("x.ckpt", "choose"),
    ],
)
def test_what_a_format_does_not_hold_is_said(out: str, words: str, tmp_path: Path, capsys) -> None:
    save_field(build_field("ngp", TCNN), tmp_path / "own.safetensors")
    assert main(["export", str(tmp_path / "own.safetensors"), "-o", str(tmp_path / out)]) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
    assert not (tmp_path / out).exists()


def test_what_only_the_occupancy_grid_hides_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A nerfacto has no such grid."""
    config = NgpConfig(4, log2_size=8, max_resolution=32, convention="nerfstudio", bias=True)
    said = {}
    for name, raw in {"foggy": 0.0, "clear": -30.0}.items():
        field = build_field("ngp", config)
        assert isinstance(field.branch, HashBranch)
        with torch.no_grad():
            field.branch.density_net.biases[-1][0] = raw
        field.occupancy = torch.zeros_like(field.occupancy)
        save_field(field, tmp_path / f"{name}.safetensors")
        source, out = tmp_path / f"{name}.safetensors", tmp_path / name / "config.yml"
        assert main(["export", str(source), "-o", str(out)]) == 0
        said[name] = capsys.readouterr().err
    assert "the file looks foggy" in said["foggy"] and "foggy" not in said["clear"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("contracted", "this field is contracted: keep it as .safetensors"),
        ("turned", "this field is turned against them"),
        ("linear", "hold sRGB colours, not linear ones"),
    ],
)
def test_what_a_format_does_not_hold_of_the_scene_is_said_before_the_training(
    change: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.manual_seed(0)
    source = build_field("ngp", NgpConfig(4, log2_size=8, max_resolution=32))
    if change == "contracted":
        source.contraction = "linf"
    elif change == "turned":
        source.world_from_field[:3, :3] = rotations(torch.tensor([0.0, 0.4, 0.0]).double())
    else:
        source.color_space = "linear"
    save_field(source, tmp_path / "a.safetensors")
    out = tmp_path / "b.th"
    code = main(["convert", str(tmp_path / "a.safetensors"), "--to", "tensorf", "-o", str(out)])
    said = capsys.readouterr().err
    assert code == 2 and words in said and "steps" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["a.safetensors"]
