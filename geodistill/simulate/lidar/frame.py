"""One simulated scan with its labels, as KITTI has them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from geodistill.detect.datasets.kitti import camera_columns, clipped, image_boxes, in_view
from geodistill.io.kitti import Labels
from geodistill.io.kitti_frames import IMAGE_SIZE, Calibration
from geodistill.simulate.lidar.cast import (
    GROUND,
    NOTHING,
    Hits,
    Pairs,
    Placed,
    first,
    meet,
    meet_ground,
    placed_parts,
)
from geodistill.simulate.lidar.sensor import Rays, Sensor, fire
from geodistill.simulate.lidar.solids import Material, rotation
from geodistill.simulate.lidar.street import Ground, Street, Thing, make_street

Array = NDArray[np.float64]

CALIBRATION = Calibration(
    np.array([[721.5377, 0, 609.5593, 44.85728], [0, 721.5377, 172.854, 0.2163791], [0, 0, 1, 0]]),
    np.array(
        [
            [0.0, -1.0, 0.0, 0.0],
            [0.0, 0.0, -1.0, -0.08],
            [1.0, 0.0, 0.0, -0.27],
            [0.0, 0.0, 0.0, 1.0],
        ]
    ),
)
"""Of the simulated camera: KITTI's lens, 0.08 m below the LiDAR and 0.27 m before it."""
VIEW_DEG = 43.0  # half the angle that the camera sees, and a little
ROAD, PAVING = Material(0.18), Material(0.3)
TRAIL_S = (-0.2, -0.1, 0.1, 0.2)
"""Times of the neighbouring frames, of which a label's trail says where the object is."""
VISIBLE = (0.8, 0.45)
"""Least shares of an object's beams that reach it with occlusion 0 and 1."""
_BASE_LOSS, _FAR_LOSS, _GRAZING_LOSS = 0.03, 0.35, 0.25


@dataclass(frozen=True, eq=False)
class Frame:
    """Attributes:
    points: float32 [N, 4], x, y, z and reflectance.
    labels: of the objects in the image that have a point there; others have none, not even one of
        unknown occlusion.
    boxes: float64 [M, 7] of the labels, in the LiDAR's frame.
    trails: float64 [M, T, 7], where they are at `TRAIL_S`, in this frame's coordinates: what
        stands stays where it is.
    """

    points: NDArray[np.float32]
    labels: Labels
    boxes: Tensor
    trails: Tensor


def simulate(sensor: Sensor, seed: int, number: int, around: bool = False) -> Frame:
    """The frame of a number: another street for each, the same for the same seed.

    Args:
        around: a whole turn; else the sector that the camera sees.
    """
    random = np.random.default_rng([seed, number])
    return scan(sensor, make_street(random), random, around)


def scan(sensor: Sensor, street: Street, random: np.random.Generator, around: bool) -> Frame:
    """A turn of a sensor, or the camera's sector of it, and what is labelled in it."""
    rays = fire(sensor, 180.0 if around else VIEW_DEG, random)
    things = street.things
    placed = placed_parts([(t.shape.parts, t.place, rotation(t.yaw)) for t in things])
    pairs = _solid_pairs(meet(rays, placed), placed, random)
    ground = meet_ground(rays, street.ground.height, street.ground.bounds, sensor.range_m)
    hits = first(len(rays.directions), pairs, ground)
    points, owner = _returns(sensor, rays, hits, placed, street.ground, random)
    shown = _share_shown(things, pairs, hits, placed)
    seen = (owner >= 0) & in_view(points[:, :3], CALIBRATION, IMAGE_SIZE)
    count = np.bincount(owner[seen], minlength=len(things))
    labels, boxes, trails = _labels(street, shown, count)
    return Frame(points, labels, boxes, trails)


def _solid_pairs(pairs: Pairs, placed: Placed, random: np.random.Generator) -> Pairs:
    """Without the beams that go through what is partly clear; others go in a little."""
    of_part = np.array([(p.material.clear, p.material.depth_m) for p in placed.parts])
    clear, depth = of_part.reshape(-1, 2)[pairs.part].T
    kept = random.random(len(clear)) >= clear
    deeper = depth[kept] * np.minimum(random.exponential(1, int(kept.sum())), 3)
    distance = pairs.distance[kept] + deeper
    return Pairs(pairs.ray[kept], pairs.part[kept], distance, pairs.cosine[kept])


