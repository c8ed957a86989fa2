"""What would bring the signal back, by the log's own numbers: plain remedies before papers.

The first that fits is the next step. A remedy that does not fit says why, by the limits that
`rekindle diagnose` has for models.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

from rekindle.signals.findings import ENOUGH_MIXED, ENOUGH_RIGHT, MOST, RARE
from rekindle.signals.run_diagnosis.cause import Cause
from rekindle.signals.run_diagnosis.groups import MISSING, GroupTable
from rekindle.signals.run_diagnosis.log_finding import Estimate, LogFinding, percent
from rekindle.signals.run_diagnosis.rewards import IN_GROUPS, USEFUL

RANKS = 0.7  # AUC within groups, as `reward_signal.USEFUL`
WHERE_RIGHT = "the verifier's reward alone, or the other parts only where it is right"


class Remedy(NamedTuple):
    """A change, whether the log's numbers speak for it, and which."""

    method: str
    fits: bool
    why: str


class _Facts(NamedTuple):
    by_name: Mapping[str, LogFinding]
    share: Mapping[str, Estimate]
    table: GroupTable
    cause: Cause | None
    rm: str | None
    has_logprobs: bool

    def value(self, name: str) -> float:
        """A finding's number, nan where it was not measured."""
        found = self.by_name.get(name)
        return math.nan if found is None else found.value


def find_remedies(
    findings: Sequence[LogFinding],
    share: Mapping[str, Estimate],
    table: GroupTable,
    cause: Cause | None,
    *,
    rm: str | None,
    has_logprobs: bool,
) -> list[Remedy]:
    """Every remedy, those that fit first, plain ones before papers."""
    facts = _Facts({one.name: one for one in findings}, share, table, cause, rm, has_logprobs)
    plain = [
        _mend_reward(facts),
        _mend_log(facts),
        _token_limit(facts),
        _easier(facts),
        _harder(facts),
        _group_size(facts),
        _dynamic(facts),
    ]
    papers = [_lens(facts), _hero(facts)]
    listed = [remedy for remedy in plain if remedy is not None] + papers
    return [r for r in listed if r.fits] + [r for r in listed if not r.fits]


def _name(facts: _Facts) -> str | None:
    return None if facts.cause is None else facts.cause.name


_OF_REWARD = {
    "false_accepts": ("a stricter verifier", "look at the rows that are named, then mend it"),
    "false_rejects": (
        "a mended verifier",
        "look at the rows that are named: right answers are lost",
    ),
    "blind_reward": (
        "another reward model, or the verifier alone",
        "within a group its scores are noise that the update follows",
    ),
    "format_spread": (
        "the verifier's reward alone, or the other parts only where it is right",
        "groups without a right answer learn their form, and nothing of the problem",
    ),
    "tied": ("a verifier that tells answers apart", "equal scores give no advantage"),
}
_OF_LOG = {
    "filtered": (
        "a log of all groups, before they are filtered",
        "the shares here are of what was kept; count what was generated for it",
    ),
    "advantage_mismatch": (
        "the estimator that was meant",
        "check it in the trainer's settings, or state it: --estimator NAME",
    ),
    "repeated_rows": (
        "one log of each batch",
        "the repeats are left out here; elsewhere they count twice",
    ),
    "evaluation_rows": (
        "evaluations in a log of their own",
        "they are left out here; elsewhere they pass for training",
    ),
}


def _mend_reward(facts: _Facts) -> Remedy | None:
    return _mend(_OF_REWARD, facts)


def _mend_log(facts: _Facts) -> Remedy | None:
    return _mend(_OF_LOG, facts)


def _mend(table: Mapping[str, tuple[str, str]], facts: _Facts) -> Remedy | None:
    found = table.get(_name(facts) or "")
    return None if found is None else Remedy(found[0], True, found[1])


def _token_limit(facts: _Facts) -> Remedy:
    cut = facts.by_name.get("texts/cut_of_wrong")
    if cut is None:
        return Remedy("a longer token limit", False, "the log does not say which answers were cut")
    share = Estimate(cut.value, cut.ci_low, cut.ci_high, cut.n)
    fits = _name(facts) == "truncation"
    return Remedy("a longer token limit", fits, f"{share} of the wrong answers were cut")


def _easier(facts: _Facts) -> Remedy:
    never = facts.by_name.get("prompts/never")
    wrong = facts.share["all_wrong"]
    if never is None:
        return Remedy("easier prompts", False, "no prompt has a verdict")
    spent = _spent_on(facts, "never")
    why = (
        f"{Estimate(*never[1:5])} of the prompts were never solved; without them {spent} of what "
        f"was generated is saved. All-wrong groups are {wrong}"
    )
    return Remedy("easier prompts", _name(facts) == "too_hard", why)


def _harder(facts: _Facts) -> Remedy:
    always = facts.by_name.get("prompts/always")
    if always is None:
        return Remedy("harder prompts", False, "no prompt has a verdict")
    why = (
        f"{Estimate(*always[1:5])} of the prompts were always solved; without them "
        f"{_spent_on(facts, 'always')} of what was generated is saved"
    )
    return Remedy("harder prompts", _name(facts) == "too_easy", why)


