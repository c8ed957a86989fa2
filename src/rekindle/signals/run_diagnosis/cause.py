"""The one cause that a log bears out, or none.

First whether the reward says what it should, our own verifier's word before all, then whether
groups have anything to compare, then whether the log can be believed. Each rule has a null, the
state of a run that is well, and the bound that refutes it; intervals are 95 %, so that at the edge
of its null it errs one time in 40, one in 20 where it looks at the last third of the steps too.
`results/false_alarms.json` has how often each is named in simulated logs, sick and healthy.

    false_accepts       our verifier refuses more than 5 % of what the run's accepted
    false_rejects       the run's refused more than 5 % of what ours accepts
    format_spread       most groups with different totals have equal verdicts, and no reward model
                        that knows right from wrong within groups carries most of that spread
    blind_reward        a reward model knows next to nothing within groups: AUC below 0.6
    truncation          most wrong answers were cut, and a fifth of all
    too_hard, too_easy, tied    most groups are all wrong, all right, of one partial score; or fewer
                        than 0.3 are mixed, and that class is the largest
    filtered            groups without signal were removed before the log was written
    advantage_mismatch  the logged advantages are not those of the stated estimator
    evaluation_rows, repeated_rows    more than 5 % of the rows, and the log does not say so
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

from rekindle.signals.findings import MIXED, MOST
from rekindle.signals.run_diagnosis.coverage import ALARM
from rekindle.signals.run_diagnosis.estimators import mismatch
from rekindle.signals.run_diagnosis.log_finding import Estimate, LogFinding, percent
from rekindle.signals.run_diagnosis.rewards import CHANCE, IN_GROUPS, TOTAL, blind_models

CauseName = Literal[
    "too_hard", "too_easy", "tied", "truncation", "format_spread", "blind_reward", "false_accepts",
    "false_rejects", "advantage_mismatch", "filtered", "repeated_rows", "evaluation_rows",
]  # fmt: skip
ERRORS = 0.05  # of a verifier; below, ours may be the one that errs
CUT = 0.2  # of all answers
NO_DATA = 0.05  # of the rows


class Cause(NamedTuple):
    """What is wrong, why that is said, and the findings that it rests on."""

    name: CauseName
    says: str
    rests_on: tuple[str, ...]


def find_cause(
    findings: Sequence[LogFinding], share: Mapping[str, Estimate], late: Mapping[str, Estimate]
) -> Cause | None:
    """The first rule whose null is refuted; None: none is.

    Args:
        findings: of all subjects.
        share: of each class of groups, over the whole log.
        late: the same over its last third of steps.
    """
    by_name = {finding.name: finding for finding in findings}
    return (
        _check_cause(by_name)
        or _spread_cause(by_name)
        or _blind_cause(by_name)
        or _group_cause(by_name, share, late)
        or _log_cause(by_name)
    )


def _check_cause(by_name: Mapping[str, LogFinding]) -> Cause | None:
    """What our verifier says of the run's; of accepts and rejects the one that errs more."""
    accepted, recall = by_name.get("check/false_accepts"), by_name.get("check/recall")
    found = list[tuple[float, Cause]]()
    if accepted is not None and accepted.ci_low > ERRORS:
        cause = Cause("false_accepts", _shown(accepted), (accepted.name,))
        found.append((accepted.value, cause))
    if recall is not None and recall.ci_high < 1 - ERRORS:
        cause = Cause("false_rejects", _shown(recall), (recall.name,))
        found.append((1 - recall.value, cause))
    return max(found, key=lambda pair: pair[0])[1] if found else None


def _spread_cause(by_name: Mapping[str, LogFinding]) -> Cause | None:
    """Spread that is not of the verdict, unless a reward model carries most of it that knows right
    from wrong; one that does not is the cause itself."""
    found, form = by_name.get("spread/not_of_verdict"), by_name.get("spread/of_form")
    if found is None or not found.ci_low > MOST:
        return None
    if form is None or not form.ci_low > MOST:
        blind = {model.name for model in blind_models(list(by_name.values()))}
        models = [one for name, one in by_name.items() if name.startswith(IN_GROUPS)]
        if sum(_carries(by_name, one) for one in models if one.name in blind) > MOST:
            return None
        if sum(_carries(by_name, one) for one in models if one.ci_low > CHANCE) > MOST:
            return None
    return Cause("format_spread", _shown(found), (found.name,))


def _carries(by_name: Mapping[str, LogFinding], model: LogFinding) -> float:
    """The share of the spread without verdicts that a model carries; of the total, what no part
    does."""
    name = model.name.removeprefix(IN_GROUPS)
    part = by_name.get(f"spread/part/{'rest' if name == TOTAL else name}")
    if part is None:
        return 1.0 if name == TOTAL else 0.0
    return part.value


def _blind_cause(by_name: Mapping[str, LogFinding]) -> Cause | None:
    for found in blind_models(list(by_name.values())):
        return Cause("blind_reward", _auc(found), (found.name,))
    return None


def _group_cause(
    by_name: Mapping[str, LogFinding], share: Mapping[str, Estimate], late: Mapping[str, Estimate]
) -> Cause | None:
    cut, wrong = by_name.get("texts/cut"), by_name.get("texts/cut_of_wrong")
    if cut is not None and wrong is not None and cut.ci_low > CUT and wrong.ci_low > MOST:
        return Cause("truncation", _shown(wrong), ("texts/cut_of_wrong", "texts/cut"))
    names: tuple[tuple[CauseName, str], ...] = (
        ("too_hard", "all_wrong"),
        ("too_easy", "all_right"),
        ("tied", "tied"),
    )
    for where, part in (("", share), (" in the last third of the steps", late)):
        for name, kind in names:
            if part[kind].ci_low > MOST:
                says = f"{kind.replace('_', ' ')} groups are {part[kind]} of all{where}"
                return Cause(name, says, (f"share/{kind}",))
        if part["mixed"].ci_high < MIXED:
            name, kind = max(names, key=lambda pair: part[pair[1]].value)
            says = (
                f"only {part['mixed']} of the groups{where} have anything to compare, and "
                f"{kind.replace('_', ' ')} ones, {part[kind]}, are most of the rest"
            )
            return Cause(name, says, ("share/mixed", f"share/{kind}"))
    return None


def _log_cause(by_name: Mapping[str, LogFinding]) -> Cause | None:
    removed = by_name.get("coverage/removed")
    if removed is not None and removed.p is not None and removed.p < ALARM:
        return Cause("filtered", removed.says, ("coverage/removed",))
    advantage = mismatch(list(by_name.values()))
    if advantage is not None:
        return Cause("advantage_mismatch", advantage.says, (advantage.name,))
    others = [
        (by_name[f"coverage/{kind}"], cause)
        for kind, cause in (("repeated", "repeated_rows"), ("unsaid", "evaluation_rows"))
        if f"coverage/{kind}" in by_name
    ]
    found, name = max(others, key=lambda pair: pair[0].value, default=(None, None))
    if found is not None and found.value > NO_DATA:
        return Cause(name, _shown(found), (found.name,))  # type: ignore[arg-type]
    return None


def _shown(found: LogFinding) -> str:
    interval = (
        "" if math.isnan(found.ci_low) else f" [{percent(found.ci_low)}, {percent(found.ci_high)}]"
    )
    return f"{percent(found.value)}{interval}: {found.says}"


def _auc(found: LogFinding) -> str:
    return f"AUC {found.value:.2f} [{found.ci_low:.2f}, {found.ci_high:.2f}]: {found.says}"
