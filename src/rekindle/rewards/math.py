"""Mathematical equality by math-verify (extra `[math]`): LaTeX, sets, intervals, expressions.

It evaluates what models write and may take for ever: run it in `rewards.workers`, which can be
killed. Its own time limits are off; they work by signals, in the main thread, and not always.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

from rekindle.errors import missing_extra
from rekindle.records import Score
from rekindle.rewards.verify import LONGEST, boxed


def math(gold: str, text: str) -> Score:
    """1 when the answer equals the gold, else 0; missing when the gold cannot be read.

    The answer is the last `\\boxed{...}`, else the last expression or number at the end of the
    text. What is longer than `LONGEST` characters is no answer.

    Raises:
        MissingExtraError: math-verify is not installed.
    """
    library = _library()
    wanted = _read(library, gold if "\\boxed" in gold or "$" in gold else f"\\boxed{{{gold}}}")
    if not wanted:
        return Score.missing("parse: the gold answer cannot be read")
    answer = boxed(text)
    if answer is not None and len(answer) > LONGEST:
        return Score(0.0)
    said = _read(library, text[-LONGEST:] if answer is None else f"\\boxed{{{answer}}}")
    return Score(float(bool(said) and bool(library.verify(wanted, said, timeout_seconds=None))))


def _read(library: Any, text: str) -> list[Any]:
    found: list[Any] = library.parse(text, parsing_timeout=None)
    return found


@cache
def _library() -> Any:
    try:
        import math_verify
    except ImportError as error:
        raise missing_extra("math-verify", extra="math", needed_for="verifier: math") from error
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)  # it logs every text it cannot read
    return math_verify
