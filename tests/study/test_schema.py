"""What a study writes comes back byte for byte through the models of `study.schema`."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from rekindle.files import write_json
from rekindle.study.evidence import EvidenceRow
from rekindle.study.schema import (
    ComparisonResult,
    Rule,
    Session,
    StudyManifest,
    StudyResults,
)
from rekindle.study.store.layout import read_results

ROOT = Path(__file__).parents[2]
STUDIES = sorted((ROOT / "results" / "studies").glob("*/study.json"))


def names(path):
    return path.parent.name


@pytest.mark.parametrize("path", STUDIES, ids=names)
def test_results_of_every_version_are_written_as_they_were_read(path, tmp_path):
    write_json(tmp_path / "study.json", read_results(path.parent).plain())
    assert (tmp_path / "study.json").read_bytes() == path.read_bytes()


@pytest.mark.parametrize("path", STUDIES, ids=names)
def test_manifests_and_sessions_too(path, tmp_path):
    manifest = path.with_name("manifest.json")
    write_json(tmp_path / "m.json", StudyManifest.read(json.loads(manifest.read_text())).plain())
    assert (tmp_path / "m.json").read_bytes() == manifest.read_bytes()
    sessions = path.with_name("sessions.json")
    if sessions.exists():
        found = [Session.read(session) for session in json.loads(sessions.read_text())]
        write_json(tmp_path / "s.json", [session.plain() for session in found])
        assert (tmp_path / "s.json").read_bytes() == sessions.read_bytes()


def test_the_table_that_ships_too(tmp_path):
    table = ROOT / "src" / "rekindle" / "study" / "evidence.json"
    rows = {name: EvidenceRow.read(row) for name, row in json.loads(table.read_text()).items()}
    write_json(tmp_path / "e.json", {name: row.plain() for name, row in rows.items()})
    assert (tmp_path / "e.json").read_bytes() == table.read_bytes()


def row(**changes):
    path = ROOT / "results" / "studies" / "lens_confirm" / "study.json"
    return {**json.loads(path.read_text())["comparisons"][0], **changes}


def test_nan_is_undefined_and_a_key_that_is_not_there_stays_away():
    found = ComparisonResult.read(row(p_value=float("nan")))
    assert found.p_value is None
    assert list(found.plain()) == list(row())
    assert "intervals" not in found.plain()
    assert Rule().plain() == {}


def test_a_key_that_is_not_known_and_one_that_is_missing_are_refused():
    whole = row()
    with pytest.raises(ValidationError, match="later"):
        ComparisonResult.read({**whole, "later": 1})
    del whole["verdict"]
    with pytest.raises(ValidationError, match="verdict"):
        ComparisonResult.read(whole)


def test_what_is_made_here_has_the_order_of_the_fields():
    """Equal to one that was read in another order; only the writing differs."""
    whole = row()
    turned = dict(reversed(whole.items()))
    made, read = ComparisonResult(**turned), ComparisonResult.read(turned)
    assert made == read
    assert list(read.plain()) == list(turned)
    assert list(made.plain()) == [name for name in ComparisonResult.model_fields if name in whole]


def test_results_are_frozen():
    found = StudyResults.read(json.loads(STUDIES[0].read_text()))
    with pytest.raises(ValidationError, match="frozen"):
        found.unfinished = 3
