"""An archive is a study without its weights: the same numbers, the same page."""

import json
import lzma
import shutil
import sys
from itertools import pairwise
from pathlib import Path

import pytest
import yaml

from rekindle.errors import DataError, RunDirectoryError
from rekindle.files import write_atomic
from rekindle.report.page import build_report
from rekindle.study.analyse.archive_write import ROWS, _strides, _thinned, archive_study
from rekindle.study.store.archive_read import RUNS, is_archive, unpack_into, unpacked
from study.costless_runs import results_of
from study.inline_runs import Inline
from study.recomputing import recomputed

COMMITTED = sorted((Path(__file__).parents[2] / "results" / "studies").glob(f"*/{RUNS}"))


@pytest.fixture(scope="module")
def packed(finished_study, tmp_path_factory):
    """The archive of a finished study, for copies."""
    place = tmp_path_factory.mktemp("packed") / "small"
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(finished_study)
        return archive_study(Path("out"), place)


@pytest.fixture
def archive(finished, packed):
    """The archive of the study that has run in the working directory."""
    return Path(shutil.copytree(packed, "small"))


def edited(archive, change):
    """The archive with `change` applied to each of its lines."""
    lines = lzma.decompress((archive / RUNS).read_bytes()).decode().splitlines()
    rows = [json.loads(line) for line in lines]
    for row in rows:
        change(row)
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (archive / RUNS).write_bytes(lzma.compress(text.encode()))


def test_the_results_are_recomputed_from_the_archive(archive):
    assert sorted(path.name for path in archive.iterdir()) == [
        "manifest.json", RUNS, "sessions.json", "study.json", "study.yaml",
    ]  # fmt: skip
    assert is_archive(archive)
    assert recomputed(archive).plain() == json.loads(Path("out/study.json").read_text())


def test_a_study_goes_on_from_an_archive(archive, file):
    """Two seeds on another machine, one more here: as if all three had been run in one place."""
    unpack_into(archive, Path("moved"))
    study = file(seeds=[0, 1, 2])
    executor = Inline()
    found = results_of(study, "moved", executor=executor, mode="resume")
    assert {path.name for path in executor.asked} == {"seed-2"}
    whole = results_of(study, "whole", executor=Inline())
    assert found["comparisons"] == whole["comparisons"]
    assert found["changes"][0]["finished_runs"] == 8
    for arm in ("grpo", "sft"):
        mine, theirs = (each["arms"][arm]["spent"] for each in (found, whole))
        assert mine["generated"] == theirs["generated"]
        assert mine["seconds"] > 0


def test_a_setting_that_a_later_version_added_is_no_change(archive, file):
    unpack_into(archive, Path("moved"))
    for config in Path("moved").glob("runs/*/*/*/config.yaml"):
        tree = yaml.safe_load(config.read_text())
        del tree["reward"]["noise"]
        config.write_text(yaml.safe_dump(tree))
    executor = Inline()
    results_of(file(), "moved", executor=executor, mode="resume")
    assert not executor.asked
    tree["optim"]["lr"] = 0.5
    config.write_text(yaml.safe_dump(tree))
    with pytest.raises(RunDirectoryError, match="made with other settings"):
        results_of(file(), "moved", executor=executor, mode="resume")


def test_what_is_taken_up_must_be_an_archive_and_the_place_free(archive):
    with pytest.raises(RunDirectoryError, match="no archive"):
        unpack_into(Path("out"), Path("moved"))
    with pytest.raises(RunDirectoryError, match="out exists"):
        unpack_into(archive, Path("out"))


def test_a_log_that_another_arm_reads_is_kept_whole(file):
    arms = {
        "grpo": {"method": "grpo", "optim": {"steps": 42}, "grpo": {"group_size": 2}},
        "follows": {"method": "grpo", "grpo": {"group_size": 2, "entropy_curve": "{run:grpo}"},
                    "optim": {"steps": 42}},
    }  # fmt: skip
    study = file(arms=arms, primary={"arm": "follows", "metric": "pass@2"}, seeds=[0],
                 bases=["base-0"])  # fmt: skip
    results_of(study, "out", executor=Inline())
    with unpacked(archive_study(Path("out"), Path("small"))) as place:
        rows = {
            arm: len((place / f"runs/{arm}/base-0/seed-0/metrics.jsonl").read_text().splitlines())
            for arm in arms
        }
    assert rows == {"grpo": 42, "follows": 22}


def test_no_path_of_the_machine_is_kept(archive, finished_study):
    text = lzma.decompress((archive / RUNS).read_bytes()).decode()
    assert sys.prefix not in text
    assert str(Path.cwd()) not in text
    assert str(finished_study) not in text


