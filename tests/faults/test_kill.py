"""kill -9 at any instant, then --resume: the bitwise same run."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time

import pytest
import toy

pytestmark = [pytest.mark.faults, pytest.mark.filterwarnings("ignore::DeprecationWarning")]

KILLED = -signal.SIGKILL


@pytest.fixture(scope="module")
def straight(disk):
    toy.train(disk / "straight", "new")
    return toy.outcome(disk / "straight")


@pytest.fixture(scope="module")
def sparse(disk):
    toy.train(disk / "sparse", "new", config=toy.SPARSE)
    return toy.outcome(disk / "sparse")


@pytest.mark.parametrize("seed", range(20))
def test_killed_at_random_instants(seed, straight, place):
    """Three kills in one run, at random times within it."""
    rng = random.Random(seed)
    directory, mode = place / "run", "new"
    for _ in range(3):
        child = os.fork()
        if child == 0:
            try:
                toy.train(directory, mode, pause=0.01)
            finally:
                os._exit(0)
        time.sleep(rng.uniform(0.0, 0.1))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        mode = "resume"
    toy.train(directory, "resume")
    assert toy.outcome(directory) == straight


def every_operation(place, sparse, *, mode, torn=False, start=None, again="resume", last=1000):
    """Kill at the first file operation of a run, at the second, and so on; how many there are.

    What is on the disk after one is what is there before the next, so nothing is gained by killing
    after it.

    Args:
        start: a directory that each run begins with a copy of.
        again: the mode that brings it to its end.
        last: stop there.
    """
    directory = place / "run"
    for at in range(1, last):
        if start is not None:
            shutil.copytree(start, directory)

        def bombed(at=at):
            toy.Bomb(at, torn=torn).arm()
            toy.train(directory, mode, config=toy.SPARSE)

        status = toy.in_child(bombed)
        if status == 0:
            return at - 1  # there are fewer operations
        assert status == KILLED
        toy.train(directory, again, config=toy.SPARSE)
        assert toy.outcome(directory) == sparse, f"killed at operation {at}"
        shutil.rmtree(directory)
    return last


@pytest.mark.parametrize("torn", [False, True], ids=["before", "half-way"])
def test_killed_at_each_file_operation(torn, sparse, place):
    """Every open for writing, write, sync, rename, mkdir and removal of a whole run."""
    assert every_operation(place, sparse, mode="new", torn=torn) > (20 if torn else 100)


def test_killed_at_each_file_operation_of_a_resume(sparse, place):
    """It cuts the logs, notes the session, clears what is stale, and goes on."""
    first = place / "first"

    def until_step_four(step):
        if step == 4:
            toy.die()

    def interrupted():
        toy.train(first, "new", config=toy.SPARSE, after_log=until_step_four)

    assert toy.in_child(interrupted) == KILLED
    every_operation(place, sparse, mode="resume", start=first, last=35)


def test_killed_at_each_file_operation_of_an_overwrite(sparse, place):
    """What is left of the old run is still known as ours, so the same command goes through."""
    old = place / "old"
    toy.train(old, "new", config={**toy.SPARSE, "seed": 1})
    every_operation(place, sparse, mode="overwrite", start=old, again="overwrite", last=50)


def test_killed_in_each_step_with_all_random_sources(place):
    """In an interpreter of its own: shape checks under pytest draw from python's `random`."""
    command = [sys.executable, toy.__file__, str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list(place.iterdir())) == 1 + toy.STEPS
