"""Training scans made from labelled ones: objects pasted in, moved, and the whole turned about.

Source: Yan et al., "SECOND" (Sensors 2018), section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from geodistill.checks import ABOVE_ZERO, UsageError, expect_within, suggest
from geodistill.detect.boxes import inside, wrap
from geodistill.detect.overlap import meet
from geodistill.detect.scenes import Scene

Random = np.random.Generator
TRIES = 100  # of a place for an object that is moved
PASTED = 15  # objects of a class, where nothing else is said


@dataclass(frozen=True)
class Example:
    """A scan to learn from.

    Attributes:
        points: float32 [N, F].
        boxes: float32 [M, 7] of the detector's classes.
        labels: int64 [M], numbers of their classes.
        trails: float32 [M, T, 7], the same objects in neighbouring frames; None where unknown.
        others: float32 [K, 7], labelled objects that are not learnt from, such as those of other
            classes: nothing is pasted or moved into them. None for none.
    """

    points: Tensor
    boxes: Tensor
    labels: Tensor
    trails: Tensor | None = None
    others: Tensor | None = None

    def taken(self) -> Tensor:
        """Boxes [M + K, 7] of all that is labelled."""
        return self.boxes if self.others is None else torch.cat([self.boxes, self.others])


@dataclass(frozen=True)
class Paste:
    """Objects of one class that are brought into each scan from others.

    Attributes:
        name: of the class.
        count: how many a scan then has at most, its own included; what is drawn to make them up is
            left out where it collides, or has too few points.
        least_points: of an object, that it is worth it.
    """

    name: str
    count: int
    least_points: int = 5

    def __post_init__(self) -> None:
        expect_within(self, count=(0, math.inf), least_points=(0, math.inf))


@dataclass(frozen=True)
class Augmentation:
    """Attributes:
    paste: for each class; None for `PASTED` of each that the detector has.
    shift_m: standard deviation of the way that each object is moved by, along x, y and z.
    spin_rad: by at most so much each object is turned about itself.
    flip, flip_x: probability with which y and x change their signs: left and right are exchanged
        by `flip` in KITTI's frames, by `flip_x` in nuScenes'.
    turn_rad: by at most so much the scan is turned about the sensor.
    scale: least and largest factor of everything.
    """

    paste: tuple[Paste, ...] | None = None
    shift_m: tuple[float, float, float] = (0.0, 0.0, 0.0)
    spin_rad: float = 0.0
    flip: float = 0.5
    flip_x: float = 0.0
    turn_rad: float = math.pi / 4
    scale: tuple[float, float] = (0.95, 1.05)

    def __post_init__(self) -> None:
        positive = (0, math.inf)
        expect_within(self, shift_m=positive, spin_rad=(0, math.tau), turn_rad=(0, math.tau))
        expect_within(self, flip=(0, 1), flip_x=(0, 1), scale=ABOVE_ZERO)
        if self.scale[0] > self.scale[1]:
            raise UsageError(f"scale must be the least and the largest factor, got {self.scale}")

    def pasting(self, classes: Sequence[str]) -> tuple[Paste, ...]:
        """What is pasted for a detector's classes, in the order in which it is.

        Raises UsageError for a name that is none of them.
        """
        if self.paste is None:
            return tuple(Paste(name, PASTED) for name in classes)
        for one in self.paste:
            if one.name not in classes:
                raise UsageError(
                    f"augmentation.paste names '{one.name}', which is no class of the detector"
                    f"{suggest(one.name, classes)}: name {', '.join(classes)}, or leave "
                    "paste out, for the same of each"
                )
        return self.paste


@dataclass(frozen=True, eq=False)
class Cutout:
    """An object with its points [N, F], where they were in its scan, and its box [7]; and whether
    it is a good example, see `Scene.pastable`."""

    points: Tensor
    box: Tensor
    pastable: bool = True


def cut_out(scene: Scene, classes: Sequence[str]) -> dict[str, list[Cutout]]:
    """The objects of a scan that have points, by class."""
    found: dict[str, list[Cutout]] = {name: [] for name in classes}
    kept = [k for k, name in enumerate(scene.names) if name in found]
    within = inside(scene.points[:, :3], scene.boxes[kept])
    for column, k in enumerate(kept):
        if (own := within[:, column]).any():
            one = Cutout(scene.points[own], scene.boxes[k], bool(scene.pastable[k]))
            found[scene.names[k]].append(one)
    return found


def example(scene: Scene, classes: tuple[str, ...]) -> Example:
    """A scan with the boxes of these classes that have a point in them."""
    labels = scene.labels(classes)
    own = labels >= 0
    own[own.clone()] = inside(scene.points[:, :3], scene.boxes[own]).any(0)
    trails = None if scene.trails is None else scene.trails[own]
    return Example(scene.points, scene.boxes[own], labels[own], trails, scene.boxes[~own])


def augmented(
    found: Example,
    settings: Augmentation,
    classes: Sequence[str],
    objects: dict[str, list[Cutout]],
    random: Random,
) -> Example:
    """One of the many scans that a scan can be made into; its points come in a random order."""
    for paste in settings.pasting(classes):
        pool = objects.get(paste.name, [])
        number = list(classes).index(paste.name)
        wanted = paste.count - int((found.labels == number).sum())
        if wanted > 0 and pool:
            drawn = random.permutation(len(pool))[:wanted]
            fit = [pool[k] for k in drawn if len(pool[k].points) >= paste.least_points]
            found = pasted(found, fit, number)
    if any(settings.shift_m) or settings.spin_rad:
        found = jostled(found, settings, random)
    if random.random() < settings.flip:
        found = flipped(found, 1)
    if settings.flip_x and random.random() < settings.flip_x:
        found = flipped(found, 0)
    found = turned(found, random.uniform(-settings.turn_rad, settings.turn_rad))
    found = scaled(found, random.uniform(*settings.scale))
    order = torch.from_numpy(random.permutation(len(found.points)))
    return replace(found, points=found.points[order])


def pasted(found: Example, objects: Sequence[Cutout], label: int) -> Example:
    """Objects brought into a scan where they collide with none, and what was in their place is
    gone."""
    fit: list[int] = []
    if objects:
        new = torch.stack([one.box for one in objects])
        taken, among = meet(new, found.taken()).any(1), meet(new, new)
        for k in range(len(objects)):
            if not taken[k] and not among[k, fit].any():
                fit.append(k)
    if not fit:
        return found
    new = new[fit]
    free = ~inside(found.points[:, :3], new).any(1)
    trails = found.trails
    if trails is not None:  # what is pasted stands still
        still = new[:, None].expand(-1, trails.shape[1], -1)
        trails = torch.cat([trails, still])
    return Example(
        torch.cat([*(objects[k].points for k in fit), found.points[free]]),
        torch.cat([found.boxes, new]),
        torch.cat([found.labels, torch.full((len(fit),), label)]),
        trails,
        found.others,
    )


def jostled(found: Example, settings: Augmentation, random: Random) -> Example:
    """Each object moved and turned on its own, where it collides with none of the others."""
    taken, points = found.taken().clone(), found.points.clone()
    boxes = taken[: len(found.boxes)]
    trails = None if found.trails is None else found.trails.clone()
    belongs = inside(points[:, :3], boxes)
    for k in range(len(boxes)):
        others = torch.cat([taken[:k], taken[k + 1 :]])
        for _ in range(TRIES):
            moved = boxes[k].clone()
            moved[:3] += torch.from_numpy(random.normal(0.0, settings.shift_m)).float()
            spin = random.uniform(-settings.spin_rad, settings.spin_rad)
            moved[6] = wrap(moved[6] + spin)
            if meet(moved[None], others).any():
                continue
            center, goal = boxes[k, :3].clone(), moved[:3]
            own = belongs[:, k]
            points[own, :3] = _spun(points[own, :3] - center, spin) + goal
            if trails is not None:
                trails[k, :, :3] = _spun(trails[k, :, :3] - center, spin) + goal
                trails[k, :, 6] = wrap(trails[k, :, 6] + spin)
            boxes[k] = moved
            break
    return Example(points, boxes, found.labels, trails, found.others)


def flipped(found: Example, axis: int) -> Example:
    """With x (axis 0) or y (axis 1) of another sign."""

    def points(xyz: Tensor) -> Tensor:
        signs = xyz.new_ones(3)
        signs[axis] = -1
        return xyz * signs

    return _mapped(found, points, 1.0, lambda yaw: -yaw if axis else math.pi - yaw)


def turned(found: Example, angle: float) -> Example:
    """Turned about the sensor's z axis by an angle in radians, from x towards y."""
    return _mapped(found, lambda xyz: _spun(xyz, angle), 1.0, lambda yaw: yaw + angle)


def scaled(found: Example, factor: float) -> Example:
    return _mapped(found, lambda xyz: xyz * factor, factor, lambda yaw: yaw)


def _mapped(
    found: Example,
    place: Callable[[Tensor], Tensor],
    size: float,
    yaw: Callable[[Tensor], Tensor],
) -> Example:
    def boxes(old: Tensor) -> Tensor:
        parts = [place(old[..., :3]), old[..., 3:6] * size, wrap(yaw(old[..., 6:]))]
        return torch.cat(parts, -1)

    points = torch.cat([place(found.points[:, :3]), found.points[:, 3:]], 1)
    trails = None if found.trails is None else boxes(found.trails)
    others = None if found.others is None else boxes(found.others)
    return Example(points, boxes(found.boxes), found.labels, trails, others)


def _spun(xyz: Tensor, angle: float) -> Tensor:
    cos, sin = math.cos(angle), math.sin(angle)
    x, y, z = xyz.unbind(-1)
    return torch.stack([x * cos - y * sin, x * sin + y * cos, z], -1)
