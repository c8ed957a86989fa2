"""docs/evidence.md: every number in its tables is one of a committed study."""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STUDIES = ROOT / "results" / "studies"
TEXT = (ROOT / "docs" / "evidence.md").read_text()
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in TEXT.splitlines()
    if line.startswith("| `")
]


def comparisons(study):
    return json.loads((STUDIES / study / "study.json").read_text())["comparisons"]


def name_of(row):
    return " ".join(row[:4]).replace("`", "")


def metric_of(row):
    return row["metric"] + ("" if row["level"] is None else f", level {row['level']}")


@pytest.mark.parametrize("row", ROWS, ids=name_of)
def test_a_row_is_that_of_its_study(row):
    study, method, baseline, metric, difference, n, verdict = row
    found = [
        c
        for c in comparisons(study.strip("`"))
        if (c["method"], c["baseline"], metric_of(c)) == (method, baseline, metric)
    ]
    assert len(found) == 1
    c = found[0]
    shown = f"{c['delta']:+.3f} [{c['ci_low']:+.3f}, {c['ci_high']:+.3f}]"
    assert difference == shown
    assert n == f"{c['n_bases']} × {c['n_seeds']} × {c['n_problems']}"
    assert verdict == c["verdict"]


def test_the_declared_comparison_of_every_study_that_is_named_is_shown():
    named = {row[0].strip("`") for row in ROWS}
    assert {"wmss", "weak_to_strong", "temporal", "hero", "lens"} <= named
    for study in named:
        primary = next(c for c in comparisons(study) if c["primary"])
        keys = (f"`{study}`", primary["method"], primary["baseline"], metric_of(primary))
        assert any(tuple(row[:4]) == keys for row in ROWS), keys


def test_every_confirmed_study_is_named():
    for place in STUDIES.glob("*_confirm"):
        assert re.search(rf"\| `{place.name}` \|", TEXT), place.name
