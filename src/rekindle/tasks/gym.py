"""Any reasoning-gym dataset as a task (extra [gym]); scored by the dataset itself.

The answer in a text is what its last `<answer>...</answer>` or `\\boxed{...}` holds, else the whole
text.

Several of the datasets' scorers call `eval`, or sympy's `parse_expr` which evaluates too, on what a
model wrote: there `__import__('os').system(...)` would run, and `9**9**9` would never end. They are
shown data and plain formulas alone, no code.
"""

from __future__ import annotations

import ast
import inspect
import re
import tokenize
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, cached_property
from types import ModuleType
from typing import Literal, Protocol, TypedDict, cast

from rekindle.errors import ConfigError, DataError, did_you_mean, missing_extra
from rekindle.records import Problem, Score, Split
from rekindle.rewards.reading import boxed
from rekindle.rewards.verify import UNREADABLE
from rekindle.tasks.task import pick_levels, split_of, stable_hash

_FRUITLESS = 12  # batches in a row without a new question, before a dataset counts as exhausted
_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
# What datasets raise on settings, and scorers on texts, that they cannot read.
_UNREADABLE = (*UNREADABLE, tokenize.TokenError)


# --- which texts a scorer may evaluate

Reader = Literal["python", "sympy"]

LONGEST = 10_000  # characters
LARGEST_POWER = 64
_PYTHON = re.compile(r"(?<![\w.])(?:eval|exec)\(")
_SYMPY = re.compile(r"(?:parse_expr|sympify)\(")
_OWN = re.compile(r"^def (?:parse_expr|sympify)\(", re.MULTILINE)
_FUNCTION = re.compile(r"a?(sin|cos|tan)|(sin|cos|tan)h|exp|log|ln|sqrt|Abs")
_DATA = (
    ast.Expression,
    ast.expr_context,
    ast.Constant,
    ast.Name,
    ast.List,
    ast.Tuple,
    ast.Set,
    ast.Dict,
    ast.UnaryOp,
    ast.UAdd,
    ast.USub,
)
_FORMULA = (ast.BinOp, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.Pow, ast.Call)
_OPERANDS = (ast.Name, ast.expr_context, ast.UnaryOp, ast.UAdd, ast.USub)


@cache
def reader_of(grader: Callable[..., object]) -> Reader | None:
    """How a grader's module evaluates text, if it does; the strictest where its source is hidden.

    What the module evaluates need not be the answer: then the check costs little.
    """
    module = inspect.getmodule(grader)
    try:
        source = "" if module is None else inspect.getsource(module)
    except OSError:
        return "sympy"
    if _SYMPY.search(source) and not _OWN.search(source):
        return "sympy"
    return "python" if _PYTHON.search(source) else None


def dangerous(text: str, reader: Reader) -> bool:
    """Whether evaluating the text could do more than compute a small value.

    Harmless are numbers, strings, names, lists of them, and formulas of + - * / with small powers
    and well-known functions. A text that is no Python is harmless to Python, which refuses it, but
    not to sympy, which adds rules of its own.
    """
    if len(text) > LONGEST:
        return True
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, MemoryError, RecursionError):
        return reader == "sympy"
    return not all(_harmless(node) for node in ast.walk(tree))


def _harmless(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        known = isinstance(node.func, ast.Name) and _FUNCTION.fullmatch(node.func.id) is not None
        return known and len(node.args) == 1 and not node.keywords
    if isinstance(node, ast.Name):
        return "__" not in node.id
    if isinstance(node, ast.BinOp):
        below = [inner for inner in ast.walk(node) if inner is not node]
        if not all(_is_formula(inner) for inner in below):
            return False  # [0] * 10**9
        return not _is_power(node) or (
            _is_small(node.right) and not any(_is_power(inner) for inner in below)
        )
    return isinstance(node, _DATA + _FORMULA)


def _is_power(node: ast.AST) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.Pow)


def _is_formula(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float)
    return isinstance(node, _FORMULA + _OPERANDS)


def _is_small(exponent: ast.AST) -> bool:
    if isinstance(exponent, ast.UnaryOp):
        return _is_small(exponent.operand)
    if isinstance(exponent, ast.BinOp) and isinstance(exponent.op, ast.Div):
        return _is_small(exponent.left)  # 1/3
    return (
        isinstance(exponent, ast.Constant)
        and isinstance(exponent.value, int | float)
        and abs(exponent.value) <= LARGEST_POWER
    )


# --- the task


class Entry(TypedDict):
    """One problem of a reasoning-gym dataset."""

    question: str
    answer: str | None
    metadata: Mapping[str, object]


class _Dataset(Protocol):
    def __iter__(self) -> Iterator[Entry]: ...

    def score_answer(self, answer: str | None, entry: Entry) -> float: ...


