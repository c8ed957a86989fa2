"""A run directory is read as far as it goes; what is missing becomes words."""

import json
import shutil

import pytest
import synthetic_runs as synthetic

from rekindle.errors import ConfigError, RekindleError, RunDirectoryError
from rekindle.report.load import load_run, load_runs


@pytest.fixture
def run(tmp_path):
    return synthetic.make_run(tmp_path / "run", steps=40)


def told(run):
    return " ".join(load_run(run).notes)


def test_a_whole_run_has_nothing_to_confess(run):
    loaded = load_run(run)
    assert list(loaded.notes) == []
    assert [e.step for e in loaded.evaluations] == [0, 20, 40]
    assert (loaded.before.step, loaded.after.step) == (0, 40)
    assert (loaded.steps_done, loaded.settings.steps) == (40, 40)
    assert len(loaded.samples) == 40 * 16


def test_evaluation_numbers_are_those_of_the_file(run):
    file = json.loads((run / "eval" / "step-000040.json").read_text())
    after = load_run(run).after
    for name, cell in file["metrics"].items():
        assert after.at(None)[name] == (cell["value"], cell["ci_low"], cell["ci_high"], cell["n"])
    for level, block in file["levels"].items():
        assert after.problems_at(level) == block["n_problems"]
        for name, cell in block["metrics"].items():
            assert after.at(level)[name] == tuple(cell.values())


def test_the_torn_last_line_of_a_killed_run_is_left_out_and_said(run):
    log = run / "metrics.jsonl"
    whole = log.read_bytes()
    log.write_bytes(whole[:-40])
    loaded = load_run(run)
    assert loaded.steps_done == 39
    assert "cut off" in " ".join(loaded.notes)
    assert "Unfinished: 39 of 40" in " ".join(loaded.notes)


@pytest.mark.parametrize("name", ["metrics.jsonl", "samples.jsonl"])
def test_a_log_cut_at_any_byte_still_loads(run, name):
    log = run / name
    whole = log.read_bytes()
    for cut in range(0, 2000, 37):
        log.write_bytes(whole[:cut])
        rows = whole[:cut].count(b"\n")
        loaded = load_run(run)
        found = len(loaded.rows) if name == "metrics.jsonl" else len(loaded.samples)
        # a cut exactly before the newline leaves a whole row
        assert found in (rows, rows + 1)


def test_a_broken_line_in_the_middle_is_named(run):
    log = run / "metrics.jsonl"
    lines = log.read_text().split("\n")
    lines[4] = lines[4][:50]
    log.write_text("\n".join(lines))
    loaded = load_run(run)
    assert "metrics.jsonl: 1 unreadable line(s) left out (line 5)." in loaded.notes
    assert [row.at for row in loaded.rows] == [*range(1, 5), *range(6, 41)]


def test_a_doubled_step_is_shown_once_and_said(run):
    log = run / "metrics.jsonl"
    log.write_text(log.read_text() + json.dumps({"step": 40, "loss": 7.0}) + "\n")
    loaded = load_run(run)
    assert len(loaded.rows) == 40
    assert loaded.rows[-1].values["loss"] == 7.0
    assert "1 step(s) twice" in " ".join(loaded.notes)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("config.yaml", "settings are unknown"),
        ("manifest.json", "where and how it was run is unknown"),
        ("metrics.jsonl", "no step was logged"),
        ("eval", "Not evaluated yet"),
        ("eval/step-000000.json", "what training changed is unknown"),
    ],
)
def test_a_missing_piece_is_said(run, name, words):
    (run / "eval.json").unlink()
    place = run / name
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink()
    assert words in told(run)


def test_broken_json_and_yaml_are_left_out(run):
    (run / "manifest.json").write_text('{"seed": ')
    (run / "config.yaml").write_text("a: [1\nb: }")
    (run / "eval" / "step-000020.json").write_text("[]")
    loaded = load_run(run)
    assert loaded.settings.text.startswith("a: [1")
    assert [e.step for e in loaded.evaluations] == [0, 40]
    assert sum("left out" in note or "was not read" in note for note in loaded.notes) == 3


def test_a_lone_eval_json_counts_as_after(run):
    shutil.rmtree(run / "eval")
    loaded = load_run(run)
    assert loaded.before is None
    assert loaded.after.step == 40


def test_other_directories_are_refused_with_what_is_there(run, tmp_path):
    with pytest.raises(RunDirectoryError, match=r"(?s)not a run directory.*rekindle report .*run"):
        load_run(tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(RunDirectoryError, match="an empty directory"):
        load_run(empty)
    with pytest.raises(RunDirectoryError, match="does not exist"):
        load_run(tmp_path / "nowhere")
    with pytest.raises(RunDirectoryError, match="is a file"):
        load_run(run / "config.yaml")


def test_no_run_or_the_same_twice_is_refused(run):
    with pytest.raises(ConfigError, match="no run directory"):
        load_runs([])
    with pytest.raises(RekindleError, match="given twice"):
        load_runs([run, run / ".." / "run"])


def test_runs_of_one_name_are_told_apart(tmp_path):
    places = [synthetic.make_run(tmp_path / p / "out", steps=2) for p in "ab"]
    assert [run.name for run in load_runs(places)] == ["a/out", "b/out"]
