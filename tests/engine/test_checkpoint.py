"""A checkpoint is complete or does not count; the order of operations makes it so."""

import os

import pytest

from rekindle.engine import checkpoint
from rekindle.engine.checkpoint import (
    MARKER,
    checkpoint_name,
    drop_old,
    find_checkpoint,
    save_checkpoint,
    verify,
)
from rekindle.errors import CheckpointError, RunDirectoryError


def save(root, step, *, text="weights", keep=2, **extra):
    def write(directory):
        (directory / "a.safetensors").write_text(f"{text} {step}")
        (directory / "state.json").write_text("{}")

    return save_checkpoint(root, step, write, extra=extra, needed=0, keep=keep)


def names(root):
    return sorted(path.name for path in root.iterdir())


def test_a_save_can_be_verified_and_says_what_it_was_given(tmp_path):
    place = save(tmp_path, 3, logs={"metrics": [12, "abc"]})
    marker = verify(place)
    assert place == tmp_path / "step-000003"
    assert marker["step"] == 3
    assert marker["logs"] == {"metrics": [12, "abc"]}
    assert set(marker["sha256"]) == {"a.safetensors", "state.json"}


def test_files_are_synced_before_the_rename_and_the_marker_comes_last(tmp_path, monkeypatch):
    """A crash of the whole machine must not leave a marker for content that never reached it."""
    done = []
    fsync, replace = os.fsync, os.replace

    def recording_fsync(handle):
        done.append(("sync", os.path.basename(os.readlink(f"/proc/self/fd/{handle}"))))
        fsync(handle)

    def recording_replace(source, target):
        done.append(("rename", os.path.basename(target)))
        replace(source, target)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no /proc to name open files by")
    monkeypatch.setattr(os, "fsync", recording_fsync)
    monkeypatch.setattr(os, "replace", recording_replace)
    save(tmp_path, 1)
    aside = f".step-000001.new.{os.getpid()}.tmp"
    assert done == [
        ("sync", "a.safetensors"),
        ("sync", "state.json"),
        ("sync", aside),
        ("rename", "step-000001"),
        ("sync", tmp_path.name),
        ("sync", f".{MARKER}.new.{os.getpid()}.tmp"),
        ("rename", MARKER),
        ("sync", "step-000001"),
    ]


def test_the_newest_is_by_number_not_by_name(tmp_path):
    for step in (999_999, 1_000_000):
        save(tmp_path, step)
    found = find_checkpoint(tmp_path).directory
    assert found is not None
    assert found.name == checkpoint_name(1_000_000) == "step-1000000"


@pytest.mark.parametrize("keep", [1, 2, 3])
def test_the_newest_complete_ones_are_kept(tmp_path, keep):
    for step in range(1, 6):
        save(tmp_path, step, keep=keep)
    assert names(tmp_path) == [checkpoint_name(step) for step in range(6 - keep, 6)]


def test_torn_ones_do_not_count_as_kept_and_go_with_a_newer_complete_one(tmp_path):
    for step in (1, 2, 3):
        save(tmp_path, step, keep=9)
    (tmp_path / "step-000003" / MARKER).unlink()
    drop_old(tmp_path, 2, keep=9)
    assert names(tmp_path) == ["step-000001", "step-000002", "step-000003"]
    save(tmp_path, 4, keep=2)
    assert names(tmp_path) == ["step-000002", "step-000004"]


def test_a_torn_one_of_the_same_step_is_replaced(tmp_path):
    place = save(tmp_path, 1, text="old")
    (place / MARKER).unlink()
    (place / "more").write_text("left over")
    save(tmp_path, 1, text="new")
    assert verify(place)
    assert (place / "a.safetensors").read_text() == "new 1"
    assert names(place) == [MARKER, "a.safetensors", "state.json"]


@pytest.mark.parametrize(
    ("harm", "said"),
    [
        (lambda d: (d / MARKER).unlink(), f"torn: it has no {MARKER}"),
        (lambda d: (d / MARKER).write_text("{"), f"torn: {MARKER} cannot be read"),
        (lambda d: (d / MARKER).write_text("[1]"), f"torn: {MARKER} cannot be read"),
        (lambda d: (d / MARKER).write_bytes(b"\xff\xfe"), f"torn: {MARKER} cannot be read"),
        (lambda d: (d / "state.json").unlink(), "torn: state.json is missing"),
        (lambda d: (d / "a.safetensors").write_text("WEIGHTS 1"), "altered: a.safetensors has"),
        (
            lambda d: (d / MARKER).write_text((d / MARKER).read_text().replace("12", "13")),
            f"altered: {MARKER} has another hash",
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path, harm, said):
    place = save(tmp_path, 1, logs={"metrics": [12]})
    harm(place)
    with pytest.raises(CheckpointError, match=f"step-000001 is {said}"):
        verify(place)
    found = find_checkpoint(tmp_path)
    assert found.directory is None
    assert len(found.torn) == 1


def test_a_renamed_checkpoint_is_not_of_that_step(tmp_path):
    place = save(tmp_path, 1)
    place.rename(tmp_path / "step-000009")
    with pytest.raises(CheckpointError, match="altered"):
        verify(tmp_path / "step-000009")


def test_nothing_there_is_no_checkpoint(tmp_path):
    (tmp_path / "step-x").mkdir()
    (tmp_path / "step-000001").write_text("a file")
    assert find_checkpoint(tmp_path).directory is None
    assert find_checkpoint(tmp_path / "missing").directory is None


def test_what_dead_processes_left_is_cleared_and_other_things_are_not(tmp_path):
    (tmp_path / ".step-000009.new.123.tmp").mkdir()
    (tmp_path / ".step-000009.old.123.tmp").mkdir()
    (tmp_path / "notes").mkdir()
    save(tmp_path, 1)
    assert names(tmp_path) == ["notes", "step-000001"]


def test_an_interrupted_write_leaves_nothing_and_keeps_the_last(tmp_path):
    save(tmp_path, 1)

    def interrupted(directory):
        (directory / "a").write_text("half")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        save_checkpoint(tmp_path, 2, interrupted, extra={}, needed=0, keep=1)
    assert names(tmp_path) == ["step-000001"]
    verify(tmp_path / "step-000001")


def test_the_room_is_measured_first(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoint, "free_bytes", lambda path: 99)
    with pytest.raises(RunDirectoryError, match=r"(?s)checkpoint of step 7.*99 bytes free.*100"):
        save_checkpoint(tmp_path, 7, pytest.fail, extra={}, needed=100, keep=1)


def test_files_may_be_read_by_whom_the_user_lets(tmp_path):
    """safetensors makes files that only their owner can read."""

    def write(directory):
        (directory / "sub").mkdir()
        for path in (directory / "a", directory / "sub" / "b"):
            path.write_text("x")
            path.chmod(0o600)

    before = os.umask(0o027)
    try:
        place = save_checkpoint(tmp_path, 1, write, extra={}, needed=0, keep=1)
    finally:
        os.umask(before)
    assert (place / "a").stat().st_mode & 0o777 == 0o640
    assert set(verify(place)["sha256"]) == {"a", "sub/b"}
