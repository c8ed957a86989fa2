"""What else happens to runs: torn files, full disks, signals, second owners, changed settings."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import toy
from safetensors import SafetensorError

from rekindle.engine import checkpoint
from rekindle.engine.checkpoint import MARKER, find_checkpoint, verify
from rekindle.errors import EXIT_RESUMABLE, RunDirectoryError

pytestmark = [pytest.mark.faults, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def damage(file, kind):
    raw = bytearray(file.read_bytes())
    raw[len(raw) // 2] ^= 1
    if kind == "gone":
        file.unlink()
    else:
        file.write_bytes(raw[: len(raw) // 2] if kind == "cut" else raw)


# --- torn and altered files


@pytest.mark.parametrize(
    "file",
    ["policy.safetensors", "optimizer.safetensors", "rng.safetensors", "state.json", MARKER],
)
@pytest.mark.parametrize("kind", ["cut", "flip", "gone"])
def test_a_torn_newest_checkpoint_is_named_and_the_older_one_is_used(
    run, straight, file, kind, capsys
):
    damage(run / "checkpoints" / "step-000006" / file, kind)
    found = find_checkpoint(run / "checkpoints")
    assert found.directory == run / "checkpoints" / "step-000004"
    assert [line for line in found.torn if "step-000006" in line and file in line] == found.torn
    toy.train(run, "resume", quiet=None)
    said = capsys.readouterr().err
    assert f"skipped: {found.torn[0]}" in said
    assert "resumed after step 4" in said
    assert toy.outcome(run) == straight


def test_every_torn_checkpoint_means_from_the_start(run, straight, capsys):
    for directory in (run / "checkpoints").iterdir():
        (directory / MARKER).unlink()
    toy.train(run, "resume", quiet=None)
    assert "from the first step again" in capsys.readouterr().err
    assert toy.outcome(run) == straight


def test_a_torn_checkpoint_is_kept_until_a_newer_complete_one_is_there(place, straight):
    """Killed right after the resume: what was torn may still be looked at."""
    directory = place / "run"
    toy.train(directory, "new", finish=False)
    damage(directory / "checkpoints" / "step-000006" / "state.json", "flip")
    names = []

    def look(step):
        names.append(sorted(path.name for path in (directory / "checkpoints").iterdir()))

    toy.train(directory, "resume", after_log=look)
    assert names[0] == ["step-000004", "step-000006"]
    assert toy.outcome(directory) == straight


def test_with_one_checkpoint_kept_an_altered_newer_one_does_not_drive_out_the_good_one(place):
    """After step 6 went bad and the run fell back to 4, the next save must keep itself, not 6."""
    directory = place / "run"
    config = {"checkpoint": {"every": 2, "keep": 2}}
    toy.train(directory, "new", config=config, finish=False)
    damage(directory / "checkpoints" / "step-000006" / "state.json", "flip")
    root = directory / "checkpoints"
    checkpoint.save_checkpoint(
        root, 5, lambda d: (d / "f").write_text("x"), extra={}, needed=0, keep=1
    )
    assert [path.name for path in root.iterdir()] == ["step-000005"]
    verify(root / "step-000005")


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("rows gone", "shorter than its checkpoint says"),
        ("a row gone, others added", "different from what its checkpoint says"),
        ("a number changed", "different from what its checkpoint says"),
        ("file gone", "shorter than its checkpoint says"),
    ],
)
@pytest.mark.parametrize("name", ["metrics.jsonl", "samples.jsonl"])
def test_rows_that_vanished_or_changed_are_not_papered_over(run, how, said, name):
    log = run / name
    text = log.read_text()
    lines = text.splitlines(keepends=True)
    changed = {
        "rows gone": lines[0],
        "a row gone, others added": "".join(lines[1:] + lines),
        "a number changed": text.replace('"step": 2', '"step": 9', 1),
    }
    if how == "file gone":
        log.unlink()
    else:
        log.write_text(changed[how])
    with pytest.raises(RunDirectoryError, match=said):
        toy.train(run, "resume")
    assert how == "file gone" or log.read_text() == changed[how]


# --- full disks


def full():
    raise OSError(errno.ENOSPC, "No space left on device")


def full_in_safetensors():
    raise SafetensorError("Error while serializing: I/O error: No space left (os error 28)")


FREEING = ("unlink", "rmdir", "truncate")
ALL_BUT_SAFETENSORS = (*FREEING, "replace", "fsync", "mkdir", "open")


@pytest.mark.parametrize(
    ("action", "spare", "at_least"),
    [(full, FREEING, 120), (full_in_safetensors, ALL_BUT_SAFETENSORS, 9)],
    ids=["any", "safetensors"],
)
def test_a_full_disk_leaves_the_last_checkpoint_and_says_so(
    action, spare, at_least, straight, place
):
    """ENOSPC at every file operation in turn, then space again."""
    operations = 0
    for at in range(1, 1000):
        directory = place / "run"
        bomb = toy.Bomb(at, action=action, spare=spare)
        bomb.arm()
        try:
            toy.train(directory, "new")
            code = 0
        except RunDirectoryError as error:
            code, said = 2, str(error)
        finally:
            bomb.disarm()
        if bomb.count < at:
            break
        operations += 1
        if code == 2:
            assert "no space left" in said, at
            assert "free some space" in said
            nothing_half_done(directory)
        toy.train(directory, "resume")
        assert toy.outcome(directory) == straight, at
        shutil.rmtree(directory)
    assert operations >= at_least


def nothing_half_done(directory):
    """No temporary file; every checkpoint is whole; only whole rows."""
    assert not list(directory.rglob(".*.tmp"))
    for path in (directory / "checkpoints").glob("*"):
        verify(path)
    for log in directory.glob("*.jsonl"):
        for line in log.read_text().splitlines(keepends=True):
            assert line.endswith("\n")
            json.loads(line)


def test_space_is_looked_for_before_a_save(run, straight, monkeypatch):
    """Bytes needed and bytes free are named, and nothing is begun."""
    checkpoint_six = run / "checkpoints" / "step-000006"
    shutil.rmtree(checkpoint_six)
    monkeypatch.setattr(checkpoint, "free_bytes", lambda path: 1000)
    with pytest.raises(RunDirectoryError, match=r"(?s)1,000 bytes free.*wanted: about \d\d,\d\d\d"):
        toy.train(run, "resume")
    assert not checkpoint_six.exists()
    monkeypatch.undo()
    toy.train(run, "resume")
    assert toy.outcome(run) == straight


def test_a_disk_that_is_really_full(place, straight, monkeypatch):
    """A small file system, if this user may mount one; more room, then the same run."""
    disk = place / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", str(disk)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no right to mount a file system")
    try:
        with monkeypatch.context() as patch:
            patch.setattr(checkpoint, "free_bytes", lambda path: 10**9)  # the check before a save
            with pytest.raises(RunDirectoryError, match="no space left"):
                toy.train(disk / "run", "new")
        nothing_half_done(disk / "run")
        assert find_checkpoint(disk / "run" / "checkpoints").directory is not None
        subprocess.run(["mount", "-o", "remount,size=2m", str(disk)], check=True)
        toy.train(disk / "run", "resume")
        assert toy.outcome(disk / "run") == straight
    finally:
        subprocess.run(["umount", str(disk)], check=True)


# --- signals


def start(directory, mode="new", **kwargs):
    """A run in a fork with the usual handlers, in steps long enough to be hit."""
    child = os.fork()
    if child:
        return child
    code = 1
    signal.alarm(60)  # a test that fails leaves nobody behind
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        toy.train(directory, mode, **kwargs)
        code = 0
    except SystemExit as stop:
        code = stop.code
    except KeyboardInterrupt:
        code = 130
    finally:
        os._exit(code)


def wait_for(path):
    while not path.exists():
        time.sleep(0.005)


def code_of(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_writes_a_checkpoint_and_leaves_with_the_documented_code(
    number, place, straight, capfd
):
    directory = place / "run"
    child = start(directory, pause=0.1, quiet=None)
    wait_for(directory / "metrics.jsonl")
    os.kill(child, number)
    assert code_of(child) == EXIT_RESUMABLE
    rows = (directory / "metrics.jsonl").read_text().splitlines()
    newest = find_checkpoint(directory / "checkpoints").directory
    assert newest is not None
    assert newest.name == f"step-{len(rows):06d}"
    said = capfd.readouterr().err
    assert f"{number.name}: a checkpoint follows" in said
    assert f"stopped after step {len(rows)}; go on with --resume" in said
    toy.train(directory, "resume")
    found = toy.outcome(directory)
    assert found["rows"] == straight["rows"]
    assert found["step-000006"] == straight["step-000006"]


def test_a_second_ctrl_c_stops_at_once(place, straight):
    """In the middle of a long step."""
    directory = place / "run"
    child = start(directory, after_log=lambda step: step == 3 and time.sleep(3600))
    wait_for_rows(directory, 3)
    os.kill(child, signal.SIGINT)
    time.sleep(0.1)
    os.kill(child, signal.SIGINT)
    assert code_of(child) == 130
    toy.train(directory, "resume")
    assert toy.outcome(directory) == straight


def wait_for_rows(directory, count):
    log = directory / "metrics.jsonl"
    while not log.exists() or log.read_bytes().count(b"\n") < count:
        time.sleep(0.005)


def test_a_signal_outside_the_steps_leaves_at_once(place, straight, monkeypatch):
    """While the model is saved at the end: there is nothing to write, a checkpoint is there."""
    directory = place / "run"

    def slow(tensors, path):
        Path(path).write_text("half")
        time.sleep(3600)

    monkeypatch.setattr(toy, "save_file", slow)
    child = start(directory)
    while not list(directory.glob(".final.*/m.st")):
        time.sleep(0.005)
    os.kill(child, signal.SIGTERM)
    assert code_of(child) == EXIT_RESUMABLE
    assert not (directory / "final").exists()
    monkeypatch.undo()
    toy.train(directory, "resume")
    assert toy.outcome(directory) == straight


def test_handlers_are_given_back(place):
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
    toy.train(place / "a", "new")
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before

    def failing(step):
        raise RuntimeError

    with pytest.raises(RuntimeError):
        toy.train(place / "b", "new", after_log=failing)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == before


# --- owners


def test_a_second_process_is_refused_and_the_lock_dies_with_its_owner(place):
    directory = place / "run"
    child = start(directory, pause=5)
    wait_for(directory / "config.yaml")
    for mode in ("resume", "overwrite"):
        with pytest.raises(RunDirectoryError, match=rf"(?s)in use by another process.*{child}"):
            toy.train(directory, mode)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    toy.train(directory, "resume")


def test_workers_that_outlive_a_killed_run_do_not_keep_its_directory(place):
    """A fork shares the open lock file; a verifier's worker may hang for ever."""
    directory, number = place / "run", place / "worker"

    def with_worker(step):
        worker = os.fork()
        if worker == 0:
            signal.alarm(60)
            time.sleep(3600)
        number.write_text(str(worker))
        toy.die()

    assert toy.in_child(lambda: toy.train(directory, "new", after_log=with_worker)) < 0
    worker = int(number.read_text())
    try:
        os.kill(worker, 0)  # it lives
        toy.train(directory, "resume")
    finally:
        os.kill(worker, signal.SIGKILL)


