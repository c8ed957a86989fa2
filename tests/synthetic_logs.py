"""Logs of verl and TRL as these trainers write them, with prompts of known difficulty."""

import json

import numpy as np
import pyarrow
from pyarrow import parquet

SCRIPT = "</script><script>window.HACKED = 1</script><img src=x onerror=HACKED=1>"


def prompt_of(number):
    return f"What is {number} + {number % 7}? {SCRIPT if number == 0 else ''}".strip()


def rows_of(step, prompts, size, rate, rng, *, long=False):
    """The answers of a step: groups one after the other."""
    for number in prompts:
        right = rng.random(size) < rate(number, step)
        for place in range(size):
            answer = number + int(right[place])
            text = f"{SCRIPT if number == 0 else ''} step {step} says {answer}, {rng.integers(999)}"
            yield number, text * (400 if long and place == 0 else 1), float(right[place])


def _steps(steps, asked, prompts, rng):
    """Steps that ask prompts at random, the first of them at the first."""
    for step in range(1, steps + 1):
        numbers = rng.choice(prompts, size=asked, replace=False)
        yield step, [0, *range(1, asked)] if step == 1 else numbers.tolist()


def make_verl(place, *, steps=12, asked=6, prompts=24, size=4, rate, seed=0, long=False):
    """`<step>.jsonl` with a score of 0 or 1 and the reference answer."""
    rng = np.random.default_rng(seed)
    place.mkdir(parents=True, exist_ok=True)
    for step, numbers in _steps(steps, asked, prompts, rng):
        with open(place / f"{step}.jsonl", "w", encoding="utf-8") as file:
            for number, text, score in rows_of(step, numbers, size, rate, rng, long=long):
                row = {"input": prompt_of(number), "output": text, "gts": str(number),
                       "score": score, "step": step, "acc": score}  # fmt: skip
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return place


def make_trl(place, *, steps=12, asked=6, prompts=24, size=4, rate, seed=0, form=None):
    """`completions/completions_*.parquet`: a verifier, and a format reward at a rate of `form`."""
    rng = np.random.default_rng(seed)
    (place / "completions").mkdir(parents=True, exist_ok=True)
    for step, numbers in _steps(steps, asked, prompts, rng):
        rows = list(rows_of(step, numbers, size, rate, rng))
        verdict = np.array([score for _, _, score in rows])
        columns = {
            "step": [step] * len(rows),
            "prompt": [prompt_of(number) for number, _, _ in rows],
            "completion": [text for _, text, _ in rows],
            "verifier": verdict,
        }
        total = verdict
        if form is not None:
            columns["format"] = (rng.random(len(rows)) < form).astype(float)
            total = total + columns["format"]
        groups = total.reshape(-1, size)
        advantage = (groups - groups.mean(1, keepdims=True)) / (
            groups.std(1, ddof=1, keepdims=True) + 1e-4
        )
        columns["advantage"] = advantage.ravel()
        path = place / "completions" / f"completions_{step:05d}.parquet"
        parquet.write_table(pyarrow.table(columns), path)
    return place


def hard(number, step):
    """Most prompts are never solved; a few come."""
    return 0.6 if number % 8 == 0 else 0.05 * (step > 8) * (number % 8 == 1)


def fair(number, step):
    """From always to hardly ever, by prompt."""
    return (number % 8 + 1) / 9
