"""The `rekindle` command: what each subcommand is called and takes; the work is elsewhere.

Heavy imports happen inside the commands, so that `--help` answers at once.
"""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Literal, Optional, TextIO

import typer

from rekindle.cli.explain_commands import explain_app
from rekindle.cli.options import Quiet, Set, command_line, mode_of
from rekindle.engine.threads import calm_threads
from rekindle.errors import EXIT_USER_ERROR, RekindleError

app = typer.Typer(
    name="rekindle",
    help="Bring the learning signal back when post-training has stopped working, and prove it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
reward_app = typer.Typer(no_args_is_help=True, help="Train and assess reward models.")
testbed_app = typer.Typer(no_args_is_help=True, help="The small models that ship with rekindle.")
app.add_typer(explain_app, name="explain")
app.add_typer(reward_app, name="reward")
app.add_typer(testbed_app, name="testbed")


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option(help="Where runs and report go.")] = Path("runs/quickstart"),
    overwrite: Annotated[bool, typer.Option(help="Replace an earlier quickstart.")] = False,
    resume: Annotated[bool, typer.Option(help="Go on with one that was stopped.")] = False,
    only: Annotated[list[str] | None, typer.Option(help="One method's pair; repeatable.")] = None,
    sets: Set = None,
    quiet: Quiet = False,
) -> None:
    """A tour: five methods, each beside its baseline on the testbed, and the page that shows it."""
    from rekindle.cli.quickstart import run_quickstart

    mode = mode_of(resume, overwrite)
    run_quickstart(
        out, mode=mode, only=only or [], overrides=sets or [], command=command_line(), quiet=quiet
    )


@app.command()
def train(
    recipe: Annotated[Path, typer.Argument(help="A YAML file, see recipes/.")],
    out: Annotated[Path, typer.Option(help="The run directory.")],
    resume: Annotated[
        bool, typer.Option(help="Go on from the newest complete checkpoint.")
    ] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace a run that is there.")] = False,
    sets: Set = None,
    quiet: Quiet = False,
) -> None:
    """Train a model by a recipe; DIR/final holds it at the end."""
    mode = mode_of(resume, overwrite)
    from rekindle.training.recipe import load_recipe
    from rekindle.training.train import train as train_recipe

    loaded = load_recipe(recipe, sets or [])
    final = train_recipe(
        loaded, out, mode=mode, command=command_line(), quiet=True if quiet else None
    )
    if os.environ.get("RANK", "0") == "0":  # of several processes, one speaks
        typer.echo(f"model: {final}\nreport: rekindle report {out}")


@app.command("eval")
def evaluate(
    model: Annotated[str, typer.Option(help="testbed/<name>, a directory, or a hub id.")],
    task: Annotated[str, typer.Option(help="A task, see `rekindle tasks`, or a .jsonl file.")],
    out: Annotated[Path, typer.Option(help="The JSON file to write.")],
    split: Annotated[
        str, typer.Option(help="dev or test (train to see how much is memory).")
    ] = "test",
    samples: Annotated[Optional[int], typer.Option(help="Answers a problem, 8.")] = None,  # noqa: UP045
    problems: Annotated[Optional[int], typer.Option(help="Problems a level, 200.")] = None,  # noqa: UP045
    levels: Annotated[Optional[str], typer.Option(help="Comma-separated.")] = None,  # noqa: UP045
    seed: Annotated[int, typer.Option(help="Of the problems and the draws.")] = 0,
    weak: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="A weaker model: evaluate logits z + c (z - z_weak)."),
    ] = None,
    extrapolate: Annotated[float, typer.Option(metavar="C", help="c, with --weak.")] = 0.25,
    overwrite: Annotated[bool, typer.Option(help="Replace the file.")] = False,
    sets: Set = None,
) -> None:
    """pass@k, avg@k, maj@k and greedy accuracy, per level, with intervals."""
    from rekindle.cli.evaluate import run_eval

    run_eval(
        model=model,
        task=task,
        out=out,
        split=split,
        samples=samples,
        problems=problems,
        levels=levels,
        seed=seed,
        away_from=None if weak is None else (weak, extrapolate),
        overwrite=overwrite,
        overrides=sets or [],
    )


