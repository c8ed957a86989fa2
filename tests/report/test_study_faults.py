"""A study that is incomplete, odd or of another version: clear words, and no wrong number."""

import itertools
import json
import re
import shutil

import pytest
import yaml
from outline import Outline
from synthetic_study import make_study

from rekindle.errors import DataError
from rekindle.report.page import build_report
from rekindle.report.study import load_study_page

ARMS = {"grpo": {"method": "grpo"}, "lens": {"method": "lens"}}


@pytest.fixture
def study(tmp_path):
    return make_study(tmp_path / "study", arms=ARMS)


def page_of(study):
    return Outline(build_report([study], study / "report.html").read_text())


def change(study, edit):
    path = study / "study.json"
    found = json.loads(path.read_text())
    edit(found)
    path.write_text(json.dumps(found))


def test_the_table_says_who_against_whom_how_much_how_sure_and_on_what(study):
    text = page_of(study).text
    row = re.search(
        r"lens declared grpo 40\.0 % (\S+) % (.+?) 1 × 2 × 60 (does not|helps|cannot)", text
    )
    assert row, text[:3000]
    assert row.group(1) == "37.0"
    assert row.group(2) == "\N{MINUS SIGN}3.0 [\N{MINUS SIGN}5.0, \N{MINUS SIGN}1.0]"
    assert row.group(3) == "does not"


def test_what_was_declared_is_shown_with_its_hash(study):
    text = page_of(study).text
    found = json.loads((study / "study.json").read_text())
    assert found["declared"] in text
    assert "primary metric pass@8 on all levels" in text
    assert "study.yaml still has that hash yes" in text
    assert "git checkout 0123456789abcdef" in text
    assert "rekindle study studies/synthetic.yaml --out runs/synthetic-again" in text
    assert "rekindle train study/runs/lens/countdown-s0/seed-0/config.yaml" in text


@pytest.mark.parametrize(
    ("command", "again", "file"),
    [
        ("rekindle study s.yaml --out a/b --jobs 2 --resume",
         "rekindle study s.yaml --jobs 2 --out a/b-again", "s.yaml"),
        ("rekindle study s.yaml --from old --out=b/ --set 'seeds=[0, 1]'",
         "rekindle study s.yaml --set 'seeds=[0, 1]' --out b-again", "s.yaml"),
        ("rekindle quickstart", "rekindle study study.yaml --out runs/synthetic-again",
         "study.yaml"),
        ("an 'open quote", "rekindle study study.yaml --out runs/synthetic-again", "study.yaml"),
    ],
)  # fmt: skip
def test_it_is_run_again_by_its_own_command_into_another_directory(study, command, again, file):
    change(study, lambda found: found.update(command=command))
    rerun = load_study_page(study).rerun
    assert rerun.again.splitlines() == [f"git checkout {'0123456789abcdef' * 2}01234567", again]
    assert rerun.notes[0].startswith(f"If {file} is not there, save the study file below")


def test_code_of_several_commits_and_sessions_are_told(study):
    path = study / "runs/lens/countdown-s0/seed-1/manifest.json"
    other = {**json.loads(path.read_text()), "commit": "f" * 40, "finished": "2026-07-02T00:00:00Z"}
    path.write_text(json.dumps(other))
    (study / "sessions.json").write_text(json.dumps([{"jobs": 2}, {"jobs": 2}]))
    rerun = load_study_page(study).rerun
    assert "The runs were not all made by the same code: 2 runs by" in rerun.notes[1]
    assert "1 run by 0.1.0, commit ffffffffff" in rerun.notes[1]
    said = dict(rerun.environment.rows)
    assert (said["sessions"], said["finished"]) == ("2", "2026-07-02T00:00:00Z")
    change(study, lambda found: found.update(unfinished=3))
    assert dict(load_study_page(study).rerun.environment.rows)["finished"] == "no: 3 runs left"


def test_the_words_fit_metrics_of_which_less_is_better(study):
    page = load_study_page(study)
    assert "lies on the better side of 0" in page.caution
    assert "no improvement of 1.0 points or more lies in it" in page.caution
    assert "Only the declared row decides. The other 2 rows are exploratory" in page.caution
    said = dict(page.rerun.declared.rows)
    assert said["smallest difference that would matter"] == "1.0 points"


def test_an_unequal_budget_is_not_called_equal(study):
    def spend(found):
        found["budget"].update(at_most=None, unequal={"lens": 2.0})

    assert "budget: updates, at most 400 a run" in load_study_page(study).costs.caption
    change(study, spend)
    page = load_study_page(study)
    assert "budget: updates, not equal for all arms" in page.costs.caption
    assert dict(page.rerun.declared.rows)["budget, not held equal"] == "updates"
    assert "held equal" not in dict(page.rerun.declared.rows)


