"""The teacher-sample cache holds what the teacher shows, and only that."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from scenes import AnalyticField, ring
from torch.nn import functional as F

from geodistill.checks import InputError
from geodistill.convert.cache import (
    LIT_SHARE,
    VISIBLE_WEIGHT,
    TeacherCache,
    cell_index,
    survey,
)
from geodistill.rays import Rays
from geodistill.render.fields import render_rays
from geodistill.render.samples import RayFootprint

SIZE = 32


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("geodistill.convert.cache.CHUNK", 1024)


@pytest.fixture(scope="module")
def teacher() -> AnalyticField:
    """With large cells, so that a few thousand rays see each of them as often as usual."""
    field = AnalyticField()
    cells = F.max_pool3d(field.occupancy[None, None].float(), 128 // SIZE)
    field.occupancy = cells[0, 0] > 0
    field.views = ring(20, 64)
    return field


@pytest.fixture
def cache(teacher: AnalyticField) -> TeacherCache:
    return survey(teacher, 3000, seed=0)


def test_it_is_the_teacher_at_its_samples(teacher: AnalyticField, cache: TeacherCache) -> None:
    latent, lit = teacher.latent(cache.samples.u), cache.lit
    torch.testing.assert_close(cache.latent, latent[lit], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(cache.sigma, teacher.sigma_of(latent), rtol=1e-4, atol=1e-4)
    rgb = teacher.rgb_of(latent, cache.samples.d)
    torch.testing.assert_close(cache.rgb[lit], rgb[lit], rtol=1e-4, atol=1e-4)
    owner = cache.samples.ray
    most = torch.zeros(cache.rays).scatter_reduce(0, owner, cache.weights, "amax")
    assert torch.equal(lit, (cache.weights >= LIT_SHARE * most[owner]).nonzero()[:, 0])
    assert torch.equal(owner[lit].unique(), torch.arange(cache.rays))
    assert cache.weights[lit].sum() > 0.98 * cache.weights.sum()


def test_its_rays_have_the_colours_that_rendering_shows(
    teacher: AnalyticField, cache: TeacherCache
) -> None:
    first = cache.samples.offsets[:-1]
    u, t, d = cache.samples.u[first], cache.samples.t[first], cache.samples.d[first]
    view = render_rays(teacher, Rays(u - t[:, None] * d, d))
    assert cache.rays >= 3000 and (cache.opacity > 0.9).float().mean() > 0.5
    for ours, theirs in (
        (cache.color, view.color),
        (cache.opacity[:, None], view.opacity[:, None]),
    ):
        gap = (ours - theirs).abs().amax(dim=1)
        # The samples are jittered: only rays that graze an edge may differ by more.
        assert gap.mean() < 4e-3 and gap.quantile(0.95) < 1e-2


def test_colours_and_weights_are_its_own_footprint_s(cache: TeacherCache) -> None:
    footprint = RayFootprint.from_density(cache.sigma, cache.samples)
    torch.testing.assert_close(cache.weights, footprint.weights)
    torch.testing.assert_close(cache.color, footprint.render(cache.rgb))
    torch.testing.assert_close(cache.opacity, footprint.row_sums())
    offsets = cache.samples.offsets
    assert int(offsets[-1]) == len(cache.samples) == len(cache.sigma) == len(cache.rgb)


def test_every_sample_lies_in_its_occupancy(teacher: AnalyticField, cache: TeacherCache) -> None:
    inside = cache.occupancy[tuple(cell_index(cache.samples.u, SIZE).unbind(-1))]
    assert inside.all()
    grown = F.max_pool3d(teacher.occupancy[None, None].float(), 3, stride=1, padding=1)[0, 0] > 0
    assert not (cache.occupancy & ~grown).any()
    inside_ball = cell_index(torch.tensor([[0.1, 0.0, 0.15]]), SIZE)[0]
    assert teacher.occupancy[tuple(inside_ball)] and not cache.occupancy[tuple(inside_ball)]


def test_occupancy_is_what_contributes_and_at_most_its_neighbours(cache: TeacherCache) -> None:
    cells = torch.zeros_like(cache.occupancy)
    visible = cell_index(cache.samples.u[cache.weights > VISIBLE_WEIGHT], SIZE)
    cells[tuple(visible.unbind(-1))] = True
    grown = F.max_pool3d(cells[None, None].float(), 3, stride=1, padding=1)[0, 0] > 0
    assert not (cells & ~cache.occupancy).any()
    assert not (cache.occupancy & ~grown).any()


def test_rays_see_something(cache: TeacherCache) -> None:
    assert (cache.samples.offsets.diff() > 0).all()
    assert cache.opacity.min() > VISIBLE_WEIGHT / 2


def test_every_ray_has_light_to_show_even_where_nothing_is_culled(teacher: AnalyticField) -> None:
    whole = survey(teacher, 500, seed=0, visible_weight=0.0)
    assert torch.equal(whole.samples.ray[whole.lit].unique(), torch.arange(whole.rays))


def test_what_lies_behind_the_surface_is_left_out(cache: TeacherCache) -> None:
    dark = 0
    spans = zip(
        cache.samples.offsets[:-1].tolist(), cache.samples.offsets[1:].tolist(), strict=True
    )
    for start, end in spans:
        tau = (cache.sigma[start:end] * cache.samples.dt[start:end]).double()
        dark += int((torch.exp(tau - tau.cumsum(0)) < 1e-3).sum())
    assert dark == 0


def test_a_cache_is_a_function_of_its_seed(teacher: AnalyticField, cache: TeacherCache) -> None:
    again, other = survey(teacher, 3000, seed=0), survey(teacher, 3000, seed=1)
    assert torch.equal(again.samples.u, cache.samples.u) and torch.equal(again.rgb, cache.rgb)
    assert torch.equal(again.occupancy, cache.occupancy)
    assert not torch.equal(other.samples.u[:50], cache.samples.u[:50])


def test_a_wider_view_of_the_same_teacher_sees_more(teacher: AnalyticField) -> None:
    few, many = survey(teacher, 100, seed=0), survey(teacher, 6000, seed=0)
    assert many.rays >= 6000 > few.rays >= 100
    assert not (few.occupancy & ~many.occupancy).any()
    assert many.occupancy.sum() > few.occupancy.sum()


class Clear(AnalyticField):
    """Occupied everywhere, and yet there is nothing."""

    def sigma_of(self, latent: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(latent[:, 0])


@pytest.mark.parametrize("empty", ["no occupied cell", "no density"])
def test_an_empty_scene_is_an_error(empty: str, teacher: AnalyticField) -> None:
    if empty == "no density":
        field: Any = Clear()
    else:
        field = copy.deepcopy(teacher)
        field.occupancy = torch.zeros_like(field.occupancy)
    with pytest.raises(InputError, match="the scene is empty"):
        survey(field, 1000, seed=0)


def test_with_time_to_spare_there_are_more_rays(
    teacher: AnalyticField, cache: TeacherCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("geodistill.convert.cache.MOST_RAYS", 5000)
    more = survey(teacher, 3000, seed=0, seconds=1e6)
    assert cache.rays < 5000 <= more.rays < 5000 + 1024
    assert torch.equal(more.samples.u[: len(cache.samples)], cache.samples.u), "and the same first"
