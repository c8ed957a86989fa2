"""No command destroys what it did not make: every command that writes a file, by one rule."""

import json
from pathlib import Path

import pytest
from safetensors.torch import save_file

from rekindle.engine.run import Run
from rekindle.engine.state import TrainState
from rekindle.outputs import PAGE, REPORT_MARK, has_mark

RECIPE = Path(__file__).parents[2] / "recipes" / "grpo_countdown_testbed.yaml"
ANSWERS = [{"group": "a", "correct": 1, "gold": "1", "text": "1", "id": "a"}] * 2
ROWS = {
    "grade": ("grade", "--verifier", "exact"),
    "advantages": ("explain", "advantages", "--method", "grpo"),
    "curriculum": ("explain", "curriculum"),
    "pairs": ("explain", "pairs", "--method", "self_rewarding"),
}
MODEL = ("--model", "testbed/chain-s0", "--task", "in.jsonl")
WRITERS = {  # a command that reads in.jsonl; the option of its file is added
    **{name: (*words, "--input", "in.jsonl", "--output") for name, words in ROWS.items()},
    "eval": ("eval", *MODEL, "--out"),
    "reward": ("reward", "eval", "--reward", "testbed/chain-s0", *MODEL, "--out"),
    "diagnose": ("diagnose", *MODEL, "--out"),
    "diagnose the study": ("diagnose", *MODEL, "--write"),
    "cite": ("cite", "grpo", "--out"),
    "report": ("report", "run", "--out"),
}


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ANSWERS))
    Path("precious.txt").write_text("kept")


@pytest.fixture
def run():
    """A finished run of one step, with a model of one file."""
    import torch

    layer = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    with Run.open("run", config={"seed": 0, "method": "grpo"}, fingerprints={}, quiet=True) as run:
        state = run.restore(
            TrainState(models={"p": layer}, optimizer=optimizer, schedule=lambda _: 0)
        )
        for step in run.steps(state, total=1):
            run.log(step, {"loss": 1.0})
        run.finish(lambda aside: save_file(layer.state_dict(), aside / "model.safetensors"))
    return Path("run")


def everything():
    return {path: path.read_bytes() for path in Path().rglob("*") if path.is_file()}


def refused(rekindle, *words):
    before = everything()
    code, _, err = rekindle(*words)
    assert (code, "error: " in err) == (2, True), err
    assert everything() == before
    return err


@pytest.mark.parametrize("name", WRITERS)
def test_what_it_did_not_make_is_kept_unless_told(rekindle, name, run):
    assert "precious.txt exists" in refused(rekindle, *WRITERS[name], "precious.txt")


@pytest.mark.parametrize("name", WRITERS)
def test_a_run_is_never_written_into(rekindle, name, run):
    for part in ("config.yaml", "metrics.jsonl", "final/model.safetensors", "final/new", "eval"):
        words = (*WRITERS[name], run / part, "--overwrite")
        said = refused(rekindle, *words)
        assert "part of a run" in said or "as well" in said
    assert "is a directory" in refused(rekindle, *WRITERS[name], run, "--overwrite")


@pytest.mark.parametrize("name", [name for name in WRITERS if name not in ("cite", "report")])
def test_its_input_is_never_replaced(rekindle, name):
    Path("link").symlink_to("in.jsonl")
    for path in ("in.jsonl", "./in.jsonl", "link"):
        said = refused(rekindle, *WRITERS[name], path, "--overwrite")
        assert "what the command reads as well" in said


def test_rows_are_written_once_and_again_when_told(rekindle):
    words = (*WRITERS["advantages"], "out.jsonl")
    assert rekindle(*words)[0] == 0
    first = Path("out.jsonl").read_bytes()
    assert "out.jsonl exists" in refused(rekindle, *words)
    assert rekindle(*words, "--overwrite")[0] == 0
    assert Path("out.jsonl").read_bytes() == first
    Path("empty").touch()
    assert rekindle(*WRITERS["advantages"], "empty")[0] == 0


def test_citations_go_to_a_file(rekindle):
    printed = rekindle("cite", "grpo")[1]
    assert rekindle("cite", "grpo", "--out", "refs.bib")[0] == 0
    assert Path("refs.bib").read_text() == printed


# --- pages


def test_a_report_is_written_beside_its_run_and_replaces_itself(rekindle, run):
    for _ in range(2):
        code, said, err = rekindle("report", run)
        assert code == 0, err
        assert str((run / PAGE).resolve()) in said
    assert has_mark(run / PAGE, REPORT_MARK)
    (run / PAGE).write_text("my own page")
    assert "exists" in refused(rekindle, "report", run)


