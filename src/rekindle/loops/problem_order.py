"""Which problems a step trains on, and in what order: seeded, a function of its arguments."""

from collections.abc import Sequence
from typing import TypeVar

import torch

from rekindle.errors import DataError
from rekindle.loops.world import World
from rekindle.records import Problem

T = TypeVar("T")


def epochs(problems: Sequence[T], *, step: int, count: int, seed: int) -> list[T]:
    """The problems of a step: every epoch is a seeded permutation; a function of its arguments."""
    out: list[T] = []
    orders: dict[int, list[int]] = {}
    for place in range((step - 1) * count, step * count):
        epoch, at = divmod(place, len(problems))
        if epoch not in orders:
            gen = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
            orders[epoch] = torch.randperm(len(problems), generator=gen).tolist()
        out.append(problems[orders[epoch][at]])
    return out


def disjoint_chunks(world: World, sizes: Sequence[int]) -> list[list[Problem]]:
    """Training problems in chunks that share none; levels mixed by a seeded shuffle.

    Raises:
        DataError: the task has too few.
    """
    total, levels = sum(sizes), world.levels or world.task.levels
    found: list[Problem] = []
    for count in (-(-total // len(levels)), total):
        found = world.task.problems("train", count=count, seed=world.seed, levels=world.levels)
        if len(found) >= total:
            break
    if len(found) < total:
        raise DataError(
            "too few training problems for rounds of their own",
            got=len(found),
            wanted=f"{total}: {' + '.join(str(size) for size in sizes if size)}",
            why="no prompt is used in two rounds, nor in the seed data",
            fix="fewer iterations or prompts, or less seed data",
        )
    gen = torch.Generator().manual_seed(world.seed)
    order = torch.randperm(len(found), generator=gen).tolist()
    picked = iter([found[place] for place in order])
    return [[next(picked) for _ in range(size)] for size in sizes]
