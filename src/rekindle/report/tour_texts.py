"""What the tour's page says of each method, for a reader who meets it there first."""

from __future__ import annotations

from typing import NamedTuple

from rekindle.report.charts import Over


class MethodText(NamedTuple):
    """Where a method's baseline loses its signal, and what the method does about it.

    Attributes:
        title: the method's name in words.
        paper: its arXiv id.
        missing: the signal its paper says is missing, for a cell of a table.
        goes_out, remedy: a sentence or two each.
        task: what the models do here.
        example: a prompt and an answer.
        signal: what the figure shows.
        keys: the keys of a row that hold it; the first that a row has.
        over: rows of what.
    """

    title: str
    paper: str
    missing: str
    goes_out: str
    remedy: str
    task: str
    example: tuple[str, str]
    signal: str = ""
    keys: tuple[str, ...] = ()
    over: Over = "step"


TEXTS = {
    "wmss": MethodText(
        title="Weak-driven learning (WMSS)",
        paper="2602.08222",
        missing="SFT is sure of its tokens: hardly any gradient is left",
        goes_out="Supervised fine-tuning pushes on a token as much as the model doubts it. Once "
        "the model is sure of nearly all tokens, hardly any push is left.",
        remedy="Mix the logits of a weaker checkpoint into the model's own logits in training. The "
        "mixture is less sure, so the same data push again. The weak model is thrown away at the "
        "end. The baseline is SFT with the same restart and the same number of updates.",
        task="Additions of five digits, which the base model never saw. The example has two.",
        example=("4 7+5 8:", "7+8+0=15,4+5+1=10;1 0 5"),
        signal="push on the right token, mean of a step",
        keys=("mix/gradient", "mass/non_target"),
    ),
    "weak_to_strong": MethodText(
        title="Weak-to-strong reasoning, stage I",
        paper="2407.13647",
        missing="no labels but a weaker model's, many of them wrong",
        goes_out="The only teacher is a weaker model. A model that trains on all of its answers "
        "learns its mistakes too.",
        remedy="Keep a question only if the weak and the strong model reach the same final answer "
        "on their own: two models rarely make the same mistake. The baseline trains on all of the "
        "weak model's answers, with the same number of updates.",
        task="Additions of four digits. The example has two digits. The strong model stopped early "
        "in pre-training and is never shown a right answer.",
        example=("4 7+5 8:", "7+8+0=15,4+5+1=10;1 0 5"),
    ),
    "temporal": MethodText(
        title="Temporal self-rewarding",
        paper="2508.06026",
        missing="chosen and rejected answers become alike",
        goes_out="A model that judges its own answers learns from pairs of a better and a worse "
        "answer. As the model improves, both come from the same good model, and the pair says "
        "less.",
        remedy="Take the rejected answer from the model as it was at the start, and the chosen "
        "answer from a model that has already learnt from the round. That costs two DPO runs a "
        "round, so the method gets half as many rounds as the baseline.",
        task="Chains of three operations, from left to right. The model learnt to judge before. It "
        "is not told which answers are right.",
        example=("7+5-3*2:", "7+5=12;12-3=9;9*2=18"),
        signal="gap between chosen and rejected in the judge's grades, 0 to 5",
        keys=("pairs/gap",),
        over="round",
    ),
    "hero": MethodText(
        title="HERO",
        paper="2510.07242",
        missing="a strict verifier says 0 to nearly everything",
        goes_out="The verifier is right when it says yes, but it rejects right answers that are "
        "written in another form (here on three of four problems). A group of only rejected "
        "answers teaches nothing.",
        remedy="A reward model orders the answers within each verdict, in a band so narrow that a "
        "rejected answer never beats an accepted one. The baseline is the verifier alone, with the "
        "same pull towards the start (KL).",
        task="Countdown: reach the target with the given numbers, here four, in the example three. "
        "Evaluation uses the true check.",
        example=("1,5,7>36:", "7*5=35;35+1=36"),
        signal="share of the advantages in all-wrong groups",
        keys=("advantage/share_all_wrong",),
    ),
    "lens": MethodText(
        title="LENS",
        paper="2510.08696",
        missing="all answers to a problem are wrong: advantage 0",
        goes_out="GRPO compares the answers to one problem with each other. If all are wrong there "
        "is nothing to compare, and on hard problems most groups are like that.",
        remedy="Punish a wrong answer more if the model was surer of it. Then some wrong answers "
        "are better than others. The baseline is GRPO.",
        task="Countdown with five numbers, the hardest level, which is rare in pre-training. The "
        "example has three numbers.",
        example=("1,5,7>36:", "7*5=35;35+1=36"),
        signal="share of the advantages in all-wrong groups",
        keys=("advantage/share_all_wrong",),
    ),
}


def metric_sentence(metric: str) -> str:
    """What a metric of a study measures, in a sentence; empty for what needs none."""
    if metric.startswith("pass@"):
        k = metric.removeprefix("pass@")
        return "" if k == "1" else f"{metric}: at least one of {k} sampled answers is right."
    known = {
        "chain_prob": "chain_prob: the probability of the right answer, as sampling would give it.",
        "greedy": "greedy: the share of most likely answers that are right.",
    }
    return known.get(metric, "")
