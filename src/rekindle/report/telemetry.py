"""The signal that each paper says it revives, for every arm of a study side by side.

Which quantities those are is written here once; the runs log them under these names. An arm that
does not log one is named, so that a missing line is not read as a zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from rekindle.methods.catalog import METHODS, MethodKind, SignalName
from rekindle.report.charts import metric_curve
from rekindle.report.figures import QUANTITIES, ROUND_QUANTITIES, STAGE_FACTS
from rekindle.report.formatting import count, listed, percent, plural
from rekindle.report.load import RunData
from rekindle.report.reading import shipped_table
from rekindle.report.run_files import Over
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


*SIGNALS, LABELS = shipped_table("signals", tuple[RevivedSignal, ...])
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
        keys = set(LABELS.keys)
        without = [a.name for a in arms if not any(s.facts.keys() & keys for s in a.stages)]
        notes = [f"No filter, so none of these numbers: {listed(without)}."] if without else []
        shown.append(Telemetry(LABELS.title, LABELS.says, (), notes, [labels]))
    return shown


def label_table(arms: Sequence[RunData]) -> Table | None:
    """Weak-to-strong's stages that kept some rows and dropped others, with how many were right."""
    stages = [(arm.name, stage) for arm in arms for stage in arm.stages]
    logged = {key for _, stage in stages for key in stage.facts}
    shown_keys = [key for key in LABELS.keys if key in logged]
    if not shown_keys:
        return None
    rows = []
    for arm, stage in stages:
        if stage.facts.keys() & set(shown_keys):
            cells = [_fact(key, stage.facts.get(key)) for key in shown_keys]
            dropped = "; ".join(f"{reason} {count(n)}" for reason, n in stage.dropped.items() if n)
            rows.append((arm, stage.name, *cells, count(stage.kept), dropped))
    runs = max((len(arm.members) for arm in arms), default=1)
    mean = f", means over up to {plural(runs, 'run')}" if runs > 1 else ""
    titles = [STAGE_FACTS[key] for key in shown_keys]
    head = ("arm", "stage", *titles, "rows kept", "questions dropped")
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
        curve = metric_curve(f"{figure_id}-{i}", title, keys, arms, styles, over=signal.over)
        if curve is None:
            continue
        figures.append(curve)
        without = [arm.name for arm in arms if not arm.first_logged(keys, signal.over)]
        if without:
            lacking.setdefault(tuple(without), []).append(title)
    notes = [
        f"Not logged by {listed(names)}: {'; '.join(quantities)}."
        for names, quantities in lacking.items()
    ]
    return Telemetry(signal.title, signal.says, figures, notes)


def _concerns(signal: RevivedSignal, arms: Sequence[RunData]) -> bool:
    methods = [METHODS[arm.method] for arm in arms if arm.method in METHODS]
    return any(m.kind in signal.kinds or signal.revives in m.revives for m in methods)


def _fact(key: str, value: float | None) -> str:
    if value is None:
        return "–"
    return percent(value) if key in _SHARES else count(value)
