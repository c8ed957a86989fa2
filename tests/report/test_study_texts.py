"""What a study's page carries beside its verdicts: signals, pairs with sources; and its size."""

import json

import pytest
import synthetic_runs as synthetic
from outline import Outline
from synthetic_study import ARMS, NOW, OLD, add_pairs, make_study, score, stage

from rekindle.report.figures import telemetry
from rekindle.report.load import load_run
from rekindle.report.page import build_report
from rekindle.report.spec import packed, run_styles
from rekindle.report.stage_records import pack_pairs
from rekindle.report.study import load_study_page
from rekindle.report.tables import time_parts, tokens


@pytest.fixture
def run(tmp_path):
    place = synthetic.make_run(tmp_path / "run", steps=4, eval_every=2, rollouts=0)
    add_pairs(place, 12)
    return place


def test_the_page_of_a_large_study_stays_small(tmp_path):
    """5 arms x 8 seeds x 200 evaluations and 2,000 rollouts, all of them on the page."""
    study = make_study(
        tmp_path / "study", seeds=range(8), evaluations=200, rollouts=400, text=250, pairs=200
    )
    out = build_report([study], tmp_path / "report.html")
    outline = Outline(out.read_text())
    assert sum(len(pile["rows"]) for pile in outline.data("rollouts-data")) == 2000
    assert sum(len(pile["rows"]) for pile in outline.data("pairs-data")) == 1000
    curve = outline.data("figures-data")["learning-0-0-0"]["data"]["values"]
    assert curve["rows"] == 5 * 200
    assert out.stat().st_size < 4_000_000


def test_a_pair_knows_its_scores_their_marks_and_who_wrote_it(run):
    pair = load_run(run).pairs[5]
    row = json.loads((run / "stages/04-pairs-1/rows.jsonl").read_text().splitlines()[5])
    assert (pair.stage, pair.problem, pair.line) == ("pairs-1", "q5", 6)
    assert pair.path == "stages/04-pairs-1/rows.jsonl"
    assert (pair.chosen.text, pair.rejected.text) == (row["chosen"], row["rejected"])
    assert (pair.chosen.score, pair.rejected.score) == (2.0, 0.5)
    assert pair.facts["gap"] == 1.5
    assert pair.chosen.by == f"current {NOW[:10]}"
    assert pair.rejected.by == f"initial {OLD[:10]}"
    mark = f"{score({'id': 'q5', 'sample': 1}):g}"
    assert pair.chosen.facts["marks of the judge"] == f"{mark}, unreadable, {mark}"
    assert pair.chosen.facts["answer read"] == "6"
    assert pair.rejected.facts["tokens"] == 7


def test_a_text_of_the_same_words_by_another_model_is_not_taken_for_it(run):
    path = run / "stages/04-pairs-1/rows.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    synthetic.lines(path, [{**row, "chosen_source": "c3" * 32} for row in rows])
    pair = load_run(run).pairs[0]
    assert pair.chosen.by == "c3" * 5
    assert pair.chosen.facts == {}


def test_pairs_of_weak_to_strong_show_the_vote_and_the_weak_side(tmp_path):
    place = synthetic.make_run(tmp_path / "run", steps=4, eval_every=2, rollouts=0)
    samples = [
        {"id": "q0", "prompt": "2+2?", "sample": k, "text": f"t{k}", "source": NOW,
         "answer": "4" if k < 7 else "5"}
        for k in range(10)
    ]  # fmt: skip
    pair = {"id": "q0", "prompt": "2+2?", "chosen": "t0", "rejected": "5!", "weak_side": "rejected",
            "confidence": 0.7, "chosen_source": NOW, "rejected_source": OLD}  # fmt: skip
    stage(place, 5, "samples", samples, sources={"strong": NOW})
    stage(place, 6, "pairs", [pair], sources={"weak": OLD, "strong": NOW})
    [found] = load_run(place).pairs
    assert found.facts == {
        "confidence of the vote": 0.7, "votes": "4 (7), 5 (3)", "weak side": "rejected"
    }  # fmt: skip
    assert found.rejected.by == f"weak {OLD[:10]}"


