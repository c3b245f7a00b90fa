"""The trainings of benchmarks/students.py, what their records say, and how operations count."""

from __future__ import annotations

import sys
from typing import Any

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from geodistill.nn.anchor_detector import AnchorDetector, AnchorSettings
from tests.benchmarks.converting import load

load("students")  # with which its modules can be had
load("detector")
students, tables, pages = (
    sys.modules[name] for name in ("detecting.students", "detecting.table", "pages")
)


def record(cell: str, score: float) -> dict[str, Any]:
    return {"cell": cell, "score": score, "date": "2026-11-29", "cpu": "one", "torch": "2"}


def test_gains_and_gaps_are_of_the_same_seeds() -> None:
    scores = {"none": (40.0, 42.0), "hint": (43.0, 47.0), "random teacher": (38.0,)}
    records = [record("small/teacher/0", 61.0)] + [
        record(f"small_16x/{method}/{seed}", score)
        for method, own in scores.items()
        for seed, score in enumerate(own, 1)
    ]
    text = tables.report(records, 9)
    assert "The teacher has 61.00, labels alone 41.00: a gap of 20.00." in text
    # gains 3 and 5: a mean of 4, a standard error of 1, Student's t of one degree of freedom
    assert "| hint | 2 | 45.00 | 2.83 | +4.00 (-8.71 to +16.71) | 20 % |" in text
    assert "| random teacher | 1 | 38.00 |  | -2.00 | -10 % |" in text  # of 21, seed 1's own gap
    rows = [line.split(" | ")[0] for line in text.splitlines() if line.startswith("| ")]
    assert rows[-3:] == ["| hint", "| none", "| random teacher"]


def test_the_seed_that_was_tuned_on_is_a_table_of_its_own() -> None:
    records = [record("small/teacher/0", 60.0)]
    records += [record(f"small_16x/none/{seed}", score) for seed, score in ((0, 40.0), (1, 50.0))]
    records += [record(f"small_16x/hint/{seed}", score) for seed, score in ((0, 44.0), (1, 51.0))]
    first, second = tables.report(records, 9).split("Seed 0:")
    assert "| hint | 1 | 51.00 |  | +1.00 | 10 % |" in first and "44.00" not in first
    assert "| hint | 1 | 44.00 |  | +4.00 | 20 % |" in second and "51.00" not in second


def test_students_without_a_teacher_or_without_none_are_not_compared() -> None:
    records = [record("small/teacher/0", 61.0), record("small_4x/hint/0", 50.0)]
    assert "small_4x" not in tables.report(records, 9)
    text = tables.report([*records, record("other_4x/none/0", 50.0)], 9)
    assert "other_4x" not in text and "3 of 9 trainings" in text
    assert tables.report([], 9) == "Nothing is trained yet.\n"


def test_every_training_has_a_name_of_its_own() -> None:
    found = [cell.name for cell in students.cells()]
    assert len(set(found)) == len(found)
    folders = {cell.folder for cell in students.cells()}
    assert len(folders) == len(found)


def test_what_is_recorded_can_be_trained_again() -> None:
    known = {cell.name for cell in students.cells()}
    known |= {students.teacher_of(cell.recipe).name for cell in students.cells()}
    assert {one["cell"] for one in students.records()} <= known


def test_the_page_says_what_is_recorded() -> None:
    begin, end = pages.markers(students.SECTION)
    page = students.PAGE.read_text(encoding="utf-8")
    written = page.partition(begin)[2].partition(end)[0]
    assert written.strip() == students.tables().strip()


@pytest.mark.parametrize("recipe", ["pillars_small_16x", "second_small_4x"])
def test_teachers_are_the_same_detector_without_compression(recipe: str) -> None:
    teacher = students.teacher_of(recipe)
    assert recipe.startswith(teacher.recipe) and teacher.seed == 0
    assert (students.SHIPPED / "detector" / f"{teacher.recipe}.yaml").is_file()


def test_operations_are_counted_as_torch_counts_and_as_published() -> None:
    figures = sys.modules["detecting.figures"]
    detector = AnchorDetector(AnchorSettings(compression=16))
    products, published = figures.of_maps(detector)
    x, y, _ = detector.settings.grid.cells
    network = detector.network
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.head(network.neck(network.backbone(torch.zeros(1, 16, y, x, device="meta"))))
    assert products == counter.get_total_flops() // 2
    assert round(published / 1e9, 2) == 2.45  # 2.5 in table 1 of PointDistiller


def test_parts_count_as_often_as_they_are_said_to() -> None:
    figures = sys.modules["detecting.figures"]
    part = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.BatchNorm1d(5), torch.nn.ReLU())
    counted = figures.Operations([part], each=7, published=2)
    part(torch.rand(4, 3))
    assert counted.products == 7 * 4 * 15
    assert counted.all == 2 * 7 * 4 * (15 + 5 + 2 * 5 + 5)
