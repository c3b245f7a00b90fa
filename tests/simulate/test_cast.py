"""Beams against solids and the ground: slow searches along every beam find the same."""

from __future__ import annotations

import math

import numpy as np
import pytest

from geodistill.simulate.lidar.cast import (
    GROUND,
    NOTHING,
    Pairs,
    first,
    meet,
    meet_ground,
    placed_parts,
)
from geodistill.simulate.lidar.sensor import SENSORS, Rays, Sensor, fire
from geodistill.simulate.lidar.solids import Material, Part, block, column, ellipsoid, rotation
from geodistill.simulate.lidar.street import make_street

STUFF = Material(0.5)
COARSE = Sensor(tuple(np.linspace(20, -30, 26)), 120, 100.0)
FINE = Sensor(tuple(np.linspace(20, -30, 26)), 2083, 100.0)


def some_part(random: np.random.Generator) -> Part:
    size = tuple(random.uniform(0.3, 4.0, 3))
    center, turn = tuple(random.normal(0, 0.5, 3)), tuple(random.uniform(-3, 3, 3))
    kind = random.integers(3)
    if kind == 0:
        return block(center, size, STUFF, turn, tuple(random.uniform(-0.4, 0.14, 3)))
    if kind == 1:
        return column(center, size[0] / 2, size[2], STUFF)
    return ellipsoid(center, size, STUFF, turn)


def some_things(random: np.random.Generator, around: bool) -> list:
    """All around the sensor, some above and below it; or before it."""
    if around:
        places = random.uniform(-15, 15, (24, 3)) * [1, 1, 0.3]
        places[:3, :2] = random.normal(0, 0.3, (3, 2))  # over or under the sensor's axis
        places[:3, 2] = (9.0, -9.0, 12.0)
    else:
        places = random.uniform([5, -1.5, -3], [9, 1.5, 2], (24, 3))
    turns = [rotation(yaw) for yaw in random.uniform(-3, 3, 24)]
    return [([some_part(random)], *pair) for pair in zip(places, turns, strict=True)]


def slow(v: np.ndarray, part: Part, turn: np.ndarray, place: np.ndarray) -> np.ndarray:
    """Distances at which beams [N, 3] enter a part: each plane's own point, kept if it is on the
    solid; or the first change of an ellipsoid's sign along fine steps, halved to the end."""
    axes = turn @ part.rotation
    start, way = -(turn @ part.center + place) @ axes, v @ axes
    found = np.full(len(v), np.inf)
    if part.planes is not None:
        for plane in part.planes:
            slope = way @ plane[:3]
            t = (plane[3] - plane[:3] @ start) / np.where(slope == 0, np.nan, slope)
            at = start + t[:, None] * way
            on = (at @ part.planes[:, :3].T <= part.planes[:, 3] + 1e-9).all(1)
            found = np.where(on & (t > 0) & (slope < 0), np.minimum(found, t), found)
        return found
    middle = float(np.linalg.norm(start))  # half the diameter is less than 4 m
    steps = np.arange(max(middle - 4, 0.0), middle + 4, 0.01)
    for k, one in enumerate(way):
        if np.linalg.norm(np.cross(start, one)) > 4:
            continue
        under = (((start + steps[:, None] * one) / part.half) ** 2).sum(1) < 1
        if under.any():
            low, high = steps[under.argmax()] - 0.01, steps[under.argmax()]
            for _ in range(30):
                half = (low + high) / 2
                inside = (((start + half * one) / part.half) ** 2).sum() < 1
                low, high = (low, half) if inside else (half, high)
            found[k] = high
    return found


