"""Every signal that can be measured with what there is, in one pass over the same problems."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from rekindle.engine.pairing import check_pair
from rekindle.engine.policy import Policy
from rekindle.engine.sampler import sampler_for
from rekindle.errors import ConfigError, DataError, ModelError
from rekindle.evals.intervals import cluster
from rekindle.records import Problem, Split
from rekindle.rewards.reward_model import Scorer
from rekindle.signals.agreement_signal import measure_agreement
from rekindle.signals.answers import Answers, sample_answers, share_row
from rekindle.signals.baseline import Baseline
from rekindle.signals.findings import ORDER, Finding, Measurement, conclusion, point
from rekindle.signals.group_signal import GROUP, group_finding
from rekindle.signals.pair_signal import measure_pairs
from rekindle.signals.remedies import DiagnoseOptions, DiagnoseSettings, Subject
from rekindle.signals.reward_signal import CONTROLS, measure_reward
from rekindle.signals.sft_signal import has_signal, saturation
from rekindle.signals.texts import refusal
from rekindle.signals.verifier_probe import Probed, probe_task, with_probe
from rekindle.signals.verifier_signal import (
    Solutions,
    grade_solutions,
    verifier_finding,
    with_solutions,
)
from rekindle.tasks.brittle import BrittleVerifier
from rekindle.tasks.gym import Gym
from rekindle.tasks.own import Rewarded
from rekindle.tasks.pairs import PairRow
from rekindle.tasks.rows import Listed
from rekindle.tasks.task import Grader, Task
from rekindle.training.parts import sampling

MIX = "sft, mixed"  # what --weak adds to sft, where it cannot be measured
_SAMPLED = ("groups", "verifier", "reward", "agreement")  # what sampled answers are needed for
NEEDS = {
    "verifier": "needs a stronger check than the training verifier: --check numeric (or math, "
    "exact, code) for a task from a file, or task.brittle",
    "reward": "needs a reward model: --set reward.model=DIR (or reward.url)",
    "pairs": "needs --pairs FILE, or --run of a self-rewarding run",
    "agreement": "needs --weak",
}


class Inputs(NamedTuple):
    """What is measured, and with what; None or empty: not given."""

    options: DiagnoseOptions
    settings: DiagnoseSettings
    policy: Policy
    weak: Policy | None
    task: Task
    scorer: Scorer | None
    pairs: Sequence[PairRow]
    baseline: Baseline
    check: Grader | None

    def grader(self) -> Grader:
        """The verifier of training."""
        brittle = self.settings.task.brittle
        return BrittleVerifier(self.task, brittle) if brittle else self.task

    def group(self) -> int:
        """Answers of a group in training: as given, as in the baseline run, or 8."""
        return self.options.group_size or self.baseline.group_size or GROUP


class Remedy(NamedTuple):
    """What the numbers of a signal support, and why."""

    signal: str
    what: str
    why: str


@dataclass(frozen=True, repr=False)
class Diagnosis:
    """The state of each signal, what would help, and what would not.

    Attributes:
        model, task, weak: what was diagnosed, by name; None: not given.
        findings: one a signal that was measured: its rows with 95 % intervals, its state and health
            (out, well or between), what fits and what does not.
        not_measured: what each of the other signals needs.
        subject: what a study of a remedy is made from, where that was wanted.
    """

    model: str
    task: str | None
    weak: str | None
    findings: tuple[Finding, ...]
    not_measured: Mapping[str, str]
    subject: Subject | None = None

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """What fits, by signal; empty where the intervals support nothing."""
        fits = [(f.signal, f.remedy) for f in self.findings if f.remedy is not None]
        return tuple(Remedy(signal, advice.what, advice.why) for signal, advice in fits)

    @property
    def conclusion(self) -> list[str]:
        """Sentences: what is missing, what fits and what does not, each with its reason."""
        return conclusion(self.findings)

    @property
    def states(self) -> list[str]:
        """A line for each signal, those that were not measured too."""
        lines = [f"{f.signal:<9}  {f.state}: {f.verdict}" for f in self.findings]
        return lines + [f"{k:<9}  not measured: {why}" for k, why in self.not_measured.items()]

    def __repr__(self) -> str:
        """The states and the conclusion, as `rekindle diagnose` prints them."""
        task = "" if self.task is None else f" on {self.task}"
        title = f"Diagnosis of {self.model}{task}"
        return "\n".join([title, "", *self.states, "", *self.conclusion])


_Lists = Callable[[Split], list[Problem]]  # the problems of a split, listed once


def measure(given: Inputs) -> Diagnosis:
    """Measure the signals that are wanted; None: every one for which there is what it needs.

    Raises:
        ConfigError: a signal is named that cannot be measured.
        DataError: the task has too few problems, or a row cannot be read.
    """
    options, wanted = given.options, given.options.signals
    names, levels = ORDER if wanted is None else wanted, given.settings.task.levels

    @cache
    def lists(split: Split) -> list[Problem]:
        return given.task.problems(split, count=options.problems, seed=0, levels=levels)

    missing = _missing(given, names, lists)
    answers = None
    probes = "verifier" in names and not given.settings.task.brittle
    probed = probe_task(given.task) if probes else None
    if any(name in names and name not in missing for name in _SAMPLED):
        answers = sample_answers(
            sampler_for(given.policy),
            given.grader(),
            lists("train"),
            samples=options.samples,
            config=sampling(given.settings.sample, given.task),
            check=given.check,
        )
        if "verifier" in names and answers.true is None and not _is_probed_alone(given, probed):
            missing["verifier"] = NEEDS["verifier"]
    if wanted is not None and missing:
        name, why = next(iter(missing.items()))
        got = f"--signals {','.join(wanted)}"
        raise refusal(ConfigError, "not-measurable", got, name=name, why=why)
    kept = [name for name in ORDER if name in names and name not in missing]
    mixing = _unmixed(given) if "sft" in kept else None
    findings = _findings(given, kept, lists, answers, mixed=mixing is None)
    findings = with_probe(findings, probed if "verifier" in kept else None)
    missing = {name: missing[name] for name in ORDER if name in missing}
    if mixing is not None:
        missing[MIX] = mixing
    return Diagnosis(options.model, given.task.name, options.weak, tuple(findings), missing)


def _is_probed_alone(given: Inputs, probed: Probed | None) -> bool:
    """Whether the probe is all that says what a verifier does: no check is stronger than a reward
    in Python."""
    return probed is not None and isinstance(given.task, Rewarded)


def _missing(given: Inputs, names: Sequence[str], lists: _Lists) -> dict[str, str]:
    lacking = {
        "reward": given.scorer is None,
        "pairs": not given.pairs and not given.baseline.rounds,
        "agreement": given.weak is None,
    }
    missing = {name: NEEDS[name] for name, lacks in lacking.items() if lacks and name in names}
    why = _unsolved(lists) if "sft" in names and given.baseline.sft is None else None
    return missing if why is None else {"sft": why, **missing}


def _unsolved(lists: _Lists) -> str | None:
    """Why SFT's signal cannot be measured; None: it can."""
    splits: tuple[Split, Split] = ("train", "dev")
    for split in splits:
        try:
            listed = lists(split)
        except DataError as error:
            if split == "train":
                raise
            return f"needs held-out samples: {error.what} (give dev.jsonl, or more rows)"
        if all(problem.solution is None for problem in listed):
            return f"needs a 'solution' in samples of train and dev; {split} has none"
    return None


