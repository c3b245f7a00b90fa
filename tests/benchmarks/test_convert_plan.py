"""What benchmarks/convert.py measures, what its figures depend on, and how it words them."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from torch import Tensor

from geodistill import train as training
from geodistill.checks import InputError
from geodistill.fit.field import FitSettings
from geodistill.geometry.fields import build_field
from geodistill.train import Budget
from tests.benchmarks.converting import (
    bench,
    grid,
    measure,
    pages,
    plan,
    sources,
    speed,
    store_module,
    store_of,
    wording,
    write_scene,
)


def test_the_full_plan() -> None:
    scale = plan.full_scale()
    rows = [task.cell for task in plan.rows(scale)]
    assert len(rows) == 5 * 3 * 3 + len(scale.curve_seconds)
    pairs = {task.cell for task in plan.matrix(scale)}
    assert len(pairs) == 36 and len(pairs - set(rows)) == 31
    every = bench.chosen(scale, "all")
    assert len({cell.name for cell in every}) == len(every)
    assert sum(cell.kind == "fit" for cell in every) == 8 + 2 * 6
    for i, cell in enumerate(every):
        assert set(cell.needs) <= set(every[:i])
    assert every[1] == plan.conversion(scale, "dragon", "ngp", "plenoxels")


def test_the_smaller_hash_grid_has_half_the_parameters() -> None:
    models = plan.full_scale().models
    half, whole = (
        build_field("ngp", models[name].config).parameter_count() for name in (plan.HALF, "ngp")
    )
    assert 0.45 < half / whole <= 0.5


def test_a_choice_brings_what_it_needs() -> None:
    scale = plan.full_scale()
    chosen = bench.chosen(scale, "scratch", ["robot"], "scratch tensorf,")
    assert [cell.title for cell in chosen] == [
        "robot: fit ngp, 6000 steps",
        "robot: ngp to tensorf, seed 0",
        "robot: scratch tensorf, 24 x its conversion",
    ]


class Clock:
    """Stands still unless told to go on."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_looking_does_not_count_as_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, step, pause, limit = Clock(), 0.125, 7.0, 2.0
    monkeypatch.setattr(training, "time", SimpleNamespace(perf_counter=clock))

    class Timed(measure.WatchedFit):
        def loss(self, number: int, progress: float) -> tuple[Tensor, dict[str, float]]:
            clock.now += step
            return super().loss(number, progress)

    def look(_: object) -> float:
        clock.now += pause
        return 1.0

    write_scene(tmp_path / "analytic")
    data = measure.images(tmp_path / "analytic", "train")
    field = build_field("ngp", plan.smoke_scale().models["ngp"].config)
    budget = Budget(seconds=limit)
    settings = FitSettings(samples=1024)
    job = Timed(field, data, settings, budget=budget, look=look, first=0.25, goal=math.inf)
    before = clock.now
    steps = training.train(job, budget, None, "test")
    assert steps == limit / step and len(job.curve) >= 3 and not job.reached
    assert clock.now - before == limit + pause * len(job.curve)
    job.last_look(steps)
    assert job.curve[-1][0] == limit and all(t <= limit for t, _, _ in job.curve)


# What it depends on


def test_a_fingerprint_ignores_prose() -> None:
    code = 'X = 1\n\ndef f(a):\n    """Text."""\n    return a  # why\n'
    same = 'X = 1\ndef f(a):\n    """Other text."""\n    # because\n    return a\n'
    assert sources.without_prose(code) == sources.without_prose(same)
    changed = code.replace("return a", "return -a")
    assert sources.without_prose(code) != sources.without_prose(changed)


def test_a_fingerprint_follows_imports() -> None:
    def reached(kind: str) -> set[str]:
        files = sources.closure(store_module.ENTRY_POINTS[kind])
        return {path.relative_to(sources.ROOT).as_posix() for path in files}

    fit, convert = reached("fit"), reached("convert")
    common = {
        "train/__init__.py",
        "train/optimiser.py",
        "geometry/fields/ngp.py",
        "metrics/fidelity.py",
        "kernels/__init__.py",
    }
    assert common <= fit and common <= convert
    assert any(path.endswith(".cpp") for path in fit)
    assert "fit/field.py" in fit and "fit/field.py" not in convert
    assert "distill/pvd/convert.py" in convert
    assert not any(path.startswith(("distill/", "convert/")) for path in fit)
    assert not any(path.startswith(("cli/", "log", "runs")) for path in fit | convert)


