"""Signals from hand-made numbers: the state, the remedy, and that neither goes beyond them."""

import json
import math

import numpy as np
import pytest

from rekindle.errors import DataError
from rekindle.files import write_jsonl
from rekindle.methods.recipe import make_recipe
from rekindle.signals.agreement import agreement_finding
from rekindle.signals.baseline import read_baseline
from rekindle.signals.groups import group_finding
from rekindle.signals.pair_gap import pair_finding
from rekindle.signals.remedies import Place, study_tree, writable
from rekindle.signals.reward import reward_finding
from rekindle.signals.saturation import Row, Saturation, sft_finding
from rekindle.signals.table import Advice, Finding, closing
from rekindle.signals.verifier import verifier_finding
from rekindle.study.design import Study, plan

NAN = math.nan


def row(found, name):
    return next(r for r in found.rows if r.name == name)


def refused(found):
    return {advice.what for advice in found.against}


# --- groups


def table(counts, samples=4):
    """One row a problem, with that many right answers."""
    return np.array([[1.0] * c + [0.0] * (samples - c) for c in counts])


def test_mixed_groups_are_healthy_and_the_expected_shares_are_powers_of_the_accuracy():
    found = group_finding(table([2] * 20))
    assert (found.state, found.health, found.remedy) == ("healthy", "well", None)
    assert row(found, "mixed").value == 1
    assert row(found, "all_wrong/expected").value == 0.5**4
    assert row(found, "all_right/expected").value == 0.5**4
    # C(2, 2) / C(4, 2): both of a group of two are among the two wrong ones
    assert row(found, "all_wrong/of_2").value == pytest.approx(1 / 6)
    assert row(found, "all_wrong/of_4").value == 0


def test_all_wrong_groups_with_some_right_answers_fit_lens():
    found = group_finding(table([0] * 32 + [1] * 8))
    assert (found.state, found.health) == ("all-wrong", "out")
    assert found.remedy is not None
    assert found.remedy.what == "lens"
    assert "KL" in found.remedy.why
    assert refused(found) == set()  # a fifth is mixed: nothing speaks against taking only these


def test_without_a_single_right_answer_lens_does_not_fit():
    found = group_finding(table([0] * 60))
    assert found.remedy is not None
    assert found.remedy.what == "easier problems first"
    assert refused(found) == {"lens", "grpo_dynamic, or more steps"}
    assert group_finding(table([0] * 60), sft="alive").remedy.what == "sft"
    assert group_finding(table([0] * 60), sft="saturated").remedy.what == "easier problems first"


def test_where_the_verifier_is_brittle_nothing_is_recommended_for_groups():
    found = group_finding(table([0] * 32 + [1] * 8), verifier="brittle", true_PK=table([2] * 40))
    assert found.remedy is None
    assert "lens" in refused(found)
    assert row(found, "mixed/true").value == 1


def test_all_right_groups_want_harder_problems():
    found = group_finding(table([4] * 20))
    assert (found.state, found.remedy.what) == ("all-right", "harder problems")


def test_few_problems_are_thin_whatever_they_say():
    assert group_finding(table([2])).state == "thin"
    assert group_finding(table([0])).state == "thin"
    assert group_finding(table([0, 0])).remedy is None


def test_missing_scores_are_no_wrong_answers():
    lost = np.full((10, 4), NAN)
    found = group_finding(np.concatenate([table([2] * 20), lost]))
    assert found.state == "healthy"
    assert row(found, "mixed").n == 20
    assert row(found, "incomplete").value == 10
    partly = table([0] * 30)
    partly[:, 0] = NAN  # three wrong answers of four are no all-wrong group
    assert row(group_finding(partly), "all_wrong").n == 0
    found = group_finding(lost)
    assert (found.state, found.health, found.remedy) == ("unknown", "between", None)


