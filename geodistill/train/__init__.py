"""The one training loop: a step function, an optimiser and a run folder go in; progress,
checkpoints and exact resume come out."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from geodistill import dist, kernels
from geodistill.checks import InputError, UsageError
from geodistill.log import progress
from geodistill.runs import Run
from geodistill.train.interrupts import HeldInterrupts
from geodistill.train.optimiser import Optimiser

CHECKPOINT_SECONDS = 30.0
REPORT_EVERY = 50


@dataclass
class Budget:
    """How long to train: a number of steps (reproducible) or of seconds (bounded by the clock)."""

    steps: int | None = None
    seconds: float | None = None
    spent: float = 0.0
    _since: float = field(default_factory=time.perf_counter)

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.seconds is None):
            raise UsageError("a budget is either steps or seconds")
        amount = self.seconds if self.steps is None else self.steps
        if amount is None or not 0 < amount < math.inf:
            raise UsageError(f"a budget must be a positive number, got {amount}")

    def progress(self, step: int) -> float:
        """Fraction of the budget used before `step`, from 0 to 1."""
        used = self.elapsed() / self.seconds if self.seconds else step / (self.steps or 1)
        return min(1.0, used)

    def elapsed(self) -> float:
        """Seconds of training, those before a resume included."""
        return self.spent + time.perf_counter() - self._since

    def restart(self, spent: float) -> None:
        self.spent, self._since = spent, time.perf_counter()


class Job(Protocol):
    """What `train` drives: one optimisation with everything it needs to be continued exactly."""

    @property
    def optimiser(self) -> Optimiser: ...

    def loss(self, step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        """The loss of this step (a function of the step and the state alone) and what to report.
        Of several ranks, losses add up and numbers to report are averaged."""
        ...

    def lr_scale(self, progress: float) -> float: ...

    def before(self, step: int, progress: float) -> None:
        """Bookkeeping ahead of a step, such as refreshing an occupancy grid."""
        ...

    def finished(self, step: int) -> bool:
        """Whether to end before the budget does."""
        ...

    def state(self) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """Tensors and JSON values that, with the optimiser's, continue the job exactly."""
        ...

    def load(self, tensors: dict[str, Tensor], extra: dict[str, Any]) -> None: ...


def train(job: Job, budget: Budget, run: Run | None, what: str) -> int:
    """Train until the budget or the job ends; returns the number of steps.

    With a run folder, the newest checkpoint is resumed, a new one is written every 30 seconds and
    at an interrupt, and metrics.jsonl grows. Interrupting and resuming a step-bounded run gives the
    same bits as not.

    Raises:
        InputError: the loss became NaN or infinite.
        KeyboardInterrupt: SIGINT or SIGTERM arrived; the step was ended first, and saved.
    """
    kernels.keep_memory()
    step = _resume(job, budget, run)
    saved = time.perf_counter()
    total = torch.zeros(())  # one loss that is not finite spoils the sum for good
    shown = 0
    total_ticks = budget.steps or max(1, round(budget.seconds or 0))
    unit = "steps" if budget.steps else "seconds"
    with HeldInterrupts() as interrupts, progress(total_ticks, f"{what}, {unit}") as bar:
        while (
            not (stopped := dist.any_rank(interrupts.noted))
            and (done := budget.progress(step)) < 1.0
            and not job.finished(step)
        ):
            job.before(step, done)
            loss, metrics = job.loss(step, done)
            loss.backward()
            job.optimiser.step(job.lr_scale(done))
            total = total + loss.detach().to(total.device)
            step += 1
            if step % REPORT_EVERY == 0:
                _expect_finite(total, what, step)
                own = float(loss.detach()) * dist.world()  # a rank's is its part of the sum
                metrics = dist.mean({"loss": own, **metrics, **job.optimiser.report()})
                value = metrics.pop("loss")
                if run is not None:
                    seconds = round(budget.elapsed(), 3)
                    run.log(step, loss=value, seconds=seconds, **metrics)
                now = round(budget.progress(step) * total_ticks)
                bar.advance(now - shown, **metrics)
                shown = now
            if run is not None and time.perf_counter() - saved > CHECKPOINT_SECONDS:
                _expect_finite(total, what, step)
                checkpoint(job, budget, run, step)
                saved = time.perf_counter()
        if not stopped:
            bar.advance(total_ticks - shown)
        _expect_finite(total, what, step)
        if run is not None:
            checkpoint(job, budget, run, step)
    if stopped:  # by another rank: here nothing was noted
        raise KeyboardInterrupt
    return step


def _expect_finite(total: Tensor, what: str, step: int) -> None:
    if not torch.isfinite(total):
        raise InputError(f"{what}: the loss became {float(total)} by step {step}: check the input")


def checkpoint(job: Job, budget: Budget, run: Run, step: int) -> None:
    """Write everything that continues the job after `step` steps."""
    tensors, extra = job.state()
    tensors = {**tensors, **job.optimiser.state()}
    spent = {"seconds": budget.elapsed(), "updates": job.optimiser.count}
    run.checkpoint(step, tensors, {"job": extra, **spent})


def _resume(job: Job, budget: Budget, run: Run | None) -> int:
    saved = dist.of_first(run.latest() if run is not None else None)
    if saved is None:
        budget.restart(0.0)
        return 0
    step, tensors, extra = saved
    try:
        job.load(tensors, extra["job"])
        job.optimiser.load(tensors, extra["updates"])
    except (KeyError, RuntimeError) as error:
        place = f" in {run.folder}" if run is not None else ""
        raise InputError(
            f"the checkpoint{place} was written by another version ({error}): pass "
            "--overwrite to begin again"
        ) from None
    budget.restart(extra["seconds"])
    return step
