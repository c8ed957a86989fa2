"""Loading a model and its tokenizer, and what is checked meanwhile."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from rekindle import testbed
from rekindle.engine.config import ModelConfig
from rekindle.engine.progress import say, say_once
from rekindle.errors import ModelError
from rekindle.model_files import (
    CONFIG,
    SAVE_TOKENIZER,
    Reading,
    check_config,
    check_tokenizer,
    check_weights,
    refuse_slow,
)
from rekindle.rewards.reward_model import check_vocabulary

# What a config calls the longest sequence; a family that names none has no limit.
_LENGTHS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")
NO_LIMIT = 2**31 - 1
_DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_TOKENIZER_FILES = ("tokenizer_config.json", "special_tokens_map.json", "tokenizer.json")
_MORE = 4  # times what is stored: tied weights are in files once, and in models up to twice
_INDEX = re.compile(r"(?<=\.)\d+(?=\.)")  # of a layer, in the names of its weights
# Weights of the text model inside those of a model of text and images.
_TEXT_WEIGHTS = {
    r"^language_model\.lm_head\.": "lm_head.",
    r"^(?:model\.)?language_model\.(?:model\.)?": "model.",
}


def chats(config: ModelConfig) -> bool:
    """Whether a model's prompts go through a chat template; its tokenizer alone is loaded.

    Raises:
        ModelError: there is no such model.
    """
    if config.chat_template == "never":
        return False
    return load_tokenizer(config, testbed.located(config.name)).chat_template is not None


def load_config(config: ModelConfig, source: str) -> Any:
    """transformers' config of the model in a directory, or of a hub id.

    Raises:
        DataError, ModelError: there is none, it cannot be used, or is of no causal language model.
    """
    if (error := missing_directory(source)) is not None:
        raise error
    if Path(source).exists():
        check_config(Path(source), trusted=config.trust_remote_code)
    from transformers import AutoConfig

    with _reading(CONFIG, config, source, fix=f"use the {CONFIG} that belongs to its weights"):
        whole: Any = AutoConfig.from_pretrained(source, **_options(config))
    _check_decoder(config, whole)
    return whole


def load_tokenizer(config: ModelConfig, source: str) -> Any:
    """The tokenizer of a model.

    Raises:
        DataError, ModelError: there is none, it is broken, or it is none of the fast ones.
    """
    load_config(config, source)  # by which transformers chooses the tokenizer's class
    if Path(source).exists():
        check_tokenizer(Path(source))
    from transformers import AutoTokenizer

    with _reading("tokenizer", config, source, fix=SAVE_TOKENIZER):
        tokenizer: Any = AutoTokenizer.from_pretrained(source, **_options(config))
        refuse_slow(tokenizer, config.name, is_fast=bool(tokenizer.is_fast))
    return tokenizer


def load_model(config: ModelConfig, source: str, *, dtype: torch.dtype, **held: Any) -> Any:
    """The causal language model in a directory, or of a hub id; of one of text and images its text
    model.

    Args:
        dtype: of its parameters.
        held: further arguments of `from_pretrained`.

    Raises:
        DataError, ModelError: files are missing or broken, or config and weights do not agree.
    """
    whole = load_config(config, source)
    text = whole.get_text_config(decoder=True)
    options = _options(config)
    composite = text is not whole and _is_causal(text)
    if composite:
        options |= {"config": text, "key_mapping": _TEXT_WEIGHTS}
    if Path(source).exists():
        quantised = bool(whole.to_dict().get("quantization_config"))
        _check_size(config, source, text if composite else whole, quantised=quantised)
    # Loaded here: transformers takes seconds to import.
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    with _reading("weights", config, source, fix="use safetensors weights that transformers reads"):
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            source,
            dtype=dtype,
            use_safetensors=True,
            ignore_mismatched_sizes=True,  # refused below, by name
            output_loading_info=True,
            **held,
            **options,
        )
    model, facts = loaded
    _check_loaded(config, model, facts)
    if composite:
        say(f"'{config.name}' is of text and images: its text model is used")
        vars(model).pop("_weight_conversions", None)  # by which it would save the patterns as names
    return model


def _options(config: ModelConfig) -> dict[str, Any]:
    revision = {} if config.revision is None else {"revision": config.revision}
    return {"trust_remote_code": config.trust_remote_code, **revision}


def _reading(part: str, config: ModelConfig, source: str, *, fix: str) -> Reading:
    directory, named = Path(source), f"the {part} of '{config.name}'"
    if not directory.exists():
        named = f"model '{config.name}'"
        fix = (
            f"testbed models: {', '.join(testbed.names())}; for a hub id, check the name, the "
            "network and access; weights must be safetensors"
        )
    elif list(directory.glob("*.py")) and not config.trust_remote_code:
        fix += "; code that it brings is run with --set model.trust_remote_code=true: read it first"
    files = [directory / name for name in _TOKENIZER_FILES] if part == "tokenizer" else []
    return Reading(named, fix=fix, files=files)


def missing_directory(name: str) -> ModelError | None:
    """The error for a model that is named by a path at which there is nothing; else None."""
    looks_like_path = name.startswith((".", "/", "~")) or name.count("/") > 1
    if not looks_like_path or Path(name).exists():
        return None
    return ModelError(
        f"there is no model at '{name}'",
        got=f"no such directory, seen from {Path.cwd()}",
        wanted="a directory in Hugging Face layout, such as RUN/final",
        fix="check the path, or make the model first",
    )


# --- what a config and weights must be


def _is_causal(config: Any) -> bool:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    return type(config) in MODEL_FOR_CAUSAL_LM_MAPPING


def _check_decoder(config: ModelConfig, whole: Any) -> None:
    """Refuse models that are no causal language models."""
    causal = _is_causal(whole) or _is_causal(whole.get_text_config(decoder=True))
    own_code = "auto_map" in whole.to_dict() and config.trust_remote_code
    two_parts = bool(whole.is_encoder_decoder)
    if own_code or (causal and not two_parts):
        return
    kind = "an encoder and a decoder" if two_parts else "no causal language model in transformers"
    raise ModelError(
        f"'{config.name}' is no causal language model",
        got=f"model_type '{whole.model_type}', which has {kind}",
        wanted="a decoder: GPT-2, Llama, Qwen, Gemma, ...",
        why="answers are written token by token, each given those before it",
        fix="use another model",
    )


def refuse_encoder(name: str, model: Any) -> ModelError:
    """The error for a model whose tokens see those that come after them."""
    return ModelError(
        f"'{name}' is no causal language model",
        got=f"model_type '{model.config.model_type}', whose tokens see those after them",
        wanted="a decoder",
        why="it would be trained to copy the token that it must foresee",
        fix="use another model; is_decoder: true in config.json if it was trained as a decoder",
    )


def _check_size(config: ModelConfig, source: str, known: Any, *, quantised: bool) -> None:
    """Refuse a config that asks for far more than the files hold, before memory is asked for it."""
    stored, facts = check_weights(Path(source)), known.get_text_config().to_dict()
    layers = [facts[name] for name in _DEPTHS if isinstance(facts.get(name), int)]
    if layers and not 0 < layers[0] <= stored.tensors:
        raise _other_architecture(
            config, f"{layers[0]:,} layers by {CONFIG}, {stored.tensors:,} tensors in the files"
        )
    if quantised:
        return
    from transformers import AutoModelForCausalLM

    with (
        torch.device("meta"),
        _reading(CONFIG, config, source, fix=f"use the {CONFIG} that belongs to its weights"),
    ):
        model = AutoModelForCausalLM.from_config(known, trust_remote_code=config.trust_remote_code)
    wanted = sum(parameter.numel() for parameter in model.parameters())
    if wanted > _MORE * stored.floats:
        integers = f" and {stored.integers:,} whole numbers" if stored.integers else ""
        raise _other_architecture(
            config,
            f"{wanted:,} parameters by {CONFIG}, {stored.floats:,} in the files{integers}",
        )


def _check_loaded(config: ModelConfig, model: Any, facts: Mapping[str, Any]) -> None:
    """transformers fills what the files lack with random numbers, leaves out what the config lacks,
    and only logs it."""
    faults = [
        f"{name}: {list(there)} in the file, {list(wanted)} by {CONFIG}"
        for name, there, wanted in facts["mismatched_keys"]
    ]
    faults += [f"no {name}" for name in sorted(facts["missing_keys"])]
    known = {_INDEX.sub("*", name) for name in model.state_dict()}
    owners = {name.rpartition(".")[0] for name in known}
    unread = sorted(facts["unexpected_keys"])
    for name in unread:
        owner, _, part = _INDEX.sub("*", name).rpartition(".")
        if f"{owner}.{part}" in known or (owner in owners and part in ("weight", "bias")):
            faults.append(f"{name} is of no part of it")
    if faults:
        raise _other_architecture(config, "; ".join(faults[:3]))
    if unread:
        say_once(f"'{config.name}': tensors not used ({len(unread)}): {', '.join(unread[:3])}")


def _other_architecture(config: ModelConfig, got: str) -> ModelError:
    return ModelError(
        f"the weights of '{config.name}' are of another architecture than its config",
        got=got,
        wanted=f"every weight that {CONFIG} asks for, and no more",
        why="the rest would be random numbers, or left out",
        fix=f"use the {CONFIG} that belongs to these weights",
    )


def context_of(config: Any) -> int:
    """The longest sequence that a model's positions allow, or a number that no text reaches."""
    facts = config.get_text_config().to_dict()
    lengths = [facts[name] for name in _LENGTHS if isinstance(facts.get(name), int)]
    return lengths[0] if lengths and lengths[0] > 0 else NO_LIMIT


