"""The run directory's record: one row a step, what made the run, and several processes as one."""

import getpass
import io
import json
import os
import platform
import shutil
import signal
import socket
import subprocess
import threading

import pytest
import torch
import yaml

from rekindle.engine import manifest as manifest_module
from rekindle.engine.checkpoint import find_checkpoint
from rekindle.engine.device import Group
from rekindle.engine.integrity import verify_run
from rekindle.engine.run import Run
from rekindle.engine.state import TrainState
from rekindle.errors import EXIT_RESUMABLE, MissingExtraError, RunDirectoryError

PRINTS = {"data": "d", "model": "m"}


def fresh():
    model = torch.nn.Linear(2, 1)
    return TrainState(
        models={"policy": model},
        optimizer=torch.optim.SGD(model.parameters(), lr=0.1),
        schedule=lambda step: 0.1,
    )


KEEP = {"checkpoint": {"keep_finished": True}}


def opened(directory, mode="new", config=None, quiet=True, **kwargs):
    return Run.open(
        directory, config=config or {}, fingerprints=PRINTS, mode=mode, quiet=quiet, **kwargs
    )


def rows(directory, name="metrics.jsonl"):
    return [json.loads(line) for line in (directory / name).read_text().splitlines()]


def take(run, total, state=None, each=lambda step: None):
    state = run.restore(state or fresh())
    for step in run.steps(state, total=total):
        each(step)
        run.log(step, {"loss": 1.0 / step})
    return state


def test_checkpoints_on_cadence_and_at_the_end(tmp_path):
    config = {"checkpoint": {"every": 2, "keep": 9}}
    with opened(tmp_path / "run", config=config) as run:
        state = take(run, 5)
    assert state.step == 5
    kept = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert kept == ["step-000002", "step-000004", "step-000005"]


def test_rows_are_numbered_and_undefined_is_null(tmp_path):
    with opened(tmp_path / "run") as run:
        state = run.restore(fresh())
        for step in run.steps(state, total=2):
            run.log(step, {"kl": float("nan"), "loss": 0.5}, samples=[{"step": step, "n": 1}] * 2)
    assert rows(tmp_path / "run") == [
        {"step": 1, "kl": None, "loss": 0.5},
        {"step": 2, "kl": None, "loss": 0.5},
    ]
    assert [row["step"] for row in rows(tmp_path / "run", "samples.jsonl")] == [1, 1, 2, 2]


@pytest.mark.parametrize(
    ("steps_logged", "said"),
    [
        (lambda step: [step, step], "this is step 1, got a row of step 1, and"),
        (lambda step: [step + 1], "this is step 1, got a row of step 2"),
        (lambda step: [], "step 1 wrote no metrics row"),
    ],
)
def test_a_step_has_exactly_one_row(tmp_path, steps_logged, said):
    def body():
        with opened(tmp_path / "run") as run:
            for step in run.steps(run.restore(fresh()), total=3):
                for logged in steps_logged(step):
                    run.log(logged, {})

    with pytest.raises(ValueError, match=said):
        body()
    assert find_checkpoint(tmp_path / "run" / "checkpoints").directory is None


def test_an_evaluation_is_kept_by_step_and_as_the_last(tmp_path):
    with opened(tmp_path / "run") as run:
        for step in (0, 20):
            run.log_eval(step, {"metrics": {"pass@1": {"value": step / 100}}})
    place = tmp_path / "run"
    assert sorted(path.name for path in (place / "eval").iterdir()) == [
        "step-000000.json",
        "step-000020.json",
    ]
    last = json.loads((place / "eval.json").read_text())
    assert last == {"step": 20, "metrics": {"pass@1": {"value": 0.2}}}


