"""A study is exported and gone on with, as a user would."""

import json

import yaml

TREE = {
    "study": "toy",
    "bases": ["testbed/countdown-s0"],
    "seeds": [0],
    "recipe": {
        "task": {"name": "countdown", "levels": ["3"]},
        "optim": {"steps": 1, "problems": 2},
        "eval": {"problems": 4, "samples": 2},
    },
    "arms": {"grpo": {"method": "grpo", "grpo": {"group_size": 2}}, "sft": {"method": "sft"}},
    "baseline": "grpo",
    "primary": {"arm": "sft", "metric": "pass@1"},
}


def test_export_then_more_seeds_elsewhere(rekindle, tmp_path):
    file = tmp_path / "s.yaml"
    file.write_text(yaml.safe_dump(TREE))
    code, _, err = rekindle("study", file, "--out", tmp_path / "a", "--jobs", 1, "--quiet")
    assert code == 0, err
    code, out, err = rekindle("export", tmp_path / "a", "--out", tmp_path / "small")
    assert code == 0, err
    assert "runs.jsonl.xz" in out
    assert "sft" in (tmp_path / "small" / "report.html").read_text()
    assert sum(path.stat().st_size for path in (tmp_path / "small").iterdir()) < 2_500_000

    file.write_text(yaml.safe_dump({**TREE, "seeds": [0, 1]}))
    words = ("study", file, "--out", tmp_path / "b", "--jobs", 1, "--quiet")
    code, _, err = rekindle(*words, "--from", tmp_path / "small")
    assert code == 0, err
    first, second = (
        json.loads((tmp_path / name / "study.json").read_text())["arms"]["sft"]["runs"]
        for name in "ab"
    )
    assert [run["seed"] for run in second] == [0, 1]
    assert second[0]["seconds"] == first[0]["seconds"]  # not run again

    code, _, err = rekindle(*words[:3], tmp_path / "c", "--dry-run", "--from", tmp_path / "a")
    assert code == 2
    assert "is no archive of a study" in err
    file.write_text(yaml.safe_dump({**TREE, "bases": ["testbed/countdown-s1"], "seeds": [7]}))
    for more in ((), ("--dry-run",)):  # another study's archive
        code, _, err = rekindle(
            *words[:3], tmp_path / "c", *more, "--from", tmp_path / "small", "--jobs", 1
        )
        assert code == 2
        assert "holds no run of this study" in err
        assert "countdown-s1" in err
        assert not (tmp_path / "c").exists()

    code, _, err = rekindle(*words, "--from", tmp_path / "small", "--resume")
    assert code == 2
    assert "exclude each other" in err
    code, _, err = rekindle(*words, "--from", tmp_path / "small")
    assert code == 2
    assert "exists" in err
