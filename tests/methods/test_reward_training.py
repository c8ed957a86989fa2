"""Training a reward model: the losses, the contrasts, the loop, and that it learns."""

import json
import math
import random
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

import tiny
from rekindle.cli.reward import run_eval, run_train, settings
from rekindle.errors import ConfigError, DataError
from rekindle.records import Problem, Score
from rekindle.rewards.reward_model import ScalarHead
from rekindle.tasks import load_task
from rekindle.training import reward_training
from rekindle.training.reward_data import (
    CORRUPTIONS,
    Contrast,
    LabelledAnswer,
    Pool,
    read_contrasts,
    spoil,
)
from rekindle.training.reward_training import (
    HeldOut,
    RewardTraining,
    assess,
    bradley_terry_loss,
    correctness_loss,
    held_out_answers,
)

TASK = load_task(name="countdown")
PROBLEM = TASK.problems("train", count=1, seed=0, levels=["4"])[0]


@pytest.fixture
def head(base):
    torch.manual_seed(0)
    return ScalarHead.load(str(base), dtype=torch.float64, fresh_head=True)


# --- the losses


def test_losses_by_hand():
    """sigmoid(log 3) = 3/4: a right answer at log 3 costs log(4/3), a wrong one log 4."""
    three = torch.tensor(3.0, dtype=torch.float64).log()
    loss = correctness_loss(three.repeat(2), torch.tensor([1.0, 0.0], dtype=torch.float64))
    assert loss.tolist() == pytest.approx([math.log(4 / 3), math.log(4)])
    pair = bradley_terry_loss(three[None] + 5, torch.full((1,), 5.0, dtype=torch.float64))
    assert float(pair) == pytest.approx(math.log(4 / 3))


def test_swapping_a_pair_and_shifting_both():
    chosen, rejected = torch.randn(2, 20, dtype=torch.float64)
    one, two = bradley_terry_loss(chosen, rejected), bradley_terry_loss(rejected, chosen)
    torch.testing.assert_close(two - one, chosen - rejected)  # a log-odds
    torch.testing.assert_close(bradley_terry_loss(chosen + 7, rejected + 7), one)


def contrasts(count=7):
    rng = random.Random(0)
    return [
        Contrast(
            Problem(id=str(i), prompt="".join(rng.choices("123+", k=rng.randint(1, 9)))),
            "".join(rng.choices("123=", k=rng.randint(1, 12))),
            "".join(rng.choices("456=", k=rng.randint(1, 12))),
        )
        for i in range(count)
    ]


@pytest.mark.parametrize("loss", ["correctness", "bradley_terry"])
@pytest.mark.parametrize("budget", [10_000, 60, 1])
def test_gradient_is_that_of_the_plain_mean_whatever_the_split(loss, budget, head):
    """Against the formula over all rows, one unpadded forward each."""
    pairs = contrasts()
    micros, objective = getattr(reward_training, loss)(head, pairs, budget)
    total = sum((objective(micro).loss_BT * micro.weight_BT).sum() for micro in micros)
    got = torch.autograd.grad(total, head.model.parameters(), allow_unused=True)

    def value(problem, text):
        tokens = torch.tensor([head.encode(problem, text)])
        return head.logits(tokens, torch.ones_like(tokens, dtype=torch.bool))

    chosen = torch.cat([value(c.problem, c.chosen) for c in pairs])
    rejected = torch.cat([value(c.problem, c.rejected) for c in pairs])
    if loss == "correctness":
        both = torch.cat([chosen, rejected])
        labels = torch.cat([torch.ones_like(chosen), torch.zeros_like(rejected)])
        plain = correctness_loss(both, labels).mean()
    else:
        plain = bradley_terry_loss(chosen, rejected).mean()
    wanted = torch.autograd.grad(plain, head.model.parameters(), allow_unused=True)
    torch.testing.assert_close(total, plain, atol=1e-12, rtol=0)
    if budget == 1:
        assert len(micros) == (14 if loss == "correctness" else 7)
    for a, b in zip(got, wanted, strict=True):
        if b is not None:
            torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-9)


# --- the contrasts


@pytest.mark.parametrize("name", sorted(CORRUPTIONS))
def test_each_corruption_changes_texts_of_every_kind(name):
    rng = random.Random(0)
    for text in (PROBLEM.solution, "x", "one step\nanother\nthird", "7"):
        made = {CORRUPTIONS[name](text, rng, "36") for _ in range(40)}
        assert all(isinstance(other, str) for other in made)
    steps = PROBLEM.solution.split(";")
    made = [CORRUPTIONS[name](PROBLEM.solution, rng, "36") for _ in range(40)]
    assert any(other != PROBLEM.solution for other in made)
    if name == "forced_answer":
        assert made[0].endswith("36")
        assert made[0].count(";") == len(steps) - 1
    if name in ("doubled_step", "repeats"):
        assert made[0].count(";") >= len(steps)