def _spent_on(facts: _Facts, kind: str) -> str:
    """The share of what was generated that went into prompts of a kind."""
    table = facts.table
    right = np.bincount(table.prompt_P, weights=table.right_P)
    known = np.bincount(table.prompt_P, weights=table.known_P)
    member = (right == 0) if kind == "never" else (right == known)
    spent = np.where(np.isnan(table.tokens_P), table.chars_P, table.tokens_P)
    total = spent.sum()
    mine = spent[member[table.prompt_P] & (table.class_P != MISSING)].sum()
    return percent(float(mine / total)) if total else "nothing"


def _group_size(facts: _Facts) -> Remedy:
    now, size = facts.share["mixed"].value, facts.table.usual_size
    twice = mixed_at(facts.table, 2 * size)
    if math.isnan(twice):
        return Remedy("larger groups", False, "too few groups to say what a larger one would do")
    fits = _name(facts) == "too_hard" and twice > 1.25 * now and twice - now > 0.05
    why = (
        f"of groups of {size} {percent(now)} are mixed; of groups of {2 * size} it would be about "
        f"{percent(twice)} (a beta-binomial fit), at twice the answers a prompt"
    )
    return Remedy(f"groups of {2 * size}", fits, why)


def mixed_at(table: GroupTable, size: int) -> float:
    """The share of groups of `size` with right and wrong answers, by a beta-binomial fit.

    The fit is by moments of the right answers in groups of the usual size; nan for fewer than ten.
    """
    G = table.usual_size
    whole = (table.size_P == G) & (table.known_P == G)
    if G < 2 or whole.sum() < 10:
        return math.nan
    k = table.right_P[whole]
    p = float(k.mean() / G)
    if p in (0.0, 1.0):
        return 0.0
    # E[k (k - 1)] / (G (G - 1)) is E[q^2]
    second = float((k * (k - 1)).mean() / (G * (G - 1)))
    variance = max(second - p * p, 1e-9)
    total = max(p * (1 - p) / variance - 1, 1e-3)
    a, b = p * total, (1 - p) * total
    none = math.exp(special.betaln(a, b + size) - special.betaln(a, b))
    every = math.exp(special.betaln(a + size, b) - special.betaln(a, b))
    return 1 - none - every


def _dynamic(facts: _Facts) -> Remedy:
    mixed, dead = facts.share["mixed"], facts.value("compute/dead")
    if math.isnan(mixed.value):
        return Remedy("dapo", False, "no group has a verdict")
    lost = _name(facts) in ("too_hard", "too_easy", "tied")
    cost = f"{1 / mixed.value:.1f} times the answers" if mixed.value else "without end"
    why = (
        f"{mixed} of the groups are mixed: a full batch of them takes {cost}, and "
        f"{percent(dead)} of what is generated now is dead"
    )
    if mixed.ci_high < RARE:
        why += "; with so few, sampling until a batch is full mostly samples in vain"
    return Remedy("dapo", lost and mixed.ci_low > RARE, f"dynamic sampling: {why}")


def _lens(facts: _Facts) -> Remedy:
    wrong, mixed = facts.share["all_wrong"], facts.share["mixed"]
    right = facts.by_name["accuracy"]
    if _name(facts) in ("truncation", "false_rejects", "false_accepts"):
        return Remedy("lens", False, "a penalty would fall on answers that may be right")
    if wrong.ci_low <= MOST and _name(facts) != "too_hard":
        return Remedy("lens", False, f"all-wrong groups are {wrong}, not most")
    if right.ci_low <= ENOUGH_RIGHT or mixed.ci_low <= ENOUGH_MIXED:
        why = (
            f"right are {percent(right.value)} of the answers, mixed {mixed} of the groups, and it "
            f"needs lower bounds above {percent(ENOUGH_RIGHT)} and {percent(ENOUGH_MIXED)}: it "
            "would rank wrong answers alone"
        )
        return Remedy("lens", False, why)
    rest = "" if facts.has_logprobs else "; the log has no log-probs to show its penalties with"
    return Remedy("lens", True, f"all-wrong groups are {wrong}, and right answers exist{rest}")


def _hero(facts: _Facts) -> Remedy:
    if facts.rm is None:
        return Remedy("hero", False, "the log has no reward model's scores")
    auc = facts.by_name.get(f"{IN_GROUPS}{facts.rm}")
    if auc is None or math.isnan(auc.ci_low):
        return Remedy("hero", False, f"whether '{facts.rm}' ranks answers in a group is not known")
    shown = f"'{facts.rm}' has an AUC of {auc.value:.2f} [{auc.ci_low:.2f}, {auc.ci_high:.2f}]"
    if auc.ci_high < USEFUL:
        return Remedy("hero", False, f"{shown} within groups, which is chance")
    dead = facts.share["all_wrong"].value + facts.share["all_right"].value
    fits = auc.ci_low > 0.5 and auc.value > RANKS and dead > 1 - MOST
    return Remedy("hero", fits, f"{shown} within groups, and {percent(dead)} of them are dead")
