"""DPO and ORPO: their numbers, their gradients against autograd, pairs from files, telemetry."""

import json
import math
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn.functional import logsigmoid

import tiny
from rekindle.engine.batch import count, pack
from rekindle.engine.device import Group
from rekindle.engine.layout import lay_out
from rekindle.engine.run import Run
from rekindle.engine.update import measure_batch
from rekindle.errors import ConfigError, DataError
from rekindle.loops import pair_step as pairs_module
from rekindle.loops.pair_step import (
    PairObjective,
    PairScores,
    edit_similarity,
    hidden_cosine,
    packed,
    pushed,
)
from rekindle.loops.world import World
from rekindle.methods.dpo import dpo_terms
from rekindle.methods.orpo import orpo_terms
from rekindle.tasks.pairs import pairs_of_file, read_pairs
from rekindle.training.recipe import make_recipe
from rekindle.training.train import train

PAIRS = [
    {"id": "a", "prompt": "1+1=", "chosen": "2", "rejected": "345"},
    {"id": "b", "prompt": "12=", "chosen": "abc", "rejected": "ab"},
    {"id": "c", "prompt": "7", "chosen": "77", "rejected": "7"},
]


def of(*values):
    return torch.tensor(values, dtype=torch.float64)


def scores(chosen, rejected, ref_chosen=0.0, ref_rejected=0.0, lengths=(1.0, 1.0)):
    return PairScores(*map(of, (chosen, rejected, ref_chosen, ref_rejected, *lengths)))


def test_dpo_by_hand():
    """beta .1: -10 against -12 and -15 against -13 is a margin of .4; the loss .513015."""
    terms = dpo_terms(scores(-10.0, -15.0, -12.0, -13.0), beta=0.1, smoothing=0.0, nll=0.0)
    assert float(terms.loss_N) == pytest.approx(0.513015, abs=1e-6)
    assert float(terms.margin_N) == pytest.approx(0.4)


def test_dpo_begins_at_log_2_with_half_of_beta_as_push():
    terms = dpo_terms(scores(-3.0, -4.0, -3.0, -4.0), beta=0.1, smoothing=0.0, nll=0.0)
    assert float(terms.loss_N) == pytest.approx(math.log(2), abs=1e-12)
    assert float(terms.up_N) == float(terms.down_N) == pytest.approx(0.05)


def test_swapping_the_sides_turns_the_margin():
    one = dpo_terms(scores(-3.0, -5.0, -4.0, -4.5), beta=0.3, smoothing=0.0, nll=0.0)
    two = dpo_terms(scores(-5.0, -3.0, -4.5, -4.0), beta=0.3, smoothing=0.0, nll=0.0)
    assert float(one.margin_N) == pytest.approx(-float(two.margin_N))


def test_orpo_by_hand():
    """l -.5 and -1, beta .1: log odds .974077, -log sigmoid .320300, in all .532030."""
    terms = orpo_terms(scores(-0.5, -1.0), beta=0.1)
    assert float(terms.margin_N) == pytest.approx(0.974077, abs=1e-6)
    assert float(-logsigmoid(terms.margin_N)) == pytest.approx(0.320300, abs=1e-6)
    assert float(terms.loss_N) == pytest.approx(0.532030, abs=1e-6)


def test_orpo_stays_finite_where_the_odds_have_no_limit():
    for chosen, rejected in ((0.0, -1.0), (-1.0, 0.0), (-1e-12, -1e-12), (-800.0, -900.0)):
        terms = orpo_terms(scores(chosen, rejected), beta=0.1)
        assert all(bool(value.isfinite().all()) for value in terms), (chosen, rejected)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("nll", [0.0, 0.7])
def test_dpos_pushes_are_its_derivatives(smoothing, nll):
    chosen, rejected = of(-3.0, -9.0, -1.0), of(-4.0, -2.0, -1.0)
    rest = (of(-3.5, -5.0, -2.0), of(-3.0, -4.0, -2.0), of(3.0, 5.0, 2.0), of(4.0, 2.0, 9.0))
    derivatives(
        lambda s: dpo_terms(s, beta=0.3, smoothing=smoothing, nll=nll), chosen, rejected, rest
    )


def test_orpos_pushes_are_its_derivatives():
    chosen, rejected = of(-3.0, -9.0, -1.0), of(-4.0, -2.0, -1.0)
    rest = (of(0, 0, 0), of(0, 0, 0), of(3.0, 5.0, 2.0), of(4.0, 2.0, 9.0))
    derivatives(lambda s: orpo_terms(s, beta=0.3), chosen, rejected, rest)


