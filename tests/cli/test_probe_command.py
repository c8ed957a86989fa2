"""`rekindle probe` as a user meets it."""

import json
from pathlib import Path

import pytest

REWARDS = Path(__file__).parents[1] / "rewards" / "users_rewards.py"


def test_a_clean_verifier_exits_0_and_says_so(rekindle):
    code, out, err = rekindle("probe", "numeric")
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == "reward     numeric"
    assert "clean: it accepts 0 of " in out.splitlines()[-1]
    assert "worked out, equal to the gold" in out


def test_a_faulty_reward_exits_1_and_shows_the_row(rekindle):
    code, out, _ = rekindle("probe", f"{REWARDS}:substring", "--answers", "numeric")
    assert code == 1
    assert "signature  plain: substring(response=text, ground_truth=gold)" in out
    assert "    gold 42, score 1: The answer is not 42." in out.splitlines()
    assert out.splitlines()[-1].startswith("not clean: it accepts ")


def test_json_holds_what_the_table_says(rekindle):
    words = ("probe", f"{REWARDS}:last_number", "--answers", "numeric", "--json")
    code, out, _ = rekindle(*words)
    found = json.loads(out)
    assert code == 1
    assert {"reward", "signature", "n", "false_accepts", "lost", "kinds", "blind", "echoes"} <= (
        found.keys()
    )
    assert found["n"] == sum(kind["n"] for kind in found["kinds"])
    assert found["lost"] == sum(kind["lost"] for kind in found["kinds"])
    for kind in found["kinds"]:
        assert set(kind) == {"kind", "n", "false_accepts", "lost", "example"}
        assert (kind["example"] is None) == (kind["false_accepts"] + kind["lost"] == 0)


def test_a_blind_reward_exits_1(rekindle):
    code, out, _ = rekindle("probe", f"{REWARDS}:length")
    assert code == 1
    assert "blind: it scores plainly right and plainly wrong answers alike" in out


def test_columns_are_named_by_options(rekindle):
    place = f"{REWARDS}:odd_gold"
    words = ("--gold-column", "wanted", "--limit", 40)
    code, out, _ = rekindle("probe", place, *words)
    assert code == 1
    assert "wanted=[gold]" in out
    assert "roles assumed" not in out


@pytest.mark.parametrize("words", [("numeric", "--thought-open"), ("exact", "--answers", "exact")])
def test_options_of_ours(rekindle, words):
    assert rekindle("probe", *words, "--limit", 200)[0] == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("nowhere:f",), "no module named 'nowhere'"),
        ((f"{REWARDS}:raises",), "fails on plain answers"),
        (("numeric", "--answers", "words"), "--answers is unknown"),
    ],
)
def test_what_cannot_be_probed_exits_2(rekindle, words, says):
    code, out, err = rekindle("probe", *words)
    assert (code, out) == (2, "")
    assert says in err
