"""What `rekindle diagnose --log` writes: a page, the numbers, the change; what it never does."""

import ast
import json

import pytest

from synthetic_logs import fair, hard, make_trl, make_verl


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    place = tmp_path_factory.mktemp("logs")
    make_trl(place / "hard", rate=hard)
    make_trl(place / "fair", rate=fair)
    make_verl(place / "verl", rate=hard)
    return place


@pytest.fixture
def logs(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return made


def test_a_page_and_the_numbers(rekindle, logs, tmp_path):
    code, out, _ = rekindle("diagnose", "--log", logs / "hard", "--out", "page.html")
    assert (code, out.splitlines()[-1]) == (0, "written: page.html")
    assert "too_hard" in (tmp_path / "page.html").read_text()
    code, out, err = rekindle("diagnose", "--log", logs / "hard", "--out", "x.json", "--json")
    assert code == 0
    assert json.loads(out) == json.loads((tmp_path / "x.json").read_text())
    assert "written: x.json" in err


def test_two_logs_are_paired_in_every_form(rekindle, logs, tmp_path):
    two = ("--log", logs / "hard", "--log", logs / "fair")
    code, out, _ = rekindle("diagnose", *two, "--json")
    told = json.loads(out)
    assert code == 0
    assert [one["cause"] for one in told["logs"]] == ["too_hard", None]
    (other,) = told["paired"]["others"]
    assert (told["paired"]["first"], other["path"]) == (str(logs / "hard"), str(logs / "fair"))
    assert other["accuracy"]["ci_low"] > 0
    assert other["mixed"]["ci_low"] > 0
    code, out, _ = rekindle("diagnose", *two, "--out", "two.html")
    assert f"{other['prompts']['shared']} prompts in both" in out
    assert "  accuracy " in out
    assert "the difference over shared prompts" in (tmp_path / "two.html").read_text()


def test_a_page_of_ours_is_replaced_and_nothing_else(rekindle, logs, tmp_path):
    words = ("diagnose", "--log", logs / "fair", "--out")
    (tmp_path / "mine.html").write_text("<p>mine</p>")
    (tmp_path / "mine.json").write_text("{}")
    for name in ("mine.html", "mine.json"):
        code, _, err = rekindle(*words, name)
        assert code == 2
        assert "--overwrite" in err
    assert (tmp_path / "mine.html").read_text() == "<p>mine</p>"
    assert rekindle(*words, "ours.html")[0] == rekindle(*words, "ours.html")[0] == 0
    assert rekindle(*words, "mine.html", "--overwrite")[0] == 0


def test_a_log_is_never_replaced(rekindle, logs):
    path = logs / "verl" / "1.jsonl"
    before = path.read_bytes()
    table = logs / "copy.json"
    table.write_bytes(before)
    columns = "score=score,text=output,prompt=input"
    for words in (
        ("--log", table, "--map", columns, "--out", table, "--overwrite"),
        ("--log", logs / "hard", "--out", logs / "hard" / "completions", "--overwrite"),
    ):
        assert rekindle("diagnose", *words)[0] == 2
    assert table.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("--out", "x.htm"), "has a suffix that --log does not write"),
        (("--out", "x"), "no suffix"),
        (("--write", "x.yaml"), "has a suffix that --log does not write"),
        (("--write", "x.sh"), "has a suffix that is not for a log of trl"),
        (("--write", "x.py", "--log", "again"), "--write is the change of one run"),
    ],
)
def test_what_is_not_written_is_told(rekindle, logs, tmp_path, words, what):
    code, _, err = rekindle("diagnose", "--log", logs / "hard", *words)
    assert (code, what in err) == (2, True), err
    assert list(tmp_path.iterdir()) == []


def test_the_change_is_written(rekindle, logs, tmp_path):
    code, out, _ = rekindle("diagnose", "--log", logs / "hard", "--write", "c.py")
    assert code == 0
    assert "written: c.py, c_prompts.json" in out
    assert "prompts have 16 answers or more and were never solved" in out
    ast.parse((tmp_path / "c.py").read_text())
    assert json.loads((tmp_path / "c_prompts.json").read_text())["never"]
    code, _, err = rekindle("diagnose", "--log", logs / "hard", "--write", "c.py")
    assert (code, "--overwrite" in err) == (2, True)
    code, out, _ = rekindle("diagnose", "--log", logs / "verl", "--write", "d.sh")
    assert (code, "written: d.sh, d_prompts.json" in out) == (0, True)


def test_a_healthy_log_gets_no_change(rekindle, logs, tmp_path):
    code, out, _ = rekindle("diagnose", "--log", logs / "fair", "--write", "c.py")
    assert (code, out.splitlines()[-1]) == (0, "c.py was not written: the log speaks for no change")
    assert list(tmp_path.iterdir()) == []


def test_another_trainers_log_has_no_change(rekindle, logs, tmp_path):
    words = ("--log", logs / "verl", "--map", "score=score,text=output,prompt=input")
    code, _, err = rekindle("diagnose", *words, "--write", "c.py")
    assert code == 2
    assert "no change for a log of mapped" in err
