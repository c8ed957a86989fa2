"""A LoRA adapter on a base that several models share.

A model with an adapter is a tree of modules of its own over the base's weights, which are in memory
once, whatever the number of models, and are never trained. So no switch says which adapter is
active, and what is computed again in a backward pass is computed as it was in the forward pass.

    DIR/adapter_config.json  adapter_model.safetensors      PEFT's layout
    DIR/adapter_base.json                                   which base: its name, and a hash

Extra `[peft]`. LoRA: arXiv 2106.09685; DoRA: 2402.09353; rsLoRA: 2312.03732.
"""

import copy
import os
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from rekindle.engine.config import LoraConfig
from rekindle.engine.progress import say_once
from rekindle.engine.tensor_hash import hash_tensors
from rekindle.errors import ConfigError, ModelError, missing_extra
from rekindle.files import read_json, write_json
from rekindle.model_files import Reading, read_object
from rekindle.ops.precision import raise_to_masters, round_linear_maps

SETTINGS, WEIGHTS, BASE = "adapter_config.json", "adapter_model.safetensors", "adapter_base.json"
_PREFIX = "base_model.model."  # PEFT's, before the names of a wrapped model
_OTHERWISE = ("modules_to_save", "trainable_token_indices", "layer_replication")


class Base:
    """The model that adapters stand on, without any; it is no longer trained.

    Attributes:
        name: as `model.name` has it.
        model: its own tree of modules; it may be run, and is never changed.
        plain: loads it as it was before it was quantised; None where it is not quantised.
    """

    def __init__(self, name: str, model: Any, plain: Callable[[], Any] | None = None) -> None:
        self.name, self.model, self.plain = name, model.requires_grad_(False), plain

    @cached_property
    def fingerprint(self) -> str:
        """Hash of its weights."""
        return hash_tensors(self.model.state_dict())

    def linear_maps(self) -> dict[str, nn.Module]:
        """The maps that an adapter can be on, by their path; the head is none of them."""
        from transformers.pytorch_utils import Conv1D

        head = self.model.get_output_embeddings()
        return {
            path: module
            for path, module in self.model.named_modules()
            if isinstance(module, nn.Linear | Conv1D) and module is not head
        }


@dataclass(frozen=True)
class Adapter:
    """What is known of the adapter inside a model; its weights are the model's trained ones.

    Attributes:
        base: what it stands on.
        lora: its settings.
        peft: the same as PEFT has them.
    """

    base: Base
    lora: LoraConfig
    peft: Any

    def copied(self, model: Any, *, trained: bool) -> Any:
        """A model on the same base with a copy of `model`'s adapter."""
        twin = _over_shared(model)
        for parameter in _parts(twin).values():
            parameter.requires_grad_(trained)
        _set_dropout(twin, self.lora.dropout if trained else 0.0)
        return twin

    def is_fresh(self, model: Any) -> bool:
        """Whether it changes nothing: the model is its base, exactly."""
        raised = [part for name, part in _parts(model).items() if ".lora_B." in name]
        return not self.lora.dora and not any(bool(part.any()) for part in raised)

    def fingerprint(self, model: Any) -> str:
        """Hash of base and adapter; the base's where the adapter changes nothing."""
        if self.is_fresh(model):
            return self.base.fingerprint
        own = _weights_of(model)
        settings = f"{self.lora.rank} {self.lora.scale} {self.lora.rslora} {self.lora.dora}"
        mark = torch.tensor(list(f"{self.base.fingerprint} {settings}".encode()), dtype=torch.uint8)
        return hash_tensors({**own, "base": mark})

    def save(self, model: Any, directory: Path) -> None:
        """Write the adapter in PEFT's layout, as safetensors, and a note of its base."""
        directory.mkdir(parents=True, exist_ok=True)
        own = {
            f"{_PREFIX}{name}": tensor.detach().cpu().contiguous()
            for name, tensor in _weights_of(model).items()
        }
        save_file(own, directory / WEIGHTS, metadata={"format": "pt"})
        self.peft.save_pretrained(str(directory))
        settings = read_json(directory / SETTINGS)  # sets are written in the order of a hash
        settings["target_modules"] = sorted(settings["target_modules"])
        write_json(directory / SETTINGS, settings)
        known = self.base.plain is None  # else the hash of the weights is that of quantised ones
        mark = self.base.fingerprint if known else None
        write_json(directory / BASE, {"base": self.base.name, "weights_sha256": mark})

    def on_plain(self, model: Any) -> "tuple[Any, Adapter]":
        """`model`'s adapter on the base as it was before it was quantised; as they are, if not."""
        if self.base.plain is None:
            return model, self
        base = Base(self.base.name, self.base.plain())
        whole = _injected(base, self.peft)
        _peft().set_peft_model_state_dict(whole, _weights_of(model))
        return whole, replace(self, base=base)


