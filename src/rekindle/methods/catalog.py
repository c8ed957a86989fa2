"""The methods and their papers: every other list of methods is read off `METHODS`, when it is used.

A row is one name that a recipe may have for `method:`; presets of one file have a row each. To add
a method, add its row here, with its paper, beside its file, its page and its test. Papers that
rows name stand in `papers.yaml`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from importlib.resources import files
from types import ModuleType
from typing import Literal, NamedTuple

from rekindle.errors import ConfigError, did_you_mean

MethodKind = Literal["sft", "group", "pairs", "stages"]
Need = Literal["verifier", "reward model", "pairs file", "solutions", "judge", "weak model"]
SignalName = Literal["sft", "groups", "verifier", "reward", "pairs", "agreement"]


class Paper(NamedTuple):
    """A paper on arXiv: its name in citations, its title and all its authors, comma between."""

    name: str
    arxiv: str
    title: str
    authors: str

    @property
    def year(self) -> int:
        """Of the first version, which the arXiv id begins with."""
        return 2000 + int(self.arxiv[:2])


@dataclass(frozen=True)
class Method:
    """What there is to know of a method without loading it.

    Attributes:
        name: as a recipe, a command and a run directory have it.
        sentence: what it does, or what it shows where it is a baseline or a control.
        module: the paper's file, relative to `rekindle.methods` where it begins with a dot.
        kind: sft learns from given texts, group from groups of scored answers, pairs from given
            pairs, stages from data that it makes stage by stage.
        papers: where it comes from: names in `papers.yaml`, or papers that are not there.
        needs: what its loss is made of, beside a model and problems.
        revives: the signals of `rekindle diagnose` that its paper brings back; baselines and
            controls have those of the paper that they stand beside.
        makes_pairs: whether it makes pairs of answers (`rekindle explain pairs`).
    """

    name: str
    sentence: str
    module: str
    kind: MethodKind
    papers: tuple[str | Paper, ...]
    needs: tuple[Need, ...] = ()
    revives: tuple[SignalName, ...] = ()
    makes_pairs: bool = False

    @property
    def section(self) -> str:
        """The recipe section that configures it: its file's name (`dapo` is set in `grpo:`)."""
        return self.module.rsplit(".", 1)[-1]


