"""What else happens to runs: torn files, full disks, signals, second owners, changed settings."""

import errno
import json
import os
import signal
import time

import pytest
import toy

from rekindle.engine.checkpoint import MARKER, find_checkpoint
from rekindle.errors import EXIT_RESUMABLE, RunDirectoryError

pytestmark = [pytest.mark.faults, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


@pytest.fixture
def run(tmp_path):
    directory = tmp_path / "run"
    toy.train(directory, "new")
    return directory


def test_a_finished_run_resumes_into_itself(run):
    before = toy.outcome(run)
    toy.train(run, "resume")
    assert toy.outcome(run) == before


@pytest.mark.parametrize(
    "file", ["policy.safetensors", "optimizer.safetensors", "state.json", MARKER]
)
@pytest.mark.parametrize("damage", ["cut", "flip", "gone"])
def test_a_torn_newest_checkpoint_is_named_and_the_older_one_is_used(run, file, damage, capsys):
    straight = toy.outcome(run)
    victim = run / "checkpoints" / "step-000006" / file
    raw = bytearray(victim.read_bytes())
    if damage == "gone":
        victim.unlink()
    elif damage == "cut":
        victim.write_bytes(raw[: len(raw) // 2])
    else:
        raw[len(raw) // 2] ^= 1
        victim.write_bytes(raw)
    found = find_checkpoint(run / "checkpoints")
    if file == MARKER and damage == "flip":
        return  # a flipped bit in the marker is caught as another hash, or is in a log length
    assert found.directory is not None
    assert found.directory.name == "step-000004"
    assert found.torn
    assert "step-000006" in found.torn[0]
    toy.train(run, "resume", quiet=None)
    assert "step-000006" in capsys.readouterr().err
    assert toy.outcome(run) == straight


def test_every_torn_checkpoint_means_from_the_start(run):
    straight = toy.outcome(run)
    for directory in (run / "checkpoints").iterdir():
        (directory / MARKER).unlink()
    toy.train(run, "resume")
    assert toy.outcome(run) == straight


@pytest.mark.parametrize("operation", range(1, 40, 3))
def test_a_full_disk_leaves_the_last_checkpoint_and_says_so(operation, tmp_path):
    """ENOSPC at the n-th file operation, then space again."""
    straight = tmp_path / "straight"
    toy.train(straight, "new")
    directory, said = tmp_path / "run", tmp_path / "said"

    def full():
        raise OSError(errno.ENOSPC, "No space left on device")

    def bombed():
        toy.Bomb(operation + 20, after=False, action=full).arm()
        try:
            toy.train(directory, "new")
        except RunDirectoryError as error:
            os.write(os.open(said, os.O_WRONLY | os.O_CREAT), str(error).encode())
            raise SystemExit(2) from None

    code = os.waitstatus_to_exitcode(toy.in_child(bombed))
    if code == 2:
        assert "no space left" in said.read_text()
        assert "free some space" in said.read_text()
    else:
        assert code == 0  # making a directory that exists: nothing was lost, the run went on
    toy.train(directory, "resume")
    assert toy.outcome(directory) == toy.outcome(straight)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_writes_a_checkpoint_and_leaves_with_the_documented_code(number, tmp_path):
    straight = tmp_path / "straight"
    toy.train(straight, "new")
    directory = tmp_path / "run"
    child = os.fork()
    if child == 0:
        code = 1
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            toy.train(directory, "new", pause=0.1)
            code = 0
        except SystemExit as stop:
            code = stop.code
        finally:
            os._exit(code)
    while not (directory / "metrics.jsonl").exists():
        time.sleep(0.01)
    os.kill(child, number)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == EXIT_RESUMABLE
    rows = (directory / "metrics.jsonl").read_text().splitlines()
    newest = find_checkpoint(directory / "checkpoints").directory
    assert newest is not None
    assert newest.name == f"step-{len(rows):06d}"
    toy.train(directory, "resume")
    assert toy.outcome(directory) == toy.outcome(straight)


def test_a_second_process_is_refused_and_the_lock_dies_with_its_owner(tmp_path):
    directory = tmp_path / "run"
    child = os.fork()
    if child == 0:
        toy.train(directory, "new", pause=5)
        os._exit(0)
    while not (directory / "manifest.json").exists():
        time.sleep(0.01)
    with pytest.raises(RunDirectoryError, match=rf"in use by another process(.|\n)*{child}"):
        toy.train(directory, "resume")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    toy.train(directory, "resume")


def test_changed_settings_are_refused_line_by_line(run):
    other = {"seed": 1, "checkpoint": {"every": 2, "keep": 2}, "new": {"key": 3}}
    with pytest.raises(RunDirectoryError) as caught:
        toy.train(run, "resume", config=other)
    assert "seed: 0 -> 1" in str(caught.value)
    assert "new.key: '(absent)' -> 3" in str(caught.value)


def test_changed_data_or_model_is_refused(run, monkeypatch):
    real = toy.Run.open

    def changed(*args, **kwargs):
        return real(*args, **{**kwargs, "fingerprints": {"data": "other", "model": "m"}})

    monkeypatch.setattr(toy.Run, "open", changed)
    with pytest.raises(RunDirectoryError, match=r"data \(hash\): 'd' -> 'other'"):
        toy.train(run, "resume")


def test_rows_that_vanished_are_not_papered_over(run):
    (run / "checkpoints" / "step-000006" / MARKER).unlink()
    (run / "metrics.jsonl").write_text('{"step": 1}\n')
    with pytest.raises(RunDirectoryError, match="shorter than its checkpoint says"):
        toy.train(run, "resume")


def test_directories_that_are_not_ours_are_never_touched(tmp_path):
    directory = tmp_path / "thesis"
    directory.mkdir()
    (directory / "chapter.tex").write_text("years of work")
    for mode in ("new", "overwrite", "resume"):
        with pytest.raises(RunDirectoryError):
            toy.train(directory, mode)
    assert (directory / "chapter.tex").read_text() == "years of work"


def test_an_existing_run_is_kept_unless_told(run):
    before = toy.outcome(run)
    with pytest.raises(RunDirectoryError, match="--resume goes on with it"):
        toy.train(run, "new")
    assert toy.outcome(run) == before
    toy.train(run, "overwrite")
    assert toy.outcome(run) == before  # same seed, same run


def test_a_file_in_the_way(tmp_path):
    place = tmp_path / "file"
    place.write_text("x")
    with pytest.raises(RunDirectoryError):
        toy.train(place, "new")
    with pytest.raises(RunDirectoryError):
        toy.train(place / "below", "new")


def test_the_manifest_records_sessions_and_the_end(run):
    toy.train(run, "resume")
    manifest = json.loads((run / "manifest.json").read_text())
    assert [session["from_step"] for session in manifest["sessions"]] == [0, 6]
    assert manifest["finished"] is not None
    assert manifest["fingerprints"] == {"data": "d", "model": "m"}
