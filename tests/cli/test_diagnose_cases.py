"""`rekindle diagnose` on constructed cases: the missing signal is named, a healthy one is not."""

import json
import random
from pathlib import Path

import pytest
import torch
import yaml

from rekindle.cli.diagnose import write_studies
from rekindle.engine.config import ModelConfig, TaskConfig
from rekindle.engine.policy import Policy
from rekindle.signals.findings import Advice, Finding
from rekindle.signals.remedies import study_tree
from rekindle.training.parts import open_task
from signals.lookups import subject

RECIPE = Path(__file__).parents[2] / "recipes" / "sft_addition_testbed.yaml"


def scaled(path, factor):
    """A shipped model with its logits multiplied: surer of the same answers, or flatter."""
    policy = Policy.load(ModelConfig(name="testbed/addition-s0"))
    with torch.no_grad():
        policy.model.model.norm.weight.mul_(factor)
    policy.save(path)
    return path


def shaken(path):
    """A shipped model with a little noise in every matrix: right less often, and in its own way."""
    policy, gen = Policy.load(ModelConfig(name="testbed/addition-s0")), torch.Generator()
    gen.manual_seed(0)
    with torch.no_grad():
        for weight in policy.model.parameters():
            if weight.dim() > 1:
                weight.add_(torch.randn(weight.shape, generator=gen) * 0.06 * weight.std())
    policy.save(path)
    return path


@pytest.fixture
def checked(rekindle, tmp_path):
    """A study file runs, and has these arms."""

    def check(study, *arms):
        code, _, err = rekindle("study", study, "--out", tmp_path / "study", "--dry-run")
        assert code == 0, err
        assert set(yaml.safe_load(study.read_text())["arms"]) == set(arms)

    return check


@pytest.fixture
def diagnose(rekindle, tmp_path):
    """Diagnose with few problems; what is printed, and the numbers."""

    def run(model, task, level, *words):
        small = ("--problems", 60, "--levels", level)
        small = (*small, "--out", tmp_path / "d.json", "--overwrite")
        code, out, err = rekindle("diagnose", "--model", model, "--task", task, *small, *words)
        assert code == 0, err
        return out, json.loads((tmp_path / "d.json").read_text())

    return run


def line(out, start):
    return next((text for text in out.splitlines() if text.startswith(start)), "")


def refused(out):
    return [text.split()[3] for text in out.splitlines() if text.startswith("does not fit: ")]


def pair_file(path, spoil):
    gen = random.Random(0)
    rows = []
    for _ in range(64):
        a, b, c = (gen.randint(2, 40) for _ in range(3))
        d = gen.choice((2, 30))
        text = f"{a}+{b}={a + b};{a + b}+{c}={a + b + c};{a + b + c}+{d}={a + b + c + d}"
        rows.append({"prompt": f"{a}+{b}+{c}+{d}:", "chosen": text, "rejected": spoil(text)})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def run_directory(path, gaps, task, level):
    """What a self-rewarding run keeps of its rounds: 40 pairs and 200 judged prompts in each."""
    for number, gap in enumerate(gaps, 1):
        pairs = [
            {"chosen_score": gap + (i % 2), "rejected_score": 0.5 + (i % 2)} for i in range(20)
        ]
        pairs += [{"chosen_score": gap + 1, "rejected_score": 0.5} for _ in range(20)]
        rows_file(path / "stages" / f"0{number}-pairs-{number}" / "rows.jsonl", pairs)
        judged = [{"id": str(i)} for i in range(200)]
        rows_file(path / "stages" / f"0{number}-judged-{number}" / "rows.jsonl", judged)
    rounds = [
        {"round": i, "pairs/gap": gap, "judge/auc": 0.75, "judge/right": 0.5}
        for i, gap in enumerate(gaps, 1)
    ]
    rows_file(path / "stages" / "rounds.jsonl", rounds)
    rows_file(path / "metrics.jsonl", [{"step": 0, "loss": 0.5}])
    config = {
        "method": "self_rewarding",
        "task": {"name": task, "levels": [level]},
        "model": {"name": f"testbed/{task}-s0"},
    }
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    return path


