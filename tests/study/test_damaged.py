"""A study directory that was altered, torn or made by another version: told, never guessed at."""

import json
import shutil
from pathlib import Path

import pytest
import yaml

from rekindle.cli.study import refuse_failures
from rekindle.errors import DataError, RekindleError, RunDirectoryError, TrainingError
from rekindle.evals.reading import read_eval
from rekindle.report.study import load_study_page
from rekindle.study.analyse.archive_write import archive_study
from rekindle.study.analyse.spending import spent_by
from rekindle.study.schema import StudyResults
from study.costless_runs import go, study_of
from study.evaluations import BASES, evaluation, usual

RUN = "out/runs/a/base-0/seed-0"


@pytest.fixture
def study(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = study_of()
    go(study, "out")
    return study


def altered(path, change):
    kind = yaml if path.suffix == ".yaml" else json
    tree = (yaml.safe_load if kind is yaml else json.loads)(path.read_text())
    change(tree)
    path.write_text(yaml.safe_dump(tree) if kind is yaml else json.dumps(tree))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("out/study.yaml", "", "study.yaml is damaged"),
        ("out/study.yaml", "a: [", "study.yaml is damaged"),
        ("out/study.yaml", lambda t: t.update(later=1), "unknown key 'later'"),
        ("out/study.yaml", lambda t: t.pop("primary"), "'primary' is missing"),
        ("out/study.yaml", lambda t: t.pop("bases"), "'bases' is missing"),
        ("out/manifest.json", "[]", "manifest.json is damaged"),
        ("out/manifest.json", lambda t: t.pop("changes"), "no 'changes'"),
        ("out/manifest.json", lambda t: t.pop("fingerprints"), "no 'fingerprints'"),
        ("out/manifest.json", lambda t: t.update(fingerprints={}), "hash of what was declared"),
        ("out/manifest.json", lambda t: t.update(changes=[3]), "'finished_runs'"),
        ("out/study.json", "[]", "study.json is damaged"),
        ("out/study.json", '{"arms": {"a": 3}}', "remove it: --resume writes it again"),
        ("out/sessions.json", "[3]", "a list of sessions"),
        (f"{RUN}/config.yaml", "", "config.yaml is damaged"),
        (f"{RUN}/config.yaml", "text", "got:    text"),
        (f"{RUN}/config.yaml", "a: [", "remove the run's directory"),
        (f"{RUN}/manifest.json", "[]", "manifest.json is damaged"),
    ],
)
def test_what_is_damaged_is_named_before_anything_runs(study, name, content, says):
    if callable(content):
        altered(Path(name), content)
    else:
        Path(name).write_text(content)
    with pytest.raises(RekindleError) as error:
        go(study, "out", mode="resume")
    assert name in str(error.value)
    assert says in str(error.value)


@pytest.mark.parametrize("content", ["[]", "{", "{}"])
def test_what_may_not_be_a_study_is_not_deleted(study, content):
    Path("out/manifest.json").write_text(content)
    with pytest.raises(RunDirectoryError, match="remove it yourself"):
        go(study, "out", mode="overwrite")
    assert Path(RUN, "eval.json").exists()


def test_damaged_results_are_not_exported(study):
    Path("out/study.json").write_text("[]")
    with pytest.raises(DataError, match=r"study\.json holds no results"):
        archive_study(Path("out"), Path("small"))


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("metrics.jsonl", '{"step": 1, "tokens/trained": "abc"}\n', "'tokens/trained' cannot be"),
        ("stages/01-x/stage.json", '{"seconds": 1}', "no 'generated'"),
        ("stages/rounds.jsonl", '{"accuracy": 1}\n', "is not a round"),
        ("spent.json", '{"generated": 1}', "no 'trained'"),
    ],
)
def test_a_cost_that_is_no_number_is_a_failed_run(study, name, content, says):
    path = Path(RUN, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    found, _ = go(study, "out", mode="resume")
    (failed,) = found["failed"]
    assert (failed["arm"], failed["seed"]) == ("a", 0)
    assert says in failed["why"]
    assert found["comparisons"][0]["n_pairs"] == 5


def test_a_cost_is_read_from_each_place(study):
    Path(RUN, "metrics.jsonl").write_text('{"step": 1, "tokens/generated": 5, "updates": null}\n')
    assert vars(spent_by(Path(RUN))) == {"generated": 5, "trained": 0, "updates": 1, "seconds": 0}


def test_a_first_step_counts_beside_the_evaluation_of_the_start(study):
    """Of 2 s it takes 1.5 in parts, so that an evaluation of 1 s has no room in it."""
    steps = (
        {"time/eval": 1.0, "time/sample": 0.5, "time/update": 1.0, "time/step": 2.0},
        {"time/eval": 4.0, "time/update": 1.0, "time/step": 6.0},
    )
    rows = [{"step": i, "updates": 1, **times} for i, times in enumerate(steps, 1)]
    Path(RUN, "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    assert spent_by(Path(RUN)).seconds == 2.0 + 2.0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"outcomes": [[5], [1]]}, "scores from 0 to 1"),
        ({"outcomes": [[-1], [1]]}, "scores from 0 to 1"),
        ({"greedy_outcomes": [1, 2]}, "'greedy_outcomes': scores from 0 to 1"),
        ({"outcomes": [[1, 0], [1, 1]]}, "2 samples of each problem in 'outcomes', n_samples 1"),
    ],
)
def test_scores_lie_between_0_and_1_and_are_as_many_as_is_said(tmp_path, change, says):
    path = tmp_path / "eval.json"
    path.write_text(json.dumps(evaluation([0, 1]) | {"outcomes": [[0.5], [None]]}))
    read_eval(path)
    path.write_text(json.dumps(evaluation([0, 1]) | change))
    with pytest.raises(DataError) as error:
        read_eval(path)
    assert says in str(error.value)


