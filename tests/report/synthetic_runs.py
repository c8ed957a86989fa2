"""Run directories as training leaves them, made without training: the report's test material."""

import json
import math
from pathlib import Path

import numpy as np
import yaml

HOSTILE = (
    "</script><script>window.HACKED = 1</script>",
    "<img src=x onerror='window.HACKED = 2'><svg onload='window.HACKED = 3'>",
    "\x1b[31mred\x1b[0m and \x00 a NUL, a bell \x07",
    "right to left \u202e)4 + 2( \u202c and isolate \u2067x\u2069, zero\u200bwidth",
    "line\u2028separator, paragraph\u2029separator, <!-- comment --> ]]> {{ 7 * 7 }} ${7*7}",
    "half a pair \ud83d, whole pair \U0001f600, <textarea></title>&lt;b&gt;&amp;",
)
LONG = "x" * 500_000 + "<b>middle</b>" + "y" * 500_000  # a line of 1 MB
LEVELS = ("3", "4", "5")
KS = (1, 2, 4, 8)


def make_run(
    directory: Path,
    *,
    method: str = "grpo",
    task: str = "countdown",
    seed: int = 0,
    gain: float = 1.2,
    steps: int = 100,
    planned: int | None = None,
    eval_every: int = 20,
    problems: int = 40,
    samples: int = 8,
    rollouts: int = 16,
    hostile: bool = False,
) -> Path:
    """A finished run (or one stopped after `steps` of `planned`) whose ability grows by `gain`."""
    rng = np.random.default_rng(seed + 17)
    directory.mkdir(parents=True)
    write(directory / "config.yaml", yaml.safe_dump(config(method, task, seed, planned or steps)))
    write(directory / "manifest.json", json.dumps(manifest(method, task, seed), indent=2))
    rows = [metrics_row(method, step, steps, rng) for step in range(1, steps + 1)]
    lines(directory / "metrics.jsonl", rows)
    if method != "sft" and rollouts:
        found = [r for s in range(1, steps + 1) for r in sample_rows(s, rollouts, rng, hostile)]
        lines(directory / "samples.jsonl", found)
    for step in range(0, steps + 1, eval_every):
        result = evaluation(step, task, gain * step / max(steps, 1), problems, samples, seed)
        write(directory / "eval" / f"step-{step:06d}.json", json.dumps(result))
        write(directory / "eval.json", json.dumps(result))
    return directory


def config(method: str, task: str, seed: int, steps: int) -> dict:
    """A resolved recipe."""
    shared = {
        "method": method,
        "seed": seed,
        "model": {"name": f"testbed/{task}-s{seed}", "dtype": "float32"},
        "task": {"name": task, "levels": ["4"] if task == "countdown" else None},
        "sample": {"temperature": 1.0, "max_new_tokens": 24},
        "optim": {"steps": steps, "problems": 32, "lr": 0.0005, "betas": [0.9, 0.95]},
        "eval": {"every": 20, "split": "test", "problems": 40, "samples": 8},
    }
    return shared | ({"grpo": {"group_size": 8}} if method == "grpo" else {"sft": {}})


def manifest(method: str, task: str, seed: int) -> dict:
    """What a run records about itself."""
    return {
        "rekindle": "0.1.0",
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "dirty": seed == 1,
        "diff_sha": "fedcba" if seed == 1 else None,
        "python": "3.11.9",
        "packages": {"torch": "2.13.0", "transformers": "5.23.0"},
        "platform": "Linux x86_64",
        "command": f"rekindle train recipes/{method}_{task}_testbed.yaml --out runs/{method}-{seed}"
        f" --set seed={seed} --set 'model.name=testbed/{task}-s{seed}'",
        "seed": seed,
        "fingerprints": {"data": "ab" * 32, "model": "cd" * 32},
        "started": "2026-07-01T10:00:00Z",
        "sessions": [{"started": "2026-07-01T10:00:00Z", "from_step": 0}],
    }


def metrics_row(method: str, step: int, steps: int, rng: np.random.Generator) -> dict:
    """One step's numbers; what a method does not have is null."""
    t = step / steps
    row = {
        "step": step,
        "lr": 5e-4,
        "loss": float(rng.normal(0, 0.02)) if method != "sft" else 1.2 * math.exp(-3 * t),
        "entropy": 1.1 - 0.7 * t + float(rng.normal(0, 0.03)),
        "kl": None,
        "grad_norm": 0.6 + float(rng.gamma(2, 0.1)),
        "tokens/trained": float(rng.integers(2000, 3000)),
        "time/update": 0.15 + float(rng.gamma(2, 0.01)),
        "time/eval": 4.0 if step % 20 == 1 else 0.0,
        "time/checkpoint": 0.1 if step % 50 == 0 else 0.0,
    }
    if method == "sft":
        row |= {"accuracy/token": 0.6 + 0.35 * t, "time/step": row["time/update"] + 0.02}
        return row
    wrong = 0.6 - 0.4 * t + float(rng.normal(0, 0.04))
    right = 0.02 + 0.3 * t + float(rng.normal(0, 0.01))
    row |= {
        "reward/mean": 0.1 + 0.4 * t + float(rng.normal(0, 0.03)),
        "reward/std": 0.4,
        "groups/all_wrong": wrong,
        "groups/tied": 0.02,
        "groups/mixed": 1 - wrong - right - 0.03,
        "groups/all_right": right,
        "groups/missing": 0.01,
        "groups/no_signal": wrong + right + 0.02,
        "clip_ratio": 0.01 * t,
        "tokens/generated": row["tokens/trained"] + 1500.0,
        "length/mean": 15.0,
        "length/truncated": 0.0,
        "time/sample": 0.3 + float(rng.gamma(2, 0.02)),
        "time/score": 0.02,
    }
    row["time/step"] = row["time/sample"] + row["time/score"] + row["time/update"] + 0.03
    return row


