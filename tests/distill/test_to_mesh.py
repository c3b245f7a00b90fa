"""Fields and splats made into meshes: where they lie, what they look like, how they are written."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from geodistill.cameras import Similarity, rotations
from geodistill.checks import InputError, UsageError
from geodistill.cli import main
from geodistill.convert.surface_splats import flat_splats
from geodistill.distill.meshes import SMALL, MeshConfig, check_config, to_mesh
from geodistill.geometry.fields.activations import SH_C0
from geodistill.geometry.manifold import open_edges
from geodistill.geometry.mesh import Mesh, components, corners, welded
from geodistill.geometry.mesh_files import load_mesh, save_mesh
from geodistill.geometry.splats import Splats, save_splats
from geodistill.geometry.surface import sample_surface, surface_points
from geodistill.metrics.fidelity import compare
from geodistill.shade.color import srgb_from_linear
from geodistill.shade.view import base_color
from geodistill.shade.viewable import viewable
from tests.geometry.solids import sphere
from tests.shape_fields import ShapeField, ball, pattern, ring, slab, union

TINY = MeshConfig(resolution=48, views=14, pixels=64, faces=1500, texture=128)
PLACED = Similarity(
    rotations(torch.tensor([0.3, -0.5, 0.8], dtype=torch.float64)),
    torch.tensor([100.0, -200.0, 50.0], dtype=torch.float64),
    3.0,
)


def shown(mesh: Mesh) -> tuple[Tensor, Tensor]:
    """Places spread over the surface and the colours that the mesh has there."""
    face, weights = sample_surface(mesh, 1500, 0)
    color, _ = base_color(mesh, face, weights.float())
    return surface_points(mesh, face, weights), srgb_from_linear(color)


def euler(mesh: Mesh) -> int:
    return int(welded(mesh).max()) + 1 - len(mesh.faces) * 3 // 2 + len(mesh.faces)


def volume(mesh: Mesh) -> float:
    a, b, c = (corners(mesh) - mesh.vertices.mean(0)).unbind(1)
    return float((torch.linalg.cross(a, b, dim=-1) * c).sum() / 6)


@pytest.mark.parametrize("frame", [Similarity.identity(), PLACED])
def test_a_coloured_ball(frame: Similarity) -> None:
    made = to_mesh(ShapeField(ball((0.1, 0, 0), 0.6), frame), TINY)
    assert open_edges(made) == 0 and euler(made) == 2 and len(made.faces) <= 1510
    assert volume(made) == pytest.approx(4 / 3 * torch.pi * (0.6 * frame.s) ** 3, rel=0.05)
    places, color = shown(made)
    local = frame.inverse().apply(places)
    assert float(ball((0.1, 0, 0), 0.6)(local).abs().max()) < 0.03
    error = (color - pattern(local)).abs()
    assert float(error.mean()) < 0.03 and float(error.quantile(0.99)) < 0.12


def test_a_ring_with_a_pattern() -> None:
    shape = ring(0.55, 0.2)
    made = to_mesh(ShapeField(shape), TINY)
    assert open_edges(made) == 0 and euler(made) == 0
    places, color = shown(made)
    assert float(shape(places).abs().max()) < 0.04
    assert float((color - pattern(places)).abs().mean()) < 0.04


def test_two_things_and_a_floater() -> None:
    two = union(ball((-0.45, 0, 0), 0.35), ball((0.5, 0, 0.1), 0.25))
    scene = ShapeField(union(two, ball((0, 0, 0.8), 0.03)))
    made = to_mesh(scene, replace(TINY, specks=0.05))
    assert len(components(made).unique()) == 2 and open_edges(made) == 0
    assert float(two(made.vertices).max()) < 0.04


def test_a_thin_shell_stays_whole() -> None:
    plate = slab((0.7, 0.5, 0.025))
    made = to_mesh(ShapeField(plate, peak=4000.0), TINY)
    assert open_edges(made) == 0 and len(components(made).unique()) == 1 and euler(made) == 2
    inner = made.vertices[(made.vertices[:, :2].abs() < 0.4).all(1)]
    thick = inner[inner[:, 2] > 0, 2].mean() - inner[inner[:, 2] < 0, 2].mean()
    assert 0.03 < float(thick) < 0.08


def test_more_faces_carry_colours_at_vertices_unless_asked() -> None:
    field = ShapeField(ball((0, 0, 0), 0.6))
    plain = to_mesh(field, replace(TINY, faces=40_000))
    assert plain.uv is None and plain.colors is not None and len(plain.faces) > 5000
    error = (plain.colors[:, :3].double() / 255 - pattern(plain.vertices)).abs()
    assert float(error.mean()) < 0.04
    assert to_mesh(field, replace(TINY, atlas=False)).materials == ()
    asked = to_mesh(field, replace(TINY, faces=40_000, atlas=True))
    assert asked.uv is not None and asked.materials and len(asked.faces) == len(plain.faces)


def test_decimation_keeps_the_shape() -> None:
    field = ShapeField(ball((0, 0, 0), 0.6))
    for faces, bound in ((3000, 0.02), (300, 0.03)):
        made = to_mesh(field, replace(TINY, faces=faces, atlas=False))
        assert len(made.faces) <= faces + 10 and open_edges(made) == 0
        places, _ = shown(made)
        assert float(ball((0, 0, 0), 0.6)(places).abs().max()) < bound


def test_the_same_twice() -> None:
    field = ShapeField(ball((0, 0, 0), 0.6))
    one, two, other = to_mesh(field, TINY), to_mesh(field, TINY), to_mesh(field, TINY, seed=1)
    assert torch.equal(one.vertices, two.vertices) and one.uv is not None and two.uv is not None
    assert torch.equal(one.uv, two.uv)
    texture, again = one.materials[0].texture, two.materials[0].texture
    assert texture is not None and again is not None and torch.equal(texture, again)
    assert one.vertices.shape != other.vertices.shape or not torch.equal(
        one.vertices, other.vertices
    )


def ball_of_splats() -> Splats:
    """A ball of radius 0.6 about (1, 0, -1), in the pattern's colours."""
    unit = sphere(5).vertices.float()
    places = 0.6 * unit
    sh = ((pattern(places) - 0.5) / SH_C0)[:, None]
    spacing = torch.full((len(unit),), 0.05)
    return flat_splats(places + torch.tensor([1.0, 0.0, -1.0]), unit, spacing, sh)


