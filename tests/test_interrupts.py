"""Signals during training: the step ends, is saved, and the run goes on to the same bits."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from geodistill.checks import InputError
from geodistill.runs import Run
from geodistill.train import Budget, train
from geodistill.train.interrupts import HeldInterrupts
from tests.table_job import TableJob, assert_equal


@pytest.fixture
def handlers() -> Iterator[None]:
    """Leaves signals as pytest has them, whatever a test does."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def terminate() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("strike", [interrupt, terminate])
def test_a_signal_ends_the_step_saves_and_stops(strike: Callable[[], None], tmp_path: Path) -> None:
    whole, first, second = TableJob(), TableJob(), TableJob()
    train(whole, Budget(steps=20), None, "test")
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    first.in_loss = {7: strike}
    with Run.open(tmp_path / "run", "test", {}) as run:
        with pytest.raises(KeyboardInterrupt):
            train(first, Budget(steps=20), run, "test")
        latest = run.latest()
    assert latest is not None and latest[0] == 8
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    with Run.open(tmp_path / "run", "test", {}) as run:
        train(second, Budget(steps=20), run, "test")
    assert second.seen[0][0] == 8
    assert_equal(second.everything(), whole.everything())


@pytest.mark.usefixtures("handlers")
@pytest.mark.skipif(not hasattr(os, "openpty"), reason="needs a terminal of its own")
def test_a_signal_is_answered_in_a_terminal() -> None:
    """A measurement may go on for minutes."""
    ours, theirs = os.openpty()
    with open(theirs, "w") as terminal, pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        with pytest.raises(KeyboardInterrupt), HeldInterrupts():
            interrupt()
        said = os.read(ours, 1000).decode()
    os.close(ours)
    assert said.strip() == "interrupted: what is going on is ended first; once more ends it at once"


@pytest.mark.usefixtures("handlers")
def test_a_signal_while_the_end_is_decided_is_not_lost(tmp_path: Path) -> None:
    job = TableJob()
    job.stop_at, job.in_finished = 3, {3: interrupt}
    with Run.open(tmp_path / "run", "test", {}) as run:
        with pytest.raises(KeyboardInterrupt):
            train(job, Budget(steps=20), run, "test")
        latest = run.latest()
    assert latest is not None and latest[0] == 3


@pytest.mark.usefixtures("handlers")
def test_a_second_signal_is_obeyed_at_once(tmp_path: Path) -> None:
    job = TableJob()

    def twice() -> None:
        interrupt()
        interrupt()

    job.in_loss = {5: twice}
    with Run.open(tmp_path / "run", "test", {}) as run:
        with pytest.raises(KeyboardInterrupt):
            train(job, Budget(steps=20), run, "test")
        assert run.latest() is None
    assert job.optimiser.count == 5  # the step that was struck was not taken


@pytest.mark.usefixtures("handlers")
def test_a_signal_that_is_ignored_stays_ignored() -> None:
    """Of jobs that a shell's script puts in the background, it ignores SIGINT."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    job = TableJob()
    job.in_loss = {5: interrupt}
    assert train(job, Budget(steps=20), None, "test") == 20
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.usefixtures("handlers")
def test_an_error_is_not_hidden_by_a_signal() -> None:
    job = TableJob()
    job.in_loss, job.nan_from = {5: interrupt}, 3
    with pytest.raises(InputError, match="became nan"):
        train(job, Budget(steps=20), None, "test")