def test_shares_are_given_for_each_level():
    found = group_finding(table([0] * 10 + [2] * 10), levels=["3"] * 10 + ["4"] * 10)
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
    short = reward_finding(gen.normal(size=12).tolist(), true[:12], true[:12], ids[:12])
    assert row(short, "auc").ci_high > 0.7
    assert "more --problems" in short.verdict
    reversed_ = reward_finding([-t for t in true], true, true, ids)
    assert reversed_.state == "useless"
    assert reward_finding([NAN] * len(ids), true, true, ids).state == "unclear"
    assert reward_finding(true[:2], true[:2], true[:2], ids[:2]).state == "unclear"  # one problem
    assert row(reward_finding([NAN, *true[1:]], true, true, ids), "unscored").value == 1


# --- pairs and agreement


def test_pairs_that_share_their_text_have_converged():
    gen = np.random.default_rng(0)
    close = 0.93 + 0.05 * gen.random(30)
    found = pair_finding(close, close, gen.normal(size=30))
    assert (found.state, found.remedy.what) == ("converged", "temporal")
    assert any(what.startswith("dpo") for what in refused(found))
    assert pair_finding(close - 0.3, close, close).state == "open"
    spread = np.where(np.arange(30) % 2, 1.0, 0.81)
    assert pair_finding(spread, spread, spread).state == "unsettled"
    assert pair_finding(close[:1], close[:1], close[:1]).remedy is None  # one pair


def test_the_rounds_of_a_run_say_whether_the_gap_closed():
    def rounds(*gaps, auc=0.7):
        return [{"pairs/gap": gap, "judge/auc": auc} for gap in gaps]

    nothing = np.array([])
    closed = pair_finding(nothing, nothing, nothing, rounds=rounds(2.0, 1.5, 0.9))
    assert (closed.state, row(closed, "run/gap_last").value) == ("converged", 0.9)
    assert pair_finding(nothing, nothing, nothing, rounds=rounds(2.0, 1.9)).state == "open"
    assert closed.remedy is not None
    blind = pair_finding(nothing, nothing, nothing, rounds=rounds(2.0, 0.9, auc=0.5))
    assert (blind.state, blind.remedy) == ("converged", None)
    assert "temporal" in refused(blind)
    noise = pair_finding(nothing, nothing, nothing, rounds=rounds(2.0, 1.9, auc=0.5))
    assert (noise.state, noise.health) == ("noise", "between")
    one = pair_finding(nothing, nothing, nothing, rounds=rounds(2.0))
    assert (one.state, one.remedy) == ("unsettled", None)


def test_agreement_that_picks_better_labels_fits_weak_to_strong():
    same = np.arange(200) % 2 == 0
    weak = np.where(same, 1.0, 0.0)
    own = np.where(np.arange(200) % 3 == 0, 1.0, 0.0)
    found = agreement_finding(same, weak_P=weak, own_P=own)
    assert (found.state, found.remedy.what) == ("filters", "weak_to_strong")
    assert "assumed not to exist" in found.remedy.why
    assert row(found, "right/gain").value == 0.5


@pytest.mark.parametrize(
    ("agree", "weak", "own", "state"),
    [
        (20, 1.0, 0.0, "few"),  # fewer than 32 agree
        (200, 1.0, 0.0, "no-gain"),  # all agree: nothing is filtered
        (100, 0.5, 1.0, "nothing-to-learn"),  # the model is right already
        (0, 1.0, 0.0, "few"),
    ],
)
def test_weak_to_strong_is_refused(agree, weak, own, state):
    same = np.arange(200) < agree
    right = np.where(same, 1.0, 0.0) if weak == 0.5 else np.full(200, weak)
    found = agreement_finding(same, weak_P=right, own_P=np.full(200, own))
    assert (found.state, found.remedy) == (state, None)
    assert refused(found) == {"weak_to_strong"}


