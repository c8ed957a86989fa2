"""`rekindle reward train` and `rekindle reward eval`."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rekindle.cli.options import (
    Levels,
    Mode,
    Overwrite,
    Quiet,
    Set,
    command_line,
    mode_of,
    named_paths,
    split_names,
)
from rekindle.errors import ConfigError, DataError
from rekindle.files import read_jsonl, write_json, write_jsonl
from rekindle.outputs import OutputFile

if TYPE_CHECKING:
    from rekindle.engine.policy import Policy
    from rekindle.records import Problem
    from rekindle.rewards.reward_model import ScalarHead
    from rekindle.tasks import Task
    from rekindle.training.reward_data import Contrast, LabelledAnswer
    from rekindle.training.reward_training import Assessment, Draw, HeldOut, RewardTraining

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Train and assess reward models."
)
CANDIDATES = "candidates.jsonl"


@app.command("train")
def reward_train(
    out: Annotated[Path, typer.Option(help="The run directory; OUT/final is the reward model.")],
    model: Annotated[str | None, typer.Option(help="The trunk: a policy or reward model.")] = None,
    task: Annotated[str | None, typer.Option(help="Where problems and labels come from.")] = None,
    levels: Levels = None,
    loss: Annotated[str | None, typer.Option(help="correctness or bradley_terry.")] = None,
    pairs: Annotated[Path | None, typer.Option(help="File of prompt, chosen, rejected.")] = None,
    policy: Annotated[list[str] | None, typer.Option(help="Adds its answers; repeatable.")] = None,
    resume: Annotated[bool, typer.Option(help="Continue from the newest checkpoint.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace an existing run.")] = False,
    sets: Set = None,
    quiet: Quiet = False,
) -> None:
    """Train a scalar-head reward model and measure it on held-out problems."""
    config = settings(model, task, levels, loss, pairs, policy or [], sets or [])
    run_train(config, out, mode=mode_of(resume, overwrite), command=command_line(), quiet=quiet)


@app.command("eval")
def reward_eval(
    reward: Annotated[str, typer.Option(help="The reward model: a directory or hub id.")],
    model: Annotated[str | None, typer.Option(help="The policy whose answers are scored.")] = None,
    task: Annotated[str | None, typer.Option(help="The problems.")] = None,
    levels: Levels = None,
    out: Annotated[Path | None, typer.Option(help="The JSON file to write.")] = None,
    overwrite: Overwrite = False,
    sets: Set = None,
) -> None:
    """Measure the AUC of a reward model on a policy's own answers to held-out problems."""
    asked = settings(model, task, levels, overrides=sets or [])
    run_eval(asked, reward, out, reads=named_paths(model, task, sets=sets), overwrite=overwrite)


def settings(
    model: str | None = None,
    task: str | None = None,
    levels: str | None = None,
    loss: str | None = None,
    pairs: Path | None = None,
    policies: Sequence[str] = (),
    overrides: Sequence[str] = (),
) -> RewardTraining:
    """The options as settings, overrides on top; what is None keeps its default."""
    from rekindle.training.recipe import checked, with_overrides
    from rekindle.training.reward_training import RewardTraining

    optim = RewardTraining().optim.model_dump(mode="json")  # one key set keeps the others
    tree: dict[str, Any] = {"model": {}, "task": {}, "data": {}, "optim": optim}
    if model is not None:
        tree["model"]["name"] = model
    if task is not None:
        from rekindle.tasks.sources import task_place

        tree["task"] = task_place(task)
    if levels is not None:
        tree["task"]["levels"] = list(split_names(levels) or ())
    if loss is not None:
        tree["loss"] = loss
    if pairs is not None:
        tree["data"]["pairs"] = str(pairs)
    if policies:
        tree["data"]["policies"] = list(policies)
    return checked(RewardTraining, with_overrides(tree, overrides), "")


