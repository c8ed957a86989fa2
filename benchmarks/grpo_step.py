"""One GRPO step, ours against `trl.GRPOTrainer`: same model, prompts, group size, limits, threads.

Both sample with the model itself, compute advantages and take one AdamW step. Scores depend on the
answer's place only, so that every group is mixed, or half of them are all wrong, in both. The steps
alternate inside one process (TRL's step, ours, TRL's, ...), so that a busy machine hits both alike;
peak memory is taken in a process for each.

    python benchmarks/grpo_step.py            full: writes results/bench_grpo_step.json
    python benchmarks/grpo_step.py --quick    ends within 50 s; last line is one JSON object
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rekindle.engine.threads import calm_threads

calm_threads()
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402

from _machine import describe  # noqa: E402

PROBLEMS, GROUP, LIMIT = 16, 8, 40
SHAPES = {
    # name -> Llama settings; None: the shipped testbed model
    "testbed 0.16M": None,
    "1M (4 layers, 128 wide)": {
        "hidden_size": 128,
        "intermediate_size": 384,
        "layers": 4,
        "heads": 4,
    },
    "6M (6 layers, 256 wide)": {
        "hidden_size": 256,
        "intermediate_size": 768,
        "layers": 6,
        "heads": 4,
    },
}


def score_of(group: int, sample: int, all_wrong_share: float) -> float:
    """1 for every second answer; 0 in groups that are to be all wrong (every n-th)."""
    period = round(1 / all_wrong_share) if all_wrong_share else 0
    return 0.0 if period and group % period == 0 else float(sample % 2)


def make_model(name: str, directory: Path) -> Path:
    """A directory with model and tokenizer; larger shapes have random weights."""
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from rekindle import testbed

    base = testbed.resolve("testbed/countdown-s0")
    shape = SHAPES[name]
    if shape is None:
        return base
    tokenizer = AutoTokenizer.from_pretrained(base)
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=shape["hidden_size"],
            intermediate_size=shape["intermediate_size"],
            num_hidden_layers=shape["layers"],
            num_attention_heads=shape["heads"],
            num_key_value_heads=shape["heads"],
            max_position_embeddings=160,
            tie_word_embeddings=True,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    target = directory / name.split()[0]
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)
    return target


class Ours:
    """Our step as `methods/grpo.py` takes it, with scores from a table instead of a verifier."""

    def __init__(self, source: Path, all_wrong: float) -> None:
        from rekindle.engine.cached_sampler import CachedSampler
        from rekindle.engine.config import ModelConfig, OptimConfig, SampleConfig
        from rekindle.engine.device import Group, micro_tokens
        from rekindle.engine.policy import Policy
        from rekindle.engine.update import fresh_state
        from rekindle.methods.grpo import PRESETS

        self.policy = Policy.load(ModelConfig(name=str(source), device="cpu"))
        self.sampler = CachedSampler(self.policy)
        self.micro_tokens = micro_tokens(None, self.policy.device)
        self.optim = OptimConfig(lr=1e-7, problems=PROBLEMS)
        self.sample_config = SampleConfig(max_new_tokens=LIMIT)
        self.config = PRESETS["grpo"]
        self.state = fresh_state({"policy": self.policy.model}, self.optim)
        self.group, self.all_wrong, self.tokens = Group(), all_wrong, 0

    def step(self, problems: list) -> None:
        from rekindle.engine.batch import count, pack
        from rekindle.engine.update import update
        from rekindle.loops.group_step import objective
        from rekindle.methods.grpo import credit
        from rekindle.ops.groups import ScoredRows

        rollouts = self.sampler.sample(
            problems, samples=GROUP, config=self.sample_config, seed=self.state.step
        )
        groups = [i // GROUP for i in range(len(rollouts))]
        f64 = torch.float64
        earned = credit(
            ScoredRows(
                group=groups,
                correct_N=torch.tensor(
                    [
                        score_of(g, r.sample, self.all_wrong)
                        for g, r in zip(groups, rollouts, strict=True)
                    ],
                    dtype=f64,
                ),
                rm_score_N=torch.full((len(rollouts),), torch.nan, dtype=f64),
                sum_logprob_N=torch.tensor([sum(r.sampled_logprobs) for r in rollouts], dtype=f64),
                num_tokens_N=torch.tensor([float(len(r.tokens)) for r in rollouts], dtype=f64),
            ),
            self.config,
        )
        completions = [r.tokens for r in rollouts]
        batch = pack(
            [r.prompt_tokens for r in rollouts],
            completions,
            reduction=self.config.reduction,
            total=count(completions),
            advantage_B=earned.advantage_N,
            sampled_logprobs=[r.sampled_logprobs for r in rollouts],
        ).with_signal()
        update(
            self.state,
            batch.split(self.micro_tokens),
            objective(self.policy, self.config, temperature=1.0),
            clip=1.0,
            group=self.group,
            device=self.policy.device,
        )
        self.state.step += 1
        self.tokens += sum(len(c) for c in completions)


def trl_trainer(source: Path, all_wrong: float, steps: int, prompts: list[str], callback, scratch):
    """TRL's trainer on the same prompts, one generation batch a step."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    counter = {"tokens": 0}

    def reward(prompts, completions, completion_ids, **_):
        counter["tokens"] += sum(len(ids) for ids in completion_ids)
        return [score_of(i // GROUP, i % GROUP, all_wrong) for i in range(len(completions))]

    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32),
        processing_class=AutoTokenizer.from_pretrained(source, padding_side="left"),
        reward_funcs=reward,
        train_dataset=Dataset.from_dict({"prompt": prompts * max(1, steps)}),
        callbacks=[callback] if callback is not None else [],
        args=GRPOConfig(
            output_dir=str(scratch),
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            per_device_train_batch_size=PROBLEMS * GROUP,
            num_generations=GROUP,
            max_completion_length=LIMIT,
            temperature=1.0,
            beta=0.0,
            loss_type="grpo",
            learning_rate=1e-7,
            max_steps=steps,
            logging_steps=10**6,
            report_to="none",
            save_strategy="no",
            disable_tqdm=True,
            shuffle_dataset=False,
            seed=0,
        ),
    )
    return trainer, counter


