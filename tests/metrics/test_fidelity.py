"""Fidelity reports: perfect for a field and itself, worse the more one of them is displaced."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from scenes import AnalyticField, photograph, ring

from geodistill.cameras import Similarity
from geodistill.checks import InputError
from geodistill.geometry.fields import Field
from geodistill.io.images import read_image
from geodistill.io.posed import Background, PosedImages
from geodistill.metrics.fidelity import compare, compare_on_views, psnr_to_images, shown_on
from geodistill.metrics.image import mean_psnr
from geodistill.runs import jsonable

VIEWS, SIDE = 5, 32


@pytest.fixture(scope="module")
def scene() -> AnalyticField:
    return AnalyticField()


@pytest.fixture(scope="module")
def photos(scene: AnalyticField) -> PosedImages:
    return photograph(scene, ring(4, SIDE))


def displaced(field: Field, by: float) -> Field:
    out = copy.deepcopy(field)
    shift = Similarity(torch.eye(3).double(), torch.tensor([by, 0.6 * by, 0.0]).double())
    out.world_from_field = shift.matrix()
    return out


def test_a_field_is_perfectly_faithful_to_itself(scene: AnalyticField) -> None:
    report = compare(scene, copy.deepcopy(scene), VIEWS, SIDE).report
    assert report["psnr_db"] == math.inf
    assert report["ssim"] == pytest.approx(1.0)
    assert (report["opacity_iou"], report["depth_error"]) == (1.0, 0.0)
    assert (report["views"], report["parameters"]) == (VIEWS, 0)
    assert json.loads(json.dumps(jsonable(report), allow_nan=False))["psnr_db"] is None


def test_a_displacement_is_detected_and_more_of_it_is_worse(scene: AnalyticField) -> None:
    reports = [compare(scene, displaced(scene, by), VIEWS, SIDE).report for by in (0.02, 0.06, 0.2)]
    for key, better in (("psnr_db", 1), ("ssim", 1), ("opacity_iou", 1), ("depth_error", -1)):
        values = [better * report[key] for report in reports]
        assert values == sorted(values, reverse=True), key
        assert values[0] > values[-1], key
    assert reports[-1]["psnr_db"] < 20 and reports[-1]["opacity_iou"] < 0.9
    assert reports[-1]["ssim"] < 0.9


def test_depth_error_is_relative_to_the_diagonal_of_the_cube() -> None:
    """Two opaque walls across the whole cube, one behind the other by a known distance."""

    class Wall(AnalyticField):
        def __init__(self, level: float) -> None:
            super().__init__()
            self.level = level
            self.occupancy = torch.ones(8, 8, 8, dtype=torch.bool)

        def latent(self, u: torch.Tensor) -> torch.Tensor:
            solid = (u.abs().amax(dim=1) < self.level).to(u)
            return torch.cat([1e4 * solid[:, None], u.new_full((len(u), 3), 0.5)], dim=1)

    a, b = Wall(0.9), Wall(0.9)
    for scale in (1.0, 3.0):
        size = torch.diag(torch.tensor([scale, scale, scale, 1.0], dtype=torch.float64))
        a.world_from_field = size
        b.world_from_field = size
        b.level = 0.8
        error = compare(a, b, 6, SIDE).report["depth_error"]
        # Seen straight on the gap is 0.1 of a diagonal of 2 sqrt 3, obliquely it is longer.
        assert 0.1 / (2 * math.sqrt(3)) < error < 0.2 / (2 * math.sqrt(3))


def test_the_report_is_a_function_of_the_seed(scene: AnalyticField) -> None:
    other = displaced(scene, 0.05)
    first, again, third = (compare(scene, other, 3, SIDE, seed=s).report for s in (1, 1, 2))
    del first["seconds"], again["seconds"]
    assert first == again
    assert first["psnr_db"] != third["psnr_db"]


def test_empty_scenes_are_alike_and_have_no_depth(scene: AnalyticField) -> None:
    empty = copy.deepcopy(scene)
    empty.occupancy = torch.zeros_like(empty.occupancy)
    report = compare(empty, empty, 2, SIDE).report
    assert report["opacity_iou"] == 1.0 and report["depth_error"] is None
    assert compare(scene, empty, 2, SIDE).report["opacity_iou"] == 0.0


def test_the_sheet_shows_both_and_their_difference(scene: AnalyticField, tmp_path: Path) -> None:
    same = compare(scene, scene, VIEWS, SIDE)
    assert same.sheet.shape == (4 * SIDE, 3 * SIDE, 3) and same.sheet.dtype == torch.uint8
    left, middle, right = same.sheet.split(SIDE, dim=1)
    assert torch.equal(left, middle) and not right.any()
    assert left.float().std() > 10 and (left == 255).any()  # a scene on white
    other = compare(scene, displaced(scene, 0.1), VIEWS, SIDE)
    assert other.sheet.split(SIDE, dim=1)[2].any()
    assert torch.equal(other.sheet.split(SIDE, dim=1)[0], left)
    other.save_sheet(tmp_path / "sheet.png")
    stored = (read_image(tmp_path / "sheet.png") * 255).round().to(torch.uint8)
    assert torch.equal(stored, other.sheet)


def test_two_views_make_two_rows(scene: AnalyticField) -> None:
    assert compare(scene, scene, 2, SIDE).sheet.shape[0] == 2 * SIDE
    assert compare(scene, scene, 1, SIDE).sheet.shape[0] == SIDE


def test_photographs_tell_the_original_from_the_copy(
    scene: AnalyticField, photos: PosedImages
) -> None:
    report = compare_on_views(scene, displaced(scene, 0.05), photos).report
    assert report["views"] == 4
    assert report["truth_psnr_db_a"] > 45  # 8-bit straight alpha and back
    assert report["truth_psnr_db_b"] < report["truth_psnr_db_a"] - 15
    assert report["psnr_db"] == pytest.approx(report["truth_psnr_db_b"], abs=1.0)


@pytest.mark.parametrize("grey", [0.0, 1.0, 0.5])
def test_photographs_without_alpha_are_compared_on_their_own_background(
    scene: AnalyticField, photos: PosedImages, grey: float
) -> None:
    painted = (photos.composite(photos.images, grey) * 255).round().to(torch.uint8)
    data = replace(photos, images=painted)
    assert psnr_to_images(scene, data, background=grey) > 45
    report = compare_on_views(scene, scene, data, grey).report
    assert report["truth_psnr_db_a"] > 45


@pytest.mark.parametrize(("background", "grey"), [("white", 1.0), ("black", 0.0), ("scene", 0.0)])
def test_what_is_behind_photographs_is_stated_or_in_their_alpha(
    photos: PosedImages, background: Background, grey: float
) -> None:
    assert shown_on(photos, "auto") == 1.0
    assert shown_on(replace(photos, images=photos.images[..., :3]), background) == grey


def test_a_view_that_is_equal_says_nothing_about_the_others(scene: AnalyticField) -> None:
    assert mean_psnr([30.0, math.inf, 40.0]) == 35.0
    assert compare(scene, scene, 2, SIDE).report["psnr_db"] == math.inf


def test_colours_of_different_spaces_are_not_compared(
    scene: AnalyticField, photos: PosedImages
) -> None:
    linear = displaced(scene, 0.0)
    linear.color_space = "linear"
    for compared in (
        lambda: compare(scene, linear, 1, SIDE),
        lambda: compare_on_views(scene, linear, photos),
        lambda: compare_on_views(linear, linear, photos),
        lambda: psnr_to_images(linear, photos),
    ):
        with pytest.raises(InputError, match="linear"):
            compared()


def test_the_field_that_was_photographed_matches_its_photographs(
    scene: AnalyticField, photos: PosedImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = psnr_to_images(scene, photos)
    assert good > 45
    assert psnr_to_images(displaced(scene, 0.05), photos) < good - 15
    # The same pictures as an EXR would hold them: float and premultiplied.
    floats = photos.images.float() / 255
    floats = torch.cat([floats[..., :3] * floats[..., 3:], floats[..., 3:]], dim=-1)
    linear = replace(photos, images=floats, color_space="linear")
    monkeypatch.setattr(scene, "color_space", "linear")
    assert psnr_to_images(scene, linear) == pytest.approx(good, abs=0.1)