def sample_rows(step: int, n: int, rng: np.random.Generator, hostile: bool) -> list[dict]:
    """Some rollouts of a step in groups of eight, with scores that fit their group's class."""
    rows = []
    for group in range(n // 8):
        share = rng.choice([0.0, 0.4, 1.0], p=[0.4, 0.5, 0.1])
        a, b, c = (int(x) for x in rng.integers(1, 30, 3))
        for sample in range(8):
            missing = "verifier: out of time" if rng.random() < 0.01 else None
            right = bool(rng.random() < share)
            text = f"{a} + {b} * {c} = {a + b * c}" if right else f"{a} + {b} = {a + b}"
            if hostile and step <= len(HOSTILE) and sample == 0:
                text = HOSTILE[step - 1]
            if hostile and step == 7 and sample == 0:
                text = LONG
            rows.append(
                {
                    "step": step,
                    "group": group,
                    "problem": f"cd4-{step}-{group}",
                    "level": str(rng.choice(LEVELS)) if sample == 0 else rows[-1]["level"],
                    "prompt": f"numbers {a} {b} {c} target {a + b * c}\n",
                    "answer": str(a + b * c),
                    "sample": sample,
                    "text": text,
                    "score": None if missing else float(right),
                    "missing": missing,
                    "parts": {"verifier": None if missing else float(right), "length": -0.125},
                    "reward": None if missing else float(right),
                    "advantage": 0.0 if missing else (float(right) - share) / 0.5,
                    "group_class": {0.0: "all_wrong", 0.4: "mixed", 1.0: "all_right"}[share],
                    "tokens": len(text.split()),
                    "sum_logprob": -3.25,
                    "finish": "eos",
                }
            )
    return rows


def evaluation(step: int, task: str, gain: float, problems: int, samples: int, seed: int) -> dict:
    """An evaluation file: every level's problems at their own difficulty, the same at each step."""
    listed, outcomes = [], []
    draws = np.random.default_rng([seed, step])
    for place, level in enumerate(LEVELS):
        hard = np.random.default_rng([place]).normal(-1.2 - place, 1.2, problems)
        for i in range(problems):
            p = 1 / (1 + math.exp(-(hard[i] + gain)))
            listed.append({"id": f"{task}-{level}-{i}", "level": level})
            outcomes.append([int(x) for x in draws.random(samples) < p])
    blocks = {}
    for level in LEVELS:
        mine = [o for o, item in zip(outcomes, listed, strict=True) if item["level"] == level]
        blocks[level] = {"n_problems": len(mine), "metrics": metrics_of(mine)}
    return {
        "step": step,
        "model": f"testbed/{task}-s{seed}",
        "task": task,
        "split": "test",
        "seed": 0,
        "n_problems": len(listed),
        "n_samples": samples,
        "sampling": {"temperature": 1.0},
        "k": [k for k in KS if k <= samples],
        "metrics": metrics_of(outcomes),
        "levels": blocks,
        "problems": listed,
        "outcomes": outcomes,
        "greedy_outcomes": [row[0] for row in outcomes],
        "majority": [int(2 * sum(row) > len(row)) for row in outcomes],
        "missing": {"count": 0, "reasons": {}},
        "time": {"sample": 1.0},
    }


def metrics_of(outcomes: list[list[int]]) -> dict:
    """pass@k by counting subsets, avg@n and greedy, with a normal interval over problems."""
    n = len(outcomes[0])
    found = {}
    for k in [k for k in KS if k <= n]:
        each = [1 - math.comb(n - sum(row), k) / math.comb(n, k) for row in outcomes]
        found[f"pass@{k}"] = cell(each)
    found[f"avg@{n}"] = cell([sum(row) / n for row in outcomes])
    found[f"maj@{n}"] = cell([float(2 * sum(row) > n) for row in outcomes])
    found["greedy"] = cell([float(row[0]) for row in outcomes])
    return found


def cell(values: list[float]) -> dict:
    """A mean over problems with its interval."""
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1) / len(values))
    low, high = max(0.0, mean - 1.96 * spread), min(1.0, mean + 1.96 * spread)
    return {"value": mean, "ci_low": low, "ci_high": high, "n": len(values)}


def write(path: Path, text: str) -> None:
    """Text to a file whose folder may be missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def lines(path: Path, rows: list[dict]) -> None:
    """JSON lines; half a surrogate pair is an escape, as JSON allows."""
    write(path, "".join(json.dumps(row) + "\n" for row in rows))
