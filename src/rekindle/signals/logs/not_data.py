"""Rows of a log that are no data of training: batches written twice, answers of an evaluation."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from itertools import combinations, pairwise
from typing import NamedTuple

import numpy as np

from rekindle.signals.logs.run_log import Bools, Ints, RunLog

LIMIT = math.log(1e-4)  # what could coincide with something earlier by more than this is no repeat
FEW_STEPS = 3  # at so few steps with the same prompts an evaluation cannot be told from training


class _Group(NamedTuple):
    start: int
    end: int
    first: tuple[int, int]  # block and row where the same group stands first
    chance: float  # log of the chance that it coincides


def find_repeats(log: RunLog, block_N: Ints) -> Bools:
    """Rows of groups that were written before: the same prompt, texts and scores in the same order.

    Short answers coincide by chance. How likely that is follows from a group's own answers: each of
    its rows could have had any of them. Groups that follow each other as they did before are
    repeats where that chance is below 1e-4, and so are the groups of whole batches that stand in
    one earlier batch each, taken together.
    """
    repeated_N = np.zeros(len(log), dtype=np.bool_)
    if not _any_twice(log):
        return repeated_N
    parts, whole = list[list[_Group]](), list[_Group]()
    for block, groups in _by_block(log, block_N).items():
        earlier = [group for group in groups if group.first != (block, group.start)]
        is_whole = len(earlier) == len(groups) and len({group.first[0] for group in groups}) == 1
        if is_whole:
            whole.extend(earlier)
        else:
            parts.extend(_in_order(earlier))
    if _chance(whole) >= LIMIT:
        parts.extend(_in_order(whole))
        whole = []
    for group in [*whole, *(one for part in parts if _chance(part) < LIMIT for one in part)]:
        repeated_N[group.start : group.end] = True
    return repeated_N


def _in_order(groups: Sequence[_Group]) -> list[list[_Group]]:
    """Groups that follow each other as the same ones did where they stand first."""
    runs = list[list[_Group]]()
    for group in groups:
        last = runs[-1][-1] if runs else None
        if (
            last is not None
            and last.end == group.start
            and group.first[1] - last.first[1] == last.end - last.start
        ):
            runs[-1].append(group)
        else:
            runs.append([group])
    return runs


def _chance(groups: Sequence[_Group]) -> float:
    return sum(group.chance for group in groups)


def _any_twice(log: RunLog) -> bool:
    """Whether two groups may be the same: one first text to one prompt in both."""
    first = np.flatnonzero(np.r_[True, np.diff(log.group_N) != 0][: len(log)])
    pairs = log.text_N[first] ^ (log.prompt_N[first] * 1_000_003)
    return len(np.unique(pairs)) < len(first)


def _by_block(log: RunLog, block_N: Ints) -> dict[int, list[_Group]]:
    starts = np.flatnonzero(np.r_[True, np.diff(log.group_N) != 0][: len(log)])
    score_N = np.nan_to_num(log.score_N, nan=-np.inf)
    first_of: dict[tuple[int, bytes, bytes], tuple[int, int]] = {}
    blocks: dict[int, list[_Group]] = defaultdict(list)
    for start, end in pairwise([*starts.tolist(), len(log)]):
        texts = log.text_N[start:end]
        here = (int(block_N[start]), start)
        key = (int(log.prompt_N[start]), texts.tobytes(), score_N[start:end].tobytes())
        counts, size = Counter(texts.tolist()).values(), end - start
        chance = sum(count * math.log(count / size) for count in counts)
        blocks[here[0]].append(_Group(start, end, first_of.setdefault(key, here), chance))
    return blocks


def find_evaluation(log: RunLog, said_N: Bools) -> Bools:
    """Rows of an evaluation: as the log says, else by where the trainer's state has one, else by
    prompts.

    An evaluation asks the same prompts each time, and training does not ask them. At a step where
    the trainer's state has one, rows of training may stand too, of a batch that was drawn at that
    step. So a prompt is an evaluation's where it was asked at no other step, and at most of those
    with an evaluation. Without a state, see `_by_prompts`.

    Args:
        log: whose `evaluation_N` has what the log says.
        said_N: rows of which it says it.
    """
    evaluation_N = log.evaluation_N.copy()
    if said_N.all() or not len(log):
        return evaluation_N
    steps_of: dict[int, set[int]] = defaultdict(set)
    rows = np.flatnonzero(~log.repeated_N & ~said_N)
    for step, prompt in zip(log.step_N[rows].tolist(), log.prompt_N[rows].tolist(), strict=True):
        steps_of[prompt].add(step)
    found = _at_evaluations(log, steps_of) if log.about.eval_steps else _by_prompts(steps_of)
    return evaluation_N | (np.isin(log.prompt_N, found) & ~said_N)


def _at_evaluations(log: RunLog, steps_of: Mapping[int, set[int]]) -> list[int]:
    """Prompts that are asked at steps with an evaluation alone, and at most of these.

    Of steps behind the state, of a run that goes on, it is not known which have one.
    """
    steps, until = log.about.eval_steps, log.about.steps_taken
    there_N = np.isin(log.step_N, list(steps))
    logged = len(np.unique(log.step_N[there_N]))
    pairs = np.unique(np.stack([log.prompt_N, log.step_N])[:, there_N], axis=1)
    often = Counter(pairs[0].tolist())
    known = {
        prompt: {step for step in asked if until is None or step <= until}
        for prompt, asked in steps_of.items()
    }
    return [p for p, asked in known.items() if asked <= steps and 2 * often[p] > logged]


def _by_prompts(steps_of: Mapping[int, set[int]]) -> list[int]:
    """Prompts that are always asked together, at three steps or more that lie apart.

    They are evaluations where these steps ask nothing else, or where no order that is drawn anew
    each epoch would bring so many of them together: of two prompts that are asked e times in S
    steps each, once an epoch, all e coincide with chance (e / S)^e. Where most of the other prompts
    come together too, the order is not drawn anew, and evaluations are those that are asked at
    least twice more often than any other: epochs ask each prompt as often, or once more. Sets that
    never share a step are batches that come again; where the others are asked at half of the steps
    or fewer it is not clear which are which. Then nothing is said.
    """
    together: dict[frozenset[int], list[int]] = defaultdict(list)
    for prompt, asked in steps_of.items():
        together[frozenset(asked)].append(prompt)
    order = {step: place for place, step in enumerate(sorted(set().union(*steps_of.values())))}
    often, alone = Counter(map(len, steps_of.values())), _alone(together, steps_of)
    like = {
        steps
        for steps, prompts in together.items()
        if len(steps) > 1
        and (steps in alone or _by_chance(len(prompts), often[len(steps)], len(steps), len(order)))
    }
    apart = {steps for steps in like if len(steps) >= FEW_STEPS and _lie_apart(steps, order)}
    for found in (apart, _more_often(apart, often)):
        rest = {steps: prompts for steps, prompts in together.items() if steps not in found}
        bound = sum(len(prompts) for steps, prompts in rest.items() if steps in like)
        drawn = found is not apart or 2 * bound < sum(map(len, rest.values()))
        drawn &= not any(one.isdisjoint(other) for one, other in combinations(found, 2))
        if drawn and 2 * len(frozenset().union(*rest)) > len(order):
            return [prompt for steps in found for prompt in together[steps]]
    return []


def _more_often(sets: set[frozenset[int]], often: Mapping[int, int]) -> set[frozenset[int]]:
    """The sets of steps that are larger by two than how often the next prompt is asked."""
    sizes = sorted(often)
    least = next((high for low, high in pairwise(sizes) if high - low > 1), math.inf)
    return {steps for steps in sets if len(steps) >= least}


def _lie_apart(steps: frozenset[int], order: Mapping[int, int]) -> bool:
    """Whether at most two of them follow each other: a run may end behind its last evaluation."""
    places = sorted(order[step] for step in steps)
    return sum(later - place == 1 for place, later in pairwise(places)) < 2


def _alone(
    together: Mapping[frozenset[int], list[int]], steps_of: Mapping[int, set[int]]
) -> set[frozenset[int]]:
    """The sets of steps at which nothing else is asked."""
    prompts_at = Counter(step for asked in steps_of.values() for step in asked)
    return {
        steps
        for steps, prompts in together.items()
        if all(prompts_at[step] == len(prompts) for step in steps)
    }


def _by_chance(prompts: int, like: int, steps: int, count: int) -> bool:
    """Whether chance brings so many prompts together less often than in one log of 10,000."""
    choices = math.lgamma(like + 1) - math.lgamma(prompts + 1) - math.lgamma(like - prompts + 1)
    return choices - (prompts - 1) * steps * math.log(count / steps) < LIMIT
