"""A real run of TRL's `GRPOTrainer` on SmolLM2: are the shares of its log what it counted itself?

    python benchmarks/trl_log.py --model DIR    12 steps, about 3 minutes on two cores
    python benchmarks/trl_log.py --quick        a random model of two layers, nothing is written

Sums in a few-shot prompt; two rewards: right or wrong, and a reward model (a random classifier on
the same tokenizer, loaded by TRL as one). `steps_per_generation` and `num_iterations` are 2, so
that batches are written again, and an evaluation falls into the run. For each step at which TRL
counted a generation batch and whose file holds that batch, these are compared:

    frac_reward_zero_std        the share of groups without two different totals
    rewards/NAME/mean           the mean of the column
    reward                      the mean of the totals

TRL counts in float32: they must agree to 1e-5. The result goes to `results/trl_log.json`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

import numpy as np

from _machine import describe

RESULTS = Path(__file__).parents[1] / "results" / "trl_log.json"
STEPS, PROMPTS, GROUP, TOKENS = 12, 4, 4, 6
SHOTS = "2 + 3 = 5\n6 + 1 = 7\n"


def train(model: object, tokenizer: object, out: Path) -> None:
    """Run TRL as a user does, with completions logged."""
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification, LlamaConfig
    from trl import GRPOConfig, GRPOTrainer

    def right(completions: list[str], gold: list[str], **_: object) -> list[float]:
        return [
            float(c.strip().split("\n")[0] == g) for c, g in zip(completions, gold, strict=True)
        ]

    rows = [
        {"prompt": f"{SHOTS}{a} + {b} =", "gold": str(a + b)} for a in range(20) for b in range(10)
    ]
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 2, "num_labels": 1}
    shape = LlamaConfig(vocab_size=len(tokenizer), pad_token_id=0, **sizes, **heads)  # type: ignore[arg-type]
    judge = AutoModelForSequenceClassification.from_config(shape)
    judge.config._name_or_path = "judge"
    config = GRPOConfig(
        output_dir=str(out),
        per_device_train_batch_size=PROMPTS * GROUP // 2,
        steps_per_generation=2,
        num_iterations=2,
        num_generations=GROUP,
        max_completion_length=TOKENS,
        max_steps=STEPS,
        learning_rate=1e-6,
        logging_steps=1,
        log_completions=True,
        eval_strategy="steps",
        eval_steps=7,
        per_device_eval_batch_size=GROUP,
        save_steps=STEPS,
        report_to=[],
        use_cpu=True,
        seed=0,
    )
    trainer = GRPOTrainer(
        model,  # type: ignore[arg-type]
        [right, judge],
        args=config,
        train_dataset=Dataset.from_list(rows[:160]).shuffle(seed=0),
        eval_dataset=Dataset.from_list(rows[160:164]),
        processing_class=tokenizer,  # type: ignore[arg-type]
        reward_processing_classes=[None, tokenizer],  # type: ignore[list-item]
    )
    with open(os.devnull, "w") as null:
        kept, sys.stdout = sys.stdout, null
        try:
            trainer.train()
        finally:
            sys.stdout = kept


def compare(out: Path) -> dict[str, object]:
    """The log as it is read against the trainer's own counts, step by step."""
    from rekindle.signals.run_diagnosis.diagnose_log import diagnose_log
    from rekindle.signals.run_diagnosis.groups import group_table

    diagnosis = diagnose_log(out)
    log, largest, steps = diagnosis.log, 0.0, []
    whole = group_table(log, diagnosis.verdicts.value_N)
    for entry in log.about.history:
        step = int(entry["step"])
        here_P, here_N = whole.step_P == step, log.data_N & (log.step_N == step)
        if "frac_reward_zero_std" not in entry or not here_P.any():
            continue
        ours = {
            "frac_reward_zero_std": float((~whole.spread_P[here_P]).mean()),
            "reward": float(log.score_N[here_N].mean()),
            **{f"rewards/{k}/mean": float(v[here_N].mean()) for k, v in log.parts.items()},
        }
        theirs = {name: entry[name] for name in ours}
        largest = max(largest, *(abs(ours[name] - theirs[name]) for name in ours))
        steps.append({"step": step, "groups": int(here_P.sum()), **theirs})
    told = diagnosis.as_dict()
    kept = ("rows", "rows_repeated", "rows_evaluation", "groups", "steps_seen", "steps_logged")
    return {
        "steps_compared": steps,
        "largest_difference": largest,
        **{name: told[name] for name in (*kept, "share", "cause")},
        "estimator": next(f.says for f in diagnosis.findings if f.name == "estimators/fits"),
    }


def main() -> None:
    """Train, compare, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, help="SmolLM2 as `rekindle testbed fetch` has it")
    parser.add_argument("--quick", action="store_true")
    given = parser.parse_args()
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig

    torch.manual_seed(0)
    if given.quick:
        sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
        import tiny

        policy = tiny.policy(dtype="float32")
        model, tokenizer = policy.model, policy.tokenizer
        assert isinstance(model.config, LlamaConfig)
        model.config._name_or_path = "tiny"
    elif given.model is None:
        parser.error("--model DIR is needed (rekindle testbed fetch smollm2-135m), or --quick")
    else:
        model = AutoModelForCausalLM.from_pretrained(given.model, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(given.model)
    with tempfile.TemporaryDirectory() as place:
        train(model, tokenizer, Path(place))
        result = compare(Path(place))
    print(json.dumps(result, indent=1))
    assert result["steps_compared"], "no step could be compared"
    assert float(np.float64(result["largest_difference"])) < 1e-5  # type: ignore[arg-type]
    if not given.quick:
        command = "python benchmarks/trl_log.py --model DIR"
        RESULTS.write_text(
            json.dumps({"command": command, "seed": 0, **result, "machine": describe()}, indent=1)
            + "\n"
        )


if __name__ == "__main__":
    main()
