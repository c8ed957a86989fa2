"""One file per paper. `METHODS` is the list: name -> the module that holds the paper."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from rekindle.errors import ConfigError, did_you_mean

METHODS: dict[str, str] = {
    "sft": "rekindle.methods.sft",
    "grpo": "rekindle.methods.grpo",
    "dr_grpo": "rekindle.methods.grpo",
    "dapo": "rekindle.methods.grpo",
    "rloo": "rekindle.methods.grpo",
    "grpo_mean": "rekindle.methods.grpo",
    "grpo_dynamic": "rekindle.methods.grpo",
    "grpo_entropy": "rekindle.methods.grpo",
    "lens": "rekindle.methods.lens",
    "lens_negative": "rekindle.methods.lens",
    "lens_mixed": "rekindle.methods.lens",
    "lens_uniform": "rekindle.methods.lens",
    "lens_shuffled": "rekindle.methods.lens",
    "hero": "rekindle.methods.hero",
    "hero_mean": "rekindle.methods.hero",
    "verifier_only": "rekindle.methods.blend",
    "rm_only": "rekindle.methods.blend",
    "naive_blend": "rekindle.methods.blend",
    "gated": "rekindle.methods.blend",
    "psr": "rekindle.methods.nsr",
    "nsr": "rekindle.methods.nsr",
    "w_reinforce": "rekindle.methods.nsr",
    "ngrpo": "rekindle.methods.ngrpo",
    "rl_zvp": "rekindle.methods.rl_zvp",
    "wmss": "rekindle.methods.wmss.wmss",
    "wmss_code": "rekindle.methods.wmss.wmss",
    "wmss_frozen": "rekindle.methods.wmss.wmss",
    "wmss_cached": "rekindle.methods.wmss.wmss",
    "wmss_lora": "rekindle.methods.wmss.wmss",
    "wmss_mixing_only": "rekindle.methods.wmss.wmss",
    "wmss_curriculum_only": "rekindle.methods.wmss.wmss",
    "wmss_shuffled": "rekindle.methods.wmss.wmss",
    "wmss_d0": "rekindle.methods.wmss.wmss",
    "sft_restart": "rekindle.methods.wmss.wmss",
    "dpo": "rekindle.methods.dpo",
    "orpo": "rekindle.methods.orpo",
    "self_rewarding": "rekindle.methods.self_rewarding.self_rewarding",
    "temporal": "rekindle.methods.self_rewarding.temporal",
    "temporal_past": "rekindle.methods.self_rewarding.temporal",
    "temporal_future": "rekindle.methods.self_rewarding.temporal",
    "sft_neftune": "rekindle.methods.wmss.wmss",
    "sft_label_smoothing": "rekindle.methods.wmss.wmss",
    "sft_extrapolate": "rekindle.methods.wmss.wmss",
    "weak_to_strong": "rekindle.methods.weak_to_strong.weak_to_strong",
    "w2s_stage1": "rekindle.methods.weak_to_strong.weak_to_strong",
    "w2s_full_weak": "rekindle.methods.weak_to_strong.weak_to_strong",
    "w2s_weak_icl": "rekindle.methods.weak_to_strong.weak_to_strong",
    "w2s_random": "rekindle.methods.weak_to_strong.weak_to_strong",
    "w2s_self_training": "rekindle.methods.weak_to_strong.weak_to_strong",
    "w2s_ceiling": "rekindle.methods.weak_to_strong.weak_to_strong",
    "w2s_floor": "rekindle.methods.weak_to_strong.weak_to_strong",
}

# methods that give credit to groups of scored answers: `rekindle explain advantages`
_NO_GROUPS = (".sft", ".wmss", ".dpo", ".orpo", ".self_rewarding", ".temporal", ".weak_to_strong")
GROUP_METHODS = tuple(name for name, module in METHODS.items() if not module.endswith(_NO_GROUPS))

# methods that make pairs of answers: `rekindle explain pairs`
PAIR_METHODS = (
    "self_rewarding",
    "temporal",
    "temporal_past",
    "temporal_future",
    "weak_to_strong",
)

# methods that rank answers by a reward model, and cannot do without one
RANKERS = ("hero", "hero_mean", "rm_only", "naive_blend", "gated")


def method_module(name: str) -> ModuleType:
    """The module of a method: `Config`, `PRESETS`, `check`, `run`.

    Raises:
        ConfigError: there is no such method; what exists is listed.
    """
    if name not in METHODS:
        raise ConfigError(f"unknown method '{name}'", fix=did_you_mean(name, METHODS))
    return import_module(METHODS[name])


def section_name(method: str) -> str:
    """The recipe section that configures a method: its module's name (`dapo` is set in `grpo:`)."""
    method_module(method)
    return METHODS[method].rsplit(".", 1)[-1]
