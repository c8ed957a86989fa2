"""What was declared first stays known, and finished runs do not vanish from the count."""

import json
from pathlib import Path

import pytest
import yaml

from rekindle.cli.study import show
from rekindle.errors import RunDirectoryError
from rekindle.report.page import build_report
from rekindle.report.study import load_study_page
from rekindle.study.analyse.archive_write import archive_study
from rekindle.study.schema import StudyResults
from study.costless_runs import go, study_of
from study.recomputing import recomputed

GREEDY = {"primary": {"arm": "b", "metric": "greedy"}}


@pytest.fixture(autouse=True)
def _aside(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def rows(found):
    return [(row["method"], row["metric"], row["primary"]) for row in found["comparisons"]]


def test_a_primary_that_was_chosen_after_runs_is_not_shown_as_declared(capsys):
    first, _ = go(study_of(), "out")
    assert "declared" not in first["primary"]
    found, asked = go(study_of(**GREEDY), "out", mode="resume")
    assert not asked
    primary = found["primary"]
    assert (primary["metric"], primary["declared"], primary["changed_after"]) == (
        "greedy", False, 12,
    )  # fmt: skip
    assert primary["first"] == {"arm": "b", "baseline": "a", "metric": "pass@1", "level": None}
    assert rows(found) == [("b", "greedy", True), ("b", "pass@1", False)]
    show(StudyResults.read(found))
    said = " ".join(capsys.readouterr().out.split())
    assert "changed after 12 finished runs; declared was pass@1 of b against a" in said
    assert "declared before the first run" not in said
    page = build_report([Path("out")], Path("a.html")).read_text()
    assert "changed after 12 runs" in page
    assert "at first" in page
    assert "declared before the first run" not in page.lower()
    again, _ = go(study_of(**GREEDY), "out", mode="resume")
    assert again["primary"] == primary
    back, _ = go(study_of(), "out", mode="resume")
    assert "declared" not in back["primary"]


def test_the_first_declared_pair_is_still_compared():
    arms = {name: {"method": "sft"} for name in "abc"}
    go(study_of(arms=arms, comparisons=[{"arm": "c", "baseline": "a"}]), "out")
    other = study_of(
        arms=arms, comparisons=[{"arm": "c", "baseline": "a"}],
        primary={"arm": "c", "baseline": "b"},
    )  # fmt: skip
    found, _ = go(other, "out", mode="resume")
    pairs = [(row["method"], row["baseline"]) for row in found["comparisons"]]
    assert pairs == [("c", "b"), ("c", "a"), ("b", "a")]
    assert recomputed(archive_study(Path("out"), Path("small"))).plain() == found


def test_a_change_before_any_run_is_the_declaration():
    with pytest.raises(SystemExit):
        go(study_of(), "out", stop_after=0)
    found, _ = go(study_of(**GREEDY), "out", mode="resume")
    assert "declared" not in found["primary"]
    assert found["changes"][0]["finished_runs"] == 0


@pytest.mark.parametrize("gone", ["study.yaml", "manifest.json"])
def test_runs_without_what_was_declared_are_refused(gone):
    go(study_of(), "out")
    Path("out", gone).unlink()
    with pytest.raises(RunDirectoryError):
        go(study_of(**GREEDY), "out", mode="resume")
    assert not Path("out", gone).exists()


def test_runs_that_a_change_leaves_out_are_counted_and_named():
    go(study_of(), "out")
    found, _ = go(study_of(seeds=[0]), "out", mode="resume")
    (note,) = found["changes"]
    assert (note["finished_runs"], note["left_out"]) == (12, 6)
    page = build_report([Path("out")], Path("a.html")).read_text()
    assert "after 12 finished runs (6 of them left out)" in page


def test_a_new_base_that_would_rename_the_others_is_refused():
    go(study_of(bases=["x/m", "x/n"]), "out")
    before = json.loads(Path("out/manifest.json").read_text())
    with pytest.raises(RunDirectoryError, match="'x/m' would have another directory") as error:
        go(study_of(bases=["x/m", "x/n", "y/m"]), "out", mode="resume")
    assert "'x-m', and 4 finished runs are in 'm'" in str(error.value)
    assert json.loads(Path("out/manifest.json").read_text()) == before
    assert go(study_of(bases=["x/m", "x/n", "y/o"]), "out", mode="resume")[0]["unfinished"] == 0


def told(found, capsys):
    show(StudyResults.read(found))
    return " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"meaningful": 0.9}, "meaningful: 0.01 -> 0.9"),
        ({"interval": "bootstrap"}, "interval: 'crossed' -> 'bootstrap'"),
        ({"budget": {"tolerance": 0.6}}, "budget.tolerance: 0.05 -> 0.6"),
    ],
)
def test_a_rule_of_verdicts_that_was_changed_after_runs_is_not_shown_as_declared(
    change, line, capsys
):
    first, _ = go(study_of(), "out")
    assert "declared" not in first["primary"]
    found, _ = go(study_of(**change), "out", mode="resume")
    primary = found["primary"]
    assert (primary["declared"], primary["changed_after"], primary["changed"]) == (
        False, 12, [line],
    )  # fmt: skip
    assert "first" not in primary
    assert [row["primary"] for row in found["comparisons"]] == [True]
    beside = "the rule of verdicts was changed after 12 finished runs"
    assert all(beside in row["why"] for row in found["comparisons"])
    said = told(found, capsys)
    assert f"* changed after 12 finished runs; {line}" in said
    assert "declared before the first run" not in said
    page = load_study_page(Path("out"))
    assert f"Changed after 12 finished runs ({line}): " in " ".join(page.summary)
    assert (page.results.primary.declared, page.when) == (False, "changed after 12 runs")
    again, _ = go(study_of(**change), "out", mode="resume")
    assert again["primary"] == primary
    back, _ = go(study_of(), "out", mode="resume")
    assert "declared" not in back["primary"]
    assert beside not in back["comparisons"][0]["why"]


