"""One step's answers: sampled, scored, and gathered over processes.

A group is one asking of one problem. Each process holds its own rollouts; every process holds the
light rows of all, so that whole-group statistics are the same everywhere.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from rekindle.engine.batch import Batch, count, pack
from rekindle.engine.device import Group
from rekindle.errors import TrainingError
from rekindle.ops.groups import (
    SCORED_CLASSES,
    Credit,
    ScoredRows,
    classify,
    group_rows,
    is_tied,
)
from rekindle.records import Problem, Rollout, Score

SampleRow = dict[str, int | float | str | dict[str, float | None] | None]  # of samples.jsonl


class Grade(NamedTuple):
    """What is known of an answer: the training verifier's verdict, and the reward model's score."""

    verdict: Score
    reward: Score | None  # None: there is no reward model

    @property
    def score(self) -> Score:
        """The verdict with the reward model's score among its parts."""
        if self.reward is None:
            return self.verdict
        parts = {**self.verdict.parts, "rm": self.reward.value}
        return Score(self.verdict.value, reason=self.verdict.reason, parts=parts)


class AnswerRow(NamedTuple):
    """What other processes need to know of one answer."""

    group: int
    sample: int
    correct: float  # nan: missing
    sum_logprob: float
    tokens: int
    missing: str | None
    rm_score: float = math.nan  # the reward model's; nan: missing, or there is none
    rm_missing: str | None = None
    true: float = math.nan  # by the strongest check there is
    unreadable: float = math.nan  # 1: a text that the verifier cannot read; nan: it does not say


@dataclass(frozen=True)
class Collected:
    """Scored answers of a step.

    Attributes:
        rollouts, scores, groups: this process's answers, their scores, and each one's group.
        gathered: the rows of all processes, sorted by group and sample.
        problems: how many were drawn on all processes, kept or not.
        generated: tokens sampled on all processes, kept or not.
    """

    rollouts: list[Rollout]
    scores: list[Score]
    groups: list[int]
    gathered: list[AnswerRow]
    problems: int
    generated: int

    @cached_property
    def rows(self) -> ScoredRows:
        """All processes' rows as the formulas take them, fp64."""
        return ScoredRows(
            group=[row.group for row in self.gathered],
            correct_N=column([row.correct for row in self.gathered]),
            rm_score_N=column([row.rm_score for row in self.gathered]),
            sum_logprob_N=column([row.sum_logprob for row in self.gathered]),
            num_tokens_N=column([float(row.tokens) for row in self.gathered]),
        )

    @cached_property
    def position(self) -> list[int]:
        """The place of each of this process's rollouts in `rows`."""
        at = {row[:2]: i for i, row in enumerate(self.gathered)}
        return [
            at[group, rollout.sample]
            for group, rollout in zip(self.groups, self.rollouts, strict=True)
        ]

    def minibatches(self, parts: int) -> list[list[int]]:
        """This process's rows in `parts` lists, whole groups together."""
        out: list[list[int]] = [[] for _ in range(parts)]
        for row, group in enumerate(self.groups):
            out[group % parts].append(row)
        return out

    def mixed_groups(self) -> list[int]:
        """The groups in which the verifier scores some answers above others."""
        grouping = group_rows(self.rows.group)
        classes = classify(grouping.gather(self.rows.correct_N))
        return [
            int(str(key))
            for key, name in zip(grouping.keys, classes, strict=True)
            if name == "mixed"
        ]

    def only(self, groups: Sequence[int]) -> "Collected":
        """These groups; what was asked and generated for the others still counts as cost."""
        keep = set(groups)
        mine = [i for i, group in enumerate(self.groups) if group in keep]
        return replace(
            self,
            rollouts=[self.rollouts[i] for i in mine],
            scores=[self.scores[i] for i in mine],
            groups=[self.groups[i] for i in mine],
            gathered=[row for row in self.gathered if row.group in keep],
        )

    def join(self, other: "Collected") -> "Collected":
        """Both, this one first."""
        return Collected(
            rollouts=self.rollouts + other.rollouts,
            scores=self.scores + other.scores,
            groups=self.groups + other.groups,
            gathered=self.gathered + other.gathered,
            problems=self.problems + other.problems,
            generated=self.generated + other.generated,
        )

    def batch(self) -> Batch:
        """This process's rollouts, to be measured."""
        completions = [rollout.tokens for rollout in self.rollouts]
        prompts = [rollout.prompt_tokens for rollout in self.rollouts]
        return pack(prompts, completions, reduction="token", total=count(completions))

    def with_sums(self, sum_logprobs: Sequence[float], group: Group) -> "Collected":
        """Other log-probs of whole answers: one a rollout of this process, gathered over all."""
        mine = [
            (key, rollout.sample, value)
            for key, rollout, value in zip(self.groups, self.rollouts, sum_logprobs, strict=True)
        ]
        sums = {item[:2]: item[2] for item in group.gather_objects(mine)}
        rows = [row._replace(sum_logprob=sums[row[:2]]) for row in self.gathered]
        return replace(self, gathered=rows)


def answer_rows(
    groups: Sequence[int], rollouts: Sequence[Rollout], grades: Sequence[Grade]
) -> list[AnswerRow]:
    """This process's answers as every process will know them."""
    return [
        AnswerRow(
            group=group,
            sample=rollout.sample,
            correct=known(verdict.value),
            sum_logprob=sum(rollout.sampled_logprobs),
            tokens=len(rollout.tokens),
            missing=verdict.reason,
            rm_score=math.nan if reward is None else known(reward.value),
            rm_missing=None if reward is None else reward.reason,
            true=known(verdict.parts.get("true", verdict.value)),
            unreadable=known(verdict.parts.get("unreadable")),
        )
        for group, rollout, (verdict, reward) in zip(groups, rollouts, grades, strict=True)
    ]


