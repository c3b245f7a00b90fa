"""Fitting a field to photographs: what the loss sees, what it learns, and that it repeats."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from scenes import AnalyticField, photograph, ring
from torch import Tensor

from geodistill import train as loop
from geodistill.cameras import Camera, Similarity
from geodistill.checks import InputError, UsageError
from geodistill.fit import bounds
from geodistill.fit import field as fitting
from geodistill.fit.field import FitJob, FitSettings, fit
from geodistill.geometry.fields import ARCHITECTURES, Field, build_field
from geodistill.geometry.fields.composite import CompositeConfig
from geodistill.geometry.fields.mlp import MlpConfig
from geodistill.geometry.fields.ngp import NgpConfig
from geodistill.geometry.fields.plenoxels import Plenoxels, PlenoxelsConfig
from geodistill.geometry.fields.tensorf import TensorfConfig, TensorfCpConfig
from geodistill.io.posed import Background, PosedImages
from geodistill.metrics.fidelity import psnr_to_images
from geodistill.runs import Run
from geodistill.train import Budget

NGP = NgpConfig(levels=4, log2_size=10, base_resolution=8, max_resolution=32, hidden=16)
VM = TensorfConfig(resolution=32, density_rank=4, color_rank=8, floor=0.0)
TINY = {
    "ngp": NGP,
    "tensorf": VM,
    "tensorf-cp": TensorfCpConfig(resolution=32, density_rank=8, color_rank=12),
    "plenoxels": PlenoxelsConfig(resolution=24),
    "mlp": MlpConfig(depth=3, width=32, octaves=3),
    "composite": CompositeConfig(NGP, VM),
}
QUICK = FitSettings(samples=1 << 12, step=1 / 32)


@pytest.fixture(scope="module")
def scene() -> AnalyticField:
    return AnalyticField()


@pytest.fixture(scope="module")
def photos(scene: AnalyticField) -> PosedImages:
    return photograph(scene, ring(16, 48))


@pytest.fixture(scope="module")
def carved(photos: PosedImages) -> tuple[Similarity, Tensor]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bounds, "OCCUPANCY_RESOLUTION", 32)
        return bounds.carve_scene(photos.cameras, photos.images[..., 3])


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, carved: tuple[Similarity, Tensor]) -> Iterator[None]:
    """A hull of large cells that is carved once, and a short warm-up."""
    monkeypatch.setattr(fitting, "carve_scene", lambda *_: (carved[0], carved[1].clone()))
    monkeypatch.setattr(fitting, "WARMUP_STEPS", 4)
    yield


@pytest.fixture
def in_place(monkeypatch: pytest.MonkeyPatch, scene: AnalyticField) -> None:
    """The job finds the scene where the scene itself has it, so that the scene can be fitted."""

    def unit(*_: Any) -> tuple[Similarity, Tensor]:
        still = Similarity(torch.eye(3).double(), torch.zeros(3).double())
        return still, scene.occupancy.clone()

    monkeypatch.setattr(fitting, "carve_scene", unit)
    monkeypatch.setattr(fitting, "open_scene", unit)


# -- what the loss sees ----------------------------------------------------------------------


def first_psnr(field: Field, data: PosedImages, background: Background = "auto") -> float:
    """PSNR in dB of the first batch of training rays."""
    _, metrics = FitJob(field, data, FitSettings(background=background)).loss(0, 0.0)
    return metrics["psnr_db"]


def as_float(photos: PosedImages) -> PosedImages:
    return replace(photos, images=photos.images.float() / 255)


def as_exr(photos: PosedImages) -> PosedImages:
    """The same pictures as an EXR holds them: float, premultiplied, linear."""
    pixels = photos.images.float() / 255
    images = torch.cat([pixels[..., :3] * pixels[..., 3:], pixels[..., 3:]], dim=-1)
    return replace(photos, images=images, color_space="linear")


@pytest.mark.usefixtures("in_place")
@pytest.mark.parametrize("form", [lambda p: p, as_float, as_exr], ids=["png", "16 bit", "exr"])
def test_the_scene_itself_explains_its_photographs(
    form: Any, scene: AnalyticField, photos: PosedImages
) -> None:
    data = form(photos)
    assert first_psnr(copy.deepcopy(scene), data) > 42
    wrong = copy.deepcopy(scene)
    wrong.peak = 8.0
    assert first_psnr(wrong, data) < 30


@pytest.mark.usefixtures("in_place")
def test_highlights_of_exr_images_count_as_one(scene: AnalyticField, photos: PosedImages) -> None:
    bright = as_exr(photos)
    bright.images[..., :3] *= 3.0
    cut = replace(bright, images=bright.images.clamp(max=1.0))
    solid = cut.images[..., 3:] == 1
    bright = replace(bright, images=torch.where(solid, bright.images, cut.images))
    assert float(bright.images.max()) > 1.5
    assert first_psnr(copy.deepcopy(scene), bright) == first_psnr(copy.deepcopy(scene), cut)


@pytest.mark.usefixtures("in_place")
@pytest.mark.parametrize(("background", "grey"), [("white", 1.0), ("black", 0.0), ("scene", 0.0)])
def test_pictures_without_alpha_are_seen_on_their_background(
    background: Background, grey: float, scene: AnalyticField, photos: PosedImages
) -> None:
    painted = (photos.composite(photos.images, grey) * 255).round().to(torch.uint8)
    data = replace(photos, images=painted)
    assert first_psnr(copy.deepcopy(scene), data, background) > 42
    other: Background = "white" if grey == 0 else "black"
    assert first_psnr(copy.deepcopy(scene), data, other) < 20


@pytest.mark.usefixtures("in_place")
def test_lenses_bend_the_training_rays(scene: AnalyticField, photos: PosedImages) -> None:
    """The pictures are a pinhole's: through another lens the scene does not explain them."""
    cameras = photos.cameras
    lens = torch.tensor([[0.3, 0.0, 0.0, 0.0]]).expand(len(cameras), 4)
    bent = replace(photos, cameras=Camera(cameras.K, cameras.world_from_cam, cameras.size, lens))
    assert first_psnr(copy.deepcopy(scene), bent) < 35


