"""prime-rl's `rollouts/step_N/{train,eval}/{all,effective}/traces.jsonl`, written by default.

Seen with prime-rl 559b44772 and verifiers 0.4.0. A line is an episode: its task, its group and one
trace an agent. How it misleads:

* There is no total reward: each named one is `{score, weight}` and counts as their product. With
  weight 0 it is only logged, and null is not computed. A trace that failed has none: training
  leaves it out of its group.
* `all` has every episode in the batch window in which it came in, whole or failed, in no order of
  groups: the answers to one prompt may stand in two steps. `effective` has those that were trained
  on, and the advantages; the rows are those of `all`, and `trained` says which are in `effective`.
* Log-probs are rounded to four decimals: they are the sampler's, and confidence above 0.99995 is
  gone.
* An episode may hold the traces of several agents. Those that are not trained are no rows.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import simdjson

from rekindle.signals.logs.lines import Damage, Extract, Row, each_line, number, plain
from rekindle.signals.logs.mapped import as_text, natural
from rekindle.signals.logs.metrics import read_rows
from rekindle.signals.logs.record import LogAbout, LoggedRow, LogSplit, Place

NAME = "prime_rl"
_FILE = "traces.jsonl"
_LIMITS = frozenset(
    ("max_turns", "max_input_tokens", "max_output_tokens", "max_total_tokens", "compaction_failed")
)  # what verifiers calls truncated
_ROUNDED = (
    "log-probs are rounded to four decimals: a sum over n tokens is off by up to n x 5e-5, and "
    "confidence above 0.99995 a token is lost"
)


class _Trained(NamedTuple):
    """What `effective` says of a trace."""

    advantage: float | None


@dataclass(frozen=True)
class PrimeReader:
    """The traces of a run's episodes.

    Attributes:
        trained: of the traces in `effective`, by their id.
        shipped: the last step of which a batch was trained on.
    """

    about: LogAbout
    trained: Mapping[str, _Trained]
    shipped: int
    damage: Damage = field(default_factory=Damage)

    def rows(self) -> Iterator[LoggedRow]:
        """Every trace of an agent that is trained; those of a file by their groups."""
        for file, path in enumerate(self.about.files):
            by_group: dict[Hashable, list[LoggedRow]] = {}
            for rows in each_line(path, self._rows_maker(file, path), self.damage):
                for row in rows:
                    by_group.setdefault(row.group, []).append(row)
            for rows in by_group.values():
                yield from rows

    def _rows_maker(self, file: int, path: Path) -> Extract[list[LoggedRow]]:
        step, split = _step_of(path), _split_of(path)

        def make(episode: Row, line: int) -> list[LoggedRow]:
            prompt = _prompt(episode)
            group = _group(episode, prompt, step)
            place = Place(file, line)
            return [
                self._row(trace, place, step, split, prompt, (group, name))
                for trace in _each(episode.get("traces"))
                if (name := _trained_agent(trace)) is not None
            ]

        return make

    def _row(
        self,
        trace: Row,
        place: Place,
        step: int,
        split: LogSplit,
        prompt: str,
        group: tuple[Hashable, str],
    ) -> LoggedRow:
        nodes = [node for node in _each(trace.get("nodes")) if node.get("sampled") is True]
        logprobs = [value for node in nodes for value in _numbers(node.get("logprobs"))]
        own = [value for node in nodes for value in _numbers(node.get("trainer_logprobs"))]
        both = len(own) == len(logprobs) > 0
        score, parts = _rewards(trace.get("rewards"))
        if trace.get("ok") is False:
            score, parts = None, dict.fromkeys(parts)
        used = self.trained.get(str(trace.get("id")))
        known = split == "train" and step <= self.shipped
        output = number(trace.get("num_output_tokens"))
        return LoggedRow(
            place=place,
            step=step,
            prompt=prompt,
            text="\n".join(text for node in nodes for text in _said(node)),
            score=score,
            parts=parts,
            group=group,
            advantage=None if used is None else used.advantage,
            tokens=len(logprobs) or (None if output is None else int(output)),
            cut=_is_cut(trace),
            logprob=sum(own) if own else None,
            sampler_logprob=sum(logprobs) if logprobs else None,
            gap=float(np.abs(np.subtract(own, logprobs)).mean()) if both else None,
            split=split,
            trained=used is not None if used is not None or known else None,
        )


def is_prime(path: Path) -> bool:
    """Whether a directory is a prime-rl run, or its `rollouts`."""
    return bool(_traces(path))


def open_prime(path: Path) -> PrimeReader:
    """The log of a prime-rl run.

    Raises:
        DataError: its files cannot be read.
    """
    found = _traces(path)
    cohorts = {file.parent.parent for file in found}
    files = [  # `effective` where `all` is gone
        next(file for name in ("all", "effective") if (file := place / name / _FILE) in found)
        for place in sorted(cohorts, key=natural)
    ]
    trained = dict[str, _Trained]()
    effective = [file for file in found if file.parent.name == "effective"]
    shipped, version = -1, None
    for file in effective:
        if _split_of(file) == "train":
            shipped = max(shipped, _step_of(file))
            for pairs in each_line(file, lambda row, _: _advantages(row), Damage()):
                trained.update(pairs)
    for file in files[:1]:
        version = next(each_line(file, lambda row, _: _version(row), Damage()), None)
    metrics = next((f for p in (path, path.parent) if (f := p / "metrics.jsonl").is_file()), None)
    about = LogAbout(
        NAME,
        version,
        tuple(files),
        steps_taken=shipped if shipped >= 0 else None,
        notes=(_ROUNDED,),
        history=() if metrics is None else read_rows(metrics),
        groups_span=True,
    )
    return PrimeReader(about, trained, shipped)


def _traces(path: Path) -> list[Path]:
    """Files with the layout `step_N/KIND/SUBSET/traces.jsonl`."""
    if not path.is_dir():
        return []
    for place in (path / "rollouts", path):
        found = sorted(place.glob(f"step_*/*/*/{_FILE}"), key=natural)
        if found:
            return found
    return []


def _step_of(path: Path) -> int:
    digits = path.parents[2].name.removeprefix("step_")
    return int(digits) if digits.isdecimal() else -1


def _split_of(path: Path) -> LogSplit:
    return "eval" if path.parents[1].name == "eval" else "train"


# --- parts of an episode


def _each(value: object) -> Iterator[Row]:
    """The objects of a list."""
    if isinstance(value, simdjson.Array | list):
        for one in value:
            if isinstance(one, simdjson.Object | dict):
                yield one


def _trained_agent(trace: Row) -> str | None:
    """The name of the agent; None: its tokens are not trained on."""
    agent = plain(trace.get("agent"))
    known = agent if isinstance(agent, dict) else {}
    return None if known.get("trainable") is False else str(known.get("name"))


def _numbers(value: object) -> list[float]:
    found = plain(value)
    return [x for one in found if (x := number(one)) is not None] if isinstance(found, list) else []


def _prompt(episode: Row) -> str:
    """What was asked: of the task, else the first messages that were not sampled."""
    task = plain(episode.get("task"))
    data = task.get("data") if isinstance(task, dict) else None
    asked = data.get("prompt") if isinstance(data, dict) else None
    if asked is not None:
        return as_text(asked)
    if isinstance(task, dict) and task.get("key") is not None:
        return str(task["key"])
    for trace in _each(episode.get("traces")):
        given = [plain(n.get("message")) for n in _each(trace.get("nodes")) if not n.get("sampled")]
        return as_text(given[:2])
    return ""


def _group(episode: Row, prompt: str, step: int) -> Hashable:
    group = plain(episode.get("group"))
    if isinstance(group, dict) and group.get("id") is not None:
        return str(group["id"])
    return (step, hash(prompt))


def _rewards(value: object) -> tuple[float | None, dict[str, float | None]]:
    """The weighted sum, and each reward by its name; those of weight 0 are in no sum."""
    rewards = plain(value)
    if not isinstance(rewards, dict):
        return None, {}
    parts = dict[str, float | None]()
    total, computed = 0.0, False
    for name, reward in rewards.items():
        score = number(reward.get("score")) if isinstance(reward, dict) else None
        parts[str(name)] = score
        weight = number(reward.get("weight", 1.0)) if isinstance(reward, dict) else None
        if score is not None and weight:
            total, computed = total + score * weight, True
    return (total if computed else None), parts


def _said(node: Row) -> list[str]:
    """What the model wrote in a turn: its thought and its answer."""
    message = plain(node.get("message"))
    if not isinstance(message, dict):
        return []
    parts = [message.get("reasoning_content"), message.get("content")]
    return [as_text(part) for part in parts if part]


def _is_cut(trace: Row) -> bool | None:
    stop = trace.get("stop_condition")
    if isinstance(stop, str) and stop in _LIMITS:
        return True
    reasons = [
        call.get("finish_reason")
        for call in _each(trace.get("calls"))
        if call.get("error") is None and call.get("finish_reason") is not None
    ]
    return reasons[-1] == "length" if reasons else None


def _advantages(episode: Row) -> list[tuple[str, _Trained]]:
    """The advantage of each trace: the mean over its tokens, of which there are none without."""
    found = []
    for trace in _each(episode.get("traces")):
        values = [v for node in _each(trace.get("nodes")) for v in _numbers(node.get("advantages"))]
        mean = sum(values) / len(values) if values else None
        found.append((str(trace.get("id")), _Trained(mean)))
    return found


def _version(episode: Row) -> str | None:
    for trace in _each(episode.get("traces")):
        info = plain(trace.get("verifiers"))
        if isinstance(info, dict) and info.get("version"):
            return f"verifiers {info['version']}"
    return None