def derivatives(rule, chosen, rejected, rest):
    chosen, rejected = chosen.requires_grad_(), rejected.requires_grad_()
    terms = rule(PairScores(chosen, rejected, *rest))
    up, down = torch.autograd.grad(terms.loss_N.sum(), (chosen, rejected))
    torch.testing.assert_close(terms.up_N.detach(), -up)
    torch.testing.assert_close(terms.down_N.detach(), down)


def gradients(policy, loss):
    return torch.autograd.grad(loss, list(policy.model.parameters()), allow_unused=True)


@pytest.mark.parametrize("micro_tokens", [8, 10_000])
def test_the_steps_gradient_is_that_of_the_loss(micro_tokens):
    """Through whole log-probs with autograd, against pushes and micro-batches."""
    policy, reference = tiny.policy(), tiny.policy(seed=4).frozen_copy()
    batch = packed(policy, PAIRS, total=len(PAIRS))

    def sums(model):
        out = []
        for prompt, completion in zip(batch.prompts, batch.completions, strict=True):
            found = model.logprobs(lay_out([prompt], [completion]))
            out.append(found.logprobs_BT.sum())
        return torch.stack(out).view(2, -1)

    lengths = torch.tensor([float(len(c)) for c in batch.completions]).double().view(2, -1)
    ours, theirs = sums(policy), sums(reference).detach()
    terms = dpo_terms(PairScores(*ours, *theirs, *lengths), beta=0.3, smoothing=0.1, nll=0.5)
    wanted = gradients(policy, terms.loss_N.mean())
    pushes = torch.cat([terms.up_N, -terms.down_N]).detach()
    loss = 0.0
    for micro in batch.replace(advantage_B=pushes).split(micro_tokens):
        loss = loss + (pushed(policy)(micro).loss_BT * micro.weight_BT).sum()
    for a, b in zip(gradients(policy, loss), wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-9)


