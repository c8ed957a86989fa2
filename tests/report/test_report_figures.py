"""Figures: what is drawn is what was measured, and every spec is one that Vega-Lite accepts."""

import json
import math
import re
from dataclasses import replace

import pytest
import synthetic_runs as synthetic

from rekindle.report.charts import GROUP_CLASSES, pass_at_k
from rekindle.report.figures import (
    accuracy_panels,
    benchmarks_of,
    cost_figures,
    group_figures,
    learning_panels,
    quantity_figures,
    round_figures,
)
from rekindle.report.formatting import count, duration, listed, nice_step, percent, points
from rekindle.report.load import load_runs
from rekindle.report.run_files import Metric
from rekindle.report.spec import MOST_POINTS, binned, run_styles
from rekindle.report.tables import time_parts, time_table, token_table, tokens


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    place = tmp_path_factory.mktemp("figures")
    return load_runs(
        [
            synthetic.make_run(place / "grpo", steps=60),
            synthetic.make_run(place / "sft", method="sft", task="addition", steps=40),
        ]
    )


@pytest.fixture(scope="module")
def styles(runs):
    return run_styles([[run.name] for run in runs])


def test_the_learning_curve_holds_every_evaluation_with_its_interval(runs, styles):
    panels = learning_panels(benchmarks_of(runs), styles)
    assert [panel.title for panel in panels] == ["countdown, test split", "addition, test split"]
    assert [f.title for f in panels[0].figures] == ["all levels", "level 3", "level 4", "level 5"]
    for figure, level in zip(panels[0].figures, (None, "3", "4", "5"), strict=True):
        drawn = figure.spec["data"]["values"]
        cells = [(e.step, e.at(level)["pass@1"]) for e in runs[0].evaluations]
        assert [(v["step"], v["value"], v["low"], v["high"]) for v in drawn] == [
            (step, cell.value, cell.low, cell.high) for step, cell in cells
        ]
        last = cells[-1][1]
        assert drawn[-1]["shown"] == (
            f"{100 * last.value:.1f} % [{100 * last.low:.1f}, {100 * last.high:.1f}], n = {last.n}"
        )
        assert drawn[-1]["shown"] in figure.alt
    tops = {f.spec["layer"][1]["encoding"]["y"]["scale"]["domain"][1] for f in panels[0].figures}
    assert len(tops) == 1, "levels are compared on one axis"


def test_pass_at_k_has_each_k_before_and_after(runs, styles):
    panel = accuracy_panels(benchmarks_of(runs), styles)[0]
    drawn = panel.figures[1].spec["data"]["values"]
    want = {
        (when, k, e.metrics[f"pass@{k}"].value)
        for when, e in (("before", runs[0].before), ("after", runs[0].after))
        for k in synthetic.KS
    }
    assert {(v["when"], v["k"], v["value"]) for v in drawn} == want
    dumbbell = panel.figures[0].spec["data"]["values"]
    assert len(dumbbell) == 2 * 4


def test_logged_quantities_are_drawn_as_logged_and_nulls_stay_gaps(runs, styles):
    figures, left_out = quantity_figures(runs, styles)
    by_title = {figure.title: figure for figure in figures}
    assert "learning rate 0.0005" in left_out, "what never moves is said, not drawn"
    assert "learning rate" not in by_title
    assert "KL to the reference, nats per token" not in by_title, "null everywhere"
    loss = by_title["loss"].spec["data"]["values"]
    assert len(loss) == 60 + 40
    assert [v["value"] for v in loss[:60]] == pytest.approx(
        [r.values["loss"] for r in runs[0].rows], 1e-4
    )
    reward = by_title["mean reward"].spec
    assert {v["run"] for v in reward["data"]["values"]} == {"grpo"}
    assert reward["params"][0]["value"] == ["grpo"]


def test_rounds_are_drawn_by_round_and_not_again_by_step(tmp_path):
    place = synthetic.make_run(tmp_path / "sr", steps=6)
    rounds = [
        {"round": 1, "pairs/gap": 3.0, "judge/auc": None, "histogram": {"0": 1.0}},
        {"round": 2, "pairs/gap": 2.5, "judge/auc": 0.7, "histogram": {"0": 0.5}},
    ]
    (place / "stages").mkdir()
    synthetic.lines(place / "stages" / "rounds.jsonl", rounds)
    logged = (place / "metrics.jsonl").read_text().splitlines()
    rows = [{**json.loads(line), "pairs/gap": i / 7} for i, line in enumerate(logged)]
    synthetic.lines(place / "metrics.jsonl", rows)
    found = load_runs([place])
    styles = run_styles([["sr"]])
    figures = round_figures(found, styles)
    drawn = {
        figure.title: [(v["step"], v["value"]) for v in figure.spec["data"]["values"]]
        for figure in figures
    }
    assert drawn["gap in score, chosen less rejected"] == [(1, 3.0), (2, 2.5)]
    assert drawn["AUC of the judge"] == [(1, None), (2, 0.7)]
    assert "rounds" in figures[0].alt
    titles = {figure.title for figure in quantity_figures(found, styles)[0]}
    assert "loss" in titles
    assert "pairs/gap" not in titles
    assert round_figures(load_runs([synthetic.make_run(tmp_path / "x", steps=2)]), styles) == []


def test_group_classes_are_the_logged_shares(runs):
    (figure,) = group_figures(runs)
    for drawn, row in zip(figure.spec["data"]["values"], runs[0].rows, strict=True):
        assert drawn["step"] == row.at
        for name in GROUP_CLASSES:
            assert drawn[name] == pytest.approx(row.values[f"groups/{name}"], abs=1e-3)


