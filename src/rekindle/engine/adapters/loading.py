"""An adapter in a directory as the model that a recipe or a command names; quantised bases."""

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import torch

from rekindle.engine.adapters.adapter import SETTINGS, Adapter, Base, read_adapter, read_settings
from rekindle.engine.config import ModelConfig
from rekindle.engine.device import pick_device
from rekindle.engine.integrity import FINAL, check_final, located
from rekindle.engine.loading import load_model
from rekindle.errors import ConfigError, ModelError


class Place(NamedTuple):
    """Where an adapter lies, and the model that it stands on."""

    directory: Path
    base: ModelConfig


def adapter_of(config: ModelConfig) -> Place | None:
    """The adapter that a model's settings name: `adapter`, or a `name` that is its directory.

    Raises:
        ModelError: it is not there, does not say its base, or was changed since its run.
        ConfigError: two adapters are named.
    """
    named = (Path(config.name) / SETTINGS).is_file()
    if config.adapter is None and not named:
        return None
    directory = Path(config.name if config.adapter is None else config.adapter)
    if config.adapter is not None and named:
        raise ConfigError(
            "two adapters are named",
            got=f"model.name {config.name}, model.adapter {config.adapter}",
            wanted="the base as model.name, or the adapter's directory and no model.adapter",
        )
    if not (directory / SETTINGS).is_file():
        raise ModelError(
            f"there is no adapter in '{directory}'",
            got=f"no {SETTINGS}",
            wanted="a directory as PEFT saves it, such as RUN/final/adapter",
        )
    check_final(directory.parent if directory.parent.name == FINAL else directory)
    name = config.name if config.adapter is not None else _base_of(directory)
    return Place(directory, config.with_name(name))


def load_adapter(model: Any, place: Place) -> tuple[Any, Adapter]:
    """A model with the adapter, over the loaded base."""
    return read_adapter(base_of(place.base, model), place.directory)


def base_of(config: ModelConfig, model: Any) -> Base:
    """The base that a loaded model is; of a quantised one the plain weights can be loaded too."""
    if config.quantize == "none":
        return Base(config.name, model)
    return Base(config.name, model, partial(_plain_model, config))


def _plain_model(config: ModelConfig) -> Any:
    return load_model(config, located(config.name), dtype=torch.float32).eval()


def _base_of(directory: Path) -> str:
    name = read_settings(directory).base_model_name_or_path
    if not name:
        raise ModelError(
            f"the adapter {directory} does not say which model it is for",
            got="no base_model_name_or_path",
            fix=f"--set model.name=BASE --set model.adapter={directory}",
        )
    return str(name)


def quantization(config: ModelConfig) -> dict[str, Any]:
    """What `from_pretrained` is given for a quantised base; nothing where there is none.

    Raises:
        ConfigError: there is no GPU, or bitsandbytes is not installed.
    """
    if config.quantize == "none":
        return {}
    device = pick_device(config.device)
    lacks = [] if device.type == "cuda" else [f"no CUDA device, this is {device}"]
    lacks += [] if find_spec("bitsandbytes") else ["bitsandbytes is not installed"]
    if lacks:
        raise ConfigError(
            f"model.quantize: {config.quantize} cannot be used here",
            got="; ".join(lacks),
            wanted="a CUDA device and the package bitsandbytes",
            why="products with quantised weights are kernels of it for CUDA",
            fix="--set model.quantize=none; model.dtype=bfloat16 halves the base's weights",
        )
    from transformers import BitsAndBytesConfig

    kind = {"load_in_8bit": True} if config.quantize == "int8" else {"load_in_4bit": True}
    settings = BitsAndBytesConfig(
        **kind, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
    )
    return {"quantization_config": settings, "device_map": {"": device}}
