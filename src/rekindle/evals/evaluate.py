"""Problems -> sampled answers -> outcomes -> the metrics of eval.json.

`metrics` over all problems and per level, each with value, 95 % interval and n; `outcomes` (problem
x sample: score or null), `problems`, `missing`; `values` of each problem in the metrics that
outcomes do not give; with a policy `calibration`. Undefined numbers are null.

A policy's own probabilities say more without a draw, of reference answers and of its own:

    chain_prob  p(reference answer | prompt) = exp(sum_t log p_t), the end token included
    nll         -(1/T) sum_t log p_t of the reference answer, nats a token
    brier       (confidence - correct)^2, confidence = p(greedy answer | prompt)
    ece         sum_b n_b/n |mean confidence_b - mean correct_b|, ten bins of equal width

Where a problem has one right answer, chain_prob is the accuracy of sampling, exactly; elsewhere it
is a lower bound. Brier 1950; expected calibration error: Naeini et al. 2015, Guo et al. 2017.

Axes: P problems, K samples.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rekindle.engine.progress import counting
from rekindle.errors import DataError
from rekindle.evals.intervals import Floats, Interval, cluster, wilson
from rekindle.evals.passk import avg_at_k, maj_at_k, pass_at_k
from rekindle.evals.reading import (
    AnswerLengths,
    Calibration,
    CalibrationBin,
    Cell,
    Eval,
    LevelCells,
    MissingScores,
)
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
    split: str = "",
    model: str = "",
    temperatures: Sequence[float] = (),
    policy: Policy | None = None,
    quiet: bool | None = True,
) -> Eval:
    """Sample, grade and summarise; the structure of eval.json.

    pass@k is for powers of two and `samples`; `greedy` is one answer at temperature 0.

    Args:
        problems, seed: what is asked, `samples` times each (ids must differ), and of the draws.
        temperatures: also sample at these, as often: metric `pass@1@t<T>`.
        policy: whose probabilities give the metrics of likelihood; None: none of them.
        quiet: True: no lines on standard error. `DataError`: no problem, or an id twice.
    """
    _check_ids(problems)
    ks = _default_ks(samples)
    ask = partial(_sample, problems, sampler, task, sample_config, seed)
    with counting("evaluating", _answers(problems, samples, temperatures), quiet=quiet):
        drawn = ask(samples)
        answers = [task.answer_of(r.problem, r.text) for r in drawn.rollouts]
        scored = time.perf_counter()
        cold = ask(1, temperature=0.0, top_p=1.0)
        warm = {f"pass@1@t{t:g}": ask(samples, temperature=t) for t in temperatures}
    greedy_P = cold.outcome_PK[:, 0]
    more = {name: avg_at_k(those.outcome_PK) for name, those in warm.items()}
    own, calibrated = _likelihoods(policy, problems, temperatures, cold.rollouts, greedy_P)
    own = {**more, **own}
    values = {**per_problem(drawn.outcome_PK, _rows(answers, samples), ks, greedy_P), **own}
    result: Eval = {
        "model": model,
        "task": task.name,
        "split": split,
        "seed": seed,
        "n_problems": len(problems),
        "n_samples": samples,
        "sampling": sample_config.model_dump(mode="json"),
        "k": ks,
        "metrics": _summary(values, np.ones(len(problems), dtype=bool), samples),
        "levels": _by_level(problems, values, samples),
        "problems": [{"id": problem.id, "level": problem.level} for problem in problems],
        "outcomes": [_plain_row(row) for row in drawn.outcome_PK],
        "greedy_outcomes": _plain_row(greedy_P),
        "majority": _plain_row(values[f"maj@{samples}"]),
        "values": {name: _plain_row(v) for name, v in own.items()},
    }
    if calibrated is not None:
        result["calibration"] = calibrated
    _add_counts(result, drawn, cold)
    result["time"] = _times(drawn, scored)
    return result


class _Samples(NamedTuple):
    rollouts: list[Rollout]
    scores: list[Score]
    outcome_PK: Floats
    began: float  # when sampling began
    sampled: float  # and ended


def _answers(problems: Sequence[Problem], samples: int, temperatures: Sequence[float]) -> int:
    """How many are drawn: at the temperature of the settings, the others, and 0."""
    return len(problems) * (samples * (1 + len(temperatures)) + 1)


def _sample(
    problems: Sequence[Problem],
    sampler: Sampler,
    task: Task,
    config: SampleConfig,
    seed: int,
    samples: int,
    **changed: float,
) -> _Samples:
    """Graded answers, the settings of sampling `changed`."""
    config, began = config.model_copy(update=changed), time.perf_counter()
    rollouts = sampler.sample(problems, samples=samples, config=config, seed=seed)
    sampled = time.perf_counter()
    scores = grade_all(task, [rollout.response for rollout in rollouts])
    outcomes = np.array([score.value for score in scores], dtype=np.float64)  # None becomes nan
    return _Samples(rollouts, scores, outcomes.reshape(-1, samples), began, sampled)


def _rows(answers: list[str | None], samples: int) -> list[list[str | None]]:
    return [answers[at : at + samples] for at in range(0, len(answers), samples)]


def _times(drawn: _Samples, scored: float) -> dict[str, float]:
    rest = time.perf_counter() - scored  # greedy answers, other temperatures, likelihoods
    return {"sample": drawn.sampled - drawn.began, "score": scored - drawn.sampled, "rest": rest}


def _likelihoods(
    policy: Policy | None,
    problems: Sequence[Problem],
    temperatures: Sequence[float],
    greedy: Sequence[Rollout],
    greedy_P: Floats,
) -> tuple[dict[str, Floats], Calibration | None]:
    """Metrics by the model's own probabilities, and its calibration."""
    if policy is None:
        return {}, None
    values = reference_values(policy, problems, temperatures)
    confidence_P = confidence(greedy)
    values["brier"] = brier(confidence_P, greedy_P)
    return values, calibration(confidence_P, greedy_P)


