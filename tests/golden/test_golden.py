"""Numbers and pages are what they were when the golden set was recorded (see tests/README.md).

Without a mark: a part that the default suite runs. With the mark `golden`: the rest.
"""

import json
from functools import cache

import compare
import pytest
import record

QUICK = {
    "methods": {
        *("sft", "grpo", "lens", "hero_mean", "gated", "nsr", "ngrpo", "rl_zvp", "wmss", "dpo"),
        *("orpo", "temporal", "weak_to_strong", "wmss_mixing_only", "grpo+kl+minibatches"),
    },
    "explain": {"explain"},
    "grade": {"grade"},
    "eval": {"addition-s1"},
    "studies": {"hero", "wmss", "hero_parts"},
    "pages": {"run"},
}
PARTS = {name: found for name, found in record.parts().items() if name != "environment"}


@cache
def stored(section):
    return json.loads((record.HERE / f"{section}.json").read_text())


def every(section):
    slow = set(PARTS[section]) - QUICK.get(section, set())
    names = PARTS[section]
    return [pytest.param(n, marks=[pytest.mark.golden] if n in slow else []) for n in names]


@pytest.fixture
def compared(record_property):
    """How numbers are compared here; it stands in the test's properties and captured output."""
    words = compare.how_compared(stored("environment")["environment"], record.environment())
    record_property("golden_compared", words)
    print(f"golden set: numbers are compared {words}")
    return words


def check(section, name, compared, differing=compare.differences):
    exact = compared == "bitwise"
    if name.endswith("+float32") and not exact:
        pytest.skip(f"fp32 is comparable where it was recorded only; here {compared}")
    found = record.recorded(PARTS[section][name])
    differ = list(differing(stored(section)[name], found, exact=exact))
    assert not differ, "\n" + compare.told(section, name, differ, compared)


@pytest.mark.parametrize("section", PARTS)
def test_the_set_covers_what_there_is(section):
    assert stored(section).keys() == PARTS[section].keys(), compare.WHEN_TO_RENEW


@pytest.mark.parametrize("name", every("methods"))
def test_a_method_trains_to_the_same_weights(name, compared):
    check("methods", name, compared)


@pytest.mark.parametrize("name", every("reward"))
def test_a_reward_model_trains_to_the_same_weights(name, compared):
    check("reward", name, compared)


@pytest.mark.parametrize("name", every("explain"))
def test_explain_says_the_same(name, compared):
    check("explain", name, compared)


@pytest.mark.parametrize("name", every("grade"))
def test_verifiers_judge_the_same(name, compared):
    check("grade", name, compared)


@pytest.mark.parametrize("name", every("eval"))
def test_evaluations_are_the_same(name, compared):
    check("eval", name, compared)


@pytest.mark.parametrize("name", every("studies"))
def test_a_committed_study_says_the_same(name, compared):
    check("studies", name, compared)


@pytest.mark.parametrize("name", every("pages"))
def test_a_page_reads_the_same(name, compared):
    exact = name == "study"  # nothing is computed for it but its tables
    check("pages", name, "bitwise" if exact else compared, compare.differing_pieces)
