"""`rekindle explain advantages` end to end: the training step's own credit on rows from a file."""

import json
import math

import pytest

from rekindle.cli.explain import explain_advantages
from rekindle.errors import ConfigError, DataError


def explain(tmp_path, rows, method="grpo", sets=()):
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    explain_advantages(method, source, target, list(sets), overwrite=True)
    return [json.loads(line) for line in target.read_text().splitlines()]


def row(group, correct, **more):
    return {
        "group": group,
        "correct": correct,
        "rm_score": None,
        "sum_logprob": None,
        "num_tokens": None,
        **more,
    }


def test_rows_keep_their_order_and_gain_three_columns(tmp_path):
    rows = [
        row("a", 1),
        row("b", 0),
        row("a", 0),
        row("b", 0),
        row("a", None),
        row("c", None),
        row("a", 0),
        row("a", 0),
        row("d", 1),
        row("d", 1),
    ]
    out = explain(tmp_path, rows)
    assert [{k: o[k] for k in rows[0]} for o in out] == rows
    assert [o["group_class"] for o in out] == [
        "mixed",
        "all_wrong",
        "mixed",
        "all_wrong",
        "mixed",
        "missing",
        "mixed",
        "mixed",
        "all_right",
        "all_right",
    ]
    assert out[0]["advantage"] == pytest.approx(1.5, abs=1e-5)
    assert out[2]["advantage"] == pytest.approx(-0.5, abs=1e-5)
    assert [out[i]["advantage"] for i in (1, 3, 4, 5, 8, 9)] == [0] * 6
    assert out[4]["reward"] is None


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("dr_grpo", [2 / 3, -1 / 3, -1 / 3]),
        ("rloo", [1, -0.5, -0.5]),
        ("grpo", [2 / math.sqrt(3), -1 / math.sqrt(3), -1 / math.sqrt(3)]),
    ],
)
def test_methods_on_one_right_of_three(tmp_path, method, expected):
    out = explain(tmp_path, [row("q", 1), row("q", 0), row("q", 0)], method)
    assert [o["advantage"] for o in out] == pytest.approx(expected, abs=1e-5)


def test_settings_reach_the_formula(tmp_path):
    rows = [row("q", 1), row("q", 0), row("q", 0)]
    for sets in (["scale=none"], ["grpo.scale=none"]):
        assert explain(tmp_path, rows, sets=sets)[0]["advantage"] == pytest.approx(2 / 3)


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"correct": 1}, "no 'group'"),
        ({"group": "a"}, "no 'correct'"),
        ({"group": "a", "correct": "yes"}, "'correct' is not a number"),
        ({"group": "a", "correct": -1}, "out of range"),
        ({"group": "a", "correct": 1, "num_tokens": -3}, "negative"),
        ({"group": ["a"], "correct": 1}, "not a name"),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_written(tmp_path, bad, message):
    with pytest.raises(DataError, match=message) as caught:
        explain(tmp_path, [row("a", 1), bad])
    assert "in.jsonl:2" in str(caught.value)
    assert not (tmp_path / "out.jsonl").exists()


def test_an_unknown_method_or_setting_is_refused_with_a_suggestion(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'grpo'"):
        explain(tmp_path, [row("a", 1)], "grppo")
    with pytest.raises(ConfigError, match=r"Did you mean 'grpo\.scale'"):
        explain(tmp_path, [row("a", 1)], sets=["scal=std"])
