"""benchmarks/convert.py from end to end on a tiny scene: records, resuming, the page."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from geodistill import train as training
from geodistill.checks import InputError, UsageError
from geodistill.convert import latents
from geodistill.geometry.fields import load_field
from geodistill.io.images import read_image
from geodistill.shade.viewable import load_scene, viewable
from tests.benchmarks.converting import (
    SIDE,
    bench,
    conversion,
    measure,
    pages,
    plan,
    records_of,
    smoke_cells,
    sources,
    store_module,
    store_of,
    tables,
    write_scene,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a smoke run has measured everything: minutes, so all its tests are in this file."""
    root = tmp_path_factory.mktemp("benchmark")
    write_scene(root / "scenes" / "analytic")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(latents, "HEAD_STEPS", 40)
        assert bench.main(["--smoke", str(root)]) == 0
    return root


def test_every_cell_is_recorded_with_its_field_and_sheet(folder: Path) -> None:
    store = store_of(folder)
    for cell in smoke_cells():
        record = store.record(cell)
        assert record is not None and not record["stale"], cell.title
        assert record["title"] == cell.title
        assert record["seconds"] > 0 and record["cpu_seconds"] > 0
        assert record["machine"]["torch"] == torch.__version__
        assert {"date", "load_average", "others_cores", "cell_seconds"} <= set(record)
        if cell.kind == "convert":
            assert record["psnr_db"] > 10 and 0 <= record["opacity_iou"] <= 1
            assert record["bytes"] == store.path(cell, ".safetensors").stat().st_size
            field = load_field(store.made(cell, record))
            assert field.parameter_count() == record["parameters"]
            assert read_image(store.path(cell, ".png")).shape[1] == 3 * SIDE
        if cell.kind == "remake":
            scene = load_scene(store.made(cell, record))
            assert viewable(scene).parameter_count() == record["parameters"]
            judged = cell.target.name != "points"
            assert ("psnr_db" in record) == store.path(cell, ".png").is_file() == judged
            assert not judged or record["psnr_db"] > 8
        if cell.kind == "fit":
            assert record["truth_psnr_db"] > 10
            assert load_field(store.made(cell, record)).architecture == cell.target.name
        if cell.kind == "scratch":
            times, steps, _ = zip(*record["curve"], strict=True)
            assert list(times) == sorted(times) and list(steps) == sorted(steps)
            assert times[-1] <= record["budget_seconds"] and record["ended"] in ("goal", "limit")


