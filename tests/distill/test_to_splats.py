"""Fields, meshes and points made into splats: where they lie, what they look like, how they run."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from geodistill.checks import InputError, UsageError
from geodistill.cli import main
from geodistill.convert.surface_splats import flat_splats, splats_on_mesh, splats_on_points
from geodistill.distill.splats import SplatConfig, to_splats
from geodistill.geometry.mesh import Mesh
from geodistill.geometry.mesh_files import save_mesh
from geodistill.geometry.points import Points
from geodistill.geometry.splats import load_splats, rotation_matrices
from geodistill.metrics.fidelity import compare
from geodistill.runs import Run
from geodistill.shade.viewable import viewable
from geodistill.train import Budget
from tests.geometry.solids import sphere

SMALL = SplatConfig(spacing=0.06, count=2500, rays=8000, views=10, resolution=64)


def ball() -> Mesh:
    """A sphere of radius 2 away from the origin, coloured by where its surface looks."""
    unit = F.normalize(sphere(4).vertices, dim=1)
    colors = torch.cat([(unit + 1) * 127, torch.full((len(unit), 1), 255.0)], dim=1)
    center = torch.tensor([5.0, -1.0, 2.0], dtype=torch.float64)
    return Mesh(center + 2 * unit, sphere(4).faces, colors=colors.to(torch.uint8))


def test_discs_lie_across_their_normals() -> None:
    draw = torch.Generator().manual_seed(0)
    normals = F.normalize(torch.randn(50, 3, generator=draw), dim=1)
    normals[:3] = torch.tensor([[0.0, 0, 1], [0, 0, -1], [0, 0, 0]])
    made = flat_splats(torch.zeros(50, 3), normals, torch.full((50,), 0.5), torch.zeros(50, 1, 3))
    axes = rotation_matrices(made.rotations)[:, :, 2]
    apart = (axes * normals).sum(1).abs()
    assert float(apart[[0, 1, *range(3, 50)]].min()) > 1 - 1e-5
    scales = made.log_scales.exp()
    assert bool((scales[:, 2] < scales[:, 0] / 2).all())


def test_splats_of_a_mesh_lie_on_it_in_its_colours() -> None:
    made = splats_on_mesh(ball(), 3000, 0)
    center = torch.tensor([5.0, -1.0, 2.0])
    away = (made.means - center).norm(dim=1)
    assert float((away - 2).abs().max()) < 0.02
    shown = 0.5 + 0.28209479177387814 * made.sh[:, 0]
    wanted = ((made.means - center) / 2 + 1) * 127 / 255
    assert float((shown - wanted).abs().max()) < 0.03


def test_points_without_normals_become_balls() -> None:
    draw = torch.Generator().manual_seed(0)
    made = splats_on_points(Points(torch.rand(200, 3, generator=draw).double()))
    assert torch.equal(made.log_scales[:, 0], made.log_scales[:, 2])


def test_points_with_normals_look_like_their_surface() -> None:
    shape = ball()
    assert shape.colors is not None
    normals = F.normalize(shape.vertices - shape.vertices.mean(0), dim=1).float()
    made = to_splats(Points(shape.vertices, shape.colors, normals), SMALL)
    assert len(made) == len(shape.vertices) and made.degree == 2
    report = compare(viewable(shape), viewable(made), views=4, resolution=128).report
    assert report["psnr_db"] > 19 and report["opacity_iou"] > 0.9


def test_training_brings_them_near() -> None:
    scene = ball()
    config = replace(SMALL, resolution=128)
    few, many = (to_splats(scene, config, Budget(steps=steps)) for steps in (1, 120))
    scores = [
        compare(viewable(scene), viewable(made), views=4, resolution=128).report["psnr_db"]
        for made in (few, many)
    ]
    assert scores[1] > scores[0] + 2 and scores[1] > 22
    assert len(many) == 2500 and many.degree == 2


def test_an_interrupted_run_ends_with_the_same_bits(tmp_path: Path) -> None:
    whole = to_splats(ball(), SMALL, Budget(steps=12))

    class Stop(Exception):
        pass

    from geodistill.fit import splats as fitting

    real, calls = fitting.SplatJob.loss, []

    def failing(self, step, progress):
        calls.append(step)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return real(self, step, progress)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("geodistill.train.CHECKPOINT_SECONDS", 0.0)
        patch.setattr(fitting.SplatJob, "loss", failing)
        with (
            pytest.raises(KeyboardInterrupt),
            Run.open(tmp_path / "r", "convert", {"a": 1}) as opened,
        ):
            to_splats(ball(), SMALL, Budget(steps=12), run=opened)
    with Run.open(tmp_path / "r", "convert", {"a": 1}) as opened:
        assert opened.resumed
        again = to_splats(ball(), SMALL, Budget(steps=12), run=opened)
    for name in ("means", "rotations", "log_scales", "opacity_logits", "sh"):
        assert torch.equal(getattr(again, name), getattr(whole, name)), name


def test_the_bundled_field_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = ["rays=20000", "views=8", "resolution=160", "spacing=0.03"]
    command = ["convert", "--to", "splats", "--steps", "30", "-o", "b.spz", "--json"]
    assert main([*command, *(part for text in settings for part in ("--set", text))]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["psnr_db"] > 20 and said["splats"] == len(load_splats("b.spz"))
    assert Path(said["sheet"]).is_file() and said["bytes"] == Path("b.spz").stat().st_size


def test_a_mesh_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    save_mesh("ball.glb", ball())
    settings = ["count=500", "views=4", "resolution=48"]
    command = ["convert", "ball.glb", "--to", "splats", "--steps", "5", "--json"]
    assert main([*command, *(part for text in settings for part in ("--set", text))]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["output"] == "ball_splats" and len(load_splats("ball_splats/splats.ply")) == 500
    before = sorted(path.name for path in tmp_path.iterdir())
    for arguments, code, message in (
        (["ball.glb", "--to", "splats", "--recipe", "pvd"], 2, "--recipe is for fields"),
        (["ball.glb", "--to", "splats", "--from", "ngp"], 2, "--from names an architecture"),
        (["ball.glb", "--to", "splats", "--set", "spacing=9"], 2, "'spacing' must lie between"),
        (["ball.glb", "--to", "splats", "--set", "size=9"], 2, "unknown key 'size'"),
        (["ball.glb", "--to", "splats", "-o", "x.npz"], 2, ".npz is not written"),
        (["ball.glb", "--to", "splats", "-o", "config.yml"], 2, "`export` its splats to config"),
        (["ball_splats/splats.ply", "--to", "splats"], 2, "holds splats already"),
    ):
        assert main(["convert", *arguments]) == code
        assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == before


def test_what_splats_cannot_be_made_of() -> None:
    from tests.scenes import AnalyticField

    field = AnalyticField()
    field.color_space = "linear"
    with pytest.raises(InputError, match="splats hold sRGB colours"):
        to_splats(field, SMALL)
    with pytest.raises(UsageError, match="'degree' must be from 0 to 3"):
        to_splats(ball(), SplatConfig(degree=4))
