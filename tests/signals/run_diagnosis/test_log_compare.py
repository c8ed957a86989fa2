"""Two logs, prompt by prompt: what is shared, the difference, and how often its interval holds."""

import json

import numpy as np
import pytest

from rekindle.signals.logs.collect import PREVIEW
from rekindle.signals.logs.run_log import prompt_key
from rekindle.signals.run_diagnosis.compare import MEASURES, _difference, pair_lines, pair_logs
from rekindle.signals.run_diagnosis.diagnose_log import diagnose_log
from synthetic_logs import fair, hard, make_trl, make_verl

MAP = {"score": "score", "text": "text", "prompt": "prompt", "step": "step", "group": "group"}


@pytest.fixture
def table(tmp_path):
    """A log of groups: a prompt and its scores each."""

    def write(name, *groups):
        rows = [
            {"step": 1, "group": place, "prompt": prompt, "text": f"{name} {place} {i}", "score": s}
            for place, (prompt, scores) in enumerate(groups)
            for i, s in enumerate(scores)
        ]
        path = tmp_path / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return diagnose_log(path, columns=MAP)

    return write


def test_a_prompt_counts_once_and_only_where_both_asked_it(table):
    one = table("a", ("p", [0, 0]), ("p", [0, 1]), ("q", [1, 1]), ("alone", [1, 0]))
    other = table("b", ("q", [1, 0]), ("p", [1, 1]), ("new", [0, 1]), ("newer", [0, 0]))
    (pair,) = pair_logs([one, other])
    assert (pair.shared, pair.only_first, pair.only_second) == (2, 1, 2)
    values = {name: found.value for name, found in pair.differences.items()}
    assert values == {  # p from 1/4 to 1 and half its groups all wrong; q from 1 to 1/2
        "accuracy": pytest.approx((0.75 - 0.5) / 2),
        "all_wrong": -0.25, "mixed": 0.25, "all_right": 0.0, "tied": 0.0,
    }  # fmt: skip
    assert [row.prompt for row in pair.prompts] == ["p", "q"]


def test_the_other_way_round_is_the_negative(table):
    logs = [table("a", *((f"p{i}", [i % 2, 0]) for i in range(12))),
            table("b", *((f"p{i}", [1, i % 3 > 0]) for i in range(12)))]  # fmt: skip
    (there,), (back,) = pair_logs(logs), pair_logs(logs[::-1])
    for name in MEASURES:
        one, other = there.differences[name], back.differences[name]
        assert (one.value, one.ci_low, one.ci_high) == pytest.approx(
            (-other.value, -other.ci_high, -other.ci_low)
        )


def test_prompts_are_told_apart_after_what_is_shown_of_them(table):
    """Two that begin alike are two, in every log; the key is the same in another process."""
    long = "x" * PREVIEW
    one = table("a", (long + "1", [0, 1]), (long + "2", [1, 1]))
    other = table("b", (long + "2", [0, 0]), (long + "3", [1, 1]))
    (pair,) = pair_logs([one, other])
    assert (pair.shared, pair.differences["accuracy"].value) == (1, -1.0)
    assert prompt_key("What is 1+1?") == "6d52aa994781ec59"
    assert len(prompt_key("half a pair \ud800")) == 16


def test_without_a_shared_prompt_nothing_is_said(table):
    pair = pair_logs([table("a", ("p", [0, 1])), table("b", ("q", [0, 1]))])[0]
    assert all(np.isnan(found.value) for found in pair.differences.values())
    assert pair_lines(pair, ["a", "b"])[1].startswith("  no prompt is in both")
    assert pair.as_dict()["accuracy"]["value"] is None


def test_one_shared_prompt_has_no_interval(table):
    (pair,) = pair_logs([table("a", ("p", [0, 1])), table("b", ("p", [1, 1]))])
    assert pair.differences["accuracy"].value == 0.5
    assert np.isnan(pair.differences["accuracy"].ci_low)
    assert pair.as_dict()["accuracy"] == {"value": 0.5, "ci_low": None, "ci_high": None, "n": 1}


def test_logs_that_agree_everywhere_could_still_differ(table):
    groups = [(f"p{i}", [i % 2, 0]) for i in range(10)]
    (pair,) = pair_logs([table("a", *groups), table("b", *groups)])
    found = pair.differences["accuracy"]
    assert found.value == 0
    assert found.ci_low < 0 < found.ci_high


def test_two_trainers_logs_are_paired(tmp_path):
    logs = [diagnose_log(make_verl(tmp_path / "v", rate=hard)),
            diagnose_log(make_trl(tmp_path / "t", rate=fair))]  # fmt: skip
    (pair,) = pair_logs(logs)
    assert pair.shared > 20
    assert pair.differences["accuracy"].ci_low > 0
    assert pair.differences["all_wrong"].ci_high < 0


def test_the_interval_holds_what_it_promises():
    """200 pairs of logs whose prompts differ by 0.1 in the mean: at most 17 of the 95 % miss
    (a binomial's 99 % point)."""
    rng = np.random.default_rng(0)
    missed, truth = 0, _mean_shift()
    for _ in range(200):
        rate = rng.beta(1, 2, size=40)
        later = np.clip(rate + 0.1 + rng.normal(0, 0.1, size=40), 0, 1)
        before, after = rng.binomial(8, rate) / 8, rng.binomial(8, later) / 8
        found = _difference(before, after)
        missed += not found.ci_low <= truth <= found.ci_high
    assert missed <= 17


def _mean_shift():
    rng = np.random.default_rng(1)
    rate = rng.beta(1, 2, size=200_000)
    return float(np.mean(np.clip(rate + 0.1 + rng.normal(0, 0.1, size=200_000), 0, 1) - rate))
