"""The signal that each paper says it revives, for every arm of a study side by side.

Which quantities those are is written here once; the runs log them under these names. An arm that
does not log one is named, so that a missing line is not read as a zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from rekindle.methods.catalog import METHODS, MethodKind, SignalName
from rekindle.report.charts import Over, metric_curve
from rekindle.report.figures import QUANTITIES, ROUND_QUANTITIES, styles_of
from rekindle.report.formatting import count, listed, percent, plural
from rekindle.report.load import RunData
from rekindle.report.spec import Figure, Style
from rekindle.report.stacks import GROUP_CLASSES
from rekindle.report.tables import Table


@dataclass(frozen=True)
class RevivedSignal:
    """What one paper revives.

    Attributes:
        title: the paper's short name and what is revived.
        says: the claim in a sentence, and how the figures would show it.
        revives: shown for arms whose methods revive this one,
        kinds: and for those of these kinds.
        keys: of metrics rows, or of rounds, in the order in which they are read.
        over: what a row of the curves is.
        instead: key -> keys to show for arms that do not log it; the same by their formula.
    """

    title: str
    says: str
    keys: tuple[str, ...]
    revives: SignalName | None = None
    kinds: tuple[MethodKind, ...] = ()
    over: Over = "step"
    instead: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class Telemetry:
    """A signal as it is shown: figures, and which arms have no line in some of them."""

    title: str
    says: str
    figures: Sequence[Figure]
    notes: Sequence[str]
    tables: Sequence[Table] = ()


SIGNALS = (
    RevivedSignal(
        "LENS (2510.08696): all-wrong groups give a signal",
        "With group-relative credit, a group of only wrong answers has advantage 0. LENS penalises "
        "confident wrong answers more, so part of the advantage comes from all-wrong groups. If it "
        "works, the entropy holds and all-wrong groups become fewer.",
        ("advantage/share_all_wrong", "groups/all_wrong", "groups/mixed", "entropy",
         "advantage/abs", "penalty/median"),
        revives="groups",
    ),
    RevivedSignal(
        "HERO (2510.07242): a dense reward inside the verifier's strata",
        "A 0/1 verifier gives no signal in a group whose verdicts agree. HERO ranks the answers of "
        "such a group by a reward model, which helps only if the reward model tells right from "
        "wrong (AUC above 0.5). Problems whose scores spread more have more weight.",
        ("reward/std", "rm/auc", "rm/auc_in_group", "advantage/share_all_wrong", "weight/mean",
         "sigma/used", "advantage/against_verdict", "groups/mixed"),
        revives="verifier",
    ),
    RevivedSignal(
        "WMSS (2602.08222): gradient where SFT is saturated",
        "SFT's gradient on a token is the probability that the model gives to other tokens, which "
        "goes to 0. Mixing in a weaker model's logits keeps it up. The first curve is that "
        "gradient; without mixing it is 1 − p.",
        ("mix/gradient", "mass/non_target", "tokens/above_099", "mix/reactivated", "mix/amplified",
         "margin/strong", "margin/weak", "grad_norm"),
        revives="sft",
        instead={"mix/gradient": ("mass/non_target",)},
    ),
    RevivedSignal(
        "Temporal self-rewarding (2508.06026): chosen and rejected stay apart",
        "In self-rewarding, chosen and rejected answers become more alike from round to round, and "
        "the gradient of DPO shrinks. Rejected answers from the past model and chosen ones from "
        "the future model should keep the gap and the gradient up and the similarity down, while "
        "the judge stays accurate.",
        ("pairs/gap", "pairs/gap_all", "pairs/similarity", "pairs/cosine", "grad_norm",
         "pairs/kept", "judge/auc_in_prompt", "judge/tie_rate"),
        revives="pairs",
        over="round",
    ),
    RevivedSignal(
        "Preference pairs: how hard DPO and ORPO push",
        "The margin of chosen over rejected answers grows in training. If the chosen answers "
        "become less likely than under the reference, likelihood is displaced.",
        ("pairs/margin", "pairs/accuracy", "pairs/chosen_change", "pairs/rejected_change",
         "pairs/gradient_rejected"),
        kinds=("pairs", "stages"),
    ),
)  # fmt: skip
LABELS = RevivedSignal(
    "Weak-to-strong (2407.13647): labels that are better than the weak model's",
    "A filter keeps the weak model's answers that the strong model agrees with. It helps if a "
    "larger share of the kept answers is right than of all answers that it was given. Reference "
    "answers are used for this table only.",
    ("right_before", "right_kept", "kept_share", "weak_chosen", "weak_rejected"),
)
_FACTS = {
    "right_before": "weak labels that are right",
    "right_kept": "kept labels that are right",
    "kept_share": "share kept",
    "weak_chosen": "pairs, weak chosen",
    "weak_rejected": "pairs, weak rejected",
}
_GROUPS = {f"groups/{key}": f"share of groups {name}" for key, name in GROUP_CLASSES.items()}
_SHARES = ("right_before", "right_kept", "kept_share")


def telemetry(arms: Sequence[RunData], styles: Sequence[Style]) -> list[Telemetry]:
    """The signals of the papers that are among the arms, in the order of `SIGNALS`."""
    shown = [
        _telemetry(f"signal-{i}", signal, arms, styles)
        for i, signal in enumerate(SIGNALS)
        if _concerns(signal, arms)
    ]
    shown = [signal for signal in shown if signal.figures]
    labels = label_table(arms)
    if labels is not None:
        without = _without(arms)
        notes = [f"No filter, so none of these numbers: {listed(without)}."] if without else []
        shown.append(Telemetry(LABELS.title, LABELS.says, (), notes, [labels]))
    return shown


def label_table(arms: Sequence[RunData]) -> Table | None:
    """Weak-to-strong's stages that kept some rows and dropped others, with how many were right."""
    rows = []
    logged = {key for arm in arms for stage in arm.stages for key in stage.facts}
    shown_keys = [key for key in LABELS.keys if key in logged]
    if not shown_keys:
        return None
    for arm in arms:
        for stage in arm.stages:
            if not any(key in stage.facts for key in shown_keys):
                continue
            cells = [_fact(key, stage.facts.get(key)) for key in shown_keys]
            dropped = "; ".join(f"{reason} {count(n)}" for reason, n in stage.dropped.items() if n)
            rows.append((arm.name, stage.name, *cells, count(stage.kept), dropped))
    runs = max((len(arm.members) for arm in arms), default=1)
    mean = f", means over up to {plural(runs, 'run')}" if runs > 1 else ""
    head = ("arm", "stage", *(_FACTS[key] for key in shown_keys), "rows kept", "questions dropped")
    numeric = tuple(range(2, 3 + len(shown_keys)))
    return Table(f"Labels and pairs of each arm{mean}", head, rows, numeric)


