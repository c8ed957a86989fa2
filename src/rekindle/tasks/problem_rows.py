"""Problems from rows of data: what a row must hold, and what is made of what the field writes.

    GSM8K    an answer that ends in `#### x`: x is the answer, the whole text the solution
    MATH     a solution with `\\boxed{x}` and no answer: the last x is the answer
    Alpaca   instruction and input are joined by a blank line
    verl     a list of one answer, also one written as JSON, is that answer

What is done, and what is not read, is counted: `RowReader.notes`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from rekindle.errors import ConfigError, DataError, did_you_mean
from rekindle.records import Problem
from rekindle.rewards.code import read_tests
from rekindle.rewards.verifiers.reading import boxed
from rekindle.tasks.arrow_files import Media
from rekindle.tasks.chats import Turns, is_chat, read_turns, sound_text
from rekindle.tasks.formats import FIELDS, Layout, filled, layout_of, unread, value_at
from rekindle.tasks.text_files import Table, loads

_OWN_INPUTS = {"prompt", "messages"}


class _Gold(NamedTuple):
    answer: str | None
    note: str = ""


@dataclass
class RowReader:
    """Reads the rows of one source, and notes how.

    Args:
        columns: field -> column, which the user has decided.
        needs_answer: rows must have something to check an answer against; without, all other
            columns are in `Problem.meta`.
        verifier: how answers are compared.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    needs_answer: bool = True
    verifier: str = "numeric"
    counts: dict[str, Counter[str]] = field(default_factory=dict)  # of a table: note -> rows
    splits: list[str | None] = field(default_factory=list)  # that the rows themselves name
    seen: dict[str, str] = field(default_factory=dict)  # id -> place

    def problems(self, table: Table) -> Iterator[Problem]:
        """A Problem of each row.

        Raises:
            ConfigError: a chosen column that the table does not have.
            DataError: a row cannot be used, is laid out unlike those before, or its id occurred
                before; both places are named.
        """
        self._check_chosen(table, table.columns)
        name = table.where.strip(" :").removesuffix("row").strip() or "rows"
        count = self.counts.setdefault(name, Counter())
        layouts: dict[frozenset[str], Layout] = {}
        names, first = dict[str, None](), None
        for number, row in table.rows:
            where = f"{table.where}{number}"
            if not isinstance(row, Mapping):
                raise DataError(f"{where} is no mapping", got=row, wanted="'prompt', 'answer', ...")
            names.update(dict.fromkeys(row))
            there = filled(row)
            if there not in layouts:
                layouts[there] = layout_of(there, self.columns, where)
            layout = layouts[there]
            first = first or (where, layout)
            _refuse_mixture(first, where, layout)
            try:
                yield self._problem(row, layout, where, f"{table.stem}-{number}", count)
            except DataError:
                self._check_chosen(table, tuple(names))
                raise
        self._check_chosen(table, tuple(names))

    def notes(self) -> tuple[str, ...]:
        """What was done to how many rows of each table, in sentences."""
        return tuple(
            f"{where}: {rows:,} row{'s' * (rows != 1)}: {note}"
            for where, count in self.counts.items()
            for note, rows in count.items()
        )

    def _problem(
        self, row: Mapping[str, object], layout: Layout, where: str, name: str, count: Counter[str]
    ) -> Problem:
        _refuse_media(row, self.columns, where)
        fields = {key: value_at(row, column) for key, column in layout.columns().items()}
        count[_reading(layout)] += 1
        others = unread(row, layout)
        if others:
            count[f"not read: {', '.join(others)}"] += 1
        if layout.input and (below := read_text(fields, "input", where)):
            fields["prompt"] = f"{fields['prompt']}\n\n{below}"
            count["the prompt is 'instruction', a blank line and 'input'"] += 1
        gold = self._gold(fields, where)
        count.update([gold.note] if gold.note else [])
        worked = layout.worked and read_text(fields, "worked", where)
        if worked and worked != gold.answer and fields.get("solution") is None:
            fields["solution"] = worked
        problem = self._made({**fields, "answer": gold.answer}, row, where, name, count)
        self.splits.append(None if layout.split == "" else str(fields["split"]))
        if problem.id in self.seen:
            raise DataError(
                f"the id '{problem.id}' occurs twice",
                got=f"{self.seen[problem.id]} and {where}",
                why="results are matched by id",
                fix="give each row an id of its own, or none",
            )
        self.seen[problem.id] = where
        return problem

    def _made(
        self,
        fields: Mapping[str, object],
        row: Mapping[str, object],
        where: str,
        name: str,
        count: Counter[str],
    ) -> Problem:
        messages, prompt, solution = _texts(fields, row, where)
        answer = read_text(fields, "answer", where)
        answer, solution, note = _parted(answer, solution, fields.get("tests") is not None)
        count.update([note] if note else [])
        tests = None if fields.get("tests") is None else read_tests(fields["tests"], where=where)
        if self.needs_answer and answer is None and solution is None and tests is None:
            raise _no_answer(row, where)
        if answer is not None and not answer.strip():
            raise DataError(
                f"{where} has an empty 'answer'", got=dict(row), wanted="a text or number"
            )
        others = {} if self.needs_answer else {k: v for k, v in row.items() if k not in FIELDS[:-1]}
        return Problem(
            id=name if fields.get("id") is None else str(fields["id"]),
            prompt=prompt if prompt is not None else messages[-1][1],
            answer=answer,
            task=name.rpartition("-")[0],
            level="" if fields.get("level") is None else str(fields["level"]),
            solution=solution,
            messages=messages or None,
            meta=others if tests is None else {**others, "tests": tests},
            place=where,
        )

    def _gold(self, fields: Mapping[str, object], where: str) -> _Gold:
        """The answer as one text, where it is a list of one or JSON."""
        value = fields.get("answer")
        if isinstance(value, str) and value.lstrip()[:1] in ("[", "{", '"'):
            return self._gold_of_json(value, where)
        if isinstance(value, Mapping | list | tuple) and not self.needs_answer:
            return _Gold(None)  # a reward in Python reads it from problem.meta
        if isinstance(value, list | tuple) and len(value) == 1 and not isinstance(value[0], list):
            one = read_text({"answer": value[0]}, "answer", where)
            return _Gold(one, "'answer' is a list of one, which is the answer")
        if isinstance(value, Mapping | list | tuple):
            raise _many(value, where)
        return _Gold(read_text(fields, "answer", where))

    def _gold_of_json(self, text: str, where: str) -> _Gold:
        try:
            value = loads(text)
        except (ValueError, RecursionError):
            return _Gold(text)
        items = value if isinstance(value, list) else [value]
        single = len(items) == 1 and isinstance(items[0], str | int | float)
        if not self.needs_answer or (self.verifier == "exact" and single):
            note = "'answer' is JSON, and answers must be written like it" if single else ""
            return _Gold(text, note)
        if single and not isinstance(items[0], bool):
            what = (
                "a JSON list of one, which"
                if value is items
                else "in JSON's quotes, what is in them"
            )
            return _Gold(str(items[0]), f"'answer' is {what} is the answer")
        if isinstance(value, dict) or any(isinstance(item, str | dict) for item in items):
            raise _many(text, where)
        return _Gold(text)  # [1, 2] is an interval or a list of numbers

    def _check_chosen(self, table: Table, names: tuple[str, ...]) -> None:
        if not names:
            return
        for theirs in self.columns.values():
            if theirs not in names and theirs.partition(".")[0] not in names:
                place = table.where.removesuffix("row ").strip(" :")
                raise ConfigError(
                    f"{place} has no column '{theirs}'", fix=did_you_mean(theirs, names)
                )


