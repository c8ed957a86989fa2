"""Which columns hold the prompt, the answer and the solution, by the names that the field uses.

Our own names win: `prompt` or `messages`, `answer`, `solution`, `id`, `level`, `tests`. Then come
those of TRL, GSM8K, MATH, Alpaca, ShareGPT and verl. Where two columns of other names could be
meant, neither is read: `task.columns` says which.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

from rekindle.errors import ConfigError, DataError
from rekindle.tasks.task import refuse_unknown
from rekindle.tasks.text_files import loads

FIELDS = ("prompt", "messages", "answer", "solution", "id", "level", "tests", "split")
_CHATS = ("conversations", "conversation")
_PROMPTS = ("question", "problem", "instruction", "query")
_ANSWERS = ("reward_model.ground_truth", "expected_answer", "final_answer", "ground_truth")
_SOLUTIONS = ("completion", "response", "output", "generated_solution")


class Layout(NamedTuple):
    """The column of each field; "" where there is none."""

    prompt: str = ""
    messages: str = ""
    answer: str = ""
    solution: str = ""
    id: str = ""
    level: str = ""
    tests: str = ""
    split: str = ""
    input: str = ""  # Alpaca's, below the instruction
    worked: str = ""  # verl's worked answer, the solution where it is more than the answer
    system: str = ""  # ShareGPT's

    @property
    def source(self) -> str:
        """The column of the input, which all rows of a table must share."""
        return self.messages or self.prompt

    def columns(self) -> dict[str, str]:
        """Field -> column, of those that there are."""
        return {name: column for name, column in self._asdict().items() if column}

    def name(self) -> str:
        """What the field calls rows of these columns; "" where it has no name."""
        if self.answer == "reward_model.ground_truth":
            return "verl"
        if self.messages in _CHATS:
            return "ShareGPT"
        if self.prompt == "instruction" and self.solution == "output":
            return "Alpaca"
        if self.prompt == "problem" and self.solution == "solution":
            return "MATH"
        return "TRL" if self.solution == "completion" or self.messages == "messages" else ""


def layout_of(columns: Collection[str], chosen: Mapping[str, str], where: str) -> Layout:
    """The columns of each field among those that a row has a value in.

    Args:
        columns: names of the row's columns, with dots those inside `reward_model`, `extra_info`.
        chosen: field -> column, which a user has decided.
        where: the row, for errors.

    Raises:
        DataError: two columns could be meant.
    """
    prompt, messages = _inputs(columns, chosen, where)
    alpaca = prompt == "instruction" and "input" in columns and "input" not in chosen.values()
    solutions = () if messages else _SOLUTIONS
    return Layout(
        prompt=prompt,
        messages=messages,
        answer=_pick("answer", columns, chosen, _ANSWERS, where),
        solution=_pick("solution", columns, chosen, solutions, where),
        input="input" if alpaca else "",
        worked="extra_info.answer" if "extra_info.answer" in columns else "",
        system="system" if messages in _CHATS and "system" in columns else "",
        id=_pick("id", columns, chosen, (), where),
        level=_pick("level", columns, chosen, (), where),
        tests=_pick("tests", columns, chosen, (), where),
        split=chosen.get("split", "extra_info.split" if "extra_info.split" in columns else ""),
    )


def _inputs(columns: Collection[str], chosen: Mapping[str, str], where: str) -> tuple[str, str]:
    """The columns of the prompt and of the chat."""
    if "prompt" in chosen or "messages" in chosen:
        return chosen.get("prompt", ""), chosen.get("messages", "")
    if "prompt" in columns or "messages" in columns:
        return "prompt" * ("prompt" in columns), "messages" * ("messages" in columns)
    prompts = [name for name in _PROMPTS if name in columns]
    if not prompts and "input" in columns:
        prompts = ["input"]
    chats = [name for name in _CHATS if name in columns]
    if len(prompts) + len(chats) > 1:
        raise _two("prompt", [*prompts, *chats], where)
    return "".join(prompts), "".join(chats)


def _pick(
    field: str,
    columns: Collection[str],
    chosen: Mapping[str, str],
    others: tuple[str, ...],
    where: str,
) -> str:
    if field in chosen:
        return chosen[field]
    if field in columns and field not in chosen.values():
        return field
    fits = [name for name in others if name in columns and name not in chosen.values()]
    if len(fits) > 1:
        raise _two(field, fits, where)
    return "".join(fits)


def _two(field: str, names: list[str], where: str) -> DataError:
    return DataError(
        f"{where} can be read in two ways: its {field} may be {' or '.join(map(repr, names))}",
        why="nothing is guessed between two readings",
        fix=f"say which: --set task.columns.{field}={names[0]} (or {names[1]})",
    )


def check_columns(columns: Mapping[str, str], where: str = "task.columns") -> Mapping[str, str]:
    """The columns that a user chose, field -> theirs.

    Raises:
        ConfigError: a field that no row has.
    """
    refuse_unknown("from a file", columns, FIELDS, where)
    empty = [name for name, column in columns.items() if not column]
    if empty:
        raise ConfigError(f"{where}.{empty[0]} is empty", wanted="the name of a column")
    return columns


def filled(row: Mapping[str, object]) -> frozenset[str]:
    """The names of columns with a value, those inside verl's two columns with a dot."""
    names = {name for name, value in row.items() if value is not None}
    for outer in ("reward_model", "extra_info"):
        inner = _inside(row.get(outer))
        names |= {f"{outer}.{name}" for name, value in inner.items() if value is not None}
    return frozenset(names)


def value_at(row: Mapping[str, object], column: str) -> object:
    """The value of a column; a name with dots leads into columns that hold others."""
    if column in row or "." not in column:
        return row.get(column)
    outer, _, rest = column.partition(".")
    return value_at(_inside(row.get(outer)), rest)


def unread(row: Mapping[str, object], layout: Layout) -> list[str]:
    """Columns with something in them that no field is read from."""
    used = {column.partition(".")[0] for column in layout.columns().values()}
    return [name for name, value in row.items() if value not in (None, "", []) and name not in used]


def _inside(value: object) -> Mapping[str, object]:
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            value = loads(value)
        except (ValueError, RecursionError):
            return {}
    return value if isinstance(value, Mapping) else {}
