"""Hash grids from hash grids, where no training is needed."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from scenes import ring
from torch import Tensor

from geodistill.convert.cache import TeacherCache, survey
from geodistill.convert.hashes import resample_table, same_networks
from geodistill.convert.initial import initialise
from geodistill.convert.latents import translator
from geodistill.geometry.fields import Field, build_field
from geodistill.geometry.fields.heads import LatentField
from geodistill.geometry.fields.ngp import HashBranch, NgpConfig

CONFIG = NgpConfig(levels=4, log2_size=12, base_resolution=4, max_resolution=16)


@pytest.fixture(scope="module")
def teacher() -> Field:
    field = build_field("ngp", CONFIG, seed=1)
    assert isinstance(field, LatentField) and isinstance(field.branch, HashBranch)
    draw = torch.Generator().manual_seed(2)
    field.branch.table.data = torch.randn(field.branch.table.shape, generator=draw)
    field.views = ring(8, 32)
    return field.requires_grad_(False)


@pytest.fixture(scope="module")
def cache(teacher: Field) -> TeacherCache:
    return survey(teacher, 3000, seed=0, step=1 / 48)


def branch_of(field: Field) -> HashBranch:
    assert isinstance(field, LatentField) and isinstance(field.branch, HashBranch)
    return field.branch


def start(teacher: Field, cache: TeacherCache, config: NgpConfig) -> Field:
    student = build_field("ngp", config, seed=7).requires_grad_(False)
    lit = cache.lit
    samples = (cache.rgb[lit], cache.samples.d[lit], cache.weights[lit])
    initialise(student, teacher, cache, translator(teacher, cache.latent, *samples))
    return student


def latent_error(student: Field, teacher: Field, u: Tensor) -> float:
    theirs = teacher.latent(u)
    return float((student.latent(u) - theirs).norm() / (theirs - theirs.mean(dim=0)).norm())


def test_a_grid_of_the_same_layout_is_taken_over(teacher: Field, cache: TeacherCache) -> None:
    student = start(teacher, cache, CONFIG)
    assert torch.equal(branch_of(student).table, branch_of(teacher).table)
    assert latent_error(student, teacher, cache.samples.u) == 0.0
    nets = zip(
        branch_of(student).density_net.weights, branch_of(teacher).density_net.weights, strict=True
    )
    assert all(torch.equal(a, b) for a, b in nets)


def test_a_finer_grid_loses_less_than_a_coarser_one(teacher: Field, cache: TeacherCache) -> None:
    errors = [
        latent_error(start(teacher, cache, replace(CONFIG, **change)), teacher, cache.samples.u)
        for change in (
            {"base_resolution": 8, "max_resolution": 32, "log2_size": 16},
            {"base_resolution": 3, "max_resolution": 10},
            {"log2_size": 6},
        )
    ]
    assert errors[0] < 0.3 < errors[1] < 1.0 and errors[2] < 1.0


def test_refinement_only_helps(
    teacher: Field, cache: TeacherCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    student = build_field("ngp", replace(CONFIG, max_resolution=12)).requires_grad_(False)
    errors = []
    for iterations in (1, 2, 4, 8):
        monkeypatch.setattr("geodistill.convert.hashes.ITERATIONS", iterations)
        resample_table(branch_of(student), branch_of(teacher), cache)
        errors.append(latent_error(student, teacher, cache.samples.u))
    assert errors == sorted(errors, reverse=True)


def test_only_like_networks_can_be_taken_over(teacher: Field) -> None:
    for change, same in (
        ({"log2_size": 9}, True),
        ({"levels": 3}, False),
        ({"features": 4}, False),
        ({"hidden": 32}, False),
    ):
        other = build_field("ngp", replace(CONFIG, **change))
        assert same_networks(branch_of(other), branch_of(teacher)) is same