def test_a_spoilt_answer_is_always_wrong_by_the_true_check():
    rng = random.Random(0)
    for problem in TASK.problems("train", count=30, seed=0, levels=["4"]):
        for _ in range(10):
            made = spoil(TASK, problem, [problem.solution], rng)
            assert TASK.grade(problem, made.text).value == 0
            assert made.text != problem.solution


def test_where_nothing_can_be_spoilt_there_is_none():
    lenient = replace(TASK, check=lambda problem, text: Score(1.0))
    assert spoil(lenient, PROBLEM, ["abc"], random.Random(0)) is None
    assert spoil(TASK, PROBLEM, [""], random.Random(0)) is None


def test_contrasts_are_within_a_problem_and_of_the_wanted_share():
    problems = TASK.problems("train", count=20, seed=0, levels=["4"])
    rows = [LabelledAnswer(i, p.solution, True, "reference") for i, p in enumerate(problems)]
    rows += [
        LabelledAnswer(i, f"natural {i}", False, "p") for i in range(10)
    ]  # none for the others
    drawn = Pool.of(TASK, problems, rows).draw(2000, corrupted=0.25, rng=random.Random(0))
    assert len(drawn) == 2000
    for contrast in drawn:
        assert contrast.chosen == contrast.problem.solution
        assert TASK.grade(contrast.problem, contrast.rejected).value == 0
    places = {p.id: i for i, p in enumerate(problems)}
    having = [c for c in drawn if places[c.problem.id] < 10]
    natural = {row.text for row in rows if not row.right}
    spoilt = sum(c.rejected not in natural for c in having) / len(having)
    assert abs(spoilt - 0.25) < 0.06
    again = Pool.of(TASK, problems, rows).draw(2000, corrupted=0.25, rng=random.Random(0))
    assert again == drawn


def test_without_a_right_answer_there_is_nothing_to_learn():
    with pytest.raises(DataError, match="none of the candidates is right"):
        Pool.of(TASK, [PROBLEM], [LabelledAnswer(0, "x", False, "p")])


@pytest.mark.parametrize(
    ("row", "match"),
    [
        ({"prompt": "a", "chosen": "b"}, ":2 has no 'rejected'"),
        ({"prompt": "a", "chosen": "b", "rejected": 3}, ":2 has no usable 'rejected'"),
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "same text"),
    ],
)
def test_bad_pairs_are_named_by_line(row, match, tmp_path):
    path = tmp_path / "pairs.jsonl"
    good = {"prompt": "a", "chosen": "b", "rejected": "c"}
    path.write_text(json.dumps(good) + "\n" + json.dumps(row) + "\n")
    with pytest.raises(DataError, match=match):
        read_contrasts(path)


# --- held out


class Oracle:
    """Scores what it is told."""

    def __init__(self, wanted):
        self.wanted = wanted

    def score(self, asked):
        return [Score(self.wanted(problem, text)) for problem, text in asked]

    def fingerprint(self):
        return "oracle"


def held_out(brittle):
    problems = TASK.problems("dev", count=30, seed=0, levels=["3"])
    answers = []
    for p in problems:
        a, b, c = p.prompt.split(">")[0].split(",")
        first, second = p.solution.split(";")
        left, op, right = first[0], first[1], first.split("=")[0][2:]
        turned = f"{right}{op}{left}={first.split('=')[1]};{second}" if op in "+*" else p.solution
        answers += [(p, p.solution), (p, turned), (p, f"{a}+{b}=99;99+{c}=1"), (p, "")]
    return held_out_answers(TASK, problems, answers, brittle=brittle, seed=0)


def test_a_perfect_model_and_a_blind_one():
    answers = held_out(brittle=1.0)
    right = assess(Oracle(lambda p, t: TASK.grade(p, t).value), answers)["metrics"]
    assert {name: found["value"] for name, found in right.items()} == {
        "auc": 1.0,
        "auc_in_group": 1.0,
        "auc_within_wrong": 1.0,
        "auc_within_right": pytest.approx(math.nan, nan_ok=True),
        "auc_spoilt": 1.0,
    }
    blind = assess(Oracle(lambda p, t: 0.0), answers)["metrics"]
    assert all(found["value"] == 0.5 for name, found in blind.items() if name != "auc_within_right")


def test_with_the_true_check_the_strata_hold_one_kind_each():
    metrics = assess(Oracle(lambda p, t: 0.0), held_out(brittle=0.0))["metrics"]
    assert math.isnan(metrics["auc_within_wrong"]["value"])
    assert math.isnan(metrics["auc_within_right"]["value"])


def test_spoilt_answers_are_there_for_each_problem_and_apart():
    answers = held_out(brittle=0.0)
    assert answers.natural.count(False) == 30
    spoilt = [r for r, n in zip(answers.right, answers.natural, strict=True) if not n]
    assert spoilt == [0.0] * 30


# --- the command


