"""What a user sees of a run, and that nothing of it can end one."""

import io
import sys

import pytest

from rekindle.engine import progress
from rekindle.engine.progress import CalmStream, ProgressLine, duration, say


class Clock:
    def __init__(self, monkeypatch):
        self.now = 100.0
        monkeypatch.setattr(progress.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
    return Clock(monkeypatch)


def drive(clock, *, total, done=0, quiet=None, seconds=1.0, metrics=None):
    metrics = metrics or {"tokens/generated": 500, "reward/mean": 0.25, "loss": 9.0}
    with ProgressLine(total=total, done=done, quiet=quiet) as line:
        for step in range(done + 1, total + 1):
            clock.now += seconds
            line.advance(step, metrics)


def test_a_line_for_every_tenth(clock, capsys):
    drive(clock, total=100)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split()[1] for line in lines] == [f"{n}/100" for n in range(10, 101, 10)]
    assert lines[0] == "step 10/100  500 tokens/s  reward 0.250  1 min 30 s left"
    assert lines[-1] == "step 100/100  500 tokens/s  reward 0.250  1 min 40 s"


def test_a_line_every_half_minute_when_steps_are_slow(clock, capsys):
    drive(clock, total=100, seconds=16)
    assert len(capsys.readouterr().err.splitlines()) == 50


def test_a_resumed_run_counts_its_own_time_and_tokens(clock, capsys):
    drive(clock, total=100, done=80, seconds=2)
    first = capsys.readouterr().err.splitlines()[0]
    assert first == "step 90/100  250 tokens/s  reward 0.250  20 s left"


def test_the_accuracy_is_shown_once_there_is_one(clock, capsys):
    with ProgressLine(total=2, done=0, quiet=False) as line:
        line.advance(1, {"loss": 1.25, "tokens/trained": 10})
        line.evaluated("pass@1 0.431")
        line.advance(2, {"loss": float("nan")})
    first, second = capsys.readouterr().err.splitlines()
    assert "loss 1.250" in first
    assert "pass@1" not in first
    assert "pass@1 0.431" in second
    assert "loss" not in second


def test_quiet_is_silent(clock, capsys):
    drive(clock, total=30, quiet=True)
    found = capsys.readouterr()
    assert (found.out, found.err) == ("", "")


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self):
        return True


def test_a_terminal_gets_one_live_line(clock, monkeypatch):
    """Words said meanwhile stay above it, also those with brackets in them."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    for name, value in {"TERM": "xterm", "COLUMNS": "120"}.items():
        monkeypatch.setenv(name, value)
    with ProgressLine(total=3, done=0, quiet=None) as line:
        line.advance(1, {"loss": 1.0, "tokens/trained": 7})
        say("skipped: [step-000003] is torn")
        line.evaluated("pass@1 0.5")
        line.advance(3, {"loss": 1.0})
    shown = terminal.getvalue()
    assert "3/3" in shown
    assert "[step-000003] is torn" in shown
    assert "pass@1 0.5" in shown
    assert "step 1/3" not in shown
    assert sys.stderr is terminal


class Broken(Terminal):
    """A terminal whose window was closed."""

    def write(self, text):
        raise OSError(5, "Input/output error")

    def flush(self):
        raise OSError(5, "Input/output error")


class Ascii(Terminal):
    encoding = "ascii"

    def isatty(self):
        return False

    def write(self, text):
        return super().write(text.encode("ascii").decode())


@pytest.mark.parametrize("stream", [None, Broken(), Ascii()], ids=["none", "broken", "ascii"])
def test_no_stream_can_stop_it(clock, monkeypatch, stream):
    monkeypatch.setattr(sys, "stderr", stream)
    drive(clock, total=20)
    say("größer")


def test_a_closed_stream_is_no_terminal():
    stream = io.StringIO()
    stream.close()
    calm = CalmStream(stream)
    assert not calm.isatty()
    assert calm.write("lost") == 4


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 00 s"),
        (3599, "59 min 59 s"),
        (7620, "2 h 07 min"),
    ],
)
def test_durations(seconds, text):
    assert duration(seconds) == text
