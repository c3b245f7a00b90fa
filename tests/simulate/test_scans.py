"""Scans of streets that are known: what labels say is what the beams did."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from geodistill.detect.boxes import inside
from geodistill.detect.datasets.kitti import image_boxes, lidar_boxes
from geodistill.io.kitti_frames import IMAGE_SIZE
from geodistill.simulate.lidar import shapes
from geodistill.simulate.lidar.cast import meet, placed_parts
from geodistill.simulate.lidar.frame import CALIBRATION, TRAIL_S, Frame, scan, simulate
from geodistill.simulate.lidar.sensor import SENSORS, Sensor, fire
from geodistill.simulate.lidar.shapes import Shape
from geodistill.simulate.lidar.solids import Material, block, rotation
from geodistill.simulate.lidar.street import SENSOR_M, Ground, Street, Thing, make_street
from geodistill.simulate.lidar.street import collides as meets

FLAT = Ground(0.0, 0.0, 0.0, 60.0, 0.0, ())
HDL64 = SENSORS["hdl-64e"]
MEANS = {"car": (3.9, 1.6, 1.56), "pedestrian": (0.8, 0.6, 1.73), "cyclist": (1.76, 0.6, 1.73)}
"""Of KITTI's labels."""


def thing(
    make: Callable, name: str | None, x: float, y: float, yaw: float = 0.0, speed: float = 0.0
) -> Thing:
    shape = make(np.random.default_rng(4))
    return Thing(shape, name, np.array([x, y, -SENSOR_M]), yaw, speed)


def screen(x: float, y: float, wide: float, high: float = 3.0, reflectance: float = 0.9) -> Thing:
    parts = [block((0, 0, high / 2), (0.1, wide, high), Material(reflectance))]
    return Thing(Shape((0.1, wide, high), parts), None, np.array([x, y, -SENSOR_M]), 0.0)


def scanned(*things: Thing, sensor: Sensor = HDL64, seed: int = 0) -> Frame:
    return scan(sensor, Street(FLAT, list(things)), np.random.default_rng(seed), False)


@pytest.mark.parametrize(
    "name", ["car", "van", "truck", "pedestrian", "sitting", "cyclist", "bicycle"]
)
def test_shapes_fill_their_boxes(name: str) -> None:
    """Seen from all sides, hits lie in the box, and reach its faces."""
    fine = Sensor(tuple(np.linspace(8, -24, 60)), 900, 100.0)
    for seed in range(12):
        shape = getattr(shapes, name)(np.random.default_rng(seed))
        hits = []
        for yaw in np.arange(8) * math.pi / 4:
            place = np.array([11.0 + shape.size[0] / 2, 0.0, -1.73])
            rays = fire(fine, 40.0, np.random.default_rng(0))
            own = shape.parts[:-1] if name == "sitting" else shape.parts  # not the bench
            pairs = meet(rays, placed_parts([(own, place, rotation(yaw))]))
            at = rays.directions[pairs.ray] * pairs.distance[:, None]
            hits.append((at - place) @ rotation(yaw))
        low, high = np.concatenate(hits).min(0), np.concatenate(hits).max(0)
        half = np.array([shape.size[0] / 2, shape.size[1] / 2])
        over = np.array([*(high[:2] - half), *(-low[:2] - half), high[2] - shape.size[2], -low[2]])
        assert (over < 0.06).all(), (seed, over)
        assert (over > -0.14).all(), (seed, over)


@pytest.mark.parametrize("name", MEANS)
def test_sizes_are_about_those_of_the_benchmark(name: str) -> None:
    random = np.random.default_rng(0)
    sizes = np.array([getattr(shapes, name)(random).size for _ in range(200)])
    np.testing.assert_allclose(sizes.mean(0), MEANS[name], rtol=0.12)
    assert (sizes.std(0) > 0.02).all()


def test_points_on_an_object_are_in_its_box() -> None:
    """Nothing else stands there: what is above the ground is the object's."""
    for make, name in ((shapes.car, "Car"), (shapes.cyclist, "Cyclist"), (shapes.van, "Van")):
        frame = scanned(thing(make, name, 14.0, 2.0, 0.7))
        points = torch.from_numpy(frame.points)
        above = points[points[:, 2] > -1.6][:, :3].double()
        grown = frame.boxes + torch.tensor([0, 0, 0, 0.2, 0.2, 0.2, 0])
        assert frame.labels.names == (name,) and len(above) > 60
        assert inside(above, grown).float().mean() > 0.995


def test_a_lone_car_is_visible_and_whole() -> None:
    frame = scanned(thing(shapes.car, "Car", 15.0, 1.0, 0.3))
    labels = frame.labels
    assert labels.occlusion.tolist() == [0] and labels.truncation.tolist() == [0]
    np.testing.assert_allclose(lidar_boxes(labels, CALIBRATION), frame.boxes, atol=1e-5)
    x, _, z = labels.location[0]
    turn = labels.rotation_y[0] - labels.alpha[0] - math.atan2(x, z)
    assert math.remainder(turn, 2 * math.pi) == pytest.approx(0, abs=1e-9)
    assert labels.rotation_y[0] == pytest.approx(-0.3 - math.pi / 2)


@pytest.mark.parametrize(("shown", "occlusion"), [(0.9, 0), (0.6, 1), (0.2, 2)])
def test_occlusion_is_by_the_share_of_beams_that_arrive(shown: float, occlusion: int) -> None:
    """A screen before a car that is seen from behind covers its left."""
    car = thing(shapes.car, "Car", 20.0, 0.0)
    half = car.shape.size[1] / 2
    edge = half * (2 * shown - 1) * 9.95 / (20 - car.shape.size[0] / 2)
    frame = scanned(screen(10.0, edge + 2.0, 4.0), car)
    assert frame.labels.occlusion.tolist() == [occlusion]


