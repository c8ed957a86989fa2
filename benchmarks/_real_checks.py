"""What a finished run on a real model shows: losses, its method's signal, a model that loads."""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open

from _real_cases import Case
from rekindle.engine.batch import count, pack
from rekindle.engine.config import ModelConfig
from rekindle.engine.policy import Policy
from rekindle.engine.update import measure_batch
from rekindle.files import read_json, read_jsonl
from rekindle.records import Problem
from rekindle.rewards.reward_model import ScalarHead

# Relative to the largest log-prob or score: activations of SmolLM2 reach 23,000, in fp32.
AGREE = 1e-4
_TEXTS = (("2 + 3 =", " 5"), ("What is 7 + 6?", "The sum of 7 and 6 is 13."), ("2 + 3 =", " 6, or"))


@dataclass(frozen=True)
class Outcome:
    """A finished run, looked at.

    Attributes:
        updates: steps in the run's metrics; earlier phases of WMSS have metrics of their own.
        losses: of each of them.
        signal: the metrics that the case names; nan where the run has none.
        changed: the share of weight tensors of `final/` that are not the start's.
        largest_change: of a weight.
        apart: how far numbers of plain transformers with `final/` are from this library's: of
            log-probs of tokens, or scores. Relative to the largest.
        adapter_apart: the same of the start with `final/adapter` in PEFT; None without one.
    """

    updates: int
    losses: tuple[float, ...]
    signal: Mapping[str, float]
    changed: float
    largest_change: float
    apart: float
    adapter_apart: float | None = None

    def faults(self, case: Case | None = None) -> list[str]:
        """Sentences about what is not as it should be; of a reward model without a case."""
        found = [f"a loss of {loss}" for loss in self.losses if not math.isfinite(loss)]
        if not self.losses:
            found.append("no loss was logged")
        for shown in () if case is None else case.shows:
            value = self.signal[shown.metric]
            if not shown.low <= value <= shown.high:
                found.append(f"{shown.metric} is {value}, not {shown.low} to {shown.high}")
        trains = case is None or case.trains
        if (self.changed > 0) != trains:
            found.append(f"{self.changed:.0%} of the weight tensors changed")
        for name, apart in (("final/", self.apart), ("final/adapter", self.adapter_apart)):
            if apart is not None and not apart <= AGREE:
                found.append(f"{name} gives other numbers in plain transformers: by {apart:.1e}")
        return found


def look_at(run: Path, case: Case, start: Path) -> Outcome:
    """A finished run of a method, beside the model that it started from."""
    rows = [row for _, row in read_jsonl(run / "metrics.jsonl")]
    values = _numbers_of(rows, run)
    signal = {
        shown.metric: statistics.fmean(values[shown.metric]) if values[shown.metric] else math.nan
        for shown in case.shows
    }
    changed, largest = _changes(start, run / "final")
    apart, adapter_apart = _causal_apart(run / "final", start, case.has_adapter)
    losses = tuple(values["loss"])
    return Outcome(len(losses), losses, signal, changed, largest, apart, adapter_apart)


def look_at_reward(run: Path, start: Path) -> Outcome:
    """The same of a reward model."""
    rows = [row for _, row in read_jsonl(run / "metrics.jsonl")]
    losses = tuple(row["loss"] for row in rows)
    changed, largest = _changes(start, run / "final")
    return Outcome(len(losses), losses, {}, changed, largest, _scores_apart(run / "final"))


def _numbers_of(rows: Iterable[Mapping[str, object]], run: Path) -> defaultdict[str, list[float]]:
    """Finite and infinite numbers of each metric, step by step, and of the stages' records."""
    values: defaultdict[str, list[float]] = defaultdict(list)
    for path in sorted(run.glob("stages/*/stage.json")):
        record = read_json(path)
        stage = record["stage"]
        rows = [*rows, {f"{stage}: {name}": value for name, value in record.items()}]
    for row in rows:
        for name, value in row.items():
            if isinstance(value, int | float):
                values[name].append(float(value))
    return values


