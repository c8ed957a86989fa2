"""A reward of the user's own in Python: found, called, checked, and known by its source.

    def reward(problems, texts):             # one answer an entry; problems may repeat
        return [float("because" in text) for text in texts]

It returns one score an answer, in order: a finite number, or None where there is none (missing,
never 0). It is given in Python (`train(recipe, out, reward=reward)`), or by its place in a recipe
(`task.verifier: my_rewards:reward`). An object with `__call__` and `fingerprint()` says itself what
identifies it; of a function that is its source, with that of the functions and the plain values of
its module that it uses.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import inspect
import math
import os
import re
import sys
import traceback
from collections.abc import Callable, Collection, Mapping, Sequence, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import CodeType, FunctionType, ModuleType
from typing import Protocol, SupportsFloat, runtime_checkable

from rekindle.errors import ConfigError, RekindleError, RewardFunctionError, did_you_mean
from rekindle.records import Array, Problem, Score

Reward = Callable[[list[Problem], list[str]], Sequence[float | None] | Array]
_PLAIN = (bool, int, float, complex, str, bytes, tuple, list, dict, re.Pattern, type(None))


@runtime_checkable
class Fingerprinted(Protocol):
    """Anything that says itself what identifies it."""

    def fingerprint(self) -> str:
        """A text that changes when what it does changes."""


@dataclass(frozen=True)
class PythonReward:
    """A user's reward as a grader of many answers at once."""

    function: Reward
    name: str  # what messages call it
    digest: str  # what identifies it, see `fingerprint`

    @classmethod
    def of(cls, reward: Reward, *, name: str | None = None) -> PythonReward:
        """Around a callable.

        Raises:
            ConfigError: it cannot be called, is a class, or cannot be identified.
        """
        named = reward.__func__ if inspect.ismethod(reward) else reward
        named = named if isinstance(named, FunctionType | type) else type(named)
        name = name or named.__qualname__
        _check_callable(reward, name)
        return cls(reward, name, _digest_of(reward, name))

    def grade_many(self, asked: Sequence[tuple[Problem, str]]) -> list[Score]:
        """A score for each answer, in order; missing where the reward says None.

        Raises:
            RewardFunctionError: the reward raised, or returned something else than one finite
                number or None an answer.
        """
        if not asked:
            return []
        problems = [problem for problem, _ in asked]
        texts = [text for _, text in asked]
        with Explained(self._raised):
            returned = self.function(problems, texts)
        values = self._listed(returned, len(asked))
        return [self._score(i, problems[i], value) for i, value in enumerate(values)]

    score = grade_many  # as a reward model is asked

    def grade(self, problem: Problem, text: str) -> Score:
        """Of one answer."""
        return self.grade_many([(problem, text)])[0]

    def fingerprint(self) -> str:
        """Hash of the source, or what the reward itself says."""
        return self.digest

    def _listed(self, returned: object, count: int) -> list[object]:
        unordered = isinstance(returned, str | bytes | Mapping | Set)
        if unordered or not isinstance(returned, Collection):
            raise self._refused("returned no list of scores", returned)
        with Explained(self._raised):
            values = list(returned)
        if len(values) != count:
            which = "too few" if len(values) < count else "too many"
            got = f"{len(values)} scores for {count} answers"
            raise self._refused(f"returned {which} scores", got)
        return values

    def _score(self, row: int, problem: Problem, value: object) -> Score:
        if value is None:
            return Score.missing(f"reward '{self.name}' gave none")
        place = f"for answer {row + 1} (problem '{problem.id}')"
        if not isinstance(value, SupportsFloat):
            raise self._refused(f"returned something else than a number {place}", value)
        with Explained(self._raised):
            number = float(value)
        if not math.isfinite(number):
            raise self._refused(
                f"returned {number} {place}",
                value,
                why="a score that is not finite would spoil the whole group; a missing one is None",
            )
        return Score(number)

    def _raised(self, error: Exception) -> RewardFunctionError:
        return self._refused(
            f"raised {type(error).__name__}",
            f"{error} ({_line_of(error)})",
            why="a score that cannot be had is not a 0",
            fix="mend the reward function; return None for an answer that it cannot score",
        )

    def _refused(
        self,
        what: str,
        got: object,
        why: str = "scores are matched to answers by their places",
        fix: str = "mend the reward function",
    ) -> RewardFunctionError:
        wanted = "one finite number an answer, in order; None where an answer has no score"
        what = f"reward '{self.name}' {what}"
        return RewardFunctionError(what, got=got, wanted=wanted, why=why, fix=fix)


