"""The table of commands: its lines, and that a command is imported only when it is called."""

import subprocess
import sys

import pytest
import typer
from typer.testing import CliRunner

from rekindle.cli.main import COMMANDS, app, load_command
from rekindle.errors import (
    EXIT_RESUMABLE,
    ConfigError,
    ServerRefusedError,
    ServerUnavailableError,
)

PROBE = """
import sys
from rekindle.cli.main import app
try:
    app({words!r}, standalone_mode=False)
except SystemExit:
    pass
print("LOADED", sorted(name for name in sys.modules if name.startswith("rekindle.cli.")))
print("HEAVY", [name for name in {heavy!r} if name in sys.modules])
"""
HEAVY = ("torch", "transformers", "numpy", "scipy", "yaml")  # pydantic: typer itself loads it


def loaded_by(*words):
    done = subprocess.run(
        [sys.executable, "-c", PROBE.format(words=list(words), heavy=HEAVY)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "HEAVY []" in done.stdout
    return done.stdout.split("LOADED ")[1]


def test_the_help_page_imports_no_command():
    assert loaded_by("--help").startswith("['rekindle.cli.main']")


@pytest.mark.parametrize("name", ["train", "diagnose", "study", "quickstart"])
def test_the_help_of_a_command_imports_that_command_and_nothing_heavy(name):
    listed = loaded_by(name, "--help")
    assert f"'rekindle.cli.{name}'" in listed
    assert sum(f"'rekindle.cli.{other}'" in listed for other in COMMANDS) == 1


@pytest.mark.parametrize("name", COMMANDS)
def test_the_line_of_a_command_is_its_own(name):
    command = load_command(name)
    assert (command.name, command.help) == (name, COMMANDS[name].help)


def test_the_app_runs_in_a_runner_and_suggests_names():
    runner = CliRunner()
    result = runner.invoke(app, ["tasks"])
    assert (result.exit_code, "countdown" in result.output) == (0, True)
    result = runner.invoke(app, ["dignose"])
    assert (result.exit_code, "Did you mean 'diagnose'?" in result.output) == (2, True)
    assert isinstance(app, typer.Typer)


@pytest.mark.parametrize(
    ("error", "code"),
    [(ConfigError, 2), (ServerRefusedError, 2), (ServerUnavailableError, EXIT_RESUMABLE)],
)
def test_the_exit_code_is_the_errors_own(monkeypatch, rekindle, error, code):
    def fail():
        raise error("the judge is away")

    monkeypatch.setattr("rekindle.cli.main.app", fail)
    assert rekindle("train") == (code, "", "error: the judge is away\n")
