"""The one training loop: a step function, an optimiser and a run folder go in; progress,
checkpoints and exact resume come out."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from geodistill import kernels
from geodistill.checks import InputError, UsageError
from geodistill.geometry.fields import ParamGroup
from geodistill.log import progress
from geodistill.runs import Run

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


class Adam:
    """Adam (Kingma and Ba 2015) over parameter groups.

    Rows of lazy tables that a step did not touch keep their value and their moments, as in the
    sparse update of Instant-NGP; all other parameters follow the dense rule.
    """

    BETAS = (0.9, 0.99)
    EPS = 1e-15

    def __init__(self, groups: Sequence[ParamGroup]) -> None:
        self.count = 0
        self._lazy = [(g.lr, _Table.of(p)) for g in groups if g.lazy for p in g.params]
        self._dense = [
            (g.lr, torch.optim.Adam(g.params, betas=self.BETAS, eps=self.EPS, fused=True))
            for g in groups
            if not g.lazy and g.params
        ]

    def step(self, lr_scale: float) -> None:
        """Update every parameter that has a gradient, and clear the gradients."""
        self.count += 1
        for rate, table in self._lazy:
            table.update(rate * lr_scale, self.count)
        for rate, optimiser in self._dense:
            optimiser.param_groups[0]["lr"] = rate * lr_scale
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Moments, to be stored beside the parameters."""
        pairs: list[tuple[Tensor, ...]] = [(table.m, table.v) for _, table in self._lazy]
        pairs += [_moments(optimiser, p) for optimiser, p in self._dense_parameters()]
        return {
            f"adam.{i}.{name}": moment
            for i, pair in enumerate(pairs)
            for name, moment in zip(("m", "v", "step"), pair, strict=False)
        }

    def load(self, state: Mapping[str, Tensor], count: int) -> None:
        """The inverse of `state` after `count` steps."""
        self.count = count
        for i, (_, table) in enumerate(self._lazy):
            table.m, table.v = state[f"adam.{i}.m"].clone(), state[f"adam.{i}.v"].clone()
        for i, (optimiser, p) in enumerate(self._dense_parameters(), start=len(self._lazy)):
            optimiser.state[p] = {
                "step": state[f"adam.{i}.step"].to(p.device).clone(),
                "exp_avg": state[f"adam.{i}.m"].clone(),
                "exp_avg_sq": state[f"adam.{i}.v"].clone(),
            }

    def _dense_parameters(self) -> list[tuple[torch.optim.Adam, nn.Parameter]]:
        return [(o, p) for _, o in self._dense for p in o.param_groups[0]["params"]]


def _moments(optimiser: torch.optim.Adam, p: nn.Parameter) -> tuple[Tensor, ...]:
    """Both moments and the number of steps that had a gradient."""
    known = optimiser.state.get(p)
    if not known:
        return torch.zeros_like(p), torch.zeros_like(p), torch.zeros(())
    return known["exp_avg"], known["exp_avg_sq"], known["step"]


@dataclass
class _Table:
    """A lazily updated parameter with its moments."""

    p: nn.Parameter
    m: Tensor
    v: Tensor

    @classmethod
    def of(cls, p: nn.Parameter) -> _Table:
        return cls(p, torch.zeros_like(p), torch.zeros_like(p))

    def update(self, lr: float, count: int) -> None:
        if self.p.grad is None:
            return
        rows = [t.view(-1, t.shape[-1]) for t in (self.p.data, self.p.grad, self.m, self.v)]
        beta1, beta2 = Adam.BETAS
        kernels.sparse_adam_step(*rows, lr=lr, beta1=beta1, beta2=beta2, eps=Adam.EPS, step=count)
        self.p.grad = None


class Job(Protocol):
    """What `train` drives: one optimisation with everything it needs to be continued exactly."""

    optimiser: Adam

    def loss(self, step: int, progress: float) -> tuple[Tensor, dict[str, float]]:
        """The loss of this step (a function of the step and the state alone) and what to report."""
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

    With a run folder, the newest checkpoint is resumed, a new one is written every 30 seconds, and
    metrics.jsonl grows. Interrupting and resuming a step-bounded run gives the same bits as not.

    Raises:
        InputError: the loss became NaN or infinite.
    """
    kernels.keep_memory()
    step = _resume(job, budget, run)
    saved = time.perf_counter()
    total = torch.zeros(())  # one loss that is not finite spoils the sum for good
    shown = 0
    with progress(1000, what) as bar:
        while (done := budget.progress(step)) < 1.0 and not job.finished(step):
            job.before(step, done)
            loss, metrics = job.loss(step, done)
            loss.backward()
            job.optimiser.step(job.lr_scale(done))
            total = total + loss.detach().to(total.device)
            step += 1
            if step % REPORT_EVERY == 0:
                _expect_finite(total, what, step)
                if run is not None:
                    seconds = round(budget.elapsed(), 3)
                    run.log(step, loss=float(loss.detach()), seconds=seconds, **metrics)
                bar.advance(int(done * 1000) - shown, **metrics)
                shown = int(done * 1000)
            if run is not None and time.perf_counter() - saved > CHECKPOINT_SECONDS:
                _expect_finite(total, what, step)
                checkpoint(job, budget, run, step)
                saved = time.perf_counter()
        bar.advance(1000 - shown)
    _expect_finite(total, what, step)
    if run is not None:
        checkpoint(job, budget, run, step)
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
    saved = run.latest() if run is not None else None
    if saved is None:
        budget.restart(0.0)
        return 0
    step, tensors, extra = saved
    job.load(tensors, extra["job"])
    job.optimiser.load(tensors, extra["updates"])
    budget.restart(extra["seconds"])
    return step
