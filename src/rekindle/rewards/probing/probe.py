"""What a reward accepts and loses, on answers whose worth is known.

    plain       answers that are plainly right and plainly wrong say which score means "accepted":
                above the middle of the two means; a reward that gives both the same is blind
    battery     `rewards.probing.battery`: answers as models write them
    degenerate  `rewards.probing.degenerate`: what a policy finds when a reward pays for it

A false accept is a wrong answer with a score above the middle. A right one that is not above it is
lost, also where the reward raised, took too long or gave no score. Texts that equal the gold only
once they are worked out are counted apart. Golds are numbers, formulas or texts: a reward is asked
about those on which it tells plain answers apart, unless the caller names them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import median
from typing import NamedTuple

from rekindle.errors import ConfigError
from rekindle.rewards.probing.battery import BATTERIES, BatteryRow, read_battery, spread
from rekindle.rewards.probing.degenerate import (
    ANSWERS,
    FORMS,
    degenerate_rows,
    in_opened_thought,
    pairs,
)
from rekindle.rewards.probing.probe_report import Plain, ProbeReport, report
from rekindle.rewards.probing.reward_process import ENDED, TIMEOUT, Outcome, RewardProcess
from rekindle.rewards.probing.signatures import NOT_NAMED, Asked, Names
from rekindle.rewards.verifiers.verify import AS_READ, CHECKS, VERSION
from rekindle.rewards.workers import VerifierPool, check_pooled

GIVE_UP = 10  # rows that took too long, after which no more are asked
_FATAL = {  # on a plain answer
    Outcome(None, TIMEOUT): "a plain answer took more than {:g} s",
    Outcome(None, ENDED): "its process ended on a plain answer",
}

Ask = Callable[[Sequence[BatteryRow]], list[Outcome | None]]  # None: not asked


class _Options(NamedTuple):
    answers: tuple[str, ...] | None
    thought_open: bool
    timeout: float
    limit: int | None


def probe(
    target: str,
    *,
    answers: Sequence[str] | None = None,
    names: Names = NOT_NAMED,
    thought_open: bool = False,
    timeout: float = 5.0,
    limit: int | None = None,
) -> ProbeReport:
    """Probe a verifier of ours by its name, or a reward by its place.

    Args:
        target: exact, numeric, math, `package.module:function` or `path/to/file.py:function`.
        answers: kinds of golds: numeric, math, exact; None: the verifier's own, or all on which
            the reward tells plain answers apart.
        names: parameters of the reward whose names do not say what they are.
        thought_open: texts begin inside a thought, as where a prompt's template opens one.
        timeout: seconds for a text.
        limit: rows at most; None: all.

    Raises:
        ConfigError: the reward cannot be loaded or called, or fails on plain answers.
        MissingExtraError: `math` without math-verify.
    """
    options = _Options(None if answers is None else tuple(answers), thought_open, timeout, limit)
    if target in CHECKS:
        return _probe_verifier(target, options)
    process = RewardProcess(target, names, timeout=timeout)
    try:
        return _probe_process(target, process, options)
    finally:
        process.close()


def probe_rows(
    answers: Iterable[str], form: str, *, thought_open: bool = False, ours: bool = False
) -> list[BatteryRow]:
    """All rows for golds of some kinds.

    Rows that are cut, or begin inside a thought, are for who is told so: verifiers of ours. With
    `thought_open` all rows begin inside one.
    """
    rows = list[BatteryRow]()
    for name in answers:
        rows += [row for part in BATTERIES for row in read_battery(part) if row.answers == name]
        rows += degenerate_rows(name, form)
    rows = [row for row in rows if ours or not row.cut or row.kind == "cut off"]
    if thought_open:
        return [in_opened_thought(row) for row in rows]
    return [row for row in rows if ours or not row.thought_open]


def tell_apart(ask: Ask, answers: Sequence[str], forms: Iterable[str] = FORMS) -> Plain:
    """The first form of plain answers in which right ones score above wrong ones, and on which
    golds; the most pairs of a kind decide."""
    for form in forms:
        told = list[str]()
        scores = list[tuple[float, float]]()
        for name in answers:
            both = pairs(name, form)
            outcomes = ask([row for pair in both for row in pair])
            apart = _apart(outcomes)
            if len(apart) > len(both) / 2:
                told.append(name)
                scores += apart
        if told:
            middle = (median(r for r, _ in scores) + median(w for _, w in scores)) / 2
            return Plain(form, tuple(told), middle)
    return Plain("box", (), math.nan)


def _apart(outcomes: Sequence[Outcome | None]) -> list[tuple[float, float]]:
    """Scores of the pairs (right, wrong) of which the right one has more."""
    values = [None if out is None else out.value for out in outcomes]
    both = zip(values[::2], values[1::2], strict=True)
    return [(r, w) for r, w in both if r is not None and w is not None and r > w]


def _probe_verifier(name: str, options: _Options) -> ProbeReport:
    check_pooled(name)
    pool = VerifierPool(name, timeout=options.timeout)

    def ask(rows: Sequence[BatteryRow]) -> list[Outcome | None]:
        given = [in_opened_thought(row) for row in rows] if options.thought_open else rows
        read = [AS_READ._replace(cut=r.cut, thought_open=r.thought_open) for r in given]
        scores = pool.grade([(row.gold, row.text) for row in given], read)
        return [Outcome(score.value, score.reason) for score in scores]

    shown = f"rekindle: verifier {name}, version {VERSION}"
    try:
        plain = _kept(tell_apart(ask, options.answers or (name,)), options)
        return _run(name, shown, ask, plain, options, ours=True)
    finally:
        pool.close()


def _probe_process(target: str, process: RewardProcess, options: _Options) -> ProbeReport:
    answers = options.answers or ANSWERS
    way, form = _settle(target, process, answers, options)
    forms = list(FORMS)
    later = forms[forms.index(form) :]
    ask = _asker(process, way, options)
    plain = _kept(tell_apart(ask, answers, later), options)
    return _run(target, process.ways[way].shown, ask, plain, options, ours=False)


def _kept(plain: Plain, options: _Options) -> Plain:
    """All kinds of golds that the user names, if it tells any apart."""
    return plain._replace(answers=options.answers) if plain.answers and options.answers else plain


def _run(
    reward: str, signature: str, ask: Ask, plain: Plain, options: _Options, *, ours: bool
) -> ProbeReport:
    every = probe_rows(plain.answers, plain.form, thought_open=options.thought_open, ours=ours)
    rows = spread(every, options.limit)
    return report(reward, signature, plain, rows, ask(rows))


def _asker(process: RewardProcess, way: int, options: _Options) -> Ask:
    def ask(rows: Sequence[BatteryRow]) -> list[Outcome | None]:
        outcomes = list[Outcome | None]()
        slow = 0
        for row in rows:
            if slow >= GIVE_UP:
                outcomes.append(None)
                continue
            text = in_opened_thought(row).text if options.thought_open else row.text
            outcome = process.ask(way, Asked(row.prompt, row.gold, text))
            slow += outcome.raised == TIMEOUT
            outcomes.append(outcome)
        return outcomes

    return ask


def _settle(
    target: str, process: RewardProcess, answers: Sequence[str], options: _Options
) -> tuple[int, str]:
    """The way of calling, and the form of plain answers, that tells most kinds of golds apart.

    Raises:
        ConfigError: every call raises or takes too long, or the parameters' names do not say their
            roles and no way tells anything apart.
    """
    alive, raised = set[int](), ""
    for form in FORMS:
        first = [row for name in answers for row in pairs(name, form)[0]]
        told = list[tuple[int, int]]()
        for way in range(len(process.ways)):
            outcomes = list[Outcome | None]()
            for row in first:
                outcomes += _asker(process, way, options)([row])
                if outcomes[-1] in _FATAL:
                    raise _fails(target, _FATAL[outcomes[-1]].format(options.timeout))
            reasons = [out.raised for out in outcomes if out is not None and out.raised]
            raised = raised or next(iter(reasons), "")
            if len(reasons) < len(first):
                alive.add(way)
            told.append((-len(_apart(outcomes)), way))
            if len(_apart(outcomes)) == len(answers):
                break
        most, way = min(told)
        if most < 0:
            return way, form
    if not alive:
        raise _fails(target, raised)
    way = min(alive)
    if process.ways[way].assumed:
        raise _untold(target, process.ways[way].shown)
    return way, "box"


def _fails(target: str, got: str) -> ConfigError:
    return ConfigError(
        f"reward '{target}' fails on plain answers",
        got=got,
        wanted="one number for a text, or one for each text of a list",
        why="what raises on the plainest answer was called in the wrong way, or does not work",
        fix="call it once yourself; if it works, wrap it: def reward(completion, reference): ...",
    )


def _untold(target: str, shown: str) -> ConfigError:
    return ConfigError(
        f"how to call '{target}' cannot be told",
        got=f"tried among others {shown}: right and wrong answers have equal scores",
        wanted="parameters under their usual names",
        fix="name them: --text-column, --gold-column, --question-column, or wrap it: def "
        "reward(completion, reference): ...",
    )
