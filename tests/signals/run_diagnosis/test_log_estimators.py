"""Whether logged advantages are an estimator's: each is known again, and what is none of them."""

import numpy as np
import pytest

from rekindle.errors import ConfigError
from rekindle.signals.run_diagnosis.advantage_formulas import FORMULAS, OF_TRAINER
from rekindle.signals.run_diagnosis.estimators import (
    _decimals,
    compare_advantages,
    estimators_findings,
    found_weights,
    mismatch,
)
from signals.run_diagnosis.planted import by_name, make_log

GROUPS, SIZE, BATCH = 48, 8, 12  # groups of a batch


def rewarded(seed, **columns):
    """A log of rewards in two parts; rewards and advantages as float32 has them."""
    rng = np.random.default_rng(seed)
    count = GROUPS * SIZE
    group = np.repeat(np.arange(GROUPS), SIZE)
    right = (rng.random(count) < np.repeat(rng.random(GROUPS), SIZE)).astype(float)
    brief = np.float32(rng.random(count)).astype(float)
    columns.setdefault("score", right + brief)
    score = columns.pop("score")
    return make_log(
        score,
        group,
        parts={"right": right, "brief": brief},
        tokens=rng.integers(10, 200, count),
        step=group // BATCH,
        **columns,
    )


def advantages(log, name):
    """What a formula gives, rounded as a trainer has it."""
    rows = compare_advantages(with_advantages(log, np.zeros(len(log)))).rows
    return np.float32(FORMULAS[name](rows).value_K).astype(float)


def with_advantages(log, advantage, form="planted"):
    from dataclasses import replace

    about = replace(log.about, format=form)
    return replace(log, advantage_N=np.asarray(advantage, dtype=float), about=about)


def fit_of(log, **options):
    findings = estimators_findings(log, log.parts["right"], **options)
    return by_name(findings)["estimators/fits"], findings


def test_the_formulas_by_hand():
    """One of four is right: c = (.75, -.25 x 3), sd = .5, sd with n below = .433."""
    log = make_log([1, 0, 0, 0], [0] * 4, advantage=[0] * 4, tokens=[1, 1, 1, 3])
    rows = compare_advantages(log).rows

    def first_two(name):
        return FORMULAS[name](rows).value_K[:2].tolist()

    root = 0.1875**0.5
    expected = {
        "centred": [0.75, -0.25],
        "group_std": [0.75 / 0.5001, -0.25 / 0.5001],
        "group_std_1e-6": [1.5, -0.5],
        "group_std0": [0.75 / root, -0.25 / root],
        "leave_one_out": [1.0, -1 / 3],
        "batch_std": [0.75 / 0.5001, -0.25 / 0.5001],  # the batch is the group
        # The others of the first do not differ: undivided. Of the second, 1, 0, 0: sd .577.
        "leave_one_out_own_std": [1.0, -(3**-0.5)],
        "leave_one_out_batch": [1 / (2 / 3 + 1e-4), -1 / 3 / (2 / 3 + 1e-4)],
        "normalise_then_sum": [0.75 / 0.5001 / 1.0, -0.5],
        "length_weighted": [1 - 1 / 6, -1 / 6],
        "mean_scaled": [3.0, -1.0],
        "raw": [1.0, 0.0],
    }
    for name, values in expected.items():
        assert first_two(name) == pytest.approx(values, rel=1e-3), name
    # Over six tokens: mean 1/6, variance 5/36 x 6/5 = 1/6; of c: mean 1/6 - 1/4, the same variance.
    assert first_two("reinforce_pp") == pytest.approx([5 / 6 * 6**0.5, -1 / 6 * 6**0.5])
    assert first_two("reinforce_pp_baseline") == pytest.approx([5 / 6 * 6**0.5, -1 / 6 * 6**0.5])


@pytest.mark.parametrize("name", FORMULAS)
def test_each_estimator_is_known_again(name):
    for seed in range(5):
        log = rewarded(seed)
        found, _ = fit_of(with_advantages(log, advantages(log, name)), estimator=name)
        assert found.value == 1
        fits = [fit.name for fit in compare_advantages(log_of(log, name)).fits if fit.is_whole]
        assert fits == [name]