# How it is said


def curve(*points: tuple[float, float]) -> dict[str, Any]:
    return {"curve": [(t, 0, psnr) for t, psnr in points], "setup_seconds": 1.0}


def test_speed_up() -> None:
    record = curve((10, 20.0), (40, 24.0), (160, 26.0))
    assert speed.speed_up(record, 20.0, 2.0) == speed.SpeedUp(5.5, True)
    halfway = speed.speed_up(record, 22.0, 2.0)  # halfway in log time: 20 s, and 1 s of setup
    assert halfway.exact and halfway.ratio == pytest.approx(10.5)
    assert speed.speed_up(record, 27.0, 2.0) == speed.SpeedUp(80.5, False)
    assert speed.psnr_at(record, 81.0) == pytest.approx(25.0)
    assert speed.psnr_at(record, 162.0) is None


def test_the_fastest_schedule_counts() -> None:
    made, other, never = (speed.SpeedUp(*v) for v in ((12.0, True), (15.0, True), (24.0, False)))
    assert speed.least([other, made, never]) == made
    assert speed.least([never]) == never
    assert speed.least([]) is None
    assert speed.SpeedUp.median([made, never, None, other]) == other
    assert str(never) == "≥ 24.0x" and str(made) == "12.0x"


@pytest.mark.parametrize(
    "value, verdict",
    [
        (speed.SpeedUp(24.0, False), "≥ 24.0x (≥ 10: met, aim 20: met)"),
        (speed.SpeedUp(12.0, True), "12.0x (≥ 10: met, aim 20: missed)"),
        (speed.SpeedUp(12.0, False), "≥ 12.0x (≥ 10: met, aim 20: open)"),
        (speed.SpeedUp(3.0, True), "3.0x (≥ 10: missed, aim 20: missed)"),
        (None, "-"),
    ],
)
def test_verdict_on_a_speed_up(value: Any, verdict: str) -> None:
    assert wording.speed_verdict(value) == verdict


def test_the_picture_keeps_tiles_whose_sheets_are_elsewhere(tmp_path: Path) -> None:
    scale, store, kept = plan.smoke_scale(), store_of(tmp_path), tmp_path / "kept.png"
    assert grid.picture(scale, store, kept) is None
    (first, one), (second, other) = list(grid.pairs(scale).items())[:2]
    store.folder.mkdir(parents=True)

    def tile(page: Image.Image, pair: tuple[str, str]) -> tuple[int, ...]:
        """The middle of a tile."""
        row, column = grid.sources(scale).index(pair[0]), grid.targets(scale).index(pair[1]) + 1
        x = grid.MARGIN_PX + int((column + 0.5) * grid.TILE_PX)
        return page.getpixel((x, grid.HEAD_PX + int((row + 0.5) * grid.TILE_PX)))

    Image.new("RGB", (60, 60), (255, 0, 0)).save(store.path(one, ".png"))
    page = grid.picture(scale, store, kept)
    assert tile(page, first) == (255, 0, 0) and tile(page, second) == (255, 255, 255)
    page.save(kept)
    store.path(one, ".png").unlink()
    Image.new("RGB", (60, 60), (0, 255, 0)).save(store.path(other, ".png"))
    page = grid.picture(scale, store, kept)
    assert tile(page, first) == (255, 0, 0) and tile(page, second) == (0, 255, 0)


def test_the_page_changes_only_between_its_markers(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    begin, end = pages.markers(bench.SECTION)
    page.write_text(f"before\n{begin}\nold\n{end}\nafter\n")
    pages.write_between_markers(page, bench.SECTION, "new")
    assert page.read_text() == f"before\n{begin}\n\nnew\n{end}\nafter\n"
    page.write_text("no markers")
    with pytest.raises(InputError, match="lacks the lines"):
        pages.write_between_markers(page, bench.SECTION, "new")
    assert page.read_text() == "no markers"


def test_the_documentation_has_a_place_for_the_tables() -> None:
    text = bench.PAGE.read_text(encoding="utf-8")
    begin, end = pages.markers(bench.SECTION)
    assert text.count(begin) == text.count(end) == 1
