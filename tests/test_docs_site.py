"""The documentation site: what makes its build fail, what its pages say, that it opens offline."""

import ast
import json
import re
import shutil
from pathlib import Path

import pytest

from rekindle.cli.main import COMMANDS
from rekindle.methods.catalog import METHODS
from sitegen import build as site_build
from sitegen.build import DocsError, build, missing_pages, pages_of
from sitegen.links import faults
from sitegen.markdown import of_docstring, page_of, spaced
from sitegen.measured import measured, methods_of_arms, plot, section
from sitegen.methods import generated_part, method_files
from sitegen.undocumented import undocumented

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "rekindle"

DOCUMENTED = '''"""A module."""

from typing import NamedTuple, Protocol

from rekindle.engine.config import Section


class Config(Section):
    """Settings."""

    rate: float = Field(default=1.0, description="how fast")
    inner: Other = Other()


class Other(Section):
    """More."""


class Box:
    """A box."""

    def open(self):
        """Open it."""

    def _shake(self):
        return 1


class Promise(Protocol):
    """What is promised."""

    def keep(self):
        """As promised."""


class Kept:
    """One that keeps it."""

    def keep(self):
        return 2


def use():
    """Use it."""


def _hidden():
    return 3
'''


@pytest.fixture(scope="module")
def pages():
    """Every page of the site; it takes seconds to make them."""
    return pages_of(ROOT)


def found_in(tmp_path, text):
    (tmp_path / "one.py").write_text(text)
    return undocumented(tmp_path)


def test_what_is_documented_passes(tmp_path):
    assert found_in(tmp_path, DOCUMENTED) == []


@pytest.mark.parametrize(
    ("gone", "name"),
    [
        ('"""A module."""', "the module"),
        ('"""Settings."""', "Config"),
        ('"""A box."""', "Box"),
        ('"""Open it."""', "Box.open"),
        ('"""Use it."""', "use"),
        ('"""As promised."""', "Promise.keep"),
        (', description="how fast"', "Config.rate (a description)"),
    ],
)
def test_what_lost_its_words_is_named(tmp_path, gone, name):
    assert gone in DOCUMENTED
    text = DOCUMENTED.replace(gone, "..." if gone.startswith('"') else "")
    assert f"one.py: {name}" in found_in(tmp_path, text)


def test_the_build_stops_at_an_undocumented_name(tmp_path):
    package = tmp_path / "rekindle"
    shutil.copytree(PACKAGE, package, ignore=shutil.ignore_patterns("weights", "recipes"))
    path = package / "tasks" / "task.py"
    text = path.read_text()
    doc = ast.get_docstring(
        next(n for n in ast.parse(text).body if vars(n).get("name") == "split_of")
    )
    path.write_text(text.replace(f'"""{doc}"""', "..."))
    with pytest.raises(DocsError, match=r"not documented:\n  tasks/task\.py: split_of$"):
        build(ROOT, tmp_path / "work", tmp_path / "site", package)
    assert not (tmp_path / "site").exists()


def test_the_build_stops_at_a_method_without_a_page(tmp_path):
    root = tmp_path / "repository"
    shutil.copytree(ROOT / "docs", root / "docs")
    assert missing_pages(root) == []
    (root / "docs" / "methods" / "lens.md").unlink()
    with pytest.raises(DocsError, match=r"lens \(docs/methods/lens\.md\)"):
        build(root, tmp_path / "work", tmp_path / "site", PACKAGE)


def test_a_page_that_the_navigation_forgets_is_named(pages, tmp_path, monkeypatch):
    more = {**pages, "lost.md": "# Lost"}
    monkeypatch.setattr(site_build, "pages_of", lambda _root: more)
    with pytest.raises(DocsError, match=r"nav, or only there:\n  lost\.md$"):
        build(ROOT, tmp_path / "work", tmp_path / "site")


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<a href="b.html">', None),
        ('<a href="b.html#here">', None),
        ('<a href="https://example.org/">', None),
        ('<a href="c.html">', "a.html: c.html leads nowhere"),
        ('<a href="b.html#gone">', "a.html: b.html#gone leads nowhere"),
        ('<a href="#gone">', "a.html: #gone leads nowhere"),
        ('<img src="no.png">', "a.html: no.png leads nowhere"),
        ('<script src="https://cdn.org/x.js"></script>', "https://cdn.org/x.js is not in the site"),
        ('<link rel="stylesheet" href="//cdn.org/x.css">', "//cdn.org/x.css is not in the site"),
    ],
)
def test_links_that_lead_nowhere_and_files_from_the_network(tmp_path, body, fault):
    (tmp_path / "a.html").write_text(body)
    (tmp_path / "b.html").write_text('<h1 id="here">B</h1>')
    found = faults(tmp_path)
    assert found == [] if fault is None else fault in found[0]


def test_a_style_from_the_network_is_a_fault(tmp_path):
    (tmp_path / "a.css").write_text("@import url('https://fonts.org/x');")
    assert faults(tmp_path) == ["a.css: loads from the network"]


def test_lists_and_sections_of_docstrings_become_markdown():
    assert spaced("Why:\n* one\n  more\n* two") == "Why:\n\n* one\n  more\n* two"
    assert spaced("```\na\n* b\n```") == "```\na\n* b\n```"
    doc = "Do it.\n\nArgs:\n    x: a <thing>\n        that goes on.\n\nRaises:\n    Oops: no."
    assert of_docstring(doc) == (
        "Do it.\n\n\n**Args**\n\n* `x`: a &lt;thing&gt;\n    that goes on.\n\n\n**Raises**\n\n"
        "* `Oops`: no."
    )