@pytest.mark.parametrize("keep", [False, True])
def test_a_finished_run_keeps_its_checkpoints_only_where_told(tmp_path, keep):
    """Its logs and model are known by hash without them."""
    run_directory, config = tmp_path / "run", {"checkpoint": {"keep_finished": keep}}
    with opened(run_directory, config=config) as run:
        take(run, 2)
        assert (run_directory / "checkpoints").exists()
        run.finish(lambda aside: (aside / "weights").write_text("w"))
    assert (run_directory / "checkpoints").exists() == keep
    assert [part for part in verify_run(run_directory) if part.fault] == []
    with opened(run_directory, "resume", config=config) as run:
        assert run.finished
    with open(run_directory / "metrics.jsonl", "a") as log:
        log.write("{}\n")
    assert [part for part in verify_run(run_directory) if part.fault] == []
    (run_directory / "metrics.jsonl").write_text('{"step": 1}\n')
    assert [part.name for part in verify_run(run_directory) if part.fault] == ["metrics.jsonl"]


def test_checkpoints_that_a_kill_left_of_a_finished_run_go_when_it_is_opened(tmp_path):
    run_directory = tmp_path / "run"
    with opened(run_directory) as run:
        take(run, 2)
        shutil.copytree(run_directory / "checkpoints", tmp_path / "kept")
        run.finish(lambda aside: (aside / "weights").write_text("w"))
    shutil.copytree(tmp_path / "kept", run_directory / "checkpoints")
    assert [part for part in verify_run(run_directory) if part.fault] == []
    with opened(run_directory, "resume") as run:
        assert run.finished
    assert not (run_directory / "checkpoints").exists()


def test_the_final_model_is_put_in_place_as_a_whole(tmp_path):
    """Also a second time, and with directories in it."""

    def save(aside):
        (aside / "sub").mkdir()
        (aside / "sub" / "file").write_text("x")

    def failing(aside):
        save(aside)
        raise OSError(28, "No space left on device")

    with opened(tmp_path / "run", config=KEEP) as run:
        take(run, 1)
        with pytest.raises(RunDirectoryError, match=r"no space left while writing .*final"):
            run.finish(failing)
        assert not (tmp_path / "run" / "final").exists()
        assert not list((tmp_path / "run").glob(".final*"))
        run.finish(save)
        run.finish(pytest.fail)  # it is finished
    with opened(tmp_path / "run", "resume", config=KEEP) as run:
        assert run.finished
        state = take(run, 99)
        run.finish(pytest.fail)
    assert state.step == 1
    assert (tmp_path / "run" / "final" / "sub" / "file").read_text() == "x"


def test_a_finished_run_whose_model_is_gone_writes_it_again(tmp_path):
    with opened(tmp_path / "run") as run:
        take(run, 1)
        run.finish(lambda aside: (aside / "x").touch())
    (tmp_path / "run" / "final" / "x").unlink()
    (tmp_path / "run" / "final").rmdir()
    with opened(tmp_path / "run", "resume") as run:
        assert not run.finished
        take(run, 1)
        run.finish(lambda aside: (aside / "y").touch())
    assert (tmp_path / "run" / "final" / "y").exists()


def test_the_config_is_written_as_it_is(tmp_path):
    config = {"seed": 3, "optim": {"lr": 5e-4, "betas": (0.9, 0.95)}, "name": "é: #1", "none": None}
    with opened(tmp_path / "run", config=config):
        pass
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert saved == {**config, "optim": {"lr": 5e-4, "betas": [0.9, 0.95]}}


def test_the_manifest_says_what_made_the_run_and_not_where(tmp_path, monkeypatch):
    monkeypatch.setenv("SOME_TOKEN", "s3cret-value")
    with opened(tmp_path / "run", config={"seed": 3}, command="rekindle train x") as run:
        take(run, 2)
    with opened(tmp_path / "run", "resume", config={"seed": 3}) as run:
        take(run, 3)
        run.finish(lambda aside: None)
    text = (tmp_path / "run" / "manifest.json").read_text()
    found = json.loads(text)
    assert found["seed"] == 3
    assert found["command"] == "rekindle train x"
    assert found["python"] == platform.python_version()
    assert found["packages"]["torch"] == torch.__version__
    assert found["fingerprints"] == PRINTS
    assert found["processes"] == 1
    assert [session["from_step"] for session in found["sessions"]] == [0, 2]
    assert found["started"] <= found["sessions"][0]["started"] <= found["finished"]
    for private in ("s3cret-value", socket.gethostname(), os.getcwd()):
        assert private not in text
    if getpass.getuser() != "root":
        assert getpass.getuser() not in text