@dataclass(frozen=True)
class Gym:
    """A reasoning-gym dataset.

    Entries are generated by seed; the question's hash decides the split, so splits are disjoint.
    """

    dataset: str
    settings: Mapping[str, object]
    module: ModuleType = field(repr=False)
    datasets: Mapping[str, tuple[type[_Dataset], object]] = field(repr=False)  # class and config
    name: str = "gym"
    levels: tuple[str, ...] = ("",)
    stop: tuple[str, ...] = ()
    max_new_tokens: int = 256

    def problems(
        self, split: Split, *, count: int, seed: int, levels: Sequence[str] | None = None
    ) -> list[Problem]:
        """Distinct questions of a split."""
        pick_levels(self.name, self.levels, levels)
        return self._list(split, count, stable_hash("list", split, seed), distinct=True)

    def draw(
        self, *, step: int, count: int, seed: int, levels: Sequence[str] | None = None
    ) -> list[Problem]:
        """Training questions of one step."""
        pick_levels(self.name, self.levels, levels)
        return self._list("train", count, stable_hash("draw", seed, step), distinct=False)

    def grade(self, problem: Problem, text: str) -> Score:
        """The dataset's score in [0, 1], partial credit included; missing when its scorer fails.

        An answer that is code, where the scorer would run it, scores 0.
        """
        entry, answer = cast(Entry, problem.meta["entry"]), extract(text)
        reader = self._reader(entry)
        if reader is not None and answer != entry["answer"] and dangerous(answer, reader):
            return Score(0.0)
        try:
            value = float(self._scorer.score_answer(answer, entry))
        except _UNREADABLE as error:
            return Score.missing(f"the dataset's scorer failed: {type(error).__name__}")
        if not 0.0 <= value <= 1.0:
            return Score.missing("the dataset's scorer gave a value outside [0, 1]")
        return Score(value)

    def answer_of(self, problem: Problem, text: str) -> str | None:
        """The answer in the text, as it is graded."""
        return extract(text) or None

    def fingerprint(self) -> str:
        """Dataset, settings and the library's version."""
        from importlib.metadata import version

        parts = (self.dataset, sorted(self.settings.items()), version("reasoning-gym"))
        return f"{stable_hash(*parts):016x}"

    def generate(self, seed: int, size: int) -> _Dataset:
        """`size` entries by the dataset's own generator."""
        entries: _Dataset = self.module.create_dataset(
            self.dataset, seed=seed % 2**31, size=size, **self.settings
        )
        return entries

    @cached_property
    def _scorer(self) -> _Dataset:
        return self.generate(0, 1)

    def _reader(self, entry: Entry) -> Reader | None:
        # A composite hands each entry to the dataset that it came from.
        source = str(entry["metadata"].get("source_dataset", self.dataset))
        known = self.datasets.get(source)
        return reader_of((type(self._scorer) if known is None else known[0]).score_answer)

    def _list(self, split: Split, count: int, seed: int, *, distinct: bool) -> list[Problem]:
        seen: set[str] = set()
        listed: list[Problem] = []
        attempt = fruitless = 0
        while len(listed) < count and fruitless < _FRUITLESS:
            before = len(listed)
            for entry in self.generate(stable_hash(seed, attempt), 2 * count + 8):
                question = entry["question"]
                if split_of(question) != split or (distinct and question in seen):
                    continue
                seen.add(question)
                listed.append(self._problem(entry))
                if len(listed) == count:
                    break
            attempt += 1
            fruitless = 0 if len(listed) > before else fruitless + 1
        if len(listed) < count:
            raise DataError(
                f"reasoning-gym dataset '{self.dataset}' has too few {split} questions",
                got=f"{count} requested",
                wanted=f"at most about {len(listed)}",
                fix="ask for fewer, or make the dataset's settings wider",
            )
        return listed

    def _problem(self, entry: Entry) -> Problem:
        answer = None if entry["answer"] is None else str(entry["answer"])
        return Problem(
            id=f"{self.dataset}-{stable_hash(entry['question']):016x}",
            prompt=entry["question"],
            answer=answer,
            task=f"gym/{self.dataset}",
            solution=answer,
            meta={"entry": dict(entry)},
        )


def extract(text: str) -> str:
    """The answer that a text gives."""
    tagged = _TAGGED.findall(text)
    inside = tagged[-1] if tagged else boxed(text)
    return str(text if inside is None else inside).strip()


def load_gym(settings: Mapping[str, object]) -> Gym:
    """A reasoning-gym task from `dataset` and the dataset's own settings.

    Raises:
        ConfigError: unknown dataset (a near name is suggested) or settings that it refuses.
        MissingExtraError: reasoning-gym is not installed.
    """
    rest = dict(settings)
    dataset = rest.pop("dataset", None)
    if dataset is None:
        raise ConfigError("task 'gym' needs a dataset", fix="--set task.args.dataset=chain_sum")
    try:
        import reasoning_gym
        from reasoning_gym.composite import DatasetSpec
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise missing_extra("reasoning-gym", extra="gym", needed_for="task 'gym'") from error
    if not isinstance(dataset, str) or dataset not in DATASETS:
        raise ConfigError(
            f"reasoning-gym has no dataset '{dataset}'", fix=did_you_mean(str(dataset), DATASETS)
        )
    try:
        if dataset == "composite":
            specs = cast(Sequence[Mapping[str, object]], rest.get("datasets", ()))
            rest["datasets"] = [
                spec
                if isinstance(spec, DatasetSpec)
                else DatasetSpec(**{"weight": 1.0, "config": {}, **spec})
                for spec in specs
            ]
        task = Gym(dataset=dataset, settings=rest, module=reasoning_gym, datasets=DATASETS)
        task.generate(0, 1)
    except _UNREADABLE as error:
        raise ConfigError(
            f"reasoning-gym dataset '{dataset}' refuses its settings",
            got=settings,
            why=f"{type(error).__name__}: {error}",
        ) from error
    return task
