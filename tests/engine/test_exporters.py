"""Exporters copy the metrics rows, and a run outlives the one that fails."""

import pytest

from rekindle.engine.exporters import export, open_exporters


@pytest.mark.filterwarnings("ignore")
def test_tensorboard_holds_the_numbers(tmp_path):
    pytest.importorskip("tensorboard", reason="extra [trackers]")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    exporters = open_exporters(["tensorboard"], tmp_path, {})
    for step in (1, 2, 3):
        export(exporters, step, {"reward/mean": step / 4, "loss": 1.0})
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("reward/mean")]
    assert found == [(1, 0.25), (2, 0.5), (3, 0.75)]


def test_an_exporter_that_fails_is_dropped_with_a_warning():
    got = []

    def broken(step, row):
        raise OSError("no route to host")

    exporters = {"broken": broken, "fine": lambda step, row: got.append(step)}
    with pytest.warns(UserWarning, match="'broken' failed and is off"):
        export(exporters, 1, {})
    export(exporters, 2, {})
    assert got == [1, 2]


def test_an_exporter_that_is_not_installed_names_the_extra(tmp_path):
    try:
        import wandb  # noqa: F401
    except ImportError:
        with pytest.raises(ImportError, match=r"rekindle\[trackers\]"):
            open_exporters(["wandb"], tmp_path, {})