def test_a_note_on_an_arm_that_is_complete_is_not_called_missing(study):
    for file in study.glob("runs/*/*/*/eval/step-000000.json"):
        file.unlink()
    text = page_of(study).text
    assert text.count("Notes on grpo and lens every run: Not evaluated before") == 1
    assert "Missing or unfinished" not in text


def test_a_study_file_that_was_changed_by_hand_is_noticed(study):
    tree = yaml.safe_load((study / "study.yaml").read_text())
    (study / "study.yaml").write_text(yaml.safe_dump({**tree, "seeds": [7]}))
    text = page_of(study).text
    assert "is not the one that was declared" in text
    assert "study.yaml still has that hash no: it is another file" in text


@pytest.mark.parametrize(
    ("claim", "said"),
    [("A helps", "A helps."), ("Does it? ", "Does it?"), ("", None)],
)
def test_the_claim_is_a_sentence_of_its_own(study, claim, said):
    change(study, lambda found: found.update(claim=claim))
    told = load_study_page(study).summary
    assert told[0] == said if said else "finished runs" in told[0]


def test_a_noted_change_counts_with_its_own_hash(study):
    tree = yaml.safe_load((study / "study.yaml").read_text())
    page = load_study_page(study)
    assert dict(page.rerun.declared.rows)["study.yaml still has that hash"] == "yes"
    note = {"when": "today", "finished_runs": 3, "declared": "c0ffee", "changes": ["seeds: 1 -> 2"]}
    change(study, lambda found: found["changes"].append(note))
    text = page_of(study).text
    assert "changed on today, after 3 finished runs: seeds: 1 -> 2" in text
    assert "c0ffee" in text
    assert "is not the one that was declared" in text
    assert tree["study"] == "synthetic"


def test_run_directories_that_are_gone_leave_the_verdicts(study):
    before = load_study_page(study)
    shutil.rmtree(study / "runs" / "lens" / "countdown-s0" / "seed-1")
    page = load_study_page(study)
    assert page.claims == before.claims
    assert any("Not here: 1 of 4 run directories (lens, testbed/countdown-s0, seed 1)" in note
               for note in page.notes)  # fmt: skip
    assert "do not have the same runs" in page.curves_note
    assert "grpo 2 and lens 1" in page.curves_note
    shutil.rmtree(study / "runs")
    text = page_of(study).text
    assert "Not here: 4 of 4 run directories" in text
    assert "lens declared grpo 40.0 %" in text
    assert "46,000" in text, "costs are those of study.json"


def test_runs_without_weights_and_texts_are_shown(study):
    for path in (study / "runs").rglob("samples.jsonl"):
        path.unlink()
    outline = page_of(study)
    assert "logged no rollouts, or they are not here" in outline.text
    assert outline.data("rollouts-data") == []


def test_evaluations_on_other_problems_are_not_averaged_with_the_rest(study):
    run = study / "runs" / "lens" / "countdown-s0" / "seed-0"
    whole = load_study_page(study).arms[1].evaluations
    for path in (run / "eval").iterdir():
        tree = json.loads(path.read_text())
        tree["problems"][0]["id"] = "another"
        tree["metrics"]["pass@1"]["value"] = 0.999
        path.write_text(json.dumps(tree))
    page = load_study_page(study)
    assert any("5 evaluations on other problems than those of grpo" in note for note in page.notes)
    arm = page.arms[1].evaluations
    assert [e.n_runs for e in arm] == [1] * 5
    assert max(e.metrics["pass@1"].value for e in arm) < 0.9
    assert [e.n_runs for e in whole] == [2] * 5


def test_a_metric_that_was_not_measured_has_no_number(study):
    def edit(found):
        row = found["comparisons"][0]
        row |= dict.fromkeys(("before", "after", "delta", "ci_low", "ci_high", "p_value", "p_holm"))
        row |= {"n_problems": 0, "verdict": "cannot tell yet", "why": "pass@8 was not measured"}

    change(study, edit)
    text = page_of(study).text
    assert "lens declared grpo pass@8 was not measured cannot tell yet" in text
    assert "pass@8 of lens against grpo: cannot tell yet, because pass@8 was not measured" in text


