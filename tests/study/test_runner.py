"""Studies run to their end: resumed, changed, with failures and lost workers: the same tables."""

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from rekindle.engine.rundir import in_use
from rekindle.errors import EXIT_RESUMABLE, ConfigError, RunDirectoryError
from rekindle.study.analyse.spending import unequal_budgets
from rekindle.study.plan.planning import plan
from rekindle.study.plan.study_file import Budget
from rekindle.study.run import executors, jobs
from rekindle.study.run.executors import LocalPool
from rekindle.study.run.jobs import Job, Outcome, run_job
from study.costless_runs import cost, results_of
from study.inline_runs import RECIPE, Inline, tables


def test_the_results_are_returned_as_they_are_written(file):
    found = results_of(file(seeds=[0]), "out", executor=Inline())
    assert found == json.loads(Path("out/study.json").read_text())


def test_the_results_name_everything_that_a_reader_needs(finished):
    found = json.loads((finished / "study.json").read_text())
    first = found["comparisons"][0]
    assert (first["method"], first["baseline"], first["metric"]) == ("sft", "grpo", "pass@2")
    assert first["primary"]
    assert not found["comparisons"][1]["primary"]
    assert (first["n_seeds"], first["n_bases"], first["n_pairs"]) == (2, 2, 4)
    assert (first["n_problems"], first["n_samples"], first["missing_pairs"]) == (5, 2, 0)
    assert first["verdict"] in ("helps", "does not", "cannot tell yet")
    assert found["unfinished"] == 0
    for arm in ("grpo", "sft"):
        spent = found["arms"][arm]["spent"]
        assert spent["updates"] == 3
        assert (spent["generated"] > 0) == (arm == "grpo")
    rows = Path("out/runs/grpo/base-0/seed-1/metrics.jsonl").read_text().splitlines()
    run = next(r for r in found["arms"]["grpo"]["runs"] if r["base"] == "base-0" and r["seed"] == 1)
    assert run["generated"] == sum(json.loads(row)["tokens/generated"] for row in rows)


def test_a_failed_run_is_told_and_its_pair_left_out(file):
    study = file()
    executor = Inline()
    real = executor.wait

    def wait(seconds):
        if executor.job.out == Path("out/runs/sft/base-1/seed-1"):
            job, executor.job = executor.job, None
            return [Outcome(job, "failed", "step 2 is not finite")]
        return real(seconds)

    executor.wait = wait
    found = results_of(study, "out", executor=executor)
    assert found["failed"] == [
        {"arm": "sft", "base": "base-1", "seed": 1, "why": "step 2 is not finite"}
    ]
    assert [(row["n_pairs"], row["missing_pairs"]) for row in found["comparisons"]] == [(3, 1)] * 2
    assert found["unfinished"] == 1
    again = results_of(study, "out", executor=Inline(), mode="resume")
    assert (again["failed"], again["unfinished"]) == ([], 0)


def test_a_lost_worker_costs_one_try_and_two_are_a_failure(file):
    study = file()
    lost_once = Inline(die=["sft/base-0/seed-0"])
    assert results_of(study, "a", executor=lost_once)["failed"] == []
    assert lost_once.asked.count(Path("a/runs/sft/base-0/seed-0")) == 2
    lost_twice = Inline(die=["sft/base-0/seed-0"] * 2)
    found = results_of(study, "b", executor=lost_twice)
    assert [row["why"] for row in found["failed"]] == ["ended by SIGKILL, 2 times"]


def test_what_is_finished_is_not_run_again(file, finished):
    study = file()
    first = json.loads((finished / "study.json").read_text())
    again = Inline()
    found = results_of(study, "out", executor=again, mode="resume")
    assert again.asked == []
    assert tables(found) == tables(first)
    with pytest.raises(RunDirectoryError, match="out exists"):
        results_of(study, "out", executor=Inline())


def test_a_change_of_what_was_declared_is_noted_with_what_had_been_seen(file):
    results_of(file(seeds=[0]), "out", executor=Inline())
    changed = file(seeds=[0, 1], primary={"arm": "sft", "metric": "pass@1"})
    found = results_of(changed, "out", executor=Inline(), mode="resume")
    (note,) = found["changes"]
    assert note["finished_runs"] == 4
    assert any(line.startswith("primary.metric: 'pass@2' -> 'pass@1'") for line in note["changes"])
    assert any(line.startswith("seeds:") for line in note["changes"])


