"""prime-rl's logs: records that verifiers 0.4.0's own classes wrote (`prime_rl/written_by.py`)."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from rekindle.signals.logs.collect import collect
from rekindle.signals.logs.formats import open_log
from rekindle.signals.run_diagnosis.diagnose_log import diagnose_log
from signals.run_diagnosis.planted import by_name

RUN = Path(__file__).parent / "prime_rl"


@pytest.fixture(scope="module")
def log():
    return collect(open_log(RUN))


def rows_of(log, prompt):
    number = log.prompts.index(prompt)
    return np.flatnonzero(log.prompt_N == number)


def test_the_version_is_named(log):
    assert (log.about.format, log.about.version) == ("prime_rl", "verifiers 0.4.0")


def test_the_total_is_the_weighted_sum(log):
    """`brevity` counts a tenth, and `seen`, of weight 0, is only logged."""
    rows = rows_of(log, "What is a?")
    assert log.score_N[rows].tolist() == pytest.approx([1.05, 0.05, 1.05, 0.05])
    assert log.parts["seen"][rows].tolist() == [5] * 4
    assert log.parts["correct"][rows].tolist() == [1, 0, 1, 0]


def test_a_group_that_came_in_at_two_steps_is_one(log):
    rows = rows_of(log, "What is a?")
    assert len(set(log.group_N[rows].tolist())) == 1
    assert log.step_N[rows].tolist() == [1, 1, 1, 2]


def test_groups_that_came_in_between_each_other_are_apart(log):
    assert len(set(log.group_N[rows_of(log, "What is b?")].tolist())) == 1
    assert len(rows_of(log, "What is b?")) == 4


def test_an_answer_that_failed_has_no_score(log):
    """A sandbox that was gone is no wrong answer, and what was scored before it no right one."""
    rows = rows_of(log, "What is c?")
    assert np.isnan(log.score_N[rows]).tolist() == [False, False, False, True]
    assert np.isnan(log.parts["correct"][rows]).tolist() == [False, False, False, True]


def test_an_episode_without_a_trace_is_no_row(log):
    assert len(rows_of(log, "What is c?")) == 4


def test_what_was_trained_on_is_what_is_effective(log):
    """A batch that is still collected says nothing."""
    assert log.trained_N[rows_of(log, "What is a?")].tolist() == [1] * 4
    assert log.trained_N[rows_of(log, "What is b?")].tolist() == [0] * 4
    assert log.trained_N[rows_of(log, "What is c?")].tolist() == [1, 1, 1, 0]
    assert np.isnan(log.trained_N[rows_of(log, "What is d?")]).all()


def test_advantages_come_from_the_effective_traces(log):
    assert log.advantage_N[rows_of(log, "What is a?")].tolist() == pytest.approx(
        [0.5, -0.5, 0.5, -0.5]
    )
    assert np.isnan(log.advantage_N[rows_of(log, "What is b?")]).all()


def test_traces_of_agents_that_are_not_trained_are_no_rows(log):
    (row,) = rows_of(log, "What is d?")
    assert log.texts[row] == "d answer"


def test_log_probs_are_the_samplers_and_rounded(log):
    """Two sure tokens were written as -0.0."""
    (row,) = rows_of(log, "What is d?")
    assert log.sampler_logprob_N[row] == 0
    assert np.isnan(log.logprob_N[row])
    assert any("rounded to four decimals" in note for note in log.about.notes)


def test_an_answer_at_the_limit_is_cut(log):
    assert log.cut_N[rows_of(log, "What is b?")].tolist() == [1, 0, 0, 0]


def test_evaluations_are_no_data(log):
    assert log.evaluation_N[rows_of(log, "Eval?")].tolist() == [True, True]
    assert log.evaluation_N.sum() == 2


def test_tokens_are_those_that_were_sampled(log):
    assert set(log.tokens_N.tolist()) == {2}


def test_groups_that_were_rejected_are_no_cause():
    """They are in the log, where they count as what they are."""
    diagnosis = diagnose_log(RUN)
    assert by_name(diagnosis.findings)["coverage/filtered"].value == pytest.approx(5 / 15)
    assert diagnosis.cause is None
    assert (diagnosis.steps_seen, diagnosis.steps_logged) == (3, 3)


def test_where_only_effective_is_left_it_is_read(tmp_path):
    shutil.copytree(RUN / "rollouts", tmp_path / "rollouts")
    for path in (tmp_path / "rollouts").glob("step_*/train/all"):
        shutil.rmtree(path)
    log = collect(open_log(tmp_path))
    assert log.data_N.sum() == 7


def test_the_files_are_named_once_by_either_directory():
    assert len(collect(open_log(RUN / "rollouts"))) == len(collect(open_log(RUN)))
