"""Watch: batches of any loop are classed as the log's reader would, in bounded memory."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

import rekindle
from rekindle.errors import ConfigError, DataError
from rekindle.signals.logs.collect import collect
from rekindle.signals.logs.formats import open_log
from rekindle.signals.run_diagnosis import watch as module
from rekindle.signals.run_diagnosis.diagnose_log import diagnose_rows
from rekindle.signals.run_diagnosis.groups import CLASSES
from rekindle.signals.run_diagnosis.watch import Watch

GROUPS = [i // 4 for i in range(16)]


def batch(rng, right):
    """Texts, prompts and scores of four groups."""
    scores = (rng.random(16) < right).astype(float).tolist()
    texts = [f"{rng.integers(10**6)}" for _ in range(16)]
    prompts = [f"prompt {rng.integers(30)} {group}" for group in GROUPS]
    return scores, texts, prompts


def test_the_findings_are_those_of_the_same_rows_in_a_file(tmp_path):
    rng, watch, lines = np.random.default_rng(0), Watch(keep=1000), []
    for step in range(1, 41):
        scores, texts, prompts = batch(rng, 0.6 - step / 80)
        tokens = [int(n) for n in rng.integers(1, 90, 16)]
        watch.observe(step, GROUPS, scores, texts=texts, prompts=prompts, tokens=tokens)
        lines += [
            {"step": step, "group": g, "reward": s, "text": t, "prompt": p, "n": n}
            for g, s, t, p, n in zip(GROUPS, scores, texts, prompts, tokens, strict=True)
        ]
    file = tmp_path / "log.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    keys = {"score": "reward", "tokens": "n", **{k: k for k in ("step", "group", "text", "prompt")}}
    read = diagnose_rows(collect(open_log(file, columns=keys)))
    live = watch.diagnosis()
    assert [f[:6] for f in live.findings] == [f[:6] for f in read.findings]
    assert live.share == read.share
    assert live.cause == read.cause
    assert live.remedies == read.remedies
    assert dict(zip(CLASSES, watch.count_C, strict=True)) == {
        name: int((read.table.class_P == code).sum()) for code, name in enumerate(CLASSES)
    }
    assert live.frame().num_rows == len(lines)


@pytest.mark.parametrize(
    ("scores", "shares"),
    [
        ([0, 0, 1, 1, 0, 1], (1 / 3, 1 / 3, 1 / 3, 0)),
        ([None, 0, None, 1, None, None], (0.5, 0, 0.5, 0)),
        ([0.5, 0.5, 0.2, 0.7, 0, 0], (1 / 3, 1 / 3, 0, 1 / 3)),
        ([-1, -1, 1, 1, -1, 1], (1 / 3, 1 / 3, 1 / 3, 0)),
    ],
)
def test_shares_of_a_batch(scores, shares):
    told = Watch().observe(1, [0, 0, 1, 1, 2, 2], scores)
    assert told[2:6] == pytest.approx(shares)
    assert told.groups == 3


def test_a_batch_without_a_score_has_no_shares():
    told = Watch().observe(1, [0, 0], [None, float("nan")])
    assert np.isnan(told[2:6]).all()
    assert told.e_value == 1


@pytest.mark.parametrize("kind", [list, tuple, np.array, torch.tensor])
def test_rows_are_lists_arrays_or_tensors_in_any_order(kind):
    groups, scores = [1, 0, 1, 0], [0.0, 1.0, 1.0, 1.0]
    told = Watch().observe(3, kind(groups), kind(scores), logprobs=kind(scores))
    assert (told.mixed, told.all_right) == (0.5, 0.5)


def test_the_verdict_is_the_part_whose_name_says_so_or_that_is_named():
    """A length reward spreads the totals of a group whose answers are all wrong."""
    groups, scores = [0, 0, 1, 1], [0.1, 0.2, 1.1, 0.2]
    parts = {"length": [0.1, 0.2, 0.1, 0.2], "is_correct": [0, 0, 1, 0]}
    watch = Watch()
    assert watch.observe(1, groups, scores, parts=parts).all_wrong == 0.5
    assert watch.column == "is_correct"
    assert watch.diagnosis().verdicts.column == "is_correct"
    assert Watch(verifier="score").observe(1, groups, scores, parts=parts).mixed == 1
    with pytest.raises(ConfigError, match="Did you mean 'length'"):
        Watch(verifier="lenght").observe(1, groups, scores, parts=parts)


def test_a_lost_signal_is_told_once_and_then_its_return():
    rng, watch, words = np.random.default_rng(2), Watch(), {}
    for step in range(1, 141):
        right = 0.5 if step <= 40 or step > 90 else 0.0
        told = watch.observe(step, GROUPS, (rng.random(16) < right).astype(float))
        if told.word:
            words[told.turn] = (step, told.word)
    assert list(words) == ["out", "back"]
    step, word = words["out"]
    assert 60 < step <= 75
    assert word.startswith(f"step {step}: the signal went out: since step 41 0 % of ")
    assert "(100 % all wrong, 0 % all right)" in word
    assert "A run that keeps 20 % mixed is told this with probability 1 % at most" in word
    assert "is back: since step 91 " in words["back"][1]
    late = watch.diagnosis(since=91)
    assert late.log.step_N.min() == 91
    assert set(watch.diagnosis().log.step_N) == set(range(91, 141))


def test_what_is_kept_is_bounded_by_batches_and_by_text(monkeypatch):
    watch, rng = Watch(keep=3), np.random.default_rng(0)
    for step in range(10):
        scores, texts, prompts = batch(rng, 0.5)
        watch.observe(step, GROUPS, scores, texts=texts, prompts=prompts)
    assert set(watch.diagnosis().log.step_N) == {7, 8, 9}
    assert watch.batches == 10
    assert watch.count_C.sum() == 40
    assert any("last 3 of 10 batches" in text for text in watch.diagnosis().not_told)
    monkeypatch.setattr(module, "KEPT_CHARS", 100)
    watch.observe(10, GROUPS, scores, texts=["long enough to be alone"] * 16, prompts=prompts)
    assert set(watch.diagnosis().log.step_N) == {10}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"scores": [1, 0, 1]}, "scores and groups differ in length"),
        ({"texts": ["a"]}, "texts and groups differ in length"),
        ({"parts": {"a": [1]}}, "part a and groups differ in length"),
        ({"scores": ["x", 0, 1, 1]}, "scores cannot be read"),
        ({"scores": [[1], [0], [1], [1]]}, "got:    2 axes"),
        ({"scores": torch.ones(4, requires_grad=True)}, "scores cannot be read"),
        ({"groups": [0, 1, 2, 3]}, "every row is a group of its own"),
    ],
)
def test_rows_that_cannot_be_read_are_refused_and_leave_no_trace(given, says):
    watch = Watch()
    with pytest.raises(ConfigError, match=says):
        watch.observe(1, **{"groups": [0, 0, 1, 1], "scores": [1, 0, 1, 1], **given})
    assert watch.batches == 0
    with pytest.raises(DataError):
        watch.diagnosis()
    assert watch.observe(1, [0, 0, 1, 1], [1, 0, 1, 1]).mixed == 0.5


def test_it_is_public_and_loads_no_torch():
    assert rekindle.Watch is Watch
    code = (
        "import sys, rekindle; rekindle.Watch; print({'torch', 'scipy.stats'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
