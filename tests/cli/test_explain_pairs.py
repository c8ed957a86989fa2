"""`rekindle explain pairs` end to end: the pairs that training would make, on rows from a file."""

import json

import pytest

from rekindle.cli.explain import explain_pairs
from rekindle.errors import ConfigError, DataError


def pairs_of(tmp_path, method, rows, *sets):
    source, target = tmp_path / "rows.jsonl", tmp_path / "out.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    explain_pairs(method, source, target, sets, overwrite=True)
    return [json.loads(line) for line in target.read_text().splitlines()]


TEMPORAL = {
    "id": "p",
    "prompt": "x",
    "current": [{"text": "c0", "score": 3}, {"text": "c1", "score": 1}],
    "initial": [{"text": "i0", "score": 0}, {"text": "i1", "score": None}],
    "future": [{"text": "f0", "score": 5}],
}


def test_pairs_of_temporal(tmp_path):
    early = {**TEMPORAL, "id": "q", "future": None}
    assert pairs_of(tmp_path, "temporal", [TEMPORAL, early]) == [
        {
            "id": "p",
            "d1": {"chosen": "c0", "rejected": "i0"},
            "d2": {"chosen": "f0", "rejected": "i0"},
        },
        {"id": "q", "d1": {"chosen": "c0", "rejected": "i0"}, "d2": None},
    ]
    [found] = pairs_of(tmp_path, "temporal", [TEMPORAL], "past=false")
    assert found["d1"] == {"chosen": "c0", "rejected": "c1"}


def test_what_has_no_pair_is_said_on_standard_error(tmp_path, capsys):
    flat = {**TEMPORAL, "current": [{"text": "a", "score": 2}, {"text": "b", "score": 2}]}
    assert pairs_of(tmp_path, "self_rewarding", [flat]) == [{"id": "p", "d1": None, "d2": None}]
    assert "skipped 1: d1: equal scores" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("method", "sets", "said"),
    [
        ("grpo", (), "makes no pairs"),
        ("temporal", ("prompts=3",), "has no effect here"),
        ("temporal", ("pasd=false",), "Did you mean 'past'"),
        ("temporal", ("past=perhaps",), "past"),
    ],
)
def test_pairs_that_cannot_be_made_are_refused(tmp_path, method, sets, said):
    with pytest.raises(ConfigError, match=said):
        pairs_of(tmp_path, method, [TEMPORAL], *sets)
    assert not (tmp_path / "out.jsonl").exists()


def test_a_row_without_an_id_is_named_by_its_line(tmp_path):
    with pytest.raises(DataError, match=r"rows\.jsonl:2 has no 'id'"):
        pairs_of(tmp_path, "temporal", [TEMPORAL, {**TEMPORAL, "id": None}])
