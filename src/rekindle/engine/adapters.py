"""Several LoRA adapters on one model: the base and its head are there once, and are not trained.

Extra `[peft]`. arXiv 2106.09685.
"""

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save_file
from torch import nn

from rekindle.engine.policy import Policy
from rekindle.errors import missing_extra


class Adapters:
    """Adapters inside a policy's model; one is active at a time.

    Args:
        policy: its model is changed in place: adapters go into every linear map but the head, and
            only they require a gradient.
        names: the first is active. A fresh adapter changes nothing: it is the base model.
        rank, alpha: of all of them; an adapter's share is alpha / rank.
    """

    def __init__(self, policy: Policy, names: Sequence[str], *, rank: int, alpha: float) -> None:
        peft = _peft()
        self.policy, self.names, self._trained = policy, tuple(names), tuple(names)
        body = policy.model.model
        targets = sorted(
            {name.split(".")[-1] for name, m in body.named_modules() if isinstance(m, nn.Linear)}
        )
        policy.model.requires_grad_(False)
        for name in names:
            config = peft.LoraConfig(
                r=rank, lora_alpha=alpha, target_modules=targets, lora_dropout=0.0, bias="none"
            )
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Already found a `peft_config`")
                peft.inject_adapter_in_model(config, policy.model, adapter_name=name)
            self._config = config
        self.activate(names[0])

    def activate(self, name: str) -> None:
        """The model's forward is now that of the base with this adapter."""
        for layer in self.policy.model.modules():
            if isinstance(layer, _peft().tuners.tuners_utils.BaseTunerLayer):
                layer.set_adapter(name)
        self.require_gradients(self._trained)  # switching must not stop the other one's training

    def require_gradients(self, names: Sequence[str]) -> None:
        """Which adapters are trained."""
        self._trained = tuple(names)
        for key, parameter in self.policy.model.named_parameters():
            if "lora_" in key:
                parameter.requires_grad_(key.split(".")[-2] in names)

    @contextmanager
    def active(self, name: str) -> Iterator[None]:
        """Another adapter within the block, then the first again."""
        self.activate(name)
        try:
            yield
        finally:
            self.activate(self.names[0])

    def load(self, name: str, directory: Path) -> None:
        """Take over an adapter that `save` wrote."""
        weights = load_file(directory / "adapter_model.safetensors")
        _peft().set_peft_model_state_dict(self.policy.model, weights, adapter_name=name)

    def save(self, name: str, directory: Path) -> None:
        """Write an adapter in PEFT's layout, as safetensors."""
        directory.mkdir(parents=True, exist_ok=True)
        adapter = _peft().get_peft_model_state_dict(self.policy.model, adapter_name=name)
        weights = {key: value.detach().cpu().contiguous() for key, value in adapter.items()}
        save_file(weights, directory / "adapter_model.safetensors", metadata={"format": "pt"})
        self._config.base_model_name_or_path = self.policy.config.name
        self._config.save_pretrained(str(directory))

    def merged(self, name: str) -> Policy:
        """The base with one adapter added into its weights: the base's own format and size."""
        twin = copy.copy(self.policy)
        twin.model = copy.deepcopy(self.policy.model)
        for path, layer in list(twin.model.named_modules()):
            if isinstance(layer, _peft().tuners.tuners_utils.BaseTunerLayer):
                layer.merge(adapter_names=[name])
                parent, _, child = path.rpartition(".")
                setattr(twin.model.get_submodule(parent), child, layer.get_base_layer())
        twin.model.requires_grad_(True)
        return twin

    def shipped(self, name: str) -> "AdaptedPolicy":
        """The merged policy; saved, it has the adapter beside it."""
        return AdaptedPolicy(**vars(self.merged(name)), adapters=self, adapter=name)


@dataclass
class AdaptedPolicy(Policy):
    """A merged policy that is saved with the adapter it was made of, in `adapter/`."""

    adapters: Adapters
    adapter: str

    def save(self, directory: Path, *, dtype: str | None = None) -> None:
        """Model, config, tokenizer, and `adapter/` in PEFT's layout."""
        super().save(directory, dtype=dtype)
        self.adapters.save(self.adapter, directory / "adapter")


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise missing_extra("peft", extra="peft", needed_for="wmss.lora_rank") from error
    return peft