@dataclass(frozen=True)
class Explained(AbstractContextManager[object]):
    """What a user's code raises leaves this block as the error that `explain` makes of it."""

    explain: Callable[[Exception], RekindleError]

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, RekindleError):
            raise self.explain(error) from error


def _line_of(error: Exception) -> str:
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}, in {frames[-1].name}" if frames else "?"


# --- by its place


def is_place(text: str) -> bool:
    """Whether a text has the form `package.module:function`."""
    module, colon, name = text.partition(":")
    parts = [*module.split("."), *name.split(".")]
    return bool(colon) and all(part.isidentifier() for part in parts)


def load_reward(place: str) -> PythonReward:
    """The reward at `package.module:function`, imported from the working directory or the Python
    path.

    Raises:
        ConfigError: the module does not exist or fails, or has no such callable.
    """
    return PythonReward.of(_imported(place), name=place)  # type: ignore[arg-type]


def load_callable(place: str) -> Callable[..., object]:
    """Whatever can be called at `package.module:function` or `path/to/file.py:function`.

    Raises:
        ConfigError: the module or file does not exist or fails, or has no such callable.
    """
    path, _, name = place.rpartition(":")
    reward = _of_file(path, name) if path.endswith(".py") else _imported(place)
    return _check_callable(reward, place)


def _check_callable(reward: object, name: str) -> Callable[..., object]:
    if isinstance(reward, type) or not callable(reward):
        raise ConfigError(
            f"reward '{name}' is {'a class' if isinstance(reward, type) else 'no callable'}",
            got=reward,
            wanted="a callable: (problems, texts) -> scores",
            fix="pass an instance of it" if isinstance(reward, type) else "pass a function",
        )
    return reward


def _imported(place: str) -> object:
    if not is_place(place):
        raise ConfigError(
            f"'{place}' does not name a reward", wanted="package.module:function, such as rewards:f"
        )
    module_name, _, name = place.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
        importlib.invalidate_caches()
    with Explained(lambda error: _not_imported(place, error)):
        module = importlib.import_module(module_name)
    return _member(module, name, place)


def _of_file(path: str, name: str) -> object:
    module_name = os.path.basename(path).removesuffix(".py")
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None or not os.path.isfile(path):
        raise ConfigError(
            f"reward '{path}:{name}' does not exist",
            got=f"no file {path}",
            wanted=f"a file, seen from {os.getcwd()}",
            fix="check the path",
        )
    sys.path.insert(0, os.path.dirname(os.path.abspath(path)))  # as `python path/to/file.py` has it
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and pickles look it up
    with Explained(lambda error: _failed(f"{path}:{name}", f"python {path}", error)):
        spec.loader.exec_module(module)
    return _member(module, name, f"{path}:{name}")


def _member(module: ModuleType, name: str, place: str) -> object:
    """What a dotted name means in a module; some packages import a name when it is looked up."""
    value: object = module
    for part in name.split("."):
        with Explained(functools.partial(_not_a_member, place, value, part)):
            value = getattr(value, part)
    return value


def _not_a_member(place: str, owner: object, part: str, error: Exception) -> ConfigError:
    if not isinstance(error, AttributeError):
        return _failed(place, f"python -c 'import {place.partition(':')[0]}'", error)
    known = vars(owner) if isinstance(owner, ModuleType | type) else {}
    callables = [key for key, item in known.items() if callable(item)]
    module = owner.__name__ if isinstance(owner, ModuleType | type) else place
    return ConfigError(
        f"reward '{place}' does not exist",
        got=f"{module} has no '{part}'",
        wanted="the name of a function in that module",
        fix=did_you_mean(part, callables) if callables else "check the name",
    )


