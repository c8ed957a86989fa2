"""Weak-to-Strong from recipe to final model: every baseline, resume, and what it refuses."""

import hashlib
import json
import shutil
from types import SimpleNamespace

import pytest
import torch
import yaml
from safetensors.torch import load_file

import tiny
from rekindle.engine.config import SampleConfig
from rekindle.engine.run import Run
from rekindle.errors import ConfigError, DataError
from rekindle.loops.stages import hash_rows
from rekindle.methods.weak_to_strong import weak_to_strong
from rekindle.methods.weak_to_strong.halves import (
    Demos,
    DemoSampler,
    hide_gold,
    pick_demos,
    refuse_overlap,
)
from rekindle.methods.weak_to_strong.weak_to_strong import (
    PRESETS,
    Consistent,
    explain_pairs,
)
from rekindle.records import Problem, Rollout
from rekindle.training.recipe import make_recipe
from rekindle.training.train import train

N = 60


def rows_of_data(turned=()):
    """Answers are mostly 1, so that tiny models come to agree; gold of `turned` is the next one's
    of them."""
    answers = {i: str(1 + (i % 3 == 0)) for i in range(N)}
    gold = [answers[i] for i in turned]
    answers |= dict(zip(turned, gold[1:] + gold[:1], strict=True))
    return [
        {"id": f"p{i}", "prompt": f"{i}=", "answer": a, "solution": a} for i, a in answers.items()
    ]


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def tree(base, data, method="weak_to_strong", **section):
    return {
        "method": method,
        "model": {"name": str(base), "dtype": "float64", "device": "cpu"},
        "task": {"name": "jsonl", "path": str(data)},
        "sample": {"max_new_tokens": 3},
        "optim": {"steps": 3, "problems": 4, "lr": 1e-2},
        "eval": {"problems": 2, "samples": 1},
        "checkpoint": {"every": 1},
        "weak_to_strong": {
            "weak": str(base.parent / "weak"),
            "half1": 10,
            "half2": 20,
            "demos": 2,
            "separator": ";",
            "samples": 5,
            "tau_chosen": 0.2,
            "tau_rejected": 0.2,
            "weak_sft": {"steps": 3, "lr": 1e-2, "batch": 4},
            "stage2": {"steps": 3, "lr": 1e-2, "batch": 4},
            **section,
        },
    }


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write(tmp_path_factory.mktemp("data") / "data.jsonl", rows_of_data())


@pytest.fixture(scope="module")
def base(data, tmp_path_factory):
    """Two tiny models that have learnt to answer with one digit."""
    place = tmp_path_factory.mktemp("models")
    for name, seed, steps in (("strong", 0, 25), ("weak", 5, 12)):
        tiny.policy(seed=seed).save(place / f"{name}-raw")
        asked = tree(place / f"{name}-raw", data, "sft")
        del asked["weak_to_strong"]
        asked["optim"] = {"steps": steps, "problems": 16, "lr": 2e-2}
        train(make_recipe(asked), place / f"{name}-run", quiet=True)
        shutil.copytree(place / f"{name}-run" / "final", place / name)
    return place / "strong"


