"""Model directories that cannot be used: each is refused by the file, before anything is lost."""

import json
import shutil
import struct

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    BertConfig,
    BertForMaskedLM,
    DistilBertConfig,
    DistilBertModel,
    GPTNeoXConfig,
    LlamaForSequenceClassification,
)

import tiny
from rekindle.engine import progress
from rekindle.engine.adapters.policies import save_trained, with_adapter
from rekindle.engine.config import LoraConfig, ModelConfig
from rekindle.engine.policy import Policy
from rekindle.errors import RekindleError
from rekindle.signals.diagnose import diagnose
from rekindle.training.evaluation import evaluate
from rekindle.training.train import train

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"


@pytest.fixture(scope="module")
def sound(tmp_path_factory):
    directory = tmp_path_factory.mktemp("sound") / "model"
    tiny.policy(dtype="float32").save(directory)
    return directory


@pytest.fixture
def copy(sound, tmp_path):
    return shutil.copytree(sound, tmp_path / "model")


def load(directory, **settings):
    return Policy.load(ModelConfig(name=str(directory), device="cpu", **settings))


# --- ways to change a directory


def without(*names):
    return lambda d: [(d / name).unlink() for name in names]


def writes(**files):
    """Files by name, `_` for a dot; a dict is written as JSON."""

    def change(d):
        for name, content in files.items():
            text = content if isinstance(content, str) else json.dumps(content)
            (d / name.replace("_json", ".json").replace("_py", ".py")).write_text(text)

    return change


def config(**values):
    def change(d):
        path = d / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return change


def cut(size):
    def change(d):
        (d / WEIGHTS).write_bytes((d / WEIGHTS).read_bytes()[:size])

    return change


def header(name, **values):
    """The header says otherwise of a tensor than the file holds; its length stays true."""

    def change(d):
        raw = (d / WEIGHTS).read_bytes()
        size = struct.unpack("<Q", raw[:8])[0]
        tree = json.loads(raw[8 : 8 + size])
        for tensor in [t for t in tree if name in t]:
            tree[tensor] |= values
        text = json.dumps(tree).encode()
        (d / WEIGHTS).write_bytes(struct.pack("<Q", len(text)) + text + raw[8 + size :])

    return change


def tensors(edit):
    def change(d):
        save_file(edit(load_file(d / WEIGHTS)), d / WEIGHTS, metadata={"format": "pt"})

    return change


def sharded(d):
    held = load_file(d / WEIGHTS)
    (d / WEIGHTS).unlink()
    place = {name: f"model-{1 + i % 2}.safetensors" for i, name in enumerate(held)}
    for file in set(place.values()):
        part = {name: held[name] for name in held if place[name] == file}
        save_file(part, d / file, metadata={"format": "pt"})
    (d / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": place}))


def both(*changes):
    return lambda d: [change(d) for change in changes]


def other_model(model):
    return lambda d: model().save_pretrained(d)


SMALL = {"vocab_size": 40, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 16}


def bert(**values):
    return BertForMaskedLM(BertConfig(**SMALL, num_hidden_layers=1, **values))


def distilbert():
    return DistilBertModel(DistilBertConfig(vocab_size=40, dim=16, n_layers=1, n_heads=2))


def bart():
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2, "vocab_size": 40}
    layers = {"encoder_layers": 1, "decoder_layers": 1, "d_model": 16}
    return BartForConditionalGeneration(BartConfig(**heads, **layers))


def classifier():
    return LlamaForSequenceClassification(tiny.llama_config(num_labels=1))


def own_code(kind):
    """A directory whose code, once run, leaves a file."""
    places = {"AutoConfig": "mine.C", "AutoModelForCausalLM": "mine.M"}
    return both(
        config(model_type=kind, auto_map=places),
        lambda d: (d / "mine.py").write_text(f"open({str(d / 'ran')!r}, 'w')\n"),
    )