def _returns(
    sensor: Sensor,
    rays: Rays,
    hits: Hits,
    placed: Placed,
    ground: Ground,
    random: np.random.Generator,
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Points that come back, and the thing each is of (-1: the ground)."""
    reflectance = np.zeros(len(hits.distance))
    solid = hits.part >= 0
    reflectance[solid] = np.array([p.material.reflectance for p in placed.parts])[hits.part[solid]]
    below = hits.part == GROUND
    at = rays.directions[below] * hits.distance[below, None]
    road = np.abs(ground.across(at[:, 0], at[:, 1])) < ground.half
    reflectance[below] = np.where(road, ROAD.reflectance, PAVING.reflectance)
    # A weak echo is lost: from afar, at a grazing angle, from a dark surface.
    part = hits.distance / sensor.range_m
    dark = 1 - np.sqrt(np.clip(reflectance, 0, 1))
    lost = _BASE_LOSS + _FAR_LOSS * part * (0.4 + dark)
    lost += _GRAZING_LOSS * np.exp(-hits.cosine / 0.04) * (0.3 + part)
    seen = (hits.part != NOTHING) & (hits.distance < sensor.range_m)
    kept = np.flatnonzero(seen & (random.random(len(lost)) >= lost))
    distance = hits.distance[kept] + random.normal(0, sensor.noise_m, len(kept))
    grass = np.zeros(len(reflectance))
    grass[below] = np.where(road, 0, ground.grass_m)
    # Blades send a beam back before it reaches the soil, at a grazing angle farther before.
    before = grass[kept] * random.random(len(kept)) ** 2 / np.maximum(hits.cosine[kept], 0.15)
    distance -= np.minimum(before, 0.1 * distance)
    xyz = rays.directions[kept] * distance[:, None]
    echo = reflectance[kept] * (0.4 + 0.6 * hits.cosine[kept]) + random.normal(0, 0.03, len(kept))
    echo = np.clip(echo, 0, 0.99).round(2)
    owner = np.full(len(kept), -1)
    met = hits.part[kept] >= 0
    owner[met] = placed.owner[hits.part[kept][met]]
    return np.column_stack([xyz, echo]).astype(np.float32), owner


def _share_shown(things: list[Thing], pairs: Pairs, hits: Hits, placed: Placed) -> Array:
    """Of the beams that would meet each thing alone, the share that does: [T]."""
    owner = placed.owner[pairs.part]
    labelled = np.array([thing.name is not None for thing in things], bool)[owner]
    rays = len(hits.distance)
    alone = np.unique(owner[labelled] * rays + pairs.ray[labelled])
    at, ray = alone // rays, alone % rays
    met = hits.part[ray]
    reached = (met >= 0) & (placed.owner[np.maximum(met, 0)] == at)
    total = np.bincount(at, minlength=len(things))
    return np.bincount(at, reached, len(things)) / np.maximum(total, 1)


def _labels(
    street: Street, shown: Array, count: NDArray[np.int64]
) -> tuple[Labels, Tensor, Tensor]:
    """Of the things that have a name and a point and are in the image."""
    things = street.things
    named = [k for k, thing in enumerate(things) if thing.name is not None and count[k] > 0]
    boxes = torch.from_numpy(np.array([_box(things[k]) for k in named]).reshape(-1, 7))
    px, seen = image_boxes(boxes, CALIBRATION, IMAGE_SIZE)
    inside = clipped(px, IMAGE_SIZE)
    truncation = 1 - _areas(inside) / np.maximum(_areas(px), 1e-9)
    seen &= (truncation < 0.95) & (_areas(inside) > 4)
    named = [k for k, one in zip(named, seen, strict=True) if one]
    kept = torch.from_numpy(seen)
    boxes, inside, truncation = boxes[kept], inside[seen], truncation[seen]
    sizes, location, turn, alpha = camera_columns(boxes, CALIBRATION)
    share = shown[named]
    occlusion = (share < VISIBLE[0]).astype(float) + (share < VISIBLE[1])
    names = tuple(str(things[k].name) for k in named)
    labels = Labels(names, truncation, occlusion, alpha, inside, sizes, location, turn)
    trails = [[_moved(things[k], s) for s in TRAIL_S] for k in named]
    return labels, boxes, torch.from_numpy(np.array(trails).reshape(-1, len(TRAIL_S), 7))


def _box(thing: Thing) -> list[float]:
    length, width, height = thing.shape.size
    x, y, z = thing.place.tolist()
    return [x, y, z + height / 2, length, width, height, thing.yaw]


def _moved(thing: Thing, seconds: float) -> list[float]:
    box = _box(thing)
    box[0] += thing.speed * math.cos(thing.yaw) * seconds
    box[1] += thing.speed * math.sin(thing.yaw) * seconds
    return box


def _areas(px: Array) -> Array:
    return np.prod(px[:, 2:] - px[:, :2], axis=1)
