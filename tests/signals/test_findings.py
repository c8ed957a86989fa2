"""Signals from hand-made numbers: the state, the remedy, and that neither goes beyond them."""

import json
import math

import numpy as np
import pytest

from rekindle.signals.findings import Advice, Finding, Measurement, conclusion
from rekindle.signals.group_signal import group_finding
from rekindle.signals.remedies import studies, study_tree, too_little
from rekindle.signals.reward_signal import reward_finding
from rekindle.signals.sft_signal import has_signal, judge, ratio, sft_finding
from rekindle.signals.verifier_signal import RANKS, verifier_finding
from rekindle.study.plan.planning import plan
from rekindle.study.plan.study_file import Study
from rekindle.training.recipe import make_recipe
from signals.lookups import row, subject

NAN = math.nan


def refused(found):
    return {advice.what for advice in found.against}


# --- groups


def table(counts, samples=4):
    """One row a problem, with that many right answers."""
    return np.array([[1.0] * c + [0.0] * (samples - c) for c in counts])


def of_four(counts, **more):
    """Judged for groups of four, as they were sampled."""
    return group_finding(table(counts), size=4, **more)


def test_mixed_groups_are_healthy_and_the_expected_shares_are_powers_of_the_accuracy():
    found = of_four([2] * 20)
    assert (found.state, found.health, found.remedy) == ("healthy", "well", None)
    assert row(found, "mixed").value == 1
    assert row(found, "all_wrong/expected").value == 0.5**4
    assert row(found, "all_right/expected").value == 0.5**4
    # C(2, 2) / C(4, 2): both of a group of two are among the two wrong ones
    assert row(found, "all_wrong/of_2").value == pytest.approx(1 / 6)
    assert row(found, "all_wrong/of_4").value == 0


def test_all_wrong_groups_with_some_right_answers_fit_lens():
    found = of_four([0] * 70 + [1] * 30)
    assert (found.state, found.health) == ("all-wrong", "out")
    assert found.remedy is not None
    assert found.remedy.what == "lens"
    assert "Try a small KL first" in found.remedy.why
    assert refused(found) == set()  # a third is mixed: nothing speaks against taking only these


@pytest.mark.parametrize("right", [1, 5, 20])
def test_lens_is_refused_where_hardly_anything_is_right(right):
    """docs/LOG.md: with 0.004 of the answers right it destroyed the base."""
    found = group_finding(table([0] * (200 - right) + [1] * right, samples=8))
    assert found.remedy.what == "easier problems first"
    assert "lens" in refused(found)


def test_lens_is_refused_where_the_stronger_check_finds_right_answers():
    wrong = table([0] * 70 + [1] * 30, samples=8)
    true = table([1] * 60 + [0] * 40, samples=8)
    for verifier in ("unsettled", "brittle"):
        found = group_finding(wrong, true_PK=true, verifier=verifier)
        assert (found.state, found.remedy) == ("all-wrong", None)
        assert "lens" in refused(found)
    assert group_finding(wrong, true_PK=wrong, verifier="exact").remedy.what == "lens"


def test_groups_are_judged_at_the_size_that_training_has():
    """Accuracy 0.15: pairs of answers are mostly all wrong, groups of eight are mixed."""
    rng = np.random.default_rng(0)
    scores = (rng.random((200, 8)) < 0.15).astype(float)
    assert group_finding(scores).state == "healthy"
    assert group_finding(scores, size=2).state == "all-wrong"
    few = group_finding(scores[:, :2])
    assert (few.state, few.health, few.remedy) == ("cannot-tell", "between", None)
    assert "--samples 8" in few.verdict
    # What is mixed among four answers is mixed among eight all the more.
    assert group_finding(table([2] * 50)).state == "healthy"
    many = group_finding((rng.random((200, 64)) < 0.03).astype(float))
    assert many.state == "all-wrong"  # though most groups of 64 are mixed


