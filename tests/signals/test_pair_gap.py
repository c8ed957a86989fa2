"""Pairs from hand-made numbers: when they have converged, and when `temporal` is borne out."""

import math

import numpy as np
import pytest

from rekindle.errors import DataError
from rekindle.files import write_jsonl
from rekindle.signals.pair_signal import pair_finding
from rekindle.signals.run_rounds import JudgedRound, auc_of
from rekindle.tasks.pairs import pairs_of_file
from signals.lookups import refused, row

NOTHING = np.array([])


def of_texts(similarity, gap=None, **more):
    similarity = np.asarray(similarity, dtype=float)
    gap = np.random.default_rng(0).normal(size=len(similarity)) if gap is None else gap
    return pair_finding(similarity, similarity, gap, **more)


def rounds(*gaps, auc=0.7, prompts=200, kept=True):
    spread = np.linspace(-0.2, 0.2, 40)
    return [
        JudgedRound(
            gap=gap,
            auc=auc,
            right=0.5,
            gaps=list(gap + spread) if kept else (),
            prompts=prompts,
        )
        for gap in gaps
    ]


def of_rounds(*gaps, **more):
    return pair_finding(NOTHING, NOTHING, NOTHING, rounds=rounds(*gaps, **more))


def test_pairs_that_share_their_text_have_converged():
    close = 0.93 + 0.05 * np.random.default_rng(0).random(30)
    found = of_texts(close)
    assert (found.state, found.health) == ("converged", "out")
    assert any(what.startswith("dpo") for what in refused(found))
    assert of_texts(close - 0.3).state == "open"
    assert of_texts(np.where(np.arange(30) % 2, 1.0, 0.81)).state == "unsettled"
    assert of_texts(close[:1]).state == "unsettled"  # one pair


@pytest.mark.parametrize("n", [8, 20, 34])
def test_few_pairs_that_are_all_alike_have_converged(n):
    """Wilson's lower bound for 8 of 8 is 0.68: no need to see 35."""
    assert of_texts(np.ones(n)).state == "converged"
    nearly = np.where(np.arange(n) % 5 == 0, 0.95, 1.0)
    assert of_texts(nearly).state == "converged"


def test_identical_pairs_count():
    """180 of 200 identical; the ones that are left are far apart, and training sees these alone."""
    alike = np.where(np.arange(64) % 10, 1.0, 0.0)
    found = of_texts(alike, np.where(alike == 1, 0.0, 40.0), same_M=np.arange(200) % 10 > 0)
    assert (found.state, found.remedy.what) == ("converged", "temporal")
    same = row(found, "identical")
    assert (same.value, same.n) == (0.9, 200)
    assert 0.85 < same.ci_low < 0.9 < same.ci_high < 0.94
    assert "training leaves those out" in found.verdict


def test_equal_sides_are_kept_to_be_looked_at(tmp_path):
    same = {"prompt": "1+1=", "chosen": "2", "rejected": "2"}
    write_jsonl(tmp_path / "p.jsonl", [same] * 3)
    assert len(pairs_of_file(tmp_path / "p.jsonl", keep_equal=True)) == 3
    write_jsonl(tmp_path / "p.jsonl", [same, {**same, "chosen": " "}])
    with pytest.warns(UserWarning, match="1: chosen is empty"):
        assert len(pairs_of_file(tmp_path / "p.jsonl", keep_equal=True)) == 1
    write_jsonl(tmp_path / "p.jsonl", [{**same, "id": "a"}] * 2)
    with pytest.raises(DataError, match="an id twice"):
        pairs_of_file(tmp_path / "p.jsonl", keep_equal=True)


def test_texts_alone_say_what_is_not_known_of_their_judge():
    found = of_texts(np.full(64, 0.97))
    assert (found.state, found.remedy.what) == ("converged", "temporal")
    assert "nothing is known" in found.remedy.why
    assert "--run" in found.remedy.why
    open_gap = of_texts(np.full(64, 0.97), rounds=rounds(2.0, 1.9))
    assert (open_gap.state, open_gap.remedy) == ("converged", None)
    assert "not borne out" in refused(open_gap)["temporal"]
    closed = of_texts(np.full(64, 0.97), rounds=rounds(2.0, 0.4))
    assert closed.remedy.what == "temporal"
    assert "--run" not in closed.remedy.why