def test_splats_of_a_ball() -> None:
    made = to_mesh(ball_of_splats(), replace(TINY, pixels=128))
    assert open_edges(made) == 0 and euler(made) == 2 and volume(made) > 0
    places, color = shown(made)
    local = places - torch.tensor([1.0, 0.0, -1.0])
    assert float((local.norm(dim=1) - 0.6).abs().max()) < 0.05
    assert float((color - pattern(local)).abs().mean()) < 0.03


@pytest.mark.parametrize("name", ["ball.glb", "ball.obj", "ball.ply"])
def test_files_bring_the_texture_back(tmp_path: Path, name: str) -> None:
    made = to_mesh(ShapeField(ball((0, 0, 0), 0.6)), TINY)
    save_mesh(tmp_path / name, made)
    back = load_mesh(tmp_path / name)
    assert open_edges(back) == 0 and len(back.faces) == len(made.faces)
    assert torch.allclose(shown(back)[1], shown(made)[1], atol=0.01)
    report = compare(viewable(made), viewable(back), views=2, resolution=48).report
    assert report["psnr_db"] > 40


def test_unseen_faces_can_be_left_out() -> None:
    field = ShapeField(ball((0, 0, 0), 0.6))
    from geodistill.render.viewpoints import viewpoints

    around = viewpoints(viewable(field), 60, 64, 0)
    field.views = around[around.centers[:, 2] > 2.0]
    closed = to_mesh(field, TINY)
    shown_only = to_mesh(field, replace(TINY, closed=False))
    assert open_edges(closed) == 0 and open_edges(shown_only) > 0
    assert len(shown_only.faces) < len(closed.faces)


def test_what_meshes_cannot_be_made_of() -> None:
    with pytest.raises(InputError, match="there is no surface to make a mesh of"):
        to_mesh(ShapeField(ball((0, 0, 0), -1.0)), TINY)
    with pytest.raises(InputError, match="there is no surface to make a mesh of"):
        to_mesh(ShapeField(ball((0, 0, 0), 0.6), peak=0.1), TINY)
    linear = ShapeField(ball((0, 0, 0), 0.6))
    linear.color_space = "linear"
    with pytest.raises(InputError, match="a mesh holds sRGB colours, this field linear ones"):
        to_mesh(linear, TINY)


