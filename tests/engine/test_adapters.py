"""Adapters on a shared base: what is shared, what is copied, what is written, what is refused."""

import json
from dataclasses import replace

import pytest
import torch
from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

import tiny
from rekindle.engine.adapters.adapter import Base, fresh_adapter, read_adapter
from rekindle.engine.adapters.policies import (
    hold_base,
    reopened,
    save_trained,
    second_adapter,
    with_adapter,
)
from rekindle.engine.config import LoraConfig, ModelConfig, OptimConfig
from rekindle.engine.fingerprints import source_fingerprint, weights_fingerprint
from rekindle.engine.policy import Policy
from rekindle.engine.state import TrainState
from rekindle.engine.update import fresh_state
from rekindle.errors import ConfigError, ModelError

# PEFT 0.21 asks transformers by a name that it gives up
pytestmark = pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing:FutureWarning")
TOKENS = torch.tensor([[1, 4, 5, 9, 8], [1, 6, 7, 7, 2]])
KINDS = [
    LoraConfig(rank=2),
    LoraConfig(rank=2, dora=True),
    LoraConfig(rank=3, rslora=True, alpha=5.0, dropout=0.3),
    LoraConfig(rank=2, dora=True, dropout=0.3),
    LoraConfig(rank=1, targets=("q_proj", "model.layers.1.mlp.up_proj")),
]


def moved(policy, size=0.3):
    """Its adapter as if it had been trained."""
    gen = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.model.parameters():
            if parameter.requires_grad:
                parameter += size * torch.randn(parameter.shape, generator=gen).to(parameter)
    return policy


def adapted(kind="llama", lora=KINDS[0], **settings):
    return with_adapter(tiny.policy(kind, **settings), lora, seed=0)


@torch.no_grad()
def logits(model):
    return model(TOKENS).logits


def pointers(model):
    return {tensor.data_ptr() for tensor in (*model.parameters(), *model.buffers())}


# --- one base


@pytest.mark.parametrize("lora", KINDS, ids=str)
def test_a_fresh_adapter_is_the_base_and_is_all_that_is_trained(lora):
    policy, base = adapted(lora=lora), tiny.policy()
    assert torch.equal(logits(policy.model), logits(base.model))
    trained = {name for name, p in policy.model.named_parameters() if p.requires_grad}
    assert trained == {name for name, _ in policy.model.named_parameters() if "lora_" in name}
    assert policy.head().weight is policy.model.get_output_embeddings().weight


def test_copies_share_every_weight_of_the_base_and_none_of_the_adapter():
    policy = moved(adapted())
    base = pointers(policy.adapter.base.model)
    own = pointers(policy.model) - base
    for twin in (policy.trainable_copy(), policy.frozen_copy()):
        assert pointers(twin.model) > base
        assert not pointers(twin.model) & own
        assert torch.equal(logits(twin.model), logits(policy.model))
    before = logits(policy.model)
    moved(policy.trainable_copy())
    assert torch.equal(logits(policy.model), before)


def test_a_reference_is_the_base_itself_where_the_adapter_is_fresh_and_an_adapter_where_not():
    fresh = adapted()
    reference = fresh.frozen_copy()
    assert reference.model is fresh.adapter.base.model
    assert torch.equal(logits(moved(fresh).adapter.base.model), logits(tiny.policy().model))
    reference = fresh.frozen_copy()
    assert not any(p.requires_grad for p in reference.model.parameters())
    kept = logits(reference.model)
    moved(fresh)
    assert torch.equal(logits(reference.model), kept)


def test_draws_are_the_seeds_and_leave_torchs_generator_alone():
    before = torch.get_rng_state()
    one, same = adapted(), adapted()
    other = with_adapter(tiny.policy(), KINDS[0], seed=1)
    second = second_adapter(one, seed=0)
    assert torch.equal(torch.get_rng_state(), before)
    first, again, third, fourth = (
        p.model.get_parameter("model.layers.0.self_attn.q_proj.lora_A.default.weight")
        for p in (one, same, other, second)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, third)
    assert not torch.equal(first, fourth)
    trained = moved(one)
    assert torch.equal(logits(second_adapter(trained, seed=0).model), logits(trained.model))


# --- dropout


@pytest.mark.parametrize("dora", [False, True])
def test_dropout_is_in_training_forwards_alone_and_follows_torchs_generator(dora):
    policy = moved(adapted(lora=LoraConfig(rank=2, dropout=0.5, dora=dora)))
    still = logits(policy.model)
    assert torch.equal(logits(policy.model), still)
    torch.manual_seed(3)
    one = policy.model(TOKENS).logits
    two = policy.model(TOKENS).logits
    torch.manual_seed(3)
    assert torch.equal(policy.model(TOKENS).logits, one)
    assert not torch.equal(one, two)
    assert not torch.equal(one, still)
    frozen = policy.frozen_copy().model
    torch.testing.assert_close(frozen(TOKENS).logits, still, atol=1e-12, rtol=0)
    assert not torch.equal(policy.trainable_copy().model(TOKENS).logits, still)


