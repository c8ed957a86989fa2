"""Chain: apply operations one after the other. One answer, shown step by step.

    prompt    7+5-3*2:
    solution  7+5=12;12-3=9;9*2=18

From left to right, without precedence. Levels 2, 3 and 4 are the count of operations; values lie in
0..49, operands in 1..9. Graded by the final value alone.
"""

import random
import re

from rekindle.tasks.task import Generated, GeneratedProblem

LARGEST = 49
_LAST = re.compile(r"=(\d{1,6})\s*$", re.ASCII)


def make(level: str, rng: random.Random) -> GeneratedProblem:
    """A start value and operations that stay within 0..49."""
    value = rng.randint(0, LARGEST)
    prompt, steps = str(value), []
    for _ in range(int(level)):
        choices = [
            (op, operand, result)
            for operand in range(1, 10)
            for op, result in (
                ("+", value + operand),
                ("-", value - operand),
                ("*", value * operand),
            )
            if 0 <= result <= LARGEST
        ]
        op, operand, result = rng.choice(choices)
        prompt += f"{op}{operand}"
        steps.append(f"{value}{op}{operand}={result}")
        value = result
    return GeneratedProblem(
        key=prompt, prompt=prompt + ":", answer=str(value), solution=";".join(steps)
    )


def answer(text: str) -> str | None:
    """The value after the last `=`, None when the text does not end in one."""
    match = _LAST.search(text)
    return str(int(match[1])) if match else None


TASK = Generated(
    name="chain",
    levels=("2", "3", "4"),
    max_new_tokens=32,
    make=make,
    answer=answer,
)