def copied(
    model: Any, adapter: Adapter | None, *, trained: bool, products: torch.dtype | None
) -> tuple[Any, Adapter | None]:
    """A copy of a model; of one with an adapter that alone, and a fresh one is left off where it
    would be frozen: the base itself is then the model.

    Args:
        products: what it multiplies in, where that is less than it is trained in; a frozen copy
            holds its linear maps so.
    """
    if adapter is None:
        twin = copy.deepcopy(model).eval().requires_grad_(trained)
        if trained:
            raise_to_masters(twin)
        else:
            round_linear_maps(twin, products)
        return twin, None
    if not trained and adapter.is_fresh(model):
        return adapter.base.model, None
    return adapter.copied(model, trained=trained), adapter


# --- making and reading


def fresh_adapter(base: Base, lora: LoraConfig, *, seed: int, draw: int = 0) -> tuple[Any, Adapter]:
    """A model with an adapter that changes nothing yet.

    Args:
        seed: of the draws of its first halves; torch's own generator is as it was.
        draw: which of the seed's adapters it is, from 0.

    Raises:
        ConfigError: a target is no linear map of the model, or is its head.
        MissingExtraError: PEFT is not installed.
    """
    names, excluded = _targets(base, lora)
    settings = _peft().LoraConfig(
        r=lora.rank,
        lora_alpha=lora.scale,
        target_modules=names,
        exclude_modules=excluded,
        lora_dropout=lora.dropout,
        bias="none",
        use_dora=lora.dora,
        use_rslora=lora.rslora,
        task_type="CAUSAL_LM",
        base_model_name_or_path=base_place(base.name),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for _ in range(draw + 1):
            model = _injected(base, settings)
    _set_dropout(model, lora.dropout)
    return model, Adapter(base, lora, settings)


def read_adapter(base: Base, directory: Path) -> tuple[Any, Adapter]:
    """A model with an adapter that `Adapter.save` or PEFT wrote, as it goes on being trained.

    Raises:
        ModelError: it is no LoRA adapter, trains more than LoRA, is of another base, or is damaged.
        MissingExtraError: PEFT is not installed.
    """
    settings = read_settings(directory)
    _check_base(base, directory, str(settings.base_model_name_or_path or ""))
    with _reading(directory):
        model = _injected(base, settings)
        weights = load_file(directory / WEIGHTS)
    given = {name.removeprefix(_PREFIX): tensor for name, tensor in weights.items()}
    _check_shapes(base, directory, given, _weights_of(model))
    _peft().set_peft_model_state_dict(model, given)
    with _reading(directory):
        lora = LoraConfig(
            rank=settings.r,
            alpha=settings.lora_alpha,
            targets=_as_names(settings.target_modules),
            dropout=settings.lora_dropout,
            dora=settings.use_dora,
            rslora=settings.use_rslora,
        )
    _set_dropout(model, lora.dropout)
    settings.base_model_name_or_path = base_place(base.name)
    return model, Adapter(base, lora, settings)


def read_settings(directory: Path) -> Any:
    """PEFT's settings of the adapter in a directory.

    Raises:
        ModelError: it is no LoRA adapter, or trains more than LoRA.
        MissingExtraError: PEFT is not installed.
    """
    tree = read_json(directory / SETTINGS)
    kind = tree.get("peft_type") if isinstance(tree, dict) else None
    if kind != "LORA":
        raise _unusable(directory, f"peft_type {kind}", wanted="LORA")
    with _reading(directory):
        settings = _peft().PeftConfig.from_pretrained(str(directory))
    beside = [name for name in _OTHERWISE if vars(settings)[name]]
    beside += [f"bias: {settings.bias}"] if settings.bias != "none" else []
    if beside:
        raise _unusable(directory, ", ".join(beside), wanted="an adapter that is LoRA alone")
    settings.inference_mode = False
    return settings


def base_place(name: str) -> str:
    """How an adapter's settings name its base: a directory by its absolute path."""
    return os.path.abspath(name) if Path(name).is_dir() else name


def trained_share(model: Any) -> str:
    """`1,204 of 30,000 parameters are trained (4.0 %)`."""
    total = sum(p.numel() for p in model.parameters())
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    return f"{trained:,} of {total:,} parameters are trained ({trained / total:.1%})"


# --- checks


def _targets(base: Base, lora: LoraConfig) -> tuple[list[str], list[str] | None]:
    """What PEFT shall adapt, and what of the same name it shall not."""
    maps = base.linear_maps()
    last = sorted({path.rpartition(".")[2] for path in maps})
    head = next(
        (p for p, m in base.model.named_modules() if m is base.model.get_output_embeddings()), None
    )
    names = last if lora.targets is None else list(lora.targets)
    for name in names:
        if not any(path == name or path.endswith(f".{name}") for path in maps):
            is_head = head is not None and (head == name or head.endswith(f".{name}"))
            raise ConfigError(
                f"model.lora.targets: '{name}' is "
                + ("the head of the model" if is_head else "no linear map of the model"),
                got=f"targets {', '.join(names)} on '{base.name}'",
                wanted=f"some of: {', '.join(last)}",
                why="the head is not adapted: all that share a base share it"
                if is_head
                else "nothing of that name would be trained",
                fix="--set model.lora.targets=null for all of them",
            )
    clash = head is not None and any(head == name or head.endswith(f".{name}") for name in names)
    return names, [head] if clash and head is not None else None


def _check_base(base: Base, directory: Path, named: str) -> None:
    """By the hash in our note; by its name alone, where PEFT wrote it, nothing is certain."""
    path = directory / BASE
    note = read_object(path) if path.is_file() else {}
    mark, wanted = (note.get(key) for key in ("weights_sha256", "base")) if note else (None, None)
    if mark is not None and base.plain is None and mark != base.fingerprint:
        raise ModelError(
            f"the adapter {directory} is of another base",
            got=f"'{base.name}', weights {base.fingerprint[:12]}",
            wanted=f"'{wanted}', weights {str(mark)[:12]}",
            why="an adapter is a change of the weights that it was trained on",
            fix=f"--set model.name={wanted}, as it was then",
        )
    if mark is None and Path(named).name != Path(base.name).name:
        say_once(f"{directory} is an adapter of '{named}' by its settings: used on '{base.name}'")


def _check_shapes(
    base: Base, directory: Path, given: dict[str, Tensor], wanted: dict[str, Tensor]
) -> None:
    faults = [f"no {name}" for name in sorted(wanted.keys() - given.keys())]
    faults += [f"{name} is of no part of it" for name in sorted(given.keys() - wanted.keys())]
    faults += [
        f"{name}: {list(given[name].shape)} where {list(wanted[name].shape)} is needed"
        for name in sorted(wanted.keys() & given.keys())
        if given[name].shape != wanted[name].shape
    ]
    if faults:
        raise ModelError(
            f"the adapter {directory} does not fit '{base.name}'",
            got="; ".join(faults[:3]),
            wanted="an adapter of this base",
            fix="--set model.name to the base that it was trained on",
        )


_MERGE = "merge it with PEFT (merge_and_unload, save_pretrained), and use what that writes"


def _reading(directory: Path) -> Reading:
    wanted = f"{SETTINGS} and {WEIGHTS} as PEFT saves them"
    fix = f"copy it again, whole and as safetensors; or {_MERGE}"
    return Reading(f"the adapter {directory}", wanted=wanted, fix=fix)


def _unusable(directory: Path, got: str, *, wanted: str | None = None) -> ModelError:
    return ModelError(
        f"the adapter {directory} cannot be used",
        got=got,
        wanted=wanted,
        fix=_MERGE,
    )


# --- trees of modules


def _injected(base: Base, settings: Any) -> Any:
    """A tree over the base's weights with PEFT's layers in it."""
    model = _over_shared(base.model)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r"fan_in_fan_out is set to")
        warnings.filterwarnings("ignore", message=r"Model has `tie_word_embeddings=True`")
        _peft().inject_adapter_in_model(settings, model)
    for parameter in _parts(model).values():
        if parameter.dtype in (torch.bfloat16, torch.float16):
            parameter.data = parameter.data.float()  # what is trained is fp32 at least
    return model


