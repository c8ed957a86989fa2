"""What is looked at once data is loaded: problems that splits share, golds that nothing matches."""

from __future__ import annotations

import re
import unicodedata
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import NamedTuple

from rekindle.errors import DataError
from rekindle.records import Problem
from rekindle.rewards.workers import POOLED
from rekindle.tasks.rows import Listed
from rekindle.tasks.task import Task

_IN_POOL = 200  # golds that a verifier in processes is asked about
_FORMS = ("{}", "\\boxed{{{}}}", "<answer>{}</answer>", "#### {}")  # of an answer that is the gold
_MARKS = re.compile(r"""(?<!\d)[.,:]|[.,:](?!\d)|[;?"'“”‘’`´]|!(?=\s|$)""")
_BLANKS = re.compile(r"(?<=\w)\s+(?=\w)")


@dataclass(frozen=True)
class Unmatched:
    """A gold that the verifier accepts in no form, and what it said."""

    id: str
    gold: str
    reason: str


@dataclass(frozen=True)
class GoldCheck:
    """Of so many different golds, those that are checked, and those that no answer matches."""

    golds: int
    checked: int
    unmatched: tuple[Unmatched, ...] = ()

    def sentence(self) -> str:
        """What was seen, with the first such golds; "" where all is well."""
        if not self.unmatched:
            return ""
        few = "; ".join(f"{one.id}: {one.gold[:60]!r} ({one.reason})" for one in self.unmatched[:3])
        return (
            f"{len(self.unmatched):,} of {self.checked:,} golds match no answer, not even "
            f"themselves: {few}"
        )


def check_golds(task: Task) -> GoldCheck:
    """Grade each gold of listed problems against itself, as it is and marked as an answer.

    All different golds are graded; of a verifier that works in processes 200, spread over the data.
    Tasks that check answers by something else than a gold have none.
    """
    if not isinstance(task, Listed) or task.verifier == "code":
        return GoldCheck(0, 0)
    golds = {
        problem.answer: problem
        for problems in task.splits.values()
        for problem in reversed(problems)
        if problem.answer is not None
    }
    listed = [golds[gold] for gold in sorted(golds)]
    step = max(1, len(listed) // _IN_POOL) if task.verifier in POOLED else 1
    checked = left = listed[::step][:_IN_POOL] if task.verifier in POOLED else listed
    reasons: dict[str, str] = {}
    for form in _FORMS:
        scores = task.grade_many([(problem, form.format(problem.answer)) for problem in left])
        pairs = list(zip(left, scores, strict=True))
        left = [problem for problem, score in pairs if not score.value]
        reasons |= {p.id: s.reason or "graded 0" for p, s in pairs if p.id not in reasons}
        if not left:
            break
    unmatched = tuple(Unmatched(p.id, str(p.answer), reasons[p.id]) for p in left)
    return GoldCheck(len(golds), len(checked), unmatched)


def tell_golds(task: Task) -> None:
    """Warn of golds that no answer can match.

    Raises:
        DataError: no gold at all can be matched.
    """
    check = check_golds(task)
    if not check.unmatched:
        return
    if len(check.unmatched) == check.checked:
        raise DataError(
            f"no answer can be right in task '{task.name}'",
            got=check.sentence(),
            why="the verifier does not even accept the golds themselves, so every score is 0",
            fix="choose the verifier that fits them (--set task.verifier=exact, numeric or math), "
            "or mend the answers",
        )
    warnings.warn(f"task '{task.name}': {check.sentence()}", stacklevel=2)


# --- splits


class SharedRows(NamedTuple):
    """How many problems of `split` are in `other` too: by their text, and beyond these by the text
    without case, blanks and punctuation."""

    split: str
    other: str
    size: int
    by_text: tuple[str, ...]  # ids, in `split`
    by_normal_text: tuple[str, ...]

    def sentence(self) -> str:
        """The counts, with the first ids."""
        first = ", ".join([*self.by_text, *self.by_normal_text][:3])
        return (
            f"{len(self.by_text):,} of {self.size:,} {self.split} problems are in {self.other} "
            f"too, and {len(self.by_normal_text):,} more but for case, blanks and punctuation: "
            f"{first}"
        )


def shared_rows(splits: Mapping[str, Sequence[Problem]]) -> list[SharedRows]:
    """What splits share, each pair of splits once, the training split first."""
    order = [split for split in ("train", "dev", "test") if split in splits]
    texts = {split: [_text(problem) for problem in splits[split]] for split in order}
    normal = {split: [normal_text(text) for text in texts[split]] for split in order}
    found = []
    for other, split in combinations(order, 2):
        exact, alike = {*texts[other]}, {*normal[other]}
        rows = list(zip(splits[split], texts[split], normal[split], strict=True))
        by_text = tuple(p.id for p, text, _ in rows if text in exact)
        by_normal = tuple(p.id for p, text, plain in rows if text not in exact and plain in alike)
        if by_text or by_normal:
            found.append(SharedRows(split, other, len(rows), by_text, by_normal))
    return found


def refuse_shared(splits: Mapping[str, Sequence[Problem]], *, tell: bool) -> list[str]:
    """Refuse problems that splits share, or warn of them; what was told.

    Raises:
        DataError: splits share a problem, and `tell` is not set.
    """
    told = [shared.sentence() for shared in shared_rows(splits)]
    if told and not tell:
        raise DataError(
            "splits share problems",
            got="; ".join(told),
            wanted="no problem of dev or test in train, nor of test in dev",
            why="a score on problems that were trained on says nothing of others, and nobody "
            "would see it in the score",
            fix="remove them from train, or --set task.shared_rows=tell to go on all the same",
        )
    for sentence in told:
        warnings.warn(sentence, stacklevel=2)
    return told


def normal_text(text: str) -> str:
    """A text without case, blanks around signs, and punctuation; numbers and signs of arithmetic
    stay as they are."""
    folded = _MARKS.sub("", unicodedata.normalize("NFKC", text).casefold())
    return "".join(_BLANKS.sub("\0", folded).split()).replace("\0", " ")


def _text(problem: Problem) -> str:
    turns: Iterable[tuple[str, str]] = problem.messages or (("user", problem.prompt),)
    return "\x1e".join(content for _, content in turns)
