"""Scored rows for formula tests."""

import math

import torch

from rekindle.ops.groups import ScoredRows


def column(values, n):
    values = [math.nan] * n if values is None else values
    return torch.tensor([math.nan if v is None else float(v) for v in values], dtype=torch.float64)


def scored(groups, correct, *, rm=None, logprob=None, tokens=None):
    """Rows of an answer each; None is missing."""
    n = len(correct)
    groups = [groups] * n if isinstance(groups, str) else groups
    return ScoredRows(
        groups, column(correct, n), column(rm, n), column(logprob, n), column(tokens, n)
    )


def select(rows, order):
    """The same rows in another order."""
    index = torch.tensor(order)
    return ScoredRows([rows.group[i] for i in order], *(values[index] for values in rows[1:]))


def random_groups(gen, count, *, size=None):
    """Rows of `count` groups, verdicts, scores and log-probs of any size, some tied."""
    groups, correct, rm, logprob, tokens = [], [], [], [], []
    for g in range(count):
        n = size or int(torch.randint(2, 10, (1,), generator=gen))
        kind = int(torch.randint(0, 4, (1,), generator=gen))
        share = {0: 0.0, 1: 1.0, 2: 0.3, 3: 0.7}[kind]
        tied = bool(torch.rand(1, generator=gen) < 0.2)
        wide = 10 ** float(torch.randint(-3, 4, (1,), generator=gen))
        scores = torch.randn(n, generator=gen, dtype=torch.float64) * wide
        means = -torch.rand(n, generator=gen, dtype=torch.float64) * wide
        lengths = torch.randint(1, 3000, (n,), generator=gen).double()
        groups += [f"g{g}"] * n
        correct += (torch.rand(n, generator=gen) < share).double().tolist()
        rm += [1.5] * n if tied else scores.tolist()
        logprob += [-3.0] * n if tied else (means * lengths).tolist()
        tokens += [7.0] * n if tied else lengths.tolist()
    return scored(groups, correct, rm=rm, logprob=logprob, tokens=tokens)
