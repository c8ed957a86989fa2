"""SFT and DPO steps on a real model against TRL's: the batches that TRL makes, in both."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import torch

from _real_common import Row, check_equal, closeness, compared, endless_policy, gradients, texts
from _real_grpo import LEARNING_RATE, score_completions_only

# tokens of prompt and answer, as grade-school problems and their solutions have them
_LENGTHS = [(38, 52), (61, 97), (45, 120), (53, 31), (72, 64), (30, 88), (94, 110), (57, 45)]
_SAMPLES, _ROW = 8, 512  # samples a step of SFT (two rows), tokens of a packed row
_PAIRS = 4
Tokens = tuple[int, ...]


class _Side:
    """Our model and optimizer, and the gradients of the step that comes next."""

    def __init__(self, source: Path, dtype: str) -> None:
        from rekindle.engine.config import OptimConfig
        from rekindle.engine.device import Group, micro_tokens
        from rekindle.engine.update import fresh_state

        self.policy = endless_policy(source, dtype)
        optim = OptimConfig(lr=LEARNING_RATE, betas=(0.9, 0.999))
        self.state = fresh_state({"policy": self.policy.model}, optim)
        self.one, self.micro_tokens = Group(), micro_tokens(None, self.policy.device)
        self.found: dict[str, torch.Tensor] = {}
        self.hook = self.state.optimizer.register_step_pre_hook(
            lambda *_: self.found.update(gradients(self.policy.model))
        )

    def update(self, batch, loss) -> dict[str, float]:
        """One AdamW step on a batch."""
        from rekindle.engine.update import update

        parts = batch.split(self.micro_tokens, self.policy.arrangement())
        metrics = update(
            self.state, parts, loss, clip=1.0, group=self.one, device=self.policy.device
        )
        self.state.step += 1
        return metrics


def _turns(trainer, side: _Side, step: Callable[[dict], float]):
    """CPU seconds of both sides' steps on the same inputs, the first not counted; and how far
    apart its losses and gradients are."""
    from transformers import TrainerCallback

    times: dict[str, list[float]] = {"ours": [], "trl": []}
    seen: dict = {}
    wrapped, said = trainer.compute_loss, []

    def compute_loss(model, inputs, *args, **kwargs):
        loss = wrapped(model, inputs, *args, **kwargs)
        seen.update(inputs=inputs, loss=float(loss.detach()))
        return loss

    class Alternate(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            self.began = time.process_time()

        def on_pre_optimizer_step(self, args, state, control, **kwargs):
            if not said:
                seen["gradients"] = gradients(trainer.model)

        def on_step_end(self, args, state, control, **kwargs):
            middle = time.process_time()
            loss = step(seen["inputs"])
            times["trl"].append(middle - self.began)
            times["ours"].append(time.process_time() - middle)
            if not said:
                side.hook.remove()
                losses = (loss, seen["loss"])
                said.append(closeness(losses, side.found, seen.pop("gradients")))
                side.found.clear()

    trainer.compute_loss = compute_loss
    trainer.add_callback(Alternate())
    trainer.train()
    return times["ours"][1:], times["trl"][1:], said[0]


def _settings(out: str, steps: int, batch: int) -> dict:
    return {
        "output_dir": out,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "per_device_train_batch_size": batch,
        "learning_rate": LEARNING_RATE,
        "lr_scheduler_type": "constant",
        "max_grad_norm": 1.0,
        "max_steps": steps,
        "logging_steps": 10**6,
        "report_to": "none",
        "save_strategy": "no",
        "disable_tqdm": True,
        "seed": 0,
    }


def _loaded(source: Path, dtype: str):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return {
        "model": AutoModelForCausalLM.from_pretrained(source, dtype=dtype),
        "processing_class": AutoTokenizer.from_pretrained(source, pad_token="<|endoftext|>"),
    }


def _answers(source: Path, count: int, longer: int = 0) -> tuple[list[str], list[str]]:
    lengths = [_LENGTHS[i % len(_LENGTHS)] for i in range(count)]
    prompts = [texts(source, 1, p, first=i)[0] for i, (p, _) in enumerate(lengths)]
    answers = [
        " " + texts(source, 1, a + longer, first=i + 100 + 100 * longer)[0]
        for i, (_, a) in enumerate(lengths)
    ]
    return prompts, answers


# --- SFT


def _documents(inputs: dict) -> tuple[list[Tokens], list[Tokens]]:
    """Prompts and answers of TRL's packed row: documents begin at position 0."""
    ids, places, labels = (inputs[k].flatten() for k in ("input_ids", "position_ids", "labels"))
    starts = [*(places == 0).nonzero().flatten().tolist(), len(ids)]
    prompts, completions = [], []
    for start, end in pairwise(starts):
        loss = (labels[start:end] != -100).nonzero().flatten()
        if len(loss) == 0:
            raise SystemExit("a packed document of TRL's has no loss")
        first = start + int(loss[0])
        prompts.append(tuple(ids[start:first].tolist()))
        completions.append(tuple(ids[first:end].tolist()))
    return prompts, completions


def sft(source: Path, n: int, *, patched: bool, limit: float | None) -> Row:
    """Two packed rows in both, loss on answers, fp32, AdamW."""
    if patched:
        score_completions_only()
    close = check_equal("SFT", *_sft_steps(source, 0, 2, "float64")[2])
    ours, theirs, _, size = _sft_steps(source, n, _SAMPLES, "float32")
    only = ", TRL patched to score answers only" if patched else ""
    work = f"SFT step against TRL, packing on in both, {size} tokens{only}"
    return compared(work, ours, theirs, limit, note=close)