def _changes(start: Path, final: Path) -> tuple[float, float]:
    """The share of tensors that changed, and the largest change of a weight that both have."""
    with ExitStack() as files:
        before, after = _tensors(start, files), _tensors(final, files)
        changes = [
            float((after[name].get_tensor(name) - before[name].get_tensor(name)).abs().max())
            for name in sorted(before.keys() & after.keys())
        ]
    return sum(change > 0 for change in changes) / len(changes), max(changes)


def _tensors(directory: Path, files: ExitStack) -> dict[str, safe_open]:
    """The open file of each tensor; a merged model is in several."""
    opened = [
        files.enter_context(safe_open(path, "pt")) for path in directory.glob("*.safetensors")
    ]
    return {name: file for file in opened for name in file.keys()}  # noqa: SIM118


# --- the same numbers in plain transformers


def _relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@torch.no_grad()
def _causal_apart(final: Path, start: Path, has_adapter: bool) -> tuple[float, float | None]:
    from transformers import AutoModelForCausalLM

    ours, rows = _our_logprobs(final)
    plain = AutoModelForCausalLM.from_pretrained(final).eval()
    merged = _their_logprobs(plain, rows)
    del plain
    if not has_adapter:
        return _relative(ours, merged), None
    from peft import PeftModel

    base = AutoModelForCausalLM.from_pretrained(start)
    adapted = _their_logprobs(PeftModel.from_pretrained(base, final / "adapter").eval(), rows)
    return _relative(ours, merged), _relative(adapted, merged)


def _our_logprobs(final: Path) -> tuple[torch.Tensor, list[tuple[list[int], int]]]:
    """Of answer tokens, as training scores them; and (tokens, prompt's length) of each row."""
    config = ModelConfig(name=str(final), device="cpu")
    policy = Policy.load(config, use="evaluation")
    prompts = [tuple(policy.tokenizer(prompt)["input_ids"]) for prompt, _ in _TEXTS]
    answers = [tuple(policy.tokenizer(answer)["input_ids"]) for _, answer in _TEXTS]
    batch = pack(prompts, answers, reduction="token", total=count(answers))
    scores_BT = measure_batch(policy, batch, micro_tokens=256, temperature=1.0).logprobs_BT
    rows = [([*p, *a], len(p)) for p, a in zip(prompts, answers, strict=True)]
    return scores_BT[~scores_BT.isnan()], rows


def _their_logprobs(model: torch.nn.Module, rows: list[tuple[list[int], int]]) -> torch.Tensor:
    found = []
    for ids, prompt in rows:
        tokens = torch.tensor([ids])
        logprobs = model(tokens).logits[0, :-1].double().log_softmax(-1)
        of_each = logprobs.gather(-1, tokens[0, 1:, None]).squeeze(-1)
        found.append(of_each[prompt - 1 :])
    return torch.cat(found)


@torch.no_grad()
def _scores_apart(final: Path) -> float:
    """Of a reward model: on what this library's text of prompt and answer is to its tokenizer."""
    from transformers import AutoModelForSequenceClassification

    head = ScalarHead.load(str(final))
    answered = [(Problem(id=str(i), prompt=p), a) for i, (p, a) in enumerate(_TEXTS)]
    ours = torch.tensor([score.value for score in head.score(answered)], dtype=torch.float64)
    plain = AutoModelForSequenceClassification.from_pretrained(final).eval()
    theirs = []
    for problem, answer in answered:
        turns = [("user", problem.prompt), ("assistant", answer)]
        chat = [{"role": role, "content": content} for role, content in turns]
        ids = head.tokenizer.apply_chat_template(chat, return_tensors="pt", return_dict=True)
        theirs.append(plain(**ids).logits[0, 0].double())
    return _relative(ours, torch.stack(theirs))
