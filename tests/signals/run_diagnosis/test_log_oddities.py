"""Logs with nothing in them, or nothing that can be compared: told, and never an error."""

import importlib

import numpy as np
import pytest

from signals.run_diagnosis.planted import make_log

SUBJECTS = ("spread", "rewards", "texts", "drift", "confidence", "estimators")
NAN, HUGE = np.full(8, np.nan), 1e300
GROUP = np.repeat([0, 1], 4)
FULL = {
    "advantage": np.arange(8),
    "tokens": np.arange(8),
    "logprob": -np.arange(8.0),
    "sampler_logprob": -np.arange(8.0),
    "cut": [0, 1] * 4,
    "step": np.arange(8),
}
MIXED = np.array([0.0, 1] * 4)
LOGS = {
    "no data": make_log(MIXED, GROUP, repeated_N=[1] * 8, parts={"a": MIXED}, **FULL),
    "no score": make_log(NAN, GROUP, parts={"a": NAN}, **FULL),
    "equal scores": make_log(np.ones(8), GROUP, parts={"a": np.ones(8)}, **FULL),
    "groups of one": make_log(MIXED, range(8), parts={"a": MIXED}, **FULL),
    "one prompt": make_log(
        MIXED, GROUP, prompt=[0] * 8, parts={"a": MIXED, "b": 1 - MIXED}, **FULL
    ),
    "infinite": make_log([np.inf, -np.inf] * 4, GROUP, parts={"a": [np.inf] * 8}, **FULL),
    "huge": make_log(HUGE * MIXED, GROUP, parts={"a": HUGE * MIXED, "b": -HUGE * MIXED}, **FULL),
    "a huge part": make_log(MIXED, GROUP, parts={"a": HUGE * MIXED, "b": MIXED}, **FULL),
    "tiny": make_log(1e-300 * MIXED, GROUP, parts={"a": 1e-300 * MIXED, "b": MIXED}, **FULL),
    "nothing but scores": make_log(MIXED, GROUP, texts=[""] * 8),
    "no rows": make_log([], [], prompt=np.zeros(0, dtype=int), golds=[], texts=[], parts={"a": []}),
}
VERDICTS = {"known": MIXED, "unknown": NAN, "all wrong": np.zeros(8)}


@pytest.mark.parametrize("subject", SUBJECTS)
@pytest.mark.parametrize("name", LOGS)
@pytest.mark.parametrize("verdict", VERDICTS)
def test_odd_logs_are_told_and_raise_nothing(subject, name, verdict):
    log = LOGS[name]
    module = importlib.import_module(f"rekindle.signals.run_diagnosis.{subject}")
    findings = vars(module)[f"{subject}_findings"](log, VERDICTS[verdict][: len(log)])
    for found in findings:
        assert found.says
        assert found.rests_on
        if not np.isnan(found.ci_low):
            assert found.ci_low <= found.value <= found.ci_high