def test_pictures_without_alpha_need_a_stated_background(photos: PosedImages) -> None:
    data = replace(photos, images=photos.images[..., :3])
    with pytest.raises(InputError, match=r"no alpha channel.*--background white or black"):
        fit(data, "tensorf", VM, Budget(steps=1), QUICK)


@pytest.mark.parametrize("background", ["white", "black", "scene"])
def test_pictures_with_alpha_refuse_a_background(
    photos: PosedImages, background: Background
) -> None:
    with pytest.raises(UsageError, match=f"leave out --background {background}"):
        fit(photos, "tensorf", VM, Budget(steps=1), replace(QUICK, background=background))


def test_masks_that_agree_on_nothing_are_an_error(photos: PosedImages) -> None:
    images = photos.images.clone()
    images[..., 3] = 0
    with pytest.raises(InputError, match="alpha channel"):
        fit(replace(photos, images=images), "tensorf", VM, Budget(steps=1), QUICK)


# -- what is learnt --------------------------------------------------------------------------


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_the_first_step_moves_every_parameter(architecture: str, photos: PosedImages) -> None:
    field = build_field(architecture, TINY[architecture])
    job = FitJob(field, photos, QUICK)
    job.loss(0, 0.0)[0].backward()
    still = [name for name, p in field.named_parameters() if p.grad is None or not p.grad.any()]
    assert still == []
    if isinstance(field, Plenoxels):  # whose one parameter holds both density and colour
        assert field.values.grad is not None
        assert field.values.grad[:, 0].any() and field.values.grad[:, 1:].any()


@pytest.mark.usefixtures("quick")
def test_a_short_fit_raises_the_psnr_on_unseen_views(
    scene: AnalyticField, photos: PosedImages, carved: tuple[Similarity, Tensor]
) -> None:
    unseen = photograph(scene, ring(4, 32, seed=5))
    start = build_field("tensorf", VM)
    start.world_from_field, start.occupancy = carved[0].matrix(), carved[1]
    field = fit(photos, "tensorf", VM, Budget(steps=160), QUICK)
    assert psnr_to_images(field, unseen) > psnr_to_images(start, unseen) + 4.0
    torch.testing.assert_close(field.world_from_field, carved[0].matrix())
    assert not (field.occupancy & ~carved[1]).any()
    assert field.views is photos.cameras and field.color_space == "srgb"


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("architecture", list(ARCHITECTURES))
def test_every_architecture_ends_at_its_full_resolution(
    architecture: str, photos: PosedImages
) -> None:
    field = fit(photos, architecture, TINY[architecture], Budget(steps=2), QUICK)
    lines = {p.shape[0] for name, p in field.named_parameters() if "lines" in name}
    assert lines <= {32}
    if isinstance(field, Plenoxels):
        assert field.links.shape == (24, 24, 24)
    assert all(p.isfinite().all() for p in field.parameters())


# -- the occupancy grid ----------------------------------------------------------------------


def refreshed(field: Field, data: PosedImages) -> FitJob:
    """A job after its first refreshes of the occupancy grid, and no training."""
    job = FitJob(field, data, QUICK)
    for step in range(fitting.PRUNE_AFTER + 1):
        job.before(step, 0.0)
    return job


class Solid(AnalyticField):
    """Opaque in half of its cube."""

    def sigma(self, u: Tensor) -> Tensor:
        return 500.0 * (u[:, 0] < 0)


@pytest.mark.usefixtures("in_place")
def test_dense_cells_survive_the_first_pruning_and_empty_ones_do_not(
    photos: PosedImages,
) -> None:
    job = refreshed(Solid(), photos)
    left = torch.zeros_like(job.hull)
    left[:64] = True
    lost = job.hull & left & ~job.field.occupancy
    assert lost.sum() == 0
    assert (job.field.occupancy & ~left).sum() < 0.5 * (job.hull & ~left).sum()
    assert not (job.field.occupancy & ~job.hull).any()


