"""The page: self-contained, escaped, the same bytes twice, and never a traceback."""

import base64
import hashlib
import html
import html.parser
import itertools
import json
import re
import subprocess
import sys
from dataclasses import replace
from importlib.resources import files

import pytest
import synthetic_runs as synthetic
import yaml
from outline import Outline

from rekindle.errors import RekindleError, RunDirectoryError
from rekindle.report import page
from rekindle.report.intervals import whiskers
from rekindle.report.page import build_report, island
from rekindle.report.run_files import Metric
from rekindle.report.verdict import VerdictRow


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    place = tmp_path_factory.mktemp("page")
    runs = [
        synthetic.make_run(place / "grpo-s0", hostile=True),
        synthetic.make_run(place / "sft", method="sft", task="addition"),
        synthetic.make_run(place / "grpo-half", gain=-0.8, steps=40, planned=100),
    ]
    out = build_report(runs, place / "report.html")
    return runs, out, Outline(out.read_text(encoding="utf-8"))


def test_numbers_on_the_page_are_those_of_the_evaluation(built):
    runs, _, outline = built
    for run in runs:
        after = json.loads((run / "eval.json").read_text())
        for block in (after, *after["levels"].values()):
            cell = block["metrics"]["pass@1"]
            value, low, high = (f"{100 * cell[k]:.1f}" for k in ("value", "ci_low", "ci_high"))
            assert f"{value} % [{low}, {high}]" in outline.text
            cell = block["metrics"]["pass@8"]
            assert f"n = {cell['n']}" in outline.text
    assert "Unfinished: 40 of 100 steps" in outline.text
    assert "one seed decides nothing" in outline.text


