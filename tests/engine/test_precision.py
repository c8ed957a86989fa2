"""bfloat16 trains as fp32 does; what is only evaluated is held in half the memory."""

import pytest
import torch
from safetensors.torch import load_file

import tiny
from families import family_config
from rekindle.engine.batch import count, pack
from rekindle.engine.capabilities import check_attention, check_dtype, check_optimizer
from rekindle.engine.config import ModelConfig, OptimConfig, SampleConfig
from rekindle.engine.device import Group
from rekindle.engine.policy import Policy
from rekindle.engine.sampler import sampler_for
from rekindle.engine.update import fresh_state, measure_batch, update
from rekindle.errors import ConfigError, ModelError
from rekindle.methods.sft import sft_objective
from rekindle.ops.forwards import layers_of
from rekindle.ops.weights import weighted_sum
from rekindle.records import Problem

TESTBED = "testbed/countdown-s0"
FAMILIES = ("llama", "qwen3", "gpt2")


def flat(tensors):
    return torch.cat([tensor.detach().double().flatten() for tensor in tensors])


def batches(policy, number, *, rows=8):
    """Random answers to random prompts, the same for the same vocabulary."""
    gen, size = torch.Generator().manual_seed(0), len(policy.tokenizer)

    def texts(shortest, longest):
        lengths = torch.randint(shortest, longest, (rows,), generator=gen).tolist()
        return [tuple(torch.randint(4, size, (n,), generator=gen).tolist()) for n in lengths]

    made = []
    for _ in range(number):
        prompts, answers = texts(4, 12), texts(4, 20)
        total, ones = count(answers), torch.ones(rows, dtype=torch.float64)
        made.append(
            pack(prompts, answers, reduction="token", total=total, budget=8, advantage_B=ones)
        )
    return made


def gradient(policy, batch):
    policy.model.zero_grad()
    for micro in batch.split(4096):
        terms = sft_objective(policy)(micro.to(policy.device))
        weighted_sum(terms.loss_BT, micro.weight_BT.to(terms.loss_BT)).backward()
    return flat(p.grad for p in policy.model.parameters())


def displacement(policy, steps, **optim):
    """How far updates on `steps` batches move the weights."""
    before = flat(policy.model.parameters())
    settings = OptimConfig(**{"lr": 1e-6, "steps": steps, **optim})
    state, loss = fresh_state({"policy": policy.model}, settings), sft_objective(policy)
    for batch in batches(policy, steps):
        update(state, batch.split(4096), loss, clip=1.0, group=Group(), device=policy.device)
        state.step += 1
    return flat(policy.model.parameters()) - before


def cosine(a, b):
    return float(a @ b / (a.norm() * b.norm()))


def load(name, dtype="float32"):
    return Policy.load(ModelConfig(name=name, dtype=dtype, device="cpu"))


def trains_like_fp32(moved, wanted):
    return cosine(moved, wanted) >= 0.85 and abs(moved.norm() / wanted.norm() - 1) <= 0.1


def check_bfloat16_learns(name):
    """The bounds of the promise; weights that are themselves bf16 break them."""
    exact = load(name)
    batch = batches(exact, 1)[0]
    wanted_gradient, wanted = gradient(exact, batch), displacement(exact, 8)
    half = load(name, "bfloat16")
    given = gradient(half, batch)
    assert cosine(given, wanted_gradient) >= 0.998
    assert abs(given.norm() / wanted_gradient.norm() - 1) <= 0.02
    assert trains_like_fp32(displacement(half, 8), wanted)
    pure = load(name)
    pure.model.bfloat16()
    assert not trains_like_fp32(displacement(pure, 8), wanted)


def test_bfloat16_steps_as_fp32_does_and_weights_of_bfloat16_do_not():
    check_bfloat16_learns(TESTBED)


@pytest.mark.real
def test_a_pretrained_model_learns_in_bfloat16(smollm):
    check_bfloat16_learns(str(smollm))


# --- how a model is held


def linear_maps(policy):
    return [m.weight for m in policy.model.modules() if type(m) is torch.nn.Linear]


@pytest.fixture(params=[False, True], ids=["untied", "tied"])
def saved(request, tmp_path):
    config = tiny.llama_config(tie_word_embeddings=request.param)
    tiny.model(config=config).save_pretrained(tmp_path)
    tiny.tokenizer().save_pretrained(tmp_path)
    return str(tmp_path)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_an_evaluated_model_is_held_in_half_and_computes_the_same_numbers(saved, dtype):
    masters, held = (
        load(saved, dtype),
        Policy.load(ModelConfig(name=saved, dtype=dtype, device="cpu"), use="evaluation"),
    )
    assert {p.dtype for p in masters.model.parameters()} == {torch.float32}
    half, embedding = getattr(torch, dtype), held.model.get_input_embeddings().weight
    assert embedding.dtype == torch.float32
    assert {w.dtype for w in linear_maps(held) if w is not embedding} == {half}
    assert (held.model.lm_head.weight is embedding) == held.model.config.tie_word_embeddings
    batch = batches(masters, 1)[0]
    ours, theirs = (scores(policy, batch) for policy in (masters, held))
    assert torch.equal(ours, theirs)
    exact = scores(load(saved), batch)
    assert 0 < float((ours - exact).abs().max()) < 0.05