def test_one_seed_has_no_interval_and_says_so(tmp_path):
    study = make_study(tmp_path / "study", arms=ARMS, seeds=range(1))

    def edit(found):
        found["comparisons"][0] |= {
            "ci_low": None, "ci_high": None, "p_value": None, "p_holm": None,
            "verdict": "cannot tell yet", "why": "one pair of runs decides nothing",
        }  # fmt: skip

    change(study, edit)
    text = page_of(study).text
    assert "(no interval)" in text
    assert "one pair of runs decides nothing" in text
    assert "not evidence for a method" in text
    cell = load_study_page(study).arms[0].evaluations[-1].metrics["pass@1"]
    assert (cell.low, cell.high) == (None, None)


def test_zero_variance_is_an_interval_of_no_width(study):
    change(study, lambda found: found["comparisons"][0].update(delta=0.0, ci_low=0.0, ci_high=0.0))
    run = study / "runs" / "lens" / "countdown-s0"
    shutil.rmtree(run / "seed-1")
    shutil.copytree(run / "seed-0", run / "seed-1")
    assert "0.0 [0.0, 0.0]" in page_of(study).text
    cell = load_study_page(study).arms[1].evaluations[-1].metrics["pass@1"]
    assert cell.low == pytest.approx(cell.value)
    assert cell.high == pytest.approx(cell.value)


def test_nan_is_undefined(study):
    path = study / "study.json"
    edited = re.sub(r'"ci_high": [^,]+', '"ci_high": NaN', path.read_text(), count=1)
    path.write_text(edited)
    text = page_of(study).text
    assert "(no interval)" in text
    assert "nan" not in text.lower().split()


@pytest.mark.parametrize(
    ("edit", "word"),
    [
        (lambda found: found.pop("arms"), "arms"),
        (lambda found: found["comparisons"][0].pop("n_bases"), "comparisons.0.n_bases"),
        (lambda found: found["comparisons"][0].update(verdict="wins"), "comparisons.0.verdict"),
        (lambda found: found["comparisons"][0].update(delta="much"), "comparisons.0.delta"),
        (lambda found: found["arms"]["lens"].pop("spent"), "arms.lens.spent"),
    ],
)
def test_study_json_of_another_version_is_refused_by_name_of_the_field(study, edit, word):
    change(study, edit)
    with pytest.raises(DataError) as caught:
        build_report([study], study / "report.html")
    assert word in str(caught.value)
    assert "--resume" in str(caught.value)
    assert not (study / "report.html").exists()


def test_a_study_that_was_not_summed_up_says_what_to_do(study):
    (study / "study.json").unlink()
    with pytest.raises(DataError, match=r"no study\.json"):
        build_report([study], study / "report.html")


def test_text_of_the_study_is_escaped(study):
    hostile = "<img src=x onerror=alert(1)>\u202e"

    def edit(found):
        found["claim"] = found["command"] = hostile
        found["comparisons"][0]["why"] = hostile
        found["failed"] = [{"arm": hostile, "base": hostile, "seed": 1, "why": hostile}]

    change(study, edit)
    text = build_report([study], study / "report.html").read_text()
    assert "<img src=x" not in text
    assert not [tag for tag, _ in Outline(text).tags if tag == "img"]
    assert "\u202e" not in text


def test_the_page_of_a_study_is_well_ordered(study):
    outline = page_of(study)
    headings = [tag for tag, _ in outline.tags if re.fullmatch(r"h[1-6]", tag)]
    assert headings.count("h1") == 1
    assert all(int(b[1]) <= int(a[1]) + 1 for a, b in itertools.pairwise(headings))
    ids = [attrs["id"] for _, attrs in outline.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    anchors = [a["href"][1:] for tag, a in outline.tags if tag == "a"]
    assert set(anchors) <= set(ids)
    first = next(attrs["id"] for tag, attrs in outline.tags if tag == "section")
    assert first == "verdict"
    drawn = [attrs["data-figure"] for _, attrs in outline.tags if "data-figure" in attrs]
    assert sorted(drawn) == sorted(outline.data("figures-data"))
    again = build_report([study], study / "again.html").read_bytes()
    assert again == (study / "report.html").read_bytes()


def test_an_arm_whose_reward_model_knows_the_truth_is_said_where_the_verdicts_are(study):
    assert "control for a reward model" not in page_of(study).text

    def edit(found):
        found["arms"]["lens"]["settings"]["reward"] = {"source": "oracle"}

    change(study, edit)
    text = page_of(study).text
    assert "lens has a control in place of a reward model: the true check plus noise" in text
    assert text.index("lens has a control") < text.index("lens declared grpo") + 500
