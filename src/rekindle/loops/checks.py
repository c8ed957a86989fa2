"""Settings that no group method can use, and rows that none can use; each refusal says why."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor

from rekindle.engine.config import SampleConfig
from rekindle.engine.policy import Policy
from rekindle.errors import ConfigError, DataError
from rekindle.loops.group_step import StepConfig
from rekindle.ops.groups import ScoredRows
from rekindle.rewards.reward_model import Answered


def check_group_settings(config: StepConfig, sample: SampleConfig) -> None:
    """The `check` of every method that compares the answers of a group.

    Raises:
        ConfigError: groups of one, or training samples from another distribution than is trained.
    """
    if config.group_size < 2:
        section = type(config).__module__.rpartition(".")[2]  # a method's file names its section
        raise ConfigError(
            f"{section}.group_size is too small",
            got=config.group_size,
            wanted="at least 2",
            why="the baseline is the group's mean, so a group of one always has advantage 0",
            fix=f"--set {section}.group_size=8",
        )
    check_sampling(sample)


def check_sampling(sample: SampleConfig) -> None:
    """Training samples must come from the distribution whose log-probs are trained.

    Raises:
        ConfigError: greedy, or cut by top_p.
    """
    if sample.temperature == 0:
        raise ConfigError(
            "sample.temperature is 0 while training samples groups",
            got=0,
            wanted="above 0, usually 1.0",
            why="greedy answers to one problem are all the same, so every advantage is 0",
            fix="--set sample.temperature=1.0",
        )
    if sample.top_p < 1:
        raise ConfigError(
            "sample.top_p below 1 does not go with an importance ratio",
            got=sample.top_p,
            wanted="1.0",
            why="answers then come from a truncated distribution while the ratio is taken between "
            "full ones: the gradient is biased towards what top_p keeps",
            fix="--set sample.top_p=1.0 (evaluation may use any: rekindle eval)",
        )


def refuse_faults(section: str, faults: Mapping[str, object], *, got: str, page: str) -> None:
    """Settings of a method that go one by one and not together; a fault is there where it is true.

    Raises:
        ConfigError: names the first fault; `page` says what the method's page has of such settings.
    """
    for fault in (name for name, holds in faults.items() if holds):
        raise ConfigError(
            f"{section}: {fault}",
            got=got,
            why="the setting would change nothing, or not what its name says",
            fix=f"leave one of them out; docs/methods/{section}.md {page}",
        )


def encoded(
    policy: Policy, answers: Sequence[Answered], what: str
) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Prompts and answers as tokens, to be trained on.

    Raises:
        DataError: one does not fit the model's context; `what` they are says which.
    """
    prompts = [policy.encode_prompt(problem) for problem, _ in answers]
    completions = [policy.encode_completion(problem, text) for problem, text in answers]
    for (problem, _), prompt, completion in zip(answers, prompts, completions, strict=True):
        if len(prompt) + len(completion) > policy.context:
            raise DataError(
                f"{what} '{problem.id}' is longer than the model's context",
                got=f"{len(prompt) + len(completion)} tokens",
                wanted=f"at most {policy.context}",
                fix="shorten or drop it, or use a model with a longer context",
            )
    return prompts, completions


def check_rows(rows: ScoredRows, *, needs: Sequence[str] = ()) -> None:
    """Scored rows must have what the formula reads; a row without a score is left out of its group.

    Args:
        rows: of whole groups.
        needs: columns that every scored row must have.

    Raises:
        DataError: a score outside 0 to 1, a missing number, a log-prob above 0; the first such row
            is named.
    """
    scored_N = ~rows.correct_N.isnan()
    outside_N = scored_N & ~((rows.correct_N >= 0) & (rows.correct_N <= 1))
    _refuse_row(rows, outside_N, "correct", wanted="0 to 1", fix="map wrong to 0 and right to 1")
    for name in needs:
        values_N = getattr(rows, name)
        plain = name.removesuffix("_N")
        _refuse_row(
            rows,
            scored_N & ~values_N.isfinite(),
            plain,
            wanted="a finite number for every answer that has a score",
            fix="log-probs and lengths come with the answers; leave an answer out by correct: null",
        )
        if plain == "sum_logprob":
            _refuse_row(
                rows, scored_N & (values_N > 1e-6), plain, wanted="0 or less: it is a log-prob"
            )


def refuse_no_reward_model(rows: ScoredRows) -> None:
    """Methods that rank by a reward model need one.

    Raises:
        DataError: no row has a score; single ones may be missing.
    """
    if len(rows.group) and bool(rows.rm_score_N.isnan().all()):
        raise DataError(
            "no answer has a score of a reward model",
            wanted="'rm_score', a finite number",
            why="this method ranks answers within a verdict by it",
            fix="--set reward.model=DIR (rekindle reward train makes one), or reward.url; "
            "rows of a file need the field 'rm_score'",
        )


def _refuse_row(
    rows: ScoredRows, refused_N: Tensor, name: str, *, wanted: str, fix: str | None = None
) -> None:
    if not bool(refused_N.any()):
        return
    row = int(refused_N.nonzero()[0])
    value = float(getattr(rows, f"{name}_N")[row])
    raise DataError(
        f"row {row + 1} (group '{rows.group[row]}') has no usable '{name}'",
        got="nothing" if math.isnan(value) else value,
        wanted=wanted,
        why="group statistics would be wrong for all its answers",
        fix=fix,
    )