def test_weak_answers_without_a_verdict_stay_out():
    same = np.arange(100) < 50
    weak = np.where(same, 1.0, NAN)
    found = agreement_finding(same, weak_P=weak, own_P=weak)
    assert row(found, "right/weak").n == 50
    assert row(found, "right/gain").value == 0


# --- saturation's remedy


def saturated(known=0.5, **mixed):
    def exact(name, value):
        return Row(name, value, value, value, 50, "")

    rows = [exact("mass/non_target", 0.001), exact("chain_prob/held_out", known)]
    rows += [exact(f"mix/{name}", value) for name, value in mixed.items()]
    return sft_finding(Saturation(rows, "saturated", "."))


def test_wmss_fits_only_what_mixing_was_measured_to_bring_back():
    assert saturated(gradient=0.02, reactivated=0.9).remedy.what == "wmss"
    assert saturated(gradient=0.0015, reactivated=0.9).remedy is None
    assert saturated(gradient=0.02, reactivated=0.1).remedy is None
    assert "wmss" in refused(saturated())  # no weak model
    assert "wmss" in refused(saturated(known=0.99, gradient=0.02, reactivated=0.9))


def test_a_signal_that_is_alive_has_no_remedy():
    found = sft_finding(Saturation([], "alive", "."))
    assert (found.health, found.remedy, found.against) == ("well", None, ())


# --- what is said at the end, and written


def test_closing_lines():
    well = Finding("groups", "healthy", "well", ".", [])
    assert closing([well]) == ["No signal is missing: nothing to change."]
    between = Finding("sft", "fading", "between", ".", [])
    assert "In between: sft (fading)" in closing([well, between])[0]
    out = Finding("reward", "useless", "out", ".", [], None, (Advice("hero", "noise"),))
    assert closing([well, out]) == [
        "missing: reward (useless)",
        "fits: nothing that these numbers support.",
        "does not fit: hero (reward): noise",
    ]
    json.dumps(out.as_dict())


@pytest.mark.parametrize("remedy", ["lens", "sft", "hero", "wmss", "temporal", "weak_to_strong"])
@pytest.mark.parametrize("parameters", [10**5, 10**9])
def test_every_remedy_has_a_study_whose_arms_are_recipes(remedy, parameters, tmp_path):
    place = Place(
        "testbed/addition-s0",
        parameters,
        {"task": {"name": "addition", "levels": ["4"]}},
        {"model": "rm"},
        "testbed/addition-s1",
        50,
    )
    study = Study.model_validate(study_tree(remedy, place))
    runs = plan(study, tmp_path)
    assert len(runs) == len(study.arms) * 4
    assert study.arms[study.primary.arm]["method"].removesuffix("_mean") in (remedy, "w2s_stage1")
    assert study.primary.arm != study.baseline
    assert make_recipe(runs[0].recipe.resolved()) == runs[0].recipe
    assert not writable("easier problems first")


# --- a baseline run


def test_a_run_gives_its_rounds_and_group_shares(tmp_path):
    with pytest.raises(DataError, match="is not a run"):
        read_baseline(tmp_path)
    steps = [{"step": i, "groups/all_wrong": i / 20, "groups/mixed": None} for i in range(20)]
    write_jsonl(tmp_path / "metrics.jsonl", steps)
    found = read_baseline(tmp_path)
    assert {r.name: r.value for r in found.groups} == {
        "run/all_wrong_first": 0.025,
        "run/all_wrong_last": 0.925,
    }
    (tmp_path / "stages").mkdir()
    write_jsonl(tmp_path / "stages" / "rounds.jsonl", [{"round": 1, "pairs/gap": 2.0}])
    assert read_baseline(tmp_path).rounds == [{"round": 1, "pairs/gap": 2.0}]
    write_jsonl(tmp_path / "metrics.jsonl", [{"step": 1, "loss": 1.0}])
    (tmp_path / "stages" / "rounds.jsonl").unlink()
    with pytest.raises(DataError, match="says nothing of groups or pairs"):
        read_baseline(tmp_path)
