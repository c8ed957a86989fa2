"""A dry run counts what a run does, and writes nothing; every recipe of a paper has one."""

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
import yaml
from transformers import AutoConfig, LlamaConfig

import tiny
from rekindle.cli.options import read_bytes
from rekindle.engine.config import ModelConfig
from rekindle.engine.update import add_gradient
from rekindle.errors import ConfigError, ModelError
from rekindle.training.dry_run import dry_run as dry_run_module
from rekindle.training.dry_run.architecture import KEPT, Architecture
from rekindle.training.dry_run.data import Row, batch_of
from rekindle.training.dry_run.dry_run import Assumptions, dry_run
from rekindle.training.dry_run.memory import PARTS
from rekindle.training.dry_run.plans import _pushed
from rekindle.training.dry_run.text import lines_of
from rekindle.training.dry_run.tracing import Meter, without_data

ROOT = Path(__file__).parents[2]
CONFIGS = Path(__file__).with_name("configs")
QUICK = ("lens_qwen25_3b",)  # the others are slow: make test-all
PAPERS = [
    pytest.param(path, marks=() if path.stem in QUICK else pytest.mark.slow, id=path.stem)
    for path in sorted((ROOT / "recipes" / "papers").glob("*.yaml"))
]
MODELS = {  # hub id -> the facts of its architecture, and its parameters as published, in billions
    "Qwen/Qwen3-4B-Base": ("qwen3-4b", 4.02),
    "Qwen/Qwen3-8B-Base": ("qwen3-8b", 8.19),
    "Qwen/Qwen2.5-3B": ("qwen2.5-3b", 3.09),
    "nvidia/AceMath-7B-RM": ("qwen2.5-7b", 7.62),
    "meta-llama/Llama-3.1-8B": ("llama-3.1-8b", 8.03),
    "meta-llama/Llama-3.1-8B-Instruct": ("llama-3.1-8b", 8.03),
    "meta-llama/Llama-3.2-1B": ("llama-3.2-1b", 1.24),
    "OctoThinker/OctoThinker-8B-Hybrid-Base": ("octothinker-8b", 8.03),
}
UNTIMED = Assumptions(probe=False)


@pytest.fixture(scope="session")
def hollow(tmp_path_factory):
    """A function from a config's name to a directory with config.json alone."""
    root = tmp_path_factory.mktemp("hollow")

    def directory(name):
        place = root / name
        place.mkdir(exist_ok=True)
        (place / "config.json").write_text((CONFIGS / f"{name}.json").read_text())
        return place

    return directory


def sft(model, **changes):
    tree = {
        "method": "sft",
        "model": {"name": str(model)},
        "task": {"name": "addition", "levels": ["2"]},
        "optim": {"steps": 3, "problems": 4},
        "eval": {"problems": 2, "samples": 2},
    }
    return {**tree, **changes}


# --- counting


def test_a_product_holds_its_result_and_two_gradients():
    """2 x 3 by 3 x 4 in fp32: 32 bytes for the result and what comes back, 24 and 48 besides."""
    with without_data():
        a = torch.ones(2, 3, requires_grad=True)
        b = torch.ones(3, 4, requires_grad=True)
        with Meter(lambda _: "activations") as meter:
            c = a @ b
            assert meter.alive("activations") == 32
            del c
            assert meter.alive("activations") == 0
            grad = torch.ones(2, 4)
            meter.reset()
            (a @ b).backward(grad)
            assert meter.alive("activations") == 32 + 24 + 48
    assert meter.trace().flops == 4 * (2 * 2 * 3 * 4)
    assert meter.trace().peak == 32 + 32 + 24 + 48


def test_what_is_added_to_a_gradient_takes_no_room():
    with without_data():
        weight = torch.ones(10, requires_grad=True)
        weight.grad = torch.zeros(10)
        with Meter(lambda _: "activations", [weight.grad]) as meter:
            (weight * 2.0).sum().backward()
            (weight * 2.0).sum().backward()
    assert meter.alive("activations") == 0