def run_train(config: RewardTraining, out: Path, *, mode: Mode, command: str, quiet: bool) -> None:
    """Collect answers, train, assess on held-out problems; OUT/final holds model and eval.json."""
    from rekindle.engine.capabilities import check_trainable
    from rekindle.engine.device import seed_everything, set_threads
    from rekindle.engine.run import Run
    from rekindle.engine.rundir import refuse_lost_input
    from rekindle.tasks.pairs import pairs_fingerprint
    from rekindle.training.parts import open_task
    from rekindle.training.reward_training import assess, fit

    _check(config)
    check_trainable(config.model)
    refuse_lost_input(out, mode, config.model_dump(mode="json"))
    seed_everything(config.seed, deterministic=config.device.deterministic)
    head = _head(config)
    set_threads(config.device.threads, parameters=sum(p.numel() for p in head.model.parameters()))
    task = None if config.data.pairs is not None else open_task(config.task, config.model)
    data = task.fingerprint() if task is not None else pairs_fingerprint(str(config.data.pairs))
    run = Run.open(
        out,
        config=config.model_dump(mode="json"),
        fingerprints={"data": data, "model": head.fingerprint()},
        mode=mode,
        command=command,
        quiet=True if quiet else None,
    )
    with run:
        if run.finished:
            return
        if task is None:
            draw, held_out = _read_pairs(config)
        else:
            draw, held_out = _sample_answers(config, task, _policies_of(config, head), out, mode)
        fit(config, head, draw=draw, held_out=held_out, run=run)
        assessment = assess(head, held_out)
        result = {"model": config.model.name, "loss": config.loss, **assessment}

        def save(directory: Path) -> None:
            head.save(directory)
            write_json(directory / "eval.json", result)

        run.finish(save)
    _print(assessment)
    typer.echo(f"model: {out / 'final'}\nuse it: --set reward.model={out / 'final'}")


def run_eval(
    config: RewardTraining,
    reward: str,
    out: Path | None,
    *,
    reads: tuple[Path, ...] = (),
    overwrite: bool = False,
) -> None:
    """AUCs of a reward model on the answers of a policy to held-out problems."""
    file = None
    if out is not None:
        file = OutputFile(out, reads=(*reads, Path(reward)), overwrite=overwrite)
        file.check()
    from rekindle.engine.device import pick_device, seed_everything, set_threads
    from rekindle.engine.integrity import located
    from rekindle.engine.policy import Policy
    from rekindle.rewards.reward_model import ScalarHead
    from rekindle.training.parts import open_task
    from rekindle.training.reward_training import assess

    seed_everything(config.seed, deterministic=config.device.deterministic)
    set_threads(config.device.threads, parameters=1)
    head = ScalarHead.load(
        located(reward),
        device=pick_device(config.model.device),
        dtype=config.model.dtype,
    )
    task = open_task(config.task, config.model)
    assessment = assess(head, _held_out(config, task, Policy.load(config.model, use="evaluation")))
    if file is not None:
        file.write_json({"policy": config.model.name, "reward": reward, **assessment})
    _print(assessment)


def _check(config: RewardTraining) -> None:
    task = config.task
    if task.max_prompt_tokens is not None or task.long_prompts == "drop":
        raise ConfigError(
            "task.max_prompt_tokens and task.long_prompts have no effect here",
            why="the policies and the reward model have tokens of their own; what does not fit one "
            "has no score",
            fix="remove them; or leave long rows out of the data",
        )
    if config.data.pairs is None:
        return
    if config.loss != "bradley_terry":
        raise ConfigError(
            "pairs train a reward model by bradley_terry alone",
            got=f"loss: {config.loss}",
            why="a pair says which answer is better, not that one is right",
            fix="--loss bradley_terry",
        )
    if config.data.policies:
        raise ConfigError("data.policies has no effect with data.pairs", fix="remove one of them")


def _head(config: RewardTraining) -> ScalarHead:
    from rekindle.engine.device import pick_device
    from rekindle.engine.integrity import located
    from rekindle.rewards.reward_model import ScalarHead

    return ScalarHead.load(
        located(config.model.name),
        revision=config.model.revision,
        device=pick_device(config.model.device),
        dtype=config.model.dtype,
        trust_remote_code=config.model.trust_remote_code,
        fresh_head=True,
        recomputes=config.model.activation_checkpointing,
    )


def _policies_of(config: RewardTraining, head: ScalarHead) -> list[str]:
    """The policies whose answers are learned from: the trunk's own where it is one, and others."""
    kinds = head.model.config.architectures or []
    if not any(kind.endswith("ForSequenceClassification") for kind in kinds):
        return [config.model.name, *config.data.policies]
    if not config.data.policies:
        raise ConfigError(
            f"'{config.model.name}' is a reward model, which writes no answers",
            wanted="a policy whose answers it learns from",
            fix="--policy testbed/countdown-s0, or the policy that was trained against it",
        )
    return list(config.data.policies)