def test_pairs_of_a_file_are_read_or_missed_aloud(tmp_path):
    place = synthetic.make_run(tmp_path / "run", steps=4, eval_every=2)
    file = tmp_path / "pairs.jsonl"
    config = {"method": "dpo", "dpo": {"pairs": str(file)}}
    synthetic.write(place / "config.yaml", json.dumps(config))
    missed = load_run(place)
    assert missed.pairs == []
    assert any("are not here" in note for note in missed.notes)
    chat = [{"role": "assistant", "content": "four"}]
    synthetic.lines(file, [{"prompt": "2+2?", "chosen": "4", "rejected": chat}, {"prompt": "?"}])
    [pair] = load_run(place).pairs
    assert (pair.chosen.text, pair.rejected.text) == ("4", "assistant: four")


def test_too_many_pairs_are_thinned_evenly_and_counted(run):
    pairs = load_run(run).pairs
    pile, note = pack_pairs(pairs, 10**6)
    assert (len(pile["rows"]), note) == (12, "")
    pile, note = pack_pairs(pairs, 2500)
    assert 3 <= len(pile["rows"]) < 12
    assert f"{len(pile['rows'])} of 12 pairs are on this page" in note


def test_stages_count_as_cost(run):
    """Four stages of 100 tokens and 1.5 s each, beside what the steps logged."""
    bare = load_run(run)
    steps = sum(row.values["tokens/generated"] for row in bare.rows)
    assert tokens(bare)["generated"] == steps + 400
    sampled = sum(row.values["time/sample"] for row in bare.rows)
    assert time_parts(bare)["sample"] == pytest.approx(sampled + 6)


def test_a_signal_is_shown_for_method_and_baseline_side_by_side(tmp_path):
    study = make_study(tmp_path / "study")
    arms = load_study_page(study).arms
    styles = run_styles([[name] for name in ARMS])
    [found] = telemetry(arms, styles)
    assert "LENS" in found.title
    share = found.figures[0]
    assert share.title == "share of the advantages in all-wrong groups"
    values = share.spec["data"]["values"]
    assert {row["run"] for row in values} == set(ARMS), "the baseline too"
    assert {row["n"] for row in values} == {2}
    last = [row for row in values if row["run"] == "lens"][-1]
    runs = arms[2].members
    each = [run.rows[-1].values["advantage/share_all_wrong"] for run in runs]
    assert last["value"] == pytest.approx(sum(each) / 2, rel=1e-4)
    assert last["low"] < last["value"] < last["high"]
    assert found.notes == ["Not logged by grpo and grpo_kl: median penalty of wrong answers."]
    page = Outline(build_report([study], tmp_path / "o.html").read_text())
    assert page.text.count("share of the advantages in all-wrong groups") == 1, "drawn once"


def test_labels_of_weak_to_strong_are_a_table(tmp_path):
    arms = {"w2s_full_weak": {"method": "w2s_full_weak"}, "stage1": {"method": "w2s_stage1"}}
    study = make_study(tmp_path / "study", arms=arms)
    for seed, right in ((0, 0.5), (1, 0.7)):
        place = study / "runs" / "stage1" / "countdown-s0" / f"seed-{seed}"
        facts = {"right_before": 0.25, "right_kept": right, "kept_share": 0.5}
        stage(place, 3, "kept-1", [{"id": "q"}], sources={}, **facts)
    [found] = telemetry(load_study_page(study).arms, run_styles([[name] for name in arms]))
    [row] = found.tables[0].rows
    assert row == ("stage1", "kept-1", "25.0 %", "60.0 %", "50.0 %", "1", "a tie 3")
    assert found.notes == ["No filter, so none of these numbers: w2s_full_weak."]


def test_packed_data_can_be_unpacked():
    rows = [{"run": "a", "x": 1, "why": None}, {"run": "a", "x": None, "why": "b"}] * 2
    tight = packed(rows)
    assert tight["rows"] == 4
    assert tight["columns"]["run"] == {"texts": ["a"], "at": [0, 0, 0, 0]}
    assert tight["columns"]["x"] == [1, None, 1, None]
    assert tight["columns"]["why"] == [None, "b", None, "b"]