def test_a_run_that_does_not_know_tied_groups_is_drawn_without_them(runs):
    older = [
        row._replace(values={k: v for k, v in row.values.items() if not re.search("tied|sign", k)})
        for row in runs[0].rows
    ]
    (new,) = group_figures(runs)
    (old,) = group_figures([replace(runs[0], rows=older)])
    folded = [json.dumps(figure.spec).split('"fold": ')[1].split("]")[0] for figure in (new, old)]
    assert ["tied" in names for names in folded] == [True, False]
    assert "tied 2.0 % at step 1" in new.alt
    assert "equal rewards" in new.alt
    assert "tied" not in old.alt
    assert "equal rewards" not in old.alt


def test_points_of_one_k_stay_beside_it(runs):
    """At most a fifth of the way to half or twice as many, however many lines there are."""
    cell = Metric(0.5, 0.4, 0.6, 10)
    names = [f"arm {i}" for i in range(8)]
    rows = [(n, when, k, cell) for n in names for when in ("before", "after") for k in (1, 2)]
    values = pass_at_k("f", "t", rows, run_styles([names]), top=1.0).spec["data"]["values"]
    assert all(abs(math.log2(row["x"] / row["k"])) <= 0.121 for row in values)
    assert len({row["x"] for row in values}) == len(values)
    near = pass_at_k("f", "t", rows[:4], run_styles([names]), top=1.0).spec["data"]["values"]
    assert near[2]["x"] / near[0]["x"] == pytest.approx(2**0.07)


def test_time_and_tokens_add_up(runs):
    for run in runs:
        parts = time_parts(run)
        in_steps = sum(parts[p] for p in ("sample", "score", "update", "other"))
        assert in_steps == pytest.approx(sum(row.values["time/step"] for row in run.rows))
        assert parts["eval"] == sum(row.values["time/eval"] for row in run.rows)
    grpo, sft = tokens(runs[0]), tokens(runs[1])
    assert grpo["generated"] - grpo["trained"] == pytest.approx(60 * 1500)
    assert "generated" not in sft
    time, used = cost_figures(runs)
    drawn = {v["part"]: v["value"] for v in used.spec["data"]["values"] if v["run"] == "grpo"}
    assert drawn["generated"] == pytest.approx(grpo["generated"], rel=1e-5)
    assert drawn["trained on"] == pytest.approx(grpo["trained"], rel=1e-5)
    assert {v["run"] for v in time.spec["data"]["values"]} == {"grpo", "sft"}
    shares = [cell for cell in time_table(runs).rows[0] if "%" in cell]
    total = sum(float(cell.split("(")[1].split()[0]) for cell in shares)
    assert total == pytest.approx(100, abs=0.3)
    assert token_table(runs).rows[1][1] == "–"


def test_vega_lite_accepts_every_spec(runs, styles):
    import vl_convert

    panels = [*learning_panels(benchmarks_of(runs), styles)]
    panels += accuracy_panels(benchmarks_of(runs), styles)
    figures = [panel.figures[0] for panel in panels] + [panels[-1].figures[1]]
    figures += quantity_figures(runs, styles)[0][:1] + group_figures(runs) + cost_figures(runs)
    assert len({figure.id for figure in figures}) == len(figures)
    for figure in figures:
        json.dumps(figure.spec, allow_nan=False)
        spec = {**figure.spec, "width": 300}
        assert "<path" in vl_convert.vegalite_to_svg(spec), figure.id


def test_long_runs_are_drawn_as_means_that_keep_the_whole_mean():
    series = [(step, math.sin(step)) for step in range(1, 8 * MOST_POINTS + 1)]
    short = binned(series)
    assert len(short) == MOST_POINTS
    assert sum(v for _, v in short) / len(short) == pytest.approx(
        sum(v for _, v in series) / len(series)
    )
    assert [step for step, _ in short] == sorted(step for step, _ in short)
    assert binned([(1, None), (2, 3.0)]) == [(1, None), (2, 3.0)]
    gaps = binned([(s, None) for s in range(3 * MOST_POINTS)])
    assert all(value is None for _, value in gaps)


def test_repeats_share_a_hue_and_single_recipes_do_not():
    arms = run_styles([["a-s0", "a-s1"], ["b"]])
    assert [style.hue for style in arms] == [1, 1, 2]
    assert arms[0].dash != arms[1].dash
    alone = run_styles([["a-s0", "a-s1", "a-s2"]])
    assert len({style.hue for style in alone}) == 3


def test_words():
    assert [percent(x) for x in (0.4123, 0.0, 1.0, None)] == [
        "41.2 %", "0.0 %", "100.0 %", "undefined"
    ]  # fmt: skip
    assert [points(x) for x in (0.1239, -0.05, 0.0, -0.0001)] == ["+12.4", "−5.0", "0.0", "0.0"]
    assert [duration(x) for x in (0.23, 48, 185, 7800)] == [
        "0.2 s", "48 s", "3 min 05 s", "2 h 10 min"
    ]  # fmt: skip
    assert [count(x) for x in (12345.0, 3.14159, math.inf)] == ["12,345", "3.14", "undefined"]
    assert [nice_step(x) for x in (0.03, 0.2, 0.21, 3.0)] == pytest.approx([0.05, 0.2, 0.5, 5])
    assert listed(["a", "b", "c"]) == "a, b and c"
