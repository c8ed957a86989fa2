"""Every signal that can be measured with what there is, in one pass over the same problems."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from rekindle.engine.config import SampleConfig
from rekindle.engine.policy import Policy
from rekindle.engine.sampler import CachedSampler
from rekindle.errors import ConfigError
from rekindle.records import Problem, Split
from rekindle.rewards.reward_model import Scorer
from rekindle.signals.agreement import measure_agreement
from rekindle.signals.answers import Answers, sample_answers
from rekindle.signals.baseline import Baseline
from rekindle.signals.groups import group_finding
from rekindle.signals.pair_gap import measure_pairs
from rekindle.signals.reward import measure_reward
from rekindle.signals.saturation import saturation, sft_finding
from rekindle.signals.table import ORDER, Finding, point
from rekindle.signals.verifier import verifier_finding
from rekindle.tasks.brittle import BrittleVerifier
from rekindle.tasks.task import Grader, Task


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

    def grader(self) -> Grader:
        """The verifier of training."""
        return BrittleVerifier(self.task, self.brittle) if self.brittle else self.task


class Found(NamedTuple):
    """Findings in the order of `ORDER`; `missing`: what each of the others needs."""

    findings: list[Finding]
    missing: dict[str, str]


def measure(given: Measured, wanted: Sequence[str] | None, *, problems: int, samples: int) -> Found:
    """Measure the `wanted` signals; None: every one for which there is what it needs.

    Raises:
        ConfigError: a signal is named that cannot be measured.
        DataError: the task has too few problems, or a row cannot be read.
    """
    names = ORDER if wanted is None else wanted
    lists: dict[Split, list[Problem]] = {}

    def listed(split: Split) -> list[Problem]:
        if split not in lists:
            count = {"count": problems, "seed": 0}
            lists[split] = given.task.problems(split, **count, levels=given.levels)
        return lists[split]

    missing = _missing(given, names, listed)
    answers = None
    if any(name in names and name not in missing for name in ("groups", "verifier", "reward")):
        answers = sample_answers(
            CachedSampler(given.policy),
            given.grader(),
            listed("train"),
            samples=samples,
            config=given.sample,
        )
        if "verifier" in names and answers.true is None:
            missing["verifier"] = "needs a stronger check than the training verifier"
    if wanted is not None and missing:
        name, why = next(iter(missing.items()))
        raise ConfigError(f"signal '{name}' cannot be measured", why=why, fix="leave it out")
    kept = [name for name in ORDER if name in names and name not in missing]
    missing = {name: missing[name] for name in ORDER if name in missing}
    return Found(_findings(given, kept, listed, answers), missing)


def _missing(
    given: Measured, names: Sequence[str], listed: Callable[[Split], list[Problem]]
) -> dict[str, str]:
    missing = {}
    if "sft" in names and not all(
        any(problem.solution is not None for problem in listed(split)) for split in ("train", "dev")
    ):
        missing["sft"] = "needs a 'solution' in samples of train and dev"
    if "reward" in names and given.scorer is None:
        missing["reward"] = "needs a reward model: --set reward.model=DIR (or reward.url)"
    if "pairs" in names and not given.pairs and not (given.baseline and given.baseline.rounds):
        missing["pairs"] = "needs --pairs FILE, or --run of a self-rewarding run"
    if "agreement" in names and given.weak is None:
        missing["agreement"] = "needs --weak"
    return missing


def _findings(
    given: Measured,
    names: Sequence[str],
    listed: Callable[[Split], list[Problem]],
    answers: Answers | None,
) -> list[Finding]:
    found: dict[str, Finding] = {}
    if "sft" in names:
        sft = saturation(given.policy, listed("train"), listed("dev"), weak=given.weak)
        found["sft"] = sft_finding(sft)
    if answers is not None:
        found |= _of_answers(given, names, answers, found)
    if "pairs" in names:
        rounds = given.baseline.rounds if given.baseline else []
        found["pairs"] = measure_pairs(given.policy, given.pairs, rounds)
    if "agreement" in names and given.weak is not None:
        found["agreement"] = measure_agreement(
            given.policy,
            given.weak,
            given.task,
            given.grader(),
            listed("train"),
            config=given.sample,
        )
    return [found[name] for name in ORDER if name in found]


def _of_answers(
    given: Measured, names: Sequence[str], answers: Answers, before: Mapping[str, Finding]
) -> dict[str, Finding]:
    """Reward model first, for the verifier's remedy rests on it, and the groups' on both."""
    found: dict[str, Finding] = {}
    if "reward" in names and given.scorer is not None:
        found["reward"] = measure_reward(given.scorer, answers)
    if "verifier" in names and answers.true is not None:
        found["verifier"] = verifier_finding(
            answers.accepted, answers.true, answers.ids(), reward=found.get("reward")
        )
    if "groups" in names:
        more = list(given.baseline.groups) if given.baseline else []
        more += [
            point(f"missing: {reason}", count, len(answers.asked), "answers without a score")
            for reason, count in answers.missing.most_common(3)
        ]
        sft, verifier = before.get("sft"), found.get("verifier")
        found["groups"] = group_finding(
            answers.table(answers.accepted),
            levels=answers.levels(),
            true_PK=None if answers.true is None else answers.table(answers.true),
            sft=None if sft is None else sft.state,
            verifier=None if verifier is None else verifier.state,
            more=more,
        )
    return found
