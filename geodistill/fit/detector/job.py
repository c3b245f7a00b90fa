"""One detector in training: the job that `train` drives."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from geodistill import dist
from geodistill.detect.augment import Example
from geodistill.detect.datasets import Dataset
from geodistill.fit.detector.batches import Batch, Feed, batch_of, stream
from geodistill.fit.detector.recipe import Recipe
from geodistill.fit.detector.stored import Store
from geodistill.metrics.detectors import Report, detect, flat, measure
from geodistill.nn.detector import Detector
from geodistill.nn.detector_files import save_detector
from geodistill.nn.detector_kinds import new_detector
from geodistill.nn.precision import computing
from geodistill.runs import Run
from geodistill.train.adamw import AdamW

BEST = "best.safetensors"


class Guide(Protocol):
    """What a student learns besides the labels, from a teacher."""

    @property
    def module(self) -> nn.Module:
        """What is trained with the student and thrown away afterwards."""
        ...

    def labels(self, batch: Batch) -> Batch:
        """The batch with labels that the teacher adds, if it does."""
        ...

    def outputs(self, batch: Batch) -> list[dict[str, Any]]:
        """What each teacher puts out for a batch, by tap."""
        ...

    def teachers_seen(self) -> tuple[str, ...]:
        """Fingerprints of the teachers."""
        ...

    def taps_seen(self) -> tuple[tuple[str, ...], ...]:
        """Of each teacher, the taps at which `outputs` has it, sorted."""
        ...

    def loss(
        self, batch: Batch, predictions: Any, progress: float
    ) -> tuple[Tensor, dict[str, float]]:
        """After the student has seen the batch: what more it loses, and what to report."""
        ...

    def close(self) -> None:
        """Let go of the student."""
        ...


@dataclass(frozen=True, eq=False)
class Validation:
    """Attributes:
    dataset, frames: what is measured on.
    every: after so many steps; at the end in any case.
    """

    dataset: Dataset
    frames: Sequence[str]
    every: int


class DetectorJob:
    """Attributes:
    detector: the student, or the teacher to be.
    shadow: the mean of its last states, which is what is kept; the detector itself where there is
        no mean.
    """

    def __init__(
        self,
        detector: Detector,
        feed: Feed,
        steps: int,
        recipe: Recipe,
        guide: Guide | None = None,
        validation: Validation | None = None,
        run: Run | None = None,
        store: Store | None = None,
    ) -> None:
        self.detector, self.feed, self.steps, self.guide = detector, feed, steps, guide
        self.validation, self.run, self.store = validation, run, store
        self.recipe = recipe
        self.shadow = detector
        if recipe.mean:
            self.shadow = new_detector(detector.settings).to(detector.device)
            self.shadow.load_state_dict(detector.state_dict())
        trained = [*detector.parameters()]
        if guide is not None:
            trained += [p for p in guide.module.parameters() if p.requires_grad]
        self.optimiser = AdamW(trained, recipe.cycle)
        self.best: float | None = None
        self.report: Report | None = None
        self._examples: Generator[list[Example], None, None] | None = None
        self._next = -1

    def lr_scale(self, progress: float) -> float:
        return self.recipe.cycle.rate(progress)

    def before(self, step: int, progress: float) -> None:
        self._average()
        self.optimiser.beta = self.recipe.cycle.beta(progress)
        every = self.validation.every if self.validation else 0
        if every and step and step % every == 0:
            self.validate(step)

    def loss(self, step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        self.detector.train()
        batch = self._batch(step)
        if self.guide is not None:
            batch = self.guide.labels(batch)
        with computing(self.recipe.precision, self.detector.device):
            predictions = self.detector(batch.inputs)
        parts = self.detector.losses(predictions, batch.targets)
        total = torch.stack(list(parts.values())).sum()
        metrics = {name: float(value.detach()) * dist.world() for name, value in parts.items()}
        if self.guide is not None:
            more, said = self.guide.loss(batch, predictions, progress)
            total = total + more
            metrics |= said
        return total, metrics

    def finished(self, step: int) -> bool:
        return False

    def validate(self, step: int) -> None:
        """Measure the detector as it is kept, and keep it as the best if it is."""
        if self.validation is None or dist.rank() > 0:
            return
        own = self.validation
        found = detect(self.shadow, own.dataset, own.frames)
        self.report = measure(own.dataset, own.frames, found, self.detector.classes)
        values = flat(self.report)
        # A run that was killed after this has it from before.
        if self.run is not None and not self.run.logged(step, "score"):
            self.run.log(step, **values)
        if self.best is None or values["score"] > self.best:
            self.best = values["score"]
            if self.run is not None:
                save_detector(self.run.path(BEST), self.shadow)

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        modules: dict[str, nn.Module] = {"detector": self.detector}
        if self.guide is not None:
            modules["guide"] = self.guide.module
        if self.recipe.mean:
            modules["shadow"] = self.shadow
        tensors = {
            f"{part}.{name}": value
            for part, module in modules.items()
            for name, value in module.state_dict().items()
        }
        return tensors, {"best": self.best}

    def load(self, tensors: dict[str, Tensor], extra: dict[str, Any]) -> None:
        def part(name: str) -> dict[str, Tensor]:
            head = f"{name}."
            return {k.removeprefix(head): v for k, v in tensors.items() if k.startswith(head)}

        self.detector.load_state_dict(part("detector"))
        if self.guide is not None:
            self.guide.module.load_state_dict(part("guide"))
        if self.recipe.mean:
            self.shadow.load_state_dict(part("shadow"))
        self.best = extra["best"]

    def complete(self) -> None:
        """After the last step: the mean with it, and the last measurement."""
        self._average()
        self.validate(self.steps)

    @torch.no_grad()
    def _average(self) -> None:
        """Take the detector, as the last step left it, into the mean."""
        count = self.optimiser.count
        if not self.recipe.mean or count == 0:
            return
        keep = min(self.recipe.mean, (1 + count) / (10 + count))
        for own, new in zip(
            self.shadow.state_dict().values(), self.detector.state_dict().values(), strict=True
        ):
            if own.is_floating_point():
                own.lerp_(new, 1 - keep)
            else:
                own.copy_(new)

    def close(self) -> None:
        """End the processes that prepare scans, and let go of the student."""
        self._end_stream()
        if self.guide is not None:
            self.guide.close()

    def _end_stream(self) -> None:
        if self._examples is not None:
            self._examples.close()

    def _batch(self, step: int) -> Batch:
        if self.store is not None:
            return self.store.read(step, self.detector)
        if self._examples is None or self._next != step:
            self._end_stream()
            self._examples = stream(self.feed, step, self.steps, self.recipe.workers)
        self._next = step + 1
        return batch_of(self.detector, self.feed, step, next(self._examples))