# --- what is written


@pytest.mark.parametrize("kind", ["llama", "qwen3", "gpt2"])
def test_final_is_the_merged_model_and_the_adapter_for_plain_transformers_and_peft(kind, tmp_path):
    policy = moved(adapted(kind))
    tiny.policy(kind).save(tmp_path / "base")
    policy.save(tmp_path / "final")
    final = AutoModelForCausalLM.from_pretrained(tmp_path / "final")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    assert final.dtype == torch.float64
    assert load_file(tmp_path / "final" / "model.safetensors").keys() == (
        load_file(tmp_path / "base" / "model.safetensors").keys()
    )
    peft = PeftModel.from_pretrained(
        base, tmp_path / "final" / "adapter", autocast_adapter_dtype=False
    )
    torch.testing.assert_close(logits(final), logits(policy.model), atol=1e-12, rtol=0)
    torch.testing.assert_close(logits(peft), logits(policy.model), atol=1e-12, rtol=0)


@pytest.mark.parametrize("lora", KINDS, ids=str)
def test_a_merged_model_equals_its_adapter_whatever_the_settings(lora, tmp_path):
    policy = moved(adapted(lora=lora))
    policy.save(tmp_path / "final")
    final = AutoModelForCausalLM.from_pretrained(tmp_path / "final")
    torch.testing.assert_close(logits(final), logits(policy.model), atol=1e-12, rtol=0)


def test_a_merged_model_of_several_parts_is_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr("rekindle.engine.adapters.merging._PART", 4096)
    policy = moved(adapted())
    policy.save(tmp_path / "final")
    assert len(list((tmp_path / "final").glob("model-*.safetensors"))) > 3
    final = AutoModelForCausalLM.from_pretrained(tmp_path / "final")
    torch.testing.assert_close(logits(final), logits(policy.model), atol=1e-12, rtol=0)


def test_weights_of_low_precision_are_merged_in_fp32(tmp_path):
    plain = tiny.policy(dtype="float32")
    plain.model.bfloat16()
    policy = moved(with_adapter(plain, KINDS[0], seed=0), size=1e-4)
    assert {p.dtype for p in policy.model.parameters() if p.requires_grad} == {torch.float32}
    policy.save(tmp_path / "final")
    path = "model.layers.0.mlp.up_proj"
    layer = policy.model.get_submodule(path)
    merged = load_file(tmp_path / "final" / "model.safetensors")[f"{path}.weight"]
    wanted = layer.get_base_layer().weight.float() + layer.get_delta_weight("default")
    torch.testing.assert_close(merged, wanted.detach(), atol=0, rtol=0)


def test_a_stage_keeps_the_adapter_alone_and_is_opened_on_the_same_base(tmp_path):
    policy = moved(adapted())
    save_trained(policy, tmp_path / "stage")
    assert sorted(path.name for path in (tmp_path / "stage").iterdir()) == [
        "adapter_base.json",
        "adapter_config.json",
        "adapter_model.safetensors",
    ]
    again = reopened(policy, tmp_path / "stage")
    assert torch.equal(logits(again.model), logits(policy.model))
    assert again.adapter.base is policy.adapter.base
    assert weights_fingerprint(again) == weights_fingerprint(policy)
    plain = tiny.policy()
    save_trained(plain, tmp_path / "whole")
    again = reopened(plain, tmp_path / "whole")
    assert weights_fingerprint(again) == weights_fingerprint(plain)


def test_a_checkpoint_holds_three_adapters_and_no_tensor_of_the_base(tmp_path):
    policy = moved(adapted(lora=LoraConfig(rank=16)))
    state = fresh_state({"policy": policy.model}, OptimConfig())
    for parameter in policy.model.parameters():
        parameter.grad = torch.ones_like(parameter) if parameter.requires_grad else None
    state.optimizer.step()
    state.save(tmp_path)
    size = sum(p.nbytes for p in policy.model.parameters() if p.requires_grad)
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 3.1 * size + 1e6
    with safe_open(tmp_path / "policy.safetensors", "pt") as saved:
        assert all("lora_" in name for name in saved.keys())  # noqa: SIM118
    twin = adapted(lora=LoraConfig(rank=16))
    again: TrainState = fresh_state({"policy": twin.model}, OptimConfig())
    again.load(tmp_path)
    assert torch.equal(logits(twin.model), logits(policy.model))


# --- an adapter as the start


