"""A run of TRL's GRPOTrainer on a CPU: a random tiny model, and what the trainer itself scored.

`python trl_run.py` wrote the files of `trl_files/` beside it, with TRL 1.16.0.
"""

import json
import shutil
import sys
from pathlib import Path
from typing import NamedTuple

TASKS = [f"{a}+{b}=" for a in range(5) for b in range(8)]
EVALUATED = ["9+9=", "8+9="]
SIZE = 4


class Scored(NamedTuple):
    """A batch that was scored: rows in order, and whether the trainer was evaluating."""

    evaluating: bool
    prompts: list
    completions: list
    right: list


def train(directory, *, chat=False, **settings):
    """Train ten steps; what was scored, in order."""
    from datasets import Dataset
    from transformers import AutoModelForCausalLM
    from trl import GRPOConfig, GRPOTrainer

    import tiny

    scored = []

    def text_of(completion):
        return completion if isinstance(completion, str) else completion[0]["content"]

    def verifier(prompts, completions, log_extra=None, **_):
        right = [float(len(set(text_of(c))) % 2) for c in completions]
        scored.append(Scored(not trainer.model.training, list(prompts), list(completions), right))
        if log_extra is not None:
            log_extra("level", [3.0] * len(completions))
        return right

    def length(completions, **_):
        return [len(text_of(completion)) / 100 for completion in completions]

    def rows(tasks):
        asked = [[{"role": "user", "content": t}] if chat else t for t in tasks]
        return Dataset.from_dict({"prompt": asked})

    tokenizer = tiny.tokenizer()
    if chat:
        tokenizer.chat_template = tiny.CHAT_TEMPLATE
    given = {
        "per_device_train_batch_size": 2 * SIZE,
        "per_device_eval_batch_size": 2 * SIZE,
        "num_generations": SIZE,
        "max_completion_length": 6,
        "max_steps": 10,
        "logging_steps": 1,
        "steps_per_generation": 2,
        "num_iterations": 2,
        "eval_strategy": "steps",
        "eval_steps": 3,
        "save_steps": 10,
        **settings,
    }
    trainer = GRPOTrainer(
        AutoModelForCausalLM.from_config(tiny.llama_config()),
        [verifier, length],
        args=GRPOConfig(
            output_dir=str(directory),
            log_completions=True,
            report_to="none",
            use_cpu=True,
            bf16=False,
            gradient_checkpointing=False,
            save_only_model=True,
            seed=0,
            **given,
        ),
        train_dataset=rows(TASKS),
        eval_dataset=rows(EVALUATED),
        processing_class=tokenizer,
    )
    trainer.train()
    return scored


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    place = Path(__file__).parent / "trl_files"
    shutil.rmtree(place, ignore_errors=True)
    batches = train(place)
    (place / "scored.json").write_text(json.dumps([batch._asdict() for batch in batches]))
    for path in place.glob("checkpoint-*/*"):
        if path.name != "trainer_state.json":
            path.unlink()
