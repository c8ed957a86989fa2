"""Study directories as `rekindle study` leaves them, made without training."""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import synthetic_runs as synthetic
import yaml

ARMS = {
    "grpo": {"method": "grpo"},
    "grpo_kl": {"method": "grpo", "grpo": {"beta": 0.02}},
    "lens": {"method": "lens"},
    "lens_8": {"method": "lens", "lens": {"neg_scale": "unit"}},
    "lens_32": {"method": "lens", "lens": {"neg_scale": "unit", "alpha": 1.0}},
}
PROBLEMS, SAMPLES = 60, 8


def make_study(
    directory: Path,
    *,
    arms: dict = ARMS,
    bases: tuple = ("testbed/countdown-s0",),
    seeds: range = range(2),
    evaluations: int = 5,
    every: int = 2,
    rollouts: int = 40,
    text: int = 40,
    pairs: int = 0,
) -> Path:
    """A finished study: `evaluations` of each run, `rollouts` logged by each run of the first base
    and seed, each of about `text` characters, `pairs` of each as well."""
    declared = {"study": "synthetic", "seeds": list(seeds), "bases": list(bases), "arms": arms}
    synthetic.write(directory / "study.yaml", yaml.safe_dump(declared))
    digest = hashlib.sha256(json.dumps(declared, sort_keys=True).encode()).hexdigest()
    manifest = synthetic.manifest("grpo", "countdown", 0) | {"study": "synthetic", "changes": []}
    synthetic.write(directory / "manifest.json", json.dumps(manifest))
    for place, arm in enumerate(arms):
        for base in bases:
            for seed in seeds:
                first = (base, seed) == (bases[0], seeds[0])
                make_member(
                    directory / "runs" / arm / base.split("/")[-1] / f"seed-{seed}",
                    settings=arms[arm],
                    seed=seed,
                    gain=0.4 + 0.2 * place,
                    evaluations=evaluations,
                    every=every,
                    rollouts=rollouts if first else 0,
                    text=text,
                    pairs=pairs if first else 0,
                )
    study = study_json(directory, arms, bases, seeds, digest)
    synthetic.write(directory / "study.json", json.dumps(study))
    return directory


