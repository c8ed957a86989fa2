"""What is checked while a model and its tokenizer are loaded."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from rekindle import testbed
from rekindle.engine.config import ModelConfig
from rekindle.errors import ModelError
from rekindle.rewards.reward_model import check_vocabulary


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
    missing = missing_directory(source)
    if missing is not None:
        return missing
    return ModelError(
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


class LoadingInfo(TypedDict):
    """What transformers says of a load: weights that the files lack, and those of other shapes."""

    missing_keys: Iterable[str]
    mismatched_keys: Iterable[tuple[str, Sequence[int], Sequence[int]]]  # in the file, by config


def check_loaded(config: ModelConfig, loaded: LoadingInfo) -> None:
    """transformers fills what the files lack with random numbers, and only logs it."""
    mismatched = [
        f"{name}: {list(there)} in the file, {list(wanted)} by config.json"
        for name, there, wanted in loaded["mismatched_keys"]
    ]
    missing = [f"no {name}" for name in sorted(loaded["missing_keys"])]
    if mismatched or missing:
        raise ModelError(
            f"the weights of '{config.name}' are of another architecture than its config",
            got="; ".join([*mismatched, *missing][:3]),
            wanted="every weight that config.json asks for",
            why="the rest would be random numbers",
            fix="use the config.json that belongs to these weights",
        )


class SpecialIds(NamedTuple):
    """Ids that generation and training rely on; `stops` are all that end a generation."""

    eos: int
    stops: tuple[int, ...]
    pad: int


def special_ids(model: Any, tokenizer: Any, config: ModelConfig) -> SpecialIds:
    """End and pad tokens, as configured.

    Raises:
        ModelError: there is no end token, it is the pad token, or the model lacks ids.
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
    if pad == eos:
        raise ModelError(
            f"the tokenizer of '{config.name}' pads with its end-of-sequence token",
            got=f"pad_token = eos_token = {tokenizer.eos_token!r}",
            wanted="two different tokens",
            why="wherever padding is masked by id, the end token is masked with it and the model "
            "never learns to stop",
            fix="--set model.pad_token='...' with another token of its vocabulary"
            + (f", e.g. {tokenizer.unk_token!r}" if tokenizer.unk_token else ""),
        )
    check_vocabulary(tokenizer, model, f"'{config.name}'")
    more = model.generation_config.eos_token_id if model.generation_config is not None else None
    stops = {eos, *(more if isinstance(more, list) else [] if more is None else [more])}
    # Without a pad token any id will do: padding is masked by place, never by id.
    return SpecialIds(eos=eos, stops=tuple(sorted(stops)), pad=0 if pad is None else pad)
