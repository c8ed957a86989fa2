"""One self-contained HTML page from run directories: no network, no server, nothing outside it.

Everything that comes from a run is data: HTML is autoescaped, JSON islands cannot close their
element, scripts run only if their hash is in the page's Content-Security-Policy, and nothing may
load from anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from rekindle.errors import ConfigError
from rekindle.outputs import KEPT, REPORT_MARK, OutputFile
from rekindle.report import figures as draw
from rekindle.report import tables, verdict
from rekindle.report.formatting import amount, change_text, count, grouped, listed, percent, plural
from rekindle.report.intervals import forest_figures, whiskers
from rekindle.report.load import RunData, load_runs
from rekindle.report.samples import Packed, pack, thin
from rekindle.report.spec import Figure, Style, run_styles
from rekindle.report.stage_records import pack_pairs
from rekindle.report.study import StudyPage, load_study_page
from rekindle.report.verdict import VerdictRow
from rekindle.study.store.archive_read import is_archive, unpacked
from rekindle.study.store.layout import is_study
from rekindle.version import __version__

PAGE_BYTES = 3_900_000  # of the whole page, as far as texts can be left out
ROLLOUT_BYTES = 2_300_000  # of all rollouts on the page
PAIR_BYTES = 600_000  # of all pairs
_LEAST_TEXT = 200_000  # of rollouts and pairs, however much the figures need
_FRAME_BYTES = 250_000  # scripts, style, tables
_CONTROLS = [*range(32), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_FORBIDDEN = dict.fromkeys(set(_CONTROLS) - {ord("\t"), ord("\n")}, "\ufffd")


def build_report(
    runs: Sequence[Path],
    out: Path,
    *,
    title: str | None = None,
    verdict_rows: Sequence[VerdictRow] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write the report of one or more run directories to `out`; the same runs, the same bytes.

    Args:
        runs: run directories, in the order in which they are shown.
        out: the HTML file; an earlier report there is replaced.
        title: heading of the page; by default the methods and tasks of the runs.
        verdict_rows: claims to show instead of those found by pairing each run's evaluations.
        overwrite: replace another file than a report too; never one of a run's own.

    Raises:
        ConfigError: no run is given, or one twice, or `out` is read for it.
        RunDirectoryError: a directory is no run, or `out` cannot be written or is something else.
    """
    out, directories = Path(out), [Path(run) for run in runs]
    reads = tuple(run / name for run in directories for name in KEPT)
    file = OutputFile(out, reads=reads, mark=REPORT_MARK, overwrite=overwrite)
    file.check()
    studies = [directory for directory in directories if is_study(directory)]
    if studies and len(directories) > 1:
        raise ConfigError(
            "a study is shown alone",
            got=f"{studies[0]} and {len(directories) - 1} more",
            fix=f"rekindle report {studies[0]}",
        )
    if studies:
        with unpacked(studies[0]) as directory:
            study = load_study_page(directory, packed=is_archive(studies[0]))
        html = render(study.arms, title=title, study=study)
    else:
        html = render(load_runs(directories), title=title, verdict_rows=verdict_rows)
    file.write(html.encode("utf-8", "replace"))  # a model may emit half a surrogate pair
    return out


def render(
    runs: Sequence[RunData],
    *,
    title: str | None = None,
    verdict_rows: Sequence[VerdictRow] | None = None,
    study: StudyPage | None = None,
) -> str:
    """The page as one string; of a study, `runs` are its arms."""
    arms = [] if study else verdict.arms_of(runs)
    alike = [[run.name for run in arm.runs] for arm in arms]
    styles = run_styles([[name] for name in study.results.arms] if study else alike)
    given = study.claims if study else verdict_rows
    claims = list(verdict.verdict_rows(arms) if given is None else given)
    singles = verdict.single_rows(arms) if given is None else []
    drawn, quantities_note = _draw(runs, styles, claims, study)
    shown = [item for items in drawn.values() for item in items]
    figures = figures_island(
        [f for item in shown for f in (item.figures if isinstance(item, draw.Panel) else [item])]
    )
    there = {run.name for run in runs}
    return fill_page(
        "report.html.j2",
        figures,
        css=("style.css", "parts.css"),
        js=("theme.js", "page.js", "cards.js", "rollouts.js", "pairs.js"),
        maker="report",
        title=title or (f"Study: {study.results.study}" if study else _title(runs)),
        summary=study.summary if study else _summary(claims, runs),
        caution=study.caution if study else verdict.seed_caution(arms),
        study=study,
        runs=runs,
        styles=[style for style in styles if style.run in there],
        remarks=_remarks(runs),
        claims=claims,
        singles=singles,
        whisker_of=whiskers([*claims, *singles], by_metric=study is not None),
        drawn=drawn,
        quantities_note=quantities_note,
        draw=draw,
        tables=tables,
        texts=_texts(runs, len(figures.encode("utf-8", "replace"))),
    )


