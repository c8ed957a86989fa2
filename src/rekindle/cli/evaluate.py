"""`rekindle eval` and `rekindle compare`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rekindle.cli.options import (
    Levels,
    Overwrite,
    Set,
    TestedModel,
    check_split,
    named_paths,
    split_names,
)
from rekindle.outputs import OutputFile

if TYPE_CHECKING:
    from rekindle.evals.reading import Eval, LevelCells


def evaluate(
    model: TestedModel,
    task: Annotated[str, typer.Option(help="A task, see `rekindle tasks`, or a file of data.")],
    out: Annotated[Path, typer.Option(help="The JSON file to write.")],
    split: Annotated[
        str, typer.Option(help="dev or test (or train, to see how much is memorised).")
    ] = "test",
    samples: Annotated[int | None, typer.Option(help="Answers per problem; default: 8.")] = None,
    problems: Annotated[int | None, typer.Option(help="Problems per level; default: 200.")] = None,
    levels: Levels = None,
    seed: Annotated[int, typer.Option(help="Seed of the problems and the samples.")] = 0,
    weak: Annotated[
        str | None, typer.Option(help="A weaker model: evaluate logits z + c (z - z_weak).")
    ] = None,
    extrapolate: Annotated[float, typer.Option(metavar="C", help="c, with --weak.")] = 0.25,
    overwrite: Overwrite = False,
    sets: Set = None,
) -> None:
    """Measure pass@k, avg@k, maj@k and greedy accuracy, per level, with intervals."""
    reads = named_paths(model, task, weak, sets=sets)
    file = OutputFile(out, reads=reads, overwrite=overwrite)
    file.check()
    listed = check_split(split)
    from rekindle.training import evaluation

    result = evaluation.evaluate(
        model,
        task,
        split=listed,
        samples=samples,
        problems=problems,
        levels=split_names(levels or None),
        seed=seed,
        contrast=None if weak is None else evaluation.WeakContrast(weak, extrapolate),
        overrides=sets or (),
    )
    file.write_json(result)
    _print(result)
    typer.echo(f"written: {out}")


def compare(
    before: Annotated[Path, typer.Argument(help="An eval.json.")],
    after: Annotated[Path, typer.Argument(help="An eval.json on the same problems.")],
) -> None:
    """Compare two evaluations: the paired difference, with intervals."""
    from rekindle.evals.compare import compare_table
    from rekindle.evals.reading import read_eval

    first = read_eval(before)
    same = before.resolve() == after.resolve()  # a file beside itself, not two that agree
    rows = compare_table(first, first if same else read_eval(after))
    typer.echo(f"{'level':<8} {'metric':<10} {'difference':>10}   95 % interval       p      n")
    for level, metric, change in rows:
        typer.echo(
            f"{level or 'all':<8} {metric:<10} {change.value:>+10.3f}   "
            f"[{change.ci_low:+.3f}, {change.ci_high:+.3f}]  {change.p_value:.3f}  "
            f"{change.n_problems}"
        )


def _print(result: Eval) -> None:
    overall: LevelCells = {"n_problems": result["n_problems"], "metrics": result["metrics"]}
    blocks = [("all", overall), *result["levels"].items()]
    names = list(result["metrics"])
    wide = max(map(len, names))
    for level, block in blocks:
        typer.echo(f"level {level}: {block['n_problems']} problems x {result['n_samples']} samples")
        for name in names:
            cell = block["metrics"][name]
            if cell["value"] is None:
                typer.echo(f"  {name:<{wide}} undefined")
                continue
            low, high = cell["ci_low"], cell["ci_high"]
            interval = "no interval" if low is None else f"[{low:.3f}, {high:.3f}]"
            typer.echo(f"  {name:<{wide}} {cell['value']:.3f}  95 % {interval}  n={cell['n']}")
    calibration = result.get("calibration")
    if calibration is not None and calibration["ece"] is not None:
        typer.echo(f"calibration error of greedy answers (ece) {calibration['ece']:.3f}")
