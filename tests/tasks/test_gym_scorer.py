"""Scorers of reasoning-gym that raise, leave 0 to 1, or pay for any text."""

import itertools
import json
import math
import re
from pathlib import Path

import pytest

import tiny
from rekindle import diagnose, evaluate, train
from rekindle.errors import ConfigError, RewardFunctionError
from rekindle.records import Score

pytestmark = pytest.mark.filterwarnings("ignore")


def entry_of(task):
    return task.problems("test", count=1, seed=0)[0]


@pytest.mark.parametrize("dataset", ["prime_factorization", "boxnet"])
def test_a_text_on_which_the_scorer_raises_is_wrong(gym, dataset):
    task = gym(dataset)
    problem = entry_of(task)
    text = "nonsense" if dataset == "prime_factorization" else "[1]"
    with pytest.raises((ValueError, TypeError, AttributeError)):
        task.scorer.dataset.score_answer(text, problem.meta["entry"])
    score = task.grade(problem, text)
    assert (score.value, score.parts) == (0.0, {"unreadable": 1.0})
    if problem.answer is not None:
        assert task.grade(problem, problem.answer) == Score(1.0, parts={"unreadable": 0.0})


class OddError(Exception):
    """Of a library that nobody has heard of."""


@pytest.mark.parametrize("kind", [OddError, ValueError, MemoryError, RecursionError, StopIteration])
def test_whatever_a_scorer_raises_is_a_wrong_answer(gym, stand_in, kind):
    def score(answer, entry):
        if answer != entry["answer"]:
            raise kind("no")
        return 1.0

    stand_in(score)
    task = gym("stand_in")
    assert task.grade(entry_of(task), "8").value == 0.0
    assert task.grade(entry_of(task), "7").value == 1.0


def test_a_scorer_that_raises_on_its_own_answer_gives_no_score(gym, stand_in):
    def score(answer, entry):
        if answer == "8" and entry["answer"] != "broken":
            return 0.0
        return {"7": 1.0}[answer]

    stand_in(score, gold=lambda index: "broken" if index else "7")
    task = gym("stand_in")
    assert task.trust[0].failing == 0  # the first of each seed are whole
    problems = task.problems("test", count=20, seed=0)
    broken = [p for p in problems if p.answer == "broken"]
    for text in ("8", "broken"):
        reason = "the dataset's scorer fails on its own answer: KeyError"
        assert task.grade(broken[0], text) == Score.missing(reason)
    assert task.grade(broken[0], "7").value == 1.0  # it does not raise
    whole = next(p for p in problems if p.answer == "7")
    assert [task.grade(whole, text).value for text in ("7", "8", "9")] == [1.0, 0.0, 0.0]

    stand_in(score, gold=lambda index: "broken")
    with pytest.warns(match=r"raises on 4 of 4 of its own answers \(KeyError\)"):
        gym("stand_in")


@pytest.mark.parametrize(
    ("given", "score"),
    [(1 + 2e-16, 1.0), (1 + 1e-7, 1.0), (-1e-17, 0.0), (True, 1.0), (0, 0.0), (0.3, 0.3)],
)
def test_a_rounding_step_outside_is_clipped(gym, stand_in, given, score):
    stand_in(lambda answer, entry: given if answer == "x" else float(answer == entry["answer"]))
    task = gym("stand_in")
    assert task.grade(entry_of(task), "x").value == score


@pytest.mark.parametrize("given", [1.001, -0.001, 2, -1, math.nan, math.inf])
def test_a_score_further_out_is_an_error_that_names_the_dataset(gym, stand_in, given):
    stand_in(lambda answer, entry: given if answer == "x" else float(answer == entry["answer"]))
    task = gym("stand_in")
    with pytest.raises(RewardFunctionError, match="dataset 'stand_in' gave a score outside 0 to 1"):
        task.grade(entry_of(task), "x")
    stand_in(lambda answer, entry: given)
    with pytest.raises(RewardFunctionError, match="'stand_in' gave a score outside"):
        gym("stand_in")


def test_partial_credit_that_adds_up_to_more_than_one_is_one(gym):
    """spell_backward adds a share for each letter that stands in its place: nine make more."""
    task = gym("spell_backward", min_word_len=9, max_word_len=9)
    entries = task.problems("train", count=5, seed=0)
    own = [task.scorer.dataset.score_answer(p.answer + "x", p.meta["entry"]) for p in entries]
    assert {task.grade(p, p.answer).value for p in entries} == {1.0}
    assert min(own) > 1.0
    assert {task.grade(p, p.answer + "x").value for p in entries} == {1.0}