def special_ids(
    model: Any, tokenizer: Any, config: ModelConfig
) -> tuple[int, tuple[int, ...], int]:
    """The end token, all that end a generation, and the pad token, as configured.

    The pad token may be the end token, or none: padding is masked by place, never by id.

    Raises:
        ModelError: there is no end token, or the model lacks ids.
    """
    if config.eos_token is not None:
        tokenizer.eos_token = config.eos_token
    if config.pad_token is not None:
        tokenizer.pad_token = config.pad_token
    eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    if eos is None:
        raise ModelError(
            f"the tokenizer of '{config.name}' has no end-of-sequence token",
            wanted="an eos_token",
            why="a completion could then never end, and SFT could not teach the model to stop",
            fix="--set model.eos_token='...' with a token of its vocabulary",
        )
    check_vocabulary(tokenizer, model, f"'{config.name}'")
    more = model.generation_config.eos_token_id if model.generation_config is not None else None
    stops = {eos, *(more if isinstance(more, list) else [] if more is None else [more])}
    return eos, tuple(sorted(stops)), 0 if pad is None else pad


# what changes which tokens are drawn, and the value that changes nothing
_NEUTRAL: dict[str, tuple[object, ...]] = {
    "temperature": (1.0,),
    "top_p": (1.0,),
    "top_k": (0,),
    "min_p": (0.0,),
    "typical_p": (1.0,),
    "repetition_penalty": (1.0,),
    "no_repeat_ngram_size": (0,),
    "num_beams": (1,),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "bad_words_ids": ([],),
}


def unapplied_settings(model: Any, name: str) -> list[str]:
    """A sentence on what generation_config.json asks for, if it would change what is drawn."""
    if model.generation_config is None:
        return []
    asked: dict[str, object] = model.generation_config.to_diff_dict()
    named = [key for key, neutral in _NEUTRAL.items() if asked.get(key) not in (None, *neutral)]
    if not named:
        return []
    listed = ", ".join(f"{key} {asked[key]}" for key in named)
    return [
        f"'{name}' brings generation settings ({listed}), which are not applied: answers are "
        "drawn by the recipe's sample section"
    ]