def test_the_code_version_is_that_of_the_checkout(tmp_path, monkeypatch):
    """Commit, changed or not, and which change; GIT_DIR of a hook does not mislead it."""
    package = tmp_path / "src" / "rekindle" / "engine"
    package.mkdir(parents=True)
    (package / "manifest.py").write_text("1\n")
    environment = {
        **{key: value for key, value in os.environ.items() if not key.startswith("GIT_")},
        **{
            f"GIT_{who}_{what}": "x"
            for who in ("AUTHOR", "COMMITTER")
            for what in ("NAME", "EMAIL")
        },
    }

    def git(*words):
        command = ["git", "-C", str(tmp_path), *words]
        done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
        return done.stdout.strip()

    git("init", "-q")
    git("add", "-A")
    git("commit", "-qm", "first")
    monkeypatch.setattr(manifest_module, "__file__", str(package / "manifest.py"))
    monkeypatch.setenv("GIT_DIR", "/nonexistent")
    code = manifest_module.checkout.__wrapped__
    assert code() == {"commit": git("rev-parse", "HEAD"), "dirty": False, "diff_sha": None}
    (package / "new.py").write_bytes(b"\xff")
    assert code()["dirty"] is True
    (package / "manifest.py").write_bytes(b"\xff\n")
    first = code()["diff_sha"]
    assert first
    (package / "manifest.py").write_bytes(b"\xfe\n")
    assert code()["diff_sha"] not in {first, None}
    monkeypatch.setattr(
        manifest_module, "__file__", str(tmp_path / "lib" / "python" / "a" / "b" / "c.py")
    )
    assert code() == {"commit": None, "dirty": None, "diff_sha": None}


def test_a_missing_exporter_is_said_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "wandb", None)
    with pytest.raises(MissingExtraError, match=r"rekindle\[trackers\]"):
        opened(tmp_path / "run", config={"log": {"exporters": ["wandb"]}})
    assert not (tmp_path / "run").exists()


def test_a_path_may_be_text_and_have_spaces(tmp_path):
    with opened(str(tmp_path / "a run ü")) as run:
        take(run, 1)
    assert len(rows(tmp_path / "a run ü")) == 1


def test_a_run_goes_on_without_standard_error(tmp_path, monkeypatch):
    """A program that has none, one that was closed, a terminal that went away."""

    class Gone(io.StringIO):
        def write(self, text):
            raise OSError(5, "Input/output error")

    closed = io.StringIO()
    closed.close()
    for number, stream in enumerate([None, closed, Gone()]):
        monkeypatch.setattr("sys.stderr", stream)
        with opened(tmp_path / f"run{number}", quiet=None) as run:
            take(run, 2)
        monkeypatch.undo()
        assert len(rows(tmp_path / f"run{number}")) == 2


# --- several processes


class Threads:
    """A group whose processes are threads: all meet at every call."""

    def __init__(self, size):
        self.size, self.slots = size, [None] * size
        self.meeting = threading.Barrier(size, timeout=20)

    def member(self, rank):
        return Member(self, rank)

    def exchange(self, rank, item):
        self.slots[rank] = item
        self.meeting.wait()
        found = list(self.slots)
        self.meeting.wait()
        return found


class Member(Group):
    def __init__(self, group, rank):
        self.group, self.rank, self.size, self.is_main = group, rank, group.size, rank == 0

    def gather_objects(self, items):
        return [item for part in self.group.exchange(self.rank, items) for item in part]

    def broadcast_object(self, item):
        return self.group.exchange(self.rank, item)[0]

    def sum(self, values):
        raise NotImplementedError

    def sum_gradients(self, parameters):
        raise NotImplementedError


