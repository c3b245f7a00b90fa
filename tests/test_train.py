"""The training loop: Adam against torch's, budgets by a fake clock, and resume to the bit."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from geodistill import train as loop
from geodistill.checks import InputError, UsageError
from geodistill.geometry.fields import ParamGroup
from geodistill.runs import Run
from geodistill.train import Budget, train
from geodistill.train.adamw import AdamW, OneCycle
from geodistill.train.optimiser import BETAS, Optimiser, _orthogonal
from tests.table_job import Clock, Interrupted, TableJob, assert_equal


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    fake = Clock()
    monkeypatch.setattr(loop, "time", SimpleNamespace(perf_counter=fake))
    return fake


# -- the optimiser ---------------------------------------------------------------------------


def steps_of(p: nn.Parameter, optimise: Any, count: int) -> Tensor:
    """Descend from p on a fixed quadratic whose gradient touches every row."""
    goal = torch.linspace(-1, 1, p.numel()).reshape(p.shape)
    for i in range(count):
        ((p - goal) ** 2).sum().backward()
        optimise(i)
    return p.detach().clone()


@pytest.mark.parametrize("rule", ["adam", "lazy-adam"])
@pytest.mark.parametrize("eps", [1e-15, 1.0])
def test_adam_is_torch_s_where_every_row_is_touched(rule: Any, eps: float) -> None:
    start = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    scales = [1.0, 0.7, 0.3, 2.0, 0.1] * 4
    ours = nn.Parameter(start.clone())
    adam = Optimiser([ParamGroup([ours], 0.03, rule, eps)])
    got = steps_of(ours, lambda i: adam.step(scales[i]), 20)
    theirs = nn.Parameter(start.clone())
    torch_adam = torch.optim.Adam([theirs], betas=BETAS, eps=eps)

    def step(i: int) -> None:
        torch_adam.param_groups[0]["lr"] = 0.03 * scales[i]
        torch_adam.step()
        torch_adam.zero_grad()

    expected = steps_of(theirs, step, 20)
    assert (expected - start).abs().min() > 1e-3
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-6)
    moments = adam.state()
    torch.testing.assert_close(moments["optimiser.0.m"], torch_adam.state[theirs]["exp_avg"])
    torch.testing.assert_close(moments["optimiser.0.v"], torch_adam.state[theirs]["exp_avg_sq"])


def test_rows_that_no_gradient_touches_stay_with_their_moments() -> None:
    p = nn.Parameter(torch.randn(10, 3))
    start = p.detach().clone()
    adam = Optimiser([ParamGroup([p], 0.1, "lazy-adam")])
    (p[:5] ** 2).sum().backward()
    adam.step(1.0)
    first = p.detach().clone()
    assert torch.equal(first[5:], start[5:]) and (first[:5] != start[:5]).all()
    (p[5:] ** 2).sum().backward()
    moments = adam.state()["optimiser.0.m"].clone()
    adam.step(1.0)
    assert torch.equal(p.detach()[:5], first[:5]) and (p.detach()[5:] != first[5:]).all()
    assert torch.equal(adam.state()["optimiser.0.m"][:5], moments[:5])


@pytest.mark.parametrize("shape", [(12, 12), (20, 7), (5, 30)])
def test_an_orthogonal_step_has_singular_values_near_one(shape: tuple[int, int]) -> None:
    draw = torch.Generator().manual_seed(0)
    matrix = torch.randn(shape, generator=draw) @ torch.diag(torch.logspace(0, -1, shape[1]))
    u, _, vh = torch.linalg.svd(matrix, full_matrices=False)
    way = _orthogonal(matrix)
    assert torch.linalg.svdvals(way).min() > 0.3 and torch.linalg.svdvals(way).max() < 1.4
    assert ((way * (u @ vh)).sum() / (way.norm() * (u @ vh).norm())) > 0.95


def test_muon_moves_by_its_rate_whatever_the_gradient() -> None:
    lengths = []
    for scale in (1e-6, 1.0, 1e6):
        p = nn.Parameter(torch.zeros(16, 8))
        optimiser = Optimiser([ParamGroup([p], 0.1, "muon")])
        draw = torch.Generator().manual_seed(3)
        (p * torch.randn(16, 8, generator=draw) * scale).sum().backward()
        optimiser.step(0.5)
        lengths.append(float(torch.linalg.matrix_norm(p.detach(), 2)))
    assert lengths == pytest.approx([0.05 * 2**0.5] * 3, rel=0.4)


def test_a_step_clears_the_gradients() -> None:
    table, dense = nn.Parameter(torch.randn(4, 2)), nn.Parameter(torch.randn(4))
    adam = Optimiser([ParamGroup([table], 0.1, "lazy-adam"), ParamGroup([dense], 0.1)])
    (table.sum() + dense.sum()).backward()
    adam.step(1.0)
    for p in (table, dense):
        assert p.grad is None or not p.grad.any()


def test_the_learning_rate_of_a_group_scales_its_first_step() -> None:
    p, q = nn.Parameter(torch.ones(3, 2)), nn.Parameter(torch.ones(3, 2))
    adam = Optimiser([ParamGroup([p], 0.1, "lazy-adam"), ParamGroup([q], 0.01)])
    (5 * p.sum() + 3 * q.sum()).backward()
    adam.step(0.5)  # Adam's first step is the rate itself, whatever the gradient
    torch.testing.assert_close(p.detach(), torch.full((3, 2), 0.95))
    torch.testing.assert_close(q.detach(), torch.full((3, 2), 0.995))


def test_the_optimiser_s_state_continues_it_exactly() -> None:
    through, before, after = TableJob(), TableJob(), TableJob()
    train(through, Budget(steps=20), None, "test")
    for step in range(20):
        job = before if step < 9 else after
        if step == 9:
            after.load(before.state()[0], {"counter": 0})
            after.optimiser.load(before.optimiser.state(), before.optimiser.count)
        loss, _ = job.loss(step, step / 20)
        loss.backward()
        job.optimiser.step(job.lr_scale(step / 20))
    assert_equal(after.everything(), through.everything())


def test_moments_that_are_loaded_lie_in_memory_as_their_weights_do() -> None:
    """Where they do not, each step of all weights together takes half as long again."""
    p = nn.Parameter(torch.randn(4, 3, 2, 2).contiguous(memory_format=torch.channels_last))
    first, again = AdamW([p], OneCycle()), AdamW([p], OneCycle())
    p.square().sum().backward()
    first.step(1.0)
    again.load({name: value.contiguous() for name, value in first.state().items()}, first.count)
    assert again.state()["optimiser.0.exp_avg"].stride() == p.stride() != (12, 4, 2, 1)


def test_a_parameter_without_a_gradient_so_far_continues_exactly_too() -> None:
    """Adam corrects its bias by the steps that a parameter took, not by those of the others."""

    def run(saved_after: int | None) -> Tensor:
        early, late = nn.Parameter(torch.ones(3)), nn.Parameter(torch.ones(3))
        groups = [ParamGroup([early, late], 0.1)]
        adam = Optimiser(groups)
        for step in range(8):
            if step == saved_after:
                state, count = adam.state(), adam.count
                adam = Optimiser(groups)
                adam.load(state, count)
            loss = (early * torch.tensor([1.0, -2.0, 3.0])).sum()
            if step >= 5:
                loss = loss + ((late - torch.tensor([0.5, 2.0, 9.0])) ** 2).sum()
            loss.backward()
            adam.step(1.0)
        return late.detach()

    whole = run(None)
    assert all(torch.equal(run(step), whole) for step in (2, 5, 6))


def test_an_optimiser_that_goes_on_from_another_keeps_the_moments_of_what_stays() -> None:
    draw = torch.Generator().manual_seed(0)
    start, target = torch.randn(5, 3, generator=draw), torch.randn(5, 3, generator=draw)

    def run(change_at: int | None, grown: bool) -> tuple[Tensor, Optimiser]:
        stays = nn.Parameter(start.clone())
        other = nn.Parameter(torch.ones(2))
        adam = Optimiser([ParamGroup([other], 0.3), ParamGroup([stays], 0.1)])
        for step in range(10):
            if step == change_at:
                other = nn.Parameter(torch.full((4,), 2.0)) if grown else other
                groups = [ParamGroup([other], 0.3), ParamGroup([stays], 0.1)]
                adam = Optimiser(groups, before=adam)
            ((stays - target) ** 2).sum().add((other**2).sum()).backward()
            adam.step(1.0)
        return stays.detach(), adam

    whole, adam = run(None, False)
    for grown in (False, True):
        stays, changed = run(6, grown)
        assert torch.equal(stays, whole)
        assert changed.count == adam.count == 10
        assert torch.equal(changed.state()["optimiser.1.m"], adam.state()["optimiser.1.m"])
    assert run(6, False)[1].state()["optimiser.0.steps"] == 10
    assert changed.state()["optimiser.0.steps"] == 4  # what is new begins anew


def test_a_checkpoint_of_another_version_is_one_line(tmp_path: Path) -> None:
    with Run.open(tmp_path / "run", "test", {"a": 1}) as run:
        run.checkpoint(3, {"adam.0.m": torch.zeros(2)}, {"job": {}, "seconds": 1.0, "updates": 3})
        with pytest.raises(InputError, match=r"another version .*pass --overwrite to begin again"):
            train(TableJob(), Budget(steps=5), run, "test")


# -- budgets ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "budget",
    [
        {},
        {"steps": 3, "seconds": 1.0},
        {"steps": 0},
        {"steps": -1},
        {"seconds": 0.0},
        {"seconds": -2.0},
        {"seconds": math.nan},
    ],
)
def test_a_budget_is_one_positive_number(budget: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        Budget(**budget)


def test_a_budget_of_steps_is_spent_exactly() -> None:
    job = TableJob()
    assert train(job, Budget(steps=7), None, "test") == 7
    assert job.seen == [(i, i / 7) for i in range(7)]
    assert job.optimiser.count == 7


def test_a_budget_of_seconds_ends_with_the_step_that_spends_it(clock: Clock) -> None:
    job = TableJob(clock, seconds_per_step=2.0)
    assert train(job, Budget(seconds=9.0), None, "test") == 5
    assert [progress for _, progress in job.seen] == pytest.approx([0, 2 / 9, 4 / 9, 6 / 9, 8 / 9])


def test_the_clock_of_a_budget_starts_with_the_training(clock: Clock) -> None:
    budget = Budget(seconds=4.0)
    clock.now += 1000.0  # preparing the job takes its time
    job = TableJob(clock)
    assert train(job, budget, None, "test") == 4


def test_a_job_may_end_before_its_budget() -> None:
    job = TableJob()
    job.stop_at = 3
    assert train(job, Budget(steps=100), None, "test") == 3


def test_training_reduces_the_loss() -> None:
    job = TableJob()
    before = job.error()
    train(job, Budget(steps=200), None, "test")
    assert job.error() < 0.5 * before


@pytest.mark.parametrize(("first", "steps"), [(0, 5), (0, 120), (60, 120), (103, 110)])
def test_a_loss_that_is_not_finite_is_an_error_whenever_it_comes(first: int, steps: int) -> None:
    job = TableJob()
    job.nan_from = first
    with pytest.raises(InputError, match="became nan"):
        train(job, Budget(steps=steps), None, "test")


# -- run folders -----------------------------------------------------------------------------


def lines(run: Run) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run.path("metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("killed_at", [1, 23, 55])
def test_an_interrupted_run_goes_on_to_the_same_bits(
    killed_at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = TableJob()
    run = Run.open(tmp_path / "whole", "test", {"a": 1})
    assert train(whole, Budget(steps=60), run, "test") == 60
    expected_lines = [(line["step"], line["loss"]) for line in lines(run)]
    run.close()

    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", -1.0)  # after every step
    first = TableJob()
    first.interrupt_at = killed_at
    run = Run.open(tmp_path / "run", "test", {"a": 1})
    with pytest.raises(Interrupted):
        train(first, Budget(steps=60), run, "test")
    run.close()

    second = TableJob()
    second.table.data.zero_()
    second.matrix.data.fill_(7.0)
    run = Run.open(tmp_path / "run", "test", {"a": 1})
    assert run.resumed
    assert train(second, Budget(steps=60), run, "test") == 60
    assert [step for step, _ in second.seen] == list(range(killed_at, 60))
    assert_equal(second.everything(), whole.everything())
    assert second.counter == whole.counter
    assert [(line["step"], line["loss"]) for line in lines(run)] == expected_lines
    run.close()


def test_checkpoints_come_by_the_clock_and_what_came_after_is_done_again(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = TableJob(clock, seconds_per_step=1.0)
    job.interrupt_at = 25
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 9.5)
    run = Run.open(tmp_path / "run", "test", {})
    with pytest.raises(Interrupted):
        train(job, Budget(steps=40), run, "test")
    latest = run.latest()
    run.close()
    assert latest is not None and latest[0] == 20  # after 10 and 20 seconds
    again = TableJob(clock)
    run = Run.open(tmp_path / "run", "test", {})
    train(again, Budget(steps=40), run, "test")
    run.close()
    assert again.seen[0][0] == 20


def test_seconds_before_an_interruption_count(clock: Clock, tmp_path: Path) -> None:
    first = TableJob(clock, seconds_per_step=40.0)  # each step outlasts the checkpoint interval
    first.interrupt_at = 3
    run = Run.open(tmp_path / "run", "test", {})
    with pytest.raises(Interrupted):
        train(first, Budget(seconds=280.0), run, "test")
    run.close()
    clock.now += 1e6  # the night between
    second = TableJob(clock, seconds_per_step=40.0)
    run = Run.open(tmp_path / "run", "test", {})
    assert train(second, Budget(seconds=280.0), run, "test") == 7
    run.close()
    assert second.seen[0] == (3, pytest.approx(3 / 7))


def test_a_finished_training_leaves_its_checkpoint_until_the_run_is_finished(
    tmp_path: Path,
) -> None:
    run = Run.open(tmp_path / "run", "test", {})
    job = TableJob()
    train(job, Budget(steps=5), run, "test")
    run.close()
    again = TableJob()
    run = Run.open(tmp_path / "run", "test", {})
    assert train(again, Budget(steps=5), run, "test") == 5
    assert again.seen == []  # nothing is left to do
    assert_equal(again.everything(), job.everything())
    run.finish({})
    assert not (tmp_path / "run" / "checkpoint.safetensors").exists()


def test_metrics_are_logged_at_their_steps(tmp_path: Path) -> None:
    run = Run.open(tmp_path / "run", "test", {})
    train(TableJob(), Budget(steps=170), run, "test")
    logged = lines(run)
    run.close()
    assert [line["step"] for line in logged] == [50, 100, 150]
    assert all(line["rows"] == 8.0 and line["loss"] > 0 for line in logged)
