"""What a study itself costs: the account of its sessions, and workers that load nothing again."""

import subprocess
import sys
from pathlib import Path

import pytest

from rekindle.files import read_json
from rekindle.study.store import cost
from rekindle.study.store.cost import Ledger, cost_line, cost_of, read_cost
from study.costless_runs import results_of
from study.inline_runs import Inline


@pytest.fixture
def clock(monkeypatch):
    class Clock:
        now = 100.0

        def monotonic(self):
            return self.now

    found = Clock()
    monkeypatch.setattr(cost, "time", found)
    return found


def test_two_workers_by_hand(clock, tmp_path):
    """20 s of two workers: one busy for 18 s, one for 8 s: 26 of 40."""
    ledger = Ledger(tmp_path, workers=2, since=98.0)
    ledger.began(Path("a"))
    ledger.began(Path("b"))
    clock.now = 108.0
    ledger.ended(Path("b"), 8.0)
    clock.now = 118.0
    ledger.ended(Path("a"), 18.0)
    found = read_cost(tmp_path)
    assert (found.wall_seconds, found.busy_seconds) == (20, 26)
    assert found.overhead == pytest.approx(1 - 26 / 40)
    assert found.sessions[0].first_job_seconds == 2
    assert cost_line(found) == "20 s with 2 workers, 26 s of runs: 35.0% without a run"


def test_a_session_that_was_killed_counts_up_to_its_last_word(clock, tmp_path):
    first = Ledger(tmp_path, workers=1)
    first.began(Path("a"))
    clock.now = 105.0
    first.tick()  # too early to write
    assert read_cost(tmp_path).wall_seconds == 0
    clock.now = 111.0
    first.tick()
    clock.now = 500.0  # killed; the next session begins later, with two workers
    second = Ledger(tmp_path, workers=2)
    clock.now = 510.0
    second.ended(Path("a"), 4.0)
    found = read_cost(tmp_path)
    assert (found.wall_seconds, found.busy_seconds) == (11 + 10, 11 + 4)
    assert found.overhead == pytest.approx(1 - 15 / 31)
    assert cost_line(found).startswith("21 s in 2 sessions with 1 or 2 workers, ")


def test_nothing_has_no_overhead(tmp_path):
    assert read_cost(tmp_path) is None
    assert cost_of([]).overhead is None


def test_a_study_writes_what_it_cost_over_all_its_sessions(file):
    study = file(seeds=[0], bases=["base-0"])
    found = results_of(study, "out", executor=Inline())
    (session,) = found["cost"]["sessions"]
    assert (session["workers"], session["jobs"]) == (1, 2)
    assert 0 < found["cost"]["busy_seconds"] < found["cost"]["wall_seconds"]
    again = results_of(study, "out", executor=Inline(), mode="resume")
    assert [s["jobs"] for s in again["cost"]["sessions"]] == [2, 0]
    assert again["cost"]["busy_seconds"] == found["cost"]["busy_seconds"]
    assert again["cost"] == read_json("out/study.json")["cost"]
    fresh = results_of(study, "out", executor=Inline(), mode="overwrite")
    assert len(fresh["cost"]["sessions"]) == 1


PRELOADED = """
import signal, sys, threading
import rekindle.engine.threads
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it
signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGINT))  # Ctrl-C, often
signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
import rekindle.study.run.preload
signal.setitimer(signal.ITIMER_REAL, 0)
assert signal.getsignal(signal.SIGINT) == signal.default_int_handler
assert threading.active_count() == 1
assert signal.getsignal(signal.SIGTERM) == signal.SIG_IGN
from rekindle.training.recipe import load_recipe
from rekindle.training.train import train
before = set(sys.modules)
sets = ["optim.steps=1", "optim.problems=2", "eval.problems=2", "eval.samples=1"]
train(load_recipe(sys.argv[1], sets), "out")
new = set(sys.modules) - before
print(len(new), *sorted(new))
"""


def test_what_is_loaded_beforehand_is_what_a_run_would_load(tmp_path):
    """A run loads over 1,300 modules by itself, half of its first seconds."""
    recipe = Path(__file__).parents[2] / "recipes" / "grpo_countdown_testbed.yaml"
    words = [sys.executable, "-c", PRELOADED, str(recipe)]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    count, *names = done.stdout.split()
    assert int(count) < 60, names