@pytest.fixture
def run(tmp_path):
    """BASE, and RUN/final of an adapter on it."""
    tiny.policy().save(tmp_path / "base")
    config = ModelConfig(name=str(tmp_path / "base"), dtype="float64", device="cpu")
    policy = moved(with_adapter(Policy.load(config), KINDS[0], seed=0))
    policy.save(tmp_path / "final")
    return policy, tmp_path


@pytest.mark.parametrize("named", ["by name", "beside its base"])
def test_an_adapter_is_loaded_on_its_base_and_goes_on_being_trained(run, named):
    policy, place = run
    adapter = str(place / "final" / "adapter")
    given = {"name": adapter} if named == "by name" else {"adapter": adapter}
    loaded = Policy.load(policy.config.model_copy(update=given))
    assert torch.equal(logits(loaded.model), logits(policy.model))
    trained = [name for name, p in loaded.model.named_parameters() if p.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    assert loaded.adapter.lora.scale == KINDS[0].scale
    assert weights_fingerprint(loaded) == weights_fingerprint(policy)
    with pytest.raises(ConfigError, match="has no effect on a model that has an adapter"):
        with_adapter(loaded, KINDS[0], seed=0)


def test_the_fingerprint_of_the_source_covers_base_and_adapter(run):
    policy, place = run
    adapter = place / "final" / "adapter"
    config = policy.config.model_copy(update={"adapter": str(adapter)})
    before = source_fingerprint(Policy.load(config))
    assert before == source_fingerprint(Policy.load(config))
    for path in (adapter / "adapter_model.safetensors", place / "base" / "model.safetensors"):
        kept, changed = path.read_bytes(), load_file(path)
        name = max(changed)
        save_file({**changed, name: changed[name] * 2}, path, metadata={"format": "pt"})
        (adapter / "adapter_base.json").unlink(missing_ok=True)
        assert source_fingerprint(Policy.load(config)) != before
        path.write_bytes(kept)


def test_an_adapter_that_peft_wrote_is_taken_up(tmp_path):
    tiny.policy().save(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    settings = PeftLoraConfig(r=2, target_modules=["v_proj"], init_lora_weights=False)
    peft = get_peft_model(base, settings, autocast_adapter_dtype=False)
    peft.save_pretrained(tmp_path / "theirs")
    loaded = Policy.load(ModelConfig(name=str(tmp_path / "theirs"), dtype="float64", device="cpu"))
    assert torch.equal(logits(loaded.model), logits(peft))


def test_an_adapter_for_another_base_is_refused(run):
    policy, place = run
    adapter = {"adapter": str(place / "final" / "adapter")}
    tiny.policy(seed=5).save(place / "other")
    config = policy.config.model_copy(update={**adapter, "name": str(place / "other")})
    with pytest.raises(ModelError, match=r"is of another base(.|\n)*base'(.|\n)*model.name="):
        Policy.load(config)
    (place / "final" / "adapter" / "adapter_base.json").unlink()  # as PEFT writes it
    wide = tiny.model(config=tiny.llama_config(intermediate_size=48), dtype=torch.float64)
    Policy.of(wide, tiny.tokenizer(), tiny.policy().config).save(place / "other")
    with pytest.raises(ModelError, match=r"does not fit(.|\n)*mlp.*where \[.*48"):
        Policy.load(config)
    tiny.policy("gpt2").save(place / "gpt2")
    with pytest.raises(ModelError, match="cannot be used"):
        Policy.load(policy.config.model_copy(update={**adapter, "name": str(place / "gpt2")}))


def change(path, **values):
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"peft_type": "IA3"}, "peft_type IA3"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"bias": "all"}, "bias: all"),
        ({"base_model_name_or_path": None}, "does not say which model"),
        ({"base_model_name_or_path": "/nowhere/at/all"}, "no model at '/nowhere/at/all'"),
    ],
)
def test_an_adapter_that_cannot_be_used_is_refused_by_what_it_is(run, values, words):
    policy, place = run
    adapter = place / "final" / "adapter"
    change(adapter / "adapter_config.json", **values)
    with pytest.raises(ModelError, match=words):
        Policy.load(policy.config.with_name(str(adapter)))


def test_damaged_weights_and_missing_adapters_are_refused(run):
    policy, place = run
    adapter = place / "final" / "adapter"
    for fault in (b"", b"\x08" * 40):
        (adapter / "adapter_model.safetensors").write_bytes(fault)
        with pytest.raises(ModelError, match="cannot be used"):
            Policy.load(policy.config.with_name(str(adapter)))
    with pytest.raises(ModelError, match="there is no adapter in"):
        Policy.load(policy.config.model_copy(update={"adapter": str(place / "base")}))
    both = {"adapter": str(adapter), "name": str(adapter)}
    with pytest.raises(ConfigError, match="two adapters"):
        Policy.load(policy.config.model_copy(update=both))