# --- parts of a row


def read_text(row: Mapping[str, object], name: str, where: str) -> str | None:
    """A field that is a text or number, as it is written; None where there is none.

    Raises:
        DataError: it is something else.
    """
    value = row.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise DataError(
            f"{where}: '{name}' is not a text",
            got=value,
            wanted="a text or number",
            fix="write truth values, dates and times as texts: how they are written is part of "
            "the answer",
        )
    text = sound_text(str(value), where, name)
    if isinstance(value, float) and not math.isfinite(value) and text.lower().strip("-") in _NONE:
        raise DataError(f"{where}: '{name}' is not a number", got=value, wanted="a finite number")
    return text


_NONE = ("nan", "inf", "infinity")


def _texts(
    fields: Mapping[str, object], row: Mapping[str, object], where: str
) -> tuple[Turns, str | None, str | None]:
    """The chat without its last answer, the prompt, and the solution."""
    chat, ask = fields.get("messages"), fields.get("prompt")
    messages: Turns = () if chat is None else read_turns(chat, where, "messages")
    if is_chat(ask):
        messages, ask = messages or read_turns(ask, where, "prompt"), None
    if system := read_text(fields, "system", where):
        messages = (("system", system), *messages)
    solution = _solution(fields, where)
    if messages and messages[-1][0] == "assistant":
        last, messages = messages[-1][1], messages[:-1]
        if solution is not None and solution.strip() != last.strip():
            raise DataError(
                f"{where} has two solutions",
                got=f"'solution' {solution[:60]!r}, the last message {last[:60]!r}",
                wanted="one: both say what is learnt",
                fix="leave one out, or say which: --set task.columns.messages=messages",
            )
        solution = last if solution is None else solution
    prompt = None if ask is None else read_text({"prompt": ask}, "prompt", where)
    if prompt is not None and not prompt.strip() and not messages:
        raise DataError(f"{where} has an empty 'prompt'", got=dict(row), wanted="a text")
    if prompt is None and not messages:
        raise DataError(
            f"{where} has no 'prompt'",
            got=dict(row),
            wanted="a 'prompt' (text), or 'messages' (a list of role and content)",
            why="the prompt is the input of the model",
            fix=f"say which column it is: --set task.columns.prompt=NAME. {_prompt_fix(row)}",
        )
    return messages, prompt, solution


