"""A run directory: what it says of its signals, and that what cannot be read is named."""

import pytest

from rekindle.errors import DataError
from rekindle.files import write_json, write_jsonl
from rekindle.signals.baseline import RunTask, check_alike, read_baseline


def test_a_run_gives_its_rounds_and_group_shares(tmp_path):
    with pytest.raises(DataError, match="is not a run"):
        read_baseline(tmp_path)
    steps = [{"step": i, "groups/all_wrong": i / 20, "groups/mixed": None} for i in range(20)]
    write_jsonl(tmp_path / "metrics.jsonl", steps)
    found = read_baseline(tmp_path)
    assert {r.name: r.value for r in found.groups} == {
        "run/all_wrong_first": 0.025,
        "run/all_wrong_last": 0.925,
    }
    (tmp_path / "stages").mkdir()
    write_jsonl(tmp_path / "stages" / "rounds.jsonl", [{"round": 1, "pairs/gap": 2.0}])
    assert [r.gap for r in read_baseline(tmp_path).rounds] == [2.0]
    write_jsonl(tmp_path / "metrics.jsonl", [{"step": 1, "loss": 1.0}])
    (tmp_path / "stages" / "rounds.jsonl").unlink()
    found = read_baseline(tmp_path).sft
    assert (found.state, found.rows[0].name) == ("not settled", "run/loss_first")
    write_jsonl(tmp_path / "metrics.jsonl", [{"step": 1, "other": 1.0}])
    with pytest.raises(DataError, match="says nothing of a signal"):
        read_baseline(tmp_path)


def test_what_an_older_run_did_not_log_is_missing_and_not_0(tmp_path):
    new = {"groups/tied": 0.25, "groups/no_signal": 0.75}
    steps = [{"step": i, "groups/all_wrong": 0.5} | (new if i > 1 else {}) for i in (1, 2)]
    write_jsonl(tmp_path / "metrics.jsonl", steps[:1])
    assert {r.name for r in read_baseline(tmp_path).groups} == {
        "run/all_wrong_first",
        "run/all_wrong_last",
    }
    write_jsonl(tmp_path / "metrics.jsonl", steps)
    rows = {r.name: r.value for r in read_baseline(tmp_path).groups}
    assert (rows["run/tied_first"], rows["run/no_signal_last"]) == (0.25, 0.75)


def evaluation(step, right):
    """An evaluation with the first `right` problems answered rightly."""
    cell = {"value": 0.5, "ci_low": 0.4, "ci_high": 0.6, "n": 400}
    return {
        "step": step,
        "metrics": {"pass@1": cell},
        "n_samples": 2,
        "outcomes": [[float(i < right)] * 2 for i in range(400)],
        "problems": [{"id": str(i), "level": ""} for i in range(400)],
        "task": "t",
        "split": "dev",
        "levels": {},
    }


def sft_run(path, *evaluations, names=None):
    write_jsonl(path / "metrics.jsonl", [{"step": i, "loss": 1 / i} for i in range(1, 21)])
    names = names or [f"step-{one['step']:06d}.json" for one in evaluations]
    for name, one in zip(names, evaluations, strict=True):
        write_json(path / "eval" / name, one)
    return path


@pytest.mark.parametrize(
    ("last", "state"), [(200, "still improving"), (20, "flat"), (0, "falling")]
)
def test_an_sft_run_has_a_held_out_curve(tmp_path, last, state):
    run = sft_run(tmp_path, evaluation(0, 0), evaluation(10, 20), evaluation(20, last))
    curve = read_baseline(run).sft
    assert curve.state == state
    assert [r.name for r in curve.rows if "@" in r.name][-1] == "run/pass@1@20"


def test_evaluations_go_by_their_step_not_by_their_name(tmp_path):
    names = ["step-2.json", "step-5.json", "step-10.json"]
    run = sft_run(tmp_path, *(evaluation(n, 20 * n) for n in (2, 5, 10)), names=names)
    curve = read_baseline(run).sft
    assert curve.state == "still improving"
    assert "from step 5 to 10" in curve.verdict


