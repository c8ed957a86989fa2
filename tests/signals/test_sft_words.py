"""What is said of SFT's signal follows from its intervals, and so does what is said of the mix."""

import pytest

from rekindle.signals.findings import Finding, Measurement
from rekindle.signals.sft_signal import has_signal, judge

BESIDE = ("reactivated", "amplified")


def judged(mass, ratio=None):
    rows = {
        name: Measurement(name, value, value, value, 50, "")
        for name, value in (("tokens/above_099", 0.7), ("nll", 0.1), ("nll/held_out", 0.1))
    }
    rows["chain_prob/held_out"] = Measurement("", 0.5, 0.4, 0.6, 50, "")
    rows["mass/non_target"] = Measurement("mass/non_target", *mass, 50, "")
    if ratio is not None:
        rows["mix/ratio"] = Measurement("", *ratio, 50, "")
        rows |= {f"mix/{name}": Measurement("", 0.2, 0.1, 0.3, 50, "") for name in BESIDE}
    return judge(rows)


@pytest.mark.parametrize("mass", [(0.106, 0.0359, 0.915), (0.04, 0.03, 0.06), (0.05, 0.01, 0.051)])
def test_an_interval_on_both_sides_of_plenty_is_not_called_little(mass):
    state, words = judged(mass)
    assert state == "unsettled"
    assert "whether little or plenty is not settled" in words
    assert "above 0.05 is plenty" in words
    assert "SFT has little signal" not in words
    row = Measurement("mass/non_target", *mass, 50, "")
    assert has_signal(Finding("sft", state, "between", words, [row]))


def test_little_is_said_where_the_interval_says_it():
    assert judged((0.03, 0.02, 0.05))[1].startswith("SFT has little signal left: ")
    state, words = judged((0.02, 0.005, 0.03))
    assert (state, "little signal left, if any" in words) == ("fading", True)


@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        ((3.0, 2.0, 4.0), "That it is larger does not say that it helps"),
        ((0.5, 0.4, 0.7), "It is smaller"),
        ((0.5, 0.419, float("inf")), "larger or smaller than SFT's is not settled"),
        ((2.0, float("nan"), float("nan")), "larger or smaller than SFT's is not settled"),
    ],
)
def test_what_is_said_of_the_mix_depends_on_its_ratio(ratio, said):
    words = judged((0.1, 0.08, 0.12), ratio)[1]
    openings = ("That it is larger", "It is smaller", "larger or smaller")
    assert [opening for opening in openings if opening in words] == [
        opening for opening in openings if opening in said
    ]
    assert said in words