def test_a_dead_level_is_named():
    half = [0] * 50 + [4] * 50
    found = group_finding(table(half, samples=8), levels=["5"] * 50 + ["3"] * 50)
    assert (found.state, found.health) == ("all-wrong on level 5", "out")
    assert found.remedy is None
    assert "--levels 5" in found.verdict
    assert group_finding(table([4] * 100, samples=8), levels=["5", "3"] * 50).health == "well"
    both = group_finding(table([0] * 100, samples=8), levels=["5", "3"] * 50)
    assert both.state == "all-wrong"


def test_equal_partial_scores_are_no_mixed_group():
    found = group_finding(np.full((100, 8), 0.05))
    assert (found.state, found.health, found.remedy) == ("tied", "out", None)
    assert row(found, "tied").value == 1
    assert row(found, "mixed").value == 0
    assert row(found, "no_signal").value == 1
    assert "1 [0.963, 1] tied" in found.verdict


def test_the_four_classes_of_groups_add_up_and_only_the_mixed_have_a_signal():
    kinds = ([0.0] * 8, [1.0] * 8, [0.7] * 8, [0.01] * 4 + [0.7] * 4)
    found = group_finding(np.array([kind for kind in kinds for _ in range(25)]))
    shares = {name: row(found, name).value for name in ("all_wrong", "all_right", "tied", "mixed")}
    assert shares == dict.fromkeys(shares, 0.25)
    assert row(found, "no_signal").value == 0.75
    halves = group_finding(np.array([kinds[3]] * 25), size=4)  # 2 C(4, 4) of C(8, 4) are equal
    assert row(halves, "tied").value == pytest.approx(2 / 70)
    assert "tied" not in group_finding(np.array([kinds[0], kinds[1]] * 25)).verdict


def test_mostly_equal_scores_of_several_kinds_have_no_signal():
    """None of them is most groups, together they are."""
    kinds = [[0.0] * 8] * 4 + [[1.0] * 8] * 3 + [[0.7] * 8] * 3
    assert group_finding(np.array(kinds * 20)).state == "tied"


def test_a_missing_score_may_be_the_partial_one_of_the_others():
    scores = np.full((100, 4), 0.7)
    scores[:, 3] = NAN
    tied = row(group_finding(scores, size=4), "tied")
    assert math.isnan(tied.value)
    assert (tied.ci_low, tied.ci_high) == (0, 1)
    scores[:, 2] = 0.0
    assert row(group_finding(scores, size=4), "tied").ci_high < 0.1


def test_missing_scores_bound_the_shares_both_ways():
    """100 all right groups; of 100 others only wrong answers are known, half of them missing."""
    scores = np.ones((200, 8))
    scores[100:, :4], scores[100:, 4:] = 0, NAN
    found = group_finding(scores)
    assert row(found, "all_right").ci_high < 0.6  # a known 0 is certainly not all right
    assert row(found, "all_wrong").ci_high > 0.5 > row(found, "all_wrong").ci_low
    assert found.remedy is None
    assert "miss a score" in found.verdict
    scores[100:, 0] = 1  # a known 0 and a known 1 are certainly mixed
    assert row(group_finding(scores), "mixed").ci_low > 0.4


def test_without_a_single_right_answer_lens_does_not_fit():
    found = of_four([0] * 60)
    assert found.remedy is not None
    assert found.remedy.what == "easier problems first"
    assert refused(found) == {"lens", "grpo_dynamic, or more steps"}
    assert of_four([0] * 60, sft="alive").remedy.what == "sft"


def test_where_the_verifier_is_brittle_nothing_is_recommended_for_groups():
    found = of_four([0] * 32 + [1] * 8, verifier="brittle", true_PK=table([2] * 40))
    assert found.remedy is None
    assert "lens" in refused(found)
    assert row(found, "mixed/true").value == 1


def test_all_right_groups_want_harder_problems():
    found = of_four([4] * 20)
    assert (found.state, found.remedy.what) == ("all-right", "harder problems")


def test_few_problems_are_thin_whatever_they_say():
    assert of_four([2]).state == "thin"
    assert of_four([0]).state == "thin"
    assert of_four([0, 0]).remedy is None


