"""Road users and what stands beside the road, of solids, in a frame of their own: x forward, y
left, z up, the origin on the ground below their middle.

Sizes are drawn about the means of KITTI's labels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from geodistill.simulate.lidar.solids import Material, Part, block, bounds, column, ellipsoid

Random = np.random.Generator

GLASS, TYRE, PLATE = Material(0.08, 0.75), Material(0.06), Material(0.95)
LAMP = Material(0.75)
BARK, LEAVES, HEDGE = Material(0.25), Material(0.35, 0.45, 0.4), Material(0.3, 0.15, 0.06)
SKIN, SPOKES, STEEL = Material(0.4), Material(0.2, 0.6), Material(0.35)
WALL, WOOD = Material(0.4), Material(0.3)


@dataclass(frozen=True, eq=False)
class Shape:
    """Attributes:
    size: length, width and height of the box around it, in metres.
    parts: of it.
    """

    size: tuple[float, float, float]
    parts: list[Part]


def _fitted(parts: list[Part], beside: list[Part] | None = None) -> Shape:
    """Parts with the box around them, moved over its middle, and others that move along."""
    low, high = bounds(parts)
    middle = np.array([*(low + high)[:2] / 2, 0.0])
    moved = [replace(part, center=part.center - middle) for part in [*parts, *(beside or [])]]
    length, width, height = (float(value) for value in (*(high - low)[:2], high[2]))
    return Shape((length, width, height), moved)


def _about(random: Random, mean: float, deviation: float) -> float:
    """Normal, within two and a half deviations."""
    return mean + deviation * float(np.clip(random.normal(), -2.5, 2.5))


def _paint(random: Random) -> Material:
    return Material(float(random.choice([0.06, 0.15, 0.35, 0.55, 0.8])) * random.uniform(0.8, 1.1))


def _cloth(random: Random) -> Material:
    return Material(float(random.uniform(0.1, 0.7)))


def car(random: Random) -> Shape:
    """A hatchback, saloon, estate or off-road car."""
    body = str(
        random.choice(["hatchback", "saloon", "estate", "off-road"], p=[0.35, 0.3, 0.2, 0.15])
    )
    length = {"hatchback": 3.75, "saloon": 4.25, "estate": 4.3, "off-road": 4.2}[body]
    height = {"hatchback": 1.48, "saloon": 1.45, "estate": 1.5, "off-road": 1.75}[body]
    length, height = _about(random, length, 0.2), _about(random, height, 0.05)
    width = _about(random, 1.65, 0.06)
    paint, clearance = _paint(random), 0.2 * random.uniform(0.8, 1.3)
    belt = height * random.uniform(0.56, 0.64)
    bonnet = length * {"hatchback": 0.2, "saloon": 0.26, "estate": 0.24, "off-road": 0.25}[body]
    boot = length * {"hatchback": 0.02, "saloon": 0.2, "estate": 0.02, "off-road": 0.02}[body]
    lower, roof = belt - clearance, 0.06
    cabin, glass = length - bonnet - boot, height - belt - roof
    middle = (boot - bonnet) / 2
    slopes = (0.5 * cabin / 2.4, (0.45 if body in ("hatchback", "saloon") else 0.15), 0.16)
    top = cabin - slopes[0] - slopes[1]
    ahead = (slopes[1] - slopes[0]) / 2
    parts = [
        block(
            (0, 0, clearance + lower / 2), (length, width, lower), paint, narrower=(0.12, 0.1, 0.04)
        ),
        block((middle, 0, belt + glass / 2), (cabin, width - 0.1, glass), GLASS, narrower=slopes),
        block(
            (middle + ahead, 0, height - roof / 2), (top, width - 0.1 - 2 * slopes[2], roof), paint
        ),
        block((length / 2 - 0.02, 0, clearance + 0.25), (0.04, 0.5, 0.11), PLATE),
        block((-length / 2 + 0.02, 0, clearance + 0.35), (0.04, 0.5, 0.11), PLATE),
    ]
    for side in (-1, 1):  # pillars and lamps
        y = side * (width / 2 - 0.12)
        parts.append(block((middle, y, belt + glass / 2), (0.12, 0.06, glass), paint))
        parts.append(
            block((-length / 2 + 0.05, side * width * 0.4, belt - 0.15), (0.1, 0.2, 0.15), LAMP)
        )
    parts += _wheels(length * 0.31, width / 2 - 0.1, height * 0.21, 0.2)
    return Shape((length, width, height), parts)


def van(random: Random) -> Shape:
    length, width = _about(random, 5.0, 0.4), _about(random, 1.9, 0.08)
    height, paint = _about(random, 2.2, 0.2), _paint(random)
    nose, floor = length * 0.14, 0.28
    rest = length - nose
    parts = [
        block(
            (-nose / 2, 0, (floor + height) / 2),
            (rest, width, height - floor),
            paint,
            narrower=(0.5, 0.05, 0.06),
        ),
        block(
            (length / 2 - nose / 2 - 0.2, 0, floor + 0.4),
            (nose + 0.4, width, 0.8),
            paint,
            narrower=(0.1, 0, 0.05),
        ),
        block((-length / 2 + 0.02, 0, 0.6), (0.04, 0.5, 0.11), PLATE),
        *_wheels(length * 0.31, width / 2 - 0.1, 0.33, 0.22),
    ]
    return Shape((length, width, height), parts)


def truck(random: Random) -> Shape:
    length, width = _about(random, 8.5, 1.5), _about(random, 2.5, 0.08)
    height, paint = _about(random, 3.3, 0.25), _paint(random)
    cab, floor = 2.0, 0.9
    load = length - cab - 0.4
    parts = [
        block(
            (length / 2 - cab / 2, 0, 0.5 + (height - 0.9) / 2),
            (cab, width, height - 0.9),
            paint,
            narrower=(0.3, 0, 0.05),
        ),
        block(
            (-length / 2 + load / 2, 0, (floor + height) / 2),
            (load, width, height - floor),
            _paint(random),
        ),
        block((0, 0, floor - 0.15), (length - 0.4, 1.0, 0.3), STEEL),
        *_wheels(length * 0.33, width / 2 - 0.15, 0.48, 0.3),
    ]
    return Shape((length, width, height), parts)


def _wheels(x: float, y: float, radius: float, wide: float) -> list[Part]:
    size = (2 * radius, wide, 2 * radius)
    return [ellipsoid((i * x, j * y, radius), size, TYRE) for i in (-1, 1) for j in (-1, 1)]


def pedestrian(random: Random) -> Shape:
    """Someone who stands or walks, perhaps with a bag."""
    height = _about(random, 1.74, 0.11)
    stride = float(random.uniform(0.08, 0.45))  # of a foot, before or behind the hip
    swing = stride * random.uniform(0.3, 1.0)
    cloth, trousers = _cloth(random), _cloth(random)
    hip, shoulder = 0.48 * height, 0.82 * height
    chest = _about(random, 0.44, 0.05)
    parts = [
        ellipsoid((0, 0, (hip + shoulder) / 2), (0.27, chest, shoulder - hip + 0.18), cloth),
        ellipsoid((0.03, 0, height - 0.12), (0.21, 0.17, 0.25), SKIN),
    ]
    for side in (-1, 1):
        angle = math.atan2(-side * stride, hip)
        parts.append(
            ellipsoid(
                (side * stride / 2, side * 0.1, hip / 2),
                (0.17, 0.17, 1.02 * math.hypot(stride, hip)),
                trousers,
                (0, angle, 0),
            )
        )
        shoe = (side * stride + 0.05, side * 0.1, 0.05)
        parts.append(ellipsoid(shoe, (0.27, 0.1, 0.1), trousers))
        arm = math.atan2(side * swing, 0.6)
        parts.append(
            ellipsoid(
                (-side * swing / 2, side * (chest / 2 + 0.04), shoulder - 0.3),
                (0.11, 0.11, 0.66),
                cloth,
                (0, arm, 0.1 * side),
            )
        )
    if random.random() < 0.25:
        parts.append(block((-0.2, 0, shoulder - 0.25), (0.2, 0.3, 0.42), _cloth(random)))
    return _fitted(parts)


def sitting(random: Random) -> Shape:
    """Someone on a bench or a step, looking along x."""
    height, seat = _about(random, 1.28, 0.06), _about(random, 0.45, 0.03)
    cloth, trousers = _cloth(random), _cloth(random)
    trunk = height - seat - 0.2
    parts = [
        ellipsoid((-0.2, 0, seat + trunk / 2), (0.28, 0.44, trunk * 1.1), cloth),
        ellipsoid((-0.16, 0, height - 0.12), (0.21, 0.17, 0.25), SKIN),
    ]
    for side in (-1, 1):
        parts.append(ellipsoid((0.05, side * 0.11, seat + 0.06), (0.55, 0.16, 0.16), trousers))
        parts.append(ellipsoid((0.3, side * 0.11, seat / 2), (0.13, 0.13, seat * 1.05), trousers))
        parts.append(ellipsoid((-0.05, side * 0.25, seat + 0.3), (0.4, 0.1, 0.12), cloth))
    return _fitted(parts, [block((-0.25, 0, seat - 0.06), (0.4, 1.4, 0.06), WOOD)])


def cyclist(random: Random) -> Shape:
    """Someone on a bicycle, upright or bent forward."""
    length, height = _about(random, 1.76, 0.08), _about(random, 1.74, 0.09)
    lean = float(random.uniform(0.1, 0.75))
    cloth, trousers, saddle = _cloth(random), _cloth(random), 0.95
    trunk = height - saddle - 0.28 * math.cos(lean)
    reach = trunk * math.tan(lean) * 0.6
    hip, elbow = -0.22, _about(random, 0.25, 0.03)
    parts = _bicycle(length)
    parts += [
        ellipsoid(
            (hip + reach / 2, 0, saddle + trunk / 2),
            (0.27, 0.42, trunk * 1.15),
            cloth,
            (0, math.atan2(reach, trunk), 0),
        ),
        ellipsoid((hip + reach + 0.06, 0, height - 0.13), (0.22, 0.18, 0.25), SKIN),
    ]
    pedal = float(random.uniform(-0.12, 0.12))
    for side in (-1, 1):
        knee = 0.5 * saddle
        parts.append(
            ellipsoid(
                (0.02, side * 0.11, saddle - 0.2 + side * pedal),
                (0.5, 0.15, 0.17),
                trousers,
                (0, 0.7, 0),
            )
        )
        parts.append(
            ellipsoid((0.1, side * 0.11, knee - 0.1 + side * pedal), (0.13, 0.13, 0.5), trousers)
        )
        parts.append(
            ellipsoid(
                (hip + reach + 0.22, side * elbow, saddle + trunk * 0.55),
                (0.6, 0.1, 0.1),
                cloth,
                (0, 0.7, 0),
            )
        )
    return _fitted(parts)


def bicycle(random: Random) -> Shape:
    """Left standing, without a rider."""
    length = _about(random, 1.75, 0.08)
    return Shape((length, 0.5, 1.05), _bicycle(length))


def _bicycle(length: float) -> list[Part]:
    wheel = 0.34
    x = length / 2 - wheel
    return [
        ellipsoid((x, 0, wheel), (2 * wheel, 0.05, 2 * wheel), SPOKES),
        ellipsoid((-x, 0, wheel), (2 * wheel, 0.05, 2 * wheel), SPOKES),
        block((0, 0, 0.55), (0.65, 0.05, 0.1), STEEL, (0, -0.1, 0)),
        block((-0.1, 0, 0.6), (0.05, 0.05, 0.7), STEEL, (0, -0.25, 0)),
        block((x - 0.1, 0, 0.75), (0.05, 0.05, 0.7), STEEL, (0, -0.25, 0)),
        block((x - 0.2, 0, 1.0), (0.05, 0.5, 0.05), STEEL),
    ]


def tree(random: Random) -> Shape:
    height, crown = _about(random, 7.0, 1.5), _about(random, 3.4, 0.8)
    radius, clear = float(random.uniform(0.1, 0.3)), _about(random, 2.4, 0.3)
    parts = [column((0, 0, clear / 2), radius, clear, BARK)]
    for _ in range(3):
        x, y = (float(value) for value in random.normal(0, 0.15 * crown, 2))
        z = clear + 0.5 * (height - clear) * random.uniform(0.7, 1.2)
        parts.append(ellipsoid((x, y, z), (crown * 0.8, crown * 0.8, height - clear), LEAVES))
    return Shape((2 * radius, 2 * radius, height), parts)


def pole(random: Random) -> Shape:
    """A street lamp, a sign or a traffic light."""
    radius, height = float(random.uniform(0.04, 0.12)), float(random.uniform(2.2, 6.0))
    parts = [column((0, 0, height / 2), radius, height, STEEL)]
    if random.random() < 0.5:
        wide, z = float(random.uniform(0.4, 0.8)), min(height, 2.6)
        parts.append(block((0.05, 0, z), (0.05, wide, wide), PLATE))
    return Shape((2 * radius, 2 * radius, height), parts)


def bollard(random: Random) -> Shape:
    """A post, a hydrant or an advertising pillar, up to as tall and stout as a pedestrian."""
    radius, height = float(random.uniform(0.08, 0.35)), float(random.uniform(0.8, 2.1))
    material = Material(float(random.uniform(0.1, 0.7)))
    parts = [column((0, 0, height / 2), radius, height, material)]
    if random.random() < 0.5:
        size = 2.2 * radius
        parts.append(ellipsoid((0, 0, height), (size, size, size), material))
    return Shape((2 * radius, 2 * radius, height), parts)


def cabinet(random: Random) -> Shape:
    """A bin, a switch box or a ticket machine."""
    length, width = float(random.uniform(0.4, 1.4)), float(random.uniform(0.35, 0.8))
    height = float(random.uniform(0.8, 1.9))
    material = Material(float(random.uniform(0.1, 0.6)))
    parts = [
        block((0, 0, height / 2), (length, width, height), material, narrower=(0.05, 0.05, 0.02))
    ]
    return Shape((length, width, height), parts)


def shrub(random: Random) -> Shape:
    wide, height = float(random.uniform(0.5, 1.6)), float(random.uniform(0.6, 1.8))
    parts = []
    for _ in range(3):
        x, y = (float(value) for value in random.normal(0, 0.15 * wide, 2))
        parts.append(ellipsoid((x, y, height / 2), (0.8 * wide, 0.8 * wide, height), HEDGE))
    return Shape((wide, wide, height), parts)


def container(random: Random) -> Shape:
    """A skip, a trailer or a stack of goods, of about a car's size."""
    length, width = float(random.uniform(2.2, 4.6)), float(random.uniform(1.3, 2.0))
    height = float(random.uniform(1.1, 2.1))
    slope = float(random.choice([0.0, 0.0, -0.4]))
    floor = float(random.choice([0.05, 0.5]))
    material = Material(float(random.uniform(0.1, 0.6)))
    center = (0, 0, floor + (height - floor) / 2)
    parts = [
        block(
            center,
            (length + 2 * min(slope, 0), width, height - floor),
            material,
            narrower=(slope, slope, 0),
        )
    ]
    if floor > 0.3:
        parts += _wheels(0.25 * length, width / 2 - 0.1, 0.3, 0.2)
    return Shape((length, width, height), parts)


def hedge(random: Random) -> Shape:
    length, height = float(random.uniform(3, 12)), float(random.uniform(0.7, 2.0))
    parts = [block((0, 0, height / 2), (length, 0.8, height), HEDGE)]
    return Shape((length, 0.8, height), parts)


def wall(random: Random) -> Shape:
    length, height = float(random.uniform(4, 15)), float(random.uniform(0.8, 2.2))
    return Shape((length, 0.25, height), [block((0, 0, height / 2), (length, 0.25, height), WALL)])


def building(random: Random) -> Shape:
    """A front with bays and a doorway, seen from the street along its y axis."""
    length, depth = float(random.uniform(8, 24)), 8.0
    height, material = float(random.uniform(5, 14)), Material(float(random.uniform(0.2, 0.6)))
    parts = [block((0, 0, height / 2), (length, depth, height), material)]
    for _ in range(int(random.integers(0, 4))):
        x, wide = float(random.uniform(-0.4, 0.4)) * length, float(random.uniform(0.6, 3.0))
        deep = float(random.uniform(0.2, 0.8))
        for side in (-1, 1):
            center = (x, side * (depth / 2 + deep / 2), height / 2)
            parts.append(block(center, (wide, deep, height), material))
    return Shape((length, depth, height), parts)