def test_pages_that_are_named_in_code_become_links():
    pages = {"study.md", "methods/lens.md"}
    assert page_of("See `docs/study.md`.", "methods/lens.md", pages) == (
        "See [`docs/study.md`](../study.md)."
    )
    assert page_of("`docs/none.md`", "study.md", pages) == "`docs/none.md`"
    assert page_of("    `docs/study.md`", "methods/lens.md", pages) == "    `docs/study.md`"


@pytest.mark.parametrize("name", method_files())
def test_a_method_page_has_its_settings_presets_and_words(name):
    text = generated_part(name, ROOT)
    for method in method_files()[name]:
        assert f"<code>{method.replace('_', '&#95;')}</code>" in text
    assert "Known failure modes" in text
    assert "arXiv:" in text


def test_measured_differences_come_with_interval_and_counts():
    rows = 0
    for file in method_files():
        for found in measured(ROOT / "results" / "studies", file):
            drawn = plot(found.comparisons, "x")
            assert drawn.count("<circle") == len(found.comparisons)
            for row in found.comparisons:
                assert METHODS[found.arms[row["method"]]].section == file
                shown = f"{row['delta']:+.3f} [{row['ci_low']:+.3f}, {row['ci_high']:+.3f}]"
                shown = re.sub(r"[+-]0\.000\b", "0", shown).replace("-", "\N{MINUS SIGN}")
                assert f">{shown}</td>" in drawn
                assert f"{row['n_problems']} problem" in drawn
                rows += 1
    assert rows > 20


def test_studies_say_what_they_are_not_and_how_to_run_them_again():
    studies = ROOT / "results" / "studies"
    told = {found.name: section(found) for found in measured(studies, "hero")}
    assert "A look at its arms, not evidence" in told["hero"]
    assert "A look" not in told["hero_confirm"]
    assert "`hero` and `rm_only`: a control" in told["hero_confirm"]
    assert "true check plus noise" not in told["hero"]
    again = "rekindle study results/studies/hero/study.yaml --out runs/hero"
    assert again in told["hero"]


def test_a_comparison_without_an_interval_shows_no_number():
    row = {
        "method": "a<b", "baseline": "b", "primary": True, "delta": 0.5, "ci_low": None,
        "ci_high": None, "n_pairs": 1, "n_bases": 1, "n_seeds": 1, "n_problems": 3, "n_samples": 2,
        "missing_pairs": 1, "unequal_budget": [], "verdict": "cannot tell yet", "why": "one run",
    }  # fmt: skip
    drawn = plot([row], "pass@1")
    assert "0.5" not in drawn.replace('"50%"', "").split("<tfoot>")[0]
    assert "undefined: one run" in drawn
    assert "a&lt;b against b" in drawn


def test_a_verdict_stands_with_its_reason():
    found = {f.name: f for f in measured(ROOT / "results" / "studies", "temporal")}
    drawn = plot(found["temporal_confirm"].comparisons, "pass@1")
    why = "above 0, but smaller than what was declared to matter"
    assert f">helps</span><small>{why}</small></td>" in drawn
    assert ">does not</span></td>" in drawn


def test_arms_take_the_recipes_method_where_they_name_none(tmp_path):
    (tmp_path / "study.yaml").write_text(
        json.dumps({"recipe": {"method": "sft"}, "arms": {"x": {}, "y": {"method": "wmss"}}})
    )
    assert methods_of_arms(tmp_path / "study.yaml") == {"x": "sft", "y": "wmss"}


def test_every_command_and_public_name_has_its_place(pages):
    assert len(COMMANDS) > 10
    for name in COMMANDS:
        headings = f"## `rekindle {name}`", f"## `rekindle {name} "  # a command, a group
        assert any(heading in pages["cli.md"] for heading in headings)
    assert "--resume" in pages["cli.md"]
    for name in ("Policy", "train", "RekindleError", "load_task"):
        assert f"## `{name}`" in pages["python.md"]
    assert "optim.lr" in pages["recipes.md"]


def test_the_python_page_keeps_what_was_written_by_hand(pages):
    text = (ROOT / "docs" / "python.md").read_text()
    by_hand, generated = pages["python.md"].split("\n## Every public name\n")
    assert re.findall(r"^#+ .*$", by_hand, re.MULTILINE) == re.findall(
        r"^#+ .*$", text, re.MULTILINE
    )
    assert generated.count("\n## `train`\n") == 1


def test_the_index_of_the_log_has_every_entry():
    top, *entries = re.split(r"^## (?=\d{4})", (ROOT / "docs" / "LOG.md").read_text(), flags=re.M)
    linked = re.findall(r"\]\(#([\w-]+)\)", top)
    heads = [entry.partition("\n")[0] for entry in entries]
    assert len(heads) > 20
    anchors = [re.sub(r"[^\w -]", "", head.lower()).replace(" ", "-") for head in heads]
    assert set(linked) == set(anchors)


@pytest.mark.slow
def test_the_site_builds_and_needs_no_network(tmp_path):
    pytest.importorskip("zensical")
    site = tmp_path / "site"
    build(ROOT, tmp_path / "work", site)
    for name in method_files():
        page = (site / "methods" / f"{name}.html").read_text()
        assert "What has been measured" in page
        assert "Every setting" in page
    assert 'class="forest"' in (site / "methods" / "lens.html").read_text()
    assert faults(site) == []
    assert "unpkg" not in "".join(path.read_text() for path in site.rglob("*.html"))