def in_threads(work, size=2):
    """What `work(member)` returned or raised, in order of rank."""
    group, results = Threads(size), [None] * size

    def run(rank):
        try:
            results[rank] = work(group.member(rank))
        except (Exception, SystemExit) as error:  # noqa: BLE001 - shown by the test
            results[rank] = error

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(size)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "a process waits for ever"
    return results


def test_one_process_writes_and_all_take_up_the_same_step(tmp_path):
    def work(member, mode, total):
        with opened(tmp_path / "run", mode, group=member) as run:
            return take(run, total).step

    assert in_threads(lambda member: work(member, "new", 2)) == [2, 2]
    assert in_threads(lambda member: work(member, "resume", 4)) == [4, 4]
    assert [row["step"] for row in rows(tmp_path / "run")] == [1, 2, 3, 4]


@pytest.mark.parametrize("asked", [0, 1])
def test_a_signal_to_one_process_stops_all_after_the_same_step(tmp_path, asked):
    """A launcher may reach only some of them; the others must neither go on nor wait."""

    def work(member):
        with opened(tmp_path / "run", group=member) as run:

            def each(step):
                run._interrupts.requested = step == 3 and member.rank == asked

            take(run, 9, each=each)

    stopped = in_threads(work)
    assert [stop.code for stop in stopped] == [EXIT_RESUMABLE] * 2
    found = find_checkpoint(tmp_path / "run" / "checkpoints").directory
    assert found is not None
    assert found.name == "step-000003"


@pytest.mark.parametrize("where", ["open", "restore", "checkpoint", "finish"])
def test_an_error_of_the_writing_process_reaches_all(tmp_path, where, monkeypatch):
    """The others would wait for it until the launcher kills them."""
    config = {"checkpoint": {"every": 1}}
    if where == "open":
        (tmp_path / "run").write_text("a file")
    if where == "restore":
        with opened(tmp_path / "run", config=config) as run:
            take(run, 1)
        (tmp_path / "run" / "metrics.jsonl").unlink()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    def work(member):
        mode = "resume" if where == "restore" else "new"
        with opened(tmp_path / "run", mode, config=config, group=member) as run:
            state = fresh()
            if where == "checkpoint":
                state.save = full
            take(run, 2, state=state)
            run.finish(full)

    errors = in_threads(work)
    assert [type(error) for error in errors] == [RunDirectoryError] * 2
    assert str(errors[0]) == str(errors[1])


def test_errors_survive_the_way_between_processes():
    """They travel pickled."""
    import pickle

    error = RunDirectoryError("what", got=1, wanted=2, why="why", fix="fix")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (RunDirectoryError, str(error))


@pytest.mark.parametrize("last", [True, False])
def test_a_signal_in_the_last_step_of_an_inner_run_stops_the_outer_one(tmp_path, last):
    """A stage that is over keeps what it made; the run around it does not begin the next."""
    after = []

    def outer():
        with opened(tmp_path / "outer"):
            with opened(tmp_path / "outer" / "stage") as stage:
                take(stage, 2, each=lambda step: step == (2 if last else 1) and raised())
                stage.finish(lambda place: (place / "model").write_text("done"))
            after.append("went on")

    with pytest.raises(SystemExit) as stop:
        outer()
    assert stop.value.code == EXIT_RESUMABLE
    assert after == []
    assert (tmp_path / "outer" / "stage" / "final").exists() == last


def raised():
    signal.raise_signal(signal.SIGTERM)


def test_a_signal_in_the_last_step_of_a_run_lets_it_finish(tmp_path):
    with opened(tmp_path / "run") as run:
        take(run, 2, each=lambda step: step == 2 and raised())
        run.finish(lambda place: (place / "model").write_text("done"))
    assert (tmp_path / "run" / "final" / "model").exists()