def test_a_healthy_model_is_left_alone(diagnose, tmp_path):
    pair_file(tmp_path / "pairs.jsonl", lambda text: text.split("=")[0])
    out, found = diagnose(
        *("testbed/countdown-s0", "countdown", "3,4"),
        *("--pairs", tmp_path / "pairs.jsonl", "--write", tmp_path / "s.yaml"),
    )
    states = {name: signal["state"] for name, signal in found["signals"].items()}
    assert states == {"sft": "alive", "groups": "healthy", "pairs": "open"}
    assert found["state"] == "alive"  # SFT's stays at the top of the file
    assert found["conclusion"] == ["No signal is missing: nothing to change."]
    assert "fit: " not in out
    assert not (tmp_path / "s.yaml").exists()
    assert set(found["not_measured"]) == {"verifier", "reward", "agreement"}


def test_prompts_that_are_all_wrong_want_sft_and_not_lens(diagnose, rekindle, tmp_path):
    study = tmp_path / "s.yaml"
    out, _ = diagnose("testbed/addition-s0", "addition", "5", "--write", study)
    assert line(out, "missing:") == "missing: groups (all-wrong)"
    assert line(out, "fits:").startswith("fits: sft (groups)")
    assert refused(out) == ["lens", "grpo_dynamic,"]
    code, _, err = rekindle("study", study, "--out", tmp_path / "study", "--dry-run")
    assert code == 0, err
    assert "2 arms x 4 seeds x 1 base models" in err


def test_prompts_that_are_mostly_wrong_fit_lens(diagnose, rekindle, tmp_path):
    study = tmp_path / "s.yaml"
    many = ("--problems", 200, "--signals", "groups")
    out, _ = diagnose("testbed/countdown-s0", "countdown", "5", *many, "--write", study)
    assert line(out, "fits:").startswith("fits: lens (groups)")
    code, _, err = rekindle("study", study, "--out", tmp_path / "study", "--dry-run")
    assert code == 0, err
    assert "3 arms" in err
    few = ("--samples", 2, "--signals", "groups")
    out, _ = diagnose("testbed/countdown-s0", "countdown", "5", *few)
    assert line(out, "groups     cannot-tell")
    assert "fits: lens" not in out
    sure = (*few, "--samples", 8, "--set", "task.brittle=0.95")
    out, _ = diagnose("testbed/countdown-s0", "countdown", "4", *sure)
    assert "lens" in refused(out)  # the verifier rejects right answers, asked for or not


def test_a_brittle_verifier_and_a_useless_reward_model(diagnose, tmp_path):
    brittle = ("--set", "task.brittle=0.75", "--set", "reward.source=random")
    study = tmp_path / "s.yaml"
    out, found = diagnose(
        "testbed/countdown-s0", "countdown", "4", *brittle, "--problems", "100", "--write", study
    )
    states = {name: signal["state"] for name, signal in found["signals"].items()}
    assert states["verifier"] == "brittle"
    assert states["reward"] == "useless"
    assert "fits: nothing that these numbers support." in out
    assert refused(out).count("hero") == 2
    assert "lens" in refused(out)  # it would penalise right answers that were rejected
    assert not study.exists()


def test_a_brittle_verifier_alone_asks_for_a_reward_model(diagnose):
    out, _ = diagnose(
        *("testbed/countdown-s0", "countdown", "4", "--signals", "verifier"),
        *("--set", "task.brittle=0.75"),
    )
    assert line(out, "missing:") == "missing: verifier (brittle)"
    assert "rekindle reward train" in line(out, "does not fit: hero")


def test_a_brittle_verifier_beside_a_good_reward_model_fits_hero(diagnose, checked, tmp_path):
    study = tmp_path / "s.yaml"
    out, found = diagnose(
        *("testbed/countdown-s0", "countdown", "4", "--signals", "verifier,reward"),
        *("--set", "task.brittle=0.75", "--set", "reward.model=testbed/countdown-s0-reward"),
        *("--problems", "100", "--write", study),
    )
    assert found["signals"]["reward"]["state"] == "useful"
    assert line(out, "fits:").startswith("fits: hero (verifier)")
    checked(study, "verifier_kl", "blend", "hero", "hero_random")


def test_a_control_that_leaks_the_truth_recommends_nothing(diagnose):
    out, found = diagnose(
        *("testbed/countdown-s0", "countdown", "4", "--signals", "verifier,reward"),
        *("--set", "task.brittle=0.75", "--set", "reward.source=oracle"),
    )
    assert found["signals"]["reward"]["state"] == "control"
    assert "fits: nothing that these numbers support." in out
    assert "a control" in line(out, "does not fit: hero")


