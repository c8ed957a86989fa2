"""Which figures the page has: the runs' data sorted into panels, in the order they are read.

Of a study also the signal that each paper says it revives, for every arm side by side. An arm that
does not log a quantity is named, so that a missing line is not read as a zero.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace

from rekindle.methods.catalog import METHODS, MethodKind, SignalName
from rekindle.report.charts import (
    GROUP_CLASSES,
    bars,
    before_after,
    ceiling,
    group_classes,
    learning_curve,
    metric_curve,
    pass_at_k,
)
from rekindle.report.formatting import (
    count,
    grouped,
    in_nats,
    level_title,
    listed,
    percent,
    plural,
)
from rekindle.report.load import RunData
from rekindle.report.reading import shipped_table
from rekindle.report.run_files import Evaluation, Over, levels_of
from rekindle.report.spec import Figure, Style, styles_of
from rekindle.report.tables import Table, time_parts, tokens
from rekindle.report.verdict import HEADLINE, PASS_AT
from rekindle.study.analyse.run_times import PARTS

TITLES = shipped_table("quantities", dict[str, dict[str, str]])
QUANTITIES, ROUND_QUANTITIES, STAGE_FACTS = TITLES["steps"], TITLES["rounds"], TITLES["stages"]
TIME_COLOURS = {part: f"--part-{i}" for i, part in enumerate(PARTS, start=1)}
TOKEN_COLOURS = {"generated": "--part-6", "trained on": "--part-1"}
_SHOWN_ELSEWHERE = ("step", "time/", "groups/")
_MOST_QUANTITIES = 24


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
    keys: tuple[str, ...]
    says: str = ""
    revives: SignalName | None = None
    kinds: tuple[MethodKind, ...] = ()
    over: Over = "step"
    instead: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


*SIGNALS, LABELS = shipped_table("signals", tuple[RevivedSignal, ...])
_GROUPS = {
    f"groups/{key}": f"share of groups {name}"
    for key, name in {**GROUP_CLASSES, "no_signal": "with equal rewards"}.items()
}
_SHARES = ("right_before", "right_kept", "kept_share")


@dataclass(frozen=True)
class Panel:
    """Figures that are compared with each other, and what to know before reading them.

    Of a signal also tables, and in `notes` which arms have no line in some of the figures.
    """

    title: str
    figures: Sequence[Figure]
    note: str
    notes: Sequence[str] = ()
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Benchmark:
    """The evaluations of some runs on one task and split."""

    task: str
    split: str
    pairs: Sequence[tuple[RunData, Evaluation]]

    @property
    def title(self) -> str:
        """`countdown, test split`."""
        return f"{self.task}, {self.split} split"

    @property
    def evaluations(self) -> list[Evaluation]:
        """Those of all runs."""
        return [evaluation for _, evaluation in self.pairs]

    @property
    def levels(self) -> list[str | None]:
        """None for all problems, then each level when there is more than one."""
        return levels_of(self.evaluations)

    def sides(self) -> list[tuple[str, str, Evaluation]]:
        """(run, "before" | "after", evaluation) as far as there are any."""
        return [
            (run.name, when, evaluation)
            for run, evaluation in self.pairs
            for when, side in run.sides
            if side is evaluation
        ]


def benchmarks_of(runs: Sequence[RunData]) -> list[Benchmark]:
    """Evaluations by what they were made on."""
    pairs = ((run, evaluation) for run in runs for evaluation in run.evaluations)
    alike = grouped(pairs, lambda pair: (pair[1].task, pair[1].split))
    return [Benchmark(task, split, these) for (task, split), these in alike.items()]


def learning_panels(
    benchmarks: Sequence[Benchmark], styles: Sequence[Style], *, declared: str | None = None
) -> list[Panel]:
    """Accuracy over steps, one figure a level; of a study, the declared metric before pass@1."""
    panels = []
    for b, benchmark in enumerate(benchmarks):
        for m, name in enumerate(_metrics_of(benchmark, declared)):
            panel = _learning_panel(f"learning-{b}-{m}", benchmark, styles, name)
            panels.append(replace(panel, title=f"{panel.title}: {name}") if declared else panel)
    return panels


def _learning_panel(
    figure_id: str, benchmark: Benchmark, styles: Sequence[Style], name: str
) -> Panel:
    series = {
        level: [
            (run.name, e, e.at(level)[name]) for run, e in benchmark.pairs if name in e.at(level)
        ]
        for level in benchmark.levels
    }
    top = None
    if not in_nats(name):
        top = ceiling([cell for these in series.values() for _, _, cell in these])
    figures = [
        learning_curve(
            f"{figure_id}-{i}",
            level_title(level),
            these,
            styles_of(styles, [run for run, _, _ in these]),
            metric=name,
            top=top,
        )
        for i, (level, these) in enumerate(series.items())
        if these
    ]
    counts = sorted({e.n_problems for e in benchmark.evaluations})
    samples = sorted({e.n_samples for e in benchmark.evaluations})
    over = "over runs" if any(e.n_runs > 1 for e in benchmark.evaluations) else "over problems"
    note = (
        f"{name}; n = {' or '.join(f'{n:,}' for n in counts)} problems in all, "
        f"{' or '.join(map(str, samples))} samples each. Bands are 95 % intervals {over}."
    )
    return Panel(benchmark.title, figures, note)


def _metrics_of(benchmark: Benchmark, declared: str | None) -> list[str]:
    """The declared metric where it was measured, and the headline one."""
    names = [name for e in benchmark.evaluations for name in e.metrics]
    wanted = [declared] if declared in names else []
    return list(dict.fromkeys([*wanted, HEADLINE if HEADLINE in names else names[0]]))


def quantity_figures(
    runs: Sequence[RunData], styles: Sequence[Style], *, without: Collection[str] = ()
) -> tuple[list[Figure], str]:
    """Logged quantities over steps, and a sentence on those that are not worth a figure.

    `without`: keys that are drawn elsewhere on the page.
    """
    logged: dict[str, set[float]] = {}
    by_round = {"judge/missing", "pairs/length_gap", *ROUND_QUANTITIES}
    elsewhere = by_round - {"grad_norm"} if any(run.rounds for run in runs) else set[str]()
    for row in (row for run in runs for row in run.rows):
        for key in row.values.keys() - elsewhere - set(without):
            value = row.values[key]
            if value is not None and not key.startswith(_SHOWN_ELSEWHERE):
                logged.setdefault(key, set()).add(value)
    keys = [key for key in QUANTITIES if key in logged]
    keys += sorted(key for key in logged if key not in QUANTITIES)
    moving = [key for key in keys if len(logged[key]) > 1]
    curves = [
        metric_curve(f"quantity-{i}", QUANTITIES.get(key, key), [key], runs, styles)
        for i, key in enumerate(moving[:_MOST_QUANTITIES])
    ]
    still = [f"{QUANTITIES.get(k, k)} {min(logged[k]):g}" for k in keys if len(logged[k]) == 1]
    notes = [f"Constant: {'; '.join(still)}."] if still else []
    if moving[_MOST_QUANTITIES:]:
        notes.append(f"Not drawn, see metrics.jsonl: {', '.join(moving[_MOST_QUANTITIES:])}.")
    return [curve for curve in curves if curve], " ".join(notes)


def round_figures(
    runs: Sequence[RunData], styles: Sequence[Style], *, without: Collection[str] = ()
) -> list[Figure]:
    """What self-rewarding's rounds look like: one number a round; but keys in `without`."""
    curves = [
        metric_curve(f"round-{i}", title, [key], runs, styles, over="round")
        for i, (key, title) in enumerate(ROUND_QUANTITIES.items())
        if key not in without
    ]
    return [curve for curve in curves if curve]


