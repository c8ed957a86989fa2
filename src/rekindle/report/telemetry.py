"""The signal that each paper says it revives, for every arm of a study side by side.

Which quantities those are is written here once; the runs log them under these names. An arm that
does not log one is named, so that a missing line is not read as a zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from rekindle.methods.catalog import METHODS, MethodKind, SignalName
from rekindle.report.charts import metric_curve
from rekindle.report.figures import QUANTITIES, ROUND_QUANTITIES, styles_of
from rekindle.report.load import RunData
from rekindle.report.samples import number
from rekindle.report.spec import Figure, Style
from rekindle.report.stacks import GROUP_CLASSES
from rekindle.report.tables import Table
from rekindle.report.words import count, listed, percent, plural


@dataclass(frozen=True)
class Signal:
    """What one paper revives.

    Attributes:
        title: the paper's short name and what is revived.
        says: the claim in a sentence, and how the figures would show it.
        revives: shown for arms whose methods revive this one,
        kinds: and for those of these kinds.
        keys: of metrics rows, or of rounds, in the order in which they are read.
        over: what a row of the curves is.
        else_: key -> key to show for arms that do not log the first; the same by its formula.
    """

    title: str
    says: str
    keys: tuple[str, ...]
    revives: SignalName | None = None
    kinds: tuple[MethodKind, ...] = ()
    over: Literal["step", "round"] = "step"
    else_: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Telemetry:
    """A signal as it is shown: figures, and which arms have no line in some of them."""

    title: str
    says: str
    figures: Sequence[Figure]
    notes: Sequence[str]
    tables: Sequence[Table] = ()


SIGNALS = (
    Signal(
        "LENS (2510.08696): all-wrong groups give a signal",
        "With group-relative credit a group whose answers are all wrong has advantage 0. LENS "
        "penalises confident wrong answers more, so that a share of the advantages lies in "
        "all-wrong groups; entropy should hold and all-wrong groups should become fewer.",
        ("advantage/share_all_wrong", "groups/all_wrong", "groups/mixed", "entropy",
         "advantage/abs", "penalty/median"),
        revives="groups",
    ),
    Signal(
        "HERO (2510.07242): a dense reward inside the verifier's strata",
        "A 0/1 verifier says nothing within a group whose verdicts agree. HERO ranks answers there "
        "by a reward model, which helps as far as that tells right from wrong (AUC above 0.5), and "
        "gives weight to problems whose scores spread.",
        ("reward/std", "rm/auc", "rm/auc_in_group", "advantage/share_all_wrong", "weight/mean",
         "sigma/used", "advantage/against_verdict", "groups/mixed"),
        revives="verifier",
    ),
    Signal(
        "WMSS (2602.08222): gradient where SFT is saturated",
        "SFT's gradient on a token is the probability off its target, which goes to 0. Mixing in a "
        "weaker model's logits keeps it up; without mixing it is 1 − p, the first curve.",
        ("mix/gradient", "mass/non_target", "tokens/above_099", "mix/reactivated", "mix/amplified",
         "margin/strong", "margin/weak", "grad_norm"),
        revives="sft",
        else_={"mix/gradient": "mass/non_target"},
    ),
    Signal(
        "Temporal self-rewarding (2508.06026): chosen and rejected stay apart",
        "In self-rewarding, chosen and rejected become alike from round to round and the gradient "
        "of DPO shrinks. Rejecting from the past and choosing from the future should keep gap and "
        "gradient up and likeness down, with a judge that stays able.",
        ("pairs/gap", "pairs/gap_all", "pairs/similarity", "pairs/cosine", "grad_norm",
         "pairs/kept", "judge/auc_in_prompt", "judge/tie_rate"),
        revives="pairs",
        over="round",
    ),
    Signal(
        "Preference pairs: how hard DPO and ORPO push",
        "The margin of chosen over rejected grows; when the chosen answers become less likely than "
        "under the reference, likelihood is displaced.",
        ("pairs/margin", "pairs/accuracy", "pairs/chosen_change", "pairs/rejected_change",
         "pairs/gradient_rejected"),
        kinds=("pairs", "stages"),
    ),
)  # fmt: skip
LABELS = Signal(
    "Weak-to-strong (2407.13647): labels that are better than the weak model's",
    "A filter keeps the weak answers that the strong model agrees with. It helps as far as more of "
    "those it keeps are right than of those it was given; gold is used for this table alone.",
    ("right_before", "right_kept", "kept_share", "weak_chosen", "weak_rejected"),
)
_FACTS = {
    "right_before": "weak labels right",
    "right_kept": "of those kept",
    "kept_share": "share kept",
    "weak_chosen": "pairs, weak chosen",
    "weak_rejected": "pairs, weak rejected",
}
_GROUPS = {f"groups/{key}": f"share of groups {name}" for key, name in GROUP_CLASSES.items()}
_SHARES = ("right_before", "right_kept", "kept_share")


def telemetry(arms: Sequence[RunData], styles: Sequence[Style]) -> list[Telemetry]:
    """The signals of the papers that are among the arms, in the order of `SIGNALS`."""
    found = []
    for i, signal in enumerate(SIGNALS):
        if not _concerns(signal, arms):
            continue
        shown = _telemetry(f"signal-{i}", signal, arms, styles)
        if shown.figures:
            found.append(shown)
    labels = label_table(arms)
    if labels is not None:
        notes = [f"No filter, and so no such numbers: {listed(_without(arms))}."]
        shown_notes = notes if _without(arms) else []
        found.append(Telemetry(LABELS.title, LABELS.says, (), shown_notes, [labels]))
    return found


def label_table(arms: Sequence[RunData]) -> Table | None:
    """Weak-to-strong's stages that kept some rows and dropped others, with how many were right."""
    rows, facts = [], dict.fromkeys(LABELS.keys)
    present = [key for key in facts if any(key in s.facts for arm in arms for s in arm.stages)]
    if not present:
        return None
    for arm in arms:
        for stage in arm.stages:
            if not any(key in stage.facts for key in present):
                continue
            cells = [_fact(key, stage.facts.get(key)) for key in present]
            dropped = "; ".join(f"{reason} {count(n)}" for reason, n in stage.dropped.items() if n)
            rows.append((arm.name, stage.name, *cells, count(stage.kept), dropped))
    runs = max((len(arm.members) for arm in arms), default=1)
    mean = f", means over up to {plural(runs, 'run')}" if runs > 1 else ""
    head = ("arm", "stage", *(_FACTS[key] for key in present), "rows kept", "questions dropped")
    numeric = tuple(range(2, 3 + len(present)))
    return Table(f"Labels and pairs of each arm{mean}", head, rows, numeric)


