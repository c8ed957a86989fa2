"""The change that a log speaks for, as files in its trainer's own terms (`--write`).

A file is written for TRL (Python) and for verl (a shell script with overrides); beside it a list of
prompts, where the change leaves some out, and for verl a reward function, where it changes one.
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from rekindle.errors import ConfigError
from rekindle.evals.intervals import wilson
from rekindle.signals.run_diagnosis.log_diagnosis import TITLES, LogDiagnosis
from rekindle.signals.run_diagnosis.remedies import WHERE_RIGHT

SUFFIXES = {"trl": ".py", "verl": ".sh"}
BESIDE = ("_prompts.json", "_reward.py")  # of the files that may stand beside it
LEAST_ANSWERS = 16  # below, a prompt that no answer solved may have a rate above 19 % (Wilson)

_WITH_SETTING = (
    "a longer token limit", "easier prompts", "harder prompts", "groups of ", "dapo",
    "one log of each batch",
)  # fmt: skip
_WIDE = 96  # characters of a comment


class Change(NamedTuple):
    """What to change, whatever the trainer.

    Attributes:
        head: what was found, in lines.
        wanted: of each remedy that fits its name and why.
        drop: the kind of prompts to leave out, `never` or `always`; empty: none.
        group_size: to train with; None: as it is.
        limit: tokens that the longest cut answer has; None: the log does not say.
        verifier: the reward that says right or wrong.
        others: the further rewards.
        masks: they count only where the verifier is right.
    """

    head: Sequence[str]
    wanted: Sequence[tuple[str, str]]
    drop: str
    group_size: int | None
    limit: int | None
    verifier: str
    others: Sequence[str]
    masks: bool

    def why(self, start: str) -> str | None:
        """Why a remedy fits that begins so; None where it does not."""
        return next((why for method, why in self.wanted if method.startswith(start)), None)

    def rest(self) -> list[str]:
        """The remedies for which a trainer has no setting, in lines."""
        known = (*_WITH_SETTING, *([WHERE_RIGHT] if self.masks else []))
        return [f"{method}: {why}" for method, why in self.wanted if not method.startswith(known)]


def find_change(path: Path, diagnosis: LogDiagnosis) -> Change | None:
    """The change of the remedies that fit; None where none does.

    Args:
        path: of the log.
    """
    wanted = [(one.method, one.why) for one in diagnosis.remedies if one.fits]
    if not wanted:
        return None
    log, methods = diagnosis.log, [method for method, _ in wanted]
    verifier, parts = diagnosis.verdicts.column, diagnosis.log.parts
    tokens = log.tokens_N[log.data_N & (log.cut_N == 1)]
    cause = diagnosis.cause
    return Change(
        head=[
            f"Written by rekindle diagnose from {path}",
            "" if cause is None else f"{TITLES[cause.name]} ({cause.name}): {cause.says}.",
        ],
        wanted=wanted,
        drop="never" if "easier prompts" in methods else "always" * ("harder prompts" in methods),
        group_size=next((int(m.split()[-1]) for m in methods if m.startswith("groups of ")), None),
        limit=int(tokens.max()) if len(tokens) and tokens.max() > 0 else None,
        verifier=verifier,
        others=[name for name in parts if name != verifier],
        masks=WHERE_RIGHT in methods and verifier in parts and len(parts) > 1,
    )


def check_format(path: Path, diagnosis: LogDiagnosis) -> None:
    """Refuse a log whose trainer no change is written for, or a file of another kind.

    Raises:
        ConfigError: one of both.
    """
    format = diagnosis.log.about.format
    wanted = ", ".join(f"{suffix} for a log of {name}" for name, suffix in SUFFIXES.items())
    if format not in SUFFIXES:
        raise ConfigError(
            f"--write has no change for a log of {format}",
            wanted=wanted,
            fix="leave --write out: the findings name what to change",
        )
    if path.suffix != SUFFIXES[format]:
        raise ConfigError(
            f"--write {path} has a suffix that is not for a log of {format}",
            got=path.suffix or "no suffix",
            wanted=wanted,
        )


def beside(path: Path) -> list[Path]:
    """Where the files go that may stand beside a change."""
    return [path.with_name(path.stem + end) for end in BESIDE]


def prompts_json(diagnosis: LogDiagnosis) -> str:
    """The prompts that were never and always solved, by key, with what that rests on."""
    log = diagnosis.log
    listed: dict[str, list[dict[str, object]]] = {"never": [], "always": []}
    for row in diagnosis.prompts:
        if row.kind in listed:
            rate = wilson(row.right, row.answers)
            listed[row.kind].append(
                {
                    "key": log.prompt_keys[row.prompt],
                    "prompt": log.prompts[row.prompt],
                    "answers": row.answers,
                    "rate_low": rate.ci_low,
                    "rate_high": rate.ci_high,
                }
            )
    return json.dumps(listed, indent=1) + "\n"  # ASCII: half a surrogate pair is one too


def enough(diagnosis: LogDiagnosis, kind: str) -> int:
    """How many prompts of a kind have `LEAST_ANSWERS`."""
    return sum(row.kind == kind and row.answers >= LEAST_ANSWERS for row in diagnosis.prompts)


def commented(lines: Sequence[str], indent: str = "") -> str:
    """Lines as comments of Python and of a shell, whatever stands in them; code is not wrapped."""
    out = ""
    for line in lines:
        plain = "".join(char if char.isprintable() else " " for char in line)
        wrapped = [plain] if plain.startswith(" ") else textwrap.wrap(plain, _WIDE) or [""]
        out += "".join(f"{indent}# {part}".rstrip() + "\n" for part in wrapped)
    return out
