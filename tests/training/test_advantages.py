"""The front door gives what the training step gives, whatever the rows come as."""

import math
import typing

import numpy as np
import pytest
import torch

from rekindle.errors import ConfigError, DataError
from rekindle.methods import hero, lens
from rekindle.methods.catalog import method_module, methods_of
from rekindle.ops.groups import ScoredRows
from rekindle.training.advantages import (
    HeroSettings,
    LensSettings,
    group_advantages,
    hero_advantages,
    lens_advantages,
)

SCORES = [1.0, 0.0, 0.0, 0.0, 0.0, 1.0, 1.0]
GROUPS = ["a", "b", "a", "b", "b", "c", "c"]
RM = [0.3, -0.2, 0.1, 0.9, 0.4, 0.2, 0.8]
LOGPROBS = [-4.0, -2.0, -9.0, -3.5, -1.0, -2.0, -3.0]
LENGTHS = [8, 5, 11, 7, 4, 6, 9]


def rows(**columns):
    given = {"correct": SCORES, "rm_score": RM, "sum_logprob": LOGPROBS, "num_tokens": LENGTHS}
    tensors = {
        f"{name}_N": torch.tensor(values, dtype=torch.float64)
        for name, values in {**given, **columns}.items()
    }
    return ScoredRows(group=GROUPS, **tensors)


@pytest.mark.parametrize("method", methods_of("group"))
def test_every_group_method_gives_its_own_credit(method):
    module = method_module(method)
    wanted = module.credit(rows(), module.PRESETS[method]).advantage_N.tolist()
    got = group_advantages(method, SCORES, GROUPS, rm_scores=RM, logprobs=LOGPROBS, lengths=LENGTHS)
    assert got == wanted


def test_lens_and_hero_take_their_settings_by_name():
    wanted = lens.credit(rows(), lens.Config(alpha=1.0, neg_scale="unit")).advantage_N.tolist()
    assert lens_advantages(SCORES, LOGPROBS, LENGTHS, GROUPS, alpha=1.0, neg_scale="unit") == wanted
    wanted = hero.credit(rows(), hero.Config(scale="none", sigma_mean=0.2)).advantage_N.tolist()
    assert hero_advantages(SCORES, RM, GROUPS, scale="none", sigma_mean=0.2) == wanted


@pytest.mark.parametrize(
    ("kind", "config", "without"),
    [
        (LensSettings, lens.Config, {"kl", "logprobs"}),
        (HeroSettings, hero.Config, {"kl", "running", "momentum"}),
    ],
)
def test_the_settings_an_editor_offers_are_those_of_the_section(kind, config, without):
    """What only the step or the running state reads is left out; the rest is there, as typed."""
    from rekindle.loops.group_step import StepConfig

    own = set(config.model_fields) - set(StepConfig.model_fields) - without
    assert set(typing.get_type_hints(kind)) == own


def test_lists_arrays_and_tensors_are_the_same():
    wanted = lens_advantages(SCORES, LOGPROBS, LENGTHS, GROUPS)
    keys = [ord(group) for group in GROUPS]
    arrays = (np.array(values) for values in (SCORES, LOGPROBS, LENGTHS, keys))
    assert lens_advantages(*arrays) == wanted
    tensors = (torch.tensor(v, dtype=torch.float64) for v in (SCORES, LOGPROBS, LENGTHS, keys))
    assert lens_advantages(*tensors) == wanted


def test_groups_named_by_single_tensors_are_their_numbers():
    keys = [torch.tensor(i) for i in (0, 0, 1, 1)]
    assert group_advantages("grpo", [1, 0, 0, 1], keys) == group_advantages(
        "grpo", [1, 0, 0, 1], [0, 0, 1, 1]
    )


def test_nested_rows_are_their_own_groups_and_may_differ_in_length():
    nested = group_advantages("grpo", [[1, 0], [0, 0, 1], [1]])
    assert nested == group_advantages("grpo", [1, 0, 0, 0, 1, 1], [0, 0, 1, 1, 1, 2])
    assert len(nested) == 6


def test_log_probs_by_token_are_summed_and_counted():
    tokens = [[-0.5, -1.0], [-2.0], [-0.25, -0.25, -1.0]]
    sums, lengths = [-1.5, -2.0, -1.5], [2, 1, 3]
    wanted = lens_advantages([1, 0, 0], sums, lengths, "aaa")
    assert lens_advantages([1, 0, 0], tokens, groups="aaa") == wanted
    assert lens_advantages([[1, 0, 0]], [tokens]) == wanted


def test_none_and_nan_are_missing_and_get_0():
    assert group_advantages("grpo", [[1, None, 0]]) == group_advantages("grpo", [[1, math.nan, 0]])
    assert group_advantages("grpo", [[1, None, 0]])[1] == 0.0


@pytest.mark.parametrize(
    ("call", "kind", "says"),
    [
        (lambda: group_advantages("grpo", [1, 0]), DataError, "'groups' is missing"),
        (lambda: group_advantages("grpo", [[1, 0]], ["a"]), DataError, "beside nested scores"),
        (lambda: group_advantages("grpo", [1, 0], ["a"]), DataError, "1 and 2"),
        (lambda: group_advantages("grpo", [[1, 0], 0]), DataError, "nested otherwise"),
        (lambda: group_advantages("grpo", []), DataError, "no rows"),
        (lambda: lens_advantages([], [], [], []), DataError, "no rows"),
        (lambda: group_advantages("grpo", [1, 0], [["a"], ["a"]]), DataError, "names no group"),
        (lambda: group_advantages("grpo", [1, 0], [math.nan] * 2), DataError, "names no group"),
        (
            lambda: lens_advantages([[1, 0], [0] * 3], [[-1] * 3, [-1] * 2], [[3] * 3, [3] * 2]),
            DataError,
            "nested otherwise",
        ),
        (lambda: group_advantages("grpo", [1, math.inf], "ab"), DataError, "finite"),
        (lambda: group_advantages("grpo", "10", "aa"), DataError, "finite numbers"),
        (lambda: group_advantages("grpo", [1, "x"], "aa"), DataError, "finite numbers"),
        (lambda: group_advantages("sft", [[1, 0]]), ConfigError, "no group advantages"),
        (lambda: group_advantages("grpoo", [[1, 0]]), ConfigError, "Did you mean 'grpo'"),
        (lambda: group_advantages("lens", [[1, 0]], alfa=1), ConfigError, "'lens.alpha'"),
        (lambda: lens_advantages([1, 0], [-1], [1, 1], "aa"), DataError, "another number of rows"),
        (lambda: lens_advantages([1, 0], [-1, None], [1, 1], "aa"), DataError, "row 2"),
        (lambda: lens_advantages([1, 0], [[-1], -2.0], None, "aa"), DataError, "nested otherwise"),
        (lambda: hero_advantages([1, 0], [None, None], "aa"), DataError, "reward model"),
        (lambda: lens_advantages([2, 0], [-1, -1], [1, 1], "aa"), DataError, "0 to 1"),
    ],
)
def test_what_cannot_be_meant_is_refused(call, kind, says):
    with pytest.raises(kind, match=says):
        call()
