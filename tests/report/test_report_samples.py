"""Rollouts: nothing lost silently, nothing invented, and small enough for a page."""

import json
import math

import pytest
import synthetic_runs as synthetic

from rekindle.report.load import load_run
from rekindle.report.samples import HEAD, TAIL, pack, read_sample, rounded, shorten, thin


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    place = tmp_path_factory.mktemp("samples") / "run"
    return load_run(synthetic.make_run(place, steps=50, hostile=True)).samples


def test_short_text_is_untouched_and_long_text_keeps_both_ends():
    assert shorten("a" * (HEAD + TAIL)) == "a" * (HEAD + TAIL)
    text = "b" * 10_000 + "c" * 10_000
    short = shorten(text)
    assert short.startswith("b" * HEAD + "\n")
    assert short.endswith("\n" + "c" * TAIL)
    assert f"{20_000 - HEAD - TAIL:,} characters are left out" in short


def test_packing_loses_nothing(samples):
    packed = json.loads(json.dumps(pack(samples)))
    assert len(packed["rows"]) == len(samples)
    for row, sample in zip(packed["rows"], samples, strict=True):
        item = dict(zip(packed["columns"], row, strict=True))
        problem, level, prompt, answer = packed["prompts"][item["prompt"]]
        assert (problem, level, prompt, answer) == (
            sample.problem, sample.level, sample.prompt, sample.answer
        )  # fmt: skip
        assert (item["step"], item["text"], item["score"], item["missing"], item["parts"]) == (
            sample.step, sample.text, sample.score, sample.missing, sample.parts
        )  # fmt: skip
        assert item["advantage"] == pytest.approx(sample.advantage, rel=1e-5)


def test_each_prompt_is_carried_once(samples):
    groups = {(s.problem, s.level) for s in samples}
    assert len(pack(samples)["prompts"]) == len(groups) < len(samples)


def test_thinning_keeps_whole_groups_first_and_last_step_and_says_so(samples):
    assert thin(samples, 10**9) == (samples, "")
    some, note = thin(samples, 60_000)
    steps = sorted({s.step for s in some})
    assert steps[0] == 1
    assert steps[-1] == 50
    assert len(some) == 16 * len(steps) < len(samples)
    assert f"{len(some)} of {len(samples)} logged rollouts" in note
    assert len(json.dumps(pack(some))) < 60_000


def test_a_budget_below_two_steps_still_shows_a_whole_group(samples):
    few, _ = thin(samples, 1)
    assert len(few) == 8
    assert {s.step for s in few} == {50}


def test_odd_rows_are_read_or_refused():
    assert read_sample(1, {"text": "no step"}) is None
    assert read_sample(1, {"step": 3, "text": None}) is None
    chat = [{"role": "user", "content": "hi"}, ["assistant", "ho"]]
    row = {"step": 3.0, "text": "", "prompt": chat, "answer": 7, "tokens": [1, 2], "score": True,
           "hero/weight": 0.5, "note": "text", "reward": float("nan")}  # fmt: skip
    sample = read_sample(9, row)
    assert sample.prompt == "user: hi\n\nassistant: ho"
    assert (sample.answer, sample.tokens, sample.line) == ("7", 2, 9)
    assert sample.parts == {"hero/weight": 0.5}
    assert sample.score is None
    assert sample.reward is None


@pytest.mark.parametrize("value", [0.0, 1.0, -0.8321234567, 123456.789, 5e-324, 1e308, -3.25])
def test_rounding_keeps_six_digits(value):
    assert rounded(value) == pytest.approx(value, rel=1e-5)


def test_rounding_gives_undefined_for_what_json_cannot_say():
    assert [rounded(x) for x in (None, math.nan, math.inf)] == [None] * 3
