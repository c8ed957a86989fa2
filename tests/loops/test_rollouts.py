"""What a step's answers say of their groups."""

import math

import pytest

from rekindle.loops.rollouts import AnswerRow, Collected, reward_metrics
from rekindle.methods.blend import PRESETS as BLENDS
from rekindle.methods.blend import credit as blended
from rekindle.methods.grpo import PRESETS, credit
from rekindle.methods.hero import Config as Hero
from rekindle.methods.hero import credit as hero

NAN = math.nan
GROUPS = [
    [0.0, 0.0, NAN],  # all wrong
    [1.0, 1.0, 1.0],  # all right
    [0.7, 0.7, NAN],  # tied
    [0.01, 0.01, 0.01],  # tied
    [0.0, 1.0, 1.0],  # mixed
    [0.7, 0.01, 0.7],  # mixed
    [NAN, NAN, NAN],  # missing
    [0.0, 0.0, 0.0],  # all wrong
]


def collected(scores=GROUPS, rewards=None):
    """Answers of one length; `rewards` are the reward model's."""
    rows = [
        AnswerRow(group, sample, score, -1.0, 5, None, NAN if rewards is None else rewards[sample])
        for group, row in enumerate(scores)
        for sample, score in enumerate(row)
    ]
    return Collected([], [], [], rows, problems=len(scores), generated=5 * len(rows))


def shares(metrics, of="groups/"):
    return {key.removeprefix(of): value for key, value in metrics.items() if key.startswith(of)}


def test_dynamic_sampling_keeps_the_groups_in_which_scores_differ():
    assert collected().mixed_groups() == [4, 5]


def test_every_group_is_counted_once_and_those_of_equal_rewards_beside():
    rows = collected().rows
    assert shares(reward_metrics(rows, credit(rows, PRESETS["grpo"]))) == {
        "all_wrong": 0.25,
        "tied": 0.25,
        "mixed": 0.25,
        "all_right": 0.125,
        "missing": 0.125,
        "no_signal": 0.625,
    }


def test_a_penalty_on_length_gives_tied_groups_a_signal_and_wrong_ones_keep_their_class():
    some = collected([[0.0, 0.0], [0.7, 0.7]])
    longer = [row._replace(tokens=90 + 10 * row.sample) for row in some.gathered]
    rows = Collected([], [], [], longer, problems=2, generated=0).rows
    found = shares(reward_metrics(rows, credit(rows, PRESETS["dapo"], max_tokens=100)))
    assert (found["all_wrong"], found["tied"], found["mixed"]) == (0.5, 0, 0.5)
    assert found["no_signal"] == 0
    assert Collected([], [], [], longer, problems=2, generated=0).mixed_groups() == []


@pytest.mark.parametrize(("rewards", "silent"), [([1.0, 2.0, 3.0], 0), ([1.0, 1.0, 1.0], 1)])
def test_hero_may_give_a_group_of_wrong_answers_a_signal(rewards, silent):
    rows = collected([[0.0, 0.0, 0.0]], rewards).rows
    metrics = reward_metrics(rows, hero(rows, Hero()))
    assert metrics["groups/all_wrong"] == 1
    assert metrics["groups/no_signal"] == silent


def test_mixed_verdicts_with_equal_totals_are_tied():
    rows = collected([[0.0, 1.0, 1.0]], [2.0, 2.0, 2.0]).rows
    found = shares(reward_metrics(rows, blended(rows, BLENDS["rm_only"])))
    assert (found["tied"], found["mixed"], found["no_signal"]) == (1, 0, 1)


def test_the_shares_of_the_advantages_add_up():
    """NSR compares nothing, so that tied groups have a share."""
    from rekindle.methods.nsr import PRESETS as ONE_SIDED
    from rekindle.methods.nsr import credit as one_sided

    rows = collected().rows
    found = shares(reward_metrics(rows, one_sided(rows, ONE_SIDED["nsr"])), "advantage/share_")
    assert found["tied"] > 0
    assert sum(found.values()) == pytest.approx(1)


def test_without_a_group_nothing_is_counted():
    rows = collected([]).rows
    metrics = reward_metrics(rows, credit(rows, PRESETS["grpo"]))
    assert all(math.isnan(value) for value in shares(metrics).values())