def scores(policy, batch):
    values = measure_batch(policy, batch, micro_tokens=4096, temperature=1.0).logprobs_BT
    return values.nan_to_num()


def test_a_model_in_memory_is_trained_in_float32(saved):
    model = load(saved).model.bfloat16()
    policy = Policy.of(model, tiny.tokenizer(), ModelConfig(name="x", device="cpu"))
    assert {p.dtype for p in policy.model.parameters()} == {torch.float32}
    tied = model.config.tie_word_embeddings
    assert (model.lm_head.weight is model.get_input_embeddings().weight) == tied


def test_a_frozen_copy_is_the_policy_of_now_in_half_the_memory(saved):
    policy = load(saved, "bfloat16")
    frozen, batch = policy.frozen_copy(), batches(policy, 1)[0]
    before = scores(policy, batch)
    assert torch.equal(scores(frozen, batch), before)
    whole, half = (sum(t.nbytes for t in p.model.parameters()) for p in (policy, frozen))
    assert half < 0.85 * whole
    displacement(policy, 2, lr=1e-2)
    assert not torch.equal(scores(policy, batch), before)
    assert torch.equal(scores(frozen, batch), before)
    assert {p.dtype for p in frozen.trainable_copy().model.parameters()} == {torch.float32}


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("use", ["training", "evaluation"])
def test_draws_of_bfloat16_are_those_that_the_trainer_scores(kind, use):
    policy = Policy.of(
        tiny.model(kind),
        tiny.tokenizer(),
        ModelConfig(name="tiny", dtype="bfloat16", device="cpu"),
        use=use,
    )
    problems = [Problem(id=str(i), prompt=f"{i}+{i}=") for i in range(4)]
    config = SampleConfig(max_new_tokens=8)
    rollouts = sampler_for(policy).sample(problems, samples=4, config=config, seed=0)
    total, ones = count([r.tokens for r in rollouts]), torch.ones(16, dtype=torch.float64)
    batch = pack(
        [r.prompt_tokens for r in rollouts],
        [r.tokens for r in rollouts],
        reduction="token",
        total=total,
        budget=8,
        advantage_B=ones,
    )
    scored = scores(policy, batch)
    for row, rollout in zip(scored, rollouts, strict=True):
        drawn = torch.tensor(rollout.sampled_logprobs, dtype=torch.float64)
        assert drawn.isfinite().all()
        torch.testing.assert_close(row[: len(drawn)], drawn, atol=0.03, rtol=0)
    assert not torch.is_autocast_enabled("cpu")


def test_what_is_sampled_after_an_update_has_the_new_weights():
    policy = tiny.policy(dtype="float32")
    policy.config = policy.config.model_copy(update={"dtype": "bfloat16"})
    problems = [Problem(id=str(i), prompt=f"{i}+{i}=") for i in range(4)]
    sampler, config = sampler_for(policy), SampleConfig(max_new_tokens=8, temperature=0.0)

    def drawn(sampler):
        return [
            r.sampled_logprobs for r in sampler.sample(problems, samples=1, config=config, seed=0)
        ]

    before = drawn(sampler)
    displacement(policy, 2, lr=1e-2)
    assert drawn(sampler) == drawn(sampler_for(policy)) != before


# --- activation checkpointing and attention


DROPS = {
    "gpt2": {"resid_pdrop": 0.5, "embd_pdrop": 0.5, "attn_pdrop": 0.5},
    "opt": {"dropout": 0.5},
    "phi": {"resid_pdrop": 0.5, "embd_pdrop": 0.5, "attention_dropout": 0.5},
    "llama": {"attention_dropout": 0.5},
    "gemma3_text": {"attention_dropout": 0.5, "sliding_window": 4},
    "mixtral": {"attention_dropout": 0.5},
}


def family(kind, **settings):
    """A small model of a family, with dropout that eval mode must keep off."""
    model = tiny.model(config=family_config(kind, **DROPS[kind]))
    return Policy.of(model, tiny.tokenizer(), ModelConfig(name=kind, device="cpu", **settings))