def _by_level(
    problems: Sequence[Problem], values: Mapping[str, Floats], samples: int
) -> dict[str, LevelCells]:
    levels: dict[str, LevelCells] = {}
    for level in dict.fromkeys(problem.level for problem in problems):
        rows = np.array([problem.level == level for problem in problems])
        levels[level] = {"n_problems": int(rows.sum()), "metrics": _summary(values, rows, samples)}
    return levels


def per_problem(
    outcome_PK: Floats,
    answers: Sequence[Sequence[str | None]],
    ks: Sequence[int],
    greedy_P: Floats,
) -> dict[str, Floats]:
    """Metric -> one value a problem, nan where it is undefined."""
    samples = outcome_PK.shape[1]
    values = {f"pass@{k}": pass_at_k(outcome_PK, k) for k in ks}
    values[f"avg@{samples}"] = avg_at_k(outcome_PK)
    values[f"maj@{samples}"] = maj_at_k(outcome_PK, answers)
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


def _plain(value: float) -> float | int | None:
    number = float(value)
    if number != number:
        return None
    return int(number) if number in (0.0, 1.0) else number


def _plain_row(values: Floats) -> list[float | None]:
    return [_plain(value) for value in values]


def _add_counts(result: Eval, drawn: _Samples, cold: _Samples) -> None:
    """What has no score, what the verifier could not read where it says so, and how long it was."""
    result["missing"] = _missing([*drawn.scores, *cold.scores])
    unreadable = [s.parts["unreadable"] for s in drawn.scores if "unreadable" in s.parts]
    if unreadable:
        result["unreadable"] = sum(value == 1 for value in unreadable)
    result["length"] = _lengths(drawn.rollouts)


def _missing(scores: Sequence[Score]) -> MissingScores:
    reasons = Counter(score.reason for score in scores if score.reason is not None)
    return {"count": sum(reasons.values()), "reasons": dict(reasons)}