def test_what_no_beam_reaches_is_not_labelled() -> None:
    car = thing(shapes.car, "Car", 20.0, 0.0)
    assert len(scanned(screen(10.0, 0.0, 6.0), car).labels) == 0
    behind, beside = thing(shapes.car, "Car", -12.0, 0.0), thing(shapes.car, "Car", 5.0, 12.0)
    assert len(scanned(behind, beside).labels) == 0
    assert len(scanned(thing(shapes.car, None, 20.0, 0.0)).labels) == 0


def test_truncation_is_the_share_of_the_box_outside_of_the_image() -> None:
    car = thing(shapes.car, "Car", 10.0, 7.5, math.pi / 2)
    frame = scanned(car)
    px, _ = image_boxes(frame.boxes, CALIBRATION, IMAGE_SIZE)
    left, top, right, bottom = px[0]
    assert left < 0 < right and top > 0 and bottom < IMAGE_SIZE[0]
    assert frame.labels.truncation[0] == pytest.approx(-left / (right - left), rel=1e-9)
    np.testing.assert_allclose(frame.labels.bbox[0], [0, top, right, bottom])


def test_a_street_with_nothing_in_it_is_its_ground() -> None:
    found = scanned()
    assert len(found.labels) == 0 and found.boxes.shape == (0, 7)
    assert found.trails.shape == (0, len(TRAIL_S), 7)
    assert len(found.points) > 1000
    assert np.abs(found.points[:, 2] + SENSOR_M).max() < 0.2


def test_ranges_are_noisy_as_the_sensor_says() -> None:
    for noise in (0.02, 0.05):
        frame = scanned(screen(12.0, 0.0, 8.0), sensor=replace(HDL64, noise_m=noise))
        points = frame.points[frame.points[:, 2] > -1.5].astype(float)
        away = np.linalg.norm(points[:, :3], axis=1)
        error = away - away * 11.95 / points[:, 0]
        assert len(error) > 2000
        assert error.mean() == pytest.approx(0, abs=4 * noise / math.sqrt(len(error)))
        assert error.std() == pytest.approx(noise, rel=0.05)


def test_far_dark_and_grazed_surfaces_lose_more_beams() -> None:
    def share(x: float, reflectance: float) -> float:
        seen = scanned(screen(x, 0.0, 0.5 * x, 0.1 * x + 1.0, reflectance))
        beams = fire(HDL64, 43.0, np.random.default_rng(0)).directions
        at = beams / beams[:, :1] * (x - 0.05)
        height = at[:, 2] + SENSOR_M
        hit = (np.abs(at[:, 1]) < 0.25 * x) & (height > 0.2) & (height < 0.1 * x + 1.0)
        own = np.abs(seen.points[:, 0] - (x - 0.05)) < 0.3
        return float((own & (seen.points[:, 2] > -SENSOR_M + 0.2)).sum() / hit.sum())

    assert 0.9 < share(10, 0.9) < 1.0
    assert share(60, 0.9) < share(10, 0.9) - 0.03
    assert share(60, 0.05) < share(60, 0.9) - 0.05
    strong = scanned(screen(10.0, 0.0, 8.0, reflectance=0.9)).points
    weak = scanned(screen(10.0, 0.0, 8.0, reflectance=0.2)).points
    assert np.median(strong[strong[:, 2] > 0, 3]) > 3 * np.median(weak[weak[:, 2] > 0, 3])
    assert strong[:, 3].min() >= 0 and strong[:, 3].max() < 1


def test_things_do_not_overlap_and_stand_on_the_ground() -> None:
    for seed in range(4):
        street = make_street(np.random.default_rng(seed))
        boxes = np.array([[*one.place[:2], *one.shape.size[:2], one.yaw] for one in street.things])
        for k, box in enumerate(boxes[1:], 1):
            assert not meets(box, boxes[:k], 0.0)
        for one in street.things:
            x, y, z = one.place
            assert z == pytest.approx(float(street.ground.height(np.array(x), np.array(y))))


def test_a_frame_is_a_function_of_its_seed_and_number() -> None:
    one, again = simulate(HDL64, 3, 5), simulate(HDL64, 3, 5)
    assert one.points.tobytes() == again.points.tobytes()
    assert one.labels.names == again.labels.names and torch.equal(one.trails, again.trails)
    for other in (simulate(HDL64, 3, 6), simulate(HDL64, 4, 5)):
        assert other.points.tobytes() != one.points.tobytes()


def test_a_whole_turn_holds_what_is_behind() -> None:
    frame = simulate(HDL64, 0, 0, around=True)
    assert (frame.points[:, 0] < -3).sum() > 5000
    assert len(frame.points) > 2.5 * len(simulate(HDL64, 0, 0).points)


def test_trails_go_as_fast_as_objects_do() -> None:
    """In the frame's own coordinates: what is parked stays where it is."""
    driving = thing(shapes.car, "Car", 20.0, 0.0, 0.5, speed=10.0)
    frame = scanned(driving, thing(shapes.car, "Car", 15.0, 5.0, 0.1))
    moved = (frame.trails[0] - frame.boxes[0]).numpy()
    for seconds, way in zip(TRAIL_S, moved, strict=True):
        wanted = [10 * math.cos(0.5) * seconds, 10 * math.sin(0.5) * seconds, 0, 0, 0, 0, 0]
        np.testing.assert_allclose(way, wanted, atol=1e-6)
    assert torch.equal(frame.trails[1], frame.boxes[1].expand(len(TRAIL_S), 7))