def test_the_page_is_complete_and_well_ordered(built):
    _, out, outline = built
    headings = [tag for tag, _ in outline.tags if re.fullmatch(r"h[1-6]", tag)]
    assert headings[0] == "h1"
    assert headings.count("h1") == 1
    for before, after in itertools.pairwise(headings):
        assert int(after[1]) <= int(before[1]) + 1, "no level of heading is skipped"
    ids = [attrs["id"] for _, attrs in outline.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for tag, attrs in outline.tags:
        if tag == "a":
            assert attrs["href"].removeprefix("#") in ids
        if "aria-labelledby" in attrs:
            assert attrs["aria-labelledby"] in ids
    drawn = [attrs["data-figure"] for _, attrs in outline.tags if "data-figure" in attrs]
    assert sorted(drawn) == sorted(outline.data("figures-data"))
    assert all(attrs["aria-label"] for _, attrs in outline.tags if "data-figure" in attrs)
    assert out.stat().st_size < 4_000_000


def test_nothing_can_be_loaded_and_only_our_scripts_may_run(built):
    outline = built[2]
    (policy,) = [
        attrs["content"] for _, attrs in outline.tags if "content-security" in str(attrs).lower()
    ]
    assert "default-src 'none'" in policy
    assert "unsafe-eval" not in policy
    assert "unsafe-inline" not in policy.split("style-src")[0]
    scripts = [text for tag, attrs, text in outline.scripts if tag == "script" and not attrs]
    assert len(scripts) == 6
    for text in scripts:
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    for tag, attrs in outline.tags:
        assert tag not in ("iframe", "object", "embed", "base")
        assert not attrs.get("src")
        assert not [name for name in attrs if name.startswith("on")]
        assert attrs.get("href", "#").startswith(("#", "data:,"))


def test_model_text_stays_data(built):
    _, out, outline = built
    raw = out.read_bytes()
    assert b"\x00" not in raw
    assert "<script>window.HACKED" not in raw.decode()
    assert "<img src=x" not in raw.decode()
    for _, attrs, content in outline.scripts:
        if attrs.get("type") == "application/json":
            assert not set("<>&\u2028\u2029") & set(content)
    pile = outline.data("rollouts-data")[0]
    texts = {row[pile["columns"].index("text")] for row in pile["rows"]}
    whole = [text for text in synthetic.HOSTILE if "\ud83d" not in text]
    assert set(whole) <= texts, "what the model wrote arrives unchanged"
    assert not any("\ud83d" in text for text in texts)
    assert any("characters are left out here" in text for text in texts)


def test_an_island_cannot_end_its_element():
    value = {"</script><!--": ["\u2028\u2029<>&", None, 1.5, True]}
    text = str(island(value))
    assert json.loads(text) == value
    assert not set("<>&\u2028\u2029") & set(text)
    with pytest.raises(ValueError, match="JSON"):
        island([float("nan")])


def test_names_commands_and_settings_are_escaped(tmp_path):
    run = synthetic.make_run(tmp_path / "<img src=x onerror=alert(1)>", steps=2)
    hostile = '"><script>alert(1)</script>\u202e & \x07'
    manifest = json.loads((run / "manifest.json").read_text())
    (run / "manifest.json").write_text(json.dumps({**manifest, "command": hostile}))
    config = yaml.safe_load((run / "config.yaml").read_text())
    config["task"]["name"] = hostile
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    row = json.loads((run / "metrics.jsonl").read_text().split("\n")[0])
    bad_key = {**row, "step": 3, hostile: 1.0, "'] + (": 2.0}
    synthetic.lines(run / "metrics.jsonl", [{**bad_key, "step": s} for s in (1, 2)])
    out = build_report([run], tmp_path / "out.html", title="<b>title</b>")
    text = out.read_text()
    outline = Outline(text)
    assert "<b>title" not in text
    assert not [tag for tag, _ in outline.tags if tag in ("img", "b")]
    assert "<script>alert" not in text
    assert "\x07" not in text
    assert "\u202e" not in text
    assert '"><script>alert(1)</script>' in html.unescape(outline.text)
    assert [t for t, a in outline.tags if t == "script" and not a] == ["script"] * 6


def test_the_same_runs_give_the_same_bytes(built, tmp_path):
    runs, out, _ = built
    assert build_report(runs, tmp_path / "again.html").read_bytes() == out.read_bytes()


def test_given_claims_replace_those_found(built, tmp_path):
    runs, _, _ = built
    low = Metric(0.125, 0.1, 0.15, 77)
    row = VerdictRow("my arm", "level 9", "pass@1", "test", low, low, low, 77, 5, main=True)
    outline = Outline(build_report(runs[:1], tmp_path / "o.html", verdict_rows=[row]).read_text())
    assert "my arm: pass@1 on level 9 went from 12.5 % to 12.5 %" in outline.text
    assert "77 × 5" in outline.text
    empty = Outline(build_report(runs[:1], tmp_path / "e.html", verdict_rows=[]).read_text())
    assert "No claim can be made." in empty.text


def test_the_drawn_interval_lies_where_its_numbers_say():
    rows = [
        VerdictRow("a", "x", "pass@1", "dev", None, None, Metric(value, low, high, 1), 1, 1)
        for value, low, high in ((0.1, 0.05, 0.2), (-0.15, -0.2, 0.0))
    ]
    place = whiskers(rows)
    assert place(rows[0]) == (121.0, 142.0, 184.0)
    assert place(rows[1]) == (16.0, 37.0, 100.0)
    small = replace(rows[0], metric="brier", change=Metric(0.01, 0.005, 0.02, 1))
    assert whiskers([*rows, small])(small) == (102.1, 104.2, 108.4)
    assert whiskers([*rows, small], by_metric=True)(small) == place(rows[0])


MISSING = {
    "config.yaml": "config.yaml is missing",
    "manifest.json": "The command was not recorded",
    "metrics.jsonl": "No step was logged",
    "samples.jsonl": "run logged no rollouts",
    "eval": "No run has been evaluated yet",
    "everything but one row": "not compared",
}


@pytest.mark.parametrize("missing", MISSING)
def test_missing_pieces_become_words(tmp_path, missing):
    run = synthetic.make_run(tmp_path / "run", steps=4, eval_every=2)
    for path in sorted(run.rglob("*"), reverse=True):
        name = str(path.relative_to(run))
        gone = name.startswith(missing) and path.is_file()
        if missing.startswith("everything"):
            gone = path.is_file() and name != "metrics.jsonl"
            if name == "metrics.jsonl":
                path.write_text('{"step": 1}\n')
        if gone:
            path.unlink()
    text = Outline(build_report([run], tmp_path / "out.html").read_text()).text
    assert MISSING[missing] in text


WEIRD = (None, "x", [], {}, -1, 1e308, float("nan"), True, [None, {"a": [1]}], {"value": "x"})


@pytest.mark.parametrize("weird", WEIRD, ids=repr)
def test_any_value_anywhere_is_survived(tmp_path, weird):
    run = synthetic.make_run(tmp_path / "run", steps=4, eval_every=2)

    def spoil(tree, keep=()):
        return {k: v if k in keep else weird for k, v in tree.items()}

    for name in ("metrics.jsonl", "samples.jsonl"):
        rows = [json.loads(line) for line in (run / name).read_text().splitlines()]
        rows = [spoil(row, ("step", "text")) for row in rows] + [spoil(rows[0])]
        synthetic.lines(run / name, rows)
    for name in ("manifest.json", "eval/step-000002.json"):
        tree = json.loads((run / name).read_text())
        (run / name).write_text(json.dumps(spoil(tree, ("metrics",))))
    last = json.loads((run / "eval/step-000004.json").read_text())
    levels = {"3": weird, "4": {"metrics": weird}, "5": {"metrics": {"pass@1": weird}}}
    cells = {"pass@1": {"value": weird}, "pass@2": weird, "odd": last["metrics"]["greedy"]}
    spoilt = {**last, "metrics": cells, "levels": levels, "outcomes": [[weird]] * 120}
    (run / "eval/step-000004.json").write_text(json.dumps(spoilt))
    config = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(yaml.safe_dump({**spoil(config), 7: weird}))
    build_report([run, synthetic.make_run(tmp_path / "good", steps=4)], tmp_path / "out.html")


def test_refusals_come_before_anything_is_written(tmp_path):
    run = synthetic.make_run(tmp_path / "run", steps=2)
    with pytest.raises(RunDirectoryError, match="not a run directory"):
        build_report([run, tmp_path], tmp_path / "out.html")
    assert not (tmp_path / "out.html").exists()
    with pytest.raises(RekindleError):
        build_report([run], run)


def test_every_template_ships_and_is_small():
    for path in (files("rekindle.report") / "templates").iterdir():
        assert len(path.read_text().splitlines()) <= 400, path.name
    assert len(page.vega_bundle()) < 1_500_000


def test_importing_the_report_does_not_import_torch():
    heavy = "{'torch', 'transformers', 'vl_convert'}"
    code = f"import sys, rekindle.report.page; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