@pytest.mark.usefixtures("quick")
def test_a_field_that_is_still_thin_everywhere_is_not_pruned_to_nothing(
    photos: PosedImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refresh looks at a quarter of the cells: some stay unknown for a while, none for ever."""
    field = build_field("tensorf", replace(VM, floor=-6.0))
    job = FitJob(field, photos, QUICK)
    monkeypatch.setattr(fitting, "OCCUPANCY_CELLS", int(job.hull.sum()) // 4)
    for step in range(0, 4 * fitting.PRUNE_AFTER, fitting.OCCUPANCY_EVERY):
        job.before(step, 0.0)
        assert field.occupancy.sum() > 0.1 * job.hull.sum(), step


@pytest.mark.usefixtures("quick")
def test_empty_space_is_kept_empty_without_the_grid(photos: PosedImages) -> None:
    """The loss notices density outside the occupancy, which no ray can see."""
    dense = build_field("tensorf", replace(VM, floor=3.0))
    clear = build_field("tensorf", replace(VM, floor=-8.0))
    losses = []
    for field in (dense, clear):
        job = FitJob(field, photos, replace(QUICK, free_weight=1e3))
        field.occupancy = torch.zeros_like(field.occupancy)
        losses.append(float(job.loss(0, 0.0)[0].detach()))
    assert losses[0] > 500 and losses[1] < 5


@pytest.mark.usefixtures("quick")
def test_a_density_without_bounds_is_drawn_back(photos: PosedImages) -> None:
    """Where a ray sees all or nothing of each cell, images have no say any more."""
    field = build_field("tensorf", replace(VM, floor=30.0))
    grads = []
    for weight in (0.0, 1e-3):
        job = FitJob(field, photos, replace(QUICK, free_weight=0.0, thickness_weight=weight))
        loss, _ = job.loss(0, 0.0)
        lines = list(field.branch.density_lines)
        grads.append(max(float(g.abs().max()) for g in torch.autograd.grad(loss, lines)))
    assert grads[0] < 1e-9 and grads[1] > 1e-5


# -- repeating -------------------------------------------------------------------------------


def tensors(field: Field) -> dict[str, Tensor]:
    return {**dict(field.named_parameters()), **dict(field.named_buffers())}


def assert_equal(a: Field, b: Field) -> None:
    ours, theirs = tensors(a), tensors(b)
    assert list(ours) == list(theirs)
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


@pytest.fixture
def early(monkeypatch: pytest.MonkeyPatch) -> None:
    """Occupancy is refreshed and pruned within two dozen steps."""
    monkeypatch.setattr(fitting, "OCCUPANCY_EVERY", 4)
    monkeypatch.setattr(fitting, "PRUNE_AFTER", 8)
    monkeypatch.setattr(fitting, "OCCUPANCY_CELLS", 1 << 12)


@pytest.mark.usefixtures("quick", "early")
@pytest.mark.parametrize("architecture", ["tensorf", "ngp", "plenoxels"])
def test_a_fit_is_a_function_of_its_seed(architecture: str, photos: PosedImages) -> None:
    def run(seed: int) -> Field:
        settings = replace(QUICK, seed=seed)
        return fit(photos, architecture, TINY[architecture], Budget(steps=12), settings)

    first, again, other = run(1), run(1), run(2)
    assert_equal(first, again)
    a, b = next(first.parameters()), next(other.parameters())
    assert a.shape != b.shape or not torch.equal(a, b)


class Interrupted(Exception):
    pass


@pytest.mark.usefixtures("quick", "early")
@pytest.mark.parametrize("architecture", ["tensorf", "tensorf-cp", "ngp", "plenoxels"])
@pytest.mark.parametrize("killed_at", [1, 15])
def test_an_interrupted_fit_goes_on_to_the_same_bits(
    architecture: str,
    killed_at: int,
    photos: PosedImages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After the first step, in the coarsest stage; and after growing and pruning."""
    config = TINY[architecture]
    whole = fit(photos, architecture, config, Budget(steps=20), QUICK)
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)  # after every step
    honest = FitJob.loss

    def interrupted(self: FitJob, step: int, progress: float) -> Any:
        if step == killed_at:
            raise Interrupted
        return honest(self, step, progress)

    with monkeypatch.context() as patch:
        patch.setattr(FitJob, "loss", interrupted)
        run = Run.open(tmp_path / "run", "fit", {})
        with pytest.raises(Interrupted):
            fit(photos, architecture, config, Budget(steps=20), QUICK, run)
        run.close()
    run = Run.open(tmp_path / "run", "fit", {})
    resumed = fit(photos, architecture, config, Budget(steps=20), QUICK, run)
    run.close()
    assert_equal(resumed, whole)
