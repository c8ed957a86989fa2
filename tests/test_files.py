"""Files are written whole or not at all, logs can be cut back, and refusals are explained."""

import errno
import json
import os

import pytest

from rekindle.errors import DataError, RunDirectoryError
from rekindle.files import (
    EMPTY_LOG,
    AppendLog,
    LogMark,
    clear_leftovers,
    explained_io,
    free_bytes,
    fsync_dir,
    is_leftover,
    open_lock,
    read_json,
    read_jsonl,
    remove_tree,
    replace_dir,
    seal_tree,
    sha256_file,
    write_atomic,
    write_json,
    write_jsonl,
    written_aside,
)


class Half:
    """A file on a disk that takes some of the bytes before it refuses."""

    def __init__(self, file):
        self.file = file

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.file.close()

    def write(self, raw):
        self.file.write(raw[: len(raw) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("at", ["open", "write", "fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_content_and_nothing_else(tmp_path, monkeypatch, at):
    path = tmp_path / "file"
    write_atomic(path, "old")

    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    if at == "open":
        monkeypatch.setattr("builtins.open", full)
    elif at == "write":
        real = open
        monkeypatch.setattr("builtins.open", lambda path, mode: Half(real(path, mode)))
    else:
        monkeypatch.setattr(os, at, full)
    with pytest.raises(RunDirectoryError, match=r"(?s)no space left while writing.*bytes free"):
        write_atomic(path, "new")
    monkeypatch.undo()
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_directories_on_the_way_are_made(tmp_path):
    write_atomic(tmp_path / "a" / "b" / "file", b"\x00\xff")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"\x00\xff"


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "no space left while saving"),
        (errno.EDQUOT, "no space left while saving"),
        (errno.EACCES, "no permission for saving"),
        (errno.EROFS, "no permission for saving"),
        (errno.EIO, "failed saving"),
    ],
)
def test_refusals_of_the_system_are_explained(tmp_path, number, said):
    with pytest.raises(RunDirectoryError, match=said), explained_io(tmp_path / "x", "saving"):
        raise OSError(number, os.strerror(number))


def test_a_directory_in_a_files_place_is_named(tmp_path):
    with pytest.raises(RunDirectoryError, match="is a directory") as caught:
        write_atomic(tmp_path, b"")
    assert "a file" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_our_own_errors_pass_unchanged(tmp_path):
    """Some of them are OSErrors, too."""
    error = RunDirectoryError("what")
    with pytest.raises(RunDirectoryError) as caught, explained_io(tmp_path, "saving"):
        raise error
    assert caught.value is error


# --- JSON


def test_json_has_no_nan(tmp_path):
    write_json(tmp_path / "x.json", {"a": float("nan"), "b": [float("inf"), 1], "c": (2.5,)})
    assert read_json(tmp_path / "x.json") == {"a": None, "b": [None, 1], "c": [2.5]}


def test_any_text_a_model_emits_survives_in_valid_utf8(tmp_path):
    """Half a surrogate pair cannot be encoded; line separators do not end a line."""
    rows = [{"text": "é\u2028\x85\n"}, {"text": "\ud83d broken"}, {"text": "\x00\ufffe"}]
    write_jsonl(tmp_path / "rows.jsonl", rows)
    log = AppendLog(tmp_path / "log.jsonl")
    log.append(rows)
    for name in ("rows.jsonl", "log.jsonl"):
        raw = (tmp_path / name).read_bytes()
        raw.decode("utf-8")
        assert [json.loads(line) for line in raw.split(b"\n")[:-1]] == rows
        assert [row for _, row in read_jsonl(tmp_path / name)] == rows


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (b'{"a": 1}\n{"a": \n', r"rows.jsonl:2 is not valid JSON"),
        (b"\n\n", "is empty"),
        (b"", "is empty"),
        (b"[1]\n", r"rows.jsonl:1 is not a JSON object"),
        (b'{"a": "\xff"}\n', "is not UTF-8"),
    ],
)
def test_broken_rows_are_named_by_file_and_line(tmp_path, raw, said):
    (tmp_path / "rows.jsonl").write_bytes(raw)
    with pytest.raises(DataError, match=said):
        read_jsonl(tmp_path / "rows.jsonl")


def test_bom_crlf_and_blank_lines_are_no_trouble(tmp_path):
    (tmp_path / "rows.jsonl").write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\r\n{"a": 2}')
    assert read_jsonl(tmp_path / "rows.jsonl") == [(1, {"a": 1}), (3, {"a": 2})]


