"""Your own problems from JSONL files: `prompt`, `answer`, optional `solution`, `messages`, ...

A directory holds `train.jsonl`, `dev.jsonl`, `test.jsonl` (any of them); a single file is split by
a hash of the prompt, 80 % train, 10 % dev, 10 % test. The fields are those of
`tasks.rows.problem_of`.
"""

from __future__ import annotations

from pathlib import Path

from rekindle.errors import ConfigError, DataError
from rekindle.files import read_jsonl, sha256_file
from rekindle.tasks.rows import Listed, by_hash, check_verifier, problems_of
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
    root = Path(path)
    files = [root / f"{split}.jsonl" for split in _SPLITS] if root.is_dir() else [root]
    existing = [file for file in files if file.exists() or not root.is_dir()]
    if not existing:
        raise DataError(
            f"{root} holds no splits", wanted="train.jsonl, dev.jsonl or test.jsonl in it"
        )
    seen: dict[str, str] = {}
    splits = {
        file.stem: problems_of(
            read_jsonl(file), f"{file}:", task=file.stem, seen=seen, needs_answer=needs_answer
        )
        for file in existing
    }
    source = f"{stable_hash(*[sha256_file(file) for file in existing]):016x}"
    if not root.is_dir():
        splits = by_hash(splits[root.stem])
    return Listed(name="jsonl", splits=splits, verifier=verifier, source=source)