@pytest.mark.parametrize("micro_tokens", [1, 20, 10_000])
def test_one_pass_gives_the_gradient_of_the_loss(micro_tokens):
    """Whole pairs in each micro-batch, behind one prompt: as sums with autograd."""
    policy, reference = tiny.policy(), tiny.policy(seed=4).frozen_copy()
    batch = packed(policy, PAIRS, total=len(PAIRS))
    rule = partial(dpo_terms, beta=0.3, smoothing=0.1, nll=0.5)

    def sums(model):
        layout = lay_out(batch.prompts, batch.completions)
        return model.logprobs(layout).logprobs_BT.sum(dim=1).view(2, -1)

    lengths = torch.tensor([float(len(c)) for c in batch.completions]).double().view(2, -1)
    terms = rule(PairScores(*sums(policy), *sums(reference).detach(), *lengths))
    wanted = gradients(policy, terms.loss_N.mean())
    ref_BT = batch.ref_logprobs_BT.clone()
    ref_BT[:, 0] = sums(reference).detach().flatten()
    objective = PairObjective(policy, rule, referenced=True)
    scored, loss = batch.replace(ref_logprobs_BT=ref_BT), 0.0
    for micro in scored.split(micro_tokens, policy.arrangement()):
        assert {row % len(PAIRS) for row in micro.rows[: len(micro.rows) // 2]} == {
            row - len(PAIRS) for row in micro.rows[len(micro.rows) // 2 :]
        }
        loss = loss + (objective(micro).loss_BT * micro.weight_BT).sum()
    for a, b in zip(gradients(policy, loss), wanted, strict=True):
        torch.testing.assert_close(a, b, atol=1e-7, rtol=1e-5)  # norms are fp32 inside
    facts = objective.facts(Group(), len(PAIRS))
    assert facts["loss"] == pytest.approx(float(terms.loss_N.detach().mean()), abs=1e-9)


def test_the_reference_scores_each_pair_once_and_a_resumed_run_reads_the_same(base, monkeypatch):
    scored = []
    real = World.measure

    def measure(self, policy, batch, **settings):
        scored.extend(batch.completions)
        return real(self, policy, batch, **settings)

    monkeypatch.setattr(World, "measure", measure)
    whole = train(recipe(base, "dpo"), base / "whole", quiet=True)
    pairs = pairs_of_file(str(base / "pairs.jsonl"))
    assert len(scored) == 2 * len(pairs)  # 30 steps are many epochs
    monkeypatch.setattr(World, "measure", real)
    stopped = dict(rows_of(base / "whole")[0])
    settings = ["checkpoint.every=7"]
    with monkeypatch.context() as patch:
        patch.setattr(Run, "log", failing_at(Run.log, 17))
        with pytest.raises(RuntimeError, match="killed"):
            train(recipe(base, "dpo"), base / "run", quiet=True, overrides=settings)
    again = train(recipe(base, "dpo"), base / "run", quiet=True, overrides=settings, mode="resume")
    assert rows_of(base / "run")[0]["loss"] == stopped["loss"]
    assert (again / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


def failing_at(log, last):
    def log_or_die(self, step, *args, **named):
        if step == last:
            raise RuntimeError("killed")
        return log(self, step, *args, **named)

    return log_or_die


def test_equal_answers_have_no_gradient():
    policy = tiny.policy()
    same = [{"id": "a", "prompt": "1=", "chosen": "2", "rejected": "2"}]
    batch = packed(policy, same, total=1)
    loss = pushed(policy)(batch.replace(advantage_B=of(0.05, -0.05)).split(10_000)[0])
    for grad in gradients(policy, (loss.loss_BT * 1.0).sum()):
        assert float(grad.abs().max()) < 1e-12


# --- as methods


@pytest.fixture
def base(tmp_path):
    tiny.policy().save(tmp_path / "base")
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(p) + "\n" for p in PAIRS))
    return tmp_path


def recipe(base, method, **section):
    rows = [{"id": f"p{i}", "prompt": f"{i}=", "answer": "1", "solution": "12"} for i in range(9)]
    (base / "data.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return make_recipe(
        {
            "method": method,
            "model": {"name": str(base / "base"), "dtype": "float64", "device": "cpu"},
            "task": {"name": "jsonl", "path": str(base / "data.jsonl")},
            "sample": {"max_new_tokens": 3},
            "optim": {"steps": 30, "problems": 3, "lr": 1e-2, "schedule": "constant"},
            "eval": {"problems": 2, "samples": 1},
            method: {"pairs": str(base / "pairs.jsonl"), **section},
        }
    )


def rows_of(out):
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("method", ["dpo", "orpo"])
def test_the_chosen_become_likelier_than_the_rejected(base, method):
    train(recipe(base, method), base / "run", quiet=True)
    rows = rows_of(base / "run")
    assert rows[-1]["loss"] < rows[0]["loss"]
    assert rows[-1]["pairs/accuracy"] == 1
    alike = [edit_similarity(pair["chosen"], pair["rejected"]) for pair in PAIRS]
    cosine_N = hidden_cosine(tiny.policy(), PAIRS, micro_tokens=10_000)
    for row in rows:
        assert row["pairs/similarity"] == pytest.approx(sum(alike) / 3)
        assert row["pairs/cosine"] == pytest.approx(float(cosine_N.mean()))
    changes = {"pairs/chosen_change", "pairs/rejected_change", "pairs/chosen_fell"}
    assert changes & rows[0].keys() == (changes if method == "dpo" else set())
    if method == "dpo":
        assert rows[0]["loss"] == pytest.approx(math.log(2), abs=1e-9)
        assert rows[0]["pairs/margin"] == pytest.approx(0, abs=1e-12)
        assert rows[0]["pairs/gradient_rejected"] == pytest.approx(0.5, abs=0.15)


def test_a_chosen_answer_that_falls_is_an_alarm(base, monkeypatch):
    """Chosen and rejected that share all but the end: raising one over the other lowers both."""
    close = [{"id": "a", "prompt": "1=", "chosen": "123a", "rejected": "123b"}]
    (base / "pairs.jsonl").write_text(json.dumps(close[0]) + "\n")
    facts = {"pairs/chosen_change": -1.0, "pairs/margin": 0.5}
    real = pairs_module.PairObjective.facts
    monkeypatch.setattr(pairs_module.PairObjective, "facts", lambda *args: {**real(*args), **facts})
    with pytest.warns(UserWarning, match="likelihood displacement"):
        train(recipe(base, "dpo"), base / "run", quiet=True)
    alarms = [row["pairs/displaced"] for row in rows_of(base / "run")]
    assert alarms == [0.0] * 9 + [1.0] * 21


@pytest.mark.parametrize("method", ["dpo", "orpo"])
def test_pairs_that_are_left_out_are_told(base, method):
    with (base / "pairs.jsonl").open("a") as file:
        file.write(json.dumps({"id": "d", "prompt": "1=", "chosen": "1", "rejected": "1"}) + "\n")
    with pytest.warns(UserWarning, match="1: chosen is rejected"):
        train(recipe(base, method), base / "run", quiet=True)


@pytest.mark.parametrize("method", ["dpo", "orpo"])
def test_without_pairs_they_are_refused(base, method):
    with pytest.raises(ConfigError, match="needs pairs"):
        recipe(base, method, pairs=None)


# --- pairs from files


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_columns_are_texts_or_messages_and_what_cannot_be_learnt_is_counted(tmp_path):
    turns = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "1+1"}]
    found = read_pairs(
        write(
            tmp_path / "p.jsonl",
            {"prompt": "1=", "chosen": "1", "rejected": "2"},
            {
                "id": "chat",
                "prompt": turns,
                "chosen": [{"role": "assistant", "content": "2"}],
                "rejected": [{"role": "assistant", "content": "3"}],
            },
            {"prompt": "1=", "chosen": "1", "rejected": "1"},
            {"prompt": "1=", "chosen": " ", "rejected": "1"},
        )
    )
    place = f"{tmp_path / 'p.jsonl'}:1"
    first = {"id": "1", "place": place, "prompt": "1=", "chosen": "1", "rejected": "2"}
    assert found.pairs[0] == first
    assert found.pairs[1]["messages"] == (("system", "be brief"), ("user", "1+1"))
    assert (found.pairs[1]["chosen"], found.pairs[1]["rejected"]) == ("2", "3")
    assert found.skipped == {"chosen is rejected": 1, "chosen is empty": 1}


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"chosen": "1", "rejected": "2"}, "no 'prompt'(.|\n)*split the prompt off"),
        ({"prompt": "1", "chosen": "1"}, "has no 'rejected'(.|\n)*do: "),
        ({"prompt": "1", "chosen": 5, "rejected": "2"}, "no usable 'chosen'"),
        (
            {"prompt": "1", "chosen": [{"role": "user", "content": "x"}], "rejected": "2"},
            "not one answer",
        ),
        ({"prompt": "1", "chosen": "1", "rejected": "1"}, "no pair to train on(.|\n)*rejected"),
    ],
)
def test_unusable_pairs_are_named(tmp_path, row, words):
    with pytest.raises(DataError, match=words):
        read_pairs(write(tmp_path / "p.jsonl", row))


