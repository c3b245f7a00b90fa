"""Splats fitted to posed images: what they learn, that they repeat, and what is refused."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from geodistill.checks import InputError, UsageError
from geodistill.cli import main
from geodistill.fit import posed_splats as fitting
from geodistill.fit.densify.adaptive import Adaptive
from geodistill.fit.densify.mcmc import Mcmc
from geodistill.fit.posed_splats import SplatFitJob, SplatFitSettings, fit_splats, start_of
from geodistill.fit.splat_config import SplatFitConfig, StrategyName, check_config
from geodistill.fit.starts import frame_of
from geodistill.geometry.points import Points
from geodistill.geometry.splats import Splats, load_splats, transformed
from geodistill.io.clouds import write_cloud
from geodistill.io.posed import PosedImages
from geodistill.metrics.fidelity import psnr_to_images
from geodistill.render.splats import project
from geodistill.runs import Run
from geodistill.shade.viewable import viewable
from geodistill.train import Budget
from tests.fit.splat_worlds import PLACE, known_splats, pictures, views
from tests.io.layouts import scene, write_colmap_binary

pytestmark = pytest.mark.usefixtures("coarse_hulls")
FIELDS = ("means", "rotations", "log_scales", "opacity_logits", "sh")
QUICK = SplatFitConfig(
    start=100,
    degree=1,
    default=Adaptive(start=0.1, every=0.02, steps=4, gradient=5e-5, reset_every=0.2, reset_steps=8),
    mcmc=Mcmc(start=0.1, every=0.02, steps=4),
)


@pytest.fixture(scope="module")
def photos() -> PosedImages:
    return pictures(known_splats(), views(10, 32))


def near(splats: Splats, count: int = 150) -> Points:
    """Where the known splats are, without their colours: as a reconstruction has it."""
    draw = torch.Generator().manual_seed(1)
    noise = 0.02 * torch.randn(count, 3, generator=draw, dtype=torch.float64)
    return Points(splats.means.double() + noise)


# What it learns


@pytest.mark.parametrize("strategy", ["default", "mcmc"])
def test_a_known_scene_is_found_again(strategy: StrategyName, photos: PosedImages) -> None:
    known = known_splats()
    held_out = pictures(known, views(3, 32, seed=5))
    settings = SplatFitSettings(strategy, max_splats=300)
    config = replace(QUICK, default=Adaptive(steps=20), mcmc=Mcmc(steps=20))
    scores = [
        psnr_to_images(
            viewable(fit_splats(photos, config, Budget(steps=n), settings, near(known))), held_out
        )
        for n in (1, 80)
    ]
    assert scores[1] > scores[0] + 3 and scores[1] > 17, scores


def test_the_result_lies_in_the_world_of_the_cameras(photos: PosedImages) -> None:
    """A scene that stands elsewhere, turned and larger, is fitted alike."""
    moved = replace(photos, cameras=PLACE.apply_camera(photos.cameras.to(dtype=torch.float64)))
    config = replace(QUICK, degree=0, default=Adaptive(start=1.0))
    here = fit_splats(photos, config, Budget(steps=12), points=near(known_splats()))
    points = Points(PLACE.apply(near(known_splats()).positions))
    there = fit_splats(moved, config, Budget(steps=12), points=points)
    scores = [
        psnr_to_images(viewable(splats), data) for splats, data in ((here, photos), (there, moved))
    ]
    assert scores[0] == pytest.approx(scores[1], abs=0.3)
    apart = (PLACE.inverse().apply(there.means.double()) - here.means).norm(dim=1)
    assert float(apart.median()) < 0.02


def job_of(data: PosedImages, config: SplatFitConfig = QUICK) -> SplatFitJob:
    settings = SplatFitSettings()
    return SplatFitJob(start_of(data, config, settings), data, config, settings)


def test_density_control_hears_of_shifts_of_projected_means() -> None:
    """By zeros that are added to them; the unit is half the picture, whose sides differ here."""
    data = pictures(known_splats(), replace(views(4, 32), size=(24, 32)))
    job, zeros = job_of(data), []

    def shifted(splats, camera, near):
        projected = project(splats, camera, near)
        zeros.append(torch.zeros_like(projected.means_px, requires_grad=True))
        return projected._replace(means_px=projected.means_px + zeros[-1])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fitting, "project", shifted)
        loss, _ = job.loss(0, 0.5)
    loss.backward()
    job._note()
    found, visible = job.density.sums["gradients"], job.density.sums["views"]
    wanted = zeros[0].grad * torch.tensor([16.0, 12.0])
    assert torch.allclose(found, wanted.norm(dim=1)) and float(found.max()) > 0
    assert not found[visible == 0].any()
    job._note()
    assert float(job.density.sums["views"].max()) == 1  # each step is told of once


def test_what_is_visible_is_in_a_tile(photos: PosedImages) -> None:
    job = SplatFitJob(
        start_of(photos, QUICK, SplatFitSettings()), photos, QUICK, SplatFitSettings()
    )
    with torch.no_grad():
        job.trained.parameters["means"][:50] += 100.0
    loss, _ = job.loss(0, 0.5)
    loss.backward()
    job._note()
    seen = job.density.sums["views"]
    assert not seen[:50].any() and float(seen[50:].mean()) > 0.9


def test_degrees_and_sizes_grow(photos: PosedImages, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "COARSEST_PX", 8)
    config = replace(QUICK, degree=3)
    job = job_of(photos, config)
    degrees, sizes = [], []
    for progress in (0.0, 0.06, 0.15, 0.25, 0.35, 0.9):
        loss, _ = job.loss(0, progress)
        loss.backward()
        grad = job.trained.parameters["more_sh"].grad
        assert grad is not None
        degrees.append(int(grad.abs().sum(dim=(0, 2)).count_nonzero()))
        job.trained.parameters["more_sh"].grad = None
        assert job._drawn is not None
        sizes.append(job._drawn[1].size[0])
    assert degrees == [0, 0, 3, 8, 15, 15] and sizes == [8, 16, 16, 32, 32, 32]
    small = SplatFitJob(job.trained.splats(), photos, replace(config, resolution=16), job.settings)
    assert small.data.cameras.size == (16, 16)
    assert small._factor(0.9) == 1 and small._factor(0.0) == 2


def test_each_round_shows_every_view_once(photos: PosedImages) -> None:
    job = SplatFitJob(
        start_of(photos, QUICK, SplatFitSettings()), photos, QUICK, SplatFitSettings()
    )
    rounds = [[job._view(10 * i + step) for step in range(10)] for i in range(3)]
    assert all(sorted(views) == list(range(10)) for views in rounds)
    assert rounds[0] != rounds[1]


# That it repeats


@pytest.mark.parametrize(("strategy", "calls"), [("default", 7), ("default", 9), ("mcmc", 9)])
def test_an_interrupted_run_ends_with_the_same_bits(
    strategy: StrategyName, calls: int, photos: PosedImages, tmp_path: Path
) -> None:
    """Between two changes, and right at one: rows have changed before, and change after."""
    settings = SplatFitSettings(strategy)

    def fitted(run: Run | None) -> Splats:
        return fit_splats(photos, QUICK, Budget(steps=20), settings, run=run)

    whole, real, made = fitted(None), SplatFitJob.loss, []
    counts: list[int] = []

    def failing(self, step, progress):
        made.append(step)
        counts.append(len(self.trained))
        if len(made) == calls:
            raise KeyboardInterrupt
        return real(self, step, progress)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("geodistill.train.CHECKPOINT_SECONDS", 0.0)
        patch.setattr(SplatFitJob, "loss", failing)
        with pytest.raises(KeyboardInterrupt), Run.open(tmp_path / "r", "fit", {"a": 1}) as opened:
            fitted(opened)
    assert counts[0] != counts[-2] != len(whole)  # the checkpoint's
    with Run.open(tmp_path / "r", "fit", {"a": 1}) as opened:
        assert opened.resumed
        again = fitted(opened)
    for name in FIELDS:
        assert torch.equal(getattr(again, name), getattr(whole, name)), name


# Starts and refusals


def test_it_starts_on_points_where_there_are_some(photos: PosedImages) -> None:
    known, settings = known_splats(), SplatFitSettings(max_splats=100)
    frame, config = frame_of(photos.cameras), replace(QUICK, start=200)
    made = transformed(start_of(photos, config, SplatFitSettings(), near(known)), frame)
    assert torch.allclose(made.means, near(known).positions.float(), atol=1e-5)
    assert len(start_of(photos, config, settings, near(known))) == 100
    assert len(start_of(photos, QUICK, SplatFitSettings(), near(known)[:3])) == QUICK.start
    far = near(known).positions.clone()
    far[[3, 70]] = torch.tensor([[1e300, 0, 0], [0, 0, -1e9]], dtype=torch.float64)
    made = start_of(photos, config, SplatFitSettings(), Points(far))
    assert len(made) == 148 and float(made.means.abs().max()) < 1
    assert len(start_of(photos, QUICK, SplatFitSettings(), Points(far[[3]]))) == QUICK.start


def test_what_cannot_be_fitted(photos: PosedImages) -> None:
    with pytest.raises(InputError, match="splats hold sRGB colours, these pictures linear ones"):
        fit_splats(replace(photos, color_space="linear"), QUICK, Budget(steps=1))
    bent = replace(photos.cameras, distortion=torch.full((10, 4), 0.1))
    with pytest.raises(UsageError, match="this one's lens distorts"):
        fit_splats(
            replace(photos, cameras=bent), QUICK, Budget(steps=1), points=near(known_splats())
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": 3}, "'start' must be from 16 to 10,000,000, got 3"),
        ({"degree": 4}, "'degree' must be from 0 to 3, got 4"),
        ({"ssim": float("nan")}, "'ssim' must be from 0 to 1, got nan"),
        ({"default": Adaptive(gradient=-1)}, "'default.gradient' must be from 0"),
        ({"mcmc": Mcmc(opacity=1.0)}, "'mcmc.opacity' must be from 0.01 to 0.99"),
    ],
)
def test_settings_that_make_no_sense(changes: dict, message: str) -> None:
    check_config(SplatFitConfig())
    with pytest.raises(UsageError, match=message):
        check_config(replace(SplatFitConfig(), **changes))


# The command line


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of nerfstudio's layout with points beside it, on white."""
    from geodistill.io.images import write_png
    from tests.faults.worlds import FLIP_YZ

    place = tmp_path_factory.mktemp("data")
    data = pictures(known_splats(), views(10, 32), alpha=False)
    (place / "images").mkdir()
    frames = []
    for i in range(10):
        write_png(place / "images" / f"{i}.png", data.images[i])
        opengl = data.cameras.world_from_cam[i].double() @ FLIP_YZ
        frames.append({"file_path": f"images/{i}.png", "transform_matrix": opengl.tolist()})
    focal = float(data.cameras.K[0, 0, 0])
    lens = {"fl_x": focal, "fl_y": focal, "cx": 16, "cy": 16, "w": 32, "h": 32}
    table = {**lens, "ply_file_path": "sparse_pc.ply", "frames": frames}
    (place / "transforms.json").write_text(json.dumps(table))
    write_cloud(place / "sparse_pc.ply", {"positions": near(known_splats()).positions.numpy()})
    return place