def log_of(log, name, form="planted"):
    return with_advantages(log, advantages(log, name), form)


@pytest.mark.parametrize("trainer", OF_TRAINER)
def test_a_trainers_own_estimators_are_no_mismatch_and_others_are(trainer):
    log = rewarded(0)
    for name in FORMULAS:
        _, findings = fit_of(log_of(log, name, trainer))
        own = name in OF_TRAINER[trainer] and "batch" not in name
        assert (mismatch(findings) is None) == own, name


def test_another_std_is_named_in_every_log_and_the_right_one_in_none():
    """Twenty logs each: the standard deviation with n below, under TRL."""
    for seed in range(20):
        log = rewarded(seed)
        found, findings = fit_of(log_of(log, "group_std0_1e-4", "trl"))
        assert mismatch(findings) is found
        assert "group_std0_1e-4 gives every row" in found.says
        _, findings = fit_of(log_of(log, "group_std", "trl"))
        assert mismatch(findings) is None


def test_a_stated_estimator_is_held_to_its_word():
    log = log_of(rewarded(0), "centred", "trl")
    found, findings = fit_of(log, estimator="group_std")
    assert mismatch(findings) is found
    assert "not those of group_std" in found.says
    assert "centred gives every row" in found.says
    with pytest.raises(ConfigError, match="group_stt"):
        fit_of(log, estimator="group_stt")


def test_a_std_of_the_batch_is_named_unless_it_was_stated():
    log = log_of(rewarded(0), "batch_std", "trl")
    found, findings = fit_of(log)
    assert found.value == 1
    assert "where it was meant, --estimator batch_std" in mismatch(findings).says
    assert mismatch(fit_of(log, estimator="batch_std")[1]) is None
    assert mismatch(fit_of(log_of(rewarded(0), "centred", "trl"))[1]) is None


def test_one_wrong_row_is_found():
    log = rewarded(0)
    advantage = advantages(log, "group_std")
    advantage[17] += 0.01
    found, _ = fit_of(with_advantages(log, advantage, "trl"))
    assert found.value == pytest.approx(1 - 1 / len(log))
    assert "largest difference is 0.01" in found.says


def test_rewards_on_disk_with_few_decimals_are_no_mismatch():
    exact = rewarded(0)
    advantage = advantages(exact, "group_std")
    rounded = rewarded(0, score=np.round(exact.score_N, 3))
    found, findings = fit_of(with_advantages(rounded, advantage, "trl"))
    assert mismatch(findings) is None
    assert "as far as 3 decimals tell" in found.says
    found, _ = fit_of(with_advantages(rounded, advantages(exact, "group_std0"), "trl"))
    assert found.value < 1


@pytest.mark.parametrize("levels", [[0.0, 1.0], [0.0, 0.25, 0.5, 1.0], list(range(30))])
def test_rewards_of_few_decimals_excuse_no_other_std(levels):
    """0 and 1, quarters and whole numbers are what they are: they are not taken for rounded."""
    score = np.random.default_rng(0).choice(levels, GROUPS * SIZE).astype(float)
    log = log_of(rewarded(0, score=score), "group_std0", "trl")
    assert _decimals(log) is None
    assert mismatch(estimators_findings(log, log.parts["right"])) is not None


def test_advantages_on_disk_with_few_decimals_are_no_mismatch():
    log = rewarded(1)
    _, findings = fit_of(with_advantages(log, np.round(advantages(log, "group_std"), 4), "trl"))
    assert mismatch(findings) is None


def test_equal_rewards_of_any_size_have_advantage_zero():
    """0.9 and 1/3 in float32: what rounding leaves of 1/3 - 1/3 is divided by 1e-4."""
    thirds = np.full(GROUPS * SIZE, np.float32(1 / 3)).astype(float)
    thirds[::SIZE] = 1.0
    log = rewarded(0, score=thirds)
    noisy = advantages(log, "group_std") + 1e-7
    assert fit_of(with_advantages(log, noisy, "trl"))[0].value == 1


