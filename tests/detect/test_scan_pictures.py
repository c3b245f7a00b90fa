"""Scans from above and from the sensor: each thing is where it is, in its colour."""

from __future__ import annotations

import math

import torch

from geodistill.cli.scan_pictures import AREA, labelled_sheet
from geodistill.detect.datasets import open_dataset
from geodistill.detect.picture import BACKGROUND, Outlines, bird_view, range_view
from tests.detect.small_kitti import write_kitti

RED = (255, 0, 0)
EMPTY = torch.tensor(BACKGROUND) / 255


def drawn(picture: torch.Tensor) -> list[list[int]]:
    return ((picture - EMPTY).abs() > 1e-3).any(-1).nonzero().tolist()


def test_from_above_x_goes_up_and_y_to_the_left() -> None:
    at = torch.tensor([[8.05, 3.05, 0.0]])
    picture = bird_view(at, [], (0, -5, 10, 5), px_per_m=10)
    assert picture.shape == (100, 100, 3)
    assert drawn(picture) == [[19, 19]]
    assert drawn(bird_view(torch.tensor([[11.0, 0, 0], [5, 6, 0]]), [], (0, -5, 10, 5))) == []
    assert drawn(bird_view(torch.zeros(0, 4), [], (0, -5, 10, 5))) == []


def test_from_above_the_highest_point_is_on_top() -> None:
    both = torch.tensor([[5.0, 0.0, 1.4], [5.0, 0.0, -1.9]])
    pictures = [bird_view(both[own], [], (0, -5, 10, 5)) for own in ([0], [1], [0, 1], [1, 0])]
    assert torch.equal(pictures[2], pictures[0]) and torch.equal(pictures[3], pictures[0])
    assert pictures[0].max() > pictures[1].max()


def test_from_the_sensor_azimuth_and_elevation_are_places() -> None:
    area = (-20.0, -40.0, 10.0, 40.0)
    left, up = math.radians(10.1), math.radians(-5.1)
    way = [math.cos(up) * math.cos(left), math.cos(up) * math.sin(left), math.sin(up)]
    near, far = torch.tensor([way]) * 5.0, torch.tensor([way]) * 50.0
    picture = range_view(near, [], area, px_per_degree=5)
    assert picture.shape == (150, 400, 3)
    assert drawn(picture) == [[row, 149] for row in (75, 76, 77)]
    for both in (torch.cat([near, far]), torch.cat([far, near])):  # the nearest is on top
        assert torch.equal(range_view(both, [], area, 5), picture)
    tone = range_view(far, [], area, 5)[75, 149]
    assert tone[2] > tone[0] and picture[75, 149, 0] > picture[75, 149, 2]


def test_boxes_are_drawn_around_what_is_in_them() -> None:
    box = torch.tensor([[6.0, 1.0, 0.0, 4.0, 2.0, 1.5, 0.4]])
    red = torch.tensor(RED) / 255
    empty = torch.zeros(0, 4)
    above = bird_view(empty, [Outlines(box, RED)], (0, -5, 10, 5), px_per_m=10)
    rows = torch.tensor(drawn(above)).float()
    assert (above[40, 40] == red).all()  # its middle: the line to its front starts there
    middle = (rows.amin(0) + rows.amax(0)) / 2
    assert torch.allclose(middle, torch.tensor([40.0, 40.0]), atol=1.5)
    dashed = bird_view(empty, [Outlines(box, RED, dashed=True)], (0, -5, 10, 5), px_per_m=10)
    assert 0.3 < len(drawn(dashed)) / len(rows) < 0.8
    ahead = range_view(empty, [Outlines(box, RED)], (-20, -40, 20, 40), 5)
    rows = torch.tensor(drawn(ahead)).float()
    assert rows[:, 0].min() < 100 < rows[:, 0].max()
    assert rows[:, 1].min() < 200 - 5 * math.degrees(math.atan2(1, 6)) < rows[:, 1].max()
    behind = torch.tensor([[-6.0, 1.0, 0.0, 4.0, 2.0, 1.5, 0.4]])
    assert drawn(range_view(empty, [Outlines(behind, RED)])) == []


def test_boxes_beyond_all_measure_are_no_trouble() -> None:
    huge = [
        [x, 0.0, 0.0, size, size, 2.0, 0.3] for x, size in ((5, 1e12), (1e30, 4), (math.nan, 4))
    ]
    boxes = Outlines(torch.tensor(huge), (255, 0, 0), ["one", "two", "three"])
    picture = bird_view(torch.zeros(0, 4), [boxes], (0.0, -5.0, 10.0, 5.0))
    assert picture.shape == (120, 120, 3)


def test_sheets_hold_two_views_of_each_scan(tmp_path) -> None:
    dataset = open_dataset(write_kitti(tmp_path / "kitti", 3, 1))
    one, two, three = (labelled_sheet(dataset, dataset.frames("train")[:n]) for n in (1, 2, 3))
    side = round((AREA[3] - AREA[1]) * 12)
    assert one.shape[1] == side and one.shape[0] > side
    assert two.shape == (one.shape[0], 2 * side + 8, 3)
    assert three.shape == (2 * one.shape[0] + 8, 2 * side + 8, 3)
    assert torch.equal(two[:, :side], one) and torch.equal(three[: len(two)], two)


def test_texts_do_not_cover_each_other() -> None:
    box = [5.0, 0, 0, 2, 1, 1, 0]
    near, far = [5.3, 0.1, 0, 2, 1, 1, 0], [1.0, 3, 0, 2, 1, 1, 0]
    area, empty = (0, -5, 10, 5), torch.zeros(0, 4)

    def picture(boxes: list[list[float]], texts: list[str]) -> torch.Tensor:
        return bird_view(empty, [Outlines(torch.tensor(boxes), (9, 200, 9), texts)], area, 20)

    both = picture([box, near, far], ["Car 0.9", "Car 0.8", "Car 0.7"])
    assert torch.equal(both, picture([box, near, far], ["Car 0.9", "", "Car 0.7"]))
    assert not torch.equal(both, picture([box, near, far], ["Car 0.9", "Car 0.8", ""]))
