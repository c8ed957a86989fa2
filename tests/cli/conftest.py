"""What tests of the command line share."""

import sys

import pytest

from rekindle.cli.main import main


@pytest.fixture
def rekindle(monkeypatch, capsys):
    """Run a command in this process; (exit code, standard output, standard error)."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["rekindle", *[str(word) for word in words]])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return code, out, err

    return run