# what the presets of one file share
_group = partial(Method, kind="group", needs=("verifier",))
_grpo = partial(_group, module=".grpo", papers=("grpo",))
_all_wrong = partial(_group, revives=("groups",))
_lens = partial(_all_wrong, module=".lens", papers=("lens",))
_nsr = partial(_all_wrong, module=".nsr", papers=("nsr",))
_hero = partial(
    _group, module=".hero", papers=("hero",), needs=("verifier", "reward model"),
    revives=("verifier",),
)  # fmt: skip
_blend = partial(_hero, module=".blend")  # the baselines of HERO's paper
_wmss = partial(
    Method, module=".wmss.wmss", kind="sft", papers=("wmss",), needs=("solutions", "weak model"),
    revives=("sft",),
)  # fmt: skip
_plain = partial(_wmss, needs=("solutions",))
_rounds = partial(
    Method, module=".self_rewarding.temporal", kind="stages", papers=("temporal",),
    needs=("judge",), revives=("pairs",), makes_pairs=True,
)  # fmt: skip
_w2s = partial(
    Method, module=".weak_to_strong.weak_to_strong", kind="stages", papers=("weak_to_strong",),
    needs=("solutions", "weak model"), revives=("agreement",),
)  # fmt: skip
_ROWS = (
    Method("sft", "cross-entropy on solutions", ".sft", "sft", ("instructgpt",), ("solutions",)),
    _grpo("grpo", "each answer's reward, standardised within its group"),
    _grpo("dr_grpo", "rewards centred within the group; a fixed denominator", papers=("dr_grpo",)),
    _grpo("dapo", "mixed groups only, a higher upper clip, a penalty on length", papers=("dapo",)),
    _grpo("rloo", "each answer's reward against the mean of the others", papers=("rloo",)),
    _grpo("grpo_mean", "GRPO, centred and not standardised", papers=("grpo", "dr_grpo")),
    _grpo("grpo_dynamic", "GRPO with further problems for mixed groups", papers=("grpo", "dapo")),
    _grpo("grpo_entropy", "GRPO with an entropy bonus"),
    _lens("lens", "wrong answers are penalised by their confidence, in groups all wrong too"),
    _lens("lens_negative", "LENS's penalties in groups all wrong alone"),
    _lens("lens_mixed", "LENS's penalties in mixed groups alone"),
    _lens("lens_uniform", "control: penalties as large as LENS's, not by confidence"),
    _lens("lens_shuffled", "control: LENS's penalties, each on another answer"),
    _hero("hero", "a reward model's scores within the verifier's verdicts, weighted by spread"),
    _hero("hero_mean", "HERO, centred and not standardised"),
    _blend("verifier_only", "baseline: the verdict alone", needs=("verifier",)),
    _blend("rm_only", "baseline: the reward model's score alone", needs=("reward model",)),
    _blend("naive_blend", "baseline: a fixed share of the verdict, the rest of the score"),
    _blend("gated", "control: HERO's band in groups of one verdict, the verdict in others"),
    _nsr("psr", "right answers are pushed up, and nothing else"),
    _nsr("nsr", "wrong answers are pushed down, and nothing else"),
    _nsr("w_reinforce", "wrong answers are pushed down, right ones a little up"),
    _all_wrong("ngrpo", "a virtual right answer in a group", module=".ngrpo", papers=("ngrpo",)),
    _all_wrong(
        "rl_zvp", "entropy decides which tokens of groups without variance are credited",
        module=".rl_zvp", papers=("rl_zvp",),
    ),
    _wmss("wmss", "SFT with a weaker checkpoint's logits mixed in, on data chosen by entropy"),
    _wmss("wmss_code", "WMSS with the curriculum weights of the released code"),
    _wmss("wmss_frozen", "WMSS with a weak model that is not trained"),
    _wmss("wmss_cached", "wmss_frozen, the weak model's states read from disk"),
    _wmss("wmss_lora", "WMSS with two LoRA adapters on one model"),
    _wmss("wmss_mixing_only", "WMSS's mixing, on all data"),
    _plain("wmss_curriculum_only", "WMSS's curriculum, without mixing"),
    _wmss("wmss_shuffled", "control: weak states from another place of the same answer"),
    _plain("wmss_d0", "control: constant weak logits, which is a temperature"),
    _plain("sft_restart", "baseline: SFT with WMSS's restart, data and number of updates"),
    Method("dpo", "a log-odds loss of chosen over rejected, against a reference",
           ".dpo", "pairs", ("dpo",), ("pairs file",)),
    Method("orpo", "the likelihood of chosen, and its odds over rejected, without a reference",
           ".orpo", "pairs", ("orpo",), ("pairs file",)),
    _rounds(
        "self_rewarding", "the model judges its own answers and learns from best over worst by DPO",
        module=".self_rewarding.self_rewarding", papers=("self_rewarding",),
    ),
    _rounds("temporal", "self-rewarding, rejected from the past and chosen from the future"),
    _rounds("temporal_past", "temporal with rejected from the past alone"),
    _rounds("temporal_future", "temporal with chosen from the future alone"),
    _plain("sft_neftune", "control: sft_restart with noise on the embeddings", papers=("neftune",)),
    _plain(
        "sft_label_smoothing", "control: sft_restart with label smoothing",
        papers=("label_smoothing",),
    ),
    _wmss("sft_extrapolate", "control: sft_restart, away from the weak logits in evaluation only"),
    _w2s(
        "weak_to_strong", "SFT on weak answers that the strong model agrees with, then pairs",
        makes_pairs=True,
    ),
    _w2s("w2s_stage1", "stage I of weak_to_strong alone"),
    _w2s("w2s_full_weak", "baseline: SFT on all weak answers"),
    _w2s("w2s_weak_icl", "baseline: the strong model as it is, shown weak answers"),
    _w2s("w2s_random", "control: as many weak answers as the filter keeps, at random"),
    _w2s("w2s_self_training", "control: the strong model's own majority answers", needs=()),
    _w2s("w2s_ceiling", "ceiling: SFT on the solutions", needs=("solutions",)),
    _w2s("w2s_floor", "floor: the weak model itself"),
)  # fmt: skip
METHODS: dict[str, Method] = {method.name: method for method in _ROWS}


def find_method(name: str) -> Method:
    """The row of a method.

    Raises:
        ConfigError: there is no such method; what exists is listed.
    """
    if name not in METHODS:
        raise ConfigError(f"unknown method '{name}'", fix=did_you_mean(name, METHODS))
    return METHODS[name]


def method_module(name: str) -> ModuleType:
    """The file of a method: `Config`, `PRESETS`, `check`, `run`; see `find_method` for errors."""
    return import_module(find_method(name).module, "rekindle.methods")


def methods_of(kind: MethodKind) -> tuple[str, ...]:
    """The names of all methods of a kind."""
    return tuple(method.name for method in METHODS.values() if method.kind == kind)


def section_names() -> set[str]:
    """The sections of all methods; a recipe has at most the one of its own."""
    return {method.section for method in METHODS.values()}


@cache
def papers() -> dict[str, Paper]:
    """All papers of `papers.yaml`, by name."""
    import yaml  # here, so that lists of methods need it not

    text = files("rekindle.methods").joinpath("papers.yaml").read_text("utf-8")
    rows: dict[str, dict[str, str]] = yaml.safe_load(text)
    return {name: Paper(name, **row) for name, row in rows.items()}


def find_paper(paper: str | Paper) -> Paper:
    """The paper of this name in `papers.yaml`, or the one that a row has itself."""
    return paper if isinstance(paper, Paper) else papers()[paper]