@pytest.mark.parametrize(
    "config, message",
    [
        (MeshConfig(resolution=8), "'resolution' must be from 16 to 512, got 8"),
        (MeshConfig(resolution=513), "'resolution' must be from 16 to 512, got 513"),
        (MeshConfig(views=0), "'views' must be from 1"),
        (MeshConfig(faces=3), "'faces' must be from 4"),
        (MeshConfig(texture=10**6), "'texture' must be from 16 to 8192"),
        (MeshConfig(specks=2.0), "'specks' must lie between 0 and 1"),
        (MeshConfig(views=1000, pixels=1600), "must have at most 30,000,000 pixels together"),
    ],
)
def test_settings_out_of_range(config: MeshConfig, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        check_config(config)
    check_config(SMALL)
    check_config(MeshConfig())


# The command line

SETTINGS = ["resolution=64", "views=12", "pixels=100", "faces=2000", "texture=256"]
SET = [part for text in SETTINGS for part in ("--set", text)]


def test_the_bundled_field_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["convert", "--to", "mesh", *SET, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    made = load_mesh("bundled_mesh/mesh.glb")
    assert said["output"] == "bundled_mesh" and said["psnr_db"] > 20
    assert said["faces"] == len(made.faces) and said["open_edges"] == open_edges(made) == 0
    assert said["vertices"] == len(made.vertices) and made.materials[0].texture is not None
    assert Path(said["sheet"]).is_file()
    assert said["bytes"] == Path("bundled_mesh/mesh.glb").stat().st_size
    # A finished one stays, as everywhere.
    assert main(["convert", "--to", "mesh", *SET]) == 2
    assert "is finished: choose another -o" in capsys.readouterr().err


def test_splats_into_a_named_file_with_all_that_belongs_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save_splats("ball.ply", ball_of_splats())
    command = ["convert", "ball.ply", "--to", "mesh", *SET, "-o", "made.obj"]
    Path("made.mtl").write_text("of another")
    assert main(command) == 2
    assert "made.mtl exists" in capsys.readouterr().err
    Path("made.mtl").unlink()
    assert main([*command, "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    files = [Path(name) for name in ("made.obj", "made.mtl", "made_0.png")]
    assert said["bytes"] == sum(path.stat().st_size for path in files)
    made = load_mesh("made.obj")
    assert made.materials[0].texture is not None and open_edges(made) == 0
    assert Path("made.obj.run/DONE").is_file()


def test_wrong_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save_splats("ball.ply", ball_of_splats())
    save_mesh("solid.glb", sphere(2))
    Path("cloud.xyz").write_text("0 0 0\n1 1 1\n")
    before = sorted(path.name for path in tmp_path.iterdir())
    for arguments, code, message in (
        (["solid.glb"], 2, "solid.glb holds a mesh already: `export` writes it in"),
        (["cloud.xyz"], 2, "cloud.xyz holds points: meshes are made of fields and splats"),
        (["ball.ply", "--from", "ngp"], 2, "--from names an architecture of fields"),
        (["--from", "mlp"], 2, "the bundled field is ngp, not mlp"),
        (["--recipe", "pvd"], 2, "--recipe is for fields, a mesh is made without"),
        (["--steps", "5"], 2, "--steps is for training, a mesh is made without"),
        (["--budget", "5s"], 2, "--budget is for training, a mesh is made without"),
        (["--set", "resolution=9"], 2, "'resolution' must be from 16 to 512"),
        (["--set", "resolutions=9"], 2, "unknown key 'resolutions'"),
        (["-o", "x.stl"], 2, ".stl is not written"),
        (["-o", "x.safetensors"], 2, ".safetensors is not written"),
        (["ball.ply", "-o", "ball.ply"], 2, "ball.ply is what is to be converted"),
        (["nothing"], 1, "nothing"),
    ):
        assert main(["convert", *arguments, "--to", "mesh"]) == code, arguments
        assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_a_missing_package_is_said_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "xatlas", None)
    assert main(["convert", "--to", "mesh"]) == 1
    said = capsys.readouterr().err
    assert "pip install 'geodistill[mesh]'" in said and "--set atlas=false" in said
    assert not list(tmp_path.iterdir())
