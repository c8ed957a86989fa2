"""A change as a shell script for verl: overrides, and a reward function under a verifier.

Names as in verl 0.9.1 (`verl/trainer/config`). `algorithm.filter_groups` is read by its V1 trainer;
the legacy one (`trainer.use_v1=False`) does not read it.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from rekindle.signals.run_diagnosis.change import (
    BESIDE,
    Change,
    commented,
    prompts_json,
)
from rekindle.signals.run_diagnosis.log_diagnosis import LogDiagnosis
from rekindle.signals.run_diagnosis.remedies import WHERE_RIGHT

_SCRIPT = """#!/usr/bin/env bash
{head}set -euo pipefail

overrides=(
{overrides})
exec python3 -m verl.trainer.main_ppo "$@" "${{overrides[@]}}"
"""
_REWARD = '''{head}
"""The reward of the run, and 0 where its verifier gives 0: no other part can make up for it."""

import importlib.util
import os

VERIFIER = {verifier!r}  # the key of what the reward function returns that says right or wrong
OWN = os.environ.get("OWN_REWARD", "")  # FILE.py:FUNCTION, the reward of the run; else verl's own


def compute_score(**given):
    """As verl calls it; the run's own function must return a dict and not be a coroutine."""
    found = _own()(**given)
    if not isinstance(found, dict) or VERIFIER not in found:
        raise TypeError(f"the reward function returns no dict with {{VERIFIER!r}}: {{found!r}}")
    return found if found[VERIFIER] > 0 else {{**found, "score": 0.0}}


def _own():
    if not OWN:
        from verl.utils.reward_score import default_compute_score

        return default_compute_score
    path, _, name = OWN.rpartition(":")
    spec = importlib.util.spec_from_file_location("own_reward", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)
'''


def verl_files(path: Path, change: Change, diagnosis: LogDiagnosis) -> dict[Path, str]:
    """The text of each file: the script, the prompts to leave out, the reward function."""
    listed, reward = (path.with_name(path.stem + end) for end in BESIDE)
    lines = _overrides(change, diagnosis, reward)
    if change.drop:
        lines += commented(
            [
                change.why("easier prompts") or change.why("harder prompts") or "",
                f"The prompts that were {change.drop} solved are in {listed.name}, as verl logs "
                "them: decoded, under the chat template.",
                'data.train_files="[FILE WITHOUT THEM]"',
            ],
            "  ",
        )
    rest = change.rest()
    head = [
        *change.head,
        "",
        f"    bash {path.name} THE ARGUMENTS OF YOUR RUN",
        "",
        "Names as in verl 0.9.1; what comes later overrides what comes earlier.",
        *(["", "Without a setting in verl:", *rest] if rest else []),
    ]
    files = {path: _SCRIPT.format(head=commented(head), overrides=lines)}
    if change.drop:
        files[listed] = prompts_json(diagnosis)
    if change.masks:
        files[reward] = _REWARD.format(head=commented(change.head), verifier=change.verifier)
    return files


def _overrides(change: Change, diagnosis: LogDiagnosis, reward: Path) -> str:
    """The lines of the array."""
    lines = ""
    if (why := change.why("groups of ")) is not None:
        lines += commented([why], "  ") + f"  actor_rollout_ref.rollout.n={change.group_size}\n"
    if (why := change.why("a longer token limit")) is not None:
        asked = "${MAX_RESPONSE_LENGTH:?set it to the data.max_response_length of the run}"
        now = str(change.limit) if change.limit else asked
        lines += commented([why], "  ") + f'  "data.max_response_length=$((2 * {now}))"\n'
    if (why := change.why("dapo")) is not None:
        metric = "reward" if change.verifier == "score" else change.verifier
        lines += commented([why, "A group is dropped where all answers have this alike:"], "  ")
        lines += "  algorithm.filter_groups.enable=True\n"
        lines += f"  {shlex.quote(f'algorithm.filter_groups.metric={metric}')}\n"
        if "V0" in (diagnosis.log.about.version or ""):
            lines += commented(["The log is of the legacy trainer, which does not filter."], "  ")
            lines += "  trainer.use_v1=True\n"
    if change.masks and (why := change.why(WHERE_RIGHT)) is not None:
        place = shlex.quote(f"reward.custom_reward_function.path={reward.resolve()}")
        lines += commented([why, "OWN_REWARD=FILE.py:FUNCTION names the reward of the run."], "  ")
        lines += f"  {place}\n  reward.custom_reward_function.name=compute_score\n"
    return lines
