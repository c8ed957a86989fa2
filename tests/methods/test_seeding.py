"""Judge data made from a verifier's grades, or read from a file."""

import json
from collections import Counter

import pytest

from rekindle.errors import DataError
from rekindle.methods.self_rewarding import judge_data
from rekindle.methods.self_rewarding.judge_data import graded, reply_of, thinned
from rekindle.records import Problem, Score
from rekindle.rewards.judge import format_of

CHAIN = Problem(id="p", prompt="x", answer="9", solution="1+2=3;3*3=9;9+0=9", level="3")


@pytest.mark.parametrize(
    ("text", "value", "points", "work"),
    [
        ("1+2=3;3*3=9;9+0=9", 1.0, 5, "3Y9Y9Y"),
        ("1+2=3;3*3=8;8+0=8", 0.0, 1, "3Y9N9N"),
        ("1+2=4;3*3=9;9+0=9", 0.0, 0, "3N9Y9Y"),  # leading steps count
        ("1+2=3;3*3=9", 0.0, 3, "3Y9Y9N"),
        ("", 0.0, 0, "3N9N9N"),
        ("1+2=3;3*3=9;9+0=9", 0.0, 4, "3Y9Y9Y"),  # 5 is what the verifier accepts alone
    ],
)
def test_points_by_steps(text, value, points, work):
    assert graded(CHAIN, text, Score(value), scale="steps") == (points, work)


def test_additions_have_steps_too():
    """Steps are divided by commas there, and the sum is written in single digits."""
    problem = Problem(id="p", prompt="4 7+5 8:", answer="105", solution="7+8+0=15,4+5+1=10;1 0 5")
    assert graded(problem, problem.solution, Score(1.0), scale="steps") == (5, "15Y10Y105Y")
    wrong = "7+8+0=15,4+5+1=11;1 1 5"
    assert graded(problem, wrong, Score(0.0), scale="steps") == (1, "15Y10N105N")
    assert format_of("marker").read("15Y10N105N1").value == 1


@pytest.mark.parametrize(
    ("text", "value", "points", "work"),
    [
        ("8+7=15;15+1=16;7+16=23", 1.0, 5, "15Y16Y23Y"),
        ("8+7=15;15+1=16;7*1=7", 0.0, 2, "15Y16Y7Y"),  # true, and not the target
        ("8+7=15;15+1=17;17+7=24", 0.0, 0, "15Y16N24Y"),
        ("8*7=56;56/3=18;1-5=4", 0.0, 0, "56YNN"),  # not whole, below 0
        ("8/2=4;9/0=0", 0.0, 1, "4YN"),
        ("8+7=15;x;15+1=16", 0.0, 1, "15YN"),  # what follows is not read
        ("", 0.0, 0, "N"),
    ],
)
def test_points_by_equations(text, value, points, work):
    """By the answer's own arithmetic: the reference is another solution."""
    assert graded(CHAIN, text, Score(value), scale="equations") == (points, work)
    assert format_of("marker").read(f"{work}{points}").value == points


@pytest.mark.parametrize(("value", "points"), [(1.0, 5), (0.0, 0), (0.5, 2)])
def test_points_by_the_verifier(value, points):
    assert graded(CHAIN, "x", Score(value), scale="verifier") == (points, "")


@pytest.mark.parametrize("points", range(6))
@pytest.mark.parametrize("name", ["additive", "marker"])
def test_a_reply_is_read_as_what_it_was_made_from(name, points):
    form = format_of(name)
    assert form.read(reply_of(form, points, "3Y9N" if name == "marker" else "")).value == points


def test_the_commonest_score_is_no_more_than_the_others_together():
    rows = [{"points": p, "n": i} for i, p in enumerate([0] * 20 + [3] * 4 + [5] * 3)]
    kept = thinned(rows, seed=0)
    assert Counter(row["points"] for row in kept) == {0: 7, 3: 4, 5: 3}
    assert kept == thinned(rows, seed=0)
    assert [row["n"] for row in kept] == sorted(row["n"] for row in kept)


def test_one_score_alone_is_left_as_it_is():
    rows = [{"points": 0}] * 4
    assert thinned(rows, seed=0) == rows


def from_file(tmp_path, *rows, name="additive"):
    path = tmp_path / "judge.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    form = format_of(name)
    return [judge_data._problem(form, row) for row in judge_data._from_file(path, form)]


def test_judge_data_from_a_file(tmp_path):
    row = {"prompt": "Why?", "response": "Because.", "judgement": "Short.\nScore: 2"}
    [problem] = from_file(tmp_path, row)
    assert "Why?" in problem.prompt
    assert "Because." in problem.prompt
    assert problem.solution == row["judgement"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "a", "response": "b"}, "no 'judgement'"),
        ({"prompt": "a", "response": "b", "judgement": "good"}, "has no score"),
        ({"prompt": "a", "response": "b", "judgement": "Score: 9"}, "out of range"),
    ],
)
def test_judge_data_that_teach_nothing_are_named(tmp_path, row, words):
    with pytest.raises(DataError, match=words):
        from_file(tmp_path, row)
