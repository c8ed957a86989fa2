"""Sums for a pretrained language model: two that are solved, then one to solve.

    prompt    2 + 3 = 5
              6 + 1 = 7
              17 + 48 =
    solution  65

The solved ones show the form, so that a model needs no instructions. Levels 2 to 4 are the most
digits of a number. A line ends an answer, which is right where it is the number and nothing else.
"""

import random
import re

from rekindle.tasks.task import Generated, GeneratedProblem

_SHOWN = ((2, 3), (6, 1))
_SHOTS = "".join(f"{a} + {b} = {a + b}\n" for a, b in _SHOWN)
_NUMBER = re.compile(r"\s*(\d{1,6})\s*", re.ASCII)


def _key(a: int, b: int) -> str:
    return f"{min(a, b)}+{max(a, b)}"


_SHOWN_KEYS = [_key(a, b) for a, b in _SHOWN]


def make(level: str, rng: random.Random) -> GeneratedProblem:
    """Two numbers of at most `level` digits; the solved sums are never asked."""
    largest, key = 10 ** int(level) - 1, _SHOWN_KEYS[0]
    while key in _SHOWN_KEYS:
        a, b = rng.randint(0, largest), rng.randint(0, largest)
        key = _key(a, b)
    return GeneratedProblem(
        key=key,
        prompt=f"{_SHOTS}{a} + {b} =",
        answer=str(a + b),
        solution=f" {a + b}",
    )


def answer(text: str) -> str | None:
    """The number that the text is, None where it is anything else."""
    match = _NUMBER.fullmatch(text)
    return str(int(match[1])) if match else None


TASK = Generated(
    name="sums",
    levels=("2", "3", "4"),
    max_new_tokens=8,
    make=make,
    answer=answer,
    stop=("\n",),
)