def accuracy_panels(
    benchmarks: Sequence[Benchmark], styles: Sequence[Style], *, declared: str | None = None
) -> list[Panel]:
    """Before against after: a dumbbell of all levels, then pass@k of each."""
    panels = []
    for b, benchmark in enumerate(benchmarks):
        sides = benchmark.sides()
        if not sides:
            continue
        here = styles_of(styles, [run for run, _, _ in sides])
        figures = []
        for m, name in enumerate(_metrics_of(benchmark, declared)):
            rows = [
                (level_title(level), run, when, e.at(level)[name])
                for level in benchmark.levels
                for run, when, e in sides
                if name in e.at(level)
            ]
            title = f"{name} by level"
            figures.append(before_after(f"levels-{b}-{m}", title, rows, here, metric=name))
        figures += _pass_at_k_figures(b, benchmark, here)
        steps = sorted({e.step for _, when, e in sides if when == "after"})
        after = " or ".join(f"{step:,}" for step in steps) or "none yet"
        note = f"Hollow points and dashed lines: before the first step. Filled: after step {after}."
        panels.append(Panel(benchmark.title, figures, note))
    return panels


def group_figures(runs: Sequence[RunData]) -> list[Figure]:
    """Group classes over time, for the runs that have groups."""
    figures = [group_classes(f"groups-{i}", run) for i, run in enumerate(runs)]
    return [figure for figure in figures if figure is not None]


