"""The table of committed studies that ships with the package is what the studies say."""

import json
from pathlib import Path

import pytest

from rekindle.errors import DataError
from rekindle.report.tour import evidence_line
from rekindle.study.evidence import STUDIES, gather, is_a_look, shipped

ROOT = Path(__file__).parents[2]


def study(place, name, delta, **settings):
    row = {"primary": True, "delta": delta, "method": "m", "baseline": "b", "metric": "pass@1"}
    row |= dict.fromkeys(("level", "split", "before", "after", "ci_low", "ci_high", "p_value"))
    row |= {
        "n_bases": 3,
        "n_seeds": 8,
        "n_pairs": 24,
        "n_problems": 9,
        "verdict": "helps",
        "why": "",
    }
    (place / name).mkdir(parents=True)
    (place / name / "study.json").write_text(
        json.dumps(
            {
                "comparisons": [{**row, "primary": False, "delta": 9.0}, row],
                "arms": {"m": {"settings": settings}, "b": {"settings": {}}},
            }
        )
    )


def test_the_shipped_table_is_that_of_the_committed_studies():
    """Else: python -m rekindle.study.evidence results/studies"""
    assert shipped() == gather(ROOT / "results" / "studies")


def test_a_confirmed_study_counts_before_the_first_look(tmp_path):
    for names in STUDIES.values():
        study(tmp_path, names[-1], delta=0.1)
    assert gather(tmp_path)["lens"]["study"] == "lens"
    study(tmp_path, "lens_confirm", delta=0.2)
    found = gather(tmp_path)
    assert (found["lens"]["study"], found["lens"]["delta"]) == ("lens_confirm", 0.2)
    assert (found["hero"]["study"], found["hero"]["delta"]) == ("hero", 0.1)


def test_a_reward_model_that_leaks_the_truth_is_told(tmp_path):
    for name, names in STUDIES.items():
        study(tmp_path, names[0], 0.1, **{"reward": {"source": "oracle"}} if name == "hero" else {})
    found = gather(tmp_path)
    assert found["hero"]["oracle"] is True
    assert "oracle" not in found["lens"]
    assert "m (oracle reward model) against b" in evidence_line(found["hero"])[0]
    assert "oracle" not in evidence_line(found["lens"])[0]


def test_what_a_verdict_leaves_out_stands_beside_it():
    """Temporal's gain is above 0 and below what was declared to matter."""
    assert evidence_line(shipped()["temporal"])[3] == (
        "helps (above 0, but smaller than what was declared to matter)"
    )
    assert evidence_line(shipped()["weak_to_strong"])[3] == "helps"


def test_a_study_that_is_missing_is_named(tmp_path):
    with pytest.raises(DataError, match=r"wmss_confirm/study.json or wmss/study.json"):
        gather(tmp_path)


def test_few_bases_or_seeds_are_a_look():
    assert not is_a_look({"n_bases": 3, "n_seeds": 8})
    assert is_a_look({"n_bases": 2, "n_seeds": 8})
    assert is_a_look({"n_bases": 3, "n_seeds": 7})


def test_a_verdict_that_is_a_look_says_so(tmp_path):
    for names in STUDIES.values():
        study(tmp_path, names[0], delta=0.1)
    row = gather(tmp_path)["lens"]
    assert evidence_line(row)[-1] == "helps"
    assert evidence_line({**row, "n_seeds": 2})[-1] == "helps, a look"