def test_a_rule_that_is_changed_before_any_run_is_the_declaration():
    with pytest.raises(SystemExit):
        go(study_of(), "out", stop_after=0)
    found, _ = go(study_of(meaningful=0.9), "out", mode="resume")
    assert "declared" not in found["primary"]


def by_hand(**changes):
    path = Path("out/study.yaml")
    path.write_text(yaml.safe_dump({**yaml.safe_load(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        (GREEDY, ["primary.metric: 'pass@1' -> 'greedy'"]),
        ({"meaningful": 0.9}, ["meaningful: 0.01 -> 0.9"]),
        ({"claim": "another"}, ["claim: '' -> 'another'"]),
    ],
)
def test_a_stored_study_file_that_was_edited_by_hand_is_a_change(change, lines, capsys):
    go(study_of(), "out")
    by_hand(**change)
    found, _ = go(study_of(**change), "out", mode="resume")
    (note,) = found["changes"]
    assert note["finished_runs"] == 12
    assert note["changes"] == [
        "the study.yaml in the study's directory was edited by hand", *lines,
    ]  # fmt: skip
    assert found["primary"].get("declared", True) == ("claim" in change)
    assert "after 12 finished runs: the study.yaml in the study's" in told(found, capsys)
    assert go(study_of(**change), "out", mode="resume")[0]["changes"] == [note]


def test_what_a_hand_changed_in_a_study_that_did_not_keep_its_declaration_cannot_be_told(capsys):
    go(study_of(), "out")
    manifest = json.loads(Path("out/manifest.json").read_text())
    for name in ("primary", "rule", "declaration"):  # as the first studies
        del manifest[name]
    Path("out/manifest.json").write_text(json.dumps(manifest))
    by_hand(meaningful=0.9)
    found, _ = go(study_of(meaningful=0.9), "out", mode="resume")
    (note,) = found["changes"]
    assert note["changes"][1:] == ["its other differences from what was declared are not known"]
    assert found["primary"]["declared"] is False
    assert "declared before the first run" not in told(found, capsys)
    page = build_report([Path("out")], Path("a.html")).read_text()
    assert "declared before the first run" not in page.lower()


def test_a_change_that_was_noted_before_a_kill_is_noted_once():
    go(study_of(), "out")
    before = Path("out/study.yaml").read_text()
    first, _ = go(study_of(meaningful=0.9), "out", mode="resume")
    Path("out/study.yaml").write_text(before)  # killed between the manifest and the file
    again, _ = go(study_of(meaningful=0.9), "out", mode="resume")
    assert again["changes"] == first["changes"]
    assert yaml.safe_load(Path("out/study.yaml").read_text())["meaningful"] == 0.9
