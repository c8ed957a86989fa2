"""Tiny models and tokenizers that tests make from configs: nothing is downloaded."""

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from rekindle.engine.config import ModelConfig
from rekindle.engine.policy import Policy

CHARACTERS = "0123456789+-*/=;:,>abcdefghijsu .?"
VOCABULARY = {"<pad>": 0, "<bos>": 1, "<eos>": 2, "<unk>": 3} | {
    c: i + 4 for i, c in enumerate(CHARACTERS)
}
CHAT_TEMPLATE = (
    "{% for m in messages %}{{ m.role[0] }}:{{ m.content }};{% endfor %}"
    "{% if add_generation_prompt %}a:{% endif %}"
)


def tokenizer(*, bos: bool = True, **special: str | None) -> PreTrainedTokenizerFast:
    """One character, one token; `<bos>` is prepended where `bos`."""
    inner = Tokenizer(models.WordLevel(VOCABULARY, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    inner.decoder = decoders.Fuse()
    if bos:
        inner.post_processor = processors.TemplateProcessing(
            single="<bos> $A", special_tokens=[("<bos>", 1)]
        )
    names = {"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>", "unk_token": "<unk>"}
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, **{k: v for k, v in {**names, **special}.items() if v is not None}
    )


def llama_config(**changes: object) -> LlamaConfig:
    settings = {
        "vocab_size": len(VOCABULARY),
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 8,
        "max_position_embeddings": 64,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    return LlamaConfig(**{**settings, **changes})


def config_of(kind: str):
    """A small config of a model family."""
    if kind == "llama":
        return llama_config()
    if kind == "qwen3":
        shared = llama_config().to_dict()
        keep = (
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "head_dim",
            "num_attention_heads",
            "num_key_value_heads",
            "max_position_embeddings",
            "bos_token_id",
            "eos_token_id",
            "pad_token_id",
        )
        return Qwen3Config(**{key: shared[key] for key in keep})
    if kind == "gpt2":
        return GPT2Config(
            vocab_size=len(VOCABULARY),
            n_positions=64,
            n_embd=16,
            n_layer=2,
            n_head=2,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
        )
    raise ValueError(kind)


def model(kind: str = "llama", *, seed: int = 0, dtype: torch.dtype = torch.float32, config=None):
    """A random model, the same for the same seed."""
    torch.manual_seed(seed)
    made = AutoModelForCausalLM.from_config(config if config is not None else config_of(kind))
    return made.to(dtype).eval()


def policy(kind: str = "llama", *, seed: int = 0, dtype: str = "float64", tok=None) -> Policy:
    """A random tiny policy, fp64 unless asked otherwise."""
    return Policy.of(
        model(kind, seed=seed, dtype={"float64": torch.float64, "float32": torch.float32}[dtype]),
        tok if tok is not None else tokenizer(),
        ModelConfig(name="tiny", dtype=dtype, device="cpu"),
    )


def policy_of(made, *, dtype: str = "float32") -> Policy:
    """A policy around a model that a test made."""
    return Policy.of(made, tokenizer(), ModelConfig(name="tiny", dtype=dtype, device="cpu"))
