"""The table of committed studies that ships with the package is what the studies say."""

import json
from pathlib import Path

import pytest

from rekindle.errors import DataError
from rekindle.report.tour import evidence_line
from rekindle.study.evidence import STUDIES, shipped
from rekindle.study.store.layout import read_results
from sitegen.evidence import gather

ROOT = Path(__file__).parents[2]


COMMITTED = ROOT / "results" / "studies"


def study(place, name, delta, **settings):
    """The results of a committed study, with another declared difference."""
    found = read_results(COMMITTED / "hero_confirm").plain()
    arms = {arm: {**block, "settings": {}} for arm, block in found["arms"].items()}
    first, *others = found["comparisons"]
    assert first["primary"]
    arms[first["method"]]["settings"] = settings
    rows = [{**others[0], "delta": 9.0}, {**first, "delta": delta, "verdict": "helps", "why": ""}]
    (place / name).mkdir(parents=True)
    (place / name / "study.json").write_text(
        json.dumps({**found, "comparisons": rows, "arms": arms})
    )


def test_the_shipped_table_is_that_of_the_committed_studies():
    """Else: PYTHONPATH=docs python -m sitegen.evidence results/studies"""
    assert shipped() == gather(COMMITTED)


def test_a_confirmed_study_counts_before_the_first_look(tmp_path):
    for names in STUDIES.values():
        study(tmp_path, names[-1], delta=0.1)
    assert gather(tmp_path)["lens"].study == "lens"
    study(tmp_path, "lens_confirm", delta=0.2)
    found = gather(tmp_path)
    assert (found["lens"].study, found["lens"].delta) == ("lens_confirm", 0.2)
    assert (found["hero"].study, found["hero"].delta) == ("hero", 0.1)


def test_a_reward_model_that_leaks_the_truth_is_told(tmp_path):
    for name, names in STUDIES.items():
        study(tmp_path, names[0], 0.1, **{"reward": {"source": "oracle"}} if name == "hero" else {})
    found = gather(tmp_path)
    assert found["hero"].oracle is True
    assert "oracle" not in found["lens"].plain()
    assert "(oracle reward model) against" in evidence_line(found["hero"])[0]
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
    row = shipped()["lens"]
    assert not row.with_(n_bases=3, n_seeds=8).is_a_look
    assert row.with_(n_bases=2, n_seeds=8).is_a_look
    assert row.with_(n_bases=3, n_seeds=7).is_a_look


def test_a_verdict_that_is_a_look_says_so(tmp_path):
    for names in STUDIES.values():
        study(tmp_path, names[0], delta=0.1)
    row = gather(tmp_path)["lens"]
    assert evidence_line(row)[-1] == "helps"
    assert evidence_line(row.with_(n_seeds=2))[-1] == "helps, a look"
