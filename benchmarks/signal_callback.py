"""What `SignalCallback` costs a TRL step: CPU seconds of its calls as a share of the step's.

    rekindle testbed fetch smollm2-135m
    python benchmarks/signal_callback.py            full: writes results/bench_signal_callback.json
    python benchmarks/signal_callback.py --quick    two steps

GRPO on SmolLM2-135M, 2 prompts x 4 answers of at most 32 tokens, two rewards, one thread. Every
call of the callback is counted, `on_train_begin` and what it writes into TRL's metrics too. Beside
it, one batch as large runs have it, 512 answers of 4,000 characters, read and kept; and one
diagnosis of what is kept of them (48 million characters), as a word has it. At most 1 %.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

from rekindle.engine.threads import calm_threads

calm_threads()
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch  # noqa: E402

from _machine import describe  # noqa: E402
from _real_common import SMOLLM, model_directory  # noqa: E402
from rekindle import Watch  # noqa: E402
from rekindle.errors import RekindleError  # noqa: E402
from rekindle.files import write_json  # noqa: E402
from rekindle.integrations.trl import SignalCallback  # noqa: E402

OUT = Path(__file__).parents[1] / "results" / "bench_signal_callback.json"
LIMIT = 0.01
EVENTS = ("on_train_begin", "on_substep_end", "on_step_end", "on_evaluate")


class Timed(SignalCallback):
    """The callback with a clock around each of its calls, and one around each step."""

    def __init__(self) -> None:
        super().__init__()
        self.spent, self.began = 0.0, 0.0
        self.shares: list[float] = []
        self.steps: list[float] = []
        for event in EVENTS:
            setattr(self, event, self._timed(getattr(super(), event)))
        ended = self.on_step_end
        self.on_step_end = lambda *a, **k: (ended(*a, **k), self._note())[0]

    def _timed(self, call: Callable[..., object]) -> Callable[..., object]:
        def timed(*args: object, **kwargs: object) -> object:
            began = time.process_time()
            result = call(*args, **kwargs)
            self.spent += time.process_time() - began
            return result

        return timed

    def on_step_begin(self, *_: object, **__: object) -> None:
        """Start the step's clock."""
        self.began = time.process_time()

    def _note(self) -> None:
        self.steps.append(time.process_time() - self.began)
        self.shares.append(self.spent / self.steps[-1])
        self.spent = 0.0


def verifier(completions: list[str], **_: object) -> list[float]:
    """Right or wrong by the length."""
    return [float(len(text) % 2) for text in completions]


def brevity(completions: list[str], **_: object) -> list[float]:
    """Short answers are better."""
    return [-len(text) / 1000 for text in completions]


def real_step(model: Path, steps: int) -> Timed:
    """A run of TRL with the callback."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import GRPOConfig, GRPOTrainer

    callback = Timed()
    with tempfile.TemporaryDirectory() as out:
        args = GRPOConfig(
            output_dir=out,
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            report_to="none",
            save_strategy="no",
            per_device_train_batch_size=8,
            num_generations=4,
            max_completion_length=32,
            max_steps=steps,
            logging_steps=1,
            disable_tqdm=True,
        )
        GRPOTrainer(
            model=AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32),
            processing_class=AutoTokenizer.from_pretrained(model),
            reward_funcs=[verifier, brevity],
            train_dataset=Dataset.from_dict({"prompt": [f"What is {n} + 7?" for n in range(64)]}),
            args=args,
            callbacks=[callback],
        ).train()
    return callback


def large_batch(rounds: int) -> tuple[float, float]:
    """CPU seconds of a batch of 512 answers, read and kept, and of a diagnosis of what is kept."""
    watch = Watch()
    texts = [f"{row} ".ljust(4000, "x") for row in range(512)]
    scores = [float(row % 3 == 0) for row in range(512)]
    groups = [row // 8 for row in range(512)]
    prompts = [f"prompt {group}" for group in groups]
    began = time.process_time()
    for step in range(rounds):
        parts = {"verifier": scores, "length": scores}
        watch.observe(step, groups, scores, texts=texts, prompts=prompts, parts=parts)
    ended = time.process_time()
    watch.diagnosis()
    return (ended - began) / rounds, time.process_time() - ended


def main() -> None:
    """Print what it costs and the JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--models", type=Path, help="a directory with smollm2-135m in it")
    asked = parser.parse_args()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    try:
        model = model_directory(SMOLLM, asked.models)
    except RekindleError as error:
        print(json.dumps({"benchmark": "signal_callback", "unmeasured": str(error)}))
        return
    timed = real_step(model, 2 if asked.quick else 12)
    batch, diagnosis = large_batch(5 if asked.quick else 50)
    share = sum(s * t for s, t in zip(timed.shares, timed.steps, strict=True)) / sum(timed.steps)
    result = {
        "benchmark": "signal_callback",
        "share_of_a_step": share,
        "worst_step": max(timed.shares),
        "at_most": LIMIT,
        "step_cpu_seconds": sum(timed.steps) / len(timed.steps),
        "steps": len(timed.steps),
        "batch_of_512_cpu_seconds": batch,
        "diagnosis_cpu_seconds": diagnosis,
        "machine": describe(),
    }
    print(
        f"a step of {result['step_cpu_seconds']:.2f} CPU seconds: {100 * share:.3f} % of it, at "
        f"worst {100 * max(timed.shares):.3f} % (at most 1 %); a batch of 512 answers "
        f"{1000 * batch:.1f} ms, a diagnosis {diagnosis:.1f} s"
    )
    if not asked.quick:
        write_json(OUT, result)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
