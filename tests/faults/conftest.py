"""A disk that is quick to sync, and runs of the toy on it."""

import os
import shutil
import tempfile
from pathlib import Path

import pytest
import toy

MEMORY = Path("/dev/shm")


@pytest.fixture(scope="module")
def disk(tmp_path_factory):
    """A directory of the module's own: in memory where there is such a place, for these tests sync
    some ten thousand times, and a killed process leaves the same files there as on a disk.
    """
    if not os.access(MEMORY, os.W_OK):
        yield tmp_path_factory.mktemp("disk")
        return
    directory = Path(tempfile.mkdtemp(dir=MEMORY, prefix="rekindle-test-"))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def place(disk, request):
    """An empty directory of the test's own."""
    directory = Path(tempfile.mkdtemp(dir=disk))
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def straight(disk):
    toy.train(disk / "straight", "new")
    return toy.outcome(disk / "straight")


@pytest.fixture
def run(place):
    """All steps taken, not finished."""
    toy.train(place / "run", "new", finish=False)
    return place / "run"
