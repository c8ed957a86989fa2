"""The probe in `diagnose`: rows in the verifier's finding, and a finding of a reward in Python."""

import time

import pytest

from rekindle.rewards.python_reward import PythonReward
from rekindle.signals.diagnose import diagnose
from rekindle.signals.findings import Finding
from rekindle.signals.verifier_probe import PROBED, probe_task, with_probe
from rekindle.tasks import load_task
from rekindle.tasks.own import Rewarded, own_task

ROWS = [{"prompt": f"{i}+34=", "answer": f"{34 + i}.0", "solution": str(34 + i)} for i in range(30)]
SPLITS = {"train": ROWS[:20], "dev": ROWS[20:]}


def substring(problems, texts):
    return [float(p.answer in text) for p, text in zip(problems, texts, strict=True)]


def about_length(problems, texts):
    return [1.0 / (1 + len(text)) for text in texts]


def numbers_alone(problems, texts):
    return [float(float(p.answer) == float(t)) for p, t in zip(problems, texts, strict=True)]


def boxed(problems, texts):
    return [float(f"\\boxed{{{p.answer}}}" in t) for p, t in zip(problems, texts, strict=True)]


def rewarded(function):
    return Rewarded(own_task(ROWS), PythonReward.of(function))


@pytest.mark.parametrize("verifier", ["numeric", "exact"])
def test_verifiers_of_ours_err_on_none_and_take_little_time(verifier):
    began = time.monotonic()
    probed = probe_task(own_task(ROWS, verifier=verifier))
    assert time.monotonic() - began < 2
    assert (probed.false_accepts.value, probed.lost.value) == (0, 0)
    assert 0.9 * PROBED < probed.false_accepts.n + probed.lost.n <= PROBED
    assert (probed.finding().state, probed.finding().health) == ("probed", "well")


def test_a_reward_that_pays_for_mentions_is_found_out():
    probed = probe_task(rewarded(substring))
    assert probed.false_accepts.ci_low > 0.05
    assert (probed.finding().state, probed.finding().health) == ("accepts-wrong", "out")
    assert "`rekindle probe` shows which" in probed.finding().verdict


def test_a_reward_that_reads_one_form_loses_the_others():
    """Texts that are no number raise, which is no acceptance."""
    probed = probe_task(rewarded(numbers_alone))
    assert probed.false_accepts.value == 0
    assert (probed.finding().state, probed.lost.ci_low > 0.5) == ("loses-right", True)


@pytest.mark.parametrize("function", [about_length, lambda problems, texts: [None] * len(texts)])
def test_of_a_reward_about_something_else_nothing_is_said(function):
    assert probe_task(rewarded(function)) is None


def test_checks_of_generated_tasks_and_programs_are_not_probed():
    assert probe_task(load_task(name="addition")) is None


def test_the_rows_join_the_finding_that_there_is():
    probed = probe_task(own_task(ROWS))
    sound = Finding("verifier", "exact", "well", "The verifier is sound.", [])
    groups = Finding("groups", "healthy", "well", "", [])
    [first, second] = with_probe([groups, sound], probed)
    assert (first, second.state) == (groups, "exact")
    assert [row.name for row in second.rows] == ["probe/false_accepts", "probe/lost"]
    assert with_probe([groups, sound], None) == [groups, sound]
    assert [f.signal for f in with_probe([groups], probed)] == ["groups", "verifier"]


def test_diagnose_shows_both_rows_beside_recall_and_precision():
    small = {"problems": 4, "samples": 2, "signals": ["verifier"], "check": "numeric"}
    task = own_task(SPLITS, verifier="exact")
    [finding] = diagnose("testbed/addition-s0", task, **small).findings
    names = [row.name for row in finding.rows]
    assert names == ["recall", "precision", "probe/false_accepts", "probe/lost"]


def test_diagnose_has_a_finding_of_a_reward_in_python():
    small = {"problems": 4, "samples": 2}
    found = diagnose("testbed/addition-s0", rewarded(boxed), **small)
    finding = next(f for f in found.findings if f.signal == "verifier")
    assert [row.name for row in finding.rows] == ["probe/false_accepts", "probe/lost"]
    assert "verifier" not in found.not_measured