def _lengths(rollouts: Sequence[Rollout]) -> AnswerLengths:
    return {
        "mean": sum(len(r.tokens) for r in rollouts) / len(rollouts),
        "truncated": sum(r.finish == "length" for r in rollouts) / len(rollouts),
    }


def metric_names(
    samples: int, *, temperatures: Sequence[float] = (), likelihood: bool = False
) -> list[str]:
    """The metrics that `evaluate` gives.

    `pass@k` of every other k up to `samples` can be had from the outcomes too. Those of likelihood
    need a reference solution.
    """
    names = [f"pass@{k}" for k in _default_ks(samples)]
    names += [f"avg@{samples}", f"maj@{samples}", "greedy"]
    names += [f"pass@1@t{t:g}" for t in temperatures]
    if likelihood:
        chain_prob = [f"chain_prob@t{t:g}" for t in temperatures if t != 1]
        names += ["chain_prob", *chain_prob, "nll", "brier"]
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


# --- likelihoods

_BINS = 10


def reference_values(
    policy: Policy, problems: Sequence[Problem], temperatures: Sequence[float] = ()
) -> dict[str, Floats]:
    """`chain_prob`, `nll` and `chain_prob@t<T>` of each problem, nan where it has no solution.

    Teacher-forced, by the trainer's own forward: same template, mask and end token as the loss.
    Temperatures divide the logits of every token. Empty where no problem has a solution.
    """
    from rekindle.engine.batch import count, pack  # they load torch
    from rekindle.engine.device import micro_tokens
    from rekindle.engine.update import measure_batch

    rows = [i for i, problem in enumerate(problems) if problem.solution is not None]
    if not rows:
        return {}
    prompts = [policy.encode_prompt(problems[i]) for i in rows]
    answers = [policy.encode_completion(problems[i], problems[i].solution or "") for i in rows]
    batch = pack(prompts, answers, reduction="token", total=count(answers))
    limit = micro_tokens(None, policy.device)
    values: dict[str, Floats] = {}
    for temperature in (1.0, *temperatures):
        scores = measure_batch(policy, batch, micro_tokens=limit, temperature=temperature)
        logp = scores.logprobs_BT.nansum(dim=1).numpy()
        name = "chain_prob" if temperature == 1 else f"chain_prob@t{temperature:g}"
        values[name] = _spread(np.exp(logp), rows, len(problems))
        if temperature == 1:
            lengths = np.array([len(answer) for answer in answers])
            values["nll"] = _spread(-logp / lengths, rows, len(problems))
    return values


def confidence(greedy: Sequence[Rollout]) -> Floats:
    """p(answer | prompt) of greedy rollouts, whose log-probs are at temperature 1."""
    return np.exp([sum(rollout.sampled_logprobs) for rollout in greedy])


def brier(confidence_P: Floats, correct_P: Floats) -> Floats:
    """(confidence - correct)^2; nan where correctness is missing."""
    return np.asarray((confidence_P - correct_P) ** 2)


def calibration(confidence_P: Floats, correct_P: Floats) -> Calibration:
    """Expected calibration error and its bins; None where nothing was graded."""
    known = ~np.isnan(correct_P)
    sure, right = confidence_P[known], correct_P[known]
    if not len(sure):
        return {"ece": None, "n": 0, "bins": []}
    bin_P = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    bins: list[CalibrationBin] = [
        {
            "n": int((bin_P == b).sum()),
            "confidence": float(sure[bin_P == b].mean()),
            "correct": float(right[bin_P == b].mean()),
        }
        for b in range(_BINS)
        if (bin_P == b).any()
    ]
    ece = sum(b["n"] * abs(b["confidence"] - b["correct"]) for b in bins) / len(sure)
    return {"ece": ece, "n": len(sure), "bins": bins}


def _spread(values: Floats, rows: Sequence[int], size: int) -> Floats:
    out = np.full(size, np.nan)
    out[list(rows)] = values
    return out