def test_runs_made_with_other_settings_are_refused(file, finished):
    arms = {
        "grpo": {"method": "grpo", "grpo": {"group_size": 4}},
        "sft": {"method": "sft", "optim": {"lr": 1e-3}},
    }
    with pytest.raises(RunDirectoryError, match="made with other settings") as error:
        results_of(file(arms=arms), "out", executor=Inline(), mode="resume")
    assert "optim.lr: 0.01 -> 0.001" in str(error.value)


def test_unequal_budgets_are_named(file):
    """Tokens are known when they are spent: here the steps end before the budget does."""
    budget = {"unit": "trained", "at_most": 10**6}
    found = results_of(file(budget=budget), "out", executor=Inline())
    spent = {arm: block["spent"]["trained"] for arm, block in found["arms"].items()}
    due = {arm: pytest.approx(value / 10**6) for arm, value in spent.items()}
    assert found["budget"]["unequal"] == due
    assert len(due) == 2
    assert sorted(found["comparisons"][0]["unequal_budget"]) == sorted(due)
    assert {row["verdict"] for row in found["comparisons"]} == {"cannot tell yet"}


def test_what_is_due_is_the_limit_or_the_baselines_or_the_least():
    def due(baseline, **limits):
        spent = {arm: cost(updates=n) for arm, n in {"a": 10.0, "b": 20.0, "none": 0.0}.items()}
        return unequal_budgets(Budget(**limits), spent, baseline=baseline)

    assert due("b") == {"a": 0.5}
    assert due("none") == {"b": 2.0}
    assert due("b", at_most=10) == {"b": 2.0}
    assert due("b", tolerance=0.5) == {}


def test_one_pair_decides_nothing(file):
    found = results_of(file(seeds=[0], bases=["base-0"]), "out", executor=Inline())
    assert {row["verdict"] for row in found["comparisons"]} == {"cannot tell yet"}


def test_a_preparation_runs_once_a_base_and_before_its_arms(file, commands_here):
    Path("weak.yaml").write_text(
        yaml.safe_dump(
            {
                "method": "sft",
                "model": {"dtype": "float64", "device": "cpu"},
                "task": {"name": "jsonl", "path": "data.jsonl"},
                "sample": {"max_new_tokens": 4},
                "optim": {"steps": 1, "problems": 2},
                "eval": {"problems": 2, "samples": 2},
            }
        )
    )
    study = file(
        prepare={
            "weak": [
                "train",
                "weak.yaml",
                "--quiet",
                "--set",
                "model.name={model}",
                "--out",
                "{dir}",
            ]
        },
        recipe={**RECIPE, "model": {**RECIPE["model"], "system": "{weak}"}},
        seeds=[0],
    )
    executor = Inline()
    found = results_of(study, "out", executor=executor)
    assert found["failed"] == []
    assert executor.asked[:2] == [Path(f"out/prepared/weak/base-{i}") for i in (0, 1)]
    assert [words[0] for words in commands_here] == ["train"] * 2
    again = Inline()
    results_of(study, "out", executor=again, mode="resume")
    assert again.asked == []


def test_a_base_that_is_made_comes_before_what_rests_on_it(file):
    study = file(
        models={
            "made": {
                "run": [
                    "testbed",
                    "build",
                    "chain-s7",
                    "--steps",
                    "1",
                    "--quiet",
                    "--out",
                    "{dir}",
                ],
                "model": "{dir}/chain-s7/final",
            }
        },
        bases=["made"],
        seeds=[0],
        recipe={
            "task": {"name": "chain", "levels": ["2"]},
            "optim": {"steps": 1, "problems": 2},
            "eval": {"problems": 2, "samples": 2},
        },
    )
    executor = Inline()
    found = results_of(study, "out", executor=executor)
    assert (found["failed"], found["unfinished"]) == ([], 0)
    assert executor.asked[0] == Path("out/models/made")
    config = yaml.safe_load(Path("out/runs/sft/made/seed-0/config.yaml").read_text())
    assert config["model"]["name"] == "out/models/made/chain-s7/final"


# --- real workers


def test_two_workers_make_the_same_tables_as_one_process(file, finished):
    two = results_of(file(), "two", executor=LocalPool(2))
    assert tables(two) == tables(json.loads((finished / "study.json").read_text()))


