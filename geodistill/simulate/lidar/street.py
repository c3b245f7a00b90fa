"""Generated streets: where the road runs, and what is on and beside it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from geodistill.simulate.lidar import shapes
from geodistill.simulate.lidar.shapes import Shape

Array = NDArray[np.float64]
Random = np.random.Generator
SENSOR_M = 1.73
"""Height of the sensor above the road."""
KERB_M = 0.12
REACH_M = 75.0
_BACKDROP_M = 105.0
_MARGIN_M = 0.25  # between two things


@dataclass(frozen=True, eq=False)
class Thing:
    """Attributes:
    shape: of it.
    name: its class in KITTI; None for what is not labelled.
    place: float64 [3], of its origin, in the sensor's frame.
    yaw: in radians.
    speed: in metres a second along its yaw.
    """

    shape: Shape
    name: str | None
    place: Array
    yaw: float
    speed: float = 0.0


@dataclass(frozen=True)
class Ground:
    """A road along x that bends, with kerbs and a gently uneven surface.

    Attributes:
        yaw: of the road where the sensor is, in radians.
        offset: of the sensor from the road's middle, in metres, to the left.
        bend: curvature, 1 / m.
        half: half the road's width in metres.
        grass_m: how high it stands beside the road; 0: pavements.
        waves: amplitude in metres, wave numbers along x and y in 1 / m, and phase of each wave.
    """

    yaw: float
    offset: float
    bend: float
    half: float
    grass_m: float
    waves: tuple[tuple[float, float, float, float], ...]

    def height(self, x: Array, y: Array) -> Array:
        """z of the surface in the sensor's frame."""
        step = np.clip((np.abs(self.across(x, y)) - self.half) / 0.05, 0, 1)
        z = KERB_M * step - SENSOR_M
        for amplitude, kx, ky, phase in self.waves:
            z = z + amplitude * (np.sin(kx * x + ky * y + phase) - math.sin(phase))
        return z

    @property
    def bounds(self) -> tuple[float, float]:
        """Between which z of the surface stays."""
        swings = [(amplitude, math.sin(phase)) for amplitude, _, _, phase in self.waves]
        low = sum(-amplitude * (1 + at) for amplitude, at in swings) - SENSOR_M
        high = sum(amplitude * (1 - at) for amplitude, at in swings) + KERB_M - SENSOR_M
        return low - 0.01, high + 0.01

    def across(self, x: Array, y: Array) -> Array:
        """How far to the left of the road's middle places are."""
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        s, t = x * cos + y * sin, y * cos - x * sin + self.offset
        return t - self.bend * s * s / 2

    def place(self, s: float, across: float) -> tuple[float, float, float]:
        """x, y and the road's yaw so far along it and to the left of its middle."""
        t = across + self.bend * s * s / 2 - self.offset
        cos, sin = math.cos(self.yaw), math.sin(self.yaw)
        return s * cos - t * sin, s * sin + t * cos, self.yaw + math.atan(self.bend * s)


@dataclass(frozen=True, eq=False)
class Street:
    """Attributes:
    ground: of it.
    things: on and beside it.
    """

    ground: Ground
    things: list[Thing]


def make_street(random: Random) -> Street:
    """A street, another for each state of the random numbers."""
    half = float(random.uniform(2.9, 5.2))
    waves = tuple(
        (
            float(random.uniform(0.01, 0.09)),
            float(random.normal(0, 0.12)),
            float(random.normal(0, 0.12)),
            float(random.uniform(0, 2 * math.pi)),
        )
        for _ in range(3)
    )
    ground = Ground(
        float(random.normal(0, 0.05)),
        float(random.uniform(-0.6, 0.1)) * half,
        float(random.normal(0, 0.0025)),
        half,
        float(random.choice([0.0, 0.0, random.uniform(0.03, 0.12)])),
        waves,
    )
    builder = _Builder(ground, random)
    builder.fronts()
    builder.backdrop()
    builder.furniture()
    builder.vehicles()
    builder.people()
    random.random()  # moves the stream on: which scans a seed gives depends on it
    return Street(ground, builder.things)


