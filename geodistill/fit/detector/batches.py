"""Batches of training scans: each is a function of the seed and the step alone."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from geodistill.checks import GeodistillError
from geodistill.detect.augment import Augmentation, Cutout, Example, augmented, cut_out, example
from geodistill.detect.datasets import Dataset
from geodistill.log import progress
from geodistill.nn.detector import Detector
from geodistill.nn.point_clouds import PointBatch
from geodistill.nn.voxels import Voxels
from geodistill.train.interrupts import SIGNALS

MOST_CUT = 4000
"""Scans that objects are looked for in: all that KITTI's split `train` has. All of nuScenes' would
take hours."""
ORDER, CHANGE, DRAW = 0, 1, 2  # what a stream of random numbers is for


@dataclass(frozen=True, eq=False)
class Batch:
    """B scans as a detector learns from them.

    Attributes:
        inputs: what the network is given of their points.
        boxes: [M, 7] of each scan.
        labels: int64 [M] of each.
        targets: of each, as the detector has them.
        trails: [M, T, 7] of each, see `Example`; None where they are unknown.
        taught: what teachers put out for it, by their number and the tap, where it is stored.
    """

    inputs: Voxels | PointBatch
    boxes: list[Tensor]
    labels: list[Tensor]
    targets: list[Any]
    trails: list[Tensor] | None
    taught: dict[tuple[int, str], Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Feed:
    """Training scans, step by step.

    Attributes:
        dataset, frames: what is learnt from.
        classes: of the detector.
        area: that it sees; boxes whose middle is outside of it are left out.
        augmentation: of each scan, or None.
        objects: what is pasted.
        size: of a batch, over all ranks.
        seed: of the order and of the changes.
        rank, world: which part of each batch is this process's.
    """

    dataset: Dataset
    frames: Sequence[str]
    classes: tuple[str, ...]
    area: tuple[float, float, float, float]
    augmentation: Augmentation | None
    objects: dict[str, list[Cutout]]
    size: int
    seed: int
    rank: int = 0
    world: int = 1

    def steps(self, epochs: int) -> int:
        return -(-epochs * len(self.frames) // self.size)

    def examples(self, step: int) -> list[Example]:
        """This rank's part of a step's scans."""
        return [self._example(k) for k in self._places(step)[self.rank :: self.world]]

    def generator(self, step: int) -> torch.Generator:
        """Of what a detector draws in a step."""
        sequence = np.random.SeedSequence([self.seed, DRAW, step, self.rank])
        return torch.Generator().manual_seed(int(sequence.generate_state(1, np.uint64)[0] >> 1))

    def _places(self, step: int) -> range:
        return range(step * self.size, (step + 1) * self.size)

    def _example(self, place: int) -> Example:
        epoch, within = divmod(place, len(self.frames))
        order = np.random.default_rng([self.seed, ORDER, epoch]).permutation(len(self.frames))
        scene = self.dataset.scene(self.frames[int(order[within])])
        found = example(scene, self.classes)
        if self.augmentation is not None:
            random = np.random.default_rng([self.seed, CHANGE, place])
            found = augmented(found, self.augmentation, self.classes, self.objects, random)
        return inside_area(found, self.area)


class Ahead(torch.utils.data.IterableDataset):
    """The examples of all steps from one on, for workers that prepare them ahead; what a scan is
    refused for comes in the place of its step's."""

    def __init__(self, feed: Feed, first: int, steps: int) -> None:
        self.feed, self.first, self.steps = feed, first, steps

    def __iter__(self) -> Iterator[list[Example] | GeodistillError]:
        worker = torch.utils.data.get_worker_info()
        start, stride = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for step in range(self.first + start, self.steps, stride):
            try:
                yield self.feed.examples(step)
            except GeodistillError as error:
                yield error


def stream(
    feed: Feed, first: int, steps: int, workers: int
) -> Generator[list[Example], None, None]:
    """Examples of the steps from `first` on, in order, made by so many processes, which end when
    it is closed.

    Raises what a scan is refused for.
    """
    ahead = Ahead(feed, first, steps)
    found: Any = iter(ahead)
    if workers > 0:
        _allow_descriptors()
        loader = torch.utils.data.DataLoader(
            ahead, batch_size=None, num_workers=workers, worker_init_fn=_ignore_signals
        )
        found = iter(loader)
    try:
        for one in found:
            if isinstance(one, GeodistillError):
                raise one
            yield one
    finally:
        if workers > 0:  # at its exit Python would wait for them, and they obey no signal
            found._shutdown_workers()


def _allow_descriptors() -> None:
    """As many files as this process may have open: each tensor of another process holds one until
    its step."""
    with suppress(ImportError, OSError, ValueError):  # of other systems, which need none
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _ignore_signals(worker: int) -> None:
    """A signal to all processes of a job is the trainer's to obey: it ends its step, and them."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def batch_of(detector: Detector, feed: Feed, step: int, found: Sequence[Example]) -> Batch:
    """The examples of a step as a detector learns from them, on its device."""
    device = detector.device
    inputs = detector.prepare([one.points for one in found], feed.generator(step))
    boxes, labels = [one.boxes.to(device) for one in found], [one.labels for one in found]
    labels = [one.to(device) for one in labels]
    trails = [one.trails.to(device) for one in found if one.trails is not None]
    targets = detector.targets(boxes, labels)
    known = len(trails) == len(found)
    return Batch(inputs, boxes, labels, targets, trails if known else None)


def inside_area(found: Example, area: tuple[float, float, float, float]) -> Example:
    """Without the boxes whose middle is outside of an area."""
    kept = _within(found.boxes, area)
    trails = None if found.trails is None else found.trails[kept]
    return Example(found.points, found.boxes[kept], found.labels[kept], trails)


def _within(boxes: Tensor, area: tuple[float, float, float, float]) -> Tensor:
    low, high = boxes.new_tensor(area).split(2)
    return ((boxes[:, :2] >= low) & (boxes[:, :2] < high)).all(1)


@dataclass
class Census:
    """What scans have to learn from.

    Attributes:
        scans: that were looked at.
        known: by class, the objects with a point in them.
        inside: classes of which one is in the detector's area.
        named: all classes that the labels have.
        pasted: by class, objects to paste into other scans.
    """

    scans: int
    known: dict[str, int]
    inside: set[str]
    named: set[str]
    pasted: dict[str, list[Cutout]]


def census(
    dataset: Dataset,
    frames: Sequence[str],
    classes: tuple[str, ...],
    area: tuple[float, float, float, float],
    pasted: Sequence[str],
) -> Census:
    """Of at most `MOST_CUT` scans, evenly among them; where no class is to be pasted, of as many
    as it takes to find each."""
    count = min(len(frames), MOST_CUT)
    some = [frames[k * len(frames) // count] for k in range(count)]
    found = Census(0, dict.fromkeys(classes, 0), set(), set(), {name: [] for name in pasted})
    with progress(len(some), "objects to learn from, scans") as bar:
        for frame in some:
            if not pasted and len(found.inside) == len(classes):
                break
            scene = dataset.scene(frame)
            found.scans += 1
            found.named |= set(scene.names)
            for name, own in cut_out(scene, classes).items():
                found.known[name] += len(own)
                if own and _within(torch.stack([one.box for one in own]), area).any():
                    found.inside.add(name)
                if name in found.pasted:
                    found.pasted[name] += [one for one in own if one.pastable]
            bar.advance()
    return found
