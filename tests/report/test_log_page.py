"""The page of a log without a browser: what it shows, of what, and how little it trusts a log."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from outline import Outline

from rekindle.report.log_page import log_names, render_logs
from rekindle.report.log_rollouts import ANSWERS, EACH, WHY, choose, rollouts
from rekindle.report.log_tables import KINDS, MOST_PROMPTS, behind, prompt_lines
from rekindle.signals.run_diagnosis.compare import pair_logs
from rekindle.signals.run_diagnosis.diagnose_log import diagnose_log
from rekindle.signals.run_diagnosis.log_finding import LogFinding
from synthetic_logs import SCRIPT, fair, hard, make_trl, make_verl


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("logs")


@pytest.fixture(scope="module")
def verl(place):
    return diagnose_log(make_verl(place / "verl" / "rollouts", rate=hard, long=True))


@pytest.fixture(scope="module")
def trl(place):
    return diagnose_log(make_trl(place / "trl", rate=fair))


def page_of(place, *diagnoses):
    paths = [place / "verl" / "rollouts", place / "trl"][-len(diagnoses) :]
    return render_logs(paths, diagnoses, pair_logs(diagnoses))


@pytest.fixture(scope="module")
def one(place, trl):
    return page_of(place, trl)


@pytest.fixture(scope="module")
def two(place, verl, trl):
    return page_of(place, verl, trl)


def test_the_verdict_and_the_next_step_come_first(place, verl):
    text = Outline(render_logs([place / "verl"], [verl], [])).text
    verdict, step = text.index("they move nothing (too_hard)"), text.index("Next step: easier")
    assert verdict < step < text.index("What would bring the signal back")


def test_every_finding_has_its_number_and_what_it_rests_on(one, trl):
    text = Outline(one).text
    for finding in trl.findings:
        assert finding.name in text
        assert " ".join(finding.says.split()) in text
        assert " ".join(finding.rests_on.split()) in text
        if finding.null:
            assert " ".join(finding.null.split()) in text
    for remedy in trl.remedies:
        assert " ".join(remedy.why.split()) in text
    for sentence in trl.not_told:
        assert " ".join(sentence.split()) in text


def test_the_subject_that_the_cause_rests_on_is_open(place, verl):
    outline = Outline(render_logs([place / "verl"], [verl], []))
    opened = [attrs for tag, attrs in outline.tags if tag == "details" and "open" in attrs]
    assert "share/all_wrong" in verl.cause.rests_on
    assert any("subject" in attrs.get("class", "") for attrs in opened)
    assert [a for t, a in outline.tags if t == "tr" and a.get("class") == "main"]


def test_a_prompt_and_an_answer_cannot_act(two):
    outline = Outline(two)
    assert SCRIPT in outline.text
    assert "HACKED" not in "".join(c for _, a, c in outline.scripts if a.get("type") is None)
    assert not [tag for tag, attrs in outline.tags if tag == "img" or "onerror" in attrs]
    answers = [a["text"] for group in outline.data("groups-data") for a in group["answers"]]
    assert any(SCRIPT in answer for answer in answers)


def test_nothing_is_loaded(two):
    tags = Outline(two).tags
    (policy,) = (a["content"] for _, a in tags if "http-equiv" in a)
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert not [a for _, a in tags if a.get("src") or a.get("href", "#")[:1] not in "#d"]


def test_the_same_logs_give_the_same_bytes(place, verl, trl, two):
    assert page_of(place, verl, trl) == two


def test_logs_are_set_side_by_side(two, trl, verl):
    text = Outline(two).text
    (pair,) = pair_logs([verl, trl])
    assert f"{pair.shared} prompts in both, character by character" in text
    assert "the difference over shared prompts" in text
    assert {group["log"] for group in Outline(two).data("groups-data")} == {"verl/rollouts", "trl"}


def test_what_is_undefined_is_no_number(one):
    assert "nan" not in Outline(one).text.split()
    json.loads(json.dumps(Outline(one).data("groups-data"), allow_nan=False))


def test_one_step_and_none_have_no_figures(tmp_path, place):
    path = tmp_path / "log.jsonl"
    rows = [{"prompt": f"p{i // 4}", "text": str(i), "score": i % 2} for i in range(32)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    for columns in ({}, {"step": "step"}):
        path.write_text("".join(json.dumps(row | dict.fromkeys(columns, 1)) + "\n" for row in rows))
        told = diagnose_log(path, columns={k: k for k in ("prompt", "text", "score", *columns)})
        html = render_logs([path], [told], [])
        assert "fewer than two steps" in Outline(html).text
        assert Outline(html).data("figures-data") == {}


# --- prompts


def test_the_prompt_table_is_cut_and_says_so(verl):
    rows = [verl.prompts[i % len(verl.prompts)]._replace(kind=kind)
            for i, kind in enumerate(["never"] * 400 + ["went"] * 3 + ["mixed"] * 250)]  # fmt: skip
    lines, note = prompt_lines(replace(verl, prompts=rows))
    kinds = [line.kind for line in lines]
    assert len(lines) == MOST_PROMPTS
    assert kinds.count(KINDS["went"]) == 3, "the few are all there"
    assert abs(kinds.count(KINDS["never"]) - kinds.count(KINDS["mixed"])) <= 1
    left = 400 - kinds.count(KINDS["never"]), 250 - kinds.count(KINDS["mixed"])
    assert f"left out: {left[0]} never solved, {left[1]} solved in part." in note
    assert prompt_lines(replace(verl, prompts=rows[:MOST_PROMPTS]))[1] == ""


# --- rollouts


def test_each_class_and_each_finding_has_its_rollouts(trl):
    chosen = choose(trl)
    groups = [one.group for one in chosen]
    assert len(set(groups)) == len(groups)
    shown = {why for one in chosen for why in one.why}
    assert {"all_wrong", "mixed", "all_right"} <= shown
    assert max(sum(why in one.why for one in chosen) for why in shown) <= EACH
    classes = {"all_wrong": 0, "mixed": 2, "all_right": 3}
    for one in chosen:
        place = trl.table.row_N[one.rows[0]]
        for why in classes.keys() & set(one.why):
            assert trl.table.class_P[place] == classes[why]
        assert len({trl.log.group_N[row] for row in one.rows}) == 1


def test_rows_that_are_no_data_are_shown_as_that(trl):
    log = trl.log
    first, last = log.group_N == 0, log.group_N == log.group_N.max()
    told = replace(trl, log=replace(log, repeated_N=first, evaluation_N=last))
    by_why = {why: one for one in choose(told) for why in one.why}
    assert first[by_why["repeated"].rows].all()
    assert last[by_why["evaluation"].rows].all()


def test_a_large_group_shows_the_rows_that_are_meant(tmp_path):
    path = tmp_path / "log.jsonl"
    rows = [{"prompt": "p", "text": str(i), "score": i % 2, "cut": i == 63, "step": 1}
            for i in range(64)]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {key: key for key in ("prompt", "text", "score", "cut", "step")}
    told = diagnose_log(path, columns=columns)
    (cut,) = (one for one in choose(told) if "cut" in one.why)
    assert (len(cut.rows), cut.size, cut.rows[-1]) == (ANSWERS, 64, 63)
    (group,) = rollouts("log", tmp_path, told, 10**6).groups
    assert group["answers"][-1]["flags"] == ["cut by the token limit"]
    assert group["answers"][-1]["place"] == "log.jsonl, row 64"


def test_rows_that_a_check_names_are_shown_as_that(tmp_path):
    """Two thirds of the accepted answers are wrong by our check, and one of those refused right."""
    path = tmp_path / "log.jsonl"
    rows = [{"prompt": f"p{i // 4}", "gold": "7", "score": int(i % 4 < 3), "step": i // 8,
             "text": "7" if i % 4 in (0, 3) else f"8{i}"} for i in range(64)]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    columns = {key: key for key in ("prompt", "text", "score", "gold", "step")}
    told = diagnose_log(path, columns=columns, check="exact")
    groups = rollouts("log", tmp_path, told, 10**6).groups
    assert {"false_accepts", "false_rejects"} <= {why for group in groups for why in group["why"]}
    for group in groups:
        flags = [answer["flags"] for answer in group["answers"]]
        accepted, refused = [WHY["false_accepts"]], [WHY["false_rejects"]]
        assert flags == [[], accepted, accepted, refused]
    buttons = {a["data-why"] for _, a in Outline(render_logs([path], [told], [])).tags
               if "data-why" in a}  # fmt: skip
    assert {"false_accepts", "false_rejects"} <= buttons


def test_an_answer_stands_where_its_file_has_it(place, trl):
    from pyarrow import parquet

    for group in rollouts("trl", place / "trl", trl, 10**7).groups:
        for answer in group["answers"]:
            file, row = answer["place"].split(", row ")
            table = parquet.read_table(place / "trl" / file)
            assert table["completion"][int(row) - 1].as_py() == answer["text"]
            assert table["verifier"][int(row) - 1].as_py() == answer["verdict"]


def test_rollouts_fit_their_bytes(place, verl):
    """Long texts are shortened, and groups left out; one is always there."""
    whole = rollouts("verl", place / "verl" / "rollouts", verl, 10**7)
    assert "characters are left out here; the log has them" in str(whole.groups)
    few = rollouts("verl", place / "verl" / "rollouts", verl, 40_000)
    assert 0 < len(json.dumps(few.groups)) < 60_000
    assert len(few.groups) < len(whole.groups)
    assert len(rollouts("verl", place / "verl" / "rollouts", verl, 0).groups) == 1
    assert f"{len(few.groups)} of {len(np.unique(verl.log.group_N))} groups" in few.note


def test_texts_are_read_again_where_they_were_not_kept(place, verl):
    kept = rollouts("a", place / "verl" / "rollouts", verl, 10**7)
    told = replace(verl, log=replace(verl.log, texts=None))
    assert rollouts("a", place / "verl" / "rollouts", told, 10**7) == kept


def test_what_is_behind_a_finding_is_a_known_reason(trl, verl):
    for told in (trl, verl):
        found = [behind(finding.name) for finding in told.findings]
        assert set(found) - {""} <= WHY.keys()
        assert {"all_wrong", "mixed", "never"} <= set(found)


def test_a_button_is_only_where_there_are_rollouts(one, trl):
    there = {why for group in Outline(one).data("groups-data") for why in group["why"]}
    buttons = {attrs["data-why"] for _, attrs in Outline(one).tags if "data-why" in attrs}
    assert buttons <= there
    assert "mixed" in buttons


# --- small things


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["runs/a"], ["a"]),
        (["runs/a/rollouts"], ["a/rollouts"]),
        (["runs/a", "runs/b"], ["a", "b"]),
        (["runs/a", "runs/b/rollouts"], ["a", "b/rollouts"]),
        (["x/a/out", "x/b/out"], ["a/out", "b/out"]),
        (["a", "a"], ["a (1)", "a (2)"]),
    ],
)
def test_logs_have_short_names(paths, names):
    assert log_names([Path(path) for path in paths]) == names


def test_a_finding_with_one_bound_says_so(trl, place):
    found = LogFinding("coverage/removed", 0.2, 0.1, float("nan"), 9, "says", "rests", "null", 1e-5)
    text = Outline(render_logs([place], [replace(trl, findings=[found])], [])).text
    assert "at least 0.1" in text
    assert "null; p 1e-05" in text