def _unmixed(given: Inputs) -> str | None:
    """Why the weak model's logits cannot be mixed in; None: they can, or there is no weak one."""
    if given.weak is None:
        return None
    try:
        check_pair(given.policy, given.weak)
    except ModelError as error:
        return error.what
    return None


def _findings(
    given: Inputs,
    names: Sequence[str],
    lists: _Lists,
    answers: Answers | None,
    *,
    mixed: bool,
) -> list[Finding]:
    findings: dict[str, Finding] = {}
    solutions = None
    if "sft" in names or "groups" in names:  # what both say rests on the solutions
        solutions = grade_solutions(given.grader(), lists("train"), check=given.check)
    if "sft" in names:
        findings["sft"] = _sft(given, lists, mixed=mixed)
        if solutions is not None:
            findings["sft"] = with_solutions(findings["sft"], solutions)
    if answers is not None:
        sft = _trainable(given, lists, findings.get("sft"))
        findings |= _of_answers(given, names, answers, sft, solutions)
        if "agreement" in names and given.weak is not None:
            findings["agreement"] = measure_agreement(
                given.policy,
                given.weak,
                given.task,
                given.grader(),
                lists("train"),
                config=sampling(given.settings.sample, given.task),
                sampled_PK=answers.table(answers.accepted),
                sft=sft,
            )
    if "pairs" in names:
        findings["pairs"] = measure_pairs(given.policy, given.pairs, given.baseline.rounds)
    return [findings[name] for name in ORDER if name in findings]