def cost_figures(
    runs: Sequence[RunData], spent: Mapping[str, Mapping[str, float | None]] | None = None
) -> list[Figure]:
    """Where the time went, and how many of the generated tokens were trained on.

    `spent`: what study.json says of each arm, for the tokens.
    """
    times = [
        (run.name, part, seconds)
        for run in runs
        for part, seconds in (time_parts(run) or {}).items()
    ]
    counts = []
    for name, amounts in (spent or {run.name: tokens(run) for run in runs}).items():
        counts.append((name, "trained on", amounts.get("trained") or 0.0))
        counts.append((name, "generated", amounts.get("generated") or 0.0))
    figures = (
        bars("time", "Time", times, colours=TIME_COLOURS, unit="seconds", param="parts"),
        bars(
            "tokens", "Tokens", counts,
            colours=TOKEN_COLOURS, unit="tokens", param="uses", stacked=False,
        ),
    )  # fmt: skip
    return [figure for figure in figures if figure.values]


def _pass_at_k_figures(b: int, benchmark: Benchmark, styles: Sequence[Style]) -> list[Figure]:
    rows = {
        level: [
            (run, when, int(match[1]), cell)
            for run, when, e in benchmark.sides()
            for name, cell in e.at(level).items()
            if (match := PASS_AT.fullmatch(name))
        ]
        for level in benchmark.levels
    }
    if all(len({k for _, _, k, _ in these}) < 2 for these in rows.values()):
        return []
    top = ceiling([cell for these in rows.values() for *_, cell in these])
    return [
        pass_at_k(f"k-{b}-{i}", level_title(level), these, styles, top=top)
        for i, (level, these) in enumerate(rows.items())
        if these
    ]


# --- the signals of the papers


def telemetry(arms: Sequence[RunData], styles: Sequence[Style]) -> list[Panel]:
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
        shown.append(Panel(LABELS.title, (), LABELS.says, notes, [labels]))
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
) -> Panel:
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
    return Panel(signal.title, figures, signal.says, notes)


def _concerns(signal: RevivedSignal, arms: Sequence[RunData]) -> bool:
    methods = [METHODS[arm.method] for arm in arms if arm.method in METHODS]
    return any(m.kind in signal.kinds or signal.revives in m.revives for m in methods)


def _fact(key: str, value: float | None) -> str:
    if value is None:
        return "–"
    return percent(value) if key in _SHARES else count(value)
