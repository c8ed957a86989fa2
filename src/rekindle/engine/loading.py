"""What is checked while a model and its tokenizer are loaded."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rekindle import testbed
from rekindle.engine.config import ModelConfig
from rekindle.errors import ModelError
from rekindle.rewards.reward_model import check_vocabulary

# What a config calls the longest sequence; a family that names none has no limit.
_LENGTHS = ("max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length")
_NO_LIMIT = 2**31 - 1
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
    source = testbed.located(config.name)
    from transformers import AutoTokenizer

    options: dict[str, bool | str] = {"trust_remote_code": config.trust_remote_code}
    if config.revision is not None:
        options["revision"] = config.revision
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(source, **options)
    except (OSError, ValueError) as error:
        raise not_loaded(config, source, error) from error
    return tokenizer.chat_template is not None


def not_loaded(config: ModelConfig, source: str, error: Exception) -> ModelError:
    """Why weights could not be read, with the likely remedy."""
    pickled = [path.name for path in Path(source).glob("*.bin")]
    if pickled and not list(Path(source).glob("*.safetensors")):
        return ModelError(
            f"the weights of '{config.name}' are pickled",
            got=", ".join(pickled),
            wanted="*.safetensors",
            why="loading a pickle runs whatever code is inside",
            fix="convert them where you trust them: load with transformers, save_pretrained",
        )
    return missing_directory(source) or ModelError(
        f"model '{config.name}' could not be loaded",
        got=str(error).strip().splitlines()[0],
        wanted="testbed/<name>, a directory in Hugging Face layout, or a hub id",
        fix=f"testbed models: {', '.join(testbed.names())}; for a hub id, check the name, "
        "the network and access; weights must be safetensors",
    )


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


def check_loaded(
    config: ModelConfig,
    missing: Iterable[str],
    mismatched: Iterable[tuple[str, Sequence[int], Sequence[int]]],
) -> None:
    """transformers fills what the files lack with random numbers, and only logs it."""
    faults = [
        f"{name}: {list(there)} in the file, {list(wanted)} by config.json"
        for name, there, wanted in mismatched
    ]
    faults += [f"no {name}" for name in sorted(missing)]
    if faults:
        raise ModelError(
            f"the weights of '{config.name}' are of another architecture than its config",
            got="; ".join(faults[:3]),
            wanted="every weight that config.json asks for",
            why="the rest would be random numbers",
            fix="use the config.json that belongs to these weights",
        )


def context_of(config: Any) -> int:
    """The longest sequence that a model's positions allow, or a number that no text reaches."""
    facts = config.get_text_config().to_dict()
    lengths = [facts[name] for name in _LENGTHS if isinstance(facts.get(name), int)]
    return lengths[0] if lengths and lengths[0] > 0 else _NO_LIMIT


def text_source(source: str, options: Mapping[str, bool | str]) -> dict[str, Any]:
    """How a checkpoint of text and images is loaded as its text model: further arguments of
    `from_pretrained`; none for a causal language model.

    Raises:
        OSError, ValueError: as transformers does, where there is no config.
    """
    from transformers import AutoConfig
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    config: Any = AutoConfig.from_pretrained(source, **options)
    text = config.get_text_config(decoder=True)
    if text is config or type(text) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return {}
    return {"config": text, "key_mapping": _TEXT_WEIGHTS}


def forget_renaming(model: Any) -> None:
    """Let a model that was loaded by `text_source` be saved by its own names: transformers would
    turn the patterns around, and write them as names."""
    vars(model).pop("_weight_conversions", None)


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