@app.command()
def diagnose(
    model: Annotated[str, typer.Option(help="testbed/<name>, a directory, or a hub id.")],
    task: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="A task, see `rekindle tasks`, or a .jsonl file; only pairs need none."),
    ] = None,
    weak: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="A weaker model: its logits mixed in, and its answers as labels."),
    ] = None,
    problems: Annotated[int, typer.Option(help="Of train (SFT: and of dev), a level.")] = 200,
    samples: Annotated[int, typer.Option(help="Answers a problem.")] = 8,
    group_size: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Answers of a group in training; as in --run, else 8."),
    ] = None,
    levels: Annotated[Optional[str], typer.Option(help="Comma-separated.")] = None,  # noqa: UP045
    check: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="A stronger check: exact, numeric, math, code (a task from a file)."),
    ] = None,
    run: Annotated[Optional[Path], typer.Option(help="A baseline run's directory.")] = None,  # noqa: UP045
    pairs: Annotated[Optional[Path], typer.Option(help="JSONL: prompt, chosen, rejected.")] = None,  # noqa: UP045
    signals: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="Comma-separated: sft,groups,verifier,reward,pairs,agreement."),
    ] = None,
    out: Annotated[Optional[Path], typer.Option(help="Also write the numbers, JSON.")] = None,  # noqa: UP045
    write: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="A study file of the remedy that fits, if one does; more beside it."),
    ] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace --out and --write.")] = False,
    sets: Set = None,
) -> None:
    """Which learning signal is missing, what would bring it back, and what would not."""
    from rekindle.cli.diagnose import run_diagnose
    from rekindle.cli.diagnose_asked import Asked

    asked = Asked(
        model, task, weak, problems, samples, group_size, levels, check, run, pairs, signals,
        out, write, overwrite,
    )  # fmt: skip
    run_diagnose(asked, sets or [])


@app.command()
def compare(
    before: Annotated[Path, typer.Argument(help="An eval.json.")],
    after: Annotated[Path, typer.Argument(help="An eval.json on the same problems.")],
) -> None:
    """The paired difference between two evaluations, with intervals."""
    from rekindle.cli.evaluate import run_compare

    run_compare(before, after)


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(help="Run directories.")],
    out: Annotated[Path, typer.Option(help="The HTML file to write.")] = Path("report.html"),
) -> None:
    """One self-contained page about one or more runs."""
    from rekindle.report.page import build_report

    typer.echo(f"report: {build_report(runs, out).resolve()}")


@app.command()
def export(
    study: Annotated[Path, typer.Argument(help="A study directory.")],
    out: Annotated[Path, typer.Option(help="Where the small files go.")],
) -> None:
    """A study as small files: its results, what they follow from, and its page; no weights."""
    from rekindle.cli.export import run_export

    run_export(study, out)


@app.command()
def study(
    file: Annotated[Path, typer.Argument(help="A YAML file, see studies/.")],
    out: Annotated[Path, typer.Option(help="The study directory.")],
    resume: Annotated[bool, typer.Option(help="Go on with what is not finished.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace a study that is there.")] = False,
    archive: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option("--from", help="Begin with the finished runs of an exported study."),
    ] = None,
    jobs: Annotated[
        Optional[int],  # noqa: UP045
        typer.Option(help="Runs at once; a core (or card) each when left out."),
    ] = None,
    executor: Annotated[str, typer.Option(help="local, or ray (extra [ray]).")] = "local",
    dry_run: Annotated[bool, typer.Option(help="Check the file, say what would run.")] = False,
    sets: Set = None,
    quiet: Quiet = False,
) -> None:
    """Arms x seeds x base models at an equal budget, and what can be concluded."""
    mode = mode_of(resume, overwrite)
    from rekindle.cli.study import run_study_command

    run_study_command(
        file,
        out,
        mode=mode,
        archive=archive,
        jobs=jobs,
        executor=executor,
        dry_run=dry_run,
        overrides=sets or [],
        command=command_line(),
        quiet=quiet,
    )


@app.command()
def tasks() -> None:
    """The tasks there are."""
    from rekindle.tasks import KNOWN

    for name, text in KNOWN.items():
        typer.echo(f"{name:<12} {text}")


@app.command()
def methods() -> None:
    """The methods there are, the recipe section that configures each, and what it does."""
    from rekindle.methods.catalog import METHODS

    for method in METHODS.values():
        typer.echo(f"{method.name:<20} section {method.section + ':':<15} {method.sentence}")


@app.command()
def cite(
    methods: Annotated[
        Optional[list[str]],  # noqa: UP045
        typer.Argument(help="See `rekindle methods`; all when left out.", metavar="METHOD"),
    ] = None,
    run: Annotated[
        Optional[Path],  # noqa: UP045
        typer.Option(help="A run or study directory: what it used."),
    ] = None,
    format: Annotated[Literal["bibtex", "text"], typer.Option(help="How.")] = "bibtex",
) -> None:
    """The papers that methods come from, and Rekindle, to be cited."""
    from rekindle.cli.cite import run_cite

    run_cite(methods or [], run, format)


@app.command("inspect-data")
def inspect_data(
    task: Annotated[str, typer.Option(help="A task, or a .jsonl file.")],
    model: Annotated[str, typer.Option(help="Whose tokenizer to use.")] = "testbed/countdown-s0",
    split: Annotated[str, typer.Option(help="train, dev or test.")] = "train",
    count: Annotated[int, typer.Option(help="Problems to show.")] = 3,
    sets: Set = None,
) -> None:
    """What the model would see: tokens, and which of them carry loss."""
    from rekindle.cli.inspect_data import run_inspect

    run_inspect(task=task, model=model, split=split, count=count, overrides=sets or [])


