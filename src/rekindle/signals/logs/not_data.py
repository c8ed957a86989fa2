"""Rows of a log that are no data of training: batches written twice, answers of an evaluation."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable
from itertools import pairwise
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
    its rows could have had any of them. A group is a repeat where that chance is below 1e-4, and so
    are the groups of whole batches that stand in one earlier batch each, taken together.
    """
    repeated_N = np.zeros(len(log), dtype=np.bool_)
    if not _any_twice(log):
        return repeated_N
    alone, whole = list[_Group](), list[_Group]()
    for block, groups in _by_block(log, block_N).items():
        earlier = [group for group in groups if group.first != (block, group.start)]
        is_whole = len(earlier) == len(groups) and len({group.first[0] for group in groups}) == 1
        (whole if is_whole else alone).extend(earlier)
    if sum(group.chance for group in whole) >= LIMIT:
        alone, whole = alone + whole, []
    for group in [*whole, *(group for group in alone if group.chance < LIMIT)]:
        repeated_N[group.start : group.end] = True
    return repeated_N


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
    the trainer's state has an evaluation, a row is its own unless its prompt was asked at another
    step too. Without a state, steps are taken for evaluations where at least three of them ask one
    and the same set of prompts, no other step asks any of these, and the others share hardly any.

    Args:
        log: whose `evaluation_N` has what the log says.
        said_N: rows of which it says it.
    """
    evaluation_N = log.evaluation_N.copy()
    if said_N.all() or not len(log):
        return evaluation_N
    steps_of: dict[int, set[int]] = defaultdict(set)
    prompts_of: dict[int, set[int]] = defaultdict(set)
    rows = np.flatnonzero(~log.repeated_N & ~said_N)
    for step, prompt in zip(log.step_N[rows].tolist(), log.prompt_N[rows].tolist(), strict=True):
        steps_of[prompt].add(step)
        prompts_of[step].add(prompt)
    steps: Iterable[int]
    if log.about.eval_steps:
        prompts = [prompt for prompt, asked in steps_of.items() if asked <= log.about.eval_steps]
        steps, own_N = log.about.eval_steps, np.isin(log.prompt_N, prompts)
    else:
        steps = _by_prompts(prompts_of, steps_of)
        own_N = np.ones(len(log), dtype=np.bool_)
    return evaluation_N | (np.isin(log.step_N, list(steps)) & own_N & ~said_N)


def _by_prompts(prompts_of: dict[int, set[int]], steps_of: dict[int, set[int]]) -> frozenset[int]:
    """Steps of one set of prompts that no other step asks, among steps that share hardly any."""
    by_set: dict[frozenset[int], list[int]] = defaultdict(list)
    for step, prompts in prompts_of.items():
        by_set[frozenset(prompts)].append(step)
    found = set[int]()
    for asked, steps in by_set.items():
        others = len(prompts_of) - len(steps)
        alone = all(len(steps_of[prompt]) == len(steps) for prompt in asked)
        if len(steps) >= FEW_STEPS and alone and others > len(steps):
            found.update(steps)
    rest = {frozenset(asked) for step, asked in prompts_of.items() if step not in found}
    differ = len(rest) > 0.9 * (len(prompts_of) - len(found))
    return frozenset(found if differ else ())