def test_an_arm_that_answered_less_often_is_not_paired(made):
    def asked(arm, base, seed):
        found = usual(arm, base, seed)
        twice = {"n_samples": 2, "outcomes": [row * 2 for row in found["outcomes"]]}
        return found | twice if arm == "a" or base != "base-1" else found

    row = made(asked)
    assert (row["n_pairs"], row["n_samples"]) == (4, 2)
    assert "answered each problem another number of times, got 2 and 1" in row["why"]


def test_without_a_majority_of_the_same_data_nothing_is_decided(made):
    better = {"a": [1, 0, 0] * 30, "b": [1] * 90}
    of = {("base-0", 0): "1", ("base-0", 1): "1", ("base-1", 0): "2", ("base-1", 1): "3"}
    row = made(
        lambda a, b, s: evaluation(better[a]),
        data=lambda key: of[key[1:]],
        bases=list(BASES[:2]),
    )
    assert (row["n_pairs"], row["verdict"]) == (2, "cannot tell yet")
    assert "or more" in row["why"]


@pytest.mark.parametrize("gone", [True, False])
def test_a_finished_run_that_cannot_be_read_says_what_makes_it_again(study, gone, capsys):
    path = Path(RUN, "eval.json")
    before = path.read_text()
    path.unlink() if gone else path.write_text(before[:50])
    found, asked = go(study, "out", mode="resume")
    (failed,) = found["failed"]
    assert not asked
    assert failed["why"].startswith("it is finished and cannot be read: ")
    assert failed["why"].endswith(f"; remove the directory {RUN}, and --resume makes it again")
    with pytest.raises(TrainingError) as error:
        refuse_failures(StudyResults.read(found))
    assert "remove the run directories that are named above, then" in str(error.value)
    assert "fix the cause" not in str(error.value)
    found["failed"].append({"preparation": "rm", "base": "base-0", "why": "boom"})
    with pytest.raises(TrainingError, match=r"fix the cause .*, remove the run directories"):
        refuse_failures(StudyResults.read(found))
    shutil.rmtree(RUN)
    again, asked = go(study, "out", mode="resume")
    assert (again["failed"], asked) == ([], [Path(RUN)])
    assert path.read_text() == before


def test_a_run_of_another_version_is_no_change_of_the_study_file(study):
    altered(Path(RUN, "manifest.json"), lambda tree: tree.update(state_format=99))
    with pytest.raises(RunDirectoryError, match="made with another version of rekindle") as error:
        go(study, "out", mode="resume")
    said = str(error.value)
    assert "runs/a/base-0/seed-0: rekindle x, state format 99" in said
    assert "study file" not in said
    assert "other settings" not in said
    shutil.rmtree(RUN)
    assert go(study, "out", mode="resume")[1] == [Path(RUN)]


def test_the_page_says_that_runs_are_of_another_version(study):
    def notes():
        return [note for note in load_study_page(Path("out")).notes if "version" in note]

    assert notes() == []
    altered(Path(RUN, "manifest.json"), lambda tree: tree.update(state_format=99))
    (note,) = notes()
    assert note.startswith("Another version of rekindle wrote a, base-0, seed 0 (state format 99")
    altered(Path("out/manifest.json"), lambda tree: tree.update(state_format=99))
    (note,) = notes()
    assert note.startswith("Another version of rekindle wrote the study and a, base-0, seed 0")