@pytest.mark.parametrize("around", [False, True])
def test_every_meeting_is_found_and_no_other(around: bool) -> None:
    random = np.random.default_rng(5)
    rays = fire(COARSE, 180.0, random) if around else fire(FINE, 8.0, random)
    things = some_things(random, around)
    pairs = meet(rays, placed_parts(things))
    found = np.full((len(things), len(rays.directions)), np.inf)
    found[pairs.part, pairs.ray] = pairs.distance
    assert len(pairs.ray) == np.isfinite(found).sum()  # no pair twice
    for own, (parts, place, turn) in zip(found, things, strict=True):
        wanted = slow(rays.directions, parts[0], turn, place)
        # A beam that grazes an ellipsoid between two steps is not in the slow search.
        grazed = np.isfinite(own) & ~np.isfinite(wanted)
        assert grazed.sum() <= 0.02 * np.isfinite(own).sum()
        assert not (np.isfinite(wanted) & ~np.isfinite(own)).any()
        both = np.isfinite(wanted)
        np.testing.assert_allclose(own[both], wanted[both], atol=1e-6)
    assert np.isfinite(found).any(1).sum() > 15


def test_cosines_are_those_of_the_surface() -> None:
    rays = fire(COARSE, 10.0, np.random.default_rng(0))
    wall = block((8.0, 0, 0), (0.2, 60, 60), STUFF)
    pairs = meet(rays, placed_parts([([wall], np.zeros(3), np.eye(3))]))
    np.testing.assert_allclose(pairs.cosine, rays.directions[pairs.ray, 0], atol=1e-9)
    ball = ellipsoid((6.0, 0.5, 0.3), (3, 3, 3), STUFF)
    pairs = meet(rays, placed_parts([([ball], np.zeros(3), np.eye(3))]))
    v = rays.directions[pairs.ray]
    normal = (v * pairs.distance[:, None] - [6.0, 0.5, 0.3]) / 1.5
    np.testing.assert_allclose(pairs.cosine, -(v * normal).sum(1), atol=1e-9)


def test_the_ground_is_met_where_the_beam_first_goes_under_it() -> None:
    random = np.random.default_rng(3)
    ground = make_street(random).ground
    rays = fire(COARSE, 180.0, random)
    distance, cosine = meet_ground(rays, ground.height, ground.bounds, 100.0)
    low, high = ground.bounds
    steps = np.arange(1.0, 100.0, 0.02)
    for v, own in zip(rays.directions[::7], distance[::7], strict=True):
        at = steps[:, None] * v
        z = ground.height(at[:, 0], at[:, 1])
        assert (z >= low).all() and (z <= high).all()
        under = at[:, 2] <= z
        if under.any():
            assert own == pytest.approx(steps[under.argmax()], abs=0.05)
        else:
            assert own == np.inf
    met = np.isfinite(distance)
    flat = -rays.directions[met, 2]
    assert np.abs(cosine[met] - flat).mean() < 0.05 and (cosine[met] <= 1 + 1e-12).all()


def test_the_nearest_is_what_a_beam_meets() -> None:
    pairs = Pairs(
        np.array([0, 1, 0, 3]),
        np.array([5, 6, 7, 8]),
        np.array([4.0, 9.0, 3.0, 2.0]),
        np.array([0.1, 0.2, 0.3, 0.4]),
    )
    ground = np.array([np.inf, 8.0, np.inf, 7.0]), np.array([0, 0.5, 0, 0.6])
    hits = first(4, pairs, ground)
    assert hits.distance.tolist() == [3.0, 8.0, math.inf, 2.0]
    assert hits.part.tolist() == [7, GROUND, NOTHING, 8]
    assert hits.cosine.tolist() == [0.3, 0.5, 0, 0.4]


@pytest.mark.parametrize("name", SENSORS)
def test_beams_point_where_the_table_says(name: str) -> None:
    sensor = SENSORS[name]
    rays: Rays = fire(sensor, 180.0, np.random.default_rng(0))
    v = rays.directions.reshape(len(sensor.elevations_deg), sensor.turn, 3)
    up = np.degrees(np.arcsin(v[..., 2]))
    np.testing.assert_allclose(up, np.array(sensor.elevations_deg)[:, None] + 0 * up, atol=1e-9)
    assert (np.diff(sensor.elevations_deg) < 0).all()
    azimuth = np.unwrap(np.arctan2(v[0, :, 1], v[0, :, 0]))
    steps = -np.degrees(np.diff(azimuth))
    assert steps.mean() == pytest.approx(360 / sensor.turn, rel=1e-3)
    assert steps.std() == pytest.approx(sensor.jitter_deg * math.sqrt(2), rel=0.1)
