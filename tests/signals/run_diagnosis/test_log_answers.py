"""Answers of a log: cut at the limit, caught in a loop, the same again."""

import random

import numpy as np
import pytest

from rekindle.signals.run_diagnosis.texts import find_cut, is_loop, texts_findings, token_limit
from signals.run_diagnosis.planted import by_name, make_log

RIGHT = np.array([1.0, 0, 0, 0, 1, 1, 0, 0])
GROUP = [0, 0, 1, 1, 2, 2, 3, 3]


def test_cut_answers_by_hand():
    """3 of 8 were cut, 2 of the 5 wrong ones; 1 of 3 cut ones is right and 2 of 5 whole ones."""
    log = make_log(RIGHT, GROUP, cut=[1, 1, 1, 0, 0, 0, 0, 0])
    found = by_name(texts_findings(log, RIGHT))
    values = {name: one.value for name, one in found.items() if "cut" in name or "whole" in name}
    assert values == {
        "texts/cut": 3 / 8,
        "texts/cut_of_wrong": 2 / 5,
        "texts/right_of_cut": 1 / 3,
        "texts/right_of_whole": 2 / 5,
        "texts/loops_of_cut": 0,
    }
    assert "what the log says" in found["texts/cut"].rests_on


def test_repeats_are_not_counted():
    log = make_log(RIGHT, GROUP, cut=[1, 1, 1, 0, 0, 0, 0, 0], repeated_N=[0] * 2 + [1] * 6)
    assert by_name(texts_findings(log, RIGHT))["texts/cut"].value == 1


def test_the_limit_is_where_answers_pile_up():
    rng = np.random.default_rng(0)
    free = rng.geometric(1 / 100, size=1000).astype(float)
    assert token_limit(np.minimum(free, 256)) == 256
    tokens = np.minimum(free, 256)
    log = make_log(np.zeros(1000), np.repeat(np.arange(250), 4), tokens=tokens)
    cut = find_cut(log)
    assert cut.cut_N.sum() == (free >= 256).sum()
    assert "256 tokens" in cut.rests_on


@pytest.mark.parametrize("size", [8, 200, 5000])
def test_lengths_without_a_limit_have_none(size):
    """Five shapes that thin out, 40 logs each, none is given a limit."""
    rng = np.random.default_rng(1)
    for _ in range(40):
        for tokens in (
            rng.geometric(1 / 100, size=size),
            rng.geometric(1 / 3, size=size),
            np.ceil(rng.lognormal(5, 1, size=size)),
            np.ceil(np.abs(rng.normal(0, 50, size=size))),
            rng.integers(1, 500, size=size),
        ):
            assert token_limit(np.asarray(tokens, dtype=float)) is None


def test_what_cannot_be_told_is_said():
    found = by_name(texts_findings(make_log(RIGHT, GROUP), RIGHT))
    assert np.isnan(found["texts/cut"].value)
    assert "cannot be told" in found["texts/cut"].says
    assert "texts/cut_of_wrong" not in found


def test_the_trainers_own_count_serves_where_rows_do_not_tell():
    history = [{"step": 1, "completions/clipped_ratio": 0.25}, {"step": 2, "loss": 0.1}]
    history += [{"step": 3, "completions/clipped_ratio": 0.75}]
    found = by_name(texts_findings(make_log(RIGHT, GROUP, history=history), RIGHT))["texts/cut"]
    assert (found.value, found.n) == (0.5, 2)
    assert "2 logged steps" in found.rests_on


# --- loops


def prose(rng, words):
    return " ".join("".join(rng.choices("abcdefgh", k=rng.randint(2, 9))) for _ in range(words))


@pytest.mark.parametrize("period", [1, 7, 60, 250])
def test_an_end_that_comes_again_is_a_loop(period):
    rng = random.Random(0)
    phrase = prose(rng, 100)[:period]
    assert is_loop(prose(rng, 500) + phrase * (3000 // period))
    assert not is_loop(phrase * (3000 // period) + prose(rng, 500))  # it came out of it


@pytest.mark.parametrize(
    "text",
    ["", "wait, " * 60, "so x = 4.\n\n\\boxed{4}", prose(random.Random(1), 400), "x" * 399],
    ids=["nothing", "360 letters", "short", "prose", "399 letters"],
)
def test_prose_and_short_texts_are_no_loops(text):
    assert not is_loop(text)


def test_loops_are_counted_among_all_and_among_cut_answers():
    rng = random.Random(2)
    texts = ["wait, " * 400 if row in (0, 5) else prose(rng, 300) for row in range(8)]
    log = make_log(RIGHT, GROUP, texts=texts, cut=[1, 1, 0, 0, 0, 0, 0, 0])
    found = by_name(texts_findings(log, RIGHT))
    assert found["texts/loops"].value == 2 / 8
    assert found["texts/loops_of_cut"].value == 1 / 2
    assert "8 answers" in found["texts/loops"].rests_on


def test_lone_surrogates_are_texts_too():
    assert not is_loop("\ud800" * 10 + prose(random.Random(3), 200))


# --- duplicates


def test_duplicates_by_hand():
    """Group 0 has one text twice, group 1 one text four times: 1 + 3 of 8; 1 of 2 groups."""
    texts = ["a", "b", "a", "c", "a", "a", "a", "a"]
    log = make_log(RIGHT, [0] * 4 + [1] * 4, texts=texts)
    found = by_name(texts_findings(log, RIGHT))
    assert found["texts/duplicates"].value == 4 / 8
    assert found["texts/one_answer"].value == 1 / 2


def test_the_same_text_in_two_groups_is_no_duplicate():
    log = make_log(RIGHT, GROUP, texts=["a", "b"] * 4)
    assert by_name(texts_findings(log, RIGHT))["texts/duplicates"].value == 0


def test_a_log_without_texts_tells_nothing_of_them():
    found = by_name(texts_findings(make_log(RIGHT, GROUP, texts=[""] * 8), RIGHT))
    assert not {"texts/loops", "texts/duplicates", "texts/one_answer"} & set(found)