def test_numbers_keep_their_data_beside_tensors_without():
    mask = torch.tensor([True, False, True])
    with without_data():
        hidden = torch.ones(3, 2)
        with Meter(lambda _: "activations"):
            assert int(mask.sum()) == 2
            assert hidden[torch.tensor([0, 2])].shape == (2, 2)


def test_a_deep_model_is_measured_on_a_few_of_its_layers(tmp_path):
    """Bytes and operations at 9 layers, from 2 and 4, are those of 9."""
    config = tiny.llama_config(num_hidden_layers=9, vocab_size=64, hidden_size=64)
    LlamaConfig.save_pretrained(config, tmp_path)
    model = Architecture.read(ModelConfig(name=str(tmp_path)))
    micro = batch_of([Row(20, 12, n) for n in range(4)]).whole()
    depths = []

    def counted(layers):
        depths.append(layers)
        with without_data():
            policy = model.policy(layers)
            with model.meter(policy) as meter:
                loss, kept = _pushed(policy, None), []

                def marked(part):
                    terms = loss(part)
                    kept.append(meter.alive("activations"))
                    return terms

                add_gradient([policy.model], marked, micro)
        trace = meter.trace()
        return Counter({**trace.parts, "flops": trace.flops, KEPT: kept[0]})

    found = model.at_full_depth(counted)
    assert max(depths) < 9
    whole = counted(9)
    assert found["flops"] == whole["flops"]
    assert found.total() == pytest.approx(whole.total(), rel=0.01)


# --- a recipe


def test_tokens_are_those_of_the_run(tmp_path):
    from rekindle.training.train import train

    recipe = sft("testbed/addition-s0")
    run = dry_run(recipe, assumptions=Assumptions(probe=False))
    train(recipe, tmp_path / "run", quiet=True)
    rows = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    trained = sum(row["tokens/trained"] for row in rows)
    assert run.tokens["trained"] == pytest.approx(trained, rel=0.15)
    assert run.tokens["sampled"] == 0