class _Builder:
    """Puts things where there is room."""

    def __init__(self, ground: Ground, random: Random) -> None:
        self.ground, self.random = ground, random
        self.things: list[Thing] = []
        own = np.array([0.0, 0.0, 5.0, 2.2, 0.0])  # the car that carries the sensor
        self.taken: list[Array] = [own]
        self.side_m = float(random.uniform(1.3, 3.8))  # width of the pavements

    def put(
        self,
        make: Callable[[Random], Shape],
        name: str | None,
        s: float,
        across: float,
        turn: float,
        speed: float = 0.0,
    ) -> None:
        """Put a thing at a place along and across the road, turned so far from its direction, if
        it is in sight and collides with none."""
        x, y, yaw = self.ground.place(s, across)
        if math.hypot(x, y) > _BACKDROP_M or x < -10:
            return
        shape = make(self.random)
        yaw = (yaw + turn + math.pi) % (2 * math.pi) - math.pi
        taken = np.array([x, y, shape.size[0], shape.size[1], yaw])
        if collides(taken, np.array(self.taken), _MARGIN_M):
            return
        self.taken.append(taken)
        z = float(self.ground.height(np.array(x), np.array(y)))
        self.things.append(Thing(shape, name, np.array([x, y, z]), yaw, speed))

    def fronts(self) -> None:
        """Buildings, walls, hedges and trees at the back of the pavements."""
        random = self.random
        for side in (-1, 1):
            built = random.random() < 0.7
            s = float(random.uniform(-15, -5))
            while s < REACH_M:
                if built and random.random() < 0.8:
                    behind = float(random.choice([0.0, 0.0, 3.0])) + 4.2
                    length = 16.0
                    self.put(shapes.building, None, s + length / 2, self._edge(side, behind), 0.0)
                    s += length + float(random.choice([0.0, 2.0, 9.0]))
                    continue
                make = shapes.hedge if random.random() < 0.5 else shapes.wall
                if random.random() < 0.6:
                    self.put(make, None, s + 5, self._edge(side, 0.6), 0.0)
                for _ in range(int(random.integers(0, 4))):
                    at = s + float(random.uniform(0, 10))
                    self.put(shapes.tree, None, at, self._edge(side, random.uniform(1, 9)), 0.0)
                s += 10

    def backdrop(self) -> None:
        """What closes the street: houses across it, or a row of trees."""
        random = self.random
        s, kind = float(random.uniform(72, 95)), float(random.random())
        if kind < 0.3:
            for across in (-20, 0, 20):
                self.put(shapes.building, None, s, across + random.normal(), math.pi / 2)
        elif kind < 0.75:
            for across in range(-24, 25, 4):
                self.put(shapes.tree, None, s + random.normal(), across + random.normal(), 0.0)

    def furniture(self) -> None:
        """What stands about on the pavements, some of it like people and cars."""
        random = self.random
        makes = [
            *(shapes.pole, shapes.pole, shapes.bollard, shapes.bollard, shapes.cabinet),
            *(shapes.shrub, shapes.bicycle, shapes.tree, shapes.container),
        ]
        for _ in range(int(random.integers(12, 34))):
            make = makes[int(random.integers(len(makes)))]
            side = int(random.choice([-1, 1]))
            s = float(random.uniform(3, 65))
            away = float(random.uniform(0.3, self.side_m))
            if make is shapes.container:
                away = -1.1 if random.random() < 0.5 else away + 1.5
            turn = float(random.uniform(-math.pi, math.pi))
            if make in (shapes.container, shapes.cabinet) and random.random() < 0.7:
                turn = float(random.normal(0, 0.1))
            self.put(make, None, s, side * (self.ground.half + away), turn)

    def vehicles(self) -> None:
        """Parked along the kerb or across it, and driving in both directions."""
        random, half = self.random, self.ground.half
        kinds = [(shapes.car, "Car"), (shapes.van, "Van"), (shapes.truck, "Truck")]
        for side in (-1, 1):
            busy, across = float(random.choice([0.1, 0.35, 0.65])), random.random() < 0.2
            s = float(random.uniform(-2, 8))
            while s < 68:
                if random.random() < busy:
                    make, name = kinds[int(random.choice(3, p=[0.9, 0.08, 0.02]))]
                    turn = float(random.choice([0.0, math.pi])) + float(random.normal(0, 0.04))
                    place = side * (half - 1.05 + float(random.normal(0, 0.12)))
                    if across:
                        turn, place = turn + math.pi / 2, side * (half + 1.2)
                    self.put(make, name, s, place, turn)
                s += (3.0 if across else 5.6) + float(random.exponential(0.6))
        for _ in range(int(random.poisson(2.4))):
            lane = int(random.choice([-1, 1]))
            make, name = kinds[int(random.choice(3, p=[0.88, 0.07, 0.05]))]
            turn = (0.0 if lane < 0 else math.pi) + float(random.normal(0, 0.05))
            s, speed = float(random.uniform(7, 68)), float(random.uniform(0, 14))
            self.put(make, name, s, lane * half * random.uniform(0.2, 0.45), turn, speed)
        for _ in range(int(random.poisson(0.7))):  # turning, or out of a side street
            turn = float(random.uniform(-math.pi, math.pi))
            s, place = float(random.uniform(8, 60)), float(random.uniform(-1.2, 1.2)) * half
            self.put(shapes.car, "Car", s, place, turn, float(random.uniform(0, 6)))

    def people(self) -> None:
        """On the pavements, alone or in groups, crossing the road, and on bicycles."""
        random, half = self.random, self.ground.half
        for _ in range(int(random.poisson(5.0))):
            side = int(random.choice([-1, 1]))
            s = float(random.uniform(4, 48))
            away = side * (half + float(random.uniform(0.3, self.side_m)))
            if random.random() < 0.2:
                away = float(random.uniform(-half, half))
            turn = float(random.choice([0.0, math.pi, math.pi / 2])) + float(random.normal(0, 0.3))
            for _ in range(int(random.choice([1, 1, 1, 2, 3]))):
                at = s + float(random.normal(0, 0.9)), away + float(random.normal(0, 0.6))
                self.put(shapes.pedestrian, "Pedestrian", *at, turn, float(random.uniform(0, 1.6)))
        if random.random() < 0.15:
            side = int(random.choice([-1, 1]))
            away = float(random.uniform(0.6, self.side_m))
            turn = -side * math.pi / 2 + float(random.normal(0, 0.2))  # towards the road
            s = float(random.uniform(5, 35))
            self.put(shapes.sitting, "Person_sitting", s, side * (half + away), turn)
        for _ in range(int(random.poisson(4.5))):
            side = int(random.choice([-1, 1]))
            place = side * (half - float(random.choice([0.5, 2.4, -1.0])))
            turn = float(random.choice([0.0, math.pi])) + float(random.normal(0, 0.25))
            s, speed = float(random.uniform(5, 52)), float(random.uniform(2, 7))
            self.put(shapes.cyclist, "Cyclist", s, place, turn, speed)

    def _edge(self, side: int, behind: float) -> float:
        return side * (self.ground.half + self.side_m + float(behind))


