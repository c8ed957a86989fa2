"""GRPO steps on a real model: ours, TRL's, and those of another checkout of this library."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from _real_common import (
    Row,
    check_equal,
    closeness,
    compared,
    endless_policy,
    gradients,
    problems_of,
    texts,
)

_NEVER = 10**6  # an end token that no model has
LEARNING_RATE = 1e-7


def score_of(group: int, sample: int, all_wrong: bool) -> float:
    """1 for every second answer; with `all_wrong` 0 in every second group."""
    return 0.0 if all_wrong and group % 2 == 0 else float(sample % 2)


class OurStep:
    """Our step, with scores from a table instead of a verifier; also of older checkouts."""

    def __init__(
        self, source: Path, prompts: list[str], group: int, limit: int, dtype: str = "float32"
    ) -> None:
        from rekindle.engine.cached_sampler import CachedSampler
        from rekindle.engine.config import OptimConfig, SampleConfig
        from rekindle.engine.device import Group, micro_tokens
        from rekindle.engine.update import fresh_state
        from rekindle.methods.grpo import PRESETS

        self.policy = endless_policy(source, dtype)
        self.problems, self.group = problems_of(prompts), group
        self.sampler, self.one = CachedSampler(self.policy), Group()
        self.sample_config = SampleConfig(max_new_tokens=limit)
        self.config = PRESETS["grpo"]
        self.micro_tokens = micro_tokens(None, self.policy.device)
        optim = OptimConfig(lr=LEARNING_RATE, problems=len(prompts))
        self.state = fresh_state({"policy": self.policy.model}, optim)

    def batch(self, problems: list, all_wrong: bool):
        """Sampled answers with their credit."""
        from rekindle.engine.batch import count, pack
        from rekindle.methods.grpo import credit
        from rekindle.ops.groups import ScoredRows

        rollouts = self.sampler.sample(
            problems, samples=self.group, config=self.sample_config, seed=self.state.step
        )
        f64 = torch.float64
        groups = [i // self.group for i in range(len(rollouts))]
        scores = [score_of(g, r.sample, all_wrong) for g, r in zip(groups, rollouts, strict=True)]
        rows = ScoredRows(
            group=groups,
            correct_N=torch.tensor(scores, dtype=f64),
            rm_score_N=torch.full((len(rollouts),), torch.nan, dtype=f64),
            sum_logprob_N=torch.tensor([sum(r.sampled_logprobs) for r in rollouts], dtype=f64),
            num_tokens_N=torch.tensor([float(len(r.tokens)) for r in rollouts], dtype=f64),
        )
        completions = [r.tokens for r in rollouts]
        return pack(
            [r.prompt_tokens for r in rollouts],
            completions,
            reduction=self.config.reduction,
            total=count(completions),
            advantage_B=credit(rows, self.config).advantage_N,
            sampled_logprobs=[r.sampled_logprobs for r in rollouts],
        ).with_signal()

    def update(self, batch, *, clip: float = 1.0) -> dict[str, float]:
        """One AdamW step."""
        from rekindle.engine.policy import Policy
        from rekindle.engine.update import update
        from rekindle.loops.group_step import objective

        # the layout of rows came later than the oldest checkout that this is compared with
        how = (self.policy.arrangement(),) if "arrangement" in vars(Policy) else ()
        return update(
            self.state,
            batch.split(self.micro_tokens, *how),
            objective(self.policy, self.config, temperature=1.0),
            clip=clip,
            group=self.one,
            device=self.policy.device,
        )

    def step(self, all_wrong: bool = False) -> None:
        """Sample, weigh, update."""
        self.update(self.batch(self.problems, all_wrong))
        self.state.step += 1


def score_completions_only() -> None:
    """TRL's path without Triton scores prompts too, and throws that away: let it not."""
    from trl.trainer import utils

    utils._use_triton = lambda device: True


def _trainer(
    source: Path,
    prompts: list[str],
    group: int,
    limit: int,
    steps: int,
    callbacks: list,
    out: Path,
    reward,
    dtype: torch.dtype = torch.float32,
):
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(source, dtype=dtype),
        processing_class=AutoTokenizer.from_pretrained(
            source, padding_side="left", pad_token="<|endoftext|>"
        ),
        reward_funcs=reward,
        train_dataset=Dataset.from_dict({"prompt": prompts * steps}),
        callbacks=callbacks,
        args=GRPOConfig(
            output_dir=str(out),
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            per_device_train_batch_size=len(prompts) * group,
            num_generations=group,
            max_completion_length=limit,
            generation_kwargs={"eos_token_id": _NEVER},
            temperature=1.0,
            beta=0.0,
            loss_type="grpo",
            learning_rate=LEARNING_RATE,
            max_steps=steps,
            logging_steps=10**6,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            shuffle_dataset=False,
            seed=0,
        ),
    )
    trainer.eos_token_ids = [_NEVER]
    return trainer


