"""`rekindle explain`: what a method's own formulas make of rows from a file."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple, TypeVar

import typer

from rekindle.cli.options import Overwrite, Set, ThoughtOpen
from rekindle.cli.rows import SourceRow, read_rows, rows_file, write_columns
from rekindle.errors import ConfigError, DataError, did_you_mean

if TYPE_CHECKING:
    from torch import Tensor

    from rekindle.engine.config import Section

S = TypeVar("S", bound="Section")
app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Apply a method's formula to your own rows."
)

_CURRICULUM_SETTINGS = ("mode", "alpha", "beta", "gamma")
# What decides pairs; the rest of a method's section is about sampling and training.
_PAIR_SETTINGS = {
    "weak_to_strong": ("tau_chosen", "tau_rejected", "max_pairs", "seed", "unreadable", "equality"),
    "self_rewarding": ("ties", "choose_cut"),
    "temporal": ("past", "future", "ties", "choose_cut"),
}


@app.command("advantages")
def explain_advantages(
    method: Annotated[str, typer.Option(help="grpo, lens, hero, ngrpo, ...: `rekindle methods`.")],
    input: Annotated[Path, typer.Option(help="JSONL rows: group, correct, ...")],
    output: Annotated[Path, typer.Option(help="The rows with reward and advantage.")],
    sets: Set = None,
    right: Annotated[
        float | None,
        typer.Option(help="The 'correct' that is right; default: the larger of two values, or 1."),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Compute rewards, advantages, penalties and weights of your rows, as training does."""
    import torch

    from rekindle.engine.config import SampleConfig
    from rekindle.methods.catalog import find_method, method_module, methods_of
    from rekindle.ops.groups import ScoredRows, classify_rows, group_rows

    known = methods_of("group")
    if method not in known:
        raise ConfigError(
            f"method '{method}' gives no group advantages", fix=did_you_mean(method, known)
        )
    module, section = method_module(method), find_method(method).section
    config = _configured(module.PRESETS[method], section, sets)
    module.check(config, SampleConfig())
    out = rows_file(output, input, overwrite=overwrite)
    rows = read_rows(input)
    numbers = {
        f"{name}_N": torch.tensor([read(row) for row in rows], dtype=torch.float64)
        for name, read in _ANSWER_NUMBERS.items()
    }
    keys = [_group(row) for row in rows]
    correct = _correct(rows, right)
    credit = module.credit(ScoredRows(group=keys, correct_N=correct.score_N, **numbers), config)
    grouping = group_rows(keys)
    total_PG = grouping.gather(credit.reward_N)
    columns = {
        "reward": credit.reward_N.tolist(),
        "advantage": credit.advantage_N.tolist(),
        "group_class": classify_rows(correct.verdict_N, grouping, total_PG),
        **{name: column.tolist() for name, column in credit.columns.items()},
    }
    write_columns(out, rows, columns)


