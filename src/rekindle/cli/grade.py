"""`rekindle grade`: a verifier on rows of a file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import typer

from rekindle.errors import ConfigError, DataError
from rekindle.files import read_jsonl, write_jsonl
from rekindle.rewards.workers import VerifierPool
from rekindle.tasks.rows import check_verifier


def run_grade(
    verifier: str,
    source: Path,
    target: Path,
    *,
    timeout: float,
    workers: int | None,
    memory: int,
) -> None:
    """Add `score` (1, 0 or null) and `reason` to each row, in order; nothing else of it changes."""
    if verifier == "code":
        raise ConfigError(
            "programs are graded as a task, by test cases", fix="rekindle eval with a .jsonl task"
        )
    check_verifier(verifier)
    rows = read_jsonl(source)
    golds = [_text(source, line, row, "gold") for line, row in rows]
    texts = [_text(source, line, row, "text") for line, row in rows]
    pool = VerifierPool(verifier, timeout=timeout, workers=workers, memory=memory)
    scores = pool.grade(list(zip(golds, texts, strict=True)))
    pool.close()
    graded = [
        {**row, "score": _plain(score.value), "reason": score.reason}
        for (_, row), score in zip(rows, scores, strict=True)
    ]
    write_jsonl(target, graded)
    counted = Counter("missing" if s.value is None else f"{s.value:g}" for s in scores)
    reasons = Counter(score.reason for score in scores if score.reason is not None)
    typer.echo(
        f"{len(rows)} answers: "
        + ", ".join(f"{count} {name}" for name, count in sorted(counted.items()))
        + (f" ({', '.join(f'{n} {why}' for why, n in reasons.most_common(5))})" if reasons else ""),
        err=True,
    )


def _plain(value: float | None) -> float | int | None:
    return int(value) if value in (0.0, 1.0) else value


def _text(source: Path, line: int, row: dict[str, Any], name: str) -> str:
    value = row.get(name)
    if not isinstance(value, str):
        raise DataError(
            f"{source}:{line} has no text '{name}'",
            got=value if name in row else row,
            wanted='{"gold": "...", "text": "..."}',
            fix="numbers must be texts too: how they are written is part of the answer",
        )
    return value
