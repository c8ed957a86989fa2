"""Where a command writes: what is its own is replaced, nothing else is lost."""

import json
import os
import re
from pathlib import Path

import pytest

from rekindle.engine import rundir
from rekindle.errors import ConfigError, RunDirectoryError
from rekindle.outputs import ARCHIVED, KEPT, PAGE, REPORT_MARK, OutputFile, kind_of
from rekindle.study.store import claim

MARK = re.compile(rb"made by a test")
MANIFEST = {"rekindle": "0", "id": "a", "fingerprints": {}, "finished": None}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def made(kind):
    """A directory of a kind, with nothing in it but what says so."""
    place = Path(kind)
    place.mkdir()
    study = {} if kind == "run" else {"study": "s"}
    (place / "manifest.json").write_text(json.dumps({**MANIFEST, **study}))
    (place / "config.yaml").write_text("seed: 0\n")
    if kind == "archive":
        (place / ARCHIVED).write_text("x")
    return place


def everything():
    """Each file with its content: nothing of it may change."""
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def refused(file, error=RunDirectoryError, match=""):
    before = everything()
    for act in (file.check, lambda: file.write("new")):
        with pytest.raises(error, match=match):
            act()
    assert everything() == before


# --- what may be written


@pytest.mark.parametrize("name", ["new.json", "below/new/x.json", "out of the way/é.json"])
def test_what_is_not_there_is_made(name):
    OutputFile(Path(name)).write("new")
    assert Path(name).read_text() == "new"


def test_an_empty_file_holds_nothing_to_lose():
    Path("x").touch()
    OutputFile(Path("x")).write("new")
    assert Path("x").read_text() == "new"


@pytest.mark.parametrize(
    ("before", "mark", "replaced"),
    [
        ("made by a test, long ago", MARK, True),
        ("  \n<!-- made by a test -->", MARK, True),
        ("made by a tes", MARK, False),
        ("x" * 10_000 + "made by a test", MARK, False),  # an input that quotes the mark
        ("made by a test", None, False),
        (" ", MARK, False),
    ],
)
def test_the_mark_of_its_maker_decides(before, mark, replaced):
    Path("x").write_text(before)
    file = OutputFile(Path("x"), mark=mark)
    if not replaced:
        refused(file, match=r"(?s)x exists.*--overwrite")
        file = OutputFile(Path("x"), mark=mark, overwrite=True)
    file.write("new")
    assert Path("x").read_text() == "new"


def test_what_comes_between_check_and_write_is_seen():
    file = OutputFile(Path("x"))
    file.check()
    Path("x").write_text("an hour of work by another command")
    refused(file, match="exists")


def test_rows_that_cannot_be_written_leave_the_file(tmp_path):
    Path("x").write_text("before")
    with pytest.raises(TypeError):
        OutputFile(Path("x"), overwrite=True).write_jsonl([{"a": 1}, {"b": object()}])
    assert everything() == {Path("x"): b"before"}


# --- what the command reads


def other_names(read):
    """Other ways to name an existing file."""
    Path("link").symlink_to(read)
    os.link(read, "hard")
    yield from (str(read), f"./{read}", f"nowhere/../{read}", str(read.absolute()), "link", "hard")


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("content", ["rows", "", "made by a test"])
def test_its_own_input_is_never_replaced_whatever_it_is_called(overwrite, content):
    Path("nowhere").mkdir()
    Path("in.jsonl").write_text(content)
    for name in other_names(Path("in.jsonl")):
        file = OutputFile(Path(name), reads=(Path("in.jsonl"),), mark=MARK, overwrite=overwrite)
        refused(file, ConfigError, "what the command reads as well")


def test_files_of_a_directory_that_is_read_are_input():
    Path("data/deep").mkdir(parents=True)
    Path("data/deep/test.jsonl").write_text("rows")
    os.link("data/deep/test.jsonl", "hard")
    Path("same-content").write_text("rows")
    for name in ("data/deep/test.jsonl", "hard"):
        file = OutputFile(Path(name), reads=(Path("data"),), overwrite=True)
        refused(file, ConfigError, "reads as well")
    for name in ("data/new.json", "same-content", "database"):
        OutputFile(Path(name), reads=(Path("data"), Path("hub/name")), overwrite=True).write("new")
        assert Path(name).read_text() == "new"


