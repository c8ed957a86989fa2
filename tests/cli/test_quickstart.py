"""`rekindle quickstart` with everything made small: the table, the honest words, the ways back."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from rekindle.cli import quickstart
from rekindle.errors import EXIT_RESUMABLE, EXIT_USER_ERROR, ConfigError
from rekindle.report.tour import evidence_line
from rekindle.study.evidence import STUDIES, shipped
from rekindle.study.plan.planning import plan
from rekindle.study.run import executors
from rekindle.study.run.jobs import Outcome, run_job
from rekindle.study.tour import METHOD_ORDER, load_tour
from rekindle.training.recipe import with_overrides

ROOT = Path(__file__).parents[2]
SMALL = (
    "optim.steps=4", "optim.problems=2", "eval.problems=3", "eval.samples=16", "checkpoint.every=1",
)  # fmt: skip
SMALL_PARTS = (
    # a weak model that agrees with the strong one at times, as it is
    "weak_to_strong.weak=testbed/addition-s2", "weak_to_strong.weak_sft.lr=1e-9",
    "weak_to_strong.weak_sft.steps=1", "weak_to_strong.half1=16", "weak_to_strong.half2=48",
    "self_rewarding.prompts=6", "self_rewarding.candidates=3", "self_rewarding.judge.samples=1",
    "temporal.prompts=6", "temporal.candidates=3", "temporal.judge.samples=1", "wmss.items=20",
)  # fmt: skip


class Inline:
    """A pool that runs each job where it stands; `interrupt`: Ctrl-C comes during the first."""

    interrupt = False

    def __init__(self, slots):
        self.slots, self.job, self.did = 1, None, []

    def submit(self, job):
        self.job = job

    def wait(self, seconds):
        job, self.job = self.job, None
        if Inline.interrupt:
            os.kill(os.getpid(), signal.SIGINT)
            return [Outcome(job, "stopped")]
        return [run_job(job)]

    def stop(self):
        return []


@pytest.fixture
def here(monkeypatch):
    monkeypatch.setattr(executors, "LocalPool", Inline)
    monkeypatch.setattr(executors, "warm_up", lambda: None)
    monkeypatch.setattr(Inline, "interrupt", False)


@pytest.fixture(scope="module")
def tour(tmp_path_factory):
    """All five pairs, once."""
    out = tmp_path_factory.mktemp("tour") / "quickstart"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(executors, "LocalPool", Inline)
        patched.setattr(executors, "warm_up", lambda: None)
        quickstart.quickstart(out, sets=[*SMALL, *SMALL_PARTS], quiet=True)
    return out


def sets(*overrides):
    return [word for override in overrides for word in ("--set", override)]


def pairs(out):
    """What must not depend on how a tour came to its end."""
    rows = json.loads((out / "summary.json").read_text())["pairs"]
    for row in rows:
        for spent in row["spent"].values():
            del spent["seconds"]
    return {row["name"]: row for row in rows}


def test_every_method_stands_beside_its_baseline_and_no_verdict_is_given(tour):
    rows = pairs(tour)
    assert tuple(rows) == METHOD_ORDER == tuple(STUDIES)
    for row in rows.values():
        assert row["verdict"] == "one seed decides nothing"
        assert row["failed"] == []
        assert (row["n_problems"], row["n_samples"], row["split"]) == (3, 16, "test")
        assert row["delta"] == pytest.approx(row["after"] - row["before"])
        assert row["training"]["delta"] == pytest.approx(row["before"] - row["start"])
        assert all(spent["updates"] >= 4 for spent in row["spent"].values())
    assert rows["temporal"]["unequal"] == {"temporal": 2.0}  # of so small a tour: both have 4 steps


def test_the_page_says_what_a_newcomer_must_know(tour):
    html = (tour / "report.html").read_text()
    assert "One seed decides nothing." in html
    assert html.count("<span>one seed decides nothing</span>") == 5
    assert "temporal spent 2.00 times the updates of its baseline" in html
    assert "Plain GRPO, the baseline of LENS, took pass@1 from" in html
    alone = "Each verdict is about the named baseline alone. Whether something simpler does as well"
    assert alone in html
    evidence = json.loads((tour / "summary.json").read_text())["evidence"]
    for name, row in evidence.items():
        assert row["verdict"] in html
        link = os.path.relpath(ROOT / "results/studies" / row["study"] / "study.json", tour)
        assert f'href="{link}"' in html
        assert f'href="{name}/report.html"' in html
        assert (tour / name / "report.html").exists()
    assert "http://" not in html.replace("http://www.w3.org", "").split("figures-data")[0]


def test_the_page_opens_in_a_browser_and_fits_a_phone(tour, browser):
    for width in (1280, 390):
        browser.open(tour / "report.html", width=width)
        browser.wait_for("document.documentElement.dataset.figures", seconds=60)
        assert browser.problems == []
        assert browser.ask("document.documentElement.scrollWidth") <= width
        assert browser.ask("document.querySelectorAll('.chart svg').length") == 4


def test_killed_and_resumed_it_ends_in_the_same_table(tour, tmp_path, rekindle, here):
    out = tmp_path / "killed"
    words = ["quickstart", "--only", "lens", "--out", str(out), *sets(*SMALL)]
    process = subprocess.Popen(
        [sys.executable, "-m", "rekindle", *words, "--quiet"], start_new_session=True
    )
    log = out / "lens" / "runs" / "lens" / "countdown-s0" / "seed-0" / "metrics.jsonl"
    end = time.monotonic() + 240
    while not (log.exists() and log.stat().st_size) and time.monotonic() < end:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert log.exists()
    assert not (out / "summary.json").exists()
    code, _, err = rekindle(*words)
    assert (code, "--resume continues it" in err) == (EXIT_USER_ERROR, True)
    code, said, _ = rekindle(*words, "--resume")
    assert code == 0
    assert pairs(out) == {"lens": pairs(tour)["lens"]}
    assert "one seed decides nothing" in said
    assert "Each verdict is about the named baseline alone" in said
    change = evidence_line(shipped()["lens"])[1]  # what its study says, beside the one seed
    assert all(word in said for word in change.split())


def test_ctrl_c_leaves_what_resume_takes_up_and_overwrite_replaces(tmp_path, rekindle, here):
    out = tmp_path / "out"
    words = ["quickstart", "--only", "lens", "--out", out, *sets(*SMALL, "optim.steps=1")]
    Inline.interrupt = True
    assert rekindle(*words)[0] == EXIT_RESUMABLE
    Inline.interrupt = False
    assert rekindle(*words, "--resume")[0] == 0
    first = pairs(out)["lens"]
    assert first["spent"]["grpo"]["updates"] == 1
    code, _, err = rekindle(*words, "--resume", "--set", "optim.steps=2")
    assert (code, "optim.steps: 1 -> 2" in err) == (EXIT_USER_ERROR, True)
    assert rekindle(*words, "--overwrite", "--set", "optim.steps=2")[0] == 0
    assert pairs(out)["lens"]["spent"]["grpo"]["updates"] == 2


def test_a_run_that_fails_is_told_and_the_others_are_shown(tmp_path, rekindle, here, monkeypatch):
    real = Inline.wait

    def wait(self, seconds):
        if "grpo" in str(self.job.out):
            job, self.job = self.job, None
            return [Outcome(job, "failed", "step 2 is not finite")]
        return real(self, seconds)

    monkeypatch.setattr(Inline, "wait", wait)
    out = tmp_path / "out"
    code, said, err = rekindle("quickstart", "--only", "lens", "--out", out, *sets(*SMALL))
    assert "grpo: step 2 is not finite" in err
    assert code == EXIT_USER_ERROR
    assert "not finished" in said
    html = (out / "report.html").read_text()
    assert "grpo: step 2 is not finite" in html


def test_the_tour_compares_like_with_like():
    for name, study in load_tour().items():
        assert study.recipe["eval"]["split"] == "test"
        assert (len(study.bases), len(study.seeds), len(study.arms)) == (1, 1, 2)
        method, baseline = (
            next(run for run in plan(study, Path("x")) if run.arm == arm)
            for arm in (study.primary.arm, study.baseline)
        )
        assert method.arm == name
        assert method.recipe.shared.seed == baseline.recipe.shared.seed
        steps = [run.recipe.shared.optim.steps for run in (method, baseline)]
        assert steps[0] * (2 if name == "temporal" else 1) == steps[1]


def test_overrides_reach_the_runs_that_they_belong_to():
    arms = load_tour(["lens"], ["optim.steps=3", "lens.alpha=0.5"])["lens"].arms
    plain = load_tour(["lens"])["lens"].arms
    assert arms == {
        "grpo": with_overrides(plain["grpo"], ["optim.steps=3"]),
        "lens": with_overrides(plain["lens"], ["optim.steps=3", "lens.alpha=0.5"]),
    }
    with pytest.raises(ConfigError, match="reaches no run"):
        load_tour(["lens"], ["hero.alpha=0.5"])
    with pytest.raises(ConfigError, match="Did you mean 'hero'"):
        load_tour(["herro"])
