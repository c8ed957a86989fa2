"""Your own problems from JSONL files: `prompt`, `answer`, optional `solution`, `messages`, ...

A directory holds `train.jsonl`, `dev.jsonl`, `test.jsonl` (any of them); a single file is split by
a hash of the prompt, 80 % train, 10 % dev, 10 % test. The fields are those of
`tasks.rows.problem_of`.
"""

from __future__ import annotations

from pathlib import Path

from rekindle.errors import ConfigError, DataError
from rekindle.files import read_jsonl, sha256_file
from rekindle.records import Problem
from rekindle.tasks.rows import Listed, by_hash, check_verifier, problem_of, refuse_same_id
from rekindle.tasks.task import stable_hash

_SPLITS = ("train", "dev", "test")


def load_jsonl(path: str | None, *, verifier: str, needs_answer: bool = True) -> Listed:
    """Read and check all rows.

    Raises:
        ConfigError: no path.
        DataError: file and line of the first mistake; ids that occur twice name both lines.
    """
    check_verifier(verifier)
    if path is None:
        raise ConfigError(
            "task 'jsonl' needs a file", fix="--set task.path=data.jsonl (or a directory of splits)"
        )
    place = Path(path)
    files = [place / f"{split}.jsonl" for split in _SPLITS] if place.is_dir() else [place]
    present = [file for file in files if file.exists() or not place.is_dir()]
    if not present:
        raise DataError(
            f"{place} holds no splits", wanted="train.jsonl, dev.jsonl or test.jsonl in it"
        )
    seen: dict[str, str] = {}
    loaded = {file: _read(file, seen, needs_answer) for file in present}
    source = f"{stable_hash(*[sha256_file(file) for file in present]):016x}"
    if place.is_dir():
        splits = {file.stem: problems for file, problems in loaded.items()}
    else:
        splits = by_hash(loaded[place])
    return Listed(name="jsonl", splits=splits, verifier=verifier, source=source)


def _read(file: Path, seen: dict[str, str], needs_answer: bool) -> list[Problem]:
    problems = []
    for line, row in read_jsonl(file):
        where = f"{file}:{line}"
        problem = problem_of(
            row, where=where, number=line, task=file.stem, needs_answer=needs_answer
        )
        refuse_same_id(problem, where, seen)
        problems.append(problem)
    return problems