def drawn_keys(arms: Sequence[RunData], over: Literal["step", "round"]) -> set[str]:
    """Keys of metrics rows, or of rounds, that `telemetry` draws for these arms."""
    return {
        key
        for signal in SIGNALS
        if signal.over == over and _concerns(signal, arms)
        for key in signal.keys
    }


def _telemetry(
    figure_id: str, signal: Signal, arms: Sequence[RunData], styles: Sequence[Style]
) -> Telemetry:
    titles = QUANTITIES | _GROUPS if signal.over == "step" else ROUND_QUANTITIES
    figures, lacking = [], dict[tuple[str, ...], list[str]]()
    for i, key in enumerate(signal.keys):
        keys = {arm.name: _logged(arm, key, signal) for arm in arms}
        having = [arm for arm in arms if keys[arm.name]]
        if not having:
            continue
        names = [arm.name for arm in having]
        figures.append(
            metric_curve(
                f"{figure_id}-{i}",
                titles.get(key, key),
                key,
                having,
                styles_of(styles, names),
                over=signal.over,
                keys={name: found for name, found in keys.items() if found},
            )
        )
        without = tuple(arm.name for arm in arms if not keys[arm.name])
        if without:
            lacking.setdefault(without, []).append(titles.get(key, key))
    notes = [
        f"Not logged by {listed(list(names))}: {'; '.join(titles_)}."
        for names, titles_ in lacking.items()
    ]
    return Telemetry(signal.title, signal.says, figures, notes)


def _logged(arm: RunData, key: str, signal: Signal) -> str | None:
    """The key under which an arm logs a quantity; None where it does not."""
    rows = arm.rows if signal.over == "step" else arm.rounds
    for name in (key, signal.else_.get(key)):
        if name is not None and any(number(row.get(name)) is not None for row in rows):
            return name
    return None


def _concerns(signal: Signal, arms: Sequence[RunData]) -> bool:
    methods = [METHODS[arm.method] for arm in arms if arm.method in METHODS]
    return any(m.kind in signal.kinds or signal.revives in m.revives for m in methods)


def _without(arms: Sequence[RunData]) -> list[str]:
    return [
        arm.name
        for arm in arms
        if not any(key in stage.facts for stage in arm.stages for key in LABELS.keys)
    ]


def _fact(key: str, value: float | None) -> str:
    if value is None:
        return "–"
    return percent(value) if key in _SHARES else count(value)