def sft_small(source: Path, n: int, *, limit: float | None) -> Row:
    """The same with one packed row, for a quick run."""
    ours, theirs, apart, size = _sft_steps(source, n, _SAMPLES // 2, "float32", rows=1)
    close = check_equal("SFT", *apart, "float32")
    work = f"SFT step against TRL, packing on in both, {size} tokens"
    return compared(work, ours, theirs, limit, note=close)


def _sft_steps(source: Path, n: int, samples: int, dtype: str, rows: int = 2):
    """What `_turns` finds in n + 1 steps of packed rows, and the most tokens of a step."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from rekindle.engine.batch import count, pack
    from rekindle.methods.sft import sft_objective

    prompts, answers = _answers(source, samples * (n + 1) + samples // 4)
    side = _Side(source, dtype)
    objective = sft_objective(side.policy)
    sizes: list[int] = []

    def step(inputs: dict) -> float:
        mine, completions = _documents(inputs)
        sizes.append(inputs["input_ids"].numel())
        batch = pack(mine, completions, reduction="token", total=count(completions))
        return side.update(batch.replace(packs=True), objective)["loss"]

    with tempfile.TemporaryDirectory() as out:
        trainer = SFTTrainer(
            **_loaded(source, dtype),
            train_dataset=Dataset.from_dict({"prompt": prompts, "completion": answers}),
            args=SFTConfig(**_settings(out, n + 1, rows), packing=True, max_length=_ROW),
        )
        return *_turns(trainer, side, step), max(sizes)


# --- DPO


def _sides(inputs: dict) -> tuple[list[Tokens], list[Tokens]]:
    prompts, completions = [], []
    for ids, real, answer in zip(
        inputs["input_ids"], inputs["attention_mask"], inputs["completion_mask"], strict=True
    ):
        end, first = int(real.sum()), int(answer.nonzero()[0])
        prompts.append(tuple(ids[:first].tolist()))
        completions.append(tuple(ids[first:end].tolist()))
    return prompts, completions


class _DpoStep:
    """Our step on TRL's pairs: the reference scored in it, or known before."""

    def __init__(self, side: _Side, *, cached: bool) -> None:
        self.side, self.cached, self.lengths = side, cached, ""
        self.reference = None if cached else side.policy.frozen_copy()

    def __call__(self, inputs: dict) -> float:
        from functools import partial

        from rekindle.engine.batch import count, pack
        from rekindle.engine.layout import completion_mask
        from rekindle.loops.pair_step import PairObjective
        from rekindle.methods.dpo import dpo_terms

        prompts, completions = _sides(inputs)
        pairs = len(prompts) // 2
        batch = pack(prompts, completions, reduction="token", total=count(completions))
        batch = batch.replace(
            weight_BT=completion_mask(completions).double() / pairs,
            units=[(i, i + pairs) for i in range(pairs)],
        )
        ref_BT = batch.ref_logprobs_BT.clone()
        ref_BT[:, 0] = self._reference_sums(batch, inputs)
        rule = partial(dpo_terms, beta=0.1, smoothing=0.0, nll=0.0)
        objective = PairObjective(self.side.policy, rule, referenced=True)
        self.side.update(batch.replace(ref_logprobs_BT=ref_BT), objective)
        pad = inputs["input_ids"].shape[1]
        shown = [f"{len(p)}+{len(c)}" for p, c in zip(prompts, completions, strict=True)]
        self.lengths = f"prompt+answer {', '.join(shown)}; padded to {pad}"
        return objective.facts(self.side.one, pairs)["loss"]

    def _reference_sums(self, batch, inputs: dict) -> torch.Tensor:
        from rekindle.engine.update import measure_batch

        if self.reference is None:
            sums = torch.cat([inputs["ref_chosen_logps"], inputs["ref_rejected_logps"]])
            return sums.double()
        scores = measure_batch(
            self.reference, batch, micro_tokens=self.side.micro_tokens, temperature=1.0
        )
        return scores.logprobs_BT.nansum(dim=1)


def dpo(source: Path, n: int, *, cached: bool, patched: bool, limit: float | None) -> Row:
    """Four pairs a step; `cached`: log-probs of the reference are known in both."""
    if patched:
        score_completions_only()
    close = check_equal("DPO", *_dpo_steps(source, 0, 1, "float64", cached=cached)[2])
    ours, theirs, _, lengths = _dpo_steps(source, n, _PAIRS, "float32", cached=cached)
    which = "reference cached in both" if cached else "first epoch"
    only = ", TRL patched to score answers only" if patched else ""
    work = f"DPO step against TRL, {_PAIRS} pairs, {which}{only}"
    return compared(work, ours, theirs, limit, note=f"{close}; {lengths}")


def _dpo_steps(source: Path, n: int, pairs: int, dtype: str, *, cached: bool):
    """What `_turns` finds in n + 1 steps, and the lengths in the last one."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    prompts, chosen = _answers(source, pairs * (n + 1))
    _, rejected = _answers(source, pairs * (n + 1), longer=9)
    side = _Side(source, dtype)
    step = _DpoStep(side, cached=cached)
    data = {"prompt": prompts, "chosen": chosen, "rejected": rejected}
    with tempfile.TemporaryDirectory() as out:
        trainer = DPOTrainer(
            **_loaded(source, dtype),
            train_dataset=Dataset.from_dict(data),
            args=DPOConfig(
                **_settings(out, n + 1, pairs),
                beta=0.1,
                max_length=1024,
                precompute_ref_log_probs=cached,
            ),
        )
        return *_turns(trainer, side, step), step.lengths
