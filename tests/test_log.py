from __future__ import annotations

import io
import sys
from collections.abc import Iterator

import pytest

from geodistill import log


@pytest.fixture(autouse=True)
def restored_level() -> Iterator[None]:
    before = log.level()
    yield
    log.set_level(before)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_say_goes_to_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    log.say("hello")
    assert capsys.readouterr() == ("", "hello\n")


def test_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    log.set_level(log.QUIET)
    log.say("hello")
    with log.progress(3, "fit") as bar:
        bar.advance(3, loss=1.0)
    assert capsys.readouterr() == ("", "")


def test_plain_progress_is_soon_seen_and_then_at_most_one_line_in_ten_seconds(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [100.0]
    monkeypatch.setattr(log.time, "monotonic", lambda: clock[0])
    with log.progress(250, "fit") as bar:
        for _ in range(250):
            clock[0] += 0.125
            bar.advance(loss=0.123456, done=7)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "fit 16/250 2s loss 0.1235 done 7",
        "fit 96/250 12s loss 0.1235 done 7",
        "fit 176/250 22s loss 0.1235 done 7",
    ]


def test_plain_progress_without_total(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [0.0]
    monkeypatch.setattr(log.time, "monotonic", lambda: clock[0])
    with log.progress(None, "scan") as bar:
        clock[0] += 11
        bar.advance(5)
    assert capsys.readouterr().err == "scan 5 11s\n"


def test_live_progress_on_a_terminal(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with log.progress(4, "fit") as bar:
        bar.advance(1, loss=0.5)
        log.say("a message between")
        bar.advance(3)
    text = screen.getvalue()
    assert "fit" in text and "4/4" in text and "loss 0.5" in text
    assert "a message between" in text
    assert capsys.readouterr().out == ""