def collides(one: Array, others: Array, margin: float) -> bool:
    """Whether a rectangle [5] (x, y, length, width, yaw) meets one of [M, 5], or comes nearer than
    the margin: whether no line along a side separates them."""
    near = (
        np.hypot(*(others[:, :2] - one[:2]).T)
        < (np.hypot(*(one[2:4])) + np.hypot(others[:, 2], others[:, 3])) / 2 + margin
    )
    others = others[near]
    if len(others) == 0:
        return False
    grown = one + np.array([0, 0, 2 * margin, 2 * margin, 0])
    a, b = _outline(grown[None])[0], _outline(others)  # [4, 2], [M, 4, 2]
    apart = np.zeros(len(others), bool)
    for yaw in (np.full(len(others), grown[4]), others[:, 4]):
        for axis in (
            np.stack([np.cos(yaw), np.sin(yaw)], 1),
            np.stack([-np.sin(yaw), np.cos(yaw)], 1),
        ):
            p = axis @ a.T  # [M, 4]
            q = np.einsum("md,mkd->mk", axis, b)
            apart |= (p.max(1) < q.min(1)) | (q.max(1) < p.min(1))
    return bool((~apart).any())


def _outline(boxes: Array) -> Array:
    x, y, length, width, yaw = boxes.T
    unit = np.array([[0.5, -0.5], [0.5, 0.5], [-0.5, 0.5], [-0.5, -0.5]])
    local = unit * np.stack([length, width], 1)[:, None]
    cos, sin = np.cos(yaw)[:, None], np.sin(yaw)[:, None]
    around = np.stack(
        [local[..., 0] * cos - local[..., 1] * sin, local[..., 0] * sin + local[..., 1] * cos], -1
    )
    return around + np.stack([x, y], 1)[:, None]