def distinct(problems: Sequence[Problem]) -> list[Problem]:
    """A problem drawn twice in a step is two groups, with draws of their own."""
    seen: Counter[str] = Counter()
    out = []
    for problem in problems:
        seen[problem.id] += 1
        times = seen[problem.id]
        out.append(problem if times == 1 else replace(problem, id=f"{problem.id}#{times}"))
    return out


def column(values: Sequence[float | None]) -> Float[Tensor, " N"]:
    """Scores as a column, fp64; nan where one is missing."""
    return torch.tensor([known(value) for value in values], dtype=torch.float64)


def known(value: float | None) -> float:
    """A score as the formulas take it: nan where it is missing."""
    return math.nan if value is None else value


def refuse_too_many_missing(
    reasons: Sequence[str | None], at_most: float, setting: str, what: str, *, fix: str
) -> None:
    """Stop when more than this share of some answers lacks a score.

    Args:
        reasons: why each answer has none; None: it has one.
        at_most, setting: the share, and what sets it.
        what: they lack.

    Raises:
        TrainingError: with the count of each reason.
    """
    counts = Counter(reason for reason in reasons if reason is not None)
    missing = counts.total()
    if missing > at_most * len(reasons):
        raise TrainingError(
            f"too many answers have no {what}",
            got=f"{missing} of {len(reasons)}: {dict(counts.most_common(5))}",
            wanted=f"at most {at_most:.0%} ({setting})",
            why=f"a missing {what} is not a 0, and training on the few that are left would mislead",
            fix=fix,
        )


def sample_rows(step: int, collected: Collected, credit: Credit, *, limit: int) -> list[SampleRow]:
    """About `limit` of this process's rollouts, whole groups spread over the step, as the lines of
    samples.jsonl; the method's own columns stand behind `advantage`."""
    rows: list[SampleRow] = []
    for i in _spread(collected.groups, limit):
        rollout, score = collected.rollouts[i], collected.scores[i]
        at, problem = collected.position[i], rollout.problem
        rows.append(
            {
                "step": step,
                "group": collected.groups[i],
                "problem": problem.id,
                "level": problem.level,
                "prompt": problem.prompt,
                "answer": problem.answer,
                "sample": rollout.sample,
                "text": rollout.text,
                "score": score.value,
                "missing": score.reason,
                "parts": dict(score.parts),
                "reward": float(credit.reward_N[at]),
                "advantage": float(credit.advantage_N[at]),
                **{name: float(column[at]) for name, column in credit.columns.items()},
                "group_class": credit.group_class_N[at],
                "tokens": len(rollout.tokens),
                "sum_logprob": collected.gathered[at].sum_logprob,
                "finish": rollout.finish,
            }
        )
    return rows


def _spread(groups: Sequence[int], limit: int) -> list[int]:
    names = list(dict.fromkeys(groups))
    if not names or limit < 1:
        return []
    size = len(groups) // len(names)
    wanted = max(1, min(len(names), limit // max(size, 1)))
    chosen = {names[i * len(names) // wanted] for i in range(wanted)}
    return [i for i, group in enumerate(groups) if group in chosen]


def reward_metrics(rows: ScoredRows, credit: Credit) -> dict[str, float]:
    """Mean score and reward, and the shares of group classes; nan where nothing was scored.

    `groups/no_signal` counts the groups with a score in which no two rewards differ, whatever their
    class.
    """
    grouping = group_rows(rows.group)
    names = credit.group_class_N
    class_P = [names[row] for row in grouping.row_PG[:, :1].flatten().tolist()]
    classes, groups = Counter(class_P), len(class_P)
    tied_P = is_tied(grouping.gather(credit.reward_N)).tolist()
    silent = sum(t for t, name in zip(tied_P, class_P, strict=True) if name != "missing")
    size_N = credit.advantage_N.abs()
    valid_N = ~credit.reward_N.isnan()
    reward_N = credit.reward_N[valid_N]
    return {
        "reward/mean": float(reward_N.mean()) if len(reward_N) else torch.nan,
        "reward/std": float(reward_N.std()) if len(reward_N) > 1 else torch.nan,
        "score/mean": float(rows.correct_N.nanmean()) if len(reward_N) else torch.nan,
        "score/missing": float((~valid_N).double().mean()) if len(valid_N) else torch.nan,
        "advantage/abs": float(size_N.mean()) if len(valid_N) else torch.nan,
        **{
            f"advantage/share_{name}": _share(size_N, [n == name for n in names])
            for name in SCORED_CLASSES
        },
        **{
            f"groups/{name}": classes[name] / groups if groups else torch.nan
            for name in (*SCORED_CLASSES, "missing")
        },
        "groups/no_signal": silent / groups if groups else torch.nan,
    }


def _share(size_N: Tensor, chosen_N: Sequence[bool]) -> float:
    """Part of the whole that the chosen rows hold; nan where the whole is 0."""
    whole = float(size_N.sum())
    part = float(size_N[torch.tensor(chosen_N, dtype=torch.bool)].sum())
    return part / whole if whole else torch.nan