# --- what is refused


@pytest.mark.parametrize(
    ("targets", "words"),
    [
        (("query",), r"'query' is no linear map(.|\n)*q_proj"),
        (("q_proj", "nothing"), "'nothing' is no linear map"),
        (("proj",), "'proj' is no linear map"),
        (("embed_tokens",), "no linear map"),
        (("lm_head",), "is the head"),
    ],
)
def test_targets_that_match_nothing_are_refused_by_what_there_is(targets, words):
    with pytest.raises(ConfigError, match=words):
        adapted(lora=LoraConfig(targets=targets))


@pytest.mark.parametrize("kind", ["nf4", "int8"])
def test_quantised_bases_are_refused_where_they_cannot_be(kind, tmp_path):
    tiny.policy().save(tmp_path / "base")
    config = ModelConfig(name=str(tmp_path / "base"), device="cpu", quantize=kind)
    with pytest.raises(ConfigError, match=r"cannot be used here(.|\n)*CUDA"):
        Policy.load(config)


def test_an_adapter_on_quantised_weights_is_merged_into_the_plain_ones(tmp_path):
    """Rounded weights stand for quantised ones, which need a GPU."""
    whole = tiny.policy()
    rounded = tiny.policy()
    rounded.model.bfloat16().double()
    base = Base("base", rounded.model, lambda: whole.model)
    model, adapter = fresh_adapter(base, LoraConfig(rank=2), seed=0)
    policy = moved(replace(rounded, model=model, adapter=adapter))
    policy.save(tmp_path / "final")
    merged = load_file(tmp_path / "final" / "model.safetensors")
    path = "model.layers.0.mlp.up_proj"
    delta = policy.model.get_submodule(path).get_delta_weight("default").detach()
    plain = whole.model.get_submodule(path).weight.detach()
    torch.testing.assert_close(merged[f"{path}.weight"], plain + delta, atol=1e-15, rtol=0)
    note = json.loads((tmp_path / "final" / "adapter" / "adapter_base.json").read_text())
    assert note == {"base": "base", "weights_sha256": None}
    read_adapter(Base("plain", whole.model), tmp_path / "final" / "adapter")


# --- in half the memory


def in_bfloat16(kind, *, published):
    """An adapted policy whose products are bf16, on weights that bf16 holds, or does not."""
    policy = tiny.policy(kind, dtype="float32")
    if published:
        with torch.no_grad():
            for parameter in policy.model.parameters():
                parameter.copy_(parameter.bfloat16().float())
    policy = replace(policy, config=policy.config.model_copy(update={"dtype": "bfloat16"}))
    return moved(with_adapter(policy, LoraConfig(rank=2), seed=0))


def answer_gradient(policy):
    with policy.computing():
        policy.model(TOKENS).logits.float().log_softmax(-1)[:, :, 5].sum().backward()
    return [p.grad for p in policy.model.parameters() if p.requires_grad]


@pytest.mark.parametrize("kind", ["llama", "qwen3"])
def test_a_base_that_was_published_in_bfloat16_is_held_so_and_trains_the_same(kind):
    """What autocast would round in each forward is what is held: the same bits."""
    plain, held = (in_bfloat16(kind, published=True) for _ in range(2))
    before = held.adapter.base.fingerprint
    hold_base(held)
    maps = held.adapter.base.linear_maps().values()
    assert {module.weight.dtype for module in maps} == {torch.bfloat16}
    assert {p.dtype for p in held.model.parameters() if p.requires_grad} == {torch.float32}
    assert held.adapter.base.fingerprint == before
    for a, b in zip(answer_gradient(plain), answer_gradient(held), strict=True):
        assert torch.equal(a, b)


def test_a_base_of_more_digits_keeps_them():
    policy = in_bfloat16("llama", published=False)
    hold_base(policy)
    assert {p.dtype for p in policy.adapter.base.model.parameters()} == {torch.float32}


def test_an_adapter_is_evaluated_in_half_the_memory(tmp_path):
    """The hash of its base is of the weights as they are on disk, not as evaluation holds them."""
    tiny.policy(dtype="float32").save(tmp_path / "base")
    config = ModelConfig(name=str(tmp_path / "base"), dtype="bfloat16")
    save_trained(moved(with_adapter(Policy.load(config), LoraConfig(), seed=0)), tmp_path / "a")
    evaluated = Policy.load(config.with_name(str(tmp_path / "a")), use="evaluation")
    maps = evaluated.adapter.base.linear_maps().values()
    assert {module.weight.dtype for module in maps} == {torch.bfloat16}