@app.command()
def grade(
    verifier: Annotated[str, typer.Option(help="exact, numeric, or math (extra [math]).")],
    input: Annotated[Path, typer.Option(help='JSONL rows: {"gold": ..., "text": ...}.')],
    output: Annotated[Path, typer.Option(help="The same rows with score and reason.")],
    timeout: Annotated[float, typer.Option(help="Seconds for an answer.", min=0.01)] = 5.0,
    workers: Annotated[Optional[int], typer.Option(help="Processes.", min=1)] = None,  # noqa: UP045
    memory: Annotated[int, typer.Option(help="MiB a process may hold.", min=256)] = 2048,
) -> None:
    """Check answers in processes that can be killed: 1, 0, or null with the reason."""
    from rekindle.cli.grade import run_grade

    run_grade(verifier, input, output, timeout=timeout, workers=workers, memory=memory)


@app.command()
def doctor() -> None:
    """Versions, devices, threads and optional parts of this installation."""
    from rekindle.cli.doctor import run_doctor

    run_doctor()


@reward_app.command("train")
def reward_train(
    out: Annotated[Path, typer.Option(help="The run directory; OUT/final is the reward model.")],
    model: Annotated[str | None, typer.Option(help="The trunk: a policy or reward model.")] = None,
    task: Annotated[str | None, typer.Option(help="Where problems and labels come from.")] = None,
    levels: Annotated[Optional[str], typer.Option(help="Comma-separated.")] = None,  # noqa: UP045
    loss: Annotated[Optional[str], typer.Option(help="correctness or bradley_terry.")] = None,  # noqa: UP045
    pairs: Annotated[Optional[Path], typer.Option(help="JSONL: prompt, chosen, rejected.")] = None,  # noqa: UP045
    policy: Annotated[list[str] | None, typer.Option(help="Its answers too; repeatable.")] = None,
    resume: Annotated[bool, typer.Option(help="Go on from the newest checkpoint.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace a run that is there.")] = False,
    sets: Set = None,
    quiet: Quiet = False,
) -> None:
    """Train a scalar-head reward model and measure it on held-out problems."""
    from rekindle.cli.reward import run_train, settings

    tree = settings(model, task, levels, loss, pairs, policy or [], sets or [])
    run_train(tree, out, mode=mode_of(resume, overwrite), command=command_line(), quiet=quiet)


@reward_app.command("eval")
def reward_eval(
    reward: Annotated[str, typer.Option(help="The reward model: a directory or hub id.")],
    model: Annotated[str | None, typer.Option(help="The policy whose answers are scored.")] = None,
    task: Annotated[Optional[str], typer.Option(help="The problems.")] = None,  # noqa: UP045
    levels: Annotated[Optional[str], typer.Option(help="Comma-separated.")] = None,  # noqa: UP045
    out: Annotated[Optional[Path], typer.Option(help="The JSON file to write.")] = None,  # noqa: UP045
    sets: Set = None,
) -> None:
    """AUC of a reward model on a policy's own answers to held-out problems."""
    from rekindle.cli.reward import run_eval, settings

    run_eval(settings(model, task, levels, None, None, [], sets or []), reward, out)


@testbed_app.command("list")
def testbed_list() -> None:
    """The models, what they were trained on, and what they can do."""
    from rekindle.cli.testbed import run_list

    run_list()


@testbed_app.command("build")
def testbed_build(
    models: Annotated[Optional[list[str]], typer.Argument(help="Names; all when left out.")] = None,  # noqa: UP045
    out: Annotated[Path, typer.Option(help="Where the models go.")] = Path("runs/testbed"),
    steps: Annotated[Optional[int], typer.Option(help="Fewer: a weaker base.", min=1)] = None,  # noqa: UP045
    overwrite: Annotated[bool, typer.Option(help="Replace models that are there.")] = False,
    resume: Annotated[bool, typer.Option(help="Go on with a build that was stopped.")] = False,
    quiet: Quiet = False,
) -> None:
    """Pre-train testbed models again from nothing, and check what they must reach."""
    from rekindle.cli.testbed import run_build

    run_build(models or [], out, mode=mode_of(resume, overwrite), steps=steps, quiet=quiet)


def _warn(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """A warning as a user wants it: what it says, not where in the code it was said."""
    sys.stderr.write(f"warning: {message}\n")


def main() -> None:
    """Entry point: expected errors print without a traceback and exit with 2."""
    calm_threads()
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.showwarning = _warn
    try:
        app()
    except RekindleError as error:
        sys.stderr.write(f"error: {error}\n")
        raise SystemExit(EXIT_USER_ERROR) from None
    except BrokenPipeError:
        raise SystemExit(1) from None