def _same_loss(source: Path) -> str:
    """Loss and gradient of both sides on one mixed group of our answers, in fp64."""
    prompts = texts(source, 1, 53)
    ours = OurStep(source, prompts, 4, 8, "float64")
    with tempfile.TemporaryDirectory() as out:
        nothing = lambda completions, **_: [0.0] * len(completions)  # noqa: E731
        trainer = _trainer(source, prompts, 4, 8, 1, [], Path(out), nothing, torch.float64)
    batch = ours.batch(ours.problems[:1], all_wrong=False)
    prompt_ids, ids = (torch.tensor(rows) for rows in (batch.prompts, batch.completions))
    trainer.current_gradient_accumulation_steps = 1
    theirs = trainer._compute_loss(
        trainer.model,
        {
            "prompt_ids": prompt_ids,
            "prompt_mask": torch.ones_like(prompt_ids),
            "completion_ids": ids,
            "completion_mask": torch.ones_like(ids),
            "advantages": batch.advantage_B,
            "num_items_in_batch": torch.tensor(ids.numel()),
        },
    )
    theirs.backward()
    want = gradients(trainer.model)
    trainer.model.zero_grad(set_to_none=True)
    found: dict[str, torch.Tensor] = {}
    hook = ours.state.optimizer.register_step_pre_hook(
        lambda *_: found.update(gradients(ours.policy.model))
    )
    metrics = ours.update(batch, clip=1e9)
    hook.remove()
    return check_equal("GRPO", *closeness((metrics["loss"], float(theirs)), found, want))


def against_trl(source: Path, n: int, *, all_wrong: bool, limit: float) -> Row:
    """4 problems x 4 answers x 32 tokens, prompts of 53 tokens; no answer ends early."""
    from transformers import TrainerCallback

    score_completions_only()
    close = _same_loss(source)
    group, length = 4, 32
    prompts = texts(source, 4, 53)
    ours = OurStep(source, prompts, group, length)
    times: dict[str, list[float]] = {"ours": [], "trl": []}

    class Alternate(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            self.began = time.process_time()

        def on_step_end(self, args, state, control, **kwargs):
            middle = time.process_time()
            ours.step(all_wrong)
            times["trl"].append(middle - self.began)
            times["ours"].append(time.process_time() - middle)

    def reward(completion_ids, **_):
        if {len(ids) for ids in completion_ids} != {length}:
            raise SystemExit("an answer of TRL's is shorter than the limit")
        return [score_of(i // group, i % group, all_wrong) for i in range(len(completion_ids))]

    with tempfile.TemporaryDirectory() as out:
        trainer = _trainer(source, prompts, group, length, n + 1, [Alternate()], Path(out), reward)
        trainer.train()
    wrong = "half of the groups all wrong" if all_wrong else "all groups mixed"
    work = f"GRPO step against TRL, 4 x 4 x 32, prompts of 53 tokens, {wrong}"
    return compared(work, times["ours"][1:], times["trl"][1:], limit, note=close)


# --- another checkout


def serve(source: Path) -> None:
    """Answer each line of stdin with the CPU seconds of one step: G 8, prompt 100, 64 new."""
    ours = OurStep(source, texts(source, 2, 100), 8, 64)
    print("ready", flush=True)
    for _ in sys.stdin:
        began = time.process_time()
        ours.step()
        print(time.process_time() - began, flush=True)


def against_before(source: Path, n: int, before: Path | None, *, limit: float) -> Row:
    """The same step of this checkout and another, a process each, in turns."""
    work = "GRPO step against another checkout, 2 x 8 x 64, prompts of 100 tokens"
    if before is None:
        return Row(work, "CPU seconds", None, None, None, limit, 0, "give --before DIR/src")
    here = Path(__file__).resolve().parents[1] / "src"
    workers = [_worker(source, where) for where in (here, before)]
    times: list[list[float]] = [[], []]
    try:
        for worker in workers:
            if worker.stdout.readline().strip() != "ready":
                raise SystemExit("a process for GRPO steps did not start")
        for _ in range(n + 1):
            for worker, found in zip(workers, times, strict=True):
                worker.stdin.write("step\n")
                worker.stdin.flush()
                found.append(float(worker.stdout.readline()))
    finally:
        for worker in workers:
            worker.stdin.close()
            worker.wait()
    return compared(work, times[0][1:], times[1][1:], limit)


def _worker(source: Path, where: Path) -> subprocess.Popen:
    program = Path(__file__).with_name("real_models.py")
    return subprocess.Popen(
        [sys.executable, str(program), "--serve", str(source)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(where)},
    )
