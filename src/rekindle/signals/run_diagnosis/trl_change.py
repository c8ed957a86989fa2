"""A change as Python for TRL: `GRPOConfig` fields, prompts left out, rewards under a verifier.

Fields as in TRL 1.16 (`trl/trainer/grpo_config.py`), which has no dynamic sampling.
"""

from __future__ import annotations

import json
from pathlib import Path

from rekindle.signals.run_diagnosis.change import (
    BESIDE,
    LEAST_ANSWERS,
    Change,
    commented,
    enough,
    prompts_json,
)
from rekindle.signals.run_diagnosis.log_diagnosis import LogDiagnosis

_FILTER = '''

# A prompt is left out where it has at least so many answers in the log, all alike. With 16 answers
# that are all wrong its rate is below 19 % (Wilson, 95 %); with fewer it may be well above.
LEAST_ANSWERS = {least}
LISTED = json.loads(Path(__file__).with_name({name}).read_text(encoding="utf-8"))


def without_listed(dataset):
    """The dataset without the prompts that the log has as {kind} solved."""
    listed = LISTED["{kind}"]
    keys = {{row["key"] for row in listed if row["answers"] >= LEAST_ANSWERS}}
    return dataset.filter(lambda row: prompt_key(row["prompt"]) not in keys)


def prompt_key(prompt):
    """How the list names a prompt: a hash of its text, of a chat's JSON."""
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0].get("content"), str):
        prompt = prompt[0]["content"]
    text = prompt if isinstance(prompt, str) else json.dumps(prompt, ensure_ascii=False)
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
'''
_MASK = '''

def where_right(reward, verifier):
    """`reward` where `verifier` gives more than 0, else 0; both are functions as TRL calls them."""

    def masked(**given):
        verdicts, values = verifier(**given), reward(**given)
        return [
            value if value is None or verdict is None or verdict > 0 else 0.0
            for verdict, value in zip(verdicts, values, strict=True)
        ]

    masked.__name__ = reward.__name__  # TRL names the column of its log by it
    return masked
'''


def trl_files(path: Path, change: Change, diagnosis: LogDiagnosis) -> dict[Path, str]:
    """The text of each file: the change, and the prompts it leaves out."""
    listed = path.with_name(path.stem + BESIDE[0])
    kind = change.drop or ("never" if change.why("dapo") else "")
    imports = "import hashlib\nimport json\nfrom pathlib import Path\n\n" if kind else ""
    text = (
        commented([*change.head, "", *_usage(path, change, kind)])
        + f"\n{imports}from trl import GRPOConfig\n\n\n"
        + _config(change)
        + (
            _FILTER.format(least=LEAST_ANSWERS, name=json.dumps(listed.name), kind=kind)
            if kind
            else ""
        )
        + (_MASK if change.masks else "")
    )
    files = {path: text}
    if kind:
        files[listed] = prompts_json(diagnosis)
    return files


def _usage(path: Path, change: Change, kind: str) -> list[str]:
    """How to use the file."""
    names = ["changed"] + ["without_listed"] * bool(kind) + ["where_right"] * change.masks
    others = ", ".join(f"where_right({name}, {change.verifier})" for name in change.others)
    lines = [
        f"    from {path.stem} import {', '.join(names)}",
        "    trainer = GRPOTrainer(",
        "        model,",
        f"        reward_funcs=[{change.verifier}, {others}],"
        if change.masks
        else "        reward_funcs,",
        "        args=changed(...),  # the arguments of your GRPOConfig",
        f"        train_dataset={'without_listed(dataset)' if kind else 'dataset'},",
        "    )",
    ]
    rest = change.rest()
    return lines if not rest else [*lines, "", "Without a setting in TRL:", *rest]


def _config(change: Change) -> str:
    """The function that makes the settings."""
    body = commented(["The next run can be diagnosed too."], "    ")
    body += '    settings["log_completions"] = True\n'
    if (why := change.why("groups of ")) is not None:
        body += commented([why, "The generation batch must be a multiple of it."], "    ")
        body += f'    settings["num_generations"] = {change.group_size}\n'
    if (why := change.why("a longer token limit")) is not None:
        limit = 'settings.get("max_completion_length", 512)'
        body += commented([why], "    ")
        body += f'    settings["max_completion_length"] = 2 * {change.limit or limit}\n'
    if (why := change.why("one log of each batch")) is not None:
        body += commented([why, "One log for each generation batch:"], "    ") + (
            '    accumulated = settings.get("gradient_accumulation_steps", 1)\n'
            '    passes = settings.get("steps_per_generation") or accumulated\n'
            '    passes *= settings.get("num_iterations", 1)\n'
            '    settings["logging_steps"] = max(1, passes // accumulated)\n'
        )
    if (why := change.why("dapo")) is not None:
        left = "TRL has no dynamic sampling. What comes near: leave out prompts (without_listed)."
        body += commented([why, left], "    ")
    doc = '    """`GRPOConfig(**settings)` with what the log speaks for."""\n'
    return f"def changed(**settings):\n{doc}{body}    return GRPOConfig(**settings)\n"


def note(diagnosis: LogDiagnosis, change: Change) -> str:
    """What the list of prompts comes to, in a sentence; empty without one."""
    kind = change.drop or ("never" if change.why("dapo") else "")
    if not kind:
        return ""
    return (
        f"{enough(diagnosis, kind)} prompts have {LEAST_ANSWERS} answers or more and were {kind} "
        "solved: these are left out"
    )