def test_a_killed_worker_is_replaced(file):
    study = file(seeds=[0])
    pool = LocalPool(1)
    real, killed = pool.wait, []

    def wait(seconds):
        worker = pool._workers[0]
        busy = worker is not None and worker.job is not None
        if busy and not killed and Path(worker.job.out, "checkpoints").exists():
            killed.append(worker.process.pid)
            os.kill(worker.process.pid, signal.SIGKILL)
        return real(0.05)

    pool.wait = wait
    found = results_of(study, "out", executor=pool)
    assert killed
    assert (found["failed"], found["unfinished"]) == ([], 0)
    straight = results_of(study, "straight", executor=Inline())
    assert tables(found) == tables(straight)


def test_a_bug_in_a_run_ends_its_worker_and_is_told(file, tmp_path):
    pool = LocalPool(1)
    pool.submit(Job(tmp_path / "x", tmp_path / "x.log", recipe="no mapping"))
    try:
        outcomes = []
        while not outcomes:
            outcomes = pool.wait(1)
        assert outcomes[0].ending == "failed"
        assert "exit code 1" in outcomes[0].text
        assert "ValueError" in (tmp_path / "x.log").read_text()
    finally:
        pool.stop()


def test_a_preparation_that_is_told_to_leave_has_not_failed(tmp_path):
    """SIGTERM to the whole process group reaches workers before the study stops them."""
    pool = LocalPool(1)
    pool.submit(Job(tmp_path / "x", tmp_path / "x.log", command=("testbed", "list")))
    worker = pool._workers[0]
    deadline = time.monotonic() + 60
    while not (tmp_path / "x.log").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(worker.process.pid, signal.SIGTERM)
    outcomes = []
    while not outcomes and time.monotonic() < deadline:
        outcomes = pool.wait(1)
    pool.stop()
    assert [outcome.ending for outcome in outcomes] == ["lost"]


def test_a_worker_that_has_served_long_makes_room_for_a_new_one(file, finished, monkeypatch):
    monkeypatch.setattr(executors, "_JOBS", 3)
    pool = LocalPool(1)
    start, started = pool._start, []
    pool._start = lambda place: started.append(start(place)) or started[-1]
    found = results_of(file(), "pooled", executor=pool)
    assert [worker.served for worker in started] == [3, 3, 2]  # two bases, two arms, two seeds
    assert len({worker.process.pid for worker in started}) == 3
    assert [worker.process.exitcode for worker in started] == [0, 0, 0]
    assert tables(found) == tables(json.loads((finished / "study.json").read_text()))