def _sft(given: Inputs, lists: _Lists, *, mixed: bool) -> Finding:
    """On the model, and what the baseline run says; on the run alone where there is no solution."""
    curve = given.baseline.sft
    if curve is not None and _unsolved(lists) is not None:
        return curve
    weak = given.weak if mixed else None
    finding = saturation(given.policy, lists("train"), lists("dev"), weak=weak)
    if curve is None:
        return finding
    verdict = f"{finding.verdict} {curve.verdict}"
    return finding._replace(rows=[*finding.rows, *curve.rows], verdict=verdict)


def _trainable(given: Inputs, lists: _Lists, sft: Finding | None) -> str | None:
    """SFT's state in words, where a study of it would find a solution in each training row, and
    signal."""
    if sft is None or not has_signal(sft):
        return None
    if isinstance(given.task, Listed):
        levels = given.settings.task.levels
        rows = [
            problem
            for problem in given.task.splits.get("train", ())
            if levels is None or problem.level in levels
        ]
    else:
        rows = lists("train")
    if not all(problem.solution is not None for problem in rows):
        return None
    return "how much is not settled" if sft.state == "unsettled" else sft.state


def _of_answers(
    given: Inputs,
    names: Sequence[str],
    answers: Answers,
    sft: str | None,
    solutions: Solutions | None,
) -> dict[str, Finding]:
    """Reward model first, for the verifier's remedy rests on it, and the groups' on both.

    The verifier is judged wherever there is a stronger check, named among the signals or not.
    """
    findings: dict[str, Finding] = {}
    source = given.settings.reward.source
    control = source if source in CONTROLS else None
    if "reward" in names and given.scorer is not None:
        findings["reward"] = measure_reward(given.scorer, answers, control=control)
    verifier = None
    if answers.true is not None:
        verifier = verifier_finding(
            answers.accepted,
            answers.true,
            answers.ids(),
            reward=findings.get("reward"),
            control=control,
        )
        if "verifier" in names:
            findings["verifier"] = verifier
    if "groups" in names:
        more = [*given.baseline.groups]
        more += [
            point(f"missing: {reason}", count, len(answers.pairs), "answers without a score")
            for reason, count in answers.missing.most_common(3)
        ]
        if isinstance(given.task, Gym) and given.task.floor:
            meaning = "score of a text that is no answer; it is not subtracted"
            entries = min(trust.entries for trust in given.task.trust)
            more.append(point("scorer/floor", given.task.floor, entries, meaning))
        truncated = cluster(answers.table(answers.cut).mean(axis=1))
        more.append(Measurement("truncated", *truncated, "answers that the limit cut off, share"))
        findings["groups"] = group_finding(
            answers.table(answers.accepted),
            size=given.group(),
            levels=answers.levels(),
            true_PK=None if answers.true is None else answers.table(answers.true),
            sft=sft,
            verifier=None if verifier is None else verifier.state,
            solutions=solutions,
            more=more,
            cut=share_row(
                "truncated/wrong",
                answers.cut,
                [1 - value for value in answers.accepted],
                answers.ids(),
                "wrong answers that the limit cut off, share",
            ),
        )
    return findings