def _solution(fields: Mapping[str, object], where: str) -> str | None:
    value = fields.get("solution")
    if not is_chat(value):
        return read_text(fields, "solution", where)
    turns = read_turns(value, where, "completion")
    if len(turns) != 1 or turns[0][0] != "assistant":
        raise DataError(
            f"{where}: the completion is not one answer",
            got=[role for role, _ in turns],
            wanted="one message by the assistant",
            fix="put the earlier turns into 'prompt'",
        )
    return turns[0][1]


def _parted(
    answer: str | None, solution: str | None, tested: bool
) -> tuple[str | None, str | None, str]:
    """Answer and solution where the data has both in one text."""
    if answer is not None and solution is None and "####" in answer:
        last = answer.rsplit("####", 1)[1].strip().split("\n")[0]
        if last:
            return (
                last,
                answer,
                "the answer is what follows '####' (GSM8K), the whole text the solution",
            )
    if answer is None and solution is not None and not tested:
        inside = boxed(solution)
        if inside is not None and inside.strip():
            return inside, solution, r"the answer is the last \boxed{} of the solution"
    return answer, solution, ""


# --- notes and refusals


def _reading(layout: Layout) -> str:
    """Which columns are read as what; a format's name where it has one."""
    pairs = [
        name if name == column else f"{name} = {column}"
        for name, column in layout.columns().items()
        if name != "input"
    ]
    name = layout.name()
    return f"read as {name}: {', '.join(pairs)}" if name else f"read: {', '.join(pairs)}"


def _refuse_mixture(first: tuple[str, Layout], where: str, layout: Layout) -> None:
    """Rows of one table ask in one way; our own prompt and messages may take turns."""
    before, layout_before = first
    ours, theirs = layout_before.source, layout.source
    if ours == theirs or not theirs or not ours or {ours, theirs} <= _OWN_INPUTS:
        return
    raise DataError(
        f"{where} is laid out unlike the rows before",
        got=f"its input is '{theirs}'; that of {before} is '{ours}'",
        wanted="one layout in a file",
        fix="put rows of different data sets into files of their own",
    )


def _refuse_media(row: Mapping[str, object], columns: Mapping[str, str], where: str) -> None:
    for name, value in row.items():
        if isinstance(value, Media) and not {"prompt", "messages"} & columns.keys():
            raise DataError(
                f"{where} has more than text in column '{name}'",
                got=value,
                wanted="columns of texts and numbers",
                why="a language model does not see it, and the answer may depend on it",
                fix="if the texts suffice, say which: --set task.columns.prompt=NAME",
            )


def _many(value: object, where: str) -> DataError:
    return DataError(
        f"{where}: 'answer' is not one answer",
        got=value,
        wanted="one text or number",
        why="no answer of a model would ever equal a list or an object",
        fix="keep the one that is right, or grade by a reward in Python, which gets the row: "
        "--set task.verifier=package.module:function",
    )


def _no_answer(row: Mapping[str, object], where: str) -> DataError:
    pairs = "give a file of pairs as pairs (diagnose: --pairs FILE; training: dpo.pairs)"
    name = "say which column it is: --set task.columns.answer=NAME, or task.columns.solution=NAME"
    return DataError(
        f"{where} has no 'answer'",
        got=dict(row),
        wanted="an 'answer' to check against ('tests' for programs, a 'solution' for SFT)",
        why="without one of them there is nothing to check or to learn",
        fix=pairs if "chosen" in row and "rejected" in row else name,
    )


def _prompt_fix(row: Mapping[str, object]) -> str:
    return did_you_mean("prompt", row) if row else "add a 'prompt' to each row"


def rows_table(rows: Iterable[Mapping[str, object]], where: str, stem: str) -> Table:
    """Rows in memory, counted from 1."""
    return Table(where, stem, enumerate(rows, 1))