def test_missing_files_and_directories_are_said(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_json(tmp_path / "none.json")
    with pytest.raises(DataError, match="is a directory"):
        read_json(tmp_path)
    (tmp_path / "x.json").write_text('{"a":\n 1,}')
    with pytest.raises(DataError, match=r"x.json:2 is not valid JSON"):
        read_json(tmp_path / "x.json")


# --- logs


def test_a_log_is_cut_back_to_its_mark_and_goes_on(tmp_path):
    log = AppendLog(tmp_path / "log.jsonl")
    log.append([{"n": 1}, {"n": 2}])
    mark = log.sync()
    log.append([{"n": 3}])
    longer = log.sync()
    again = AppendLog(tmp_path / "log.jsonl")
    again.cut(mark)
    again.append([{"n": 3}])
    assert again.sync() == longer
    assert longer.sha256 == sha256_file(tmp_path / "log.jsonl")
    assert longer.length == (tmp_path / "log.jsonl").stat().st_size


def test_a_torn_last_line_is_cut_away(tmp_path):
    path = tmp_path / "log.jsonl"
    log = AppendLog(path)
    log.append([{"n": 1}])
    mark = log.sync()
    with open(path, "ab") as file:
        file.write(b'{"n": 2, "te')
    log.cut(mark)
    assert path.read_text() == '{"n": 1}\n'


def test_no_log_is_an_empty_log(tmp_path):
    log = AppendLog(tmp_path / "log.jsonl")
    assert log.sync() == EMPTY_LOG
    log.cut(EMPTY_LOG)
    assert not log.path.exists()
    log.append([{"n": 1}])
    log.cut(EMPTY_LOG)
    assert log.path.read_bytes() == b""


@pytest.mark.parametrize(
    ("content", "how"),
    [
        ("", "shorter than"),
        ('{"n": 9}\n', "different from what"),
        ('{"n": 9}\n' * 2, "different from what"),
    ],
)
def test_a_log_that_is_not_what_it_was_is_left_alone(tmp_path, content, how):
    log = AppendLog(tmp_path / "log.jsonl")
    log.append([{"n": 1}])
    mark = log.sync()
    log.path.write_text(content)
    with pytest.raises(RunDirectoryError, match=f"is {how} its checkpoint says"):
        log.cut(mark)
    assert log.path.read_text() == content


def test_rows_that_did_not_fit_are_taken_back(tmp_path, monkeypatch):
    log = AppendLog(tmp_path / "log.jsonl")
    log.append([{"n": 1}])
    real = open
    monkeypatch.setattr("builtins.open", lambda path, mode: Half(real(path, mode)))
    with pytest.raises(RunDirectoryError, match="no space left while appending to"):
        log.append([{"n": 2}])
    monkeypatch.undo()
    assert log.path.read_text() == '{"n": 1}\n'


def test_marks_survive_json():
    mark = LogMark(3, "abc")
    assert LogMark(*json.loads(json.dumps(mark))) == mark


# --- directories


def test_a_directory_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "final"
    for text in ("first", "second"):
        with written_aside(target, "writing") as aside:
            (aside / "file").write_text(text)
            (aside / text).mkdir()
            assert seal_tree(aside) == {"file": sha256_file(aside / "file")}
            replace_dir(aside, target)
    assert sorted(path.name for path in target.iterdir()) == ["file", "second"]
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_a_directory_that_cannot_be_replaced_is_put_back(tmp_path, monkeypatch):
    target, source = tmp_path / "final", tmp_path / "new"
    for path in (target, source):
        path.mkdir()
        (path / path.name).touch()
    real = os.replace

    def refusing(a, b):
        if a == source:
            raise OSError(errno.ENOSPC, "No space left on device")
        real(a, b)

    monkeypatch.setattr(os, "replace", refusing)
    with pytest.raises(OSError, match="No space"):
        replace_dir(source, target)
    assert [path.name for path in target.iterdir()] == ["final"]


@pytest.mark.parametrize("error", [OSError(errno.EIO, "x"), KeyboardInterrupt()])
def test_what_was_written_aside_goes_when_it_is_not_put_in_place(tmp_path, error):
    target = tmp_path / "final"
    target.mkdir()
    (target / "file").write_text("old")

    def interrupted():
        with written_aside(target, "writing") as aside:
            (aside / "file").write_text("half")
            raise error

    with pytest.raises((RunDirectoryError, KeyboardInterrupt)):
        interrupted()
    assert (target / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["final"]


def test_only_what_this_module_leaves_is_cleared(tmp_path):
    ours = [".final.new.12.tmp", ".config.yaml.new.3.tmp", ".step-000002.old.9.tmp"]
    others = [".lock", ".git", "x.tmp", ".vimrc.tmp", ".a.new.tmp", ".new.12.tmp", ".a.new.x.tmp"]
    for name in [*ours[1:], *others]:
        (tmp_path / name).write_text("x")
    (tmp_path / ours[0]).mkdir()
    (tmp_path / ours[0] / "file").write_text("x")
    assert all(is_leftover(tmp_path / name) for name in ours)
    clear_leftovers(tmp_path)
    clear_leftovers(tmp_path / "missing")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


def test_removal_does_not_follow_links(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("x")
    (tmp_path / "link").symlink_to(tmp_path / "mine")
    remove_tree(tmp_path / "link")
    remove_tree(tmp_path / "missing")
    assert (tmp_path / "mine" / "file").exists()
    assert not (tmp_path / "link").exists()


def test_a_file_system_that_cannot_sync_directories_is_no_error(tmp_path, monkeypatch):
    def refusing(number):
        def fsync(handle):
            raise OSError(number, os.strerror(number))

        return fsync

    monkeypatch.setattr(os, "fsync", refusing(errno.EINVAL))
    fsync_dir(tmp_path)
    monkeypatch.setattr(os, "fsync", refusing(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        fsync_dir(tmp_path)


def test_free_space_of_a_place_that_does_not_exist_yet(tmp_path):
    assert free_bytes(tmp_path / "a" / "b") > 0


def test_a_lock_file_keeps_what_its_holder_wrote(tmp_path):
    (tmp_path / ".lock").write_text("123")
    with open_lock(tmp_path / ".lock") as lock:
        assert lock.read() == "123"


@pytest.mark.parametrize(
    "line", ['{"a": ' + "1" * 5000 + "}", '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"]
)
def test_json_that_python_cannot_hold_is_a_data_error(line, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"a": 1}\n' + line + "\n")
    with pytest.raises(DataError, match=r"rows.jsonl:2 is not valid JSON") as error:
        read_jsonl(path)
    assert len(str(error.value)) < 1000
