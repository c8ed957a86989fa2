"""`diagnose` from Python: names in, frozen findings and remedies out."""

import dataclasses
import json

import pytest

from rekindle.errors import ConfigError, DataError
from rekindle.files import write_json
from rekindle.signals.diagnose import diagnose
from rekindle.tasks import load_task

PAIRS = [{"prompt": f"{i}+2=", "chosen": str(i + 2), "rejected": f"{i + 2} "} for i in range(12)]
SMALL = {"levels": ["5"], "problems": 40, "samples": 8}


def test_findings_and_remedies_of_a_model_on_a_task():
    found = diagnose("testbed/addition-s0", "addition", **SMALL)
    assert [finding.signal for finding in found.findings] == ["sft", "groups"]
    [remedy] = found.remedies
    assert (remedy.signal, remedy.what) == ("groups", "sft")
    groups = found.findings[1]
    assert (groups.state, groups.remedy.what, groups.remedy.why) == ("all-wrong", *remedy[1:])
    assert set(found.not_measured) == {"verifier", "reward", "pairs", "agreement"}
    assert found.conclusion[0] == "missing: groups (all-wrong)"
    with pytest.raises(dataclasses.FrozenInstanceError):
        found.findings = ()
    text = repr(found)
    assert text.startswith("Diagnosis of testbed/addition-s0 on addition\n")
    assert "groups     all-wrong: Most groups have no right answer" in text
    assert "agreement  not measured: needs --weak" in text
    assert "\nfits: sft (groups)" in text
    assert found.subject is None


def test_the_command_prints_and_writes_the_same(rekindle, tmp_path):
    found = diagnose("testbed/addition-s0", "addition", **SMALL, signals=["groups"])
    words = ("--levels", "5", "--problems", 40, "--signals", "groups", "--out", tmp_path / "d.json")
    words = ("--model", "testbed/addition-s0", "--task", "addition", *words)
    code, out, err = rekindle("diagnose", *words)
    assert code == 0, err
    assert "\n".join(found.conclusion) in out
    written = json.loads((tmp_path / "d.json").read_text())
    write_json(tmp_path / "again.json", found.findings[0].as_dict())  # nan becomes null
    assert written["signals"]["groups"] == json.loads((tmp_path / "again.json").read_text())


def test_a_task_that_was_loaded_and_rows_of_pairs():
    few = {"problems": 4, "levels": ["2"], "signals": ["pairs"]}
    found = diagnose("testbed/addition-s0", load_task(name="addition"), pairs=PAIRS, **few)
    assert (found.task, found.findings[0].rows[0].n) == ("addition", 12)
    alone = diagnose("testbed/addition-s0", pairs=PAIRS)
    assert (alone.task, alone.findings) == (None, found.findings)
    assert set(alone.not_measured.values()) == {"needs --task"}


@pytest.mark.parametrize(
    ("more", "error", "text"),
    [
        ({}, ConfigError, "--task is missing"),
        ({"pairs": [{"prompt": "1", "chosen": "2"}]}, DataError, r"pairs\[0\] has no 'rejected'"),
        ({"task": "addition", "signals": ["grops"]}, ConfigError, "Did you mean 'groups'"),
        ({"task": "addition", "samples": 1}, ConfigError, "--samples is too small"),
        ({"task": "nowhere/"}, DataError, "is not there"),
        ({"task": "addition", "overrides": ["reward.modl=x"]}, ConfigError, "reward.model"),
    ],
)
def test_what_cannot_be_meant_is_refused(more, error, text):
    with pytest.raises(error, match=text):
        diagnose("testbed/addition-s0", **more)