# --- settings


def test_changed_settings_are_refused_line_by_line(run):
    other = {"seed": 1, "checkpoint": {"every": 2}, "new": {"key": 3}}
    with pytest.raises(RunDirectoryError) as caught:
        toy.train(run, "resume", config=other)
    lines = [line.strip() for line in str(caught.value).splitlines()]
    assert lines[1:4] == [
        "seed: 0 -> 1",
        "new.key: (absent) -> 3",
        "checkpoint.keep: 2 -> (absent)",
    ]


@pytest.mark.parametrize("name", ["data", "model"])
def test_changed_data_or_model_is_refused(run, name):
    was = toy.PRINTS[name]
    with pytest.raises(RunDirectoryError, match=rf"{name} \(hash\): '{was}' -> 'other'"):
        toy.train(run, "resume", prints={**toy.PRINTS, name: "other"})


def test_a_run_of_another_state_format_is_refused(run):
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "state_format": 1}))
    with pytest.raises(RunDirectoryError, match="state format: 1 -> 2"):
        toy.train(run, "resume")


def test_a_config_that_cannot_be_read_is_refused(run):
    (run / "config.yaml").write_text("a: [1\n")
    with pytest.raises(RunDirectoryError, match=r"config\.yaml cannot be read"):
        toy.train(run, "resume")


