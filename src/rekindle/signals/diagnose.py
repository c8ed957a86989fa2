"""Which learning signal is missing: a model and data by name, to findings and remedies.

Options are checked before torch is loaded: a mistake is answered at once. Advice names options of
`rekindle diagnose`; arguments here have the same names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from rekindle.engine.config import ModelConfig, TaskConfig
from rekindle.errors import ConfigError, DataError, did_you_mean
from rekindle.signals.remedies import ENOUGH, DiagnoseOptions, DiagnoseSettings, Subject
from rekindle.signals.texts import refusal
from rekindle.training.evaluation import settings_of
from rekindle.training.recipe import checked, with_overrides

if TYPE_CHECKING:
    from rekindle.engine.policy import Policy
    from rekindle.signals.baseline import Baseline
    from rekindle.signals.diagnosis import Diagnosis
    from rekindle.tasks import Task
    from rekindle.tasks.own import TaskSource
    from rekindle.tasks.pairs import PairRow
    from rekindle.tasks.task import Grader


def diagnose(
    model: str | Path,
    task: str | Path | TaskSource | None = None,
    *,
    weak: str | Path | None = None,
    problems: int = 200,
    samples: int = 8,
    group_size: int | None = None,
    levels: Sequence[str] | None = None,
    check: str | None = None,
    run: str | Path | None = None,
    pairs: str | Path | Sequence[PairRow] | None = None,
    signals: Sequence[str] | None = None,
    overrides: Sequence[str] = (),
    for_study: bool = False,
) -> Diagnosis:
    """Measure which learning signals a model has on a task, and what would help where one is out.

    Nothing is trained. A signal is measured where there is what it needs: solutions for sft, a task
    for groups, `check` for verifier, a reward model for reward, `pairs` or `run` for pairs, `weak`
    for agreement.

    Args:
        model: testbed/<name>, a directory, or a hub id.
        task: a task's name, a file of data, a directory of splits, or a Task; only pairs need none.
        weak: a weaker model: its logits mixed in, and its answers as labels.
        problems, samples: training problems a level (for sft of dev too), and answers to each.
        group_size: answers of a group in training; None: as in `run`, else 8.
        levels: of the task; None: all.
        check: a stronger check than the training verifier: exact, numeric, math or code.
        run: directory of a baseline run.
        pairs: a file of pairs (prompt, chosen, rejected), or such rows.
        signals: which to measure; None: all that can be.
        overrides: settings as `section.key=value`, e.g. `reward.model=DIR`.
        for_study: also count the problems of a study of a remedy, for `Diagnosis.subject`.

    Returns:
        `.findings`, `.remedies`, `.conclusion`; its repr says what the command prints last.

    Raises:
        ConfigError: options that cannot be meant together, or a signal that cannot be measured.
        DataError, ModelError: the task, a file or a model cannot be used.
    """
    options = DiagnoseOptions(
        str(model),
        None if weak is None else str(weak),
        problems,
        samples,
        group_size,
        None if levels is None else tuple(levels),
        check,
        None if run is None else Path(run),
        pairs,
        None if signals is None else tuple(signals),
        overrides,
        for_study,
    )
    _check_options(options)
    return _diagnose_pairs(options) if task is None else _diagnose_on_task(options, task)


def _check_options(options: DiagnoseOptions) -> None:
    from rekindle.signals.findings import ORDER

    alone = "with one there is nothing to compare, and no interval"
    group = "a group of one has nothing to compare"
    for name, value, why, fix in (
        ("problems", options.problems, alone, "leave --problems out: it is 200 then"),
        ("samples", options.samples, alone, "leave --samples out: it is 8 then"),
        ("group-size", options.group_size, group, "give the group size of your recipe"),
    ):
        if value is not None and value < 2:
            raise refusal(ConfigError, "too-small", value, name=name, why=why, fix=fix)
    for name in options.signals or ():
        if name not in ORDER:
            known, fix = ", ".join(ORDER), did_you_mean(name, ORDER)
            got = f"--signals {','.join(options.signals or ())}"
            raise refusal(ConfigError, "unknown-signal", got, name=name, known=known, fix=fix)


def _diagnose_on_task(options: DiagnoseOptions, source: str | Path | TaskSource) -> Diagnosis:
    from rekindle.tasks.own import own_task
    from rekindle.tasks.task import Task

    task = source if isinstance(source, str | Path) else own_task(source)
    settings = _settings(options, task)
    _check_other_place(options, settings.model)
    from rekindle.engine.device import seed_everything, set_threads
    from rekindle.loops.reward_scores import open_scorer
    from rekindle.signals.diagnosis import Inputs, measure
    from rekindle.training.parts import open_task

    loaded = task if isinstance(task, Task) else open_task(settings.task, settings.model)
    pairs, baseline = _read_pairs(options.pairs), _read_run(options, settings.task)
    check = _stronger_check(options.check, settings, loaded)
    scorer = open_scorer(settings.reward, loaded, device=settings.model.device)
    policy, weak = _load_models(options, settings.model)
    loaded, pairs = _within_limit(settings, policy, loaded, pairs)
    parameters = sum(p.numel() for p in policy.model.parameters())
    set_threads(settings.device.threads, parameters=parameters)
    seed_everything(0, deterministic=settings.device.deterministic)
    given = Inputs(options, settings, policy, weak, loaded, scorer, pairs, baseline, check)
    diagnosis = measure(given)
    if not options.for_study:
        return diagnosis
    train = _count_train(loaded, options.problems, settings.task.levels)
    subject = Subject(
        settings, parameters, options.weak, options.problems, train, given.group(), loaded
    )
    return replace(diagnosis, subject=subject)


def _within_limit(
    settings: DiagnoseSettings, policy: Policy, task: Task, pairs: Sequence[PairRow]
) -> tuple[Task, Sequence[PairRow]]:
    """Task and pairs without the prompts that are too long, as a run would be trained on them."""
    from rekindle.engine.progress import say
    from rekindle.engine.prompt_limit import PromptLimit, keep_task
    from rekindle.loops.pair_step import fitting_pairs
    from rekindle.training.parts import sampling

    limit = PromptLimit.of(policy, settings.task, sampling(settings.sample, task))
    kept = keep_task(limit, task, splits=("train", "dev"))
    for sentence in kept.left_out:
        say(f"data: {sentence}")
    return kept.task, fitting_pairs(limit, pairs)[0]


def _settings(options: DiagnoseOptions, task: str | Path | Task) -> DiagnoseSettings:
    """Everything that `--set` reaches, with the levels that were given."""
    name = str(task) if isinstance(task, str | Path) else task.name
    settings = settings_of(DiagnoseSettings, options.model, name, options.overrides)
    if settings.sample.temperature == 0:
        raise refusal(ConfigError, "greedy", "--set sample.temperature=0")
    if options.levels is None:
        return settings
    narrowed = settings.task.model_copy(update={"levels": options.levels})
    return settings.model_copy(update={"task": narrowed})


def _read_run(options: DiagnoseOptions, task: TaskConfig | None) -> Baseline:
    """What a baseline run says, of this task where there is one; nothing without a run."""
    from rekindle.signals.baseline import Baseline, RunTask, check_alike, read_baseline

    if options.run is None:
        return Baseline([], [])
    baseline = read_baseline(options.run)
    named = None if task is None else RunTask.of(task.name, task.path, task.levels)
    check_alike(baseline, options.run, task=named, model=options.model)
    return baseline


def _read_pairs(pairs: str | Path | Sequence[PairRow] | None) -> Sequence[PairRow]:
    """The pairs of a file, or rows as they are given."""
    if pairs is None:
        return ()
    if isinstance(pairs, str | Path):
        from rekindle.tasks.pairs import pairs_of_file

        return pairs_of_file(pairs, keep_equal=True)
    for i, pair in enumerate(pairs):
        lacking = [name for name in ("prompt", "chosen", "rejected") if name not in pair]
        if lacking:
            raise refusal(DataError, "half-a-pair", sorted(pair), i=i, name=lacking[0])
    return [{"id": str(i), **pair} for i, pair in enumerate(pairs)]


def _check_other_place(options: DiagnoseOptions, config: ModelConfig) -> None:
    """Refuse a weak model that goes by the model's own name, or lies at the same place."""
    from rekindle.testbed import located

    if options.weak is None or config.revision is not None:  # one name, and maybe two revisions
        return
    ours, theirs = (Path(located(c.name)) for c in (config, config.with_name(options.weak)))
    if ours == theirs or (ours.exists() and ours.resolve() == theirs.resolve()):
        raise _same_model(options, "one place")


