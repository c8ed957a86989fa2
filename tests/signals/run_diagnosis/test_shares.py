"""Classes of groups, their shares with intervals, what became of prompts, what was in vain."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from rekindle.errors import ConfigError
from rekindle.ops.groups import classify, group_rows
from rekindle.signals.logs.collect import collect
from rekindle.signals.logs.formats import open_log
from rekindle.signals.run_diagnosis.coverage import implied_dead
from rekindle.signals.run_diagnosis.diagnose_log import diagnose_rows
from rekindle.signals.run_diagnosis.groups import CLASSES, find_verdicts, group_table
from rekindle.signals.run_diagnosis.log_finding import difference, mean, ratio
from rekindle.signals.run_diagnosis.remedies import mixed_at
from rekindle.signals.run_diagnosis.shares import compute_findings, prompt_rows, shares


def log_of(path, groups, **columns):
    """Groups of (prompt, rewards) or (prompt, rewards, verdicts), a step each."""
    lines = []
    for step, (prompt, rewards, *verdicts) in enumerate(groups, 1):
        for i, reward in enumerate(rewards):
            one = {"step": step, "prompt": prompt, "text": f"{step} {i}", "reward": reward}
            lines.append(one | ({"right": verdicts[0][i]} if verdicts else {}))
    file = path / "log.jsonl"
    file.write_text("".join(json.dumps(one) + "\n" for one in lines))
    keys = {"score": "reward", "prompt": "prompt", "step": "step", "text": "text"}
    return collect(open_log(file, columns={**keys, **columns}))


def table_of(log, column=None):
    verdicts = find_verdicts(log, column)
    return group_table(log, verdicts.value_N)


def names(table):
    return [CLASSES[code] for code in table.class_P]


def test_classes_are_those_of_training(tmp_path):
    """The numpy table and the training step's own function, on random partial scores."""
    rng = np.random.default_rng(0)
    rewards = [
        [None if x < 0 else float(x) for x in rng.choice([-1, 0, 0.5, 1], p=p, size=3)]
        for p in rng.dirichlet([0.4] * 4, size=300)
    ]
    log = log_of(tmp_path, [(f"p{i}", row) for i, row in enumerate(rewards)])
    grouping = group_rows(log.group_N.tolist())
    theirs = classify(grouping.gather(torch.from_numpy(log.score_N.copy())))
    assert names(table_of(log, "score")) == theirs
    assert set(theirs) == set(CLASSES)


def test_a_verdict_decides_before_the_total(tmp_path):
    """A format reward spreads the totals of a group whose answers are all wrong."""
    groups = [("a", [0.1, 0.0], [0, 0]), ("b", [1.1, 1.0], [1, 1]), ("c", [1.0, 0.1], [1, 0])]
    log = log_of(tmp_path, groups, verifier="right")
    verdicts = find_verdicts(log)
    assert (verdicts.column, verdicts.is_binary) == ("verifier", True)
    assert names(table_of(log)) == ["all_wrong", "all_right", "mixed"]
    assert table_of(log).spread_P.all()


def test_of_two_values_the_larger_is_right(tmp_path):
    log = log_of(tmp_path, [("a", [-1, 1]), ("b", [-1, -1])])
    assert names(table_of(log)) == ["mixed", "all_wrong"]


def two_rewards(path, accuracy, other, name="reward.format"):
    """Groups with a verifier that says `accuracy` of every answer, and a reward of 0 and 1."""
    groups = [(f"p{i}", [a + b for a, b in zip(accuracy, other, strict=True)]) for i in range(8)]
    log = log_of(path, [(*group, accuracy) for group in groups], **{"reward.accuracy": "right"})
    other_N = np.tile(np.array(other, dtype=float), 8)
    return replace(log, parts={**log.parts, name.removeprefix("reward."): other_N})


def test_where_nothing_is_right_the_format_reward_is_no_verdict(tmp_path):
    """The total is the format reward then, and has two values; the verifier has one."""
    log = two_rewards(tmp_path, [0, 0], [1, 0])
    verdicts = find_verdicts(log)
    assert verdicts.column == "accuracy"
    assert "every value of it is 0" in verdicts.sentence
    assert set(names(table_of(log))) == {"all_wrong"}
    assert diagnose_rows(log).cause.name == "format_spread"


def test_a_verdict_by_name_comes_before_a_format(tmp_path):
    assert find_verdicts(two_rewards(tmp_path, [1, 0], [0, 1])).column == "accuracy"


def test_a_column_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="the log has no such reward"):
        find_verdicts(log_of(tmp_path, [("a", [0, 1])]), "accuracy")


