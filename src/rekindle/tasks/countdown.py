"""Countdown: reach a target with all the numbers, each used once. Many solutions, replayed exactly.

    prompt    1,5,7>36:
    solution  7*5=35;35+1=36

Levels 3, 4 and 5 are the count of numbers (1 to 9). Every intermediate value lies in 1..49;
division must be exact. An answer is right when each step is true arithmetic on numbers that are
still there, and the last number left is the target.
"""

import random
import re
from fractions import Fraction

from rekindle.records import Problem, Score
from rekindle.tasks.task import Generated, GeneratedProblem

LARGEST = 49
_STEP = re.compile(r"(\d{1,6})([-+*/])(\d{1,6})=(\d{1,6})", re.ASCII)


def _apply(a: int, op: str, b: int) -> Fraction | None:
    if op == "+":
        return Fraction(a + b)
    if op == "-":
        return Fraction(a - b)
    if op == "*":
        return Fraction(a * b)
    return Fraction(a, b) if b else None


def make(level: str, rng: random.Random) -> GeneratedProblem:
    """Combine random numbers by random operations until one is left: that one is the target."""
    while True:
        numbers = [rng.randint(1, 9) for _ in range(int(level))]
        pool, steps = list(numbers), []
        while len(pool) > 1:
            a = pool.pop(rng.randrange(len(pool)))
            b = pool.pop(rng.randrange(len(pool)))
            results = [(op, _apply(a, op, b)) for op in "+-*/"]
            fine = [
                (op, int(c))
                for op, c in results
                if c is not None and c.denominator == 1 and 1 <= c <= LARGEST
            ]
            if not fine:
                break
            op, c = rng.choice(fine)
            steps.append(f"{a}{op}{b}={c}")
            pool.append(c)
        if len(steps) == len(numbers) - 1:
            shown = ",".join(str(number) for number in numbers)
            key = ",".join(str(number) for number in sorted(numbers))
            return GeneratedProblem(
                key=f"{key}>{pool[0]}",
                prompt=f"{shown}>{pool[0]}:",
                answer=str(pool[0]),
                solution=";".join(steps),
            )


def check(problem: Problem, text: str) -> Score:
    """Replay every step against the numbers that are left."""
    numbers, _, target = problem.prompt.rstrip(":").partition(">")
    pool = [int(number) for number in numbers.split(",")]
    for part in text.strip().split(";"):
        step = _STEP.fullmatch(part)
        if step is None:
            return Score(0.0)
        a, op, b, c = int(step[1]), step[2], int(step[3]), int(step[4])
        for used in (a, b):
            if used not in pool:
                return Score(0.0)
            pool.remove(used)
        if _apply(a, op, b) != c:
            return Score(0.0)
        pool.append(c)
    return Score(float(pool == [int(target)]))


def answer(text: str) -> str | None:
    """None: with many right answers a vote over them says nothing."""
    return None


TASK = Generated(
    name="countdown",
    levels=("3", "4", "5"),
    max_new_tokens=32,
    make=make,
    check=check,
    answer=answer,
)
