"""docs/python.md runs from top to bottom as a user would paste it; the names are typed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import rekindle

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)
# a user's script with planted mistakes: the line, and what a type checker must say of it
SCRIPT = [
    ("import numpy as np", None),
    ("import torch", None),
    ("import rekindle", None),
    ("from rekindle import Problem, lens_advantages, train", None),
    ("def reward(problems: list[Problem], texts: list[str]) -> list[float]: return []", None),
    ("train({'method': 'grpo'}, 'out', reward=reward, task=[{'prompt': '1+1='}])", None),
    ("lens_advantages(np.ones(3), torch.ones(3), [1, 2, 3], groups='aab', neg_scale='unit')", None),
    ("rekindle.hero_advantages([[1, 0], [0, 0, None]], [[0.1, 0.2], [0.3, 0.4, 0.5]])", None),
    ("rekindle.group_advantages('grpo', [1, 0], ['a', 'a'], scale='none')", None),
    ("value: float = rekindle.pass_at_k([[1, 0]], 1).value", None),
    ("rekindle.load_task('countdown')", None),
    ("lens_advantages([1, 0], [-1.0, -2.0], [3, 4], groups=['a', 'a'], alfa=2)", "alfa"),
    ("lens_advantages('10', [-1.0, -2.0], [3, 4])", "arg-type"),
    ("lens_advantages([1, 0], [-1.0, -2.0], [3, 4], penalty='even')", "penalty"),
    ("train({'method': 'grpo'}, 'out', reward=lambda problems, texts: 3)", "reward"),
    ("train({'method': 'grpo'}, 'out', rewards=None)", "rewards"),
    ("train({'method': 'grpo'}, 'out', mode='continue')", "mode"),
    ("rekindle.trian", "trian"),
    ("name: str = rekindle.paired_difference([1], [0]).value", "assignment"),
    ("rekindle.run_study('study.yaml')", "out"),
]


@pytest.fixture
def clean_cwd(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_block_of_the_page_runs_in_one_script(clean_cwd):
    blocks = BLOCK.findall((ROOT / "docs" / "python.md").read_text())
    assert len(blocks) >= 6
    script = clean_cwd / "script.py"
    script.write_text("\n".join(blocks))
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, cwd=clean_cwd, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.startswith("runs/short/final\n")
    assert (clean_cwd / "report.html").exists()
    assert (clean_cwd / "runs" / "rate" / "study.json").exists()


def test_every_public_function_has_an_example():
    page = (ROOT / "docs" / "python.md").read_text()
    functions = [name for name in rekindle.__all__ if name[0].islower() and name != "load_recipe"]
    assert [name for name in functions if f"rekindle.{name}(" not in page] == []


def test_a_type_checker_finds_planted_mistakes_and_nothing_else(clean_cwd):
    script = clean_cwd / "user.py"
    script.write_text("\n".join(line for line, _ in SCRIPT) + "\n")
    found = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file", os.devnull, str(script)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MYPYPATH": str(ROOT / "src")},
    ).stdout
    for number, (line, mistake) in enumerate(SCRIPT, 1):
        said = [row for row in found.splitlines() if row.startswith(f"user.py:{number}: error")]
        said += [row for row in found.splitlines() if f"/user.py:{number}: error" in row]
        if mistake is None:
            assert said == [], line
        else:
            assert any(mistake in row for row in said), (line, found)


def test_names_for_a_type_checker_are_the_names_that_there_are():
    text = (ROOT / "src" / "rekindle" / "__init__.py").read_text()
    pairs = re.findall(r"^    from (\S+) import (\w+) as (\w+)$", text, re.MULTILINE)
    assert {name: module for module, name, _ in pairs} == dict(rekindle._PUBLIC)
    assert all(name == alias for _, name, alias in pairs)
    for name in rekindle.__all__:
        assert name in dir(rekindle)
        assert vars(sys.modules["rekindle"]).get(name) or rekindle.__getattr__(name)
