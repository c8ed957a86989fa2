"""The page of a study: its claims are those of study.json, its curves are means over runs."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from rekindle.errors import ConfigError
from rekindle.report.averages import averaged
from rekindle.report.intervals import forest_figures
from rekindle.report.load import RunData
from rekindle.report.page import build_report
from rekindle.report.run_files import (
    Evaluation,
    LevelMetrics,
    LogRow,
    Manifest,
    Metric,
    Settings,
)
from rekindle.report.study import load_study_page
from rekindle.report.verdict import VerdictRow
from rekindle.study.run.runner import execute_study
from study.inline_runs import Inline


@pytest.fixture
def place(finished):
    return finished


def test_the_verdicts_are_those_of_the_results(place):
    found = json.loads((place / "study.json").read_text())
    page = load_study_page(place)
    assert [claim.verdict for claim in page.claims] == [
        row["verdict"] for row in found["comparisons"]
    ]
    assert [claim.main for claim in page.claims] == [True, False]
    assert page.claims[0].change.value == found["comparisons"][0]["delta"]
    html = build_report([place], place / "report.html").read_text()
    assert "Study: toy" in html
    assert "sft against grpo" in html
    assert "not evidence for a method" in html


def test_a_change_and_a_failure_are_shown(place):
    found = json.loads((place / "study.json").read_text())
    found["failed"] = [{"arm": "sft", "base": "b", "seed": 1, "why": "<b>it broke</b>"}]
    found["changes"] = [
        {"when": "today", "finished_runs": 3, "changes": ["primary.metric: 'a' -> 'b'"]}
    ]
    found["budget"]["unequal"] = {"grpo": 2.0}
    (place / "study.json").write_text(json.dumps(found))
    html = build_report([place], place / "report.html").read_text()
    assert "&lt;b&gt;it broke&lt;/b&gt;" in html
    assert "changed on today, after 3 finished runs: primary.metric" in html
    assert "grpo 2.00 times the updates that an arm should have" in html


def test_a_moved_study_finds_its_runs(place, tmp_path):
    (tmp_path / "runs").mkdir()
    place.rename(tmp_path / "runs" / "runs")
    assert len(load_study_page(tmp_path / "runs" / "runs").arms) == 2


def test_a_study_in_a_directory_of_runs_finds_them(file):
    execute_study(file(seeds=[0]), Path("runs/toy"), executor=Inline(), quiet=True)
    assert len(load_study_page(Path("runs/toy")).arms) == 2


def test_a_study_is_shown_alone_and_only_with_runs(place):
    with pytest.raises(ConfigError, match="shown alone"):
        build_report([place, place / "runs/sft/base-0/seed-0"], Path("x.html"))
    found = json.loads((place / "study.json").read_text())
    for block in found["arms"].values():
        block["runs"] = []
    (place / "study.json").write_text(json.dumps(found))
    html = build_report([place], Path("x.html")).read_text()
    assert "No run has been evaluated yet" in html, "the verdicts stand, the curves cannot"


def run_of(name, losses, accuracy):
    cells = {"pass@1": Metric(accuracy, 0.0, 1.0, 50)}
    levels = {"4": LevelMetrics(metrics=cells, n_problems=50)}
    evaluation = Evaluation(
        step=2, task="t", split="dev", n_problems=50, n_samples=8, metrics=cells, levels=levels
    )
    rows = [LogRow(i, {"loss": loss}) for i, loss in enumerate(losses, start=1)]
    return RunData(name, Path(name), Settings(), Manifest(), rows, [], [evaluation])


def test_an_arm_is_the_mean_of_its_runs_with_a_t_interval():
    """Mean of .2, .4, .6 is .4; sd .2, t(2) = 4.3027, half = 4.3027 * .2 / sqrt 3 = .4968."""
    runs = [run_of("a", [1, 2], 0.2), run_of("b", [3, 4, 9], 0.4), run_of("c", [5, None], 0.6)]
    mean = averaged("arm", runs)
    assert mean.rows == [LogRow(1, {"loss": 3.0}), LogRow(2, {"loss": 3.0})]
    cell = mean.evaluations[0].metrics["pass@1"]
    assert cell.value == pytest.approx(0.4)
    assert (cell.low, cell.high) == (0.0, pytest.approx(0.8968, abs=1e-4))
    assert cell.n is None, "the interval is over runs, not over problems"
    assert mean.evaluations[0].n_runs == 3
    assert mean.evaluations[0].at("4")["pass@1"] == cell
    assert mean.evaluations[0].problems_at("4") == 50
    alone = averaged("arm", [replace(runs[0])])
    assert (alone.evaluations[0].metrics["pass@1"].low, alone.name) == (None, "arm")


def test_the_gap_recovered_and_rounds_are_on_the_page(place):
    path = place / "study.json"
    found = json.loads(path.read_text())
    row = {"method": "sft", "metric": "pass@1", "level": None, "n_pairs": 4, "n_problems": 5}
    found["pgr"] = [
        {**row, "pgr": 0.814, "ci_low": 0.5, "ci_high": 1.25, "why": ""},
        {**row, "metric": "greedy", "pgr": None, "ci_low": None, "ci_high": None, "why": "no gap"},
    ]
    found["arms"]["sft"]["rounds"] = [{"round": 1, "spent/dpo_runs": 2.0, "spent/updates": 50.0}]
    path.write_text(json.dumps(found))
    page = load_study_page(place)
    gap = next(table for table in page.tables if table.caption.startswith("Performance gap"))
    assert gap.rows[0] == ("sft", "pass@1", "0.81", "0.50 to 1.25", "4", "")
    assert gap.rows[1] == ("sft", "greedy", "undefined", "none", "4", "no gap")
    costs = page.costs
    assert tuple(costs.head[-2:]) == ("DPO runs", "updates that were kept")
    by_arm = {cells[0]: cells[-2:] for cells in costs.rows}
    assert by_arm == {"grpo": ("", ""), "sft": ("2", "50")}


def claim(subject, value, low, high, word, **fields):
    change = None if value is None else Metric(value, low, high, 5)
    rest = {"where": "all levels", "metric": "pass@1", "split": "dev", "before": None} | fields
    return VerdictRow(
        subject=subject, after=None, change=change, n_problems=5, n_samples=2, n_runs=4, word=word,
        **rest,
    )  # fmt: skip


def test_the_forest_plot_has_every_difference_with_its_interval():
    import vl_convert

    claims = [
        claim("a against b", 0.1, 0.05, 0.15, "helps", main=True),
        claim("c against b", -0.02, -0.03, -0.01, "does not"),
        claim("d against b", 0.0, None, None, "cannot tell yet"),
        claim("e against b", None, None, None, "cannot tell yet"),
        claim("a against b", 0.3, 0.1, 0.5, "helps", metric="greedy"),
    ]
    first, second = forest_figures(claims)
    assert (first.title, second.title) == ("pass@1", "greedy")
    rows = first.spec["data"]["values"]
    assert [row["name"] for row in rows] == ["a against b ◆", "c against b", "d against b"]
    assert [row["value"] for row in rows] == pytest.approx([10, -2, 0])
    assert [row["low"] for row in rows] == [pytest.approx(5), pytest.approx(-3), None]
    assert rows[0]["shown"] == "+10.0 [+5.0, +15.0]"
    assert rows[2]["shown"] == "0.0 (no interval)"
    assert "c against b \N{MINUS SIGN}2.0" in first.alt
    svg = vl_convert.vegalite_to_svg({**first.spec, "width": 300})
    assert svg.count("<path") >= 3
    levels = [claim("a against b", 0.1, 0.0, 0.2, "helps", where=f"level {i}") for i in (3, 4)]
    [both] = forest_figures(levels)
    names = [row["name"] for row in both.spec["data"]["values"]]
    assert names == ["a against b, level 3", "a against b, level 4"]


def test_the_forest_plot_is_on_the_page_of_a_study_alone(place):
    html = build_report([place], place / "report.html").read_text()
    assert 'data-figure="forest-0"' in html
    run = place / "runs" / "sft" / "base-0" / "seed-0"
    assert "forest" not in build_report([run], place / "run.html").read_text().split("<script")[0]
