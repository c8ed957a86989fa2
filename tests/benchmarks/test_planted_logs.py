"""Simulated logs, as trainers write them: the cause that was planted is named, and none in vain.

The whole table is `results/false_alarms.json`, by `benchmarks/planted_logs.py`.
"""

import json
from pathlib import Path

import pytest

from rekindle.signals.run_diagnosis import diagnose_log

ROOT = Path(__file__).parents[2]
CAUSES = (
    "too_hard", "too_easy", "tied", "truncation", "format_spread", "blind_reward", "false_accepts",
    "false_rejects", "advantage_mismatch", "filtered", "repeated_rows", "evaluation_rows",
)  # fmt: skip
KINDS = 10


@pytest.fixture
def planted(monkeypatch):
    """The benchmark, with small logs, and without what methods would have put on the rows."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import _log_runs
    import planted_logs

    monkeypatch.setattr(_log_runs, "ROWS", 3_000)
    monkeypatch.setattr(diagnose_log, "_credits", lambda *_: ([], {}))
    return planted_logs


@pytest.mark.parametrize("cause", CAUSES)
def test_the_planted_cause_is_named(planted, cause):
    for seed in range(3):
        case, found = planted.named(planted.WAYS[cause][seed], seed)
        assert found == cause, case.way


@pytest.mark.parametrize("kind", range(KINDS))
def test_a_healthy_log_has_no_cause(planted, kind):
    case, found = planted.named(planted.WELL[kind], 10_000 + kind)
    assert found is None, case.way


def test_the_stored_rates_are_what_is_promised(planted):
    """95 % of planted causes are named rightly, and at most 5 % of healthy logs a cause."""
    facts = json.loads((ROOT / "results" / "false_alarms.json").read_text())
    assert set(facts["planted"]) == set(planted.WAYS) == set(CAUSES)
    assert all(one["share"] >= 0.95 for one in facts["planted"].values())
    assert (facts["healthy"]["logs"], len(planted.WELL)) == (200, KINDS)
    assert facts["healthy"]["share"] <= 0.05
    assert set(facts["edge_of_null"]) == set(planted.EDGES)
    assert all(one["rate"] <= 0.07 for one in facts["edge_of_null"].values())
