"""One self-contained HTML page from run directories: no network, no server, nothing outside it.

Everything that comes from a run is data: HTML is autoescaped, JSON islands cannot close their
element, scripts run only if their hash is in the page's Content-Security-Policy, and nothing may
load from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

import rekindle
from rekindle.errors import ConfigError
from rekindle.files import write_atomic
from rekindle.report import figures as draw
from rekindle.report import tables
from rekindle.report.forest import forest_figures
from rekindle.report.load import Metric, RunData, load_runs
from rekindle.report.samples import pack, thin
from rekindle.report.spec import run_styles
from rekindle.report.stacks import GROUP_CLASSES
from rekindle.report.study import StudyPage, load_study_page
from rekindle.report.verdict import (
    Arm,
    VerdictRow,
    arms_of,
    seed_caution,
    sentence,
    single_rows,
)
from rekindle.report.verdict import (
    verdict_rows as rows_of,
)
from rekindle.report.words import count, listed, nice_step, percent, plural
from rekindle.study.places import is_study

ROLLOUT_BYTES = 2_300_000  # of all rollouts on the page
_SCRIPTS = ("theme.js", "page.js", "browser.js")
_FOREST_HALF = 84  # of the little interval drawings: units from the middle to the end


class Whisker(NamedTuple):
    """A change and its interval in the units of the drawing; None: nothing to draw."""

    low: float
    value: float
    high: float


def build_report(
    runs: Sequence[Path],
    out: Path,
    *,
    title: str | None = None,
    verdict_rows: Sequence[VerdictRow] | None = None,
) -> Path:
    """Write the report of one or more run directories to `out`; the same runs, the same bytes.

    Args:
        runs: run directories, in the order in which they are shown.
        out: the HTML file; it is replaced when it exists.
        title: heading of the page; by default the methods and tasks of the runs.
        verdict_rows: claims to show instead of those found by pairing each run's evaluations.

    Raises:
        ConfigError: no run is given, or one twice.
        RunDirectoryError: a directory is no run, or `out` cannot be written.
    """
    out, places = Path(out), [Path(run) for run in runs]
    studies = [place for place in places if is_study(place)]
    if studies and len(places) > 1:
        raise ConfigError(
            "a study is shown alone",
            got=f"{studies[0]} and {len(places) - 1} more",
            fix=f"rekindle report {studies[0]}",
        )
    if studies:
        study = load_study_page(studies[0])
        html = render(study.arms, title=title or study.title, study=study)
    else:
        html = render(load_runs(places), title=title, verdict_rows=verdict_rows)
    write_atomic(out, html.encode("utf-8", "replace"))  # a model may emit half a surrogate pair
    return out


def render(
    runs: Sequence[RunData],
    *,
    title: str | None = None,
    verdict_rows: Sequence[VerdictRow] | None = None,
    study: StudyPage | None = None,
) -> str:
    """The page as one string; of a study, `runs` are its arms."""
    arms = [Arm(run.name, [run]) for run in runs] if study else arms_of(runs)
    styles = run_styles([[run.name for run in arm.runs] for arm in arms])
    given = study.claims if study else verdict_rows
    claims = list(rows_of(arms) if given is None else given)
    singles = single_rows(arms) if given is None else []
    benchmarks = draw.benchmarks_of(runs)
    learning = draw.learning_panels(benchmarks, styles)
    accuracy = draw.accuracy_panels(benchmarks, styles)
    quantities, quantities_note = draw.quantity_figures(runs, styles)
    rounds = draw.round_figures(runs, styles)
    forest = forest_figures(claims) if study else []
    groups, costs = draw.group_figures(runs), draw.cost_figures(runs)
    drawn = [
        *(figure for panel in (*learning, *accuracy) for figure in panel.figures),
        *forest, *rounds, *quantities, *groups, *costs,
    ]  # fmt: skip
    rollouts, rollout_notes = _rollouts(runs)
    scripts = [javascript(name) for name in _SCRIPTS]
    bundle = vega_bundle() if drawn else ""
    return environment().get_template("report.html.j2").render(
        title=title or _title(runs),
        policy=content_policy([*scripts, bundle]),
        style=Markup(text_of("style.css") + text_of("parts.css")),
        theme=Markup(scripts[0]),
        scripts=[Markup(script) for script in (bundle, *scripts[1:]) if script],
        summary=study.summary if study else _summary(claims, runs),
        caution=study.caution if study else seed_caution(arms),
        study=study,
        runs=runs,
        styles=styles,
        swatches={style.run: style for style in styles},
        overview=tables.overview(runs),
        claims=claims,
        whisker_of=_whiskers([*claims, *singles]),
        learning=learning, rounds=rounds, forest=forest, singles=singles,
        quantities=quantities, quantities_note=quantities_note,
        accuracy=accuracy,
        accuracy_tables=tables.accuracy(runs),
        groups=groups,
        costs=costs,
        cost_tables={"time": tables.time_table(runs), "tokens": tables.token_table(runs)},
        class_names=GROUP_CLASSES,
        time_colours=draw.TIME_COLOURS,
        token_colours=draw.TOKEN_COLOURS,
        figures_json=island({figure.id: figure.spec for figure in drawn}),
        rollouts_json=island(rollouts),
        rollout_count=sum(len(pile["rows"]) for pile in rollouts),
        rollout_notes=rollout_notes,
        differences=tables.differences(runs),
        environments=[tables.environment(run) for run in runs],
        version=rekindle.__version__,
    )  # fmt: skip


def island(value: object) -> Markup:
    """JSON for a script element of type application/json: it cannot end the element.

    `<`, `>`, `&` and the two line separators are written as escapes; nan and infinity are refused,
    for JSON has neither.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)