def fit(*arguments: object) -> int:
    return main(["fit", *map(str, arguments)])


def test_the_command_line(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    common = [folder, "--as", "splats", "--background", "white", "--steps", 20, "--json"]
    assert fit(*common, "-o", tmp_path / "run") == 0
    said = json.loads(capsys.readouterr().out)
    made = load_splats(tmp_path / "run" / "splats.ply")
    assert said["splats"] == len(made) == 150 and said["parameters"] == made.parameter_count()
    assert said["bytes"] == (tmp_path / "run" / "splats.ply").stat().st_size
    assert said["test_psnr_db"] > 10 and said["seconds"] > 0
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names >= {"DONE", "config.yaml", "env.json", "splats.ply"}
    out = tmp_path / "s.spz"
    assert (
        fit(*common, "-o", out, "--strategy", "mcmc", "--max-splats", 100, "--size", "small") == 0
    )
    assert json.loads(capsys.readouterr().out)["splats"] == 100 == len(load_splats(out))
    assert fit("--config", tmp_path / "run" / "config.yaml", "-o", tmp_path / "again") == 0
    again = tmp_path / "again" / "splats.ply"
    assert again.read_bytes() == (tmp_path / "run" / "splats.ply").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--as", "ngp", "--strategy", "mcmc"], 2, "--strategy is for --as splats"),
        (["--as", "ngp", "--max-splats", "99"], 2, "--max-splats is for --as splats"),
        (["--as", "splats", "--max-splats", "0"], 2, "'--max-splats' must be from 16"),
        (["--as", "splats", "--strategy", "mmc"], 2, "--strategy"),
        (["--as", "splats", "--set", "start=1"], 2, "'start' must be from 16"),
        (["--as", "splats", "--set", "default.gradients=1"], 2, "unknown key"),
        (["--as", "splats", "--set", "mcmc.noise=1"], 2, "is of --strategy mcmc, this is default"),
        (["--as", "splats", "-o", "x.safetensors"], 2, "is not written"),
        (["--as", "splats", "-o", "x.ksplat"], 2, "is not written"),
        (["--as", "splats", "-o", "config.yml"], 2, "name a folder, and `export` its splats"),
        (["--as", "splats"], 1, "have no alpha channel"),
    ],
)
def test_bad_requests(
    arguments: list[str],
    code: int,
    message: str,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    output = [] if "-o" in arguments else ["-o", "out"]
    assert fit(folder, *arguments, *output, "--steps", 1) == code
    error = capsys.readouterr().err
    assert message in error and len(error.strip().splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_points_that_are_missing_are_named(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    shutil.copytree(folder, tmp_path / "data")
    (tmp_path / "data" / "sparse_pc.ply").unlink()
    common = ["--as", "splats", "--background", "white", "--steps", 1, "-o", tmp_path / "o"]
    assert fit(tmp_path / "data", *common) == 1
    assert "sparse_pc.ply, which do not exist" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_colmap_with_a_lens_that_distorts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A coloured plane with its points: the lens is undone for training and for the verdict."""
    write_colmap_binary(tmp_path / "data", scene("distorted"))
    draw = torch.Generator().manual_seed(0)
    places = (torch.rand(200, 2, generator=draw, dtype=torch.float64) * 4 - 2).tolist()
    records = [struct.pack("<Q3d3BdQ", 1, x, y, 0.0, 99, 99, 99, 0.0, 0) for x, y in places]
    file = tmp_path / "data/sparse/0/points3D.bin"
    file.write_bytes(struct.pack("<Q", 200) + b"".join(records))
    common = ["--as", "splats", "--background", "scene", "--steps", 150, "--json"]
    assert fit(tmp_path / "data", *common, "-o", tmp_path / "o") == 0
    assert json.loads(capsys.readouterr().out)["test_psnr_db"] > 20
