"""Problems -> sampled answers -> outcomes -> the metrics of eval.json.

`metrics` over all problems and per level, each with value, 95 % interval and n; `outcomes` (problem
x sample: score or null), `problems`, `missing`; `values` of each problem in the metrics that
outcomes do not give; with a policy `calibration`. Undefined numbers are null.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rekindle.errors import DataError
from rekindle.evals.intervals import Floats, Interval, cluster, wilson
from rekindle.evals.passk import avg_at_k, maj_at_k, pass_at_k
from rekindle.evals.reading import AnswerLengths, Calibration, Cell, Eval, LevelCells, MissingScores
from rekindle.records import Problem, Rollout, Score
from rekindle.tasks.task import grade_all

if TYPE_CHECKING:
    from rekindle.engine.config import SampleConfig
    from rekindle.engine.policy import Policy
    from rekindle.engine.sampler import Sampler
    from rekindle.tasks import Task


def evaluate(
    problems: Sequence[Problem],
    *,
    sampler: Sampler,
    task: Task,
    sample_config: SampleConfig,
    samples: int,
    seed: int,
    ks: Sequence[int] | None = None,
    greedy: bool = True,
    split: str = "",
    model: str = "",
    temperatures: Sequence[float] = (),
    policy: Policy | None = None,
) -> Eval:
    """Sample, grade and summarise; the structure of eval.json.

    Args:
        problems, seed: what is asked, `samples` times each (ids must differ), and of the draws.
        ks: of pass@k; None: powers of two up to `samples`, and `samples`.
        greedy: also answer each problem once at temperature 0.
        temperatures: also sample at these, as often: metric `pass@1@t<T>`.
        policy: whose probabilities give the metrics of `evals.likelihood`; None: none of them.

    Raises:
        DataError: no problem, or an id twice.
    """
    _check_ids(problems)
    ks = ks or _default_ks(samples)
    began = time.perf_counter()
    rollouts = sampler.sample(problems, samples=samples, config=sample_config, seed=seed)
    sampled = time.perf_counter()
    scores = grade_all(task, [(r.problem, r.text) for r in rollouts])
    said = [task.answer_of(r.problem, r.text) for r in rollouts]
    scored = time.perf_counter()
    coldly = _greedily(problems, sampler, sample_config, seed) if greedy else []
    greedy_scores = grade_all(task, [(r.problem, r.text) for r in coldly])
    outcome_PK = _table(scores, len(problems), samples)
    greedy_P = _table(greedy_scores, len(problems), 1)[:, 0] if greedy else None
    answers = [said[p * samples : (p + 1) * samples] for p in range(len(problems))]
    more = _at_temperatures(problems, sampler, task, sample_config, samples, seed, temperatures)
    own, calibration = _likelihoods(policy, problems, temperatures, coldly, greedy_P)
    values = {**per_problem(outcome_PK, answers, ks, greedy_P), **more, **own}
    result: Eval = {
        "model": model,
        "task": task.name,
        "split": split,
        "seed": seed,
        "n_problems": len(problems),
        "n_samples": samples,
        "sampling": sample_config.model_dump(mode="json"),
        "k": list(ks),
        "metrics": _summary(values, np.ones(len(problems), dtype=bool), samples),
        "levels": _by_level(problems, values, samples),
        "problems": [{"id": problem.id, "level": problem.level} for problem in problems],
        "outcomes": [_plain_row(row) for row in outcome_PK],
        "greedy_outcomes": None if greedy_P is None else _plain_row(greedy_P),
        "majority": _plain_row(values[f"maj@{samples}"]),
        "values": {name: _plain_row(v) for name, v in {**more, **own}.items()},
    }
    if calibration is not None:
        result["calibration"] = calibration
    result["missing"] = _missing([*scores, *greedy_scores])
    result["length"] = _lengths(rollouts)
    result["time"] = _times(began, sampled, scored)
    return result


def _greedily(
    problems: Sequence[Problem], sampler: Sampler, config: SampleConfig, seed: int
) -> list[Rollout]:
    coldest = config.model_copy(update={"temperature": 0.0, "top_p": 1.0})
    return sampler.sample(problems, samples=1, config=coldest, seed=seed)


def _times(began: float, sampled: float, scored: float) -> dict[str, float]:
    rest = time.perf_counter() - scored  # greedy answers, other temperatures, likelihoods
    return {"sample": sampled - began, "score": scored - sampled, "rest": rest}


def _at_temperatures(
    problems: Sequence[Problem],
    sampler: Sampler,
    task: Task,
    config: SampleConfig,
    samples: int,
    seed: int,
    temperatures: Sequence[float],
) -> dict[str, Floats]:
    """`pass@1@t<T>` of each problem."""
    more = {}
    for temperature in temperatures:
        other = config.model_copy(update={"temperature": temperature})
        rollouts = sampler.sample(problems, samples=samples, config=other, seed=seed)
        graded = grade_all(task, [(r.problem, r.text) for r in rollouts])
        more[f"pass@1@t{temperature:g}"] = avg_at_k(_table(graded, len(problems), samples))
    return more


class _Likelihoods(NamedTuple):
    values: dict[str, Floats]  # metric -> one a problem
    calibration: Calibration | None


def _likelihoods(
    policy: Policy | None,
    problems: Sequence[Problem],
    temperatures: Sequence[float],
    greedy: Sequence[Rollout],
    greedy_P: Floats | None,
) -> _Likelihoods:
    """Metrics by the model's own probabilities, and its calibration."""
    if policy is None:
        return _Likelihoods({}, None)
    from rekindle.evals import likelihood  # loads torch

    values = likelihood.reference_values(policy, problems, temperatures)
    if greedy_P is None:
        return _Likelihoods(values, None)
    confidence_P = likelihood.confidence(greedy)
    values["brier"] = likelihood.brier(confidence_P, greedy_P)
    return _Likelihoods(values, likelihood.calibration(confidence_P, greedy_P))


