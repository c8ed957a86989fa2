"""Every signal that can be measured with what there is, in one pass over the same problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from rekindle.engine.config import SampleConfig
from rekindle.engine.pairing import check_pair
from rekindle.engine.policy import Policy
from rekindle.engine.sampler import CachedSampler
from rekindle.errors import ConfigError, DataError, ModelError
from rekindle.evals.intervals import cluster
from rekindle.records import Problem, Split
from rekindle.rewards.reward_model import Scorer
from rekindle.signals.agreement import measure_agreement
from rekindle.signals.answers import Answers, sample_answers, share_row
from rekindle.signals.baseline import Baseline
from rekindle.signals.groups import GROUP, group_finding
from rekindle.signals.pair_gap import measure_pairs
from rekindle.signals.reward import measure_reward
from rekindle.signals.saturation import has_signal, saturation, sft_finding
from rekindle.signals.solutions import Solutions, grade_solutions, with_solutions
from rekindle.signals.table import ORDER, Finding, Health, Row, point, row_of
from rekindle.signals.verifier import verifier_finding
from rekindle.tasks.brittle import BrittleVerifier
from rekindle.tasks.rows import Listed
from rekindle.tasks.task import Grader, Task

MIX = "sft, mixed"  # what --weak adds to sft, where it cannot be measured
_SAMPLED = ("groups", "verifier", "reward", "agreement")  # what sampled answers are needed for
STRONGER = (
    "needs a stronger check than the training verifier: --check numeric (or math, exact, code) for "
    "a task from a file, or task.brittle"
)


class Measured(NamedTuple):
    """What is measured, and with what; None or empty: not given."""

    policy: Policy
    weak: Policy | None
    task: Task
    brittle: float
    levels: tuple[str, ...] | None
    sample: SampleConfig
    scorer: Scorer | None
    pairs: Sequence[Mapping[str, Any]]
    baseline: Baseline | None
    check: Grader | None = None
    group_size: int | None = None
    control: str | None = None  # the scorer's, "random" or "oracle"

    def grader(self) -> Grader:
        """The verifier of training."""
        return BrittleVerifier(self.task, self.brittle) if self.brittle else self.task

    def group(self) -> int:
        """Answers of a group in training: as asked for, as in the baseline run, or 8."""
        theirs = None if self.baseline is None else self.baseline.group_size
        return self.group_size or theirs or GROUP


class Found(NamedTuple):
    """Findings in the order of `ORDER`; `missing`: what each of the others needs."""

    findings: list[Finding]
    missing: dict[str, str]


class _Lists:
    """The problems of a split, listed once."""

    def __init__(self, given: Measured, problems: int) -> None:
        self._given, self._problems = given, problems
        self._lists: dict[Split, list[Problem]] = {}

    def of(self, split: Split) -> list[Problem]:
        if split not in self._lists:
            given = self._given
            self._lists[split] = given.task.problems(
                split, count=self._problems, seed=0, levels=given.levels
            )
        return self._lists[split]


def measure(given: Measured, wanted: Sequence[str] | None, *, problems: int, samples: int) -> Found:
    """Measure the `wanted` signals; None: every one for which there is what it needs.

    Raises:
        ConfigError: a signal is named that cannot be measured.
        DataError: the task has too few problems, or a row cannot be read.
    """
    names = ORDER if wanted is None else wanted
    lists = _Lists(given, problems)
    missing = _missing(given, names, lists)
    answers = None
    if any(name in names and name not in missing for name in _SAMPLED):
        answers = sample_answers(
            CachedSampler(given.policy),
            given.grader(),
            lists.of("train"),
            samples=samples,
            config=given.sample,
            check=given.check,
        )
        if "verifier" in names and answers.true is None:
            missing["verifier"] = STRONGER
    if wanted is not None and missing:
        name, why = next(iter(missing.items()))
        raise ConfigError(
            f"signal '{name}' cannot be measured",
            got=f"--signals {','.join(wanted)}",
            why=why,
            fix="give what it needs, or leave it out of --signals",
        )
    kept = [name for name in ORDER if name in names and name not in missing]
    mixing = _unmixed(given) if "sft" in kept else None
    found = _findings(given, kept, lists, answers, mixed=mixing is None)
    missing = {name: missing[name] for name in ORDER if name in missing}
    return Found(found, missing if mixing is None else {**missing, MIX: mixing})


def _missing(given: Measured, names: Sequence[str], lists: _Lists) -> dict[str, str]:
    missing = {}
    run = given.baseline is not None and given.baseline.sft is not None
    if "sft" in names and not run:
        why = _unsolved(lists)
        if why is not None:
            missing["sft"] = why
    if "reward" in names and given.scorer is None:
        missing["reward"] = "needs a reward model: --set reward.model=DIR (or reward.url)"
    if "pairs" in names and not given.pairs and not (given.baseline and given.baseline.rounds):
        missing["pairs"] = "needs --pairs FILE, or --run of a self-rewarding run"
    if "agreement" in names and given.weak is None:
        missing["agreement"] = "needs --weak"
    return missing


def _unsolved(lists: _Lists) -> str | None:
    """Why SFT's signal cannot be measured; None: it can."""
    splits: tuple[Split, Split] = ("train", "dev")
    for split in splits:
        try:
            listed = lists.of(split)
        except DataError as error:
            if split == "train":
                raise
            return f"needs held-out samples: {error.what} (give dev.jsonl, or more rows)"
        if all(problem.solution is None for problem in listed):
            return f"needs a 'solution' in samples of train and dev; {split} has none"
    return None


