"""A resume rests on the manifest: what is missing, changed or of another run is named."""

import json
import os
import shutil

import pytest
import toy
import yaml

from rekindle.engine.checkpoint import MARKER
from rekindle.engine.integrity import verify_run
from rekindle.engine.rundir import note_config
from rekindle.errors import ModelError, RunDirectoryError

pytestmark = [pytest.mark.faults, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
OTHER = {**toy.CONFIG, "seed": 1}


@pytest.fixture
def twin(place):
    """Another run of the same settings, data and model."""
    toy.train(place / "twin", "new", finish=False)
    return place / "twin"


def files_of(directory):
    return {p: p.read_bytes() for p in directory.rglob("*") if p.is_file() and p.name != ".lock"}


def refused(directory, match, error=RunDirectoryError, **how):
    before = files_of(directory)
    with pytest.raises(error, match=match):
        toy.train(directory, "resume", **how)
    assert files_of(directory) == before


def broken(directory):
    return [name for name, fault in verify_run(directory) if fault]


def replace(target, source):
    shutil.rmtree(target)
    shutil.copytree(source, target)


def without_hashes(directory):
    """As the first versions wrote it."""
    path = directory / "manifest.json"
    manifest = json.loads(path.read_text())
    for key in ("config", "checkpoints", "stages", "final"):
        manifest.pop(key, None)
    path.write_text(json.dumps(manifest))


# --- config and manifest


@pytest.mark.parametrize("config", [toy.CONFIG, OTHER], ids=["the same", "other settings"])
@pytest.mark.parametrize("left", ["all", "metrics.jsonl", "checkpoints"])
def test_a_run_without_its_config_is_not_resumed_as_another(run, config, left):
    """As long as anything of it is there; the manifest alone is a run that was killed at once."""
    lost = [path for path in run.iterdir() if left not in ("all", path.name)]
    for path in {*lost, run / "config.yaml"} - {run / "manifest.json"}:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    refused(run, r"config\.yaml is missing", config=config)
    refused(run, r"config\.yaml is missing", config=config, prints={**toy.PRINTS, "model": "x"})


def test_a_run_that_was_killed_between_manifest_and_config_begins(place, straight):
    toy.train(place / "run", "new", finish=False)
    for path in (place / "run").iterdir():
        if path.name != "manifest.json":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    toy.train(place / "run", "resume")
    assert toy.outcome(place / "run") == straight


@pytest.mark.parametrize("change", ["# a note\n", "extra: 1\n"])
def test_a_config_that_was_changed_is_refused(run, change):
    path = run / "config.yaml"
    path.write_text(path.read_text() + change)
    refused(run, r"config\.yaml was changed since the run began")
    assert broken(run) == ["config.yaml"]


def test_a_config_of_another_run_is_refused_even_with_its_settings(place, run):
    toy.train(place / "other", "new", config=OTHER, finish=False)
    shutil.copy(place / "other" / "config.yaml", run)
    refused(run, r"config\.yaml was changed", config=OTHER)


def test_a_config_that_a_moved_study_writes_anew_is_known_before_and_after(run, straight):
    """A kill between the manifest and the config leaves the one before."""
    note_config(run, yaml.safe_dump(OTHER, sort_keys=False))
    toy.train(run, "resume", finish=False)
    (run / "config.yaml").write_text(yaml.safe_dump(OTHER, sort_keys=False))
    toy.train(run, "resume", config=OTHER)
    assert toy.outcome(run)["final"] == straight["final"]


@pytest.mark.parametrize("how", ["gone", "cut", "another run's"])
def test_a_manifest_that_is_not_its_own_is_refused(place, run, twin, how):
    path = run / "manifest.json"
    if how == "gone":
        path.unlink()
    elif how == "cut":
        path.write_text(path.read_text()[:100])
    else:
        shutil.copy(twin / "manifest.json", path)
    said = "not a checkpoint of this run" if how == "another run's" else "manifest"
    refused(run, said)


# --- checkpoints


def test_another_runs_checkpoint_is_refused_though_it_is_whole(run, twin):
    """The same settings, another run: its logs and its times are not those."""
    newest = run / "checkpoints" / "step-000006"
    replace(newest, twin / "checkpoints" / "step-000006")
    refused(run, r"step-000006 is not a checkpoint of this run")
    assert broken(run)[0] == "checkpoints/step-000006"
    shutil.rmtree(newest)
    toy.train(run, "resume")


def test_a_checkpoint_under_another_steps_name_is_torn(run, straight):
    root = run / "checkpoints"
    replace(root / "step-000006", root / "step-000004")
    assert broken(run) == ["checkpoints/step-000006"]
    toy.train(run, "resume")
    assert toy.outcome(run) == straight


def test_a_missing_newest_checkpoint_is_named_and_the_older_one_is_used(run, straight, capsys):
    shutil.rmtree(run / "checkpoints" / "step-000006")
    assert broken(run) == ["checkpoints/step-000006"]
    toy.train(run, "resume", quiet=None)
    assert "skipped: step-000006 is gone" in capsys.readouterr().err
    assert toy.outcome(run) == straight
    assert broken(run) == []


def test_a_run_whose_checkpoints_are_all_gone_keeps_its_logs(run):
    for path in (run / "checkpoints").iterdir():
        shutil.rmtree(path)
    refused(run, r"(?s)checkpoints in .* are gone.*step-000004, step-000006")
    shutil.rmtree(run / "checkpoints")
    refused(run, "are gone")


def test_a_checkpoint_that_was_not_noted_before_a_kill_is_the_runs_own(run, straight):
    manifest = json.loads((run / "manifest.json").read_text())
    noted = manifest["checkpoints"]
    assert sorted(noted) == ["step-000004", "step-000006"]
    manifest["checkpoints"] = {"step-000002": "dropped", "step-000004": noted["step-000004"]}
    (run / "manifest.json").write_text(json.dumps(manifest))
    toy.train(run, "resume")
    assert toy.outcome(run) == straight


def test_a_step_may_be_saved_again(place):
    """An error in the step after a checkpoint keeps that step once more."""
    directory = place / "run"

    def failing(step):
        if step == 5:
            raise MemoryError

    with pytest.raises(MemoryError):
        toy.train(directory, "new", after_log=failing)
    for _ in range(2):
        with toy.Run.open(
            directory, config=toy.CONFIG, fingerprints=toy.PRINTS, mode="resume", quiet=True
        ) as opened:
            opened.keep(opened.restore(toy.fresh()))
        assert broken(directory) == []


def test_a_run_of_the_first_versions_goes_on(run, straight):
    for path in (run / "checkpoints").iterdir():
        marker = json.loads((path / MARKER).read_text())
        assert marker["run"] == json.loads((run / "manifest.json").read_text())["id"]
    without_hashes(run)
    shutil.rmtree(run / "checkpoints" / "step-000006")
    toy.train(run, "resume")
    assert toy.outcome(run) == straight
    assert broken(run) == []
    assert ("config.yaml", None) in verify_run(run)


# --- the model


@pytest.fixture
def finished(run):
    toy.train(run, "resume")
    return run


def spoil(final, how):
    path = final / "m.st"
    about = path.stat()
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    if how == "gone":
        path.unlink()
    elif how == "added":
        (final / "chat_template.jinja").write_text("x")
    else:
        path.write_bytes(raw[:-3] if how == "cut" else raw)
    if how == "cut":  # with the time of the real one
        os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))


