"""Break a formula and see its test turn red: one at a time, in a copy of `src`.

    make mutations                               all of them, 5 to 10 minutes on one core
    python tests/mutations.py lens hero          those whose file or formula holds one of the words

The list is the table in tests/README.md: a file, a piece of its text that is there once, what it
becomes, and the test that must fail. All named tests are run on the unbroken copy first. A process
forks for each mutation, so that torch is imported once.
"""

import os
import re
import shutil
import sys
import tempfile
import textwrap
import time
import traceback
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "rekindle"
ROW = re.compile(r"\| (\w\S+\.py) \| `(.+)` \| `(.+)` \| (\w\S+::\w+) \|")


class Mutation(NamedTuple):
    """A formula of a file of the package, what it is broken to, and the test that fails then."""

    file: str
    formula: str
    broken: str
    test: str


class Outcome(NamedTuple):
    """How a run of pytest ended, and what it printed."""

    code: int  # 0 all passed, 1 some failed, others: it could not be run
    text: str


def mutated(mutation: Mutation) -> str:
    """The file's text with the formula broken.

    Raises:
        ValueError: the formula is not there exactly once.
    """
    text = (PACKAGE / mutation.file).read_text()
    if text.count(mutation.formula) != 1:
        raise ValueError(
            f"{mutation.file} has {text.count(mutation.formula)} times: {mutation.formula}"
        )
    return text.replace(mutation.formula, mutation.broken)


def run_tests(source: Path, tests: list[str]) -> Outcome:
    """pytest on the package under `source`, in a child process."""
    report = source.parent / "output.txt"
    child = os.fork()
    if child == 0:
        code = 99
        with report.open("w") as out, redirect_stdout(out), redirect_stderr(out):
            try:
                code = _in_child(source, tests)
            except (Exception, SystemExit):  # noqa: BLE001  the parent prints what is written here
                traceback.print_exc()
        os._exit(code)
    _, status = os.waitpid(child, 0)
    return Outcome(os.waitstatus_to_exitcode(status), report.read_text())


def _in_child(source: Path, tests: list[str]) -> int:
    import pytest

    sys.path.insert(0, str(source))
    os.environ["PYTHONPATH"] = str(source)
    os.environ["PYTHONDONTWRITEBYTECODE"] = "1"
    os.chdir(ROOT)
    options = ["-x", "-q", "--no-header", "--assert=plain"]
    options += ["-p", "no:cacheprovider", "-p", "no:xdist"]
    code = int(pytest.main([*options, *tests]))
    import rekindle

    assert Path(rekindle.__file__).is_relative_to(source), rekindle.__file__
    return code


def listed() -> list[Mutation]:
    """The rows of the table in tests/README.md; `\\|` is a bar."""
    lines = (ROOT / "tests" / "README.md").read_text().splitlines()
    cells = [found.groups() for line in lines if (found := ROW.fullmatch(line))]
    return [Mutation(*(cell.replace("\\|", "|") for cell in row)) for row in cells]


def main(words: list[str]) -> int:
    """Run what the words choose; the number of mutations that no test saw."""
    chosen = [m for m in listed() if not words or any(w in m.file + m.formula for w in words)]
    import numpy  # noqa: F401  shared by all children
    import pytest  # noqa: F401
    import scipy.optimize
    import scipy.stats  # noqa: F401
    import torch
    import transformers  # noqa: F401

    torch.set_num_threads(1)
    begun, survivors = time.monotonic(), []
    with tempfile.TemporaryDirectory() as directory:
        source = Path(directory) / "src"
        shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
        plain = run_tests(source, sorted({f"tests/{m.test}" for m in chosen}))
        if plain.code:
            print(plain.text, "the tests do not pass as the code is; nothing was broken")
            return 1
        for mutation in chosen:
            path = source / "rekindle" / mutation.file
            before = path.read_text()
            path.write_text(mutated(mutation))
            found = run_tests(source, [f"tests/{mutation.test}"])
            path.write_text(before)
            seen = found.code == 1
            print("seen    " if seen else "SURVIVED", mutation.file, mutation.formula, flush=True)
            if not seen:
                survivors.append(mutation)
                print(textwrap.indent(found.text if found.code else mutation.broken, "    "))
    spent = time.monotonic() - begun
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} were seen, {spent:.0f} s")
    return len(survivors)


if __name__ == "__main__":
    sys.exit(min(1, main(sys.argv[1:])))
