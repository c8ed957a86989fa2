"""`rekindle explain advantages` end to end: the training step's own credit on rows from a file."""

import json
import math

import pytest

from rekindle.cli.explain import explain_advantages
from rekindle.errors import ConfigError, DataError


def explain(tmp_path, rows, method="grpo", sets=(), right=None):
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    explain_advantages(method, source, target, list(sets), right, overwrite=True)
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
        ({"group": "a", "correct": 1e400}, "'correct' is not a number"),
        ({"group": "a", "correct": 1, "num_tokens": -3}, "negative"),
        ({"group": ["a"], "correct": 1}, "not a name"),
    ],
)
def test_a_bad_row_is_named_and_nothing_is_written(tmp_path, bad, message):
    with pytest.raises(DataError, match=message) as caught:
        explain(tmp_path, [row("a", 1), bad])
    assert "in.jsonl:2" in str(caught.value)
    assert not (tmp_path / "out.jsonl").exists()


def classes_of(rows):
    return {row["group"]: row["group_class"] for row in rows}


def scored(**groups):
    return [row(group, value) for group, values in groups.items() for value in values]


@pytest.mark.parametrize("method", ["grpo", "nsr", "rl_zvp", "verifier_only"])
def test_equal_partial_scores_are_tied_and_earn_nothing(tmp_path, method):
    rows = scored(a=[0.01] * 4, b=[0.7] * 8, c=[0.7, 0.01], d=[0, 0], e=[1, 1], f=[None])
    out = explain(tmp_path, rows, method)
    assert classes_of(out) == {
        "a": "tied", "b": "tied", "c": "mixed", "d": "all_wrong", "e": "all_right", "f": "missing",
    }  # fmt: skip
    if method != "nsr":  # which compares nothing
        assert {o["advantage"] for o in out if o["group_class"] == "tied"} == {0}


def test_hero_gives_a_group_of_wrong_answers_a_signal_and_leaves_its_class(tmp_path):
    scores = {"a": ([0, 0], [1.0, 2.0]), "b": ([0, 0], [1.0, 1.0]), "c": ([0, 1], [1.0, None])}
    rows = [
        row(group, correct, rm_score=rm)
        for group, columns in scores.items()
        for correct, rm in zip(*columns, strict=True)
    ]
    out = explain(tmp_path, rows, "hero")
    assert classes_of(out) == {"a": "all_wrong", "b": "all_wrong", "c": "tied"}
    assert [o["advantage"] != 0 for o in out] == [True, True, False, False, False, False]
    blended = explain(
        tmp_path, [*rows[:4], row("c", 0, rm_score=2), row("c", 1, rm_score=2)], "rm_only"
    )
    assert classes_of(blended) == {"a": "all_wrong", "b": "all_wrong", "c": "tied"}


@pytest.mark.parametrize("method", ["grpo", "nsr", "ngrpo", "rl_zvp"])
def test_two_values_are_wrong_and_right(tmp_path, method):
    plain = explain(tmp_path, scored(a=[1, 0, None], b=[0, 0], c=[1, 1]), method)
    signed = explain(tmp_path, scored(a=[1, -1, None], b=[-1, -1], c=[1, 1]), method)
    assert classes_of(signed) == {"a": "mixed", "b": "all_wrong", "c": "all_right"}
    assert [o["advantage"] for o in signed] == [o["advantage"] for o in plain]
    assert [o["correct"] for o in signed[:2]] == [1, -1]  # the file's own column stays


def test_the_larger_of_two_partial_scores_is_right_for_the_class_alone(tmp_path):
    out = explain(tmp_path, scored(a=[0.5, 0], b=[0.5, 0.5], c=[0, 0]), sets=["scale=none"])
    assert classes_of(out) == {"a": "mixed", "b": "all_right", "c": "all_wrong"}
    assert [o["advantage"] for o in out] == [0.25, -0.25, 0, 0, 0, 0]


def test_the_right_value_can_be_named(tmp_path):
    rows = scored(a=[-1, 0.5, 1], b=[1, 1], c=[-1, 0.5])
    with pytest.raises(DataError, match="out of range") as caught:
        explain(tmp_path, rows)
    assert "in.jsonl:1" in str(caught.value)
    assert "--right" in str(caught.value)
    with pytest.raises(DataError, match="out of range"):
        explain(tmp_path, scored(a=[-1, -1]))
    out = explain(tmp_path, rows, right=1.0)
    assert classes_of(out) == {"a": "mixed", "b": "all_right", "c": "all_wrong"}
    assert [o["reward"] for o in out[:3]] == [0, 0, 1]
    assert classes_of(explain(tmp_path, scored(a=[-1, -1]), right=1.0)) == {"a": "all_wrong"}
    assert classes_of(explain(tmp_path, scored(a=[0, 0], b=[1, 1]), right=0.0)) == {
        "a": "all_right",
        "b": "all_wrong",
    }
    for unknown in (2.0, math.nan):
        with pytest.raises(ConfigError, match="no row has the 'correct' of --right"):
            explain(tmp_path, rows, right=unknown)


def test_an_unknown_method_or_setting_is_refused_with_a_suggestion(tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'grpo'"):
        explain(tmp_path, [row("a", 1)], "grppo")
    with pytest.raises(ConfigError, match=r"Did you mean 'grpo\.scale'"):
        explain(tmp_path, [row("a", 1)], sets=["scal=std"])
