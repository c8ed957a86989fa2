"""What a model's own probabilities say, without a draw: of reference answers, and of its own.

    chain_prob  p(reference answer | prompt) = exp(sum_t log p_t), the end token included
    nll         -(1/T) sum_t log p_t of the reference answer, nats a token
    brier       (confidence - correct)^2, confidence = p(greedy answer | prompt)
    ece         sum_b n_b/n |mean confidence_b - mean correct_b|, ten bins of equal width

Where a problem has one right answer, chain_prob is the accuracy of sampling, exactly; elsewhere it
is a lower bound. Brier 1950; expected calibration error: Naeini et al. 2015, Guo et al. 2017.

Axes: P problems.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rekindle.engine.batch import count, pack
from rekindle.engine.device import micro_tokens
from rekindle.engine.policy import Policy
from rekindle.engine.update import measure_batch
from rekindle.evals.intervals import Floats
from rekindle.evals.reading import Calibration, CalibrationBin
from rekindle.records import Problem, Rollout

_BINS = 10


def reference_values(
    policy: Policy, problems: Sequence[Problem], temperatures: Sequence[float] = ()
) -> dict[str, Floats]:
    """`chain_prob`, `nll` and `chain_prob@t<T>` of each problem, nan where it has no solution.

    Teacher-forced, by the trainer's own forward: same template, mask and end token as the loss.
    Temperatures divide the logits of every token. Empty where no problem has a solution.
    """
    rows = [i for i, problem in enumerate(problems) if problem.solution is not None]
    if not rows:
        return {}
    prompts = [policy.encode_prompt(problems[i]) for i in rows]
    answers = [policy.encode_completion(problems[i], problems[i].solution or "") for i in rows]
    batch = pack(prompts, answers, reduction="token", total=count(answers))
    limit = micro_tokens(None, policy.device)
    found: dict[str, Floats] = {}
    for temperature in (1.0, *temperatures):
        scores = measure_batch(policy, batch, micro_tokens=limit, temperature=temperature)
        logp = scores.logprobs_BT.nansum(dim=1).numpy()
        name = "chain_prob" if temperature == 1 else f"chain_prob@t{temperature:g}"
        found[name] = _spread(np.exp(logp), rows, len(problems))
        if temperature == 1:
            lengths = np.array([len(answer) for answer in answers])
            found["nll"] = _spread(-logp / lengths, rows, len(problems))
    return found


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
    place = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    bins: list[CalibrationBin] = [
        {
            "n": int((place == b).sum()),
            "confidence": float(sure[place == b].mean()),
            "correct": float(right[place == b].mean()),
        }
        for b in range(_BINS)
        if (place == b).any()
    ]
    ece = sum(b["n"] * abs(b["confidence"] - b["correct"]) for b in bins) / len(sure)
    return {"ece": ece, "n": len(sure), "bins": bins}


def _spread(values: Floats, rows: Sequence[int], size: int) -> Floats:
    out = np.full(size, np.nan)
    out[list(rows)] = values
    return out