def drawn_keys(arms: Sequence[RunData], over: Over) -> set[str]:
    """Keys of metrics rows, or of rounds, that `telemetry` draws for these arms."""
    return {
        key
        for signal in SIGNALS
        if signal.over == over and _concerns(signal, arms)
        for key in signal.keys
    }


def _telemetry(
    figure_id: str, signal: RevivedSignal, arms: Sequence[RunData], styles: Sequence[Style]
) -> Telemetry:
    titles = QUANTITIES | _GROUPS if signal.over == "step" else ROUND_QUANTITIES
    figures, lacking = [], dict[tuple[str, ...], list[str]]()
    for i, key in enumerate(signal.keys):
        title, keys = titles.get(key, key), [key, *signal.instead.get(key, ())]
        curve = signal_curve(f"{figure_id}-{i}", title, keys, arms, styles, over=signal.over)
        if curve is None:
            continue
        figures.append(curve.figure)
        if curve.without:
            lacking.setdefault(tuple(curve.without), []).append(title)
    notes = [
        f"Not logged by {listed(names)}: {'; '.join(quantities)}."
        for names, quantities in lacking.items()
    ]
    return Telemetry(signal.title, signal.says, figures, notes)


class SignalCurve(NamedTuple):
    """A figure of one quantity, and the arms that did not log it."""

    figure: Figure
    without: Sequence[str]


def signal_curve(
    figure_id: str,
    title: str,
    keys: Sequence[str],
    arms: Sequence[RunData],
    styles: Sequence[Style],
    *,
    over: Over,
) -> SignalCurve | None:
    """A quantity over steps or rounds, of each arm the first of `keys` that it logs; None where no
    arm logs any."""
    logged = {arm.name: key for arm in arms if (key := _logged(arm, keys, over))}
    having = [arm for arm in arms if arm.name in logged]
    if not having:
        return None
    here = styles_of(styles, list(logged))
    figure = metric_curve(figure_id, title, keys[0], having, here, over=over, keys=logged)
    return SignalCurve(figure, [arm.name for arm in arms if arm.name not in logged])


def _logged(arm: RunData, keys: Sequence[str], over: Over) -> str | None:
    rows = arm.rows if over == "step" else arm.rounds
    has = (key for key in keys if any(row.values.get(key) is not None for row in rows))
    return next(has, None)


def _concerns(signal: RevivedSignal, arms: Sequence[RunData]) -> bool:
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