def fill_page(
    template: str,
    figures: Markup,
    *,
    css: Sequence[str],
    js: Sequence[str],
    **parts: object,
) -> str:
    """A template filled in, with its style and scripts (the first in the head) inside the page."""
    bundle = vega_bundle() if figures != "{}" else ""
    theme, *rest = (_script(text_of(name)) for name in js)
    environment = Environment(
        loader=FunctionLoader(text_of),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=visible,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["count"] = count
    environment.filters["by_subject"] = lambda rows: grouped(rows, lambda row: row.subject).items()
    environment.globals |= {"amount": amount, "percent": percent, "change_text": change_text}
    return environment.get_template(template).render(
        policy=content_policy([theme, *rest, bundle]),
        style=Markup("".join(map(text_of, css))),
        theme=Markup(theme),
        scripts=[Markup(script) for script in (bundle, *rest) if script],
        figures_json=figures,
        version=__version__,
        **parts,
    )


def _draw(
    runs: Sequence[RunData],
    styles: Sequence[Style],
    claims: Sequence[VerdictRow],
    study: StudyPage | None,
) -> tuple[dict[str, Sequence[draw.Panel] | Sequence[Figure]], str]:
    """The figures of a page by the section they stand in, and a note on its quantities."""
    benchmarks = draw.benchmarks_of(runs)
    declared = study.results.primary.metric if study else None
    spent = {arm: dict(block.spent) for arm, block in study.results.arms.items()} if study else None
    by_step = draw.drawn_keys(runs, "step") if study else set[str]()
    by_round = draw.drawn_keys(runs, "round") if study else set[str]()
    quantities, note = draw.quantity_figures(runs, styles, without=by_step)
    return {
        "learning": draw.learning_panels(benchmarks, styles, declared=declared),
        "accuracy": draw.accuracy_panels(benchmarks, styles, declared=declared),
        "signals": draw.telemetry(runs, styles) if study else [],
        "forest": forest_figures(claims) if study else [],
        "rounds": draw.round_figures(runs, styles, without=by_round),
        "quantities": quantities,
        "groups": draw.group_figures(runs),
        "costs": draw.cost_figures(runs, spent),
    }, note


def island(value: object) -> Markup:
    """JSON for a script element of type application/json: it cannot end the element.

    `<`, `>`, `&` and the two line separators are written as escapes; nan and infinity are refused,
    for JSON has neither.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return Markup(text)


def figures_island(figures: Sequence[Figure]) -> Markup:
    """Figures by id as the page's script draws them, data by columns."""
    return island({figure.id: figure.packed for figure in figures})


@cache
def vega_bundle() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, from the installed vl-convert: no network."""
    import vl_convert

    bundle = str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")).replace("\r", "")
    # The same property; scanners for paths take the dotted one for a hidden directory.
    bundle = re.sub(r"[.](library)\b", r'["\1"]', bundle)
    return _script("(()=>{" + bundle + "})();")


@cache
def text_of(name: str) -> str:
    """A file among the templates."""
    return (files("rekindle.report") / "templates" / name).read_text(encoding="utf-8")


def visible(value: object) -> object:
    """Text for HTML without characters that HTML does not allow or that reorder what is read."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return value.translate(_FORBIDDEN)
    return value


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


def _title(runs: Sequence[RunData]) -> str:
    named = dict.fromkeys(f"{run.method} on {run.task}" for run in runs)
    return f"Training report: {listed(list(named))}"


def _summary(claims: Sequence[VerdictRow], runs: Sequence[RunData]) -> list[str]:
    """What the page says, in sentences: what was run, then the main claim of each recipe."""
    steps = plural(sum(run.steps_done for run in runs), "step")
    sentences = [f"{plural(len(runs), 'run')}, {steps}{' in all' if len(runs) > 1 else ''}."]
    unfinished = [r.name for r in runs if r.steps_done < (r.settings.steps or 0)]
    if unfinished:
        sentences.append(f"Unfinished: {listed(unfinished)}.")
    return [*sentences, *(verdict.sentence(row) for row in claims if row.main)]


def _remarks(runs: Sequence[RunData]) -> list[tuple[str, str, Sequence[str]]]:
    """What is to be known of runs: a heading, their names, and what is said of all of those."""
    remarks: list[tuple[str, str, Sequence[str]]] = []
    for heading, notes_of in (("Warnings of", _warnings), ("Missing or unfinished in", _notes)):
        alike = grouped((run for run in runs if notes_of(run)), notes_of)
        remarks += [(heading, listed([r.name for r in same]), n) for n, same in alike.items()]
    return remarks


def _warnings(run: RunData) -> tuple[str, ...]:
    return run.manifest.remarks


def _notes(run: RunData) -> tuple[str, ...]:
    return tuple(run.notes)


class Browsable(NamedTuple):
    """Packed rollouts or pairs of some runs, and what to say about them."""

    data: Markup
    n: int
    notes: Sequence[str]


def _texts(runs: Sequence[RunData], spent: int) -> dict[str, Browsable]:
    """Rollouts and pairs in the bytes that figures and settings leave of `PAGE_BYTES`."""
    settings = sum(2 * len(run.settings.text) for run in runs)
    room = max(_LEAST_TEXT, PAGE_BYTES - len(vega_bundle()) - spent - settings - _FRAME_BYTES)
    paired = [run for run in runs if run.pairs]
    for_pairs = min(PAIR_BYTES, room // 3) if paired else 0
    having = [run for run in runs if run.samples]
    without = [run.name for run in runs if not run.samples]
    notes = [f"{listed(without)} logged no rollouts, or they are not here."] if without else []
    rollouts, pairs, pair_notes = dict[str, Packed](), dict[str, Packed](), list[str]()
    for run in having:
        kept, note = thin(run.samples, min(ROLLOUT_BYTES, room - for_pairs) // len(having))
        rollouts[run.name] = pack(kept)
        notes += [f"{run.name}: {note}"] if note else []
    for run in paired:
        pairs[run.name], note = pack_pairs(run.pairs, for_pairs // len(paired))
        pair_notes += [f"{run.name}: {note}; the run's stages have them all."] if note else []
    return {"rollouts": _browsable(rollouts, notes), "pairs": _browsable(pairs, pair_notes)}


def _browsable(tables: Mapping[str, Packed], notes: Sequence[str]) -> Browsable:
    data = island([{"run": name, **table} for name, table in tables.items()])
    return Browsable(data, sum(len(table["rows"]) for table in tables.values()), notes)