def test_a_second_run_measures_nothing(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("measured again")

    monkeypatch.setattr(measure, "measure", refuse)
    before = records_of(folder)
    assert bench.main(["--smoke", str(folder)]) == 0
    assert records_of(folder) == before
    printed = capsys.readouterr().out
    page = (folder / "benchmarks.md").read_text()
    begin, end = pages.markers(bench.SECTION)
    assert page == f"{begin}\n\n{printed}\n{end}\n"


def test_the_pvd_recipe_gets_the_time_of_the_default(folder: Path) -> None:
    scale, store = plan.smoke_scale(), store_of(folder)
    cell = plan.variant_cell(scale, "tensorf", scale.variants[1])
    assert cell.recipe == "pvd" and cell.reference == conversion()
    budget = measure.budget_of(cell, store)
    assert budget.seconds == store.record(conversion())["seconds"]


def test_the_tables_say_what_the_records_hold(folder: Path) -> None:
    store, scale = store_of(folder), plan.smoke_scale()
    text = tables.report(scale, store)
    count = len(smoke_cells())
    assert f"{count} of {count} cells" in text
    for title in (
        "from ngp",
        "By scene",
        "Any to any",
        "Every pair",
        "scratch",
        "worth",
        "mlp",
        "teachers",
    ):
        assert any(line.startswith("## ") and title in line for line in text.splitlines()), title
    record = store.record(conversion())
    lost = record["teacher_truth_psnr_db"] - record["truth_psnr_db"]
    assert f"| tensorf | {record['psnr_db']:.2f} (aim 33: " in text
    assert f"| {lost:.2f} (≤ 1.5: {'met' if lost <= 1.5 else 'missed'}, " in text
    assert "| tensorf | tensorf-small |" in text
    assert "2 of 2 pairs" in text or "1 of 2 pairs" in text or "0 of 2 pairs" in text
    widths = {}
    for line in text.splitlines():
        if line.startswith("|"):
            assert line.count("|") == widths.setdefault("now", line.count("|")), line
        else:
            widths.clear()


def test_list_shows_every_cell_with_its_state(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.main(["--smoke", str(folder), "--list"]) == 0
    *lines, total = capsys.readouterr().out.splitlines()
    assert len(lines) == len(smoke_cells())
    assert all(line.startswith("done ") for line in lines)
    assert total == f"{len(lines)} done; about 0.0 hours to go"
    assert any(line.endswith("analytic: scratch tensorf, 1 x its conversion") for line in lines)


def forget(root: Path, cell: Any) -> None:
    """Remove a record."""
    file = store_of(root).records
    lines = file.read_text().splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["name"] != cell.name]
    assert len(kept) == len(lines) - 1
    file.write_text("".join(kept))


def test_an_interrupted_conversion_leaves_no_record(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    cell = conversion("mlp")
    forget(folder, cell)
    before = records_of(folder)
    with monkeypatch.context() as patched:
        patched.setattr(measure, "compare_on_views", interrupt)
        assert bench.main(["--smoke", str(folder), "--only", "ngp to mlp, seed 0"]) == 130
    assert records_of(folder) == before and store_of(folder).record(cell) is None
    assert not list((folder / "benchmarks" / "convert").glob(".*tmp*"))
    assert bench.main(["--smoke", str(folder), "--only", "ngp to mlp, seed 0"]) == 0
    assert store_of(folder).record(cell) is not None
    assert set(records_of(folder)) == {*before, cell.name}


def test_an_interrupted_run_from_scratch_goes_on(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> float:
        raise KeyboardInterrupt

    cell = plan.scratch_cell(plan.smoke_scale(), "analytic", "tensorf", 1.0)
    forget(folder, cell)
    arguments = ["--smoke", str(folder), "--part", "scratch", "--only", "scratch tensorf"]
    with monkeypatch.context() as patched:
        patched.setattr(training, "CHECKPOINT_SECONDS", 0.0)
        patched.setattr(measure, "psnr_to_images", interrupt)
        assert bench.main(arguments) == 130
    assert store_of(folder).record(cell) is None
    assert bench.main(arguments) == 0
    record = store_of(folder).record(cell)
    assert record is not None and record["resumed"]
    assert not store_of(folder).path(cell, ".run").exists()


def test_a_cell_that_fails_does_not_stop_the_others(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise InputError("broken")

    bad, good = conversion("mlp"), plan.curve_cells(plan.smoke_scale())[0]
    text = store_of(folder).records.read_text()
    forget(folder, bad)
    forget(folder, good)
    real = measure.measure
    monkeypatch.setattr(
        measure, "measure", lambda cell, store: (fail if cell == bad else real)(cell, store)
    )
    assert bench.main(["--smoke", str(folder), "--only", "ngp to mlp"]) == 1
    assert store_of(folder).record(bad) is None and store_of(folder).record(good) is not None
    store_of(folder).records.write_text(text)


def test_records_of_older_code_are_kept_only_on_request(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = store_of(folder).record(conversion())
    monkeypatch.setattr(sources, "fingerprint", lambda *modules: "0therc0d")
    assert "0 stale" not in bench.listing(smoke_cells(), store_of(folder))
    assert store_of(folder).record(conversion()) is None
    kept = store_of(folder, keep_stale=True)
    assert bench.state_of(conversion(), kept) == "stale"
    assert f"tensorf [code {before['fingerprint']}]" in tables.report(plan.smoke_scale(), kept)
    page = tables.report(plan.smoke_scale(), store_of(folder))
    assert page.startswith("Nothing has been measured yet.")


def test_newer_code_replaces_figures_and_fields(tmp_path: Path) -> None:
    cell = conversion()
    store = store_module.Store(tmp_path / "cache", tmp_path / "scenes", tmp_path / "kept.jsonl")
    store.folder.mkdir()
    for fingerprint in ("01d", "new"):
        for kind in (".safetensors", ".png"):
            store.path(cell, kind, fingerprint).write_text("")
        store.save(cell, {"fingerprint": fingerprint, "date": "2000-01-01"})
    kept = {path.name.removeprefix(cell.name) for path in store.folder.glob(f"{cell.name}*")}
    assert kept == {".new.png", ".new.safetensors"}
    (line,) = store.records.read_text().splitlines()
    assert json.loads(line)["fingerprint"] == "new"


def test_a_damaged_file_of_records_is_one_clear_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = tmp_path / "records.jsonl"
    for damage in ("{", "[]", "{}"):
        records.write_text(damage)
        assert bench.main(["--smoke", str(folder), "--records", str(records), "--report"]) == 1
        assert "line 1 is no record" in capsys.readouterr().err


def test_figures_outlive_the_cache(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a fresh machine, a lost teacher is fitted again, and conversions of it stand."""
    records, other = tmp_path / "kept.jsonl", tmp_path / "other"
    shutil.copy(store_of(folder).records, records)
    shutil.copytree(folder / "scenes", other / "scenes")
    arguments = ["--smoke", str(other), "--records", str(records)]
    measured: list[Any] = []
    real = measure.measure

    def spy(cell: Any, store: Any) -> Any:
        measured.append(cell)
        return real(cell, store)

    monkeypatch.setattr(measure, "measure", spy)
    assert bench.main([*arguments, "--part", "rows"]) == 0
    assert not measured
    lines = records.read_text().splitlines(keepends=True)
    gone = conversion()
    records.write_text("".join(t for t in lines if json.loads(t)["name"] != gone.name))
    assert bench.main([*arguments, "--part", "rows"]) == 0
    assert measured == [gone.teacher, gone]


@pytest.mark.parametrize(("apart_db", "stands"), [(0.05, True), (0.2, False)])
def test_a_teacher_that_is_as_good_is_the_same(apart_db: float, stands: bool) -> None:
    """Another kind of processor gives other bits."""
    known = {"truth_psnr_db": 30.0, "field_digest": "a", "seconds": 7.0, "stale": False}
    again = {"truth_psnr_db": 30.0 + apart_db, "field_digest": "b", "seconds": 9.0}
    again |= {"date": "2000-01-01", "machine": {}}
    kept = measure._same_teacher(known, again)
    assert kept["field_digest"] == ("a" if stands else "b")
    assert kept["seconds"] == (7.0 if stands else 9.0) and "stale" not in kept
    assert ("fitted_again" in kept) == stands


def test_busy_measurements_can_be_refused(folder: Path) -> None:
    record = store_of(folder).record(conversion())
    if record["others_cores"] is None:
        pytest.skip("this system does not say what other processes use")
    used = record["others_cores"]
    teacher_used = store_of(folder).record(conversion().teacher)["others_cores"]
    assert store_of(folder, max_others=max(used, teacher_used)).record(conversion()) is not None
    assert store_of(folder, max_others=used - 1e-6).record(conversion()) is None


def test_a_refused_fit_is_measured_again(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its finished run folder holds the figures that were refused."""
    store, cell = store_of(folder), conversion().teacher
    fitted: list[Any] = []

    def refit(*arguments: Any, **_: Any) -> Any:
        fitted.append(arguments)
        raise KeyboardInterrupt

    monkeypatch.setattr(measure, "fit", refit)
    measure.measure(cell, store)
    assert not fitted
    monkeypatch.setattr(type(store), "stands", lambda self, cell, record: False)
    with pytest.raises(KeyboardInterrupt):
        measure.measure(cell, store)
    assert fitted


def test_a_curve_is_run_again_when_its_conversion_has_changed(folder: Path) -> None:
    store = store_of(folder)
    cell = plan.scratch_cell(plan.smoke_scale(), "analytic", "tensorf", 1.0)
    curve, reference = store.record(cell), store.record(cell.reference)
    best = max(psnr for _, _, psnr in curve["curve"])

    def stands(seconds: float, psnr_db: float, ended: str) -> bool:
        changed = {**reference, "seconds": seconds, "truth_psnr_db": psnr_db}
        known = {cell.reference: changed}
        other = store_of(folder)
        other.record = known.get
        return other._answers(cell, {**curve, "ended": ended})

    seconds = curve["budget_seconds"]
    assert stands(seconds, best, "goal")
    assert not stands(seconds, best + 1, "goal")  # it stopped before it got that far
    assert stands(seconds, best + 1, "limit")
    assert not stands(2 * seconds, best, "goal")  # another schedule


def test_the_page_is_left_alone_by_a_narrow_run_and_by_an_empty_one(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page, other = folder / "benchmarks.md", tmp_path / "other.md"
    page.write_text("as it was")
    assert bench.main(["--smoke", str(folder), "--only", "fit ngp"]) == 0
    assert page.read_text() == "as it was"
    assert bench.main(["--smoke", str(folder), "--only", "fit ngp", "--out", str(other)]) == 0
    assert "## Every pair" in other.read_text()
    page.unlink()
    monkeypatch.setattr(sources, "fingerprint", lambda *modules: "0therc0d")
    assert bench.main(["--smoke", str(folder), "--report"]) == 0
    assert not page.exists()


def test_a_missing_scene_is_one_clear_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert bench.main(["--smoke", str(tmp_path), "--only", "fit ngp"]) == 1
    assert "run python benchmarks/scenes.py first" in capsys.readouterr().err
    assert not store_of(tmp_path).records.exists()


def test_an_unknown_scene_is_bad_usage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--smoke", str(tmp_path), "--scenes", "dragn"]) == 2
    assert "unknown scene 'dragn'; known: analytic" in capsys.readouterr().err


def test_a_setting_that_does_not_exist_is_reported_not_run(tmp_path: Path) -> None:
    cell = replace(conversion(), overrides=("nonsense=1",))
    store = store_of(tmp_path)
    assert bench.state_of(cell, store) == "lacking"
    assert "(unknown key 'nonsense')" in bench.listing([cell], store)
    with pytest.raises(UsageError, match="unknown key 'nonsense'"):
        measure.settings_of(cell)