def _over_shared(model: Any) -> Any:
    """A copy of the modules over the same weights; the parts of an adapter are copied."""
    own = {id(part) for part in _parts(model).values()}
    shared = (t for t in (*model.parameters(), *model.buffers()) if id(t) not in own)
    return copy.deepcopy(model, {id(tensor): tensor for tensor in shared})


def _parts(model: Any) -> dict[str, nn.Parameter]:
    """The parameters of the adapter inside a model."""
    return {name: part for name, part in model.named_parameters() if ".lora_" in name}


def _weights_of(model: Any) -> dict[str, Tensor]:
    """The adapter's weights as PEFT names them."""
    weights: dict[str, Tensor] = _peft().get_peft_model_state_dict(
        model, state_dict=dict(_parts(model)), save_embedding_layers=False
    )
    return weights


def adapted_layers(model: Any) -> Iterator[tuple[str, Any]]:
    """Path and PEFT layer of each map that has an adapter."""
    kind = _peft().tuners.lora.LoraLayer
    return ((path, layer) for path, layer in model.named_modules() if isinstance(layer, kind))


class _TrainingDropout(nn.Dropout):
    """Active where gradients are asked for; the draws are torch's own generator's."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, self.p, training=torch.is_grad_enabled())


def _set_dropout(model: Any, p: float) -> None:
    for _, layer in adapted_layers(model):
        layer.training = p > 0  # DoRA asks for it; the rest of the model stays in eval mode
        for name in layer.lora_dropout:
            layer.lora_dropout[name] = _TrainingDropout(p) if p > 0 else nn.Identity()


def _as_names(targets: Any) -> tuple[str, ...] | None:
    """PEFT's set of names; a pattern of its own counts as its one name."""
    return (targets,) if isinstance(targets, str) else tuple(sorted(targets))


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise missing_extra("peft", extra="peft", needed_for="LoRA (model.lora)") from error
    return peft