UP = "model.layers.1.mlp.up_proj.weight"
OTHER = "of another architecture"
JAPANESE = {"tokenizer_class": "BertJapaneseTokenizer", "eos_token": "b"}
REFUSED = {
    "tokenizer-none": (without("tokenizer.json", "tokenizer_config.json"), "no fast tokenizer in"),
    "tokenizer-settings-alone": (without("tokenizer.json"), "no fast tokenizer in"),
    "tokenizer-slow": (
        both(
            without("tokenizer.json"),
            writes(tokenizer_config_json=JAPANESE),
            lambda d: (d / "vocab.txt").write_text("a\nb\n"),
        ),
        "has no fast tokenizer(.|\n)*BertJapaneseTokenizer",
    ),
    "tokenizer-of-a-package": (
        both(
            without("tokenizer.json"),
            writes(tokenizer_config_json={"tokenizer_class": "XLMTokenizer"}, vocab_json={"a": 0}),
        ),
        "the tokenizer of .* cannot be used",
    ),
    "tokenizer-cut": (writes(tokenizer_json='{"version": "1.0", '), "tokenizer.json:1 is not"),
    "tokenizer-list": (writes(tokenizer_json=[]), "tokenizer.json is no JSON object"),
    "tokenizer-unknown": (writes(tokenizer_json={"model": {"type": "?"}}), "cannot be used"),
    "tokenizer-settings-list": (writes(tokenizer_config_json=[1]), "tokenizer_config.json is no"),
    "tokenizer-code": (
        writes(
            tokenizer_config_json={"tokenizer_class": "T", "auto_map": {"AutoTokenizer": ["m.T"]}},
            m_py="class T: pass",
        ),
        "trust_remote_code=true",
    ),
    "config-none": (without("config.json"), "no config.json in"),
    "config-text": (writes(config_json="hello"), "config.json:1 is not valid JSON"),
    "config-list": (writes(config_json=[1]), "config.json is no JSON object"),
    "config-null": (writes(config_json="null"), "config.json is no JSON object"),
    "config-empty": (writes(config_json={}), "does not say which family"),
    "config-family-number": (config(model_type=3), "does not say which family"),
    "config-family-unknown": (config(model_type="lama"), "Did you mean 'llama'"),
    "config-family-code": (own_code("mine"), "code of its own(.|\n)*mine.py(.|\n)*trust_remote"),
    "config-value-text": (config(hidden_size="many"), "config.json of (.|\n)*hidden_size"),
    "config-value-unknown": (config(hidden_act="nope"), "config.json of .* cannot be used"),
    "config-value-negative": (config(num_attention_heads=-1), "config.json of .* cannot be used"),
    "config-heads": (config(num_attention_heads=3), "not a multiple"),
    "config-dtype": (config(dtype="float7"), "config.json of (.|\n)*float7"),
    "config-package": (
        config(quantization_config={"quant_method": "gptq", "bits": 4}),
        "requires optimum(.|\n)*install",
    ),
    "generation-cut": (writes(generation_config_json="{"), "generation_config.json:1 is not"),
    "encoder-decoder": (other_model(bart), "no causal(.|\n)*bart', which has an encoder and a"),
    "encoder": (other_model(distilbert), "no causal language model(.|\n)*distilbert"),
    "encoder-with-a-head": (other_model(bert), "no causal language model(.|\n)*see those after"),
    "classifier": (other_model(classifier), f"{OTHER}(.|\n)*no lm_head.weight"),
    "weights-none": (without(WEIGHTS), "there are no weights in"),
    "weights-pickled": (
        both(without(WEIGHTS), lambda d: torch.save({}, d / "pytorch_model.bin")),
        "pickled(.|\n)*pytorch_model.bin(.|\n)*save_pretrained",
    ),
    "weights-empty": (cut(0), "model.safetensors cannot be read(.|\n)*0 bytes"),
    "weights-cut-header": (cut(50), "model.safetensors cannot be read(.|\n)*50 bytes"),
    "weights-cut": (cut(-10), "model.safetensors cannot be read"),
    "weights-pointer": (
        lambda d: (d / WEIGHTS).write_text("version https://git-lfs.github.com/spec/v1\n"),
        "git lfs pull",
    ),
    "header-shape": (header(UP, shape=[99]), "model.safetensors cannot be read"),
    "header-offsets": (header(UP, data_offsets=[0, 8]), "model.safetensors cannot be read"),
    "header-turned": (header(UP, shape=[16, 32]), f"{OTHER}(.|\n)*up_proj"),
    "header-integers": (header("weight", dtype="I32"), "0 in the files and .* whole numbers"),
    "tensor-missing": (
        tensors(lambda held: {k: v for k, v in held.items() if k != UP}),
        f"{OTHER}(.|\n)*no {UP}",
    ),
    "tensor-more": (
        tensors(lambda held: {**held, UP.replace("weight", "bias"): torch.zeros(32)}),
        "up_proj.bias is of no part of it",
    ),
    "tensors-renamed": (tensors(lambda held: {f"x.{k}": v for k, v in held.items()}), OTHER),
    "wider": (config(hidden_size=32), f"{OTHER}(.|\n)*in the file"),
    "narrower": (config(hidden_size=8), f"{OTHER}(.|\n)*in the file"),
    "far-wider": (config(vocab_size=9_000), "parameters by config.json, 5,904 in the files"),
    "vocabulary-larger": (config(vocab_size=64), f"{OTHER}(.|\n)*\\[64, 16\\]"),
    "vocabulary-smaller": (config(vocab_size=8), f"{OTHER}(.|\n)*\\[8, 16\\]"),
    "deeper": (config(num_hidden_layers=3), "no model.layers.2"),
    "far-deeper": (config(num_hidden_layers=90), "90 layers by config.json, 21 tensors"),
    "shallower": (config(num_hidden_layers=1), "model.layers.1.* is of no part of it"),
    "flat": (config(num_hidden_layers=0), "0 layers by config.json"),
    "shard-missing": (both(sharded, without("model-2.safetensors")), "no model-2.safetensors"),
    "shard-cut": (
        both(sharded, lambda d: (d / "model-2.safetensors").write_bytes(b"\x08")),
        "model-2.safetensors cannot be read",
    ),
    "index-cut": (both(sharded, writes(**{INDEX: "{"})), "index.json:1 is not valid JSON"),
    "index-list": (both(sharded, writes(**{INDEX: []})), "index.json is no JSON object"),
    "index-empty": (both(sharded, writes(**{INDEX: {}})), "index.json has no 'weight_map'"),
    "tokenizer-larger": (
        both(
            tensors(lambda held: {k: v[:20] if len(v) == 38 else v for k, v in held.items()}),
            config(vocab_size=20),
        ),
        "ids that its model lacks",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_a_directory_that_cannot_be_used_is_refused_by_its_file(kind, copy):
    change, words = REFUSED[kind]
    change(copy)
    with pytest.raises(RekindleError, match=words) as told:
        load(copy)
    assert str(copy) in str(told.value)
    assert not (copy / "ran").exists()


def neox():
    return tiny.model(config=GPTNeoXConfig(**SMALL, num_hidden_layers=2))


def slow_files(d):
    """What fast tokenizers were saved as before there was tokenizer.json."""
    without("tokenizer.json")(d)
    writes(
        tokenizer_config_json={"tokenizer_class": "GPT2Tokenizer", "eos_token": "<eos>"},
        vocab_json={"a": 0, "<eos>": 1},
    )(d)
    (d / "merges.txt").write_text("#version: 0.2\n")


@pytest.mark.parametrize(
    "change",
    [
        sharded,
        own_code("llama"),  # transformers' own class is used
        slow_files,
        without("generation_config.json"),
        header("weight"),
        other_model(neox),  # is_decoder: false says nothing of it
        other_model(lambda: bert(is_decoder=True)),
        config(unknown_key=3),
    ],
)
def test_their_neighbours_are_loaded_and_no_code_is_run(change, copy):
    change(copy)
    load(copy)
    assert not (copy / "ran").exists()


def test_tensors_that_no_part_asks_for_are_told(copy, capsys):
    progress.say_once.cache_clear()
    tensors(lambda held: {**held, "value_head.weight": torch.zeros(2)})(copy)
    load(copy)
    assert "tensors not used (1): value_head.weight" in capsys.readouterr().err


# --- adapters


@pytest.fixture
def adapter(sound, tmp_path):
    pytest.importorskip("peft")
    save_trained(with_adapter(load(sound), LoraConfig(rank=2), seed=0), tmp_path / "adapter")
    return tmp_path / "adapter"


def setting(**values):
    def change(d):
        path = d / "adapter_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **values}))

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (without("adapter_model.safetensors"), "No such file(.|\n)*adapter_model.safetensors"),
        (setting(target_modules=["nope"]), "Target modules {'nope'} not found"),
        (setting(r="x"), "cannot be used"),
        (setting(lora_alpha=0), "greater than 0"),
        (setting(r=4), "does not fit(.|\n)*\\[4, 32\\]"),
        (writes(adapter_base_json=[]), "adapter_base.json is no JSON object"),
        (writes(adapter_config_json="{"), "adapter_config.json:1 is not valid JSON"),
    ],
)
def test_an_adapter_that_cannot_be_used_is_refused(change, words, adapter, sound):
    change(adapter)
    with pytest.raises(RekindleError, match=words) as told:
        load(sound, adapter=str(adapter))
    assert str(adapter) in str(told.value)