def make_member(place, *, settings, seed, gain, evaluations, every, rollouts, text, pairs):
    """One run of an arm; without weights, checkpoints and, but for the first, without rollouts."""
    steps = (evaluations - 1) * every
    rng = np.random.default_rng([seed, int(100 * gain)])
    method = settings["method"]
    config = {**synthetic.config("grpo", "countdown", seed, steps), **settings}
    synthetic.write(place / "config.yaml", yaml.safe_dump(config))
    manifest = {**synthetic.manifest(method, "countdown", seed), "finished": "2026-07-01T11:00:00Z"}
    synthetic.write(place / "manifest.json", json.dumps(manifest))
    rows = []
    for step in range(1, steps + 1):
        row = synthetic.metrics_row("grpo", step, steps, rng)
        row["advantage/share_all_wrong"] = 0.0 if method == "grpo" else 0.2 + 0.02 * rng.random()
        row["advantage/abs"] = 0.3 + 0.02 * rng.random()
        if method == "lens":
            row["penalty/median"] = 0.6 + 0.02 * rng.random()
        rows.append(row)
    synthetic.lines(place / "metrics.jsonl", rows)
    if rollouts:
        groups = range(1, steps + 1)
        found = [r for s in groups for r in synthetic.sample_rows(s, 8, rng, False)]
        found = found[:: max(1, len(found) // rollouts)][:rollouts]
        for row in found:
            row["text"] = (row["text"] + "; " + " ".join(map(str, rng.integers(0, 999, text))))[
                :text
            ]
        synthetic.lines(place / "samples.jsonl", found)
    if pairs:
        add_pairs(place, pairs)
    skill = rng.normal(0, 0.3)
    for i in range(evaluations):
        result = evaluation(i * every, skill + gain * i / max(1, evaluations - 1), rng)
        synthetic.write(place / "eval" / f"step-{i * every:06d}.json", result)
        synthetic.write(place / "eval.json", result)


def evaluation(step: int, skill: float, rng: np.random.Generator) -> str:
    """An evaluation file as text; the same problems at every step and in every run."""
    levels, shares = {}, []
    for place, level in enumerate(synthetic.LEVELS):
        share = 1 / (1 + math.exp(place - skill + float(rng.normal(0, 0.05))))
        shares.append(share)
        levels[level] = {"n_problems": PROBLEMS // 3, "metrics": cells(share, PROBLEMS // 3)}
    mean = sum(shares) / len(shares)
    return (
        f'{{"step": {step}, "task": "countdown", "split": "dev", "n_problems": {PROBLEMS}, '
        f'"n_samples": {SAMPLES}, "metrics": {json.dumps(cells(mean, PROBLEMS))}, '
        f'"levels": {json.dumps(levels)}, {_OUTCOMES}}}'
    )


_ASKED = [{"id": f"cd-{i}", "level": synthetic.LEVELS[i * 3 // PROBLEMS]} for i in range(PROBLEMS)]
_OUTCOMES = json.dumps(
    {"problems": _ASKED, "outcomes": [[(i + k) % 2 for k in range(SAMPLES)] for i in range(60)]}
)[1:-1]


def cells(share: float, n: int) -> dict:
    """pass@k as if every problem were as hard, and greedy; with an interval over problems."""
    found = {f"pass@{k}": 1 - (1 - share) ** k for k in synthetic.KS} | {"greedy": share}
    half = {name: 1.96 * math.sqrt(v * (1 - v) / n) for name, v in found.items()}
    return {
        name: {"value": v, "ci_low": max(0, v - half[name]), "ci_high": min(1, v + half[name]),
               "n": n}
        for name, v in found.items()
    }  # fmt: skip


def study_json(directory, arms, bases, seeds, digest) -> dict:
    """study.json: every arm against the first, in three metrics, with intervals that are given."""
    baseline, *others = arms
    cost = {"generated": 46_000.0, "trained": 45_000.0, "updates": 400.0, "seconds": 61.5}
    comparisons = []
    for metric in ("pass@8", "pass@1", "greedy"):
        for place, arm in enumerate(others):
            delta = 0.04 * place - 0.03
            comparisons.append(
                {
                    "method": arm, "baseline": baseline, "metric": metric,
                    "lower_is_better": False, "level": None,
                    "primary": metric == "pass@8" and arm == others[-1],
                    "n_seeds": len(seeds), "n_bases": len(bases),
                    "n_pairs": len(seeds) * len(bases), "missing_pairs": 0, "unequal_budget": [],
                    "before": 0.4, "after": 0.4 + delta, "delta": delta, "ci_low": delta - 0.02,
                    "ci_high": delta + 0.02, "p_value": 0.01, "p_holm": 0.04,
                    "n_problems": PROBLEMS, "n_samples": SAMPLES, "split": "dev", "why": "",
                    "verdict": "helps" if delta > 0.02 else "does not" if delta < -0.01
                    else "cannot tell yet",
                }
            )  # fmt: skip
    return {
        "study": "synthetic",
        "claim": "Does it help?",
        "declared": digest,
        "changes": [],
        "commit": "0123456789abcdef0123456789abcdef01234567",
        "dirty": False,
        "command": "rekindle study studies/synthetic.yaml --out runs/synthetic",
        "bases": list(bases),
        "seeds": list(seeds),
        "primary": {"arm": others[-1], "baseline": None, "metric": "pass@8", "level": None},
        "meaningful": 0.01,
        "budget": {"unit": "updates", "at_most": 400, "tolerance": 0.05, "unequal": {}},
        "comparisons": comparisons,
        "pgr": [],
        "arms": {
            arm: {
                "settings": arms[arm],
                "planned": len(seeds) * len(bases),
                "finished": len(seeds) * len(bases),
                "spent": cost,
                "rounds": [],
                "runs": [
                    {
                        "base": base, "seed": seed, **cost,
                        "out": f"runs/synthetic/runs/{arm}/{base.split('/')[-1]}/seed-{seed}",
                    }
                    for base in bases
                    for seed in seeds
                ],
            }
            for arm in arms
        },
        "failed": [],
        "unfinished": 0,
    }  # fmt: skip


NOW, OLD = "a1" * 32, "b2" * 32


def add_pairs(place: Path, n: int) -> None:
    """A round of self-rewarding's stages: candidates, judgements, pairs against the past."""
    answers = {"candidates-1": ("current", NOW), "initial-1": ("initial", OLD)}
    judged, pairs = [], []
    for number, (name, (role, source)) in enumerate(answers.items(), start=1):
        rows = [
            {"id": f"q{i}", "prompt": f"What is {i} + {k}?", "sample": k, "text": f"{role} {i} {k}",
             "answer": str(i + k), "tokens": 7, "finish": "eos", "source": source, "level": "3"}
            for i in range(n) for k in range(2)
        ]  # fmt: skip
        stage(place, number, name, rows, sources={role: source})
        judged += [
            {"id": r["id"], "role": role, "sample": r["sample"], "score": score(r), "reason": None,
             "marks": [score(r), None, score(r)], "replies": [], "source": NOW}
            for r in rows
        ]  # fmt: skip
    stage(place, 3, "judged-1", judged, sources={"judge": NOW})
    for i in range(n):
        pairs.append(
            {"id": f"q{i}", "prompt": f"What is {i} + 1?", "chosen": f"current {i} 1",
             "rejected": f"initial {i} 0", "chosen_score": 1.0 + i % 4, "rejected_score": i % 4 / 2,
             "chosen_source": NOW, "rejected_source": OLD}
        )  # fmt: skip
    stage(place, 4, "pairs-1", pairs, sources={"current": NOW, "initial": OLD})
    row = {"round": 1, "pairs/gap": 1.5, "pairs/similarity": 0.8, "grad_norm": 2.0}
    synthetic.lines(place / "stages" / "rounds.jsonl", [row, {**row, "round": 2, "pairs/gap": 1.2}])


def score(row: dict) -> float:
    """The mark that `add_pairs` gives a candidate."""
    i = int(row["id"][1:])
    return 1.0 + i % 4 if row["sample"] else i % 4 / 2


def stage(place: Path, number: int, name: str, rows: list, *, sources: dict, **facts) -> None:
    """A stage of rows with its record."""
    record = {
        "stage": name, "inputs": {"sources": sources}, "kept": len(rows), "dropped": {"a tie": 3},
        "generated": 100, "seconds": 1.5, **facts,
    }  # fmt: skip
    synthetic.write(place / "stages" / f"{number:02d}-{name}" / "stage.json", json.dumps(record))
    synthetic.lines(place / "stages" / f"{number:02d}-{name}" / "rows.jsonl", rows)