def test_answers_that_are_cut_off_want_a_longer_limit(diagnose):
    words = ("testbed/addition-s0", "addition", "3", "--set", "sample.max_new_tokens=8")
    out, found = diagnose(*words, "--signals", "groups")
    assert line(out, "fits:").startswith("fits: a longer limit (groups)")
    assert refused(out)[0] == "lens"
    rows = {row["name"]: row for row in found["signals"]["groups"]["rows"]}
    assert rows["truncated"]["ci_low"] > 0.9


def test_a_useless_reward_model_alone(diagnose):
    out, _ = diagnose(
        *("testbed/countdown-s0", "countdown", "4", "--signals", "groups,reward"),
        *("--set", "reward.source=random"),
    )
    assert line(out, "missing:") == "missing: reward (useless)"
    assert "rank noise" in line(out, "does not fit: hero")


def test_converged_pairs(diagnose, rekindle, tmp_path):
    """Sides that differ in a digit which the model does not know, from a run whose gap closed."""
    study, pairs = tmp_path / "s.yaml", tmp_path / "pairs.jsonl"
    pair_file(pairs, lambda text: text[:-1] + str((int(text[-1]) + 1) % 10))
    words = ("testbed/chain-s0", "chain", "3", "--signals", "groups,pairs", "--pairs", pairs)
    out, _ = diagnose(*words)
    assert line(out, "missing:") == "missing: pairs (converged)"
    assert line(out, "fits:").startswith("fits: temporal (pairs)")
    assert "give its run as --run" in out
    run = run_directory(tmp_path / "run", (3.0, 1.2), "chain", "3")
    out, _ = diagnose(*words, "--run", run, "--write", study)
    assert line(out, "fits:").startswith("fits: temporal (pairs)")
    assert "dpo," in refused(out)
    code, _, err = rekindle("study", study, "--out", tmp_path / "study", "--dry-run")
    assert code == 0, err
    pair_file(pairs, lambda text: text.split("=")[0])
    out, _ = diagnose(*words)
    assert "No signal is missing: nothing to change." in out


def test_pairs_alone_need_no_task(diagnose, rekindle, tmp_path):
    """The same rows as with a task; the other signals say that they need one."""
    pairs = tmp_path / "pairs.jsonl"
    pair_file(pairs, lambda text: text[:-1] + str((int(text[-1]) + 1) % 10))
    _, with_task = diagnose(
        "testbed/chain-s0", "chain", "3", "--signals", "pairs", "--pairs", pairs
    )
    words = ("diagnose", "--model", "testbed/chain-s0", "--pairs", pairs)
    code, out, err = rekindle(*words, "--out", tmp_path / "alone.json")
    assert code == 0, err
    alone = json.loads((tmp_path / "alone.json").read_text())
    assert alone["signals"] == with_task["signals"]
    assert (alone["task"], line(out, "groups")) == (None, "groups     not measured: needs --task")
    run = run_directory(tmp_path / "run", (3.0, 1.2), "chain", "3")
    words = ("diagnose", "--model", "testbed/chain-s0", "--run", run)
    code, out, err = rekindle(*words, "--signals", "pairs")
    assert (code, line(out, "missing:")) == (0, "missing: pairs (converged)"), err


@pytest.mark.parametrize(
    ("words", "got"),
    [
        ((), "neither --pairs nor --run"),
        (("--pairs", "p.jsonl", "--signals", "pairs,groups"), "--signals pairs,groups"),
        (("--pairs", "p.jsonl", "--write", "s.yaml", "--weak", "m"), "--weak, --write"),
        (("--pairs", "p.jsonl", "--set", "task.name=chain"), "--set task..."),
        (("--run", "grpo"), "has no rounds"),
    ],
)
def test_what_needs_a_task_says_so(rekindle, tmp_path, monkeypatch, words, got):
    monkeypatch.chdir(tmp_path)
    rows = [{"step": i, "groups/all_wrong": 0.5} for i in (1, 2)]
    rows_file(tmp_path / "grpo" / "metrics.jsonl", rows)
    code, _, err = rekindle("diagnose", "--model", "testbed/chain-s0", *words)
    assert (code, "--task is missing" in err, got in err) == (2, True, True), err