def _sample_answers(
    config: RewardTraining, task: Task, names: Sequence[str], out: Path, mode: Mode
) -> tuple[Draw, HeldOut]:
    """Where the contrasts of a step come from, and the answers that the model is measured on."""
    from rekindle.engine.policy import Policy
    from rekindle.training.reward_data import LabelledAnswer, Pool

    drawn = task.draw(
        step=0, count=config.data.problems, seed=config.seed, levels=config.task.levels
    )
    problems = list({problem.id: problem for problem in drawn}.values())  # each once
    trunk = config.model
    held = [trunk if name == trunk.name else trunk.with_name(name) for name in names]
    policies = [Policy.load(one, use="evaluation") for one in held]
    path = out / CANDIDATES
    if mode == "resume" and path.exists():
        fields = LabelledAnswer._fields
        rows = [LabelledAnswer(*(row[name] for name in fields)) for _, row in read_jsonl(path)]
    else:
        rows = _candidates(config, task, problems, policies)
        asked = [{"id": p.id, "prompt": p.prompt} for p in problems]
        write_jsonl(path, ({**row._asdict(), **asked[row.problem]} for row in rows))
    pool = Pool.of(task, problems, rows)

    def draw(count: int, rng: random.Random) -> list[Contrast]:
        return pool.draw(count, corrupted=config.data.corrupted, rng=rng)

    return draw, _held_out(config, task, policies[-1])


def _candidates(
    config: RewardTraining, task: Task, problems: Sequence[Problem], policies: Sequence[Policy]
) -> list[LabelledAnswer]:
    from rekindle.training.reward_data import LabelledAnswer

    index = {problem.id: i for i, problem in enumerate(problems)}
    rows = [
        LabelledAnswer(i, problem.solution, right=True, source="reference")
        for i, problem in enumerate(problems)
        if problem.solution is not None
    ]
    for policy in policies:
        for temperature in config.data.temperatures:
            source, samples = f"{policy.config.name} T={temperature:g}", config.data.samples
            for problem, text in _answers(config, task, policy, problems, samples, temperature):
                score = task.grade(problem, text).value
                if score is not None:
                    rows.append(LabelledAnswer(index[problem.id], text, score > 0.5, source))
    return rows


def _answers(
    config: RewardTraining,
    task: Task,
    policy: Policy,
    problems: Sequence[Problem],
    samples: int,
    temperature: float,
) -> list[tuple[Problem, str]]:
    from rekindle.engine.sampler import sampler_for
    from rekindle.training.parts import sampling

    warm = sampling(config.sample.model_copy(update={"temperature": temperature}), task)
    rollouts = sampler_for(policy).sample(problems, samples=samples, config=warm, seed=config.seed)
    return [(rollout.problem, rollout.text) for rollout in rollouts]


def _held_out(config: RewardTraining, task: Task, policy: Policy) -> HeldOut:
    """Answers of a policy at temperature 1 to problems of the dev split."""
    from rekindle.training.reward_training import held_out_answers

    problems = task.problems(
        "dev", count=config.data.held_out, seed=config.seed, levels=config.task.levels
    )
    answers = _answers(config, task, policy, problems, config.data.held_out_samples, 1.0)
    brittle = config.task.brittle
    return held_out_answers(task, problems, answers, brittle=brittle, seed=config.seed)


def _read_pairs(config: RewardTraining) -> tuple[Draw, HeldOut]:
    """The same of a file of pairs."""
    from rekindle.training.reward_data import read_contrasts
    from rekindle.training.reward_training import HeldOut

    path = str(config.data.pairs)
    pairs = read_contrasts(path)
    prompts = sorted({pair.problem.prompt for pair in pairs})
    random.Random(config.seed).shuffle(prompts)
    few = min(config.data.held_out, len(prompts) // 5)  # a fifth at most
    if few == 0:
        raise DataError(
            f"{path} has too few prompts", got=len(prompts), wanted="at least 5, one held out"
        )
    apart = set(prompts[:few])
    train = [pair for pair in pairs if pair.problem.prompt not in apart]
    kept = [pair for pair in pairs if pair.problem.prompt in apart]

    def draw(count: int, rng: random.Random) -> list[Contrast]:
        return rng.choices(train, k=count)

    answers = [(p.problem, text) for p in kept for text in (p.chosen, p.rejected)]
    right = [1.0, 0.0] * len(kept)
    return draw, HeldOut(answers, right, right, [True] * len(answers))


def _print(result: Assessment) -> None:
    typer.echo(f"held out: {result['answers']} answers, {result['right']:.1%} right")
    for name, found in result["metrics"].items():
        value, low, high = found["value"], found["ci_low"], found["ci_high"]
        typer.echo(f"  {name:<18} {value:.3f}  95% [{low:.3f}, {high:.3f}]  n {found['n']}")
