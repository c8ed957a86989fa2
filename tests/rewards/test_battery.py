"""Graded answers in real formats: what a careful teacher gives each, and that the verifiers agree.

A file has a row an answer: verifier, gold, text, score; kind and reason say why. Some texts were
cut at the token limit (`cut`) or begin inside a thought (`thought_open`). The package has all files
but `handed`, for `rekindle probe`.
"""

import json
from collections import defaultdict
from pathlib import Path

import pytest

from rekindle.rewards.probing import battery
from rekindle.rewards.verifiers.verify import VERIFIERS, Settings
from rekindle.rewards.workers import VerifierPool

PACKAGED = Path(battery.__file__).parent / "battery"
OURS = sorted(PACKAGED.glob("*.jsonl"))
FILES = [*OURS, *sorted((Path(__file__).parent / "battery").glob("*.jsonl"))]


def rows_of(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def settings_of(row):
    return Settings(cut=row.get("cut", False), thought_open=row.get("thought_open", False))


@pytest.fixture(scope="module")
def pool():
    pytest.importorskip("math_verify")
    two = VerifierPool("math", workers=2, timeout=30.0)
    yield two
    two.close()


def scores_of(rows, pool):
    """In the order of the rows; those of `math` through the pool, all at once."""
    asked = [row for row in rows if row["verifier"] == "math"]
    pairs = [(str(row["gold"]), row["text"]) for row in asked]
    pooled = iter(pool.grade(pairs, [settings_of(row) for row in asked]))
    for row in rows:
        if row["verifier"] == "math":
            yield next(pooled)
        else:
            yield VERIFIERS[row["verifier"]](str(row["gold"]), row["text"], settings_of(row))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_verdict_is_the_teachers(path, pool):
    rows = rows_of(path)
    wrong = [
        f"{path.stem}:{number} {row['verifier']} {row['kind']}: {row['gold']!r} <- "
        f"{row['text'][-120:]!r} is {row['score']}, not {score.value} {score.reason or ''}"
        f" ({row.get('reason', '')})"
        for number, (row, score) in enumerate(zip(rows, scores_of(rows, pool), strict=True), 1)
        if score.value != row["score"]
    ]
    assert not wrong, "\n".join(wrong)


def test_the_battery_is_large_and_half_wrong():
    rows = [row for path in OURS for row in rows_of(path)]
    assert len(rows) >= 1_500
    assert all(row["reason"].strip() and row["reason"] != row["kind"] for row in rows)
    groups = defaultdict(list)
    for row in rows:
        groups[row["verifier"]].append(row["score"])
        groups[row["verifier"], row["kind"]].append(row["score"])
    too_easy = {key: len(scores) for key, scores in groups.items() if 1 - mean(scores) < 0.4}
    assert too_easy == {}


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_no_row_is_there_twice(path):
    keys = [
        (row["verifier"], str(row["gold"]), row["text"], settings_of(row)) for row in rows_of(path)
    ]
    assert len(keys) == len(set(keys))


def mean(values):
    return sum(values) / len(values)