@cache
def vega_bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, from the installed vl-convert: no network."""
    import vl_convert

    bundle = str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")).replace("\r", "")
    return _script("(()=>{" + bundle + "})();")


def javascript(name: str) -> str:
    """One of the page's own scripts."""
    return _script(text_of(name))


@cache
def text_of(name: str) -> str:
    """A file among the templates."""
    return (files("rekindle.report") / "templates" / name).read_text(encoding="utf-8")


def visible(value: object) -> object:
    """Text for HTML without characters that HTML does not allow or that reorder what is read."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return "".join("\ufffd" if _forbidden(char) else char for char in value)
    return value


def _forbidden(char: str) -> bool:
    control = (char < " " and char not in "\t\n") or "\x7f" <= char <= "\x9f"
    return control or "\u202a" <= char <= "\u202e" or "\u2066" <= char <= "\u2069"


def _script(text: str) -> str:
    """A script that may stand between script tags."""
    if "</script" in text.lower() or "<!--" in text:
        raise ValueError("this script would end its own element")
    return text


def content_policy(scripts: Sequence[str]) -> str:
    """What a page may load and run: its own scripts, by their hashes, and nothing else."""
    digests = [hashlib.sha256(text.encode()).digest() for text in scripts if text]
    hashes = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def environment() -> Environment:
    """Templates with autoescape; an undefined name is an error."""
    environment = Environment(
        loader=FunctionLoader(text_of),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"count": count, "by_subject": _by_subject}
    environment.globals["share"] = _share
    return environment


def _share(metric: Metric | None, n_runs: int) -> Markup:
    """A share with its interval; of several runs the mean, with the least and most among them."""
    if metric is None or metric.value is None:
        return Markup("undefined")
    shown = Markup("{} ").format(percent(metric.value))
    if metric.low is None or metric.high is None:
        return shown
    low, high = percent(metric.low, unit=False), percent(metric.high, unit=False)
    ends = f"[{low}, {high}]" if n_runs == 1 else f"({low} to {high})"
    return Markup('<span>{}<span class="interval">{}</span></span>').format(shown, ends)


def _by_subject(rows: Sequence[VerdictRow]) -> list[tuple[str, list[VerdictRow]]]:
    grouped: dict[str, list[VerdictRow]] = {}
    for row in rows:
        grouped.setdefault(row.subject, []).append(row)
    return list(grouped.items())


def _title(runs: Sequence[RunData]) -> str:
    named = dict.fromkeys(
        f"{run.method} on {run.section('task').get('name') or 'its task'}" for run in runs
    )
    return f"Training report: {listed(list(named))}"


def _summary(claims: Sequence[VerdictRow], runs: Sequence[RunData]) -> list[str]:
    """What the page says, in sentences: what was run, then the main claim of each recipe."""
    steps = plural(sum(run.steps_done for run in runs), "step")
    told = [f"{plural(len(runs), 'run')}, {steps}{' in all' if len(runs) > 1 else ''}."]
    unfinished = [r.name for r in runs if r.steps_planned and r.steps_done < r.steps_planned]
    if unfinished:
        told.append(f"Unfinished: {listed(unfinished)}.")
    return [*told, *(sentence(row) for row in claims if row.main)]


def _whiskers(rows: Sequence[VerdictRow]) -> Callable[[VerdictRow], Whisker | None]:
    """Each row's interval as a drawing, all on one scale."""
    ends = [end for row in rows if row.change for end in (row.change.low, row.change.high)]
    reach = nice_step(max((abs(end) for end in ends if end is not None), default=0.0))

    def place(row: VerdictRow) -> Whisker | None:
        change = row.change
        if change is None or change.low is None or change.value is None or change.high is None:
            return None
        ends = (change.low, change.value, change.high)
        return Whisker(*(round(100 + _FOREST_HALF * end / reach, 1) for end in ends))

    return place


def _rollouts(runs: Sequence[RunData]) -> tuple[list[dict[str, Any]], list[str]]:
    """Packed rollouts a run, and what to say about runs without, or with too many."""
    having = [run for run in runs if run.samples]
    without = [run.name for run in runs if not run.samples]
    notes = [f"{listed(without)} logged no rollouts."] if without else []
    packed: list[dict[str, Any]] = []
    for run in having:
        kept = thin(run.samples, ROLLOUT_BYTES // len(having))
        packed.append({"run": run.name, **pack(kept.samples)})
        if kept.note:
            notes.append(f"{run.name}: {kept.note}")
    return packed, notes