def test_pairs_that_are_alike_and_told_apart_are_no_case_for_temporal(diagnose, tmp_path):
    """One character too many: nearly all of the text is the same, and the model knows better."""
    pairs = tmp_path / "pairs.jsonl"
    pair_file(pairs, lambda text: text + ";")
    out, _ = diagnose("testbed/chain-s0", "chain", "3", "--signals", "pairs", "--pairs", pairs)
    assert line(out, "missing:") == "missing: pairs (converged)"
    assert "the model tells the two sides apart" in line(out, "does not fit: temporal")
    assert refused(out) == ["temporal"]
    rows = [json.loads(text) for text in pairs.read_text().splitlines()]
    swapped = [{**r, "chosen": r["rejected"], "rejected": r["chosen"]} for r in rows]
    rows_file(pairs, swapped)
    out, _ = diagnose("testbed/chain-s0", "chain", "3", "--signals", "pairs", "--pairs", pairs)
    assert "less likely by" in line(out, "pairs      inverted")
    assert "by -" not in out


@pytest.mark.parametrize("every", [10, 1000])
def test_pairs_with_equal_sides_are_counted(diagnose, tmp_path, every):
    """Training leaves equal sides out; here they are what is looked for."""
    rows = [
        {
            "prompt": f"{i}+1=",
            "chosen": str(i + 1),
            "rejected": str(i + 1) if i % every else "no idea at all",
        }
        for i in range(1, 201)
    ]
    rows_file(tmp_path / "p.jsonl", rows)
    words = ("testbed/addition-s0", "addition", "2", "--signals", "pairs")
    out, found = diagnose(*words, "--pairs", tmp_path / "p.jsonl")
    assert line(out, "missing:") == "missing: pairs (converged)"
    identical = found["signals"]["pairs"]["rows"][0]
    assert (identical["name"], identical["n"]) == ("identical", 200)
    assert identical["value"] == pytest.approx(0.9 if every == 10 else 1.0)


def test_saturated_sft(diagnose, rekindle, tmp_path):
    """After 80 steps on two digits SFT has next to no gradient, and held-out problems are known."""
    settings = [
        *("task.levels=['2']", "model.name=testbed/addition-s1", "optim.steps=80"),
        *("optim.lr=2e-3", "eval.problems=2", "eval.samples=1"),
    ]
    sets = [word for setting in settings for word in ("--set", setting)]
    code, _, err = rekindle("train", RECIPE, "--out", tmp_path / "r", "--quiet", *sets)
    assert code == 0, err
    out, found = diagnose(
        tmp_path / "r" / "final", "addition", "2", "--weak", "testbed/addition-s0"
    )
    assert found["state"] == "saturated"
    assert line(out, "missing:") == "missing: sft (saturated)"
    assert "fits: nothing that these numbers support." in out  # the mix brings nothing back
    assert refused(out)[:2] == ["sft,", "wmss"]


def test_saturated_sft_beside_a_flat_weak_model_fits_wmss(diagnose, checked, tmp_path):
    """A model that is surer than it is right has no gradient; a weak one that is unsure, mixed in,
    brings back gradient on the very tokens that SFT has lost. A half-sure one does not."""
    strong, study = scaled(tmp_path / "strong", 1.3), tmp_path / "s.yaml"
    words = (strong, "addition", "2", "--signals", "sft", "--weak")
    out, found = diagnose(*words, scaled(tmp_path / "flat", 0.1), "--write", study)
    assert line(out, "missing:") == "missing: sft (saturated)"
    assert line(out, "fits:").startswith("fits: wmss (sft)")
    assert refused(out) == ["sft,"]
    rows = {row["name"]: row for row in found["signals"]["sft"]["rows"]}
    assert rows["mix/reactivated"]["value"] > 0.5
    checked(study, "sft_restart", "wmss", "wmss_frozen", "wmss_d0")
    out, _ = diagnose(*words, scaled(tmp_path / "half", 0.3))
    assert "fits: nothing that these numbers support." in out
    assert refused(out) == ["sft,", "wmss"]


def test_two_models_that_agree_on_what_is_right_fit_weak_to_strong(diagnose, checked, tmp_path):
    study = tmp_path / "s.yaml"
    words = (shaken(tmp_path / "m"), "addition", "4", "--weak", "testbed/addition-s2")
    out, _ = diagnose(*words, "--signals", "agreement", "--problems", 200, "--write", study)
    assert line(out, "fits:").startswith("fits: weak_to_strong (agreement)")
    checked(study, "w2s_full_weak", "w2s_stage1", "w2s_random", "w2s_self_training")