def _not_imported(place: str, error: Exception) -> ConfigError:
    module_name = place.partition(":")[0]
    missing = error.name or "" if isinstance(error, ModuleNotFoundError) else ""
    if missing and f"{module_name}.".startswith(f"{missing}."):
        return ConfigError(
            f"reward '{place}' does not exist",
            got=f"no module named '{missing}'",
            wanted=f"a module in {os.getcwd()}, or one that is installed",
            why="it is imported from the directory that the command is started in",
            fix="start the command where the module is, or set PYTHONPATH",
        )
    return _failed(place, f"python -c 'import {module_name}'", error)


def _failed(place: str, command: str, error: Exception) -> ConfigError:
    return ConfigError(
        f"the module of reward '{place}' cannot be imported",
        got=f"{type(error).__name__}: {error} ({_line_of(error)})",
        wanted="a module that imports without an error",
        why="the reward is a function in it",
        fix=f"mend it: {command} shows the same",
    )


# --- what identifies it


def _digest_of(reward: object, name: str) -> str:
    method = reward.__name__ if inspect.ismethod(reward) else ""
    owner = reward.__self__ if inspect.ismethod(reward) else reward
    if isinstance(owner, Fingerprinted):
        return hashlib.sha256(f"own: {owner.fingerprint()}{method}".encode()).hexdigest()
    parts: dict[str, str] = {}
    _describe(reward, parts, home=None)
    if not parts:
        raise ConfigError(
            f"reward '{name}' cannot be identified",
            got=type(reward).__name__,
            wanted="a function, or an object with fingerprint()",
            why="a resumed run must be scored as it was before, and nothing says whether this is",
            fix="give it, or the object whose method it is, a method fingerprint() that returns a "
            "text: its name and version",
        )
    text = "\x1f".join(f"{key}\x1e{value}" for key, value in sorted(parts.items()))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _describe(item: object, parts: dict[str, str], *, home: str | None) -> None:
    """The source of a function or class, and of what it refers to in its own package `home`."""
    while isinstance(item, functools.partial):
        parts[f"partial {len(parts)}"] = repr((item.args, sorted(item.keywords.items())))
        item = item.func
    if not isinstance(item, FunctionType | type):
        return
    module = item.__module__ or ""  # None in what exec made without a __name__
    key, package = f"{module}.{item.__qualname__}", module.partition(".")[0]
    if key in parts:
        return
    if home not in (None, package):  # another package's: known by its name
        parts[key] = ""
        return
    parts[key] = _source_of(item)
    for function in [item] if isinstance(item, FunctionType) else vars(item).values():
        if isinstance(function, FunctionType):
            for name, value in _referred_to(function):
                if isinstance(value, FunctionType | type | functools.partial):
                    _describe(value, parts, home=package)
                elif isinstance(value, _PLAIN) and " at 0x" not in repr(value):
                    parts[f"value {function.__qualname__} {name}"] = repr(value)


def _referred_to(function: FunctionType) -> list[tuple[str, object]]:
    cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    names = sorted(_names_in(function.__code__) & function.__globals__.keys())
    return [
        *((name, cell.cell_contents) for name, cell in cells),
        *((name, function.__globals__[name]) for name in names),
        *(("default", value) for value in function.__defaults__ or ()),
    ]


def _names_in(code: CodeType) -> set[str]:
    inner = (constant for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*(_names_in(constant) for constant in inner))


def _source_of(item: FunctionType | type) -> str:
    code = _compiled(item.__code__) if isinstance(item, FunctionType) else ""
    try:
        # lambdas of one line have one source
        return inspect.getsource(item) + (code if item.__name__ == "<lambda>" else "")
    except (OSError, TypeError):  # typed at a prompt: what was compiled stands for it
        return code


def _compiled(code: CodeType) -> str:
    constants = (_compiled(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts)
    return f"{code.co_code.hex()} {' '.join(constants)} {code.co_names!r}"
