"""What Weak-to-Strong's pairs are made from: a question, the weak model's answer, the strong one's.

    {"id", "prompt", "weak": {"text", "answer"}, "samples": [{"text", "answer"}, ...]}

`answer` is what was read out of the text; null: nothing; left out: what the text marks as its
answer. `source` (the hash of the model that wrote the text) goes on to the pairs, as do `messages`.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any, Literal, NamedTuple, NotRequired, TypedDict, TypeVar

from rekindle.errors import DataError
from rekindle.loops.stages import GeneratedRow
from rekindle.rewards.answers import answer_of_text, canonical_answer
from rekindle.tasks.pairs import PairRow
from rekindle.tasks.task import stable_hash

Equality = Literal["canonical", "strict"]
RowsT = TypeVar("RowsT")
NO_ANSWER, DIFFERENT = "the weak model gives no answer", "the answers differ"
NO_WINNER, FEW_VOTES = "no answer wins the vote", "low confidence"


class TextRow(TypedDict):
    """A text that is trained on, and its question."""

    id: str
    prompt: str
    text: str


class KeptRow(GeneratedRow):
    """An answer that the filter keeps, and whose it is."""

    side: Literal["weak", "icl"]


class WeakPairRow(PairRow):
    """A pair, which side of it the weak model wrote, and the share of the votes."""

    weak_side: Literal["chosen", "rejected"]
    confidence: float
    chosen_source: NotRequired[str]
    rejected_source: NotRequired[str]


class Answer(NamedTuple):
    """A text, and the canonical form of its answer; None: it has none."""

    text: str
    form: str | None
    source: str | None = None


class Question(NamedTuple):
    """A question, and who answers it how."""

    id: str
    prompt: str
    weak: Answer
    samples: tuple[Answer, ...]
    messages: Sequence[Sequence[str]] | None = None


class Consistent(NamedTuple):
    """What the filter keeps: both texts, question by question."""

    hybrid: list[KeptRow]
    dropped: Counter[str]


class QuestionPairs(NamedTuple):
    """The pairs of a question, or the reason why there is none."""

    pairs: list[WeakPairRow]
    reason: str | None = None


class Vote(NamedTuple):
    """The commonest answer (None: no answer is), how often of how many, and who says what."""

    answer: str | None
    votes: int
    n: int
    agree: list[Answer]
    differ: list[Answer]


def read_question(row: Mapping[str, Any], *, equality: Equality = "canonical") -> Question:
    """A row as a question.

    Raises:
        DataError: a field is missing or of the wrong kind; the row is named.
    """
    if row.get("id") is None:
        raise DataError("a row has no 'id'", got=dict(row), wanted="an id, to name it by")
    if not isinstance(row.get("prompt"), str):
        raise DataError(
            f"row '{row['id']}' has no 'prompt'", got=row.get("prompt"), wanted="a text"
        )
    samples = row.get("samples")
    if not isinstance(samples, Sequence) or isinstance(samples, str) or not samples:
        raise DataError(
            f"row '{row['id']}' has no 'samples'",
            got=samples,
            wanted='a list of {"text", "answer"}, one at least',
            why="there is no vote without samples",
        )
    return Question(
        row["id"],
        row["prompt"],
        read_answer(row["id"], "weak", row.get("weak"), equality=equality),
        tuple(read_answer(row["id"], "samples", sample, equality=equality) for sample in samples),
        row.get("messages"),
    )


def read_answer(
    name: object, field: str, entry: object, *, equality: Equality = "canonical"
) -> Answer:
    """An entry of row `name` as an answer; `strict`: its form is what is written, spaces folded.

    Raises:
        DataError: it has no text, or an answer that is neither text, number nor null.
    """
    if not isinstance(entry, Mapping) or not isinstance(entry.get("text"), str):
        raise DataError(
            f"row '{name}': '{field}' has no text", got=entry, wanted='{"text": ..., "answer": ...}'
        )
    answer = entry["answer"] if "answer" in entry else answer_of_text(entry["text"])
    fine = isinstance(answer, str | int | float | None) and not isinstance(answer, bool)
    if not fine or (isinstance(answer, float) and not math.isfinite(answer)):
        raise DataError(
            f"row '{name}': '{field}' has no usable answer",
            got=answer,
            wanted="a text, a number, or null where the text has none",
        )
    form = None if answer is None else " ".join(str(answer).split()) or None
    if equality == "canonical":
        form = canonical_answer(form)
    return Answer(entry["text"], form, entry.get("source"))


def refuse_other_questions(weak: Sequence[GeneratedRow], icl: Sequence[GeneratedRow]) -> None:
    """Both must answer the same questions in the same order.

    Raises:
        DataError: they do not; the first that differ are shown.
    """
    questions = [[(row["id"], row["prompt"]) for row in rows] for rows in (weak, icl)]
    if questions[0] != questions[1]:
        unlike = [pair for pair in zip(*questions, strict=False) if pair[0] != pair[1]]
        raise DataError(
            "the two models were asked different questions",
            got=unlike[:3] or f"{len(weak)} and {len(icl)} answers",
            wanted="the same ids and prompts in the same order",
        )


def draw_rows(rows: Sequence[RowsT], count: int, *, role: str, seed: int) -> list[RowsT]:
    """`count` of the rows, or all, drawn at random, in their order."""
    rng = random.Random(stable_hash(f"w2s {role}", seed))
    return [rows[i] for i in sorted(rng.sample(range(len(rows)), min(count, len(rows))))]


def vote(samples: Sequence[Answer]) -> Vote:
    """The commonest answer, of equally common ones the first; no answer has a vote as well."""
    counts = Counter(sample.form for sample in samples)
    [(winner, count)] = counts.most_common(1)
    agree = [sample for sample in samples if sample.form == winner]
    differ = [sample for sample in samples if sample.form != winner]
    return Vote(winner, count, len(samples), agree, differ)


def at_least(count: int, n: int, share: float) -> bool:
    """count / n >= share, exactly, the share being the decimal that it is written as."""
    return count >= Fraction(str(share)) * n


def pair_of(
    question: Question, chosen: Answer, rejected: Answer, *, confidence: float
) -> WeakPairRow:
    """A pair as plain data; the weak model's side is named."""
    row: WeakPairRow = {
        "id": question.id,
        "prompt": question.prompt,
        "chosen": chosen.text,
        "rejected": rejected.text,
        "weak_side": "chosen" if chosen is question.weak else "rejected",
        "confidence": confidence,
    }
    if chosen.source is not None:
        row["chosen_source"] = chosen.source
    if rejected.source is not None:
        row["rejected_source"] = rejected.source
    if question.messages is not None:
        row["messages"] = question.messages
    return row


def drop_repeats(answers: Sequence[Answer], *, other_than: str) -> list[Answer]:
    """Each text once, in order, without the text that is on the other side of the pair."""
    first: dict[str, Answer] = {}
    for answer in answers:
        first.setdefault(answer.text, answer)
    first.pop(other_than, None)
    return list(first.values())
