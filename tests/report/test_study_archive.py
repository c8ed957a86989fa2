"""The page of an archive says what that of its study says, and no more than it knows."""

import json
import lzma

import pytest
from outline import Outline
from synthetic_study import make_study

from rekindle.report.page import build_report
from rekindle.report.study import load_study_page
from rekindle.report.tables import time_parts, time_table, tokens
from rekindle.study.analyse.archive_write import archive_study
from rekindle.study.analyse.run_times import TIMES, kept_times, times_of
from rekindle.study.store.archive_read import RUNS, unpacked

ARMS = {"grpo": {"method": "grpo"}, "lens": {"method": "lens"}}


@pytest.fixture
def study(tmp_path):
    return make_study(tmp_path / "study", arms=ARMS, evaluations=26, every=4)


@pytest.fixture
def archive(study, tmp_path):
    return archive_study(study, tmp_path / "small")


def without_times(archive):
    """As archives were before they kept times."""
    lines = lzma.decompress((archive / RUNS).read_bytes()).decode().splitlines()
    rows = [json.loads(line) for line in lines]
    for row in rows:
        del row["files"][TIMES]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (archive / RUNS).write_bytes(lzma.compress(text.encode()))


def test_an_evaluation_within_a_step_is_counted_once():
    """The first row's 5 s lie before its step of 3 s, the second's 4 s in its step of 6 s."""
    rows = [
        {"time/eval": 5.0, "time/sample": 1.0, "time/update": 1.5, "time/step": 3.0},
        {"time/eval": 4.0, "time/update": 1.0, "time/checkpoint": 2.0, "time/step": 6.0},
        {"time/score": 0.25, "time/step": float("nan")},
    ]
    assert times_of(rows) == {
        "sample": 1.0, "score": 0.25, "update": 2.5, "eval": 9.0, "checkpoint": 2.0, "other": 1.5,
    }  # fmt: skip


def test_the_times_of_an_archive_are_those_of_its_study(study, archive):
    here = load_study_page(study).arms
    with unpacked(archive) as place:
        there = load_study_page(place, packed=True).arms
    assert len(there[0].rows) < len(here[0].rows) == 100
    for mine, theirs in zip(here, there, strict=True):
        assert time_parts(theirs) == pytest.approx(time_parts(mine), rel=1e-5)
        assert sum(time_parts(mine).values()) > 100 * 0.4
    assert time_table(here).rows == time_table(there).rows
    pages = [build_report([p], study / "page.html").read_text() for p in (study, archive)]
    figures = [Outline(html).data("figures-data")["time"]["data"] for html in pages]
    assert figures[0] == figures[1]


def test_an_archive_without_times_shows_none(archive):
    without_times(archive)
    html = build_report([archive], archive / "page.html").read_text()
    outline = Outline(html)
    assert "Time over the whole run" not in outline.text
    assert "time" not in outline.data("figures-data")
    assert "The parts of the time are not known" in outline.text
    assert "time, without evaluation" in outline.text
    with unpacked(archive) as place:
        run = place / "runs/lens/countdown-s0/seed-0"
        assert kept_times(run) is None
        [arm] = [arm for arm in load_study_page(place).arms if arm.name == "lens"]
        spent = json.loads((run / "spent.json").read_text())
        assert tokens(arm.members[0]) == {k: spent[k] for k in ("generated", "trained")}


def test_times_outlive_a_second_archive(archive, tmp_path):
    with unpacked(archive) as place:
        again = archive_study(place, tmp_path / "again")
    assert (again / RUNS).read_bytes() == (archive / RUNS).read_bytes()
