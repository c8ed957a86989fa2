"""The optimizers that `optim.name` chooses among. All are libraries'; moments are fp32.

name         bytes a parameter   what it keeps
adamw        8                   two moments; torch's fused kernel
adamw_8bit   2                   the same in 8 bits: torchao's, on a GPU
adafactor    nearly 0            sums of rows and columns of the second moment (1804.04235)
muon         4                   one moment of a hidden matrix, made orthogonal at each step
                                 (Jordan et al. 2024); all other parameters have adamw's two
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import nn
from torch.optim import Adafactor, AdamW, Muon, Optimizer

from rekindle.engine.capabilities import check_optimizer
from rekindle.engine.config import OptimConfig
from rekindle.errors import ConfigError


def make_optimizer(models: Mapping[str, nn.Module], optim: OptimConfig) -> Optimizer:
    """An optimizer over the parameters of all models that require a gradient.

    Raises:
        ConfigError: it is not to be had on this device, or muon finds no hidden matrix.
    """
    parameters = trained_parameters(models)
    lr, decay, betas = optim.lr, optim.weight_decay, optim.betas
    check_optimizer(optim, parameters[0].device if parameters else torch.device("cpu"))
    if optim.name == "adafactor":
        return Adafactor(parameters, lr=lr, weight_decay=decay)
    if optim.name == "adamw_8bit":
        from torchao.optim import AdamW8bit

        eight: Optimizer = AdamW8bit(parameters, lr=lr, betas=betas, weight_decay=decay)
        return eight
    adamw = partial(AdamW, lr=lr, betas=betas, weight_decay=decay, fused=True)
    if optim.name == "adamw":
        return adamw(parameters)
    hidden = [p for model in models.values() for p in hidden_matrices(model) if p.requires_grad]
    if not hidden:
        raise ConfigError(
            "optim.name: muon has no effect: no hidden matrix is trained",
            got=f"{len(parameters)} parameters",
            wanted="two-dimensional weights between embedding and head",
            fix="--set optim.name=adamw",
        )
    known = {id(p) for p in hidden}
    rest = [p for p in parameters if id(p) not in known]
    # the rate of AdamW, so that optim.lr means one thing (Liu et al. 2025, arXiv 2502.16982)
    muon = Muon(hidden, lr=lr, weight_decay=decay, adjust_lr_fn="match_rms_adamw")
    return Joined([muon, adamw(rest)] if rest else [muon])


def trained_parameters(models: Mapping[str, nn.Module]) -> list[nn.Parameter]:
    """The parameters of all models that require a gradient, each once."""
    every = [p for model in models.values() for p in model.parameters() if p.requires_grad]
    return list(dict.fromkeys(every))


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """The two-dimensional weights of a model's body, without its embeddings and its head."""
    # Loaded here: transformers takes seconds to import.
    from transformers import PreTrainedModel

    body, outside = model, set[int]()
    if isinstance(model, PreTrainedModel):
        body, head = model.base_model, model.get_output_embeddings()
        outside = set() if head is None else {id(p) for p in head.parameters()}
    for module in model.modules():
        if isinstance(module, nn.Embedding):
            outside.update(id(p) for p in module.parameters(recurse=False))
    return [p for p in body.parameters() if p.ndim == 2 and id(p) not in outside]


class Joined(Optimizer):
    """Optimizers over different parameters that step, are saved and restored as one.

    Its groups and its state are theirs, so what a checkpoint does with any optimizer does for it.

    Args:
        parts: each with one group of parameters.
    """

    def __init__(self, parts: list[Optimizer]) -> None:
        self._parts = parts
        super().__init__([group for part in parts for group in part.param_groups], {})

    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of each part.

        Raises:
            ValueError: a closure, which would be evaluated once for each part.
        """
        if closure is not None:
            raise ValueError("a step of several optimizers takes no closure")
        for part, group in zip(self._parts, self.param_groups, strict=True):
            # again each time: loading a checkpoint makes new groups and a new state
            part.param_groups, part.state = [group], self.state
            part.step()
        return None