def weights(out):
    return load_file(out / "final" / "model.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def run(asked, out, **settings):
    train(make_recipe(asked), out, quiet=True, **settings)
    return weights(out)


def stages_of(out):
    return sorted(p.name for p in (out / "stages").iterdir())


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def record(out, stage):
    return json.loads((out / "stages" / stage / "stage.json").read_text())


# --- runs

STAGES = {
    "weak_to_strong": "halves weak weak-answers demos icl-answers kept-1 sft samples pairs dpo",
    "w2s_stage1": "halves weak weak-answers demos icl-answers kept-1 sft",
    "w2s_full_weak": "halves weak weak-answers sft",
    "w2s_weak_icl": "halves weak weak-answers demos shown",
    "w2s_random": "halves weak weak-answers demos icl-answers kept-1 random sft",
    "w2s_self_training": "halves samples majorities sft",
    "w2s_ceiling": "halves sft",
    "w2s_floor": "halves weak",
}


@pytest.mark.parametrize("method", list(PRESETS))
def test_every_baseline_runs_its_stages(base, data, whole, tmp_path, method):
    out = whole if method == "weak_to_strong" else tmp_path / "run"
    final = weights(whole) if method == "weak_to_strong" else run(tree(base, data, method), out)
    names = [f"{i:02d}-{name}" for i, name in enumerate(STAGES[method].split(), 1)]
    assert stages_of(out) == names
    assert same(final, weights(out / "stages" / names[-1]))
    start = load_file(base / "model.safetensors")
    assert same(final, start) is (method == "w2s_weak_icl")
    assert json.loads((out / "eval.json").read_text())["n_problems"] == 2
    if method == "w2s_floor":
        assert not same(final, load_file(base.parent / "weak" / "model.safetensors"))


@pytest.fixture(scope="module")
def whole(base, data, tmp_path_factory):
    """One run of both stages."""
    out = tmp_path_factory.mktemp("runs") / "whole"
    run(tree(base, data), out)
    return out


def test_the_halves_share_nothing_and_the_second_has_no_gold(whole):
    rows = read(whole / "stages" / "01-halves" / "rows.jsonl")
    prompts = {half: {row["prompt"] for row in rows if row["half"] == half} for half in "12"}
    assert [len(prompts[half]) for half in "12"] == [10, 20]
    assert not prompts["1"] & prompts["2"]
    assert set(rows[0]) == {"id", "half", "prompt"}


def test_stage_one_keeps_both_texts_of_agreed_questions(whole):
    weak = {row["id"]: row for row in read(whole / "stages" / "03-weak-answers" / "rows.jsonl")}
    icl = {row["id"]: row for row in read(whole / "stages" / "05-icl-answers" / "rows.jsonl")}
    demos = read(whole / "stages" / "04-demos" / "rows.jsonl")
    kept = read(whole / "stages" / "06-kept-1" / "rows.jsonl")
    assert len(weak) == 20
    assert len(icl) == 18
    assert not {demo["id"] for demo in demos} & set(icl)
    assert all(row["prompt"].startswith(demos[0]["prompt"]) for row in icl.values())
    agreed = [name for name in weak if name in icl and icl[name]["answer"] == weak[name]["answer"]]
    assert [(row["id"], row["side"]) for row in kept] == [
        (name, side) for name in agreed for side in ("weak", "icl")
    ]
    assert all(row["prompt"] == weak[row["id"]]["prompt"] for row in kept)
    dropped = record(whole, "06-kept-1")["dropped"]
    assert dropped["a demo whose question is asked"] == 2
    assert len(kept) // 2 + sum(dropped.values()) == 20
    filtered = record(whole, "06-kept-1")
    before, after = filtered["right_before"], filtered["right_kept"]
    answers = {row["prompt"]: row["answer"] for row in rows_of_data()}
    right = [answers[row["prompt"]] == row["answer"] for row in weak.values()]
    assert before == pytest.approx(sum(right) / 20)
    right = [answers[row["prompt"]] == row["answer"] for row in kept if row["side"] == "weak"]
    assert after == pytest.approx(sum(right) / len(right))


def test_the_run_makes_the_pairs_that_explain_shows(whole, base, data):
    weak = read(whole / "stages" / "03-weak-answers" / "rows.jsonl")
    samples = read(whole / "stages" / "08-samples" / "rows.jsonl")
    rows = [
        {
            "id": w["id"],
            "prompt": w["prompt"],
            "weak": {"text": w["text"], "answer": w["answer"]},
            "samples": [s for s in samples if s["id"] == w["id"]],
        }
        for w in weak
    ]
    pairs, skipped = explain_pairs(rows, make_recipe(tree(base, data)).method)
    trained = read(whole / "stages" / "09-pairs" / "rows.jsonl")
    sources = ("chosen_source", "rejected_source")
    plain = [{k: v for k, v in pair.items() if k not in sources} for pair in trained]
    assert [{k: v for k, v in pair.items() if k not in sources} for pair in pairs] == plain
    assert dict(skipped) == record(whole, "09-pairs")["dropped"]
    named = record(whole, "09-pairs")["inputs"]["sources"]
    for pair in trained:
        assert pair[f"{pair['weak_side']}_source"] == named["weak"]


def test_the_second_iteration_starts_from_the_untrained_model_again(base, data, tmp_path):
    out = tmp_path / "run"
    run(tree(base, data, "w2s_stage1", iterations=2), out)
    more = "weak-ft icl-ft weak-2-answers icl-2-answers kept-2 sft"
    names = STAGES["w2s_stage1"].split()[:-1] + more.split()
    assert stages_of(out) == [f"{i:02d}-{name}" for i, name in enumerate(names, 1)]
    starts = {
        name: json.loads((out / "stages" / name / "manifest.json").read_text())
        for name in ("07-weak-ft", "08-icl-ft", "12-sft")
    }
    hashes = [json.dumps(manifest["fingerprints"]) for manifest in starts.values()]
    assert len(set(hashes)) == 1
    kept = record(out, "11-kept-2")
    assert sum(kept["dropped"].values()) + kept["kept"] // 2 == 20  # no demo is in these prompts


@pytest.mark.parametrize("stage1", ["weak", "icl"])
def test_one_side_alone_can_make_the_model(base, data, tmp_path, stage1):
    out = tmp_path / "run"
    run(tree(base, data, "w2s_stage1", stage1=stage1), out)
    kept = read(out / "stages" / "06-kept-1" / "rows.jsonl")
    alone = [row for row in kept if row["side"] == stage1]
    trained = yaml.safe_load((out / "stages" / "07-sft" / "config.yaml").read_text())
    assert trained["inputs"]["rows"] == hash_rows(alone)


def test_orpo_can_be_stage_two(base, data, tmp_path):
    run(tree(base, data, loss="orpo"), tmp_path / "run")
    assert stages_of(tmp_path / "run")[-1] == "10-orpo"


def test_without_demos_the_strong_model_is_just_asked(base, data, tmp_path):
    run(tree(base, data, "w2s_stage1", demos=0), tmp_path / "run")
    names = STAGES["w2s_stage1"].replace("demos ", "").split()
    assert stages_of(tmp_path / "run") == [f"{i:02d}-{name}" for i, name in enumerate(names, 1)]
    asked = read(tmp_path / "run" / "stages" / "04-icl-answers" / "rows.jsonl")
    halves = read(tmp_path / "run" / "stages" / "01-halves" / "rows.jsonl")
    assert [r["prompt"] for r in asked] == [r["prompt"] for r in halves if r["half"] == "2"]
    settings = [
        record(tmp_path / "run", name)["inputs"]["decoding"]
        for name in ("03-weak-answers", "04-icl-answers")
    ]
    assert settings[0] == settings[1]


def test_the_weak_model_can_be_the_strong_ones_own_base(base, data, tmp_path):
    run(tree(base, data, "w2s_full_weak", weak="base"), tmp_path / "run")


# --- gold


@pytest.mark.parametrize("settings", [{}, {"iterations": 2}])
def test_gold_of_half_2_changes_nothing(base, data, whole, tmp_path, settings):
    out = tmp_path / "straight" if settings else whole
    straight = run(tree(base, data, **settings), out) if settings else weights(whole)
    halves = read(out / "stages" / "01-halves" / "rows.jsonl")
    second = [int(row["id"][1:]) for row in halves if row["half"] == "2"]
    other = write(tmp_path / "turned.jsonl", rows_of_data(second))
    assert other.read_text() != data.read_text()
    assert same(straight, run(tree(base, other, **settings), tmp_path / "turned"))
    files = sorted((out / "stages").glob("*/rows.jsonl"))
    assert len(files) >= 7
    for file in files:
        twin = tmp_path / "turned" / "stages" / file.parent.name / "rows.jsonl"
        assert file.read_bytes() == twin.read_bytes(), file.parent.name
    ceilings = [
        run(tree(base, file, "w2s_ceiling"), tmp_path / name)
        for name, file in (("a", data), ("b", other))
    ]
    assert not same(*ceilings)


def test_a_question_has_nothing_of_its_answer_left():
    asked = Problem("1", "2+2=", answer="4", solution="4", meta={"entry": 4}, level="3")
    assert hide_gold(asked) == Problem("1", "2+2=", answer="", level="3")


def test_questions_in_both_halves_are_listed(base, tmp_path):
    rows = rows_of_data()
    again = [{**row, "id": f"again{row['id']}", "prompt": f" {row['prompt']}"} for row in rows]
    path = tmp_path / "both"
    path.mkdir()
    write(path / "train.jsonl", rows + again)
    write(path / "dev.jsonl", [{**rows[0], "id": "d", "prompt": "5+5="}])
    with pytest.raises(DataError, match=r"half 1 and half 2 share \d+ questions(.|\n)*\d="):
        run(tree(base, path), tmp_path / "run")


def test_questions_that_are_evaluated_are_listed(base, tmp_path):
    rows = rows_of_data()
    path = tmp_path / "leak"
    path.mkdir()
    write(path / "train.jsonl", rows[:30])
    write(path / "dev.jsonl", [{**row, "id": f"d{row['id']}"} for row in rows[:30]])
    asked = tree(base, path)
    asked["eval"]["problems"] = 30
    asked["task"]["shared_rows"] = "tell"  # else the task itself is refused
    with (
        pytest.warns(UserWarning, match="dev problems are in train too"),
        pytest.raises(DataError, match="half 1 and dev share 10 questions"),
    ):
        run(asked, tmp_path / "run")


def test_overlap_is_seen_through_white_space_case_and_chats():
    a = Problem("1", "What  is it?")
    with pytest.raises(DataError, match="what is it"):
        refuse_overlap({"half 1": [a], "half 2": [Problem("2", "what is\nit? ")]})
    turned = Problem("3", "x", messages=(("user", "What is it?"),))
    with pytest.raises(DataError, match="what is it"):
        refuse_overlap({"half 1": [a], "test": [turned]})
    refuse_overlap({"half 1": [a, a], "half 2": [Problem("2", "What was it?")]})


# --- resume


@pytest.mark.parametrize("stop", [2, 5, 8])
def test_resume_is_bit_exact(base, data, whole, tmp_path, monkeypatch, stop):
    """Killed in the weak model's SFT, in the strong one's, and in DPO."""
    real, calls = Run.log, []

    def failing(self, *args, **kwargs):
        calls.append(1)
        if len(calls) == stop:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    monkeypatch.setattr(Run, "log", failing)
    with pytest.raises(KeyboardInterrupt):
        run(tree(base, data), tmp_path / "broken")
    monkeypatch.setattr(Run, "log", real)
    assert same(weights(whole), run(tree(base, data), tmp_path / "broken", mode="resume"))
    for file in (whole / "stages").glob("*/rows.jsonl"):
        twin = tmp_path / "broken" / "stages" / file.parent.name / "rows.jsonl"
        assert file.read_bytes() == twin.read_bytes()


def stopped(base, data, out, monkeypatch, *, after):
    """A run that is killed in training, `after` that many steps."""
    real, calls = Run.log, []

    def failing(self, *args, **kwargs):
        calls.append(1)
        if len(calls) > after:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(Run, "log", failing)
        with pytest.raises(KeyboardInterrupt):
            run(tree(base, data), out)


def test_answers_of_another_weak_model_are_refused(base, data, tmp_path, monkeypatch):
    out = tmp_path / "run"
    stopped(base, data, out, monkeypatch, after=4)
    stage = out / "stages" / "03-weak-answers"
    rows = [{**row, "source": "0" * 64} for row in read(stage / "rows.jsonl")]
    write(stage / "rows.jsonl", rows)
    found = json.loads((stage / "stage.json").read_text())
    found["rows_sha256"] = hashlib.sha256((stage / "rows.jsonl").read_bytes()).hexdigest()
    (stage / "stage.json").write_text(json.dumps(found))
    with pytest.raises(DataError, match=r"not by a model of this run(.|\n)*0{12}(.|\n)*weak"):
        run(tree(base, data), out, mode="resume")


# --- nothing to train on


def test_no_pair_says_why_before_anything_is_trained(base, data, tmp_path):
    """Weak and strong are one model, hardly trained, that samples as if greedily."""
    asked = tree(base, data, weak="base", weak_sft={"steps": 1, "lr": 1e-300, "batch": 4})
    asked["optim"]["lr"] = 1e-300
    asked["sample"]["temperature"] = 1e-3
    with pytest.raises(DataError, match=r"nothing is left after 'pairs'(.|\n)*too easy"):
        run(asked, tmp_path / "run")
    assert stages_of(tmp_path / "run")[-1] == "08-samples"


def test_an_empty_filter_says_why_before_anything_is_trained(base, data, tmp_path, monkeypatch):
    def nothing(weak, icl, **_):
        return Consistent([], weak_to_strong.Counter({"the answers differ": len(weak)}))

    monkeypatch.setattr(weak_to_strong, "consistent", nothing)
    with pytest.raises(DataError, match=r"after 'kept-1'(.|\n)*20 questions(.|\n)*answers differ"):
        run(tree(base, data), tmp_path / "run")
    assert stages_of(tmp_path / "run")[-1] == "05-icl-answers"


def test_too_few_problems_for_two_halves(base, data, tmp_path):
    with pytest.raises(DataError, match=r"two halves(.|\n)*10 \+ 900"):
        run(tree(base, data, half2=900), tmp_path / "run")


def test_a_ceiling_needs_solutions(base, tmp_path):
    rows = [{k: v for k, v in row.items() if k != "solution"} for row in rows_of_data()]
    path = write(tmp_path / "data.jsonl", rows)
    with pytest.raises(DataError, match="problems without solutions"):
        run(tree(base, path, "w2s_ceiling"), tmp_path / "run")


# --- demos


def answered(*answers):
    return [
        {"id": str(i), "prompt": f"{i}=", "text": str(a), "answer": a}
        for i, a in enumerate(answers)
    ]


def test_demos_have_readable_answers_and_follow_the_seed():
    rows = answered("1", None, "2", "", "3", "4", "5")
    found = pick_demos(rows, count=5, seed=0)
    assert sorted(row["answer"] for row in found) == ["1", "2", "3", "4", "5"]
    assert pick_demos(rows, count=3, seed=0) == found[:3]
    assert any(pick_demos(rows, count=5, seed=s) != found for s in range(1, 5))
    with pytest.raises(DataError, match=r"5 of 7(.|\n)*6 demos"):
        pick_demos(rows, count=6, seed=0)


def test_demos_stand_in_front_as_they_are():
    demos = Demos((("1=", "1"), ("2=", "2")), "\n")
    assert demos.before(Problem("3", "3=")).prompt == "1=1\n2=2\n3="
    assert demos.include(Problem("4", " 1= "))
    assert not demos.include(Problem("4", "11="))
    chat = Problem("3", "3=", messages=(("system", "s"), ("user", "3=")))
    assert demos.before(chat).messages == (
        ("system", "s"),
        *(("user", "1="), ("assistant", "1"), ("user", "2="), ("assistant", "2")),
        ("user", "3="),
    )
    assert demos.ending(SampleConfig(stop=("x",))).stop == ("x", "\n")


def test_what_is_evaluated_with_demos_is_named_as_the_plain_problem():
    asked = []

    def sample(problems, *, samples, config, seed):
        asked.extend(problems)
        return [Rollout(p, 0, (1,), (2,), (0.0,), "7", "eos") for p in problems]

    plain = SimpleNamespace(sample=sample, sync=lambda policy: None)
    shown = DemoSampler(plain, Demos((("1=", "1"),), ";"))
    problem = Problem("3", "3=", answer="3")
    [found] = shown.sample([problem], samples=1, config=SampleConfig(), seed=0)
    assert asked[0].prompt == "1=1;3="
    assert found.problem == problem


def test_probabilities_are_not_measured_with_demos(base, data, tmp_path):
    asked = tree(base, data, "w2s_weak_icl")
    asked["eval"]["likelihood"] = True
    with pytest.raises(ConfigError, match=r"eval\.likelihood"):
        run(asked, tmp_path / "run")


# --- settings


@pytest.mark.parametrize(
    ("method", "settings", "words"),
    [
        ("w2s_ceiling", {"loss": "dpo"}, "no pairs to train on"),
        ("w2s_random", {"iterations": 2}, "iterations has no effect"),
        ("weak_to_strong", {"tau_rejected": 0.1}, "tau_rejected is below"),
        ("weak_to_strong", {"dpo": {"pairs": "x.jsonl"}}, "pairs are made"),
        ("weak_to_strong", {"tau_chosen": 1.5}, "tau_chosen"),
        ("weak_to_strong", {"iterations": 3}, "iterations"),
        ("weak_to_strong", {"train_on": "everything"}, "train_on"),
    ],
)
def test_settings_that_nobody_can_mean_are_refused(base, data, method, settings, words):
    with pytest.raises(ConfigError, match=words):
        make_recipe(tree(base, data, method, **settings))


@pytest.mark.parametrize("method", ["weak_to_strong", "w2s_self_training"])
def test_samples_that_are_all_the_same_are_refused(base, data, method):
    asked = tree(base, data, method)
    asked["sample"]["temperature"] = 0.0
    with pytest.raises(ConfigError, match="all the same"):
        make_recipe(asked)


def test_the_presets_say_what_the_strong_model_learns_from():
    assert PRESETS["weak_to_strong"].loss == "dpo"
    assert all(p.loss == "none" for name, p in PRESETS.items() if name != "weak_to_strong")
    learnt = [preset.train_on for preset in PRESETS.values()]
    assert learnt == [
        *("consistent", "consistent", "weak", "demos", "random", "votes", "gold", "nothing")
    ]