def test_a_dataset_that_pays_for_any_text_is_refused(gym):
    with pytest.raises(ConfigError, match="'game_of_life_halting' pays for any text"):
        gym("game_of_life_halting")
    members = [{"name": "chain_sum"}, {"name": "game_of_life_halting", "weight": 0.01}]
    with pytest.raises(ConfigError, match="'game_of_life_halting' pays for any text"):
        gym("composite", datasets=members)


@pytest.mark.parametrize(
    ("gold", "junk", "refused"),
    [
        *((1.0, 1.0, True), (1.0, 0.5, True), (1.0, 0.49, False), (1.0, 0.01, False)),
        *((0.4, 0.2, True), (0.4, 0.19, False), (0.0, 0.3, False), (0.0, 0.5, True)),
    ],
)
def test_junk_may_earn_less_than_half_of_what_right_answers_do(gym, stand_in, gold, junk, refused):
    """Against 1 where the dataset's own answers earn nothing."""
    stand_in(lambda answer, entry: gold if answer == entry["answer"] else junk)
    if refused:
        with pytest.raises(ConfigError, match="'stand_in' pays for any text"):
            gym("stand_in")
        return
    with pytest.warns(match=f"'stand_in' pays for any text: its floor is about {junk:g}"):
        task = gym("stand_in")
    assert task.floor == pytest.approx(junk)
    assert task.grade(entry_of(task), "x").value == junk  # never subtracted


def test_junk_that_only_one_kind_of_text_earns_with(gym, stand_in):
    stand_in(lambda answer, entry: float(answer in ("", "7")))
    with pytest.raises(ConfigError, match=r"got: +1 for ''"):
        gym("stand_in")


@pytest.mark.filterwarnings("error")
def test_a_sound_scorer_loads_in_silence(gym, stand_in, capsys):
    stand_in()
    assert gym("stand_in").floor == 0.0
    stand_in(lambda answer, entry: 0.0, gold=lambda index: None)
    assert gym("stand_in").floor == 0.0
    assert capsys.readouterr().err == ""


def test_a_slow_load_says_how_slow_and_is_bounded(gym, stand_in, monkeypatch, capsys):
    clock = itertools.count(step=6.0)
    monkeypatch.setattr("rekindle.tasks.gym.perf_counter", lambda: next(clock))
    monkeypatch.setattr("rekindle.tasks.gym_scorer.perf_counter", lambda: next(clock))
    stand_in()
    assert gym("stand_in").trust[0].entries == 1
    assert re.search(r"'stand_in' took \d+\.0 s to load", capsys.readouterr().err)


@pytest.fixture
def unread(stand_in):
    """Its scorer raises on all but numbers, and pays 0.01 for these."""

    def score(answer, entry):
        return 1.0 if answer == entry["answer"] else 0.01 * (float(answer) ** 0)

    stand_in(score)
    return {"name": "gym", "args": {"dataset": "stand_in"}}


def test_unreadable_answers_are_counted_in_training_and_evaluation(unread, tmp_path):
    recipe = {
        "method": "grpo",
        "task": unread,
        "optim": {"steps": 1, "problems": 4},
        "grpo": {"group_size": 4},
        "sample": {"max_new_tokens": 2},
        "eval": {"problems": 4, "samples": 4},
    }
    train(recipe, tmp_path / "run", policy=tiny.policy(), quiet=True)
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    (share,) = [row["score/unreadable"] for row in rows if "score/unreadable" in row]
    samples = [json.loads(line) for line in (tmp_path / "run" / "samples.jsonl").open()]
    wrong = [row["parts"]["unreadable"] for row in samples]
    assert 0 < share == sum(wrong) / len(wrong)
    assert all(row["score"] == 0.0 for row in samples if row["parts"]["unreadable"])
    result = json.loads((tmp_path / "run" / "eval.json").read_text())
    assert 0 < result["unreadable"] <= 16
    assert result["missing"]["count"] == 0


def test_other_tasks_have_no_such_metric(tmp_path):
    result = evaluate(tiny.policy(), [{"prompt": f"1+{i}=", "answer": "2"} for i in range(60)])
    assert "unreadable" not in result


def test_diagnose_tells_the_floor(unread, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    overrides = ["task.args.dataset=stand_in", "sample.max_new_tokens=2"]
    tiny.policy().save(Path("model"))
    found = diagnose("model", "gym", problems=4, samples=2, signals=["groups"], overrides=overrides)
    (row,) = [row for row in found.findings[0].rows if row.name == "scorer/floor"]
    assert (row.value, row.n) == (0.01, 4)
