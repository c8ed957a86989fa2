"""The smallest runs that still train: one recipe a preset, and a few that no preset reaches.

Models are in fp64: Adam blows the rounding of fp32 up to 1e-3 within three steps, so that machines
could not be compared. The variants `+float32` are for the machine that recorded them alone.
"""

from __future__ import annotations

from typing import Any

Tree = dict[str, Any]

REWARD_MODEL = {"reward": {"model": "testbed/countdown-s0-reward", "dtype": "float64"}}
FLOAT32 = {"model": {"dtype": "float32"}}
# Settings that no preset has: the KL, several updates from one batch, other losses.
VARIANTS: dict[str, tuple[str, Tree]] = {
    "grpo+float32": ("grpo", FLOAT32),
    "wmss+float32": ("wmss", FLOAT32),
    "temporal+float32": ("temporal", FLOAT32),
    "grpo+kl+minibatches": ("grpo", {"grpo": {"beta": 0.1, "minibatches": 2, "epochs": 2}}),
    "lens+unit+kl": ("lens", {"lens": {"neg_scale": "unit", "alpha": 1.0, "kl": 0.1}}),
    "lens+sampler": ("lens", {"lens": {"logprobs": "sampler", "difficulty": "raw"}}),
    "hero+bands": (
        "hero",
        {"hero": {"scale": "none", "alpha": 0.2, "beta": 0.1, "w_min": 0.5, "k": 5.0, "kl": 0.1}},
    ),
    "rm_only+random": ("rm_only", {"reward": {"source": "random", "model": None}}),
    "hero+oracle+brittle": (
        "hero",
        {"task": {"brittle": 0.75}, "reward": {"source": "oracle", "model": None}},
    ),
    "wmss+half": ("wmss", {"wmss": {"weak": "half"}, "optim": {"steps": 6}}),
    "wmss+lam+sequence": ("wmss", {"wmss": {"lam": 0.8, "reduction": "sequence"}}),
    "dpo+nll+smoothing": ("dpo", {"dpo": {"nll": 1.0, "smoothing": 0.1}}),
    "self_rewarding+replay": ("self_rewarding", {"self_rewarding": {"replay": 1}}),
    "self_rewarding+reward": (
        "self_rewarding",
        {
            "self_rewarding": {
                "judge": {"source": "reward", "format": None, "samples": None},
                "seed": {"steps": 0},
            },
            "reward": {"source": "oracle"},
        },
    ),
    "w2s+orpo+twice": (
        "weak_to_strong",
        {"weak_to_strong": {"loss": "orpo", "iterations": 2, "stage1": "weak"}},
    ),
}


def recipe_of(name: str, section: str, pairs: str) -> Tree:
    """The recipe of a method or variant.

    Args:
        name: of `rekindle methods`, or a key of `VARIANTS`.
        section: the method's section, as `rekindle methods` says it.
        pairs: the file of pairs, for methods that read one.
    """
    method, own = VARIANTS.get(name, (name, {}))
    tree: Tree = {
        "method": method,
        "seed": 7,
        "checkpoint": {"every": 50, "keep": 1},
        "eval": {"split": "dev", "problems": 4, "samples": 2},
        "device": {"threads": 1},
        "log": {"samples": 8},
    }
    for more in (_of_section(section, pairs), own):
        tree = merged(tree, more)
    return tree


def merged(tree: Tree, more: Tree) -> Tree:
    """`tree` with the values of `more`, section by section; None takes a key away."""
    out = dict(tree)
    for key, value in more.items():
        inner = isinstance(value, dict) and isinstance(out.get(key), dict)
        out[key] = merged(out[key], value) if inner else value
    return {key: value for key, value in out.items() if value is not None}


def _of_section(section: str, pairs: str) -> Tree:
    if section == "weak_to_strong":
        return _weak_to_strong()
    if section in ("self_rewarding", "temporal"):
        return _rounds(section)
    if section in ("dpo", "orpo"):
        return _of_model("addition", "2", lr=1e-3) | {section: {"pairs": pairs}}
    if section in ("sft", "wmss"):
        return _of_model("addition", "5", lr=2e-3)
    tree = _of_model("countdown", "3,4", lr=1e-3)
    needs_scores = section in ("hero", "blend")
    return {**tree, section: {"group_size": 8}} | (REWARD_MODEL if needs_scores else {})


def _of_model(task: str, levels: str, *, lr: float) -> Tree:
    return {
        "model": {"name": f"testbed/{task}-s0", "dtype": "float64"},
        "task": {"name": task, "levels": levels.split(",")},
        "sample": {"max_new_tokens": 40 if task == "addition" else 20},
        "optim": {"steps": 3, "problems": 8, "lr": lr},
    }


def _weak_to_strong() -> Tree:
    tree = _of_model("addition", "3", lr=1e-3)
    own = {
        "weak": "testbed/addition-s1",
        "half1": 8,
        "half2": 32,
        "demos": 0,
        "samples": 4,
        "tau_chosen": 0.25,
        "tau_rejected": 0.5,
        "weak_sft": {"steps": 3, "lr": 1e-4, "batch": 8},
        "stage2": {"steps": 3, "lr": 1e-3, "batch": 4},
    }
    tree["model"]["name"] = "testbed/addition-s0-early"
    return {**tree, "sample": {"max_new_tokens": 48}, "weak_to_strong": own}


def _rounds(section: str) -> Tree:
    tree = _of_model("chain", "3", lr=3e-4)
    own = {
        "iterations": 2,
        "prompts": 16,
        "candidates": 4,
        "judge": {"format": "marker", "samples": 2},
        "seed": {
            "steps": 1,
            "lr": 1e-4,
            "batch": 8,
            "instructions": 8,
            "judged": 8,
            "answers": 2,
            "scale": "steps",
        },
    }
    tree["model"]["name"] = "testbed/chain-s0-judge"
    return {**tree, "sample": {"max_new_tokens": 32}, section: own}