def small(base, *, loss="correctness", policies=()):
    overrides = [
        *("model.dtype=float64", "model.device=cpu"),
        *("data.problems=20", "data.samples=2", "data.temperatures=[1.0]", "data.held_out=5"),
        *("optim.steps=4", "optim.problems=6", "checkpoint.every=2", "sample.max_new_tokens=8"),
        "every=2",
    ]
    return settings(str(base), "countdown", "3", loss, policies=policies, overrides=overrides)


def weights(out):
    return load_file(out / "final" / "model.safetensors")


@pytest.mark.parametrize("loss", ["correctness", "bradley_terry"])
def test_the_command_trains_saves_and_resumes_to_the_bit(loss, base, tmp_path, monkeypatch):
    config = small(base, loss=loss)
    run_train(config, tmp_path / "straight", mode="new", command="", quiet=True)
    real, calls = reward_training.update, []

    def failing(*args, **kwargs):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(reward_training, "update", failing)
    with pytest.raises(KeyboardInterrupt):
        run_train(config, tmp_path / "broken", mode="new", command="", quiet=True)
    monkeypatch.setattr(reward_training, "update", real)
    run_train(config, tmp_path / "broken", mode="resume", command="", quiet=True)
    one, two = weights(tmp_path / "straight"), weights(tmp_path / "broken")
    assert "score.weight" in one
    assert all(one[name].equal(two[name]) for name in one)
    made = json.loads((tmp_path / "straight" / "final" / "eval.json").read_text())
    assert made["answers"] == 40
    assert set(made["metrics"]) == {
        "auc", "auc_in_group", "auc_within_wrong", "auc_within_right", "auc_spoilt"
    }  # fmt: skip
    rows = (tmp_path / "straight" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == [1, 2, 3, 4]
    scorer = ScalarHead.load(str(tmp_path / "straight" / "final"), dtype=torch.float64)
    assert math.isfinite(scorer.score([(PROBLEM, PROBLEM.solution)])[0].value)


def test_candidates_of_more_policies_are_added(base, tmp_path):
    tiny.policy(seed=1, dtype="float64").save(tmp_path / "other")
    config = small(base, policies=[str(tmp_path / "other")])
    run_train(config, tmp_path / "run", mode="new", command="", quiet=True)
    lines = (tmp_path / "run" / "candidates.jsonl").read_text().splitlines()
    sources = {json.loads(line)["source"] for line in lines}
    assert sources == {"reference", f"{base} T=1", f"{tmp_path / 'other'} T=1"}


def test_a_reward_model_can_go_on_learning_from_a_policys_answers(base, tmp_path):
    run_train(small(base), tmp_path / "first", mode="new", command="", quiet=True)
    first = tmp_path / "first" / "final"
    with pytest.raises(ConfigError, match="writes no answers"):
        run_train(small(first), tmp_path / "refused", mode="new", command="", quiet=True)
    config = small(first, policies=[str(base)])
    run_train(config, tmp_path / "second", mode="new", command="", quiet=True)
    rows = (tmp_path / "second" / "candidates.jsonl").read_text().splitlines()
    assert {json.loads(row)["source"] for row in rows} == {"reference", f"{base} T=1"}


def test_pairs_alone_and_their_eval(base, tmp_path, capsys):
    """Chosen answers have an a, rejected ones a b: found after 40 steps on prompts not seen."""
    rng = random.Random(0)
    rows = []
    for i in range(60):
        texts = ["".join(rng.choices("123", k=4)) for _ in range(2)]
        rows.append({"prompt": f"{i}=", "chosen": texts[0] + "a", "rejected": texts[1] + "b"})
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    overrides = ["optim.steps=40", "optim.problems=16", "optim.lr=1e-2"]
    config = settings(str(base), loss="bradley_terry", pairs=path, overrides=overrides)
    run_train(config, tmp_path / "run", mode="new", command="", quiet=True)
    made = json.loads((tmp_path / "run" / "final" / "eval.json").read_text())
    assert made["metrics"]["auc"]["value"] > 0.95
    assert made["metrics"]["auc"]["n"] == 12
    assert "auc" in capsys.readouterr().out


def test_pairs_need_bradley_terry(base, tmp_path):
    config = settings(str(base), pairs=tmp_path / "p.jsonl")
    with pytest.raises(ConfigError, match="bradley_terry"):
        run_train(config, tmp_path / "run", mode="new", command="", quiet=True)


def test_eval_of_another_policys_answers(base, tmp_path):
    run_train(small(base), tmp_path / "rm", mode="new", command="", quiet=True)
    run_eval(small(base), str(tmp_path / "rm" / "final"), tmp_path / "auc.json")
    again = json.loads((tmp_path / "auc.json").read_text())
    made = json.loads((tmp_path / "rm" / "final" / "eval.json").read_text())
    assert again["metrics"] == made["metrics"]


def test_one_setting_keeps_the_other_defaults():
    config = settings("x", overrides=["optim.lr=0.5"])
    plain = RewardTraining()
    assert config.optim == plain.optim.model_copy(update={"lr": 0.5})
    assert isinstance(held_out(0.0), HeldOut)