def test_an_id_twice_is_refused(tmp_path):
    row = {"id": "a", "prompt": "1", "chosen": "1", "rejected": "2"}
    with pytest.raises(DataError, match="an id twice"):
        read_pairs(write(tmp_path / "p.jsonl", row, row))


# --- how alike the sides are


@pytest.mark.parametrize(
    ("a", "b", "alike"),
    [("kitten", "sitting", 1 - 3 / 7), ("", "", 1.0), ("", "ab", 0.0), ("abc", "abc", 1.0)],
)
def test_edit_similarity_by_hand(a, b, alike):
    assert edit_similarity(a, b) == pytest.approx(alike)


@given(st.text("ab", max_size=6), st.text("ab", max_size=6))
def test_edit_similarity_is_symmetric_and_1_for_equal_texts_alone(a, b):
    assert edit_similarity(a, b) == edit_similarity(b, a)
    assert (edit_similarity(a, b) == 1) == (a == b)


@pytest.mark.parametrize("micro_tokens", [8, 10_000])
def test_the_cosine_is_of_the_states_that_have_read_the_answers(micro_tokens):
    policy = tiny.policy()
    found = hidden_cosine(policy, PAIRS, micro_tokens=micro_tokens)
    for pair, value in zip(PAIRS, found.tolist(), strict=True):
        ends = []
        for side in ("chosen", "rejected"):
            text = policy.tokenizer(pair["prompt"] + pair[side])["input_ids"]
            out = policy.model.model(torch.tensor([text])).last_hidden_state
            ends.append(out[0, -1].detach())
        assert value == pytest.approx(float(torch.cosine_similarity(*ends, dim=0)), abs=1e-9)


def test_a_batch_of_pairs_scores_as_its_answers_alone():
    policy = tiny.policy()
    batch = packed(policy, PAIRS, total=3)
    both = measure_batch(policy, batch, micro_tokens=10_000, temperature=1.0).logprobs_BT
    for row, (prompt, completion) in enumerate(zip(batch.prompts, batch.completions, strict=True)):
        one = pack([prompt], [completion], reduction="token", total=count([completion]))
        alone = measure_batch(policy, one, micro_tokens=10_000, temperature=1.0).logprobs_BT
        assert float(both[row].nansum()) == pytest.approx(float(alone.nansum()), abs=1e-9)