@app.command("answer")
def explain_answer(
    verifier: Annotated[str, typer.Option(help="exact, numeric, or math (extra [math]).")],
    text: Annotated[str, typer.Option(help="What a model wrote; - reads standard input.")],
    gold: Annotated[str | None, typer.Option(help="The answer that is right.")] = None,
    thought_open: ThoughtOpen = False,
    cut: Annotated[bool, typer.Option(help="The text ended at the token limit.")] = False,
    marked: Annotated[bool, typer.Option(help="Without a mark there is no answer.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
) -> None:
    """Say which rule finds the answer of a text, where, what it is, and its score."""
    from rekindle.rewards.verifiers.verify import AS_READ, CHECKS, stated_answer
    from rekindle.rewards.workers import VerifierPool, check_pooled

    if verifier not in CHECKS:
        raise ConfigError(f"unknown verifier '{verifier}'", fix=did_you_mean(verifier, CHECKS))
    check_pooled(verifier)
    text = sys.stdin.read() if text == "-" else text
    how = AS_READ._replace(cut=cut, thought_open=thought_open, marked=marked)
    reading = stated_answer(verifier, gold, text, how)
    columns: dict[str, object] = {**reading._asdict(), "answer": reading.answer or None}
    if gold is not None:
        pool = VerifierPool(verifier, workers=1)
        score = pool.grade([(gold, text)], [how])[0]
        pool.close()
        columns |= {"score": score.value, "reason": score.reason}
    if as_json:
        typer.echo(json.dumps({"score": None, **columns}, ensure_ascii=False))
        return
    for name, value in columns.items():
        if value is not None or name in ("answer", "score"):
            typer.echo(f"{name:<7} {'none' if value is None else value}")


@app.command("curriculum")
def explain_curriculum(
    input: Annotated[Path, typer.Option(help="JSONL rows: id, entropy_weak, entropy_strong.")],
    output: Annotated[Path, typer.Option(help="The rows with weight and class.")],
    sets: Set = None,
    overwrite: Overwrite = False,
) -> None:
    """Compute WMSS's sampling weights of your rows: --set mode=paper|code, alpha, beta, gamma."""
    import torch

    from rekindle.methods.wmss.curriculum import CurriculumConfig, curriculum

    settings = _configured(CurriculumConfig(), "wmss", sets, _CURRICULUM_SETTINGS)
    out = rows_file(output, input, overwrite=overwrite)
    rows = read_rows(input)
    weak, strong = (
        torch.tensor([_entropy(row, name) for row in rows], dtype=torch.float64)
        for name in ("entropy_weak", "entropy_strong")
    )
    weighed = curriculum(weak, strong, settings)
    write_columns(out, rows, {"weight": weighed.weight_N.tolist(), "class": weighed.class_N})


@app.command("pairs")
def explain_pairs(
    method: Annotated[str, typer.Option(help="weak_to_strong, self_rewarding or temporal.")],
    input: Annotated[Path, typer.Option(help="JSONL rows of answers, in the method's format.")],
    output: Annotated[Path, typer.Option(help="The JSONL file of pairs to write.")],
    sets: Set = None,
    overwrite: Overwrite = False,
) -> None:
    """Make the pairs that training would make of your answers; say what is skipped, and why."""
    from rekindle.methods.catalog import METHODS, find_method, method_module

    makers = [name for name, row in METHODS.items() if row.makes_pairs]
    if method not in makers:
        raise ConfigError(f"method '{method}' makes no pairs", fix=did_you_mean(method, makers))
    module, section = method_module(method), find_method(method).section
    config = _configured(module.PRESETS[method], section, sets, _PAIR_SETTINGS[section])
    out = rows_file(output, input, overwrite=overwrite)
    rows = read_rows(input)
    for row in rows:
        if row.columns.get("id") is None:
            raise DataError(f"{row.where} has no 'id'", got=row.columns, wanted="a name of its own")
    pairs, skipped = module.explain_pairs([row.columns for row in rows], config)
    out.write_jsonl(pairs)
    typer.echo(f"{len(rows)} rows, {len(pairs)} written", err=True)
    for reason, times in skipped.most_common():
        typer.echo(f"  skipped {times}: {reason}", err=True)


def _configured(
    default: S, section: str, sets: Sequence[str] | None, known: Sequence[str] | None = None
) -> S:
    """Settings with --set on top, of `known` ones; `scale=none` and `grpo.scale=none` are one."""
    from rekindle.training.recipe import checked, with_overrides

    overrides = [override.removeprefix(f"{section}.") for override in sets or []]
    for name in (override.split("=", 1)[0] for override in overrides):
        if known is not None and name not in known:
            raise ConfigError(f"setting '{name}' has no effect here", fix=did_you_mean(name, known))
    return checked(type(default), with_overrides(default.model_dump(), overrides), section)


def _group(row: SourceRow) -> str:
    if "group" not in row.columns:
        raise DataError(
            f"{row.where} has no 'group'",
            got=row.columns,
            why="advantages compare answers of a group",
        )
    group = row.columns["group"]
    if not isinstance(group, str | int) or isinstance(group, bool):
        raise DataError(f"{row.where}: 'group' is not a name", got=group, wanted="a string")
    return str(group)


class _Correct(NamedTuple):
    score_N: Tensor  # 0 to 1, what formulas read
    verdict_N: Tensor  # what classes are read from


def _correct(rows: Sequence[SourceRow], right: float | None) -> _Correct:
    """The column `correct`; two values, or those that --right tells apart, are wrong and right."""
    import torch

    from rekindle.ops.groups import read_verdicts

    for row in rows:
        if "correct" not in row.columns:
            raise DataError(
                f"{row.where} has no 'correct'",
                got=row.columns,
                wanted="0, 1, or null for a score that is missing",
            )
    values = [row.number("correct") for row in rows]
    score_N = torch.tensor(values, dtype=torch.float64)
    known = {value for value in values if not math.isnan(value)}
    if right is not None and (not math.isfinite(right) or (len(known) > 1 and right not in known)):
        raise ConfigError(
            "no row has the 'correct' of --right",
            got=right,
            wanted=f"one of its values: {', '.join(f'{value:g}' for value in sorted(known)[:9])}",
            why="all answers would be wrong",
        )
    verdict_N = read_verdicts(score_N, right=right)
    outside = [i for i, value in enumerate(values) if value < 0 or value > 1]
    if right is None and not outside:
        return _Correct(score_N, verdict_N)
    if right is None and len(known) != 2:
        raise DataError(
            f"{rows[outside[0]].where}: 'correct' is out of range",
            got=rows[outside[0]].columns["correct"],
            wanted="0 to 1, or a column of two values, of which the larger is right",
            why="the classes all_wrong and all_right are read from it",
            fix="say which value is right (--right 1), or map wrong to 0 and right to 1",
        )
    return _Correct(verdict_N, verdict_N)


def _num_tokens(row: SourceRow) -> float:
    value = row.number("num_tokens")
    if value < 0:
        got = row.columns["num_tokens"]
        raise DataError(f"{row.where}: 'num_tokens' is negative", got=got, wanted="0 or more")
    return value


_ANSWER_NUMBERS = {
    "rm_score": lambda row: row.number("rm_score"),
    "sum_logprob": lambda row: row.number("sum_logprob"),
    "num_tokens": _num_tokens,
}


def _entropy(row: SourceRow, name: str) -> float:
    if "id" not in row.columns:
        raise DataError(f"{row.where} has no 'id'", got=row.columns)
    value = row.columns.get(name)
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or not math.isfinite(value)
        or value < 0
    ):
        raise DataError(
            f"{row.where} has no usable '{name}'",
            got=value,
            wanted="mean nats a token, a finite number, 0 or more",
        )
    return float(value)