def _unmixed(given: Measured) -> str | None:
    """Why the weak model's logits cannot be mixed in; None: they can, or there is no weak one."""
    if given.weak is None:
        return None
    try:
        check_pair(given.policy, given.weak)
    except ModelError as error:
        return error.what
    return None


def _findings(
    given: Measured,
    names: Sequence[str],
    lists: _Lists,
    answers: Answers | None,
    *,
    mixed: bool,
) -> list[Finding]:
    found: dict[str, Finding] = {}
    solutions = None
    if "sft" in names or "groups" in names:  # what both say rests on the solutions
        solutions = grade_solutions(given.grader(), lists.of("train"), check=given.check)
    if "sft" in names:
        found["sft"] = _sft(given, lists, mixed=mixed)
        if solutions is not None:
            found["sft"] = with_solutions(found["sft"], solutions)
    if answers is not None:
        sft = _trainable(given, lists, found.get("sft"))
        found |= _of_answers(given, names, answers, sft, solutions)
    if "pairs" in names:
        rounds = given.baseline.rounds if given.baseline else []
        found["pairs"] = measure_pairs(given.policy, given.pairs, rounds)
    if "agreement" in names and given.weak is not None and answers is not None:
        found["agreement"] = measure_agreement(
            given.policy,
            given.weak,
            given.task,
            given.grader(),
            lists.of("train"),
            config=given.sample,
            sampled_PK=answers.table(answers.accepted),
            sft=_trainable(given, lists, found.get("sft")),
        )
    return [found[name] for name in ORDER if name in found]


def _sft(given: Measured, lists: _Lists, *, mixed: bool) -> Finding:
    """On the model, and what the baseline run says; on the run alone where there is no solution."""
    curve = None if given.baseline is None else given.baseline.sft
    if curve is not None and _unsolved(lists) is not None:
        health: Health = "well" if curve.state == "still improving" else "between"
        return Finding("sft", curve.state, health, curve.words, curve.rows)
    weak = given.weak if mixed else None
    found = sft_finding(saturation(given.policy, lists.of("train"), lists.of("dev"), weak=weak))
    if curve is None:
        return found
    return found._replace(rows=[*found.rows, *curve.rows], verdict=f"{found.verdict} {curve.words}")


def _trainable(given: Measured, lists: _Lists, sft: Finding | None) -> str | None:
    """SFT's state in words, where a study of it would find a solution in each training row, and
    signal."""
    if sft is None or not has_signal(sft):
        return None
    if isinstance(given.task, Listed):
        rows = [
            problem
            for problem in given.task.splits.get("train", ())
            if given.levels is None or problem.level in given.levels
        ]
    else:
        rows = lists.of("train")
    if not all(problem.solution is not None for problem in rows):
        return None
    return "how much is not settled" if sft.state == "unsettled" else sft.state


def _of_answers(
    given: Measured,
    names: Sequence[str],
    answers: Answers,
    sft: str | None,
    solutions: Solutions | None,
) -> dict[str, Finding]:
    """Reward model first, for the verifier's remedy rests on it, and the groups' on both.

    The verifier is judged wherever there is a stronger check, asked for or not.
    """
    found: dict[str, Finding] = {}
    if "reward" in names and given.scorer is not None:
        found["reward"] = measure_reward(given.scorer, answers, control=given.control)
    verifier = None
    if answers.true is not None:
        verifier = verifier_finding(
            answers.accepted,
            answers.true,
            answers.ids(),
            reward=found.get("reward"),
            control=given.control,
        )
        if "verifier" in names:
            found["verifier"] = verifier
    if "groups" in names:
        more = list(given.baseline.groups) if given.baseline else []
        more += [
            point(f"missing: {reason}", count, len(answers.asked), "answers without a score")
            for reason, count in answers.missing.most_common(3)
        ]
        found["groups"] = group_finding(
            answers.table(answers.accepted),
            size=given.group(),
            levels=answers.levels(),
            true_PK=None if answers.true is None else answers.table(answers.true),
            sft=sft,
            verifier=None if verifier is None else verifier.state,
            solutions=solutions,
            more=[*more, _truncated(answers)],
            cut=share_row(
                "truncated/wrong",
                answers.cut,
                [1 - value for value in answers.accepted],
                answers.ids(),
                "wrong answers that the limit cut off, share",
            ),
        )
    return found


def _truncated(answers: Answers) -> Row:
    share = cluster(answers.table(answers.cut).mean(axis=1))
    return row_of("truncated", share, "answers that the limit cut off, share")