def test_the_page_of_a_run_goes_with_it_and_a_users_own_does_not(rekindle, run):
    config = {"seed": 0, "method": "grpo"}
    assert rekindle("report", run)[0] == 0
    with Run.open(run, config=config, fingerprints={}, mode="overwrite", quiet=True):
        assert not (run / PAGE).exists()
    (run / PAGE).write_text("my own page")
    with Run.open(run, config=config, fingerprints={}, mode="overwrite", quiet=True):
        assert (run / PAGE).read_text() == "my own page"


def test_a_report_reads_a_run_without_a_manifest_and_leaves_it_its_files(rekindle, run):
    (run / "manifest.json").unlink()
    for name in ("config.yaml", "metrics.jsonl"):
        refused(rekindle, "report", run, "--out", run / name, "--overwrite")


# --- studies


def export(finished, rekindle, name="small", *more):
    return rekindle("export", finished, "--out", name, *more)


def test_an_export_replaces_its_own_and_nothing_else(rekindle, finished):
    assert export(finished, rekindle)[0] == 0
    names = {path.name for path in Path("small").iterdir()}
    Path("small/README.md").write_text("mine")
    assert export(finished, rekindle)[0] == 0
    assert {path.name for path in Path("small").iterdir()} == {*names, "README.md"}
    assert Path("small/README.md").read_text() == "mine"
    Path("empty").mkdir()
    assert export(finished, rekindle, "empty")[0] == 0


def test_an_export_refuses_what_is_no_archive_of_the_study(rekindle, finished):
    assert export(finished, rekindle)[0] == 0
    Path("thesis").mkdir()
    Path("thesis/study.json").write_text("{}")
    run = next(finished.glob("runs/*/*/seed-?"))
    for name, said in (
        (finished, "is the study itself"),
        (run, "is no archive of a study"),
        (run / "final" / "new", "part of a run directory"),
        ("thesis", "a directory with other files"),
        ("precious.txt", "is a file"),
        (finished / "runs" / "new", "part of a study directory"),
    ):
        for more in ((), ("--overwrite",)):
            assert said in refused(rekindle, "export", finished, "--out", name, *more)


def test_a_page_of_the_users_own_in_an_archive_is_kept(rekindle, finished):
    assert export(finished, rekindle)[0] == 0
    Path("small", PAGE).write_text("mine")
    assert "report.html exists" in refused(rekindle, "export", finished, "--out", "small")


@pytest.mark.parametrize("key", ["id", "study"])
def test_another_studys_archive_is_replaced_only_when_told(rekindle, finished, key):
    assert export(finished, rekindle)[0] == 0
    path = Path("small/manifest.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), key: "other"}))
    said = refused(rekindle, "export", finished, "--out", "small")
    assert "archive of another study" in said
    assert "other" in said
    assert export(finished, rekindle, "small", "--overwrite")[0] == 0


# --- directories


def test_what_a_run_would_remove_cannot_be_what_it_reads(rekindle, run):
    """The model, the data or the recipe of the run that is to be replaced."""
    Path("recipe.yaml").write_text(RECIPE.read_text())
    rows = run / "stages" / "rows.jsonl"
    rows.parent.mkdir()
    rows.write_text('{"prompt": "1+1=", "answer": "2"}\n')
    jsonl = ("--set", "task.name=jsonl", "--set", "task.levels=null")
    for words in (
        (run / "config.yaml",),
        ("recipe.yaml", "--set", "model.name=run/final"),
        ("recipe.yaml", *jsonl, "--set", "task.path=run/stages/rows.jsonl"),
    ):
        said = refused(rekindle, "train", *words, "--out", run, "--overwrite")
        assert "--overwrite would remove" in said or "unknown key" in said
    words = ("--model", "run/final", "--task", "countdown", "--out", run, "--overwrite")
    assert "would remove run/final" in refused(rekindle, "reward", "train", *words)


def test_a_study_is_not_replaced_by_one_that_reads_it(rekindle, finished):
    words = ("study", finished / "study.yaml", "--out", finished, "--overwrite", "--jobs", 1)
    assert "would remove out/study.yaml" in refused(rekindle, *words)


@pytest.mark.parametrize("mode", [(), ("--resume",), ("--overwrite",)])
def test_a_quickstart_takes_no_directory_that_is_not_its_own(rekindle, mode):
    Path("thesis").mkdir()
    for name in ("summary.json", "sessions.json", "report.html"):
        Path("thesis", name).write_text("{}")
    made = Path("thesis", "lens")
    made.mkdir()
    for out in ("thesis", "precious.txt"):
        refused(rekindle, "quickstart", "--out", out, "--only", "lens", *mode)