def deaf(pipe, alive, env):
    """A worker whose job ends before the signal to stop is heeded."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    job = pipe.recv()
    Path(job.log).write_text("begun")
    time.sleep(0.5)
    pipe.send(Outcome(job, "finished"))
    try:
        pipe.recv()
    except EOFError:
        return


def test_a_job_that_ends_while_the_study_stops_is_finished_and_nobody_waits(monkeypatch, tmp_path):
    monkeypatch.setattr(executors, "_serve", deaf)
    monkeypatch.setattr(executors, "_GRACE", 30.0)
    pool = LocalPool(1)
    pool.submit(Job(tmp_path / "x", tmp_path / "x.log", recipe={}))
    process = pool._workers[0].process
    while not (tmp_path / "x.log").exists():
        assert process.is_alive()
        time.sleep(0.01)
    assert [outcome.ending for outcome in pool.stop()] == ["finished"]
    assert process.exitcode == 0  # by itself, not killed after the time of grace


HOLDER = """
import sys
from pathlib import Path
from rekindle.engine.rundir import LOCK, RunLock
lock = RunLock(Path(sys.argv[1]) / LOCK)
print("held", flush=True)
sys.stdin.readline()
"""


def test_a_run_that_an_orphan_still_holds_is_waited_for(file, tmp_path, monkeypatch):
    """It lets go while the job waits, and not before."""
    run = plan(file(), tmp_path / "out")[0]
    run.out.mkdir(parents=True)
    words = [sys.executable, "-c", HOLDER, str(run.out)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, **pipes) as holder:
        assert holder.stdout.readline() == "held\n"

        def wait(seconds):
            if not holder.stdin.closed:
                holder.stdin.close()
            holder.wait(60)

        monkeypatch.setattr(jobs, "time", SimpleNamespace(monotonic=time.monotonic, sleep=wait))
        assert in_use(run.out)
        job = Job(run.out, tmp_path / "log", recipe=run.recipe.resolved())
        assert run_job(job).ending == "finished"
        assert holder.poll() is not None
    assert not in_use(run.out)


def command(*words):
    return [sys.executable, "-m", "rekindle", "study", "study.yaml", "--out", "out", *words]


@pytest.mark.faults
@pytest.mark.parametrize(
    ("how", "after"),
    [("kill", 1), pytest.param("kill", 3, marks=pytest.mark.slow), ("term", 2)],
)
def test_ended_at_any_instant_and_resumed_it_gives_the_same_tables(file, how, after, rekindle):
    """Ended once `after` runs have a checkpoint; whatever was under way goes on."""
    study = file(bases=["base-0"])
    straight = results_of(study, "straight", executor=Inline())
    process = subprocess.Popen(command("--jobs", "2", "--quiet"))
    deadline = time.monotonic() + 120
    while len(list(Path("out").glob("runs/*/*/*/checkpoints/*"))) < after:
        assert process.poll() is None, "finished before it could be ended"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL if how == "kill" else signal.SIGTERM)
    code = process.wait(60)
    assert code == (-9 if how == "kill" else EXIT_RESUMABLE)
    deadline = time.monotonic() + 60
    code = None
    while code != 0:
        # workers of a killed study leave within a second or a step; until then they hold their runs
        assert time.monotonic() < deadline
        code, said, _ = rekindle("study", "study.yaml", "--out", "out", "--resume", "--quiet")
        found = json.loads(Path("out/study.json").read_text())
        if found["unfinished"]:
            assert "in use by another process" in said
            code = None
    assert tables(found) == tables(straight)


def holders(out):
    """Processes that hold a run now, by their locks."""
    found = []
    for lock in Path(out).glob("runs/*/*/*/.lock"):
        pid = lock.read_text().strip()
        if pid and in_use(lock.parent):
            found.append(int(pid))
    return found


@pytest.mark.faults
@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_at_random_instants_parent_and_workers_it_gives_the_same_tables(file, seed):
    """Four times: a pause, then SIGKILL for the study or for one of its workers."""
    study = file(bases=["base-0"], recipe={**RECIPE, "optim": {**RECIPE["optim"], "steps": 12}})
    straight = results_of(study, "straight", executor=Inline())
    gen, kills = random.Random(seed), 0
    process = subprocess.Popen(command("--jobs", "2", "--quiet"))
    deadline = time.monotonic() + 300
    while kills < 4 and process.poll() is None:
        assert time.monotonic() < deadline
        if not holders("out"):
            time.sleep(0.05)
            continue
        time.sleep(gen.uniform(0, 0.4))
        workers = holders("out")
        if workers and gen.random() < 0.5:
            with contextlib.suppress(ProcessLookupError):
                os.kill(gen.choice(workers), signal.SIGKILL)
        else:
            process.kill()
            process.wait(60)
            process = subprocess.Popen(command("--jobs", "2", "--quiet", "--resume"))
        kills += 1
    process.wait(240)
    assert kills
    last = results_of(study, "out", executor=Inline(), mode="resume")
    assert tables(last) == tables(straight)
    assert len(last["cost"]["sessions"]) >= 2


def test_the_gap_recovered_is_given_between_the_two_ends(file):
    arms = {
        "grpo": {"method": "grpo", "grpo": {"group_size": 4}},
        "sft": {"method": "sft"},
        "long": {"method": "sft", "optim": {"lr": 3e-2}},
    }
    study = file(arms=arms, pgr={"weak": "grpo", "ceiling": "long"})
    found = results_of(study, "out", executor=Inline())
    rows = found["pgr"]
    assert [(row["method"], row["metric"]) for row in rows] == [
        ("sft", "pass@2"),
        ("sft", "pass@1"),
    ]

    def value(arm, metric):
        places = [Path(run["out"]) for run in found["arms"][arm]["runs"]]
        evals = [json.loads((place / "eval.json").read_text()) for place in places]
        return sum(e["metrics"][metric]["value"] for e in evals) / len(evals)

    for row in rows:
        weak, student, ceiling = (value(arm, row["metric"]) for arm in ("grpo", "sft", "long"))
        assert row["n_pairs"] == 4
        if ceiling > weak:
            assert row["pgr"] == pytest.approx((student - weak) / (ceiling - weak))
        else:
            assert row["pgr"] is None
            assert "no gap" in row["why"]


def test_ends_of_the_gap_must_be_two_arms(file):
    with pytest.raises(ConfigError, match=r"pgr\.ceiling is not an arm"):
        file(pgr={"weak": "grpo", "ceiling": "sfd"})
    with pytest.raises(ConfigError, match="the same arm"):
        file(pgr={"weak": "grpo", "ceiling": "grpo"})