def test_missing_scores_are_no_wrong_answers():
    lost = np.full((10, 4), NAN)
    found = group_finding(np.concatenate([table([2] * 20), lost]))
    assert found.state == "healthy"
    assert row(found, "mixed").ci_low < 20 / 30 < row(found, "mixed").ci_high
    assert row(found, "incomplete").value == 10
    partly = table([0] * 30)
    partly[:, 0] = NAN  # three wrong answers of four are no all-wrong group
    lacking = group_finding(partly, size=4)
    assert (row(lacking, "all_wrong").ci_low, row(lacking, "all_wrong").ci_high) == (0, 1)
    assert lacking.remedy is None
    found = group_finding(lost)
    assert (found.state, found.health, found.remedy) == ("unknown", "between", None)


def test_shares_are_given_for_each_level():
    found = of_four([0] * 10 + [2] * 10, levels=["3"] * 10 + ["4"] * 10)
    assert row(found, "all_wrong/level_3").value == 1
    assert row(found, "all_wrong/level_4").value == 0


# --- verifier and reward model


def answers(problems=40, each=2):
    ids = [f"p{i}" for i in range(problems) for _ in range(each)]
    true = [1.0, 0.0] * (len(ids) // 2)
    return ids, true


def test_a_verifier_that_rejects_right_answers_is_brittle():
    ids, true = answers()
    accepted = [t * float(i % 8 == 0) for i, t in enumerate(true)]  # a quarter of the right ones
    found = verifier_finding(accepted, true, ids)
    assert (found.state, found.health, found.remedy) == ("brittle", "out", None)
    assert row(found, "recall").value == 0.25
    assert row(found, "precision").value == 1
    assert row(found, "recall").n == 40  # problems, not answers
    assert "no reward model was measured" in found.against[0].why


def test_hero_fits_when_the_reward_model_ranks_what_the_verifier_rejects():
    ids, true = answers()
    accepted = [t * float(i % 8 == 0) for i, t in enumerate(true)]
    for score, fits in ((true, True), ([float(i % 3) for i in range(len(ids))], False)):
        reward = reward_finding(score, true, accepted, ids)
        found = verifier_finding(accepted, true, ids, reward=reward)
        assert (found.remedy is not None) == fits
        assert ("hero" in refused(found)) != fits


def test_hero_rests_on_the_lower_bound_not_on_the_auc():
    rng = np.random.default_rng(3)
    ids = [f"p{i}" for i in range(24) for _ in range(8)]
    true = np.where(np.repeat(np.arange(24) < 4, 8), np.tile([1.0] + [0.0] * 7, 24), 0.0)
    true[96:] = 1.0  # half of the problems are all right and say nothing within a group
    score = true + rng.normal(0, 1.0, len(true))
    accepted = np.zeros(len(true))
    reward = reward_finding(score.tolist(), true.tolist(), accepted.tolist(), ids)
    inside = row(reward, "auc/within_wrong/in_group")
    assert inside.value > RANKS > inside.ci_low
    found = verifier_finding(accepted.tolist(), true.tolist(), ids, reward=reward)
    assert (found.state, found.remedy) == ("brittle", None)
    assert "hero" in refused(found)


def test_a_sound_verifier_is_left_alone_and_too_few_answers_say_nothing():
    ids, true = answers()
    assert verifier_finding(true, true, ids).health == "well"
    few = verifier_finding([1.0, NAN], [1.0, 1.0], ["a", "b"])
    assert (few.state, few.health) == ("unclear", "between")
    assert verifier_finding([NAN] * len(ids), true, ids).state == "unclear"


def test_states_of_a_reward_model():
    ids, true = answers()
    assert reward_finding(true, true, true, ids).state == "useful"
    constant = reward_finding([0.3] * len(ids), true, true, ids)
    assert (constant.state, row(constant, "auc").value) == ("useless", 0.5)
    assert "hero" in refused(constant)
    gen = np.random.default_rng(0)
    short = reward_finding(gen.normal(size=20).tolist(), true[:20], true[:20], ids[:20])
    assert (short.state, short.health) == ("unclear", "between")
    assert row(short, "auc/in_group").ci_high > 0.6
    assert "more --problems" in short.verdict
    reversed_ = reward_finding([-t for t in true], true, true, ids)
    assert (reversed_.state, reversed_.health) == ("inverted", "out")
    assert "sign" in reversed_.verdict
    assert reward_finding([NAN] * len(ids), true, true, ids).state == "unclear"
    assert reward_finding(true[:2], true[:2], true[:2], ids[:2]).state == "unclear"  # one problem
    assert row(reward_finding([NAN, *true[1:]], true, true, ids), "unscored").value == 1


def test_a_reward_model_that_knows_only_the_problem_is_useless():
    """HERO compares a prompt's answers: which problems are easy is no help there."""
    rng = np.random.default_rng(0)
    ids = [f"p{i}" for i in range(100) for _ in range(8)]
    easy = np.repeat(rng.choice([0.05, 0.95], 100), 8)
    true = (rng.random(800) < easy).astype(float)
    score = easy + rng.normal(0, 1e-6, 800)
    accepted = true * (rng.random(800) < 0.3)
    found = reward_finding(score.tolist(), true.tolist(), accepted.tolist(), ids)
    assert row(found, "auc").ci_low > 0.9
    assert found.state == "useless"
    beside = verifier_finding(accepted.tolist(), true.tolist(), ids, reward=found)
    assert (beside.state, beside.remedy) == ("brittle", None)
    assert "hero" in refused(beside)


def test_recall_holds_its_level_when_problems_have_unequal_numbers_of_right_answers():
    """4 of 5 problems' right answers are accepted; one right answer or eight a problem."""
    rng, held, runs = np.random.default_rng(0), 0, 300
    for _ in range(runs):
        many, fine = rng.choice([1, 8], 50, p=[0.8, 0.2]), rng.random(50) < 0.8
        ids = np.repeat(np.arange(50), many).astype(str).tolist()
        accepted = np.repeat(fine, many).astype(float).tolist()
        recall = row(verifier_finding(accepted, [1.0] * len(ids), ids), "recall")
        held += recall.ci_low <= 0.8 <= recall.ci_high
    assert held / runs > 0.92  # counting problems: 0.80


def test_a_verifier_that_accepts_wrong_answers_is_not_sound():
    ids, true = answers()
    found = verifier_finding(
        [1.0] * len(ids), [t * float(i % 8 == 0) for i, t in enumerate(true)], ids
    )
    assert (found.state, found.health, found.remedy) == ("lax", "out", None)


# --- saturation's remedy


def exact(name, value):
    return Measurement(name, value, value, value, 50, "")


def saturated(known=0.5, **mixed):

    rows = [exact("mass/non_target", 0.001), exact("chain_prob/held_out", known)]
    rows += [exact(f"mix/{name}", value) for name, value in mixed.items()]
    return sft_finding(rows, "saturated", ".")


def test_wmss_fits_only_what_mixing_was_measured_to_bring_back():
    assert saturated(ratio=20, reactivated=0.9).remedy.what == "wmss"
    assert "wmss_d0" in saturated(ratio=20, reactivated=0.9).remedy.why
    assert saturated(ratio=1.5, reactivated=0.9).remedy is None
    assert saturated(ratio=20, reactivated=0.1).remedy is None
    assert "wmss" in refused(saturated())  # no weak model
    assert "wmss" in refused(saturated(known=0.99, ratio=20, reactivated=0.9))
    wide = Measurement("mix/ratio", 20, 1.5, 60, 50, "")
    rows = [exact("mass/non_target", 0.001), exact("chain_prob/held_out", 0.5), wide]
    rows.append(exact("mix/reactivated", 0.9))
    assert sft_finding(rows, "saturated", ".").remedy is None


def test_the_mixs_ratio_is_paired_by_sample():
    """Long samples with all of the gradient: with the weak model the strong one it is a half."""
    plain = np.where(np.arange(200) < 12, 0.0095, 1e-5)
    found = ratio(0.5 * plain, plain)
    assert (found.value, found.ci_low) == pytest.approx((0.5, 0.5), abs=0.02)
    assert found.ci_low < 0.5  # no draw differs, and that is no certainty
    assert found.ci_high == math.inf
    assert ratio(plain, plain, top=1.0).ci_high == 1
    assert math.isnan(ratio(plain[:3], plain[:3]).ci_low)


@pytest.mark.parametrize(
    ("mass", "state", "signal"),
    [
        ((0.1, 0.08, 0.12), "alive", True),
        ((0.03, 0.02, 0.04), "fading", True),
        ((0.02, 0.005, 0.03), "fading", False),
        ((0.03, 0.0, 1.0), "unclear", False),
        ((0.03, NAN, NAN), "unclear", False),
        ((0.001, 0.0005, 0.002), "saturated", False),
    ],
)
def test_sft_has_signal_only_by_its_interval(mass, state, signal):
    found, _ = judged(mass=mass)
    assert found == state
    rows = [Measurement("mass/non_target", *mass, 50, "")]
    assert has_signal(Finding("sft", found, "between", ".", rows)) == signal


def judged(mass=(1e-4, 5e-5, 2e-4), nll=(1e-4, 5e-5, 2e-4), fresh=(1e-4, 5e-5, 2e-4), chain=0.5):
    rows = {
        "tokens/above_099": exact("", 1.0),
        "mass/non_target": Measurement("", *mass, 50, ""),
        "nll": Measurement("", *nll, 50, ""),
        "nll/held_out": Measurement("", *fresh, 50, ""),
        "chain_prob/held_out": exact("", chain),
    }
    return judge(rows)


def test_memory_is_claimed_only_where_held_out_answers_are_surely_not_known():
    assert judged(fresh=(3.0, 2.0, 4.0))[0] == "memorised"
    known = judged(fresh=(4e-4, 3e-4, 6e-4), chain=0.99)  # four times the nll, and known
    assert (known[0], "as well known" in known[1]) == ("saturated", True)
    for fresh in ((3.0, NAN, NAN), (0.5, 1.5e-4, 1.2)):
        found = judged(fresh=fresh)
        assert (found[0], "not settled" in found[1]) == ("saturated", True)


def test_a_signal_that_is_alive_has_no_remedy():
    found = sft_finding([], "alive", ".")
    assert (found.health, found.remedy, found.against) == ("well", None, ())


# --- what is said at the end, and written


def test_closing_lines():
    well = Finding("groups", "healthy", "well", ".", [])
    assert conclusion([well]) == ["No signal is missing: nothing to change."]
    between = Finding("sft", "fading", "between", ".", [])
    assert "In between: sft (fading)" in conclusion([well, between])[0]
    out = Finding("reward", "useless", "out", ".", [], None, (Advice("hero", "noise"),))
    assert conclusion([well, out]) == [
        "missing: reward (useless)",
        "fits: nothing that these numbers support.",
        "does not fit: hero (reward): noise",
    ]
    json.dumps(out.as_dict())


@pytest.mark.parametrize("remedy", ["lens", "sft", "hero", "wmss", "temporal", "weak_to_strong"])
@pytest.mark.parametrize("parameters", [10**5, 10**9])
def test_every_remedy_has_a_study_whose_arms_are_recipes(remedy, parameters, tmp_path):
    about = subject(
        "testbed/addition-s0",
        parameters=parameters,
        sections={"task": {"name": "addition", "levels": ["4"]}},
        reward={"model": "rm"},
        weak="testbed/addition-s1",
        train=800,
    )
    study = Study.model_validate(study_tree(remedy, about))
    runs = plan(study, tmp_path)
    assert len(runs) == len(study.arms) * 4
    assert study.arms[study.primary.arm]["method"].removesuffix("_mean") in (remedy, "w2s_stage1")
    assert study.primary.arm != study.baseline
    assert make_recipe(runs[0].recipe.resolved()) == runs[0].recipe
    assert "easier problems first" not in studies()


def test_a_small_file_gets_rounds_that_it_is_large_enough_for():
    few, enough = (subject("testbed/chain-s0", train=train) for train in (40, 100))
    settings = study_tree("temporal", enough)["arms"]["self_rewarding"]["self_rewarding"]
    assert settings["prompts"] * settings["iterations"] <= 100
    assert "too few" in too_little("temporal", few)
    assert too_little("temporal", enough) is None