def test_partial_groups_are_left_out():
    """A log that is cut off in the middle of a group: its mean is not known."""
    log = rewarded(0)
    advantage = advantages(log, "group_std")
    kept = np.ones(len(log), dtype=bool)
    kept[3::SIZE][:5] = False  # one row of each of five groups
    cut = rewarded(0, evaluation_N=~kept)
    found, findings = fit_of(with_advantages(cut, advantage, "trl"))
    assert mismatch(findings) is None
    assert f"in {GROUPS - 5} whole groups" in found.rests_on


def test_rows_without_a_reward_have_advantage_zero():
    log = rewarded(0)
    score = log.score_N.copy()
    score[::11] = np.nan
    log = rewarded(0, score=score)
    rows = compare_advantages(with_advantages(log, np.zeros(len(log)))).rows
    advantage = np.zeros(len(log))
    advantage[rows.groups.row_K] = FORMULAS["group_std"](rows).value_K
    _, findings = fit_of(with_advantages(log, advantage, "trl"))
    assert mismatch(findings) is None


@pytest.mark.parametrize("weights", [(1, 0.2), (0.5, 0.3), (10, 0.01), (1, -1)])
@pytest.mark.parametrize("name", ["group_std", "centred", "batch_std"])
def test_weights_that_are_not_on_disk_are_found(name, weights):
    """TRL's reward_weights: the plain sum gives nothing, the weighted one every row."""
    log = rewarded(0)
    weighted = rewarded(0, score=weights[0] * log.parts["right"] + weights[1] * log.parts["brief"])
    plain = with_advantages(log, advantages(weighted, name), "trl")
    found, findings = fit_of(plain, estimator=name)
    assert mismatch(findings) is None
    assert f"those of {name} with weights right {weights[0]}, brief {weights[1]} " in found.says
    assert list(found_weights(plain).values()) == pytest.approx(weights, rel=1e-2)
    assert found_weights(log_of(log, name, "trl")) is None


def test_weights_do_not_excuse_another_std():
    log = rewarded(0)
    weighted = rewarded(0, score=log.parts["right"] + 0.2 * log.parts["brief"])
    _, findings = fit_of(with_advantages(log, advantages(weighted, "group_std0"), "trl"))
    assert mismatch(findings) is not None
    rng = np.random.default_rng(0)
    _, findings = fit_of(with_advantages(log, rng.normal(size=len(log)), "trl"))
    assert mismatch(findings) is not None


def test_without_advantages_nothing_is_told():
    found = by_name(estimators_findings(rewarded(0), np.zeros(GROUPS * SIZE)))
    assert list(found) == ["estimators/fits"]
    assert np.isnan(found["estimators/fits"].value)
    assert mismatch(list(found.values())) is None


def test_where_the_advantages_go_by_hand():
    """|A|: 2 in a group that is all wrong, 6 in a mixed one, 0 in one that is all right."""
    right = np.array([0.0, 0, 1, 0, 1, 1])
    log = make_log(
        right, [0, 0, 1, 1, 2, 2], advantage=[1, -1, 3, -3, 0, 0], parts={"right": right}
    )
    found = by_name(estimators_findings(log, right))
    shares = {n[18:]: f.value for n, f in found.items() if n.startswith("estimators/weight")}
    assert shares == {"all_wrong": 0.25, "mixed": 0.75, "all_right": 0}


def test_rows_that_lost_their_advantage_are_counted():
    """Groups (1, 0), (1, 1), (0, .5, 1): of the 4 rows off their mean one has 0; its middle may."""
    score = np.array([1, 0, 1, 1, 0, 0.5, 1])
    advantage = [0.5, -0.5, 0, 0, 0, 0, np.nan]
    found = by_name(
        estimators_findings(make_log(score, [0, 0, 1, 1, 2, 2, 2], advantage=advantage), score)
    )
    assert found["estimators/none"].value == pytest.approx(1 / 7)
    zero = make_log(score, [0, 0, 1, 1, 2, 2, 2], advantage=[0.5, -0.5, 0, 0, 0, 0, 0.5])
    assert by_name(estimators_findings(zero, score))["estimators/zero"].value == 1 / 4