def test_tuples_nan_and_empty_sections_are_no_change(place):
    config = {**toy.CONFIG, "betas": (0.9, 1e-5), "x": float("nan"), "empty": {}, "none": None}
    toy.train(place / "run", "new", config=config, finish=False)
    toy.train(place / "run", "resume", config=config)


# --- directories


def test_directories_that_are_not_ours_are_never_touched(place):
    """Not even with the names that a run has."""
    directory = place / "thesis"
    directory.mkdir()
    for name in ("config.yaml", "manifest.json", "metrics.jsonl", "chapter.tex"):
        (directory / name).write_text("{}")
    for mode in ("new", "overwrite", "resume"):
        with pytest.raises(RunDirectoryError):
            toy.train(directory, mode)
    assert sorted(p.name for p in directory.iterdir()) == [
        "chapter.tex",
        "config.yaml",
        "manifest.json",
        "metrics.jsonl",
    ]


def test_hidden_files_count_as_files(place):
    directory = place / "repository"
    (directory / ".git").mkdir(parents=True)
    for mode in ("new", "overwrite", "resume"):
        with pytest.raises(RunDirectoryError):
            toy.train(directory, mode)
    assert [p.name for p in directory.iterdir()] == [".git"]


def test_overwrite_removes_what_a_run_writes_and_nothing_else(run, straight):
    (run / "notes.txt").write_text("mine")
    (run / "eval" / "step-009999.json").write_text("{}")
    toy.train(run, "overwrite")
    assert (run / "notes.txt").read_text() == "mine"
    (run / "notes.txt").unlink()
    assert toy.outcome(run) == straight