@pytest.mark.parametrize(
    "changed",
    [
        {"step": None},
        {"metrics": []},
        {"metrics": {"pass@1": 0.5}},
        {"metrics": {"pass@1": {"value": 0.5, "n": 4}}},
        {"metrics": {"pass@1": {"value": "x", "ci_low": 0.1, "ci_high": 0.2, "n": 4}}},
        {"outcomes": "text"},
        {"outcomes": [[1.0], [1.0, 0.0]]},
        {"problems": [], "outcomes": []},
    ],
)
def test_an_evaluation_that_cannot_be_read_is_named(tmp_path, changed):
    names = ["step-000010.json", "step-000020.json"]
    run = sft_run(tmp_path, evaluation(10, 20), {**evaluation(20, 20), **changed}, names=names)
    with pytest.raises(DataError, match=r"step-000020.json"):
        read_baseline(run)


def test_a_run_of_another_task_is_refused_and_of_another_model_said(tmp_path):
    write_jsonl(tmp_path / "metrics.jsonl", [{"step": 0, "groups/all_wrong": 0.5}])
    here = RunTask("chain")
    check_alike(read_baseline(tmp_path), tmp_path, task=here, model="m")  # no config.yaml
    place = tmp_path / "config.yaml"
    place.write_text("task: {name: jsonl, path: a.jsonl}\nmodel: {name: m}\n")
    with pytest.raises(DataError, match="of another task"):
        check_alike(read_baseline(tmp_path), tmp_path, task=here, model="m")
    place.write_text("task: {name: chain}\nmodel: {name: m}\n")
    found = read_baseline(tmp_path)
    check_alike(found, tmp_path, task=here, model="m")
    (tmp_path / "final").mkdir()
    check_alike(found, tmp_path, task=here, model=str(tmp_path / "final"))
    with pytest.warns(UserWarning, match=r"model m \(here other\)"):
        check_alike(found, tmp_path, task=here, model="other")
    with pytest.warns(UserWarning, match=r"levels None \(here \['4'\]\)"):
        check_alike(found, tmp_path, task=here._replace(levels=["4"]), model="m")


def test_shares_of_many_steps_have_an_interval(tmp_path):
    steps = [{"step": i, "groups/all_wrong": 0.3 + 0.1 * (i % 3)} for i in range(200)]
    write_jsonl(tmp_path / "metrics.jsonl", steps)
    first = read_baseline(tmp_path).groups[0]
    assert first.ci_low < first.value < first.ci_high
    write_jsonl(tmp_path / "metrics.jsonl", steps[:20])
    assert "one number, no interval" in read_baseline(tmp_path).groups[0].meaning


def test_damaged_runs_are_named_by_file_and_line(tmp_path):
    write_jsonl(tmp_path / "metrics.jsonl", [{"step": 0, "groups/all_wrong": "x"}])
    with pytest.raises(DataError, match=r"metrics.jsonl:1: 'groups/all_wrong' is not a number"):
        read_baseline(tmp_path)
    write_jsonl(tmp_path / "metrics.jsonl", [{"step": 0, "groups/all_wrong": 0.5}])
    (tmp_path / "stages").mkdir()
    rounds = tmp_path / "stages" / "rounds.jsonl"
    write_jsonl(rounds, [{"round": 1, "pairs/gap": 1.0}, {"round": 2, "pairs/gap": "y"}])
    with pytest.raises(DataError, match=r"rounds.jsonl:2: 'pairs/gap' is not a number"):
        read_baseline(tmp_path)
    write_jsonl(rounds, [{"round": 1, "pairs/gap": 1.0}])
    pairs = tmp_path / "stages" / "03-pairs-1" / "rows.jsonl"
    write_jsonl(pairs, [{"chosen_score": 4.0, "rejected_score": 1.0}])
    assert read_baseline(tmp_path).rounds[0].gaps == [3.0]


def test_the_group_size_is_that_of_the_run(tmp_path):
    write_jsonl(tmp_path / "metrics.jsonl", [{"step": 0, "groups/all_wrong": 0.5}])
    (tmp_path / "config.yaml").write_text("method: grpo\ngrpo: {group_size: 16}\n")
    assert read_baseline(tmp_path).group_size == 16
