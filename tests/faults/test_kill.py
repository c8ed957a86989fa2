"""kill -9 at any instant, then --resume: the bitwise same run."""

import os
import random
import shutil
import signal
import time

import pytest
import toy

pytestmark = [pytest.mark.faults, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    directory = tmp_path_factory.mktemp("straight") / "run"
    assert toy.in_child(lambda: toy.train(directory, "new")) == 0
    return toy.outcome(directory)


def finish(directory):
    assert toy.in_child(lambda: toy.train(directory, "resume")) == 0


@pytest.mark.parametrize("seed", range(20))
def test_killed_at_a_random_instant(seed, straight, tmp_path):
    """Several kills in one run, at random times within it."""
    rng = random.Random(seed)
    directory = tmp_path / "run"
    mode = "new"
    for _ in range(3):
        child = os.fork()
        if child == 0:
            try:
                toy.train(directory, mode, pause=0.01)
            finally:
                os._exit(0)
        time.sleep(rng.uniform(0.0, 0.15))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        mode = "resume"
    finish(directory)
    assert toy.outcome(directory) == straight


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_each_file_operation(after, straight, tmp_path):
    """Every open for writing, fsync, rename, truncate, mkdir and removal of a whole run."""

    def bombed(directory, at):
        bomb = toy.Bomb(at, after=after)
        bomb.arm()
        toy.train(directory, "new")

    at = 0
    while True:
        at += 1
        directory = tmp_path / f"run{at}"
        status = toy.in_child(lambda at=at, directory=directory: bombed(directory, at))
        if status == 0:
            break  # the run has fewer operations
        assert os.WTERMSIG(status) == signal.SIGKILL
        finish(directory)
        assert toy.outcome(directory) == straight, f"killed at operation {at}"
    assert at > 60  # the run does that many, so the loop was not empty


def test_killed_while_resuming(straight, tmp_path):
    """The resume itself writes (logs cut, manifest, stale files): each of its operations too."""
    first = tmp_path / "first"

    def until_step_three():
        bomb = toy.Bomb(10**9, after=False)
        bomb.arm()
        real = toy.Run.log

        def log(run, step, *args, **kwargs):
            real(run, step, *args, **kwargs)
            if step == 3:
                os.kill(os.getpid(), signal.SIGKILL)

        toy.Run.log = log
        toy.train(first, "new")

    toy.in_child(until_step_three)
    at = 0
    while True:
        at += 1
        directory = tmp_path / f"run{at}"
        shutil.copytree(first, directory)

        def bombed(at=at, directory=directory):
            toy.Bomb(at, after=False).arm()
            toy.train(directory, "resume")

        if toy.in_child(bombed) == 0:
            break
        finish(directory)
        assert toy.outcome(directory) == straight, f"killed at operation {at} of the resume"
    assert at > 30
