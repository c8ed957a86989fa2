"""Runs that take every method through SmolLM2: a short recipe each, and what its metrics must show.

`real_methods.py` measures them, `tests/real/` asserts them. The questions are made here: sums that
the model gets right at times, sums that it never gets right, and the same sums as chats. Answers
are a few tokens long, so that a run takes seconds: it shows that a method works, not that it helps.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import yaml

from rekindle.methods.catalog import METHODS, Method

Tree = dict[str, object]
STEPS, PROBLEMS, RATE, SEED = 2, 6, 1e-5, 3
FROM_JUDGES = ("self_rewarding", "temporal")  # sections


class Shows(NamedTuple):
    """A metric of a run, and where its mean over the steps that have it must lie.

    Metrics of a stage's record are named `stage: metric`.
    """

    metric: str
    low: float
    high: float = float("inf")


@dataclass(frozen=True)
class Case:
    """A run.

    Attributes:
        name: the method's, with a plus and what is different where there are several runs of it.
        shows: what the method did; the loss is looked at in every run.
        own: settings on top of the others.
        trains: whether `final/` is to be another model than the start.
    """

    name: str
    method: str
    shows: tuple[Shows, ...]
    own: Mapping[str, object]
    trains: bool = True

    @property
    def has_adapter(self) -> bool:
        """It ends with `final/adapter`."""
        return self.name.endswith("+lora") or self.method == "wmss_lora"


class Inputs(NamedTuple):
    """What recipes name: directories."""

    model: Path
    data: Path
    reward: Path


# --- what a method shows

_SOME, _ALL = 1e-9, 1 - 1e-9
_MIXED_ALONE = (Shows("advantage/share_mixed", _ALL),)
_ALL_WRONG_TOO = (Shows("advantage/share_all_wrong", _SOME),)
_SCORED = (Shows("rm/std", _SOME), Shows("score/rm_missing", 0, 0), *_ALL_WRONG_TOO)
_SATURATION = (Shows("mass/non_target", _SOME, 1), Shows("tokens/above_099", 0, 1))
_MIX = (Shows("mix/gradient", _SOME, 1), Shows("margin/weak", -50, 50))
_DRAWN = (Shows("curriculum1: unique_share", _SOME, 1),)
_PAIRS = (Shows("pairs/accuracy", 0, 1), Shows("pairs/similarity", 0, 1))
_JUDGED = (*_PAIRS, Shows("pairs/gap", _SOME), Shows("judge/missing", 0, 0.5))
_PAST, _FUTURE = Shows("pairs/from_past", _SOME, 1), Shows("pairs/from_future", _SOME, 1)
_KEPT = (Shows("kept-1: kept_share", _SOME, 1),)

_OF_SECTION: dict[str, tuple[Shows, ...]] = {
    "sft": _SATURATION,
    "grpo": _MIXED_ALONE,
    "lens": (Shows("penalty/mean", _SOME, 1), *_ALL_WRONG_TOO),
    "hero": (Shows("sigma/batch", _SOME), Shows("weight/mean", 0.4, 3), *_SCORED),
    "blend": _SCORED,
    "nsr": _ALL_WRONG_TOO,
    "ngrpo": _ALL_WRONG_TOO,
    "rl_zvp": _ALL_WRONG_TOO,
    "wmss": (*_MIX, *_DRAWN),
    "dpo": (*_PAIRS, Shows("pairs/margin", -50, 50), Shows("pairs/chosen_change", -50, 50)),
    "orpo": (*_PAIRS, Shows("pairs/margin", -50, 50)),
    "self_rewarding": (*_JUDGED, Shows("judge/parse_rate", 0.5, 1)),
    "temporal": (*_JUDGED, _PAST, _FUTURE),
    "weak_to_strong": (*_KEPT, *_PAIRS),
}
_OF_METHOD: dict[str, tuple[Shows, ...]] = {
    "grpo_dynamic": (*_MIXED_ALONE, Shows("problems/asked", PROBLEMS)),
    "grpo_entropy": (Shows("entropy_bonus", _SOME), *_MIXED_ALONE),
    "lens_mixed": (Shows("penalty/mean", _SOME, 1), *_MIXED_ALONE),
    "verifier_only": _MIXED_ALONE,
    "psr": (Shows("advantage/share_all_wrong", 0, 0),),
    "wmss_mixing_only": _MIX,
    "wmss_shuffled": _MIX,
    "wmss_curriculum_only": (*_DRAWN, *_SATURATION),
    "wmss_d0": (Shows("mix/non_target", _SOME, 1),),
    **dict.fromkeys(("sft_restart", "sft_neftune", "sft_extrapolate"), _SATURATION),
    "sft_label_smoothing": _SATURATION,
    "temporal_past": (*_JUDGED, _PAST),
    "temporal_future": (*_JUDGED, _FUTURE),
    "w2s_stage1": (*_KEPT, *_SATURATION),
    "w2s_random": (*_KEPT, *_SATURATION),
    "w2s_full_weak": (Shows("weak-answers: kept", 12, 12), *_SATURATION),
    "w2s_weak_icl": (Shows("demos: kept", 2, 2),),
    **dict.fromkeys(("w2s_self_training", "w2s_ceiling", "w2s_floor"), _SATURATION),
}
_LORA: Tree = {"model": {"lora": {"rank": 4}}, "optim": {"lr": 1e-4}}
_WITH_LORA = ("sft", "grpo", "dpo", "wmss", "temporal", "weak_to_strong")  # each loop


def _cases() -> dict[str, Case]:
    shows = {
        name: _OF_METHOD.get(name, _OF_SECTION.get(row.section, ()))
        for name, row in METHODS.items()
    }
    plain = [Case(name, name, shows[name], {}, name != "w2s_weak_icl") for name in METHODS]
    lora = [Case(f"{name}+lora", name, shows[name], _LORA) for name in _WITH_LORA]
    half = Case("grpo+bfloat16", "grpo", shows["grpo"], {"model": {"dtype": "bfloat16"}})
    return {case.name: case for case in (*plain, *lora, half)}


CASES = _cases()
NEEDS_REWARD = [
    name for name, case in CASES.items() if "reward model" in METHODS[case.method].needs
]

# --- data


def write_data(directory: Path) -> None:
    """Sums and chats, each with train and dev; pairs; and judgements to teach a judge with."""
    for name, row in (("sums", _sum), ("chats", _chat)):
        rows = [row(i) for i in range(48)]
        for split, part in (("train", rows[:44]), ("dev", rows[44:])):
            _write(directory / name / f"{split}.jsonl", part)
    _write(directory / "pairs.jsonl", [_pair(i) for i in range(12)])
    _write(directory / "judgements.jsonl", [_judgement(i) for i in range(32)])


def _write(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def _numbers(i: int) -> tuple[int, int]:
    """Two of three it adds up rightly at times, the third never; no two are the same."""
    return (301 + 7 * i, 419 + 13 * i) if i % 3 == 2 else (5 + i % 11, 2 + i % 8)


def _sum(i: int) -> dict[str, str]:
    a, b = _numbers(i)
    prompt = f"4 + 1 = 5\n2 + 6 = 8\n{a} + {b} ="
    return {"id": f"s{i}", "prompt": prompt, "answer": str(a + b), "solution": f" {a + b}"}


def _chat(i: int) -> dict[str, str]:
    a, b = _numbers(i)
    solution = f"{a} + {b} = {a + b}"
    return {
        "id": f"c{i}",
        "prompt": f"What is {a} + {b}?",
        "answer": str(a + b),
        "solution": solution,
    }


def _pair(i: int) -> dict[str, str]:
    row, (a, b) = _chat(i), _numbers(i)
    wrong = f"The sum of {a} and {b} is {a + b + 1}."
    return {"prompt": row["prompt"], "chosen": row["solution"], "rejected": wrong}


def _judgement(i: int) -> dict[str, str]:
    """Right answers have 3 to 5 points, wrong ones 0 to 2."""
    pair, right = _pair(i), i % 2 == 0
    response = pair["chosen"] if right else pair["rejected"]
    points = (3 if right else 0) + i // 2 % 3
    return {"prompt": pair["prompt"], "response": response, "judgement": str(points)}


# --- recipes


def recipe_of(case: Case, inputs: Inputs) -> Tree:
    """The recipe of a case: sums to complete where answers are drawn and graded, else chats."""
    row = METHODS[case.method]
    tree: Tree = {
        "method": case.method,
        "seed": SEED,
        "model": {"name": str(inputs.model), "device": "cpu"},
        "sample": {"max_new_tokens": 10},
        "optim": {"steps": STEPS, "problems": PROBLEMS, "lr": RATE, "micro_tokens": 256},
        "checkpoint": {"every": 100},
        "eval": {"problems": 2, "samples": 1},
        "device": {"threads": 1},
        row.section: _own(row, inputs),
    }
    chats = row.kind in ("sft", "pairs") or row.section in FROM_JUDGES
    tree = merged(tree, _chats(inputs) if chats else _sums(inputs))
    if case.name in NEEDS_REWARD:
        tree["reward"] = {"model": str(inputs.reward)}
    if row.section == "temporal":
        tree["reward"] = {"source": "random"}
    return merged(tree, case.own)


def _chats(inputs: Inputs) -> Tree:
    return {"task": {"name": "jsonl", "path": str(inputs.data / "chats")}}


def _sums(inputs: Inputs) -> Tree:
    return {
        "task": {"name": "jsonl", "path": str(inputs.data / "sums")},
        "model": {"chat_template": "never"},
        "sample": {"stop": ["\n"]},
    }


def _own(row: Method, inputs: Inputs) -> Tree:
    if row.kind == "pairs":
        return {"pairs": str(inputs.data / "pairs.jsonl")}
    if row.section in FROM_JUDGES:
        rounds: Tree = {"prompts": 6, "candidates": 3, "choose_cut": True}
        if row.section == "self_rewarding":
            return {**rounds, "iterations": 1, **_taught(inputs)}
        return {**rounds, "iterations": 2, "judge": {"source": "reward"}}  # 1 has no past yet
    if row.section == "weak_to_strong":
        updates: Tree = {"steps": STEPS, "lr": RATE, "batch": 4}
        halves: Tree = {"half1": 6, "half2": 12, "samples": 4, "demos": 2}
        taus: Tree = {"tau_chosen": 0.25, "tau_rejected": 0.25}
        return {**halves, **taus, "weak_sft": updates, "stage2": updates}
    sized: dict[str, Tree] = {"group": {"group_size": 6}, "sft": {}, "stages": {}}
    return {"items": 8} if row.section == "wmss" else sized[row.kind]


def _taught(inputs: Inputs) -> Tree:
    """SmolLM2 writes no score that can be read until it has been taught to."""
    path = str(inputs.data / "judgements.jsonl")
    seed: Tree = {"steps": 8, "lr": 1e-4, "batch": 8, "instructions": 4, "path": path}
    return {"judge": {"format": "marker", "samples": 2}, "seed": seed}


def merged(tree: Mapping[str, object], more: Mapping[str, object]) -> Tree:
    """`tree` with the values of `more`, section by section."""
    out = dict(tree)
    for key, value in more.items():
        old = out.get(key)
        both = isinstance(value, Mapping) and isinstance(old, Mapping)
        out[key] = merged(old, value) if both else value
    return out


# --- files and commands


def write_recipe(path: Path, case: Case, inputs: Inputs) -> None:
    """The file that `rekindle train` reads."""
    text = yaml.safe_dump(recipe_of(case, inputs), sort_keys=False)
    path.write_text(text, encoding="utf-8")


def _reward_words(inputs: Inputs, out: Path, *more: str) -> list[str]:
    sets = [f"seed={SEED}", "model.device=cpu", "device.threads=1", f"every={STEPS}"]
    sets += [f"optim.steps={STEPS}", "optim.problems=4", "optim.lr=2e-5", "optim.micro_tokens=256"]
    words = ["reward", "train", "--model", str(inputs.model), "--out", str(out), *more]
    return [*words, *(word for value in sets for word in ("--set", value))]


def _correctness(inputs: Inputs, out: Path) -> list[str]:
    words = _reward_words(inputs, out, "--task", str(inputs.data / "sums"))
    sets = ["data.problems=12", "data.samples=1", "data.held_out=4", "data.held_out_samples=4"]
    sets += ["model.chat_template=never", "sample.max_new_tokens=10", 'sample.stop=["\\n"]']
    return [*words, *(word for value in sets for word in ("--set", value))]


def _bradley_terry(inputs: Inputs, out: Path) -> list[str]:
    pairs = ("--loss", "bradley_terry", "--pairs", str(inputs.data / "pairs.jsonl"))
    return _reward_words(inputs, out, *pairs)


REWARDS: dict[str, Callable[[Inputs, Path], list[str]]] = {
    "reward": _correctness,  # the one that methods which need a reward model have
    "reward+pairs": _bradley_terry,
}