@pytest.mark.parametrize("kind", DROPS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_recomputed_layers_give_the_same_gradient_without_dropout(kind, dtype):
    plain, again = (
        family(kind, dtype=dtype),
        family(kind, dtype=dtype, activation_checkpointing=True),
    )
    calls = []
    for layer in layers_of(again.model):
        layer.register_forward_pre_hook(lambda *_: calls.append(1))
        for child in layer.children():
            child.register_forward_pre_hook(lambda *_: calls.append(2))
    batch = batches(plain, 1)[0]
    wanted, given = gradient(plain, batch), gradient(again, batch)
    assert (given - wanted).norm() <= 1e-6 * wanted.norm()
    inner = len(list(layers_of(again.model)[0].children()))
    assert calls.count(1) == 2  # one forward through each layer,
    assert calls.count(2) > 2 * inner - 2  # whose parts run twice
    assert not any(module.training for module in again.model.modules())
    assert all("forward" not in vars(module) for module in again.model.modules())


def test_recomputing_is_refused_where_there_is_nothing_to_recompute(monkeypatch):
    monkeypatch.setattr("rekindle.engine.holding.layers_of", lambda model: [])
    with pytest.raises(ConfigError, match="activation_checkpointing has no effect"):
        family("llama", activation_checkpointing=True)


def test_attentions_agree_and_the_model_uses_the_one_that_was_set():
    policies = {name: family("llama", attention=name) for name in ("eager", "sdpa", "auto")}
    used = {name: p.model.config._attn_implementation for name, p in policies.items()}
    assert used == {"eager": "eager", "sdpa": "sdpa", "auto": "sdpa"}
    batch = batches(policies["auto"], 1)[0]
    eager, sdpa = (gradient(policies[name], batch) for name in ("eager", "sdpa"))
    torch.testing.assert_close(eager, sdpa, atol=1e-5, rtol=1e-4)


# --- what cannot be had


@pytest.mark.parametrize(
    ("device", "package", "dtype", "got"),
    [
        ("cpu", True, "bfloat16", "device cpu"),
        ("cuda", False, "bfloat16", "no package flash-attn"),
        ("cuda", True, "float32", "model.dtype float32"),
        ("cuda", True, "bfloat16", None),
    ],
)
def test_flash_attention_needs_a_gpu_its_package_and_half_precision(
    device, package, dtype, got, monkeypatch
):
    monkeypatch.setattr("rekindle.engine.capabilities.find_spec", lambda name: package or None)
    config = ModelConfig(attention="flash_attention_2", dtype=dtype)
    if got is None:
        check_attention(config, torch.device(device))
        return
    with pytest.raises(ConfigError, match=f"flash_attention_2 is not available\n.*{got}"):
        check_attention(config, torch.device(device))


def test_a_dtype_that_a_device_lacks_is_named(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    for dtype, device in [("bfloat16", "cuda"), ("float64", "mps")]:
        with pytest.raises(ConfigError, match=f"{dtype} is not available on {device}"):
            check_dtype(dtype, torch.device(device))
    for dtype, device in [("float32", "cuda"), ("float16", "cuda"), ("bfloat16", "cpu")]:
        check_dtype(dtype, torch.device(device))


def test_eight_bit_moments_are_refused_without_a_gpu_or_torchao(monkeypatch):
    optim = OptimConfig(name="adamw_8bit")
    with pytest.raises(ConfigError, match=r"adamw_8bit is not available\n.*device cpu"):
        check_optimizer(optim, torch.device("cpu"))
    monkeypatch.setattr("rekindle.engine.capabilities.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="no package torchao"):
        check_optimizer(optim, torch.device("cuda"))


def test_betas_that_no_optimizer_reads_are_refused():
    with pytest.raises(ConfigError, match=r"optim.betas has no effect .*adafactor"):
        check_optimizer(OptimConfig(name="adafactor", betas=(0.9, 0.99)), torch.device("cpu"))
    for name in ("adamw", "muon"):
        check_optimizer(OptimConfig(name=name, betas=(0.9, 0.99)), torch.device("cpu"))


# --- what is written


def test_weights_are_written_in_another_dtype_and_the_loss_is_told(saved, tmp_path, capsys):
    policy = load(saved, "bfloat16")
    policy.save(tmp_path / "full")
    policy.save(tmp_path / "half", dtype="bfloat16")
    full, half = (load_file(tmp_path / name / "model.safetensors") for name in ("full", "half"))
    assert full.keys() == half.keys()
    assert {t.dtype for t in full.values()} == {torch.float32}
    assert all(torch.equal(half[name], full[name].bfloat16()) for name in full)
    square = sum((half[n].double() - full[n].double()).square().sum() for n in full)
    whole = sum(tensor.double().square().sum() for tensor in full.values())
    share = float((square / whole).sqrt())
    assert f"rounded to bfloat16, which moves them by {share:.1e} of" in capsys.readouterr().err
    for name, dtype in (("full", torch.float32), ("half", torch.bfloat16)):
        from transformers import AutoModelForCausalLM

        assert AutoModelForCausalLM.from_pretrained(tmp_path / name).dtype == dtype
    assert policy.model.dtype == policy.model.config.dtype == torch.float32


def test_weights_beyond_float16_are_not_written(saved, tmp_path):
    policy = load(saved)
    with torch.no_grad():
        next(policy.model.parameters())[0, 0] = 1e6
    with pytest.raises(ModelError, match=r"do not fit into model.save_dtype: float16"):
        policy.save(tmp_path / "half", dtype="float16")
    assert not (tmp_path / "half" / "model.safetensors").exists()
    policy.save(tmp_path / "wide", dtype="bfloat16")
