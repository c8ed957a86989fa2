"""Claims: the page's numbers are those of the paired comparison, its words follow the interval."""

import json

import pytest
import synthetic_runs as synthetic

from rekindle.evals.compare import compare, compare_many
from rekindle.report.load import load_run, load_runs
from rekindle.report.run_files import Metric
from rekindle.report.verdict import (
    VerdictRow,
    arms_of,
    seed_caution,
    sentence,
    single_rows,
    verdict_rows,
)


def row_with(value, low, high):
    change = None if value is None else Metric(value, low, high, 10)
    half = Metric(0.5, 0.4, 0.6, 10)
    return VerdictRow("run", "all levels", "pass@1", "test", half, half, change, 10, 8)


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((0.1, 0.01, 0.2), "better"),
        ((-0.1, -0.2, -0.01), "worse"),
        ((0.1, -0.01, 0.2), "cannot tell"),
        ((0.1, 0.0, 0.2), "cannot tell"),
        ((0.0, 0.0, 0.0), "cannot tell"),
        ((0.1, None, None), "cannot tell"),
        ((None, None, None), "not compared"),
    ],
)
def test_the_verdict_follows_the_interval(interval, verdict):
    assert row_with(*interval).verdict == verdict


def test_a_single_run_is_compared_with_itself_before(tmp_path):
    run = synthetic.make_run(tmp_path / "grpo", gain=1.5, steps=20)
    before, after = (
        json.loads((run / "eval" / f"step-{step:06d}.json").read_text()) for step in (0, 20)
    )
    rows = verdict_rows(arms_of([load_run(run)]))
    assert [(row.where, row.metric) for row in rows] == [
        ("level 4", "pass@1"),
        ("level 4", "pass@8"),
        ("all levels", "pass@1"),
        ("level 3", "pass@1"),
        ("level 5", "pass@1"),
    ]
    assert [row.main for row in rows] == [True, False, False, False, False]
    for row in rows:
        level = None if row.where == "all levels" else row.where.removeprefix("level ")
        found = compare(before, after, metric=row.metric, level=level)
        assert row.change == (found.value, found.ci_low, found.ci_high, found.n_problems)
        block = after if level is None else after["levels"][level]
        assert row.after == tuple(block["metrics"][row.metric].values())
        # before, after and change are one story
        assert row.after.value - row.before.value == pytest.approx(row.change.value, abs=1e-12)
    assert rows[2].verdict == "better"
    assert f"{100 * rows[0].change.value:+.1f} points" in sentence(rows[0])
    assert "40 test problems with 8 samples each" in sentence(rows[0])


def test_repeats_of_a_recipe_are_judged_together(tmp_path):
    places = [
        synthetic.make_run(tmp_path / f"grpo-s{s}", seed=s, gain=1 + s / 2, steps=20)
        for s in range(3)
    ]
    places.insert(1, synthetic.make_run(tmp_path / "sft", method="sft", steps=20))
    arms = arms_of(load_runs(places))
    assert [(arm.label, len(arm.runs)) for arm in arms] == [("grpo on countdown", 3), ("sft", 1)]
    evals = [
        [json.loads((p / "eval" / f"step-{s:06d}.json").read_text()) for s in (0, 20)]
        for p in (places[0], *places[2:])
    ]
    main = verdict_rows(arms)[0]
    found = compare_many([tuple(pair) for pair in evals], metric="pass@1", level="4")
    assert main.change == (found.value, found.ci_low, found.ci_high, found.n_problems)
    own = [pair[1]["levels"]["4"]["metrics"]["pass@1"]["value"] for pair in evals]
    assert main.after.value == pytest.approx(found.after)
    assert (main.after.low, main.after.high) == (min(own), max(own))
    singles = single_rows(arms)
    assert [row.subject for row in singles] == ["grpo-s0", "grpo-s1", "grpo-s2"]
    assert sum(row.change.value for row in singles) / 3 == pytest.approx(main.change.value)
    assert "one by one" in seed_caution(arms)


def test_an_unfinished_repeat_or_another_setting_is_an_arm_of_its_own(tmp_path):
    whole = synthetic.make_run(tmp_path / "a-s0", steps=40)
    part = synthetic.make_run(tmp_path / "a-s1", seed=1, steps=20, planned=40)
    other = synthetic.make_run(tmp_path / "b", steps=40)
    text = (other / "config.yaml").read_text()
    (other / "config.yaml").write_text(text.replace("group_size: 8", "group_size: 4"))
    base = synthetic.make_run(tmp_path / "c", steps=40)
    text = (base / "config.yaml").read_text()
    (base / "config.yaml").write_text(text.replace("countdown-s0", "other-model"))
    assert len(arms_of(load_runs([whole, part, other, base]))) == 4
    assert "one seed decides nothing" in seed_caution(arms_of(load_runs([whole, other])))


def test_sharpening_is_told_where_pass_at_1_rises_and_pass_at_k_falls(tmp_path):
    run = synthetic.make_run(tmp_path / "run", steps=20)
    for step, row in ((0, [1, 0, 0, 0, 0, 0, 0, 0]), (20, [0] * 8)):
        file = run / "eval" / f"step-{step:06d}.json"
        tree = json.loads(file.read_text())
        # before: every problem once in eight; after: half of them always, half of them never
        tree["outcomes"] = [row if step == 0 or i % 2 else [1] * 8 for i in range(120)]
        for block in (tree, *tree["levels"].values()):
            block["metrics"] = synthetic.metrics_of(tree["outcomes"])
        file.write_text(json.dumps(tree))
    once, broad, *_ = verdict_rows(arms_of([load_run(run)]))
    assert (once.verdict, once.change.value) == ("better", 0.5 - 0.125)
    assert (broad.metric, broad.verdict, broad.change.value) == ("pass@8", "worse", -0.5)
    assert broad.main, "bad news belongs in the summary"


def test_what_cannot_be_compared_says_why(tmp_path):
    run = synthetic.make_run(tmp_path / "run", steps=20)
    file = run / "eval" / "step-000020.json"
    good = json.loads(file.read_text())

    def reason_for(**changes):
        file.write_text(json.dumps({**good, **changes}))
        row = verdict_rows(arms_of([load_run(run)]))[0]
        assert row.verdict == "not compared"
        assert row.reason in sentence(row)
        return row.reason

    others = [{**p, "id": p["id"] + "x"} for p in good["problems"]]
    assert "different problems" in reason_for(problems=others)
    assert "different splits" in reason_for(split="dev")
    for broken in (None, [], "x", good["outcomes"][:-1], [[]] * 120, [["a"]] * 120, [[7]] * 120):
        assert "no whole table of outcomes" in reason_for(outcomes=broken)
    file.unlink()
    (row, *_) = verdict_rows(arms_of([load_run(run)]))
    assert row.reason == "not evaluated after the first step yet"


def test_a_run_that_did_not_change_is_no_claim(tmp_path):
    run = synthetic.make_run(tmp_path / "run", steps=20)
    still = (run / "eval" / "step-000000.json").read_text()
    (run / "eval" / "step-000020.json").write_text(still)
    for row in verdict_rows(arms_of([load_run(run)])):
        value, low, high = row.change[:3]
        assert value == 0.0
        assert low == -high < 0.0, "other problems might have changed"
        assert row.verdict == "cannot tell"