def test_every_part_counts_once_and_nothing_is_written(tmp_path, rekindle, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("r.yaml").write_text(yaml.safe_dump(sft("testbed/addition-s0")))
    code, out, _ = rekindle("train", "r.yaml", "--dry-run", "--json", "--no-probe")
    run = json.loads(out)
    assert code == 0
    assert sum(run["parts"].values()) == run["peak_bytes"]
    assert list(run["parts"]) == list(PARTS)
    assert run["fits"] is (run["peak_bytes"] <= run["memory_bytes"])
    assert run["parts"]["weights"] == 4 * run["parameters"]
    assert run["seconds"] == pytest.approx(sum(run["seconds_by"].values()))
    assert [path.name for path in tmp_path.iterdir()] == ["r.yaml"]


def test_a_model_with_weights_is_timed(rekindle, tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(sft("testbed/addition-s0")))
    code, out, _ = rekindle("train", path, "--dry-run")
    assert code == 0
    assert "timed on the model" in out
    assert "fits into" in out


def test_a_large_vocabulary_with_a_pad_row_is_traced(tmp_path):
    """Its embedding passes on the rows that it read; which of them are padding is no shape."""
    config = tiny.llama_config(vocab_size=20_000)
    assert config.pad_token_id is not None
    config.save_pretrained(tmp_path)
    run = dry_run(sft(tmp_path), assumptions=Assumptions(prompt_tokens=5, probe=False))
    assert run.parts["gradients"] == 4 * run.parameters


def test_the_base_of_an_adapter_is_held_as_it_was_published(hollow):
    """Its linear maps take half; the embedding, which is the head too, is looked up in fp32."""
    name = str(hollow("llama-3.2-1b"))
    lora = ModelConfig(name=name, dtype="bfloat16", lora={"rank": 8})
    whole, adapted = (
        Architecture.read(c).size for c in (lora.model_copy(update={"lora": None}), lora)
    )
    maps = whole.total - 128_256 * 2048 - 2048 * (2 * 16 + 1)  # all but embedding and norms
    assert whole.total_bytes + adapted.trained_bytes - adapted.total_bytes == 2 * maps


def test_without_peft_an_adapter_is_not_looked_at(monkeypatch):
    monkeypatch.setattr(dry_run_module, "find_spec", lambda name: None)
    run = dry_run(sft("testbed/addition-s0"), assumptions=UNTIMED)
    assert run.instead
    assert not any("lora" in " ".join(less.set) for less in run.instead)
    assert any("rekindle[peft]" in sentence for sentence in run.assumed)
    monkeypatch.undo()
    run = dry_run(sft("testbed/addition-s0"), assumptions=UNTIMED)
    assert any("lora" in " ".join(less.set) for less in run.instead)


def test_a_reference_and_a_larger_group_need_more():
    """A KL holds the start model once more; sampling a group of 16 needs twice the cache of 8."""
    tree = sft("testbed/addition-s0", method="grpo")
    tree["grpo"] = {"group_size": 8}
    tree["optim"] = {"steps": 2, "problems": 1, "micro_tokens": 1024}
    plain = dry_run(tree, assumptions=UNTIMED)
    held = dry_run({**tree, "grpo": {"group_size": 8, "beta": 0.1}}, assumptions=UNTIMED)
    assert held.parts["reference"] == 4 * held.parameters
    assert held.peak_bytes - plain.peak_bytes == held.parts["reference"]
    larger = dry_run({**tree, "grpo": {"group_size": 16}}, assumptions=UNTIMED)
    assert larger.tokens["sampled"] == 2 * plain.tokens["sampled"]


@pytest.mark.parametrize("path", PAPERS)
def test_every_papers_recipe_has_a_dry_run(path, hollow):
    tree = yaml.safe_load(path.read_text())
    name = tree["model"]["name"]
    tree["model"]["name"] = str(hollow(MODELS[name][0]))
    tree["optim"]["micro_tokens"], tree["sample"]["max_new_tokens"] = 1024, 512  # sooner traced
    if "reward" in tree:
        tree["reward"]["model"] = str(hollow(MODELS[tree["reward"]["model"]][0]))
    if tree["method"] == "weak_to_strong":
        tree["weak_to_strong"]["weak"] = str(hollow(MODELS[tree["weak_to_strong"]["weak"]][0]))
    run = dry_run(tree, assumptions=Assumptions(200, None, 80 * 10**9))
    assert run.parameters / 1e9 == pytest.approx(MODELS[name][1], rel=0.03)
    assert run.device == "cuda"
    assert run.peak_bytes > 4 * run.trained_parameters
    assert run.seconds > 0
    assert run.tokens["trained"] > 0
    text = "\n".join(lines_of(run))
    assert "what needs less memory" in text
    assert "assumed: there is no tokenizer beside the config" in text


def test_the_configs_are_those_of_the_models():
    for config, billions in MODELS.values():
        facts = AutoConfig.for_model(**json.loads((CONFIGS / f"{config}.json").read_text()))
        with torch.device("meta"):
            from transformers import AutoModelForCausalLM

            model = AutoModelForCausalLM.from_config(facts)
        assert model.num_parameters() / 1e9 == pytest.approx(billions, rel=0.01)


# --- refusals


def test_a_run_needs_a_place_and_a_dry_run_alone_has_its_options(rekindle, tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump(sft("testbed/addition-s0")))
    code, _, err = rekindle("train", path)
    assert (code, "there is no --out" in err) == (2, True)
    code, _, err = rekindle("train", path, "--out", tmp_path / "run", "--json")
    assert (code, "of a dry run" in err) == (2, True)
    code, _, err = rekindle("train", path, "--dry-run", "--gpu-memory", "much")
    assert (code, "--gpu-memory is no size" in err) == (2, True)


@pytest.mark.parametrize(
    ("text", "size"),
    [("80GB", 80 * 10**9), ("0.5 GB", 5 * 10**8), ("512mb", 512 * 10**6), ("7", 7)],
)
def test_sizes_are_read(text, size):
    assert read_bytes("--gpu-memory", text) == size


@pytest.mark.parametrize("text", ["", "GB", "0", "-1GB", "1e9", "nan", "80 kg", "1" * 30])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(ConfigError, match="is no size"):
        read_bytes("--gpu-memory", text)


def test_a_model_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ModelError, match="no model"):
        dry_run(sft(tmp_path / "nowhere"))