def test_texts_that_are_alike_may_be_told_apart():
    """Right and wrong solutions that differ in the last digit, eight nats apart."""
    told = 8 + np.random.default_rng(0).normal(size=64)
    found = of_texts(np.full(64, 0.97), told)
    assert (found.state, found.health, found.remedy) == ("converged", "out", None)
    assert set(refused(found)) == {"temporal"}  # nothing speaks against training on these
    assert "the model tells the two sides apart" in refused(found)["temporal"]
    assert "chosen is more likely by 8" in found.verdict
    assert "does not say that there is nothing left to learn" in found.verdict
    open_ = of_texts(np.full(64, 0.97), told, rounds=rounds(2.0, 1.9))
    assert "not borne out: gap 2 " in refused(open_)["temporal"]
    closed = of_texts(np.full(64, 0.97), told, rounds=rounds(2.0, 0.4))
    assert closed.remedy.what == "temporal"  # what the run's judge said of its pairs decides
    assert of_texts(np.full(64, 0.97), told - 7.5).remedy.what == "temporal"


def test_sides_that_may_be_swapped_are_said_to_be_less_likely():
    """The rejected side is surely likelier, by 5.8 nats: no negative number of 'more likely'."""
    found = of_texts(np.full(64, 0.97), -5.8 + 0.1 * np.random.default_rng(0).normal(size=64))
    assert (found.state, found.health, found.remedy) == ("inverted", "out", None)
    assert "chosen is less likely by 5.79 [5.77, 5.82] nats" in found.verdict
    assert "more likely" not in found.verdict
    assert "labels are swapped" in found.verdict
    assert "look at the pairs" in found.verdict
    assert set(refused(found)) == {"temporal", "dpo, before you have looked at the pairs"}
    assert not any("more likely" in why or "-5.8" in why for why in refused(found).values())


def test_the_rounds_of_a_run_say_whether_the_gap_closed():
    closed = of_rounds(2.0, 1.5, 0.9)
    assert (closed.state, row(closed, "run/gap_last").value) == ("converged", pytest.approx(0.9))
    assert row(closed, "run/gap_last").ci_low > 0.8
    assert of_rounds(2.0, 1.9).state == "open"
    assert closed.remedy is not None
    blind = of_rounds(2.0, 0.9, auc=0.5)
    assert (blind.state, blind.remedy) == ("converged", None)
    assert "temporal" in refused(blind)
    noise = of_rounds(2.0, 1.9, auc=0.5)
    assert (noise.state, noise.health) == ("noise", "between")
    one = of_rounds(2.0)
    assert (one.state, one.remedy) == ("unsettled", None)
    found = of_rounds(2.0, 0.4, auc=0.9, kept=False)
    assert (found.state, found.remedy) == ("unsettled", None)
    assert "no interval" in found.verdict
    unseen = of_rounds(2.0, 0.4, auc=None)
    assert (unseen.state, unseen.remedy) == ("converged", None)
    assert "temporal" in refused(unseen)


def test_what_is_left_of_a_gap_is_that_of_the_rounds_that_are_named():
    """The last round's pairs are gone: the second round's are no stand-in for them."""
    first, second, last = rounds(2.1, 0.2, 1.9)
    kept = [first, second, last._replace(gaps=())]
    found = pair_finding(NOTHING, NOTHING, NOTHING, rounds=kept)
    assert (found.state, found.remedy) == ("unsettled", None)
    assert "0.2" not in found.verdict


def test_an_auc_has_the_interval_of_its_prompts():
    """Hanley and McNeil for 100 right and 100 wrong at 0.7: standard error 0.0367."""
    found = auc_of(0.7, 0.5, 200)
    assert (found.ci_high - found.ci_low) / (2 * 1.96) == pytest.approx(0.0367, abs=5e-4)
    assert math.isnan(auc_of(0.7, None, 200).ci_low)
    few = of_rounds(2.0, 0.4, prompts=16)
    assert (few.state, few.remedy) == ("converged", None)
    assert "may be noise" in refused(few)["temporal"]
    bare = of_rounds(2.0, 0.4, prompts=None)
    assert "one number, no interval" in row(bare, "run/judge_auc_last").meaning
    assert "one number, no interval" in bare.verdict


@pytest.mark.parametrize("gaps", [(0, 0), (0.0, 0.5), (-0.1, -0.06), (-0.1, -0.3)])
def test_a_gap_that_was_never_there_has_not_closed(gaps):
    found = of_rounds(*gaps, auc=0.9, kept=False)
    assert (found.state, found.health, found.remedy) == ("no-gap", "out", None)
