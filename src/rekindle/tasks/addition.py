"""Addition of long numbers, digit by digit from the right, with carries. One solution.

    prompt    4 7 3+5 8 9:
    solution  3+9+0=12,7+8+1=16,4+5+1=10;1 0 6 2

Digits are spaced so that each is a token of its own. Levels 2 to 5 are the count of digits. Graded
by the number after the `;`.
"""

import random
import re

from rekindle.tasks.task import Generated, GeneratedProblem

_RESULT = re.compile(r";\s*(\d(?: \d)*)\s*$", re.ASCII)


def make(level: str, rng: random.Random) -> GeneratedProblem:
    """Two numbers of `level` digits each."""
    low, high = 10 ** (int(level) - 1), 10 ** int(level) - 1
    a, b = rng.randint(low, high), rng.randint(low, high)
    steps, carry = [], 0
    for x, y in zip(reversed(str(a)), reversed(str(b)), strict=True):
        total = int(x) + int(y) + carry
        steps.append(f"{x}+{y}+{carry}={total}")
        carry = total // 10
    smaller, larger = sorted((a, b))
    return GeneratedProblem(
        key=f"{smaller}+{larger}",
        prompt=f"{' '.join(str(a))}+{' '.join(str(b))}:",
        answer=str(a + b),
        solution=f"{','.join(steps)};{' '.join(str(a + b))}",
    )


def answer(text: str) -> str | None:
    """The number after the last `;`, None when there is none."""
    match = _RESULT.search(text)
    return match[1].replace(" ", "") if match else None


TASK = Generated(
    name="addition",
    levels=("2", "3", "4", "5"),
    max_new_tokens=64,
    make=make,
    answer=answer,
)