def test_an_existing_run_is_kept_unless_told(run, straight):
    with pytest.raises(RunDirectoryError, match="--resume goes on with it"):
        toy.train(run, "new")
    toy.train(run, "resume")
    assert toy.outcome(run) == straight


def test_resume_of_nothing_is_a_new_run(place, straight):
    """A run that is killed at once leaves nothing; the same command must go on."""
    toy.train(place / "run", "resume")
    assert toy.outcome(place / "run") == straight


def test_a_file_in_the_way(place):
    (place / "file").write_text("x")
    for mode in ("new", "overwrite", "resume"):
        with pytest.raises(RunDirectoryError, match="is a file"):
            toy.train(place / "file", mode)
        with pytest.raises(RunDirectoryError, match="failed creating"):
            toy.train(place / "file" / "below", mode)


def test_no_permission_is_said_plainly():
    """As a user without rights, whoever runs the tests."""
    place = Path(tempfile.mkdtemp())
    place.chmod(0o755)
    said = place / "said"
    said.touch()
    said.chmod(0o666)
    (place / "run").mkdir(mode=0o555)

    def refused():
        if os.getuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        try:
            toy.train(place / "run", "new")
        except RunDirectoryError as error:
            said.write_text(str(error))

    try:
        assert toy.in_child(refused) == 0
        assert "no permission for opening" in said.read_text()
        assert "choose a directory that you can write to" in said.read_text()
    finally:
        shutil.rmtree(place)


# --- the end


def test_a_finished_run_does_nothing_and_says_so(run, straight, capsys):
    """Even when its checkpoints were thrown away to save space."""
    toy.train(run, "resume")
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file() and p.name != ".lock"}
    toy.train(run, "resume", quiet=None)
    assert "is finished: there is nothing to do" in capsys.readouterr().err
    after = {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file() and p.name != ".lock"}
    assert after == before
    shutil.rmtree(run / "checkpoints")
    toy.train(run, "resume")
    assert len((run / "metrics.jsonl").read_text().splitlines()) == toy.STEPS


def test_the_engine_needs_no_transformers():
    code = "import sys, rekindle.engine.run; sys.exit('transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
