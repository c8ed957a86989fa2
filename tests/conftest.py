"""Fixtures that every test may use: a generator, tiny models on disk, a small study, a browser.

What imports the package is imported within: the shape checks are installed after this file is read.
"""

import fcntl
import json
import os
import shutil
import sys
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import pytest
import torch

from chromium import Browser, find_chromium


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _no_wait_for_the_disk():
    """No test cuts the power, so none waits until the disk has what every process can read already.

    A file that is written atomically takes 7 ms with the wait and less than 1 without.
    """
    real = os.fsync
    os.fsync = os.fstat  # refuses what is no open file, as the real one does
    yield
    os.fsync = real


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")


@pytest.fixture
def gen() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.fixture(scope="session")
def base(tmp_path_factory) -> Path:
    """A random tiny model in a directory, fp64; where a test file has no `base` of its own."""
    import tiny

    directory = tmp_path_factory.mktemp("base")
    tiny.policy(dtype="float64").save(directory)
    return directory


@pytest.fixture(scope="session")
def data(tmp_path_factory) -> Path:
    """Forty sums with solutions; where a test file has no `data` of its own."""
    path = tmp_path_factory.mktemp("data") / "data.jsonl"
    rows = [
        {"id": f"p{i}", "prompt": f"{i}+{i % 3}=", "answer": str(i % 5), "solution": str(i % 5)}
        for i in range(40)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="session")
def smollm() -> Path:
    """SmolLM2-135M-Instruct: below REKINDLE_REAL_MODELS, else in the cache, fetched if need be."""
    from rekindle.testbed.pretrained import cache_directory, fetch

    given, name = os.environ.get("REKINDLE_REAL_MODELS"), "smollm2-135m"
    if given is not None:
        return Path(given).resolve() / name
    cache_directory().mkdir(parents=True, exist_ok=True)
    with open(cache_directory() / f".{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # one worker fetches, the others wait
        return fetch(name, tell=print, agree=print)


@pytest.fixture
def rekindle(monkeypatch, capsys):
    """Run a command in this process; (exit code, standard output, standard error)."""
    from rekindle.cli.main import main

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["rekindle", *[str(word) for word in words]])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run


@pytest.fixture(scope="session")
def tiny_bases(tmp_path_factory):
    """A directory with `tiny.policy(seed=...)` 0 and 1, fp64, as base-0 and base-1, for copies."""
    import tiny

    directory = tmp_path_factory.mktemp("models")
    for seed in (0, 1):
        tiny.policy(dtype="float64", seed=seed).save(directory / f"base-{seed}")
    return directory


@pytest.fixture
def file(tmp_path, monkeypatch, tiny_bases):
    """Writes study.yaml of a small study in a directory of the test's own, and loads it."""
    from study.inline_runs import small_study

    monkeypatch.chdir(tmp_path)
    return small_study(tmp_path, tiny_bases)


@pytest.fixture(scope="session")
def finished_study(tmp_path_factory, tiny_bases):
    """A directory in which the small study, as `file()` writes it, has run into out."""
    from rekindle.study.run.runner import execute_study
    from study.inline_runs import Inline, small_study

    place = tmp_path_factory.mktemp("finished")
    command = "rekindle study s.yaml"
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(place)
        study = small_study(place, tiny_bases)()
        execute_study(study, Path("out"), executor=Inline(), quiet=True, command=command)
    return place


@pytest.fixture
def finished(file, finished_study):
    """The directory of the finished small study, out, in the test's own working directory."""
    file()
    shutil.copytree(finished_study / "out", "out")
    return Path("out")


@pytest.fixture(scope="session")
def browser(tmp_path_factory):
    """It drives pages; without one on the machine such tests are skipped."""
    if find_chromium() is None:
        pytest.skip("no Chromium or Chrome on this machine")
    try:
        opened = Browser(find_chromium(), tmp_path_factory.mktemp("profile"))
    except (RuntimeError, TimeoutError, BrokenPipeError) as error:
        pytest.skip(f"{find_chromium()} does not start here: {error}")
    yield opened
    opened.close()