def _load_models(options: DiagnoseOptions, config: ModelConfig) -> tuple[Policy, Policy | None]:
    """The model, and the weak one, whose weights must differ."""
    from rekindle.engine.fingerprints import weights_fingerprint
    from rekindle.engine.policy import Policy

    policy = Policy.load(config, use="evaluation")
    if options.weak is None:
        return policy, None
    weak = Policy.load(config.with_name(options.weak), use="evaluation")
    if weights_fingerprint(policy) == weights_fingerprint(weak):
        raise _same_model(options, "equal weights")
    return policy, weak


def _same_model(options: DiagnoseOptions, how: str) -> ConfigError:
    got = f"--model {options.model}, --weak {options.weak}: {how}"
    return refusal(ConfigError, "same-model", got)


def _stronger_check(name: str | None, settings: DiagnoseSettings, task: Task) -> Grader | None:
    """The check beside the training verifier: another verifier on the same rows."""
    if name is None:
        return None
    from rekindle.tasks.rows import Listed, check_verifier

    if not isinstance(task, Listed):
        raise refusal(ConfigError, "check-of-generated", f"task '{task.name}'", name=name)
    if name == task.verifier:
        got = f"task.verifier {task.verifier}"
        raise refusal(ConfigError, "check-of-training", got, name=name)
    if settings.task.brittle:
        got = f"--check {name}, task.brittle {settings.task.brittle:g}"
        raise refusal(ConfigError, "two-checks", got)
    return replace(task, verifier=check_verifier(name))


