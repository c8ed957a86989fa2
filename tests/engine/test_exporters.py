"""Exporters get the rows, resume where they were, and cannot take a run down."""

import sys
import types

import pytest
import torch

from rekindle.engine.exporters import Exporters
from rekindle.engine.run import Run
from rekindle.engine.state import TrainState
from rekindle.errors import MissingExtraError


def train(directory, mode, names, total, stop_after=None):
    model = torch.nn.Linear(2, 1)
    state = TrainState(
        {"policy": model}, torch.optim.SGD(model.parameters(), lr=0.1), lambda step: 0.1
    )
    config = {"log": {"exporters": names}, "checkpoint": {"every": 2}}
    with Run.open(directory, config=config, fingerprints={}, mode=mode, quiet=True) as run:
        run.restore(state)
        for step in run.steps(state, total=total):
            loss = 10.0 * step + (mode == "resume")
            run.log(step, {"loss": loss, "kl": float("nan"), "tokens/trained": 3})
            if step == stop_after:
                raise KeyboardInterrupt


def scalars(directory):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(directory / "tensorboard"))
    found.Reload()
    tags = found.Tags()["scalars"]
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in tags}


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_shows_the_rows(tmp_path):
    pytest.importorskip("tensorboard")
    train(tmp_path / "run", "new", ["tensorboard"], 3)
    assert scalars(tmp_path / "run") == {
        "loss": [(1, 10.0), (2, 20.0), (3, 30.0)],
        "tokens/trained": [(1, 3.0), (2, 3.0), (3, 3.0)],
    }


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_tensorboard_has_no_step_twice_after_a_resume(tmp_path):
    """Step 3 was sent before the run was stopped, and again after the checkpoint of step 2."""
    pytest.importorskip("tensorboard")
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "run", "new", ["tensorboard"], 4, stop_after=3)
    train(tmp_path / "run", "resume", ["tensorboard"], 4)
    assert scalars(tmp_path / "run")["loss"] == [(1, 10.0), (2, 20.0), (3, 31.0), (4, 41.0)]


class Library(types.ModuleType):
    """W&B and trackio as far as they are used, in memory."""

    class Error(Exception):
        pass

    def __init__(self, fails=()):
        super().__init__("library")
        self.fails, self.calls, self.settings = fails, [], []
        self.HTTPError = self.Error

    def init(self, **settings):
        self.settings.append(settings)
        self.call("init")
        return self

    def log(self, metrics, step):
        self.calls.append((step, metrics))
        self.call("log")

    def finish(self):
        self.call("finish")

    def call(self, name):
        self.calls += [name] if name != "log" else []
        if name in self.fails:
            raise self.Error(f"{name}: no network")


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_trackers_get_the_rows_under_one_name_for_all_sessions(tmp_path, monkeypatch, name):
    library = Library()
    monkeypatch.setitem(sys.modules, name, library)
    monkeypatch.setitem(sys.modules, "httpx", library)
    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "a", "new", [name], 4, stop_after=2)
    train(tmp_path / "a", "resume", [name], 4)
    train(tmp_path / "b", "new", [name], 1)
    key = "id" if name == "wandb" else "name"
    first, second, other = [settings[key] for settings in library.settings]
    assert first == second != other
    assert all(settings["resume"] == "allow" for settings in library.settings)
    sent = [call for call in library.calls if isinstance(call, tuple)]
    # step 2 was sent, but its checkpoint was not written any more
    assert [step for step, _ in sent] == [1, 2, 1, 2, 3, 4, 1]
    assert sent[0] == (1, {"loss": 10.0, "tokens/trained": 3})
    assert library.calls.count("finish") == 3


@pytest.mark.parametrize("fails", ["init", "log", "finish"])
def test_an_exporter_that_fails_warns_once_and_the_run_goes_on(
    tmp_path, monkeypatch, capsys, fails
):
    library = Library(fails=(fails,))
    monkeypatch.setitem(sys.modules, "wandb", library)
    train(tmp_path / "run", "new", ["wandb"], 4)
    said = capsys.readouterr().err
    assert said.count("exporter 'wandb' failed") == 1
    assert f"{fails}: no network" in said
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 4
    assert len([call for call in library.calls if call != "finish"]) <= 5


def test_what_is_not_the_exporters_fault_is_not_swallowed(tmp_path, monkeypatch):
    library = Library()
    library.Error = type("Other", (Exception,), {})
    monkeypatch.setitem(sys.modules, "wandb", library)
    exporters = Exporters(["wandb"], tmp_path, {})
    (tmp_path / "manifest.json").write_text('{"id": "x"}')
    exporters.send(1, {})
    monkeypatch.setattr(library, "log", lambda metrics, step: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        exporters.send(2, {})


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=r"pip install 'rekindle\[trackers\]'"):
        Exporters([name], tmp_path, {})
