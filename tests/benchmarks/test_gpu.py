"""The GPU's benchmark runs at tiny shapes on a CPU, and says so where there is no card."""

import json
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    import gpu

    return gpu


def run_main(benchmark, monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["gpu.py", *arguments])
    benchmark.main()
    return capsys.readouterr().out.strip().splitlines()[-1]


def test_every_row_runs_at_tiny_shapes(benchmark, monkeypatch, capsys, tmp_path):
    out = tmp_path / "gpu.json"
    said = run_main(benchmark, monkeypatch, capsys, "--dry", "--out", str(out))
    rows = json.loads(said)["rows"]
    assert len(rows) == 4
    assert all(row["ratio"] > 0 for row in rows)
    assert not out.exists()  # ratios of a dry run are no result


def test_without_a_card_nothing_is_written(benchmark, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    out = tmp_path / "gpu.json"
    assert "unmeasured" in run_main(benchmark, monkeypatch, capsys, "--out", str(out))
    assert not out.exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no card: unmeasured")
def test_a_card_is_measured(benchmark, monkeypatch, capsys, tmp_path):
    out = tmp_path / "gpu.json"
    run_main(benchmark, monkeypatch, capsys, "--out", str(out))
    assert {row["ratio"] > 0 for row in json.loads(out.read_text())["rows"]} == {True}