def _by_level(
    problems: Sequence[Problem], values: Mapping[str, Floats], samples: int
) -> dict[str, LevelCells]:
    levels: dict[str, LevelCells] = {}
    for level in dict.fromkeys(problem.level for problem in problems):
        rows = np.array([problem.level == level for problem in problems])
        levels[level] = {
            "n_problems": int(rows.sum()),
            "metrics": _summary(values, rows, samples),
        }
    return levels


def per_problem(
    outcome_PK: Floats,
    answers: Sequence[Sequence[str | None]],
    ks: Sequence[int],
    greedy_P: Floats | None,
) -> dict[str, Floats]:
    """Metric -> one value a problem, nan where it is undefined."""
    samples = outcome_PK.shape[1]
    values = {f"pass@{k}": pass_at_k(outcome_PK, k) for k in ks}
    values[f"avg@{samples}"] = avg_at_k(outcome_PK)
    values[f"maj@{samples}"] = maj_at_k(outcome_PK, answers)
    if greedy_P is not None:
        values["greedy"] = greedy_P
    return values


def _summary(
    values: Mapping[str, Floats], rows: NDArray[np.bool_], samples: int
) -> dict[str, Cell]:
    return {name: _cell(_interval(name, v[rows], samples)) for name, v in values.items()}


def _interval(name: str, values: Floats, samples: int) -> Interval:
    kept = values[~np.isnan(values)]
    single = name == "greedy" or (name == "pass@1" and samples == 1)
    if single and bool(np.isin(kept, (0.0, 1.0)).all()):
        return wilson(float(kept.sum()), len(kept))
    return cluster(values, bounds=(0.0, math.inf if name == "nll" else 1.0))


def _cell(interval: Interval) -> Cell:
    return {
        "value": _plain(interval.value),
        "ci_low": _plain(interval.ci_low),
        "ci_high": _plain(interval.ci_high),
        "n": interval.n,
    }


def _table(scores: Sequence[Score], problems: int, samples: int) -> Floats:
    flat = [np.nan if score.value is None else score.value for score in scores]
    return np.array(flat, dtype=np.float64).reshape(problems, samples)


def _plain(value: float) -> float | int | None:
    number = float(value)
    if number != number:
        return None
    return int(number) if number in (0.0, 1.0) else number


def _plain_row(values: Floats) -> list[float | None]:
    return [_plain(value) for value in values]


def _missing(scores: Sequence[Score]) -> MissingScores:
    reasons = Counter(score.reason for score in scores if score.reason is not None)
    return {"count": sum(reasons.values()), "reasons": dict(reasons)}


def _lengths(rollouts: Sequence[Rollout]) -> AnswerLengths:
    if not rollouts:
        return {"mean": None, "truncated": None}
    return {
        "mean": sum(len(r.tokens) for r in rollouts) / len(rollouts),
        "truncated": sum(r.finish == "length" for r in rollouts) / len(rollouts),
    }


def metric_names(
    samples: int, *, temperatures: Sequence[float] = (), likelihood: bool = False
) -> list[str]:
    """The metrics that `evaluate` gives with its other arguments left alone.

    `pass@k` of every other k up to `samples` can be had from the outcomes too. Those of likelihood
    need a reference solution.
    """
    names = [f"pass@{k}" for k in _default_ks(samples)]
    names += [f"avg@{samples}", f"maj@{samples}", "greedy"]
    names += [f"pass@1@t{t:g}" for t in temperatures]
    if likelihood:
        names += [
            "chain_prob",
            *(f"chain_prob@t{t:g}" for t in temperatures if t != 1),
            "nll",
            "brier",
        ]
    return names


def _default_ks(samples: int) -> list[int]:
    powers = [2**i for i in range(samples.bit_length()) if 2**i <= samples]
    return powers if powers[-1] == samples else [*powers, samples]


def _check_ids(problems: Sequence[Problem]) -> None:
    if not problems:
        raise DataError("there is no problem to evaluate", fix="choose another split or level")
    twice = [name for name, n in Counter(problem.id for problem in problems).items() if n > 1]
    if twice:
        raise DataError(
            "problem ids occur twice",
            got=twice[:5],
            why="results are matched by id",
            fix="give each problem an id of its own",
        )
