"""The advantages that a training step would give to rows that are already scored.

    lens_advantages([1, 0, 0, 0], [-4.1, -2.0, -9.3, -3.3], [12, 10, 15, 11], groups="aaaa")

Each function calls the method's own `credit`, as the training step and `rekindle explain` do, and
returns one number a row, in order. Lists, numpy arrays and tensors are taken alike; None (nan in an
array) is missing. Rows come flat with `groups`, the key of each row's group, or nested, one inner
list a group; inner lists may differ in length.

Axes: N rows (sampled answers) in groups that compete (the answers to one problem).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Literal, NamedTuple, TypedDict, Unpack

from rekindle.engine.config import SampleConfig, Section
from rekindle.errors import ConfigError, DataError, did_you_mean
from rekindle.evals.estimates import Nested, Numbers, nested_numbers
from rekindle.loops.rollouts import column
from rekindle.methods.catalog import find_method, method_module, methods_of
from rekindle.ops.groups import Credit, ScoredRows
from rekindle.records import Array
from rekindle.training.recipe import checked

TokenNumbers = Sequence[float | Sequence[float | Sequence[float | None] | None] | None] | Array
Groups = Sequence[Hashable] | Array


class LensSettings(TypedDict, total=False):
    """What `lens_advantages` takes beside its columns."""

    alpha: float
    difficulty: Literal["geometric", "raw"]
    neg_scale: Literal["per_group", "unit"]
    scale: Literal["std", "none"]
    on: Literal["both", "negative", "mixed"]
    penalty: Literal["confidence", "uniform", "shuffled"]


class HeroSettings(TypedDict, total=False):
    """What `hero_advantages` takes beside its columns."""

    alpha: float
    beta: float
    w_min: float
    w_max: float
    k: float
    weight_on: Literal["advantage", "reward", "none"]
    scale: Literal["std", "none"]
    sigma_mean: float
    min_range: float
    missing_rm: Literal["leave_out", "verifier"]


def group_advantages(
    method: str,
    scores: Numbers,
    groups: Groups | None = None,
    *,
    rm_scores: Numbers | None = None,
    logprobs: TokenNumbers | None = None,
    lengths: Numbers | None = None,
    **settings: float | str | None,
) -> list[float]:
    """The advantage of each row under any group method: `grpo`, `dapo`, `lens`, `hero`, `nsr`, ...

    Args:
        method: see `rekindle methods`; a preset's settings are its defaults.
        scores: [N] of the verifier, 0 to 1 (methods without verdicts take any number).
        groups: [N] key of each row's group; None where `scores` is nested.
        rm_scores: [N] of the reward model, for `hero` and the blends.
        logprobs: [N] of whole answers in nats, or the log-probs of their tokens, one list a row;
            for `lens`.
        lengths: [N] in tokens, end token included; None where `logprobs` is by token.
        settings: those of the method's recipe section, by name (`scale="none"`).

    Returns:
        N advantages in the order of the rows; 0 where the score is missing.

    Raises:
        ConfigError: no such group method or setting.
        DataError: columns of unequal length, what is no number, or a row that the formula cannot
            use; the row is named.
    """
    known = methods_of("group")
    if method not in known:
        raise ConfigError(
            f"method '{method}' gives no group advantages", fix=did_you_mean(method, known)
        )
    module, section = method_module(method), find_method(method).section
    preset = module.PRESETS[method].model_dump()
    config: Section = checked(module.Config, {**preset, **settings}, section)
    module.check(config, SampleConfig())
    rows = _scored_rows(scores, groups, rm_scores=rm_scores, logprobs=logprobs, lengths=lengths)
    credit: Credit = module.credit(rows, config)
    return [float(value) for value in credit.advantage_N.tolist()]


def lens_advantages(
    scores: Numbers,
    logprobs: TokenNumbers,
    lengths: Numbers | None = None,
    groups: Groups | None = None,
    **settings: Unpack[LensSettings],
) -> list[float]:
    """LENS (Feng et al. 2025, arXiv 2510.08696): wrong answers pay by the model's confidence.

    Args:
        scores: [N] verdicts, 0 to 1.
        logprobs: [N] of whole answers in nats at the sampling temperature, or of their tokens.
        lengths: [N] in tokens, end token included; None where `logprobs` is by token.
        groups: [N] key of each row's group; None where `scores` is nested.
        settings: of section `lens`, see `methods/lens.py`.

    Returns, Raises: as `group_advantages`.
    """
    return group_advantages("lens", scores, groups, logprobs=logprobs, lengths=lengths, **settings)


def hero_advantages(
    scores: Numbers,
    rm_scores: Numbers,
    groups: Groups | None = None,
    **settings: Unpack[HeroSettings],
) -> list[float]:
    """HERO (Tao et al. 2025, arXiv 2510.07242): reward-model scores within the verifier's verdicts.

    Args:
        scores: [N] verdicts, 0 to 1; accepted above 0.5.
        rm_scores: [N] of the reward model, on any scale.
        groups: [N] key of each row's group; None where `scores` is nested.
        settings: of section `hero`, see `methods/hero.py`; `sigma_mean` is the running mean of the
            scores' spread, left out: that of these rows.

    Returns, Raises: as `group_advantages`.
    """
    return group_advantages("hero", scores, groups, rm_scores=rm_scores, **settings)


def _scored_rows(
    scores: Numbers,
    groups: Groups | None = None,
    *,
    rm_scores: Numbers | None = None,
    logprobs: TokenNumbers | None = None,
    lengths: Numbers | None = None,
) -> ScoredRows:
    """Columns of numbers as the formulas take them, fp64; see `group_advantages`."""
    nested = nested_numbers(scores, "scores")
    depth = _depth(nested)
    correct = _Column.of(nested, depth, "scores")
    count = len(correct.values)
    if count == 0:
        raise DataError("there are no rows", got="no scores", wanted="one score at least")
    keys = _keys(correct, depth, groups)
    columns = {"rm_scores": rm_scores, "logprobs": logprobs, "lengths": lengths}
    read = {
        name: _Column([math.nan] * count, None, [])
        if given is None
        else _Column.of(nested_numbers(given, name), depth, name, tokens=name == "logprobs")
        for name, given in columns.items()
    }
    lengths_of = {"groups": len(keys), **{name: len(c.values) for name, c in read.items()}}
    for name, length in lengths_of.items():
        if length != count:
            raise DataError(
                f"'{name}' has another number of rows than 'scores'",
                got=f"{length} and {count}",
                wanted="one item a row, in the same order",
            )
    for name, given in read.items():
        if columns[name] is not None and given.sizes != correct.sizes:
            got = f"groups of {given.sizes} rows, and scores of {correct.sizes}"
            raise _nested_otherwise(name, got, "the same groups, in the same order")
    counted = read["logprobs"].tokens
    tokens = read["lengths"].values if lengths is not None or counted is None else counted
    return ScoredRows(
        group=keys,
        correct_N=column(correct.values),
        rm_score_N=column(read["rm_scores"].values),
        sum_logprob_N=column(read["logprobs"].values),
        num_tokens_N=column(tokens),
    )


class _Column(NamedTuple):
    values: list[float]  # one a row
    tokens: list[float] | None  # how many numbers each is the sum of, where they came by token
    sizes: list[int]  # rows of each group, where they are nested

    @classmethod
    def of(cls, nested: Nested, depth: int, name: str, *, tokens: bool = False) -> _Column:
        """The rows of nested numbers that are as deep as `scores`, or one deeper by token."""
        rows: list[Nested] = [nested]
        sizes = list[int]()
        for _ in range(depth):
            sizes = [len(row) for row in rows if isinstance(row, list)]
            if len(sizes) < len(rows):
                wanted = "one number a row, or one list a group"
                raise _nested_otherwise(name, "numbers beside lists", wanted)
            rows = [item for row in rows if isinstance(row, list) for item in row]
        by_token = tokens and any(isinstance(row, list) for row in rows)
        sums, counts = list[float](), list[float]()
        for row in rows:
            parts = row if isinstance(row, list) else [row]
            numbers = [part for part in parts if not isinstance(part, list)]
            if isinstance(row, list) != by_token or len(numbers) < len(parts):
                wanted = "one number a row" + (", or one list of tokens" if tokens else "")
                got = f"{_depth(nested)} levels, and 'scores' has {depth}"
                raise _nested_otherwise(name, got, wanted)
            sums.append(sum(numbers))
            counts.append(float(len(numbers)))
        return cls(sums, counts if by_token else None, sizes if depth > 1 else [])


def _keys(scores: _Column, depth: int, groups: Groups | None) -> list[Hashable]:
    """The group of each row."""
    if depth == 2 and groups is None:
        return [place for place, size in enumerate(scores.sizes) for _ in range(size)]
    if depth != 1 or groups is None:
        raise DataError(
            "'groups' is missing" if groups is None else "'groups' beside nested scores",
            got=f"scores with {depth} levels",
            wanted="flat scores and the group of each row, or nested scores alone",
            why="advantages compare the answers to one problem",
            fix="pass groups=[...], the problem of each row",
        )
    listed = groups.tolist() if isinstance(groups, Array) else groups
    items = listed if isinstance(listed, Sequence) else [listed]
    keys = [item.tolist() if isinstance(item, Array) else item for item in items]
    unusable = [key for key in keys if not isinstance(key, Hashable) or key != key]
    if unusable:
        raise DataError(
            "'groups' has something that names no group",
            got=unusable[0],
            wanted="a text or number a row",
        )
    return keys


def _nested_otherwise(name: str, got: str, wanted: str) -> DataError:
    return DataError(f"'{name}' is nested otherwise than 'scores'", got=got, wanted=wanted)


def _depth(nested: Nested) -> int:
    return 0 if not isinstance(nested, list) else 1 + max(map(_depth, nested), default=0)