def _count_train(task: Task, problems: int, levels: Sequence[str] | None) -> int:
    """How many training problems a study could use, up to ENOUGH a level."""
    try:
        return len(task.problems("train", count=ENOUGH, seed=0, levels=levels))
    except DataError:  # a level with fewer; what was measured is there
        return len(task.problems("train", count=problems, seed=0, levels=levels))


# --- without a task


def _diagnose_pairs(options: DiagnoseOptions) -> Diagnosis:
    """What needs no task: the state of pairs, and of a self-rewarding run."""
    tree = with_overrides({"model": {"name": options.model}}, options.overrides)
    _check_no_task(options, named="task" in tree)
    settings = checked(DiagnoseSettings, tree, "")
    from rekindle.engine.policy import Policy
    from rekindle.signals.diagnosis import Diagnosis
    from rekindle.signals.findings import ORDER
    from rekindle.signals.pair_signal import measure_pairs

    pairs, baseline = _read_pairs(options.pairs), _read_run(options, None)
    if not pairs and not baseline.rounds:
        got = f"--run {options.run}, which has no rounds of self-rewarding"
        raise refusal(ConfigError, "no-task", got)
    finding = measure_pairs(Policy.load(settings.model, use="evaluation"), pairs, baseline.rounds)
    others = () if options.signals else tuple(name for name in ORDER if name != finding.signal)
    missing = dict.fromkeys(others, "needs --task")
    return Diagnosis(options.model, None, options.weak, (finding,), missing)


def _check_no_task(options: DiagnoseOptions, *, named: bool) -> None:
    values = {
        "--weak": options.weak, "--check": options.check, "--levels": options.levels,
        "--group-size": options.group_size, "--write": options.for_study or None,
        "--set task...": named or None,
    }  # fmt: skip
    given = [option for option, value in values.items() if value is not None]
    if options.signals is not None and set(options.signals) != {"pairs"}:
        given.append(f"--signals {','.join(options.signals)}")
    if options.pairs is None and options.run is None:
        given.append("neither --pairs nor --run")
    if given:
        raise refusal(ConfigError, "no-task", ", ".join(given))