def test_each_remedy_that_fits_gets_a_study(diagnose, checked, tmp_path):
    run = run_directory(tmp_path / "run", (3.0, 1.2), "countdown", "5")
    study = tmp_path / "s.yaml"
    few = ("--problems", 200, "--signals", "groups,pairs", "--run", run)
    out, _ = diagnose("testbed/countdown-s0", "countdown", "5", *few, "--write", study)
    assert out.count("\nfits: ") == 2
    assert out.count("written: ") == 3  # the numbers too
    checked(study, "grpo", "grpo_kl", "lens")
    checked(tmp_path / "s_temporal.yaml", "self_rewarding", "self_rewarding_short", "temporal")


def test_your_own_small_file_gets_a_study_that_it_is_large_enough_for(rekindle, tmp_path):
    """90 training problems cannot give 512 questions without gold."""
    about = subject("testbed/addition-s0", weak="testbed/addition-s2", train=90)
    knobs = study_tree("weak_to_strong", about)["arms"]["w2s_stage1"]["weak_to_strong"]
    assert (knobs["half1"], knobs["half2"]) == (22, 68)
    for name, said in (
        ("nodir/", "'nodir/' is not there"),
        (str(tmp_path / "x.json"), "x.json is no list of rows"),
        (str(tmp_path / "x.txt"), "x.txt' is in a format that is not read"),
    ):
        (tmp_path / "x.json").write_text("{}")
        (tmp_path / "x.txt").write_text("{}")
        code, _, err = rekindle("diagnose", "--model", "testbed/addition-s0", "--task", name)
        assert (code, said in err) == (2, True), err


def test_the_study_of_hero_runs(checked, tmp_path):
    sections = {"task": {"name": "countdown"}}
    about = subject("testbed/countdown-s0", sections=sections, reward={"model": "rm"})
    study = tmp_path / "s.yaml"
    study.write_text(yaml.safe_dump(study_tree("hero", about)))
    checked(study, "verifier_kl", "blend", "hero", "hero_random")


def test_weak_labels_are_measured(diagnose):
    words = ("testbed/addition-s0", "addition", "4", "--signals", "agreement")
    out, found = diagnose(*words, "--weak", "testbed/addition-s1")
    rows = {row["name"]: row for row in found["signals"]["agreement"]["rows"]}
    assert rows["right/own"]["ci_low"] > rows["right/weak"]["ci_high"]
    assert "weak_to_strong" in refused(out)


def test_equal_peers_are_left_alone_where_sft_has_signal(diagnose):
    words = ("testbed/addition-s0", "addition", "2,3,4", "--signals", "sft,groups,agreement")
    out, _ = diagnose(*words, "--weak", "testbed/addition-s1")
    assert "SFT on them has signal" in line(out, "does not fit: weak_to_strong")
    assert "\nfits: weak_to_strong" not in out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--signals", "grops"), "Did you mean 'groups'"),
        (("--signals", "agreement"), "needs --weak"),
        (("--signals", "verifier", "--problems", "4"), "needs a stronger check"),
        (("--samples", "1"), "--samples is too small"),
        (("--problems", "1"), "wanted: 2 or more"),
        (("--signals", ""), "--signals has an empty name"),
        (("--levels", ""), "--levels has an empty name"),
        (("--levels", "9"), "wanted: some of 2, 3, 4"),
        (("--check", "numeric"), "needs a task from a file"),
        (("--set", "sample.temperature=0"), "sample.temperature is 0"),
        (("--run", "nowhere"), "nowhere is not a run"),
    ],
)
def test_what_cannot_be_measured_is_said(rekindle, words, said):
    code, _, err = rekindle(
        *("diagnose", "--model", "testbed/chain-s0", "--task", "chain", "--levels", "2"), *words
    )
    assert code == 2
    assert said in err


def test_files_are_checked_before_anything_is_measured(rekindle, tmp_path):
    base = ("diagnose", "--model", "nowhere", "--task", "chain", "--signals", "groups")
    there = tmp_path / "precious.jsonl"
    there.write_text("kept")
    (tmp_path / "s_temporal.yaml").write_text("kept")
    for words, said in (
        (("--out", there), "exists"),
        (("--out", tmp_path), "is a directory"),
        (("--write", tmp_path / "s.yaml"), "s_temporal.yaml exists"),
        (("--write", tmp_path / "a", "--out", tmp_path / "a"), "as well"),
        (("--out", there / "below" / "d.json"), "writing in"),
        (("--pairs", there, "--out", there, "--overwrite"), "what the command reads as well"),
    ):
        code, _, err = rekindle(*base, *words)
        assert (code, said in err) == (2, True), err
    assert there.read_text() == "kept"