def prompts_and_problems(count: int):
    """The same countdown problems for both sides."""
    from rekindle.tasks import load_task

    task = load_task(name="countdown")
    problems = task.draw(step=0, count=count, seed=0, levels=("3", "4"))
    return [problem.prompt for problem in problems], problems


def interleaved(source: Path, all_wrong: float, steps: int) -> dict[str, float]:
    """Median seconds a step, the steps of both sides alternating."""
    from transformers import TrainerCallback

    torch.set_num_threads(1)
    prompts, problems = prompts_and_problems(PROBLEMS)
    ours = Ours(source, all_wrong)
    times: dict[str, list[float]] = {"trl": [], "ours": []}

    class Alternate(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            self.began = time.perf_counter()

        def on_step_end(self, args, state, control, **kwargs):
            middle = time.perf_counter()
            ours.step(problems)
            times["trl"].append(middle - self.began)
            times["ours"].append(time.perf_counter() - middle)

    with tempfile.TemporaryDirectory() as scratch:
        trainer, counter = trl_trainer(source, all_wrong, steps, prompts, Alternate(), scratch)
        trainer.train()
    warm = {side: values[1:] for side, values in times.items()}  # the first step allocates
    medians = {side: statistics.median(values) for side, values in warm.items()}
    return {
        "trl_s": medians["trl"],
        "ours_s": medians["ours"],
        "ratio": medians["trl"] / medians["ours"],
        "steps": len(warm["ours"]),
        "trl_tokens_per_step": counter["tokens"] / steps,
        "ours_tokens_per_step": ours.tokens / steps,
    }


def peak_memory(side: str, name: str, steps: int) -> float:
    """Peak resident memory of a process that takes only one side's steps, MiB."""
    command = [
        sys.executable,
        __file__,
        "--memory-of",
        side,
        "--shape",
        name,
        "--steps",
        str(steps),
    ]
    out = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return float(out.strip().splitlines()[-1])


def peak_of_this_process() -> float:
    """MiB. Linux: VmHWM, since ru_maxrss starts at what the parent held when it forked."""
    status = Path("/proc/self/status")
    if status.exists():
        lines = [line for line in status.read_text().splitlines() if line.startswith("VmHWM")]
        return int(lines[0].split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def memory_child(side: str, name: str, steps: int) -> None:
    torch.set_num_threads(1)
    prompts, problems = prompts_and_problems(PROBLEMS)
    with tempfile.TemporaryDirectory() as scratch:
        source = make_model(name, Path(scratch))
        if side == "ours":
            ours = Ours(source, 0.0)
            for _ in range(steps):
                ours.step(problems)
        else:
            trainer, _ = trl_trainer(source, 0.0, steps, prompts, None, Path(scratch) / "out")
            trainer.train()
    print(peak_of_this_process())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--memory-of", choices=["ours", "trl"])
    parser.add_argument("--shape", default="testbed 0.16M")
    parser.add_argument("--steps", type=int, default=0)
    options = parser.parse_args()
    if options.memory_of:
        memory_child(options.memory_of, options.shape, options.steps or 3)
        return
    steps = options.steps or (6 if options.quick else 25)
    shapes = ["testbed 0.16M"] if options.quick else list(SHAPES)
    table = []
    with tempfile.TemporaryDirectory() as scratch:
        for name in shapes:
            source = make_model(name, Path(scratch))
            for all_wrong in (0.0, 0.5):
                row = {
                    "shape": name,
                    "all_wrong": all_wrong,
                    **interleaved(source, all_wrong, steps),
                }
                table.append(row)
                print(
                    f"{name:<24} all-wrong {all_wrong:.0%}: TRL {row['trl_s'] * 1e3:7.1f} ms, "
                    f"ours {row['ours_s'] * 1e3:7.1f} ms, ratio {row['ratio']:.2f} "
                    f"({row['trl_tokens_per_step']:.0f}, {row['ours_tokens_per_step']:.0f} tokens)",
                    flush=True,
                )
    memory = {side: peak_memory(side, shapes[-1], 3) for side in ("trl", "ours")}
    print(f"peak memory: TRL {memory['trl']:.0f} MiB, ours {memory['ours']:.0f} MiB")
    first = {row["all_wrong"]: row["ratio"] for row in table if row["shape"] == shapes[0]}
    result = {
        "benchmark": "grpo_step",
        "ratio_mixed": first[0.0],
        "ratio_half_all_wrong": first[0.5],
        "memory_ratio": memory["trl"] / memory["ours"],
        "problems": PROBLEMS,
        "group": GROUP,
        "limit": LIMIT,
        "threads": 1,
        "rows": table,
        "memory_mib": memory,
        "machine": describe(),
    }
    if not options.quick:
        Path("results").mkdir(exist_ok=True)
        Path("results/bench_grpo_step.json").write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