def test_an_outcome_that_was_altered_is_seen(archive):
    def spoil(row):
        for name, text in row["files"].items():
            if name == "eval.json" and row["arm"] == "sft":
                found = json.loads(text)
                found["outcomes"] = [[1 - x for x in row] for row in found["outcomes"]]
                row["files"][name] = json.dumps(found)

    edited(archive, spoil)
    stored = json.loads((archive / "study.json").read_text())
    assert recomputed(archive).plain()["comparisons"] != stored["comparisons"]


def test_the_page_of_an_archive_is_that_of_the_study(archive):
    before = build_report([Path("out")], Path("a.html")).read_text()
    after = build_report([archive], Path("b.html")).read_text()
    for word in ("Study: toy", "sft against grpo", "cannot tell yet"):
        assert word in before
        assert word in after
    assert "rekindle train out/runs/" in before
    assert "rekindle train small/runs/" not in after  # they are packed there
    assert "made from an archive" in after


def test_a_study_itself_is_opened_where_it_stands(archive):
    with unpacked(Path("out")) as place:
        assert place == Path("out")
    with unpacked(archive) as place:
        assert (place / "runs/sft/base-0/seed-1/eval.json").exists()
        assert not list(place.rglob("final"))
    assert not place.exists()


def logs(place, *lengths, every=1):
    """Runs that logged each `every`th of so many steps."""
    places = []
    for i, last in enumerate(lengths):
        rows = [{"step": step} for step in range(every, last + 1, every)]
        places.append(place / f"seed-{i}")
        write_atomic(places[-1] / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return places


def kept_steps(place, *lengths, every=1):
    stride = _strides(logs(place, *lengths, every=every))["metrics.jsonl"]
    rows = [[{"step": s} for s in range(every, last + 1, every)] for last in lengths]
    return [
        [row["step"] for row in _thinned(each, [row["step"] for row in each], stride)]
        for each in rows
    ]


def test_logs_are_thinned_evenly_with_both_ends(tmp_path):
    """A stride of 1000 / 38, rounded up: 27."""
    [kept] = kept_steps(tmp_path, 1000)
    assert (kept[:3], kept[-2:]) == ([1, 27, 54], [999, 1000])
    assert len(kept) <= ROWS
    assert max(b - a for a, b in pairwise(kept)) == 27
    assert kept_steps(tmp_path, ROWS) == [list(range(1, ROWS + 1))]
    [rare] = kept_steps(tmp_path, 4000, every=100)
    assert rare == list(range(100, 4001, 100))


def test_runs_of_unequal_length_keep_the_same_steps(tmp_path):
    """Means are over the steps that all have: but for each one's last, that is all that are kept
    up to the end of the shortest."""
    runs = kept_steps(tmp_path, 100, 99, 98, 97, 96)
    shared = set.intersection(*map(set, runs))
    assert shared >= {1, *range(3, 97, 3)}
    assert all(len(set(steps) - shared) <= 3 for steps in runs)


def test_what_is_no_study_and_what_is_gone_is_said(archive):
    with pytest.raises(RunDirectoryError, match="holds no study"):
        archive_study(archive.parent, Path("other"))
    with pytest.raises(RunDirectoryError, match="small is an archive already"):
        archive_study(archive, Path("other"))
    manifest = Path("out/runs/sft/base-1/seed-0/manifest.json")
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "finished": None}))
    with pytest.raises(RunDirectoryError, match="is not finished"):
        archive_study(Path("out"), Path("other"))


def test_a_damaged_archive_and_one_that_writes_elsewhere_are_refused(archive):
    whole = (archive / RUNS).read_bytes()
    (archive / RUNS).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="archive is damaged"), unpacked(archive):
        pass
    (archive / RUNS).write_bytes(whole)
    edited(archive, lambda row: row["files"].update({"../../../../../outside.txt": "x"}))
    with pytest.raises(DataError, match="outside the study"), unpacked(archive):
        pass
    assert not list(Path().rglob("outside.txt"))


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.parent.name)
def test_committed_results_are_those_of_their_outcomes(path):
    """Every interval, p-value and verdict under results/ follows from the outcomes beside it."""
    stored = json.loads((path.parent / "study.json").read_text())
    found = recomputed(path.parent).plain()
    for mine, theirs in zip(found["comparisons"], stored["comparisons"], strict=True):
        numbers = ("delta", "ci_low", "ci_high", "p_value", "p_holm", "before", "after")
        assert {k: v for k, v in mine.items() if k not in numbers} == {
            k: v for k, v in theirs.items() if k not in numbers
        }
        for name in numbers:
            assert mine[name] == pytest.approx(theirs[name], abs=2e-5), (mine["method"], name)
