"""What committed studies say of a method: a forest plot with every number beside its mark."""

from __future__ import annotations

import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from rekindle.methods.catalog import METHODS
from rekindle.report.formatting import nice_step, plural
from rekindle.study.evidence import has_oracle, too_few
from sitegen.markdown import prose

_LOOKS = {"helps": "good", "does not": "bad"}


class Measured(NamedTuple):
    """A study, and the comparisons in which a method's arm is the one with the claim."""

    name: str
    study: dict[str, Any]
    comparisons: list[dict[str, Any]]
    arms: dict[str, str]


def measured(results: Path, file: str) -> list[Measured]:
    """Studies with arms of a method's file (its section): comparisons of the primary metric."""
    out = []
    for path in sorted(results.glob("*/study.json")):
        study = json.loads(path.read_text())
        arms = methods_of_arms(path.parent / "study.yaml")
        mine = {arm for arm, method in arms.items() if _is_of(file, method)}
        primary = study["primary"]
        rows = [
            row
            for row in study["comparisons"]
            if row["method"] in mine
            and (row["metric"], row["level"]) == (primary["metric"], primary["level"])
        ]
        if rows:
            rows.sort(key=lambda row: not row["primary"])
            out.append(Measured(path.parent.name, study, rows, arms))
    return out


def methods_of_arms(declared: Path) -> dict[str, str]:
    """The method of each arm of a declared study."""
    study = yaml.safe_load(declared.read_text())
    shared = study.get("recipe", {}).get("method", "")
    return {arm: tree.get("method", shared) for arm, tree in study["arms"].items()}


def baseline_in(results: Path, file: str) -> list[str]:
    """Studies in which a method's arms are only what others are compared with."""
    names = []
    for path in sorted(results.glob("*/study.yaml")):
        mine = {arm for arm, method in methods_of_arms(path).items() if _is_of(file, method)}
        study = json.loads((path.parent / "study.json").read_text())
        if any(row["baseline"] in mine for row in study["comparisons"]):
            names.append(path.parent.name)
    return names


def _is_of(file: str, method: str) -> bool:
    return method in METHODS and METHODS[method].section == file


def section(found: Measured) -> str:
    """The part of a page about one study: what was asked, the plot, what it rests on."""
    study = found.study
    seeds, bases = len(study["seeds"]), len(study["bases"])
    primary = study["primary"]
    what = primary["metric"] + (f", level {primary['level']}" if primary["level"] else "")
    splits = sorted({str(row.get("split", "")) for row in found.comparisons})
    lines = [
        f"### Study {found.name}",
        f"{prose(study['claim'])} Measured: {what}, on {' and '.join(splits)} problems, with "
        f"{plural(bases, 'base model')} and {plural(seeds, 'seed')}. Intervals are over base "
        "models, seeds and problems. ◆ marks the comparison that decides, declared before the run."
        + _caution(study),
        plot(found.comparisons, what),
        f"Everything else that was compared: `results/studies/{found.name}/study.json`. Run it "
        f"again: `rekindle study results/studies/{found.name}/study.yaml --out runs/{found.name}` "
        f"(it was run at commit {study['commit'][:7]}).",
    ]
    return "\n\n".join(lines) + "\n"


def _caution(study: dict[str, Any]) -> str:
    """What a reader must know before the verdicts: too few runs, or a reward model that cheats."""
    text = ""
    if too_few(len(study["bases"]), len(study["seeds"])):
        text += " **A look at its arms, not evidence**: it has too few base models or seeds."
    oracles = [f"`{arm}`" for arm, block in study["arms"].items() if has_oracle(block["settings"])]
    if oracles:
        text += (
            f" {' and '.join(oracles)}: a control, whose reward model is the true check plus noise."
        )
    return text


def plot(rows: Sequence[dict[str, Any]], what: str) -> str:
    """A table whose second column is drawn, one scale for all rows; HTML on lines of its own."""
    known = [row for row in rows if _has_interval(row)]
    ends = [abs(row[end]) for row in known for end in ("ci_low", "ci_high", "delta")]
    reach = max(ends, default=0.0) or 1.0
    step = nice_step(0.4 * reach)  # at most the reach: nice steps are 2.5 apart
    body = "\n".join(_row(row, reach) for row in rows)
    ticks = "".join(
        f'<text x="{_place(mark, reach):.2f}%" y="13">{_signed(mark, "+g")}</text>'
        for mark in (-step, 0.0, step)
    )
    return (
        '<table class="forest">\n'
        f"<thead><tr><th>comparison</th><th>difference in {html.escape(what)}</th>"
        "<th>with its 95 % interval</th><th>verdict</th></tr></thead>\n"
        f"<tbody>\n{body}\n</tbody>\n"
        f'<tfoot><tr><td></td><td><svg class="axis" aria-hidden="true">{ticks}</svg></td>'
        "<td></td><td></td></tr></tfoot>\n</table>"
    )


def _row(row: dict[str, Any], reach: float) -> str:
    name = f"{row['method']} against {row['baseline']}" + (" ◆" if row["primary"] else "")
    rests = (
        f"{plural(row['n_pairs'], 'pair')} of runs "
        f"({plural(row['n_bases'], 'base')} × {plural(row['n_seeds'], 'seed')}), "
        f"{plural(row['n_problems'], 'problem')} × {plural(row['n_samples'], 'sample')}"
    )
    if row["missing_pairs"]:
        rests += f"; {row['missing_pairs']} pairs are missing"
    if row["unequal_budget"]:
        rests += f"; other budget: {', '.join(row['unequal_budget'])}"
    look = _LOOKS.get(row["verdict"], "open")
    cells = [f"{html.escape(name)}<small>{html.escape(rests)}</small>", _strip(row, reach, look)]
    why = f"<small>{html.escape(row['why'])}</small>" if row["why"] and _has_interval(row) else ""
    cells += [_number(row), f'<span class="{look}">{html.escape(row["verdict"])}</span>{why}']
    marked = zip(("name", "strip", "number", "verdict"), cells, strict=True)
    return "<tr>" + "".join(f'<td class="{kind}">{cell}</td>' for kind, cell in marked) + "</tr>"


def _strip(row: dict[str, Any], reach: float, look: str) -> str:
    zero = '<line class="zero" x1="50%" x2="50%" y1="0" y2="100%"/>'
    if not _has_interval(row):
        return f'<svg class="{look}" role="img" aria-label="no interval">{zero}</svg>'
    low, high, at = (_place(row[end], reach) for end in ("ci_low", "ci_high", "delta"))
    return (
        f'<svg class="{look}" role="img" aria-label="{_number(row)}">{zero}'
        f'<line x1="{low:.2f}%" x2="{high:.2f}%" y1="50%" y2="50%"/>'
        f'<circle cx="{at:.2f}%" cy="50%" r="4.5"/></svg>'
    )


def _number(row: dict[str, Any]) -> str:
    if not _has_interval(row):
        return f"undefined: {html.escape(row['why'] or 'no interval')}"
    low, high = _signed(row["ci_low"]), _signed(row["ci_high"])
    return f"{_signed(row['delta'])} [{low}, {high}]"


def _has_interval(row: dict[str, Any]) -> bool:
    return all(row[end] is not None for end in ("delta", "ci_low", "ci_high"))


def _place(value: float, reach: float) -> float:
    return 50.0 + 44.0 * value / reach


def _signed(value: float, shape: str = "+.3f") -> str:
    text = f"{value:{shape}}"
    return "0" if float(text) == 0 else text.replace("-", "\N{MINUS SIGN}")