def test_an_adapter_without_a_hash_of_its_base_is_used_and_another_name_told(
    adapter, sound, tmp_path, capsys
):
    (adapter / "adapter_base.json").unlink()  # PEFT writes none
    shutil.copytree(sound, tmp_path / "elsewhere" / sound.name)
    shutil.copytree(sound, tmp_path / "other")
    for place, said in ((tmp_path / "elsewhere" / sound.name, 0), (tmp_path / "other", 1)):
        load(place, adapter=str(adapter))
        assert capsys.readouterr().err.count("is an adapter of") == said


# --- every entrance


ENTRANCES = {
    "train": lambda model, task, out: train(
        {"method": "sft", "model": {"name": model}, "task": {"name": task}}, out, mode="overwrite"
    ),
    "eval": lambda model, task, out: evaluate(model, task),
    "diagnose": lambda model, task, out: diagnose(model, task),
}


@pytest.mark.parametrize("entrance", ENTRANCES)
@pytest.mark.parametrize("kind", ["tokenizer-none", "config-list", "weights-cut", "deeper"])
def test_every_entrance_refuses_and_nothing_is_lost(entrance, kind, copy, data, tmp_path):
    change, words = REFUSED[kind]
    change(copy)
    out = tmp_path / "run"
    out.mkdir()
    (out / "kept.txt").write_text("mine")
    with pytest.raises(RekindleError, match=words):
        ENTRANCES[entrance](str(copy), str(data), out)
    assert [path.name for path in out.iterdir()] == ["kept.txt"]


def test_a_command_ends_with_the_sentence_and_its_exit_code(copy, data, tmp_path, rekindle):
    cut(-10)(copy)
    out = tmp_path / "eval.json"
    code, _, err = rekindle("eval", "--model", copy, "--task", data, "--out", out)
    assert (code, out.exists()) == (2, False)
    assert f"{copy / WEIGHTS} cannot be read" in err