@pytest.mark.parametrize("how", ["gone", "cut", "flip", "added"])
def test_a_finished_run_with_another_model_is_not_taken_for_finished(finished, how):
    spoil(finished / "final", how)
    refused(finished, "final was changed since its run ended", ModelError)
    refused(finished, "final was changed since its run ended", ModelError)  # its lock is free
    assert broken(finished) == ["final"]


def test_doctor_sees_what_size_and_time_do_not_show(finished):
    path = finished / "final" / "m.st"
    about = path.stat()
    spoil(finished / "final", "flip")
    os.utime(path, ns=(about.st_atime_ns, about.st_mtime_ns))
    toy.train(finished, "resume")  # at a glance it is the same
    assert broken(finished) == ["final"]


def test_a_copied_run_and_a_touched_file_are_known_by_hash(finished, place):
    shutil.copytree(finished, place / "copy", copy_function=shutil.copyfile)
    os.utime(finished / "final" / "m.st", (1, 1))
    (finished / "final" / "README.md").write_text("a model card")
    for directory in (finished, place / "copy"):
        toy.train(directory, "resume")
        assert broken(directory) == []


def test_each_part_is_named_where_it_is_broken(finished):
    assert [fault for _, fault in verify_run(finished)] == [""] * 6
    (finished / "samples.jsonl").write_text("{}\n")
    (finished / "checkpoints" / "step-000004" / "state.json").unlink()
    assert broken(finished) == ["checkpoints/step-000004", "samples.jsonl"]