def test_shares_leave_groups_without_a_verdict_out(tmp_path):
    log = log_of(tmp_path, [("a", [0, 0]), ("b", [0, 1]), ("c", [None, None]), ("d", [0, 1])])
    share = shares(table_of(log))
    assert share["all_wrong"].value == pytest.approx(1 / 3)
    assert share["mixed"].n == 3


def test_what_became_of_prompts(tmp_path):
    groups = [
        ("never", [0, 0]), ("always", [1, 1]), ("came", [0, 0]), ("went", [1, 0]),
        ("never", [0, 0]), ("came", [1, 0]), ("went", [0, 0]), ("mixed", [1, 0]),
    ]  # fmt: skip
    log = log_of(tmp_path, groups)
    kinds = {log.prompts[row.prompt]: row.kind for row in prompt_rows(table_of(log))}
    assert kinds == {name: name for name in ("never", "always", "came", "went", "mixed")}


def test_dead_compute_is_of_what_was_written(tmp_path):
    """Two groups of two answers; texts of 3 characters each, one group without spread."""
    (finding,) = compute_findings(table_of(log_of(tmp_path, [("a", [0, 0]), ("b", [0, 1])])))
    assert finding.value == 0.5


def test_an_interval_is_over_prompts():
    """Ten copies of a row are one prompt, and tell no more than one."""
    value = np.array([0.0, 1.0, 1.0, 0.0, 1.0])
    once = mean(value, np.arange(5))
    copied = mean(np.repeat(value, 10), np.repeat(np.arange(5), 10))
    assert copied == once
    assert once.ci_low < 0.6 < once.ci_high


def test_a_share_of_none_has_wilsons_bound():
    """z^2 / (m + z^2) with m = 10 prompts and z = 1.96."""
    none = mean(np.zeros(10), np.arange(10), bounded=True)
    assert (none.ci_low, round(none.ci_high, 4)) == (0.0, 0.2775)


def test_one_prompt_has_no_interval():
    assert math.isnan(mean(np.ones(4), np.zeros(4, dtype=np.int64)).ci_low)


def test_missing_values_enter_nowhere():
    assert ratio(np.array([1.0, np.nan]), np.array([2.0, 5.0]), np.arange(2)).value == 0.5


def test_the_interval_of_a_mean_covers():
    """Prompts of one to six rows with an effect each: 95 % of the intervals hold the truth."""
    rng, hits = np.random.default_rng(0), 0
    for _ in range(600):
        size = rng.integers(1, 7, size=40)
        unit = np.repeat(np.arange(40), size)
        effect = rng.normal(size=40) + 0.3 * rng.normal(size=40) * (size - 3.5)
        estimate = mean(effect[unit] + rng.normal(size=len(unit)), unit)
        hits += estimate.ci_low <= 0 <= estimate.ci_high
    assert 0.93 <= hits / 600 <= 0.975


def test_a_change_is_late_minus_early():
    value, later = np.array([0.0, 0.0, 1.0, 1.0]), np.array([False, False, True, True])
    assert difference(value, later, np.arange(4)).value == 1.0


def test_what_mixed_groups_imply_of_dead_ones():
    """One chance of 1/2: m_k is constant, so that the bound is met: 2 of 16 groups of four."""
    assert implied_dead(np.array([0, 4, 6, 4, 0]), 4).tolist() == pytest.approx([1, 1, 2])


def test_a_mixture_has_more_dead_groups_than_is_implied():
    """Half of the prompts at 0.2, half at 0.8: the bound is below what there is."""
    chance = np.array(
        [sum(math.comb(8, k) * q**k * (1 - q) ** (8 - k) for q in (0.2, 0.8)) / 2 for k in range(9)]
    )
    wrong, right, dead = implied_dead(chance * 1e6, 8) / 1e6
    assert 0.3 < wrong / chance[0] <= 1
    assert dead == pytest.approx(2 * wrong) == pytest.approx(2 * right)


def test_larger_groups_are_mixed_more_often(tmp_path):
    """Chance 1/2 for each prompt: of groups of two a half are mixed, of groups of four 7/8."""
    groups = [(f"p{i}", pair) for i in range(40) for pair in ([0, 0], [0, 1], [1, 0], [1, 1])]
    groups = [(f"{prompt}-{i}", pair) for i, (prompt, pair) in enumerate(groups)]
    table = table_of(log_of(tmp_path, groups))
    assert mixed_at(table, 2) == pytest.approx(0.5, abs=1e-3)
    assert mixed_at(table, 4) == pytest.approx(0.875, abs=1e-3)