# --- runs and studies


def test_all_that_a_run_or_a_study_removes_as_its_own_is_kept_from_others():
    assert {*rundir.OWN, *claim.OWN, rundir.LOCK} - KEPT == {PAGE}


@pytest.mark.parametrize("kind", ["run", "study", "archive"])
def test_files_of_a_run_or_a_study_are_never_written_by_others(kind):
    """Neither those that are there, nor those that it may write yet."""
    place = made(kind)
    for name in KEPT:
        for path in (place / name, place / name / "deep" / "x.json"):
            if not path.is_dir() and not (place / name).is_file():
                refused(OutputFile(path, overwrite=True), match="is part of")
    for name in ("config.yaml", "manifest.json"):
        refused(OutputFile(place / name, overwrite=True), match="is part of")
    refused(OutputFile(place / "CONFIG.yaml"), match="is part of")  # one file on some disks
    for name in ("notes.json", "evals/x.json", PAGE):
        OutputFile(place / name).write("mine")
        assert (place / name).read_text() == "mine"


def test_a_run_is_known_with_a_damaged_or_missing_manifest():
    place = made("run")
    (place / "manifest.json").write_text('{"rekindle": ')
    assert kind_of(place) == "a run directory"
    (place / "manifest.json").unlink()
    assert kind_of(place) is None
    (place / "metrics.jsonl").write_text("{}")
    (place / "checkpoints").mkdir()
    refused(OutputFile(place / "metrics.jsonl", overwrite=True), match="is part of")


@pytest.mark.parametrize("text", ["{}", "[]", '{"rekindle": 1}', '{"name": "an app"}'])
def test_other_peoples_directories_may_use_the_same_names(text):
    Path("app").mkdir()
    Path("app/manifest.json").write_text(text)
    Path("app/config.yaml").write_text("a: 1")
    OutputFile(Path("app/eval.json")).write("new")
    refused(OutputFile(Path("app/config.yaml")), match="exists")
    OutputFile(Path("app/config.yaml"), overwrite=True).write("new")


def test_the_innermost_run_decides():
    """A page beside a run of a study is not the study's."""
    inner = made("study") / "runs" / "a" / "b" / "seed-0"
    inner.mkdir(parents=True)
    (inner / "manifest.json").write_text(json.dumps(MANIFEST))
    OutputFile(inner / PAGE, mark=REPORT_MARK).write("page")
    refused(OutputFile(inner / "final" / "x"), match="part of a run directory")
    refused(OutputFile(Path("study/runs/a/x.json")), match="part of a study directory")


# --- links, directories, devices


def test_a_link_is_followed_and_stays():
    Path("real").write_text("before")
    Path("link").symlink_to("real")
    refused(OutputFile(Path("link")), match="link exists")
    OutputFile(Path("link"), overwrite=True).write("new")
    assert Path("link").is_symlink()
    assert Path("real").read_text() == "new"


def test_a_link_to_nothing_makes_what_it_names():
    Path("there").mkdir()
    Path("link").symlink_to("there/new")
    OutputFile(Path("link")).write("new")
    assert (Path("link").is_symlink(), Path("there/new").read_text()) == (True, "new")


def test_a_link_does_not_lead_into_a_run():
    Path("link").symlink_to(made("run") / "config.yaml")
    refused(OutputFile(Path("link"), overwrite=True), match="part of a run directory")
    Path("below").symlink_to("run/final")
    refused(OutputFile(Path("below/x")), match="part of a run directory")


def test_links_that_lead_nowhere_directories_and_pipes_are_refused():
    Path("loop").symlink_to("loop")
    made("run")
    os.mkfifo("pipe")
    for name, said in (
        ("loop", "leads to itself"),
        ("run", r"(?s)is a directory.*a run directory"),
        (".", "is a directory"),
        ("pipe", "a device, a pipe"),
        ("/dev/null", "a device"),
    ):
        with pytest.raises(RunDirectoryError, match=said):
            OutputFile(Path(name), overwrite=True).write("new")
    assert Path("/dev/null").is_char_device()
    assert Path("pipe").is_fifo()