def rows_file(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def test_your_own_verifier_is_judged_by_a_stronger_check(rekindle, tmp_path):
    """The answers in the file are written as 46.0, and the model writes 46."""
    for split, numbers in (("train", range(10, 40)), ("dev", range(50, 60))):
        rows = [
            {"prompt": f"{i}+34=", "answer": f"{34 + i}.0", "solution": str(34 + i)}
            for i in numbers
        ]
        rows_file(tmp_path / "own" / f"{split}.jsonl", rows)
    words = ("diagnose", "--model", "testbed/addition-s0", "--task", tmp_path / "own")
    words = (*words, "--set", "task.verifier=exact", "--signals", "verifier", "--samples", 2)
    code, _, err = rekindle(*words)
    assert (code, "--check numeric" in err) == (2, True)
    code, out, err = rekindle(*words, "--check", "numeric")
    assert code == 0, err
    assert line(out, "  recall")
    assert "not measured" not in out
    code, _, err = rekindle(*words, "--check", "exact")
    assert (code, "is the training verifier" in err) == (2, True)


def test_a_study_of_hero_is_not_evaluated_by_the_brittle_verifier(tmp_path, capsys):
    """With --check the recipe's one verifier is the one that was found to reject right answers."""
    hero = Finding("verifier", "brittle", "out", ".", [], Advice("hero", "it ranks"))
    sections, task = {"task": {"name": "addition"}}, open_task(TaskConfig(name="addition"))
    about = subject(sections=sections, reward={"model": "rm"}, problems=20, task=task)
    for check, written in (("numeric", False), (None, True)):
        write_studies(tmp_path / "s.yaml", [hero], about, check)
        assert (tmp_path / "s.yaml").exists() == written
        if not written:
            assert "--set task.verifier=numeric" in capsys.readouterr().out


def test_what_cannot_be_measured_on_your_own_file_is_listed(rekindle, tmp_path):
    """No dev split; one solution of thirty; a weak model of other tokens."""
    rows = [{"prompt": f"{i}+{i + 7}=", "answer": "99999"} for i in range(30)]
    rows[3]["solution"] = "17"
    rows_file(tmp_path / "own" / "train.jsonl", rows)
    words = ("diagnose", "--model", "testbed/addition-s0", "--task", tmp_path / "own")
    words = (*words, "--problems", 30)
    code, out, err = rekindle(*words)
    assert code == 0, err
    assert line(out, "sft        not measured: needs held-out samples")
    rows_file(tmp_path / "own" / "dev.jsonl", [{**row, "prompt": "1+1="} for row in rows[3:4]] * 2)
    code, out, err = rekindle(*words, "--write", tmp_path / "s.yaml")
    assert code == 0, err
    assert line(out, "fits:").startswith("fits: easier problems first")  # not SFT on one solution


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"prompt": "1+1=", "target": "2"}, "--set task.columns.answer=NAME"),
        ({"prompt": "1+1=", "chosen": "2", "rejected": "3"}, "--pairs FILE"),
        ({"text": "1+1=", "answer": "2"}, "--set task.columns.prompt=NAME"),
    ],
)
def test_other_names_of_columns_are_known(rekindle, tmp_path, row, said):
    rows_file(tmp_path / "d.jsonl", [row])
    code, _, err = rekindle(
        "diagnose", "--model", "testbed/addition-s0", "--task", tmp_path / "d.jsonl"
    )
    assert (code, said in err) == (2, True), err


def test_a_pair_without_a_side_is_named(rekindle, tmp_path):
    rows_file(tmp_path / "p.jsonl", [{"prompt": "1+2:", "chosen": "1+2=3"}])
    words = ("diagnose", "--model", "testbed/chain-s0", "--task", "chain")
    code, _, err = rekindle(*words, "--pairs", tmp_path / "p.jsonl")
    assert (code, "p.jsonl:1 has no 'rejected'" in err) == (2, True), err


def test_a_weak_model_of_other_tokens_is_not_mixed_in(diagnose, tmp_path):
    from transformers import AutoTokenizer

    policy = Policy.load(ModelConfig(name="testbed/addition-s1"))
    policy.save(tmp_path / "other")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "other")
    tokenizer.chat_template = "{{ messages[0]['content'] }} "
    tokenizer.save_pretrained(tmp_path / "other")
    out, found = diagnose(
        *("testbed/addition-s0", "addition", "2", "--signals", "sft", "--problems", 10),
        *("--weak", tmp_path / "other"),
    )
    assert line(out, "sft, mixed  not measured:")
    assert "sft" in found["signals"]
