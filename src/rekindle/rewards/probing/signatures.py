"""How a reward wants to be called, found out from its parameters.

    rekindle   (problems, texts) -> scores
    TRL        (prompts, completions, **columns) -> scores, all by keyword, completions as texts or
               as lists of messages
    verl       compute_score(data_source, solution_str, ground_truth, extra_info=None) -> score or
               a mapping with "score"; plural names for its batched manager
    plain      (completion, reference) -> score under the usual names, one at a time or in lists

Any of them may be async. Parameters do not say everything: whether completions are messages, or
whether a gold stands between dollars. So there are several `Call`s, likely ones first, and a caller
tries which of them tells right from wrong (`rewards.probing.probe`).
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from inspect import Parameter
from typing import NamedTuple, SupportsFloat

from rekindle.errors import ConfigError
from rekindle.records import Problem

# A list's name is its element's and an s; the first that a function has is taken.
TEXTS = (
    *("completion", "solution_str", "response", "prediction", "pred", "output", "model_output"),
    *("predict", "predict_str", "generation", "generated", "generated_text", "model_answer"),
    *("model_response", "student_answer", "candidate", "hypothesis", "text"),
)
GOLDS = (
    *("ground_truth", "reference", "reference_answer", "gold", "gold_answer", "golden_answer"),
    *("correct_answer", "expected", "expected_answer", "true_answer", "truth", "target", "label"),
    *("gt", "solution", "answer", "final_answer"),
)
PROMPTS = ("prompt", "question", "problem", "query", "input", "instruction")
# A gold's name in one code is a text's in another: `(answer, reference)`, `(answer, solution)`.
EITHER = ("answer", "solution", "final_answer")
OTHERS = {
    "problems": "problems",
    "data_source": "source",
    "extra_info": "extra",
    "completion_ids": "ids",
    "trainer_state": "nothing",
    "log_extra": "ignore",
    "log_metric": "ignore",
}
SOURCES = ("openai/gsm8k", "lighteval/MATH")  # of verl's dispatch, the first that is right
GOLD_FORMS = ("{}", "${}$", "\\boxed{{{}}}", "#### {}")
_SCORE_KEYS = ("score", "reward")
_SHOWN = {"question": "prompt", "problems": "problem"} | {k: k for k in ("text", "gold", "prompt")}


class Names(NamedTuple):
    """What a user says of parameters or columns; None: to be found out."""

    text: str | None = None
    gold: str | None = None
    question: str | None = None


NOT_NAMED = Names()


class Asked(NamedTuple):
    """What a reward is asked of one text."""

    prompt: str
    gold: str
    text: str


class UnreadableScoreError(ValueError):
    """A reward returned something that is no score."""


@dataclass(frozen=True)
class Call:
    """One way to call a reward.

    `roles` are (parameter, role) in order: text, gold, prompt (a message where texts are), question
    (a text), problems, source, extra, ids, nothing, ignore. `assumed`: a name did not say its role.
    """

    style: str
    roles: tuple[tuple[str, str], ...]
    positional: int = 0  # how many of them go by place
    columns: tuple[str, ...] = ()  # more names under which the gold goes to `**columns`
    batched: bool = False
    messages: bool = False
    gold_form: str = "{}"
    source: str = SOURCES[0]
    is_async: bool = False
    assumed: bool = False

    def describe(self, name: str) -> str:
        """As a person would write it: style, call, and how text and gold are given."""
        listed = [
            value if i < self.positional else f"{parameter}={value}"
            for i, (parameter, role) in enumerate(self.roles)
            for value in [self._shown(role)]
        ]
        listed += [f"**columns={self._shown('gold')}"] if self.columns else []
        form = "" if self.gold_form == "{}" else f", gold written {self.gold_form.format('gold')}"
        texts = ", texts as lists of messages" if self.messages else ""
        notes = f"{texts}{form}{', roles assumed' if self.assumed else ''}"
        return (
            f"{self.style}: {'async ' if self.is_async else ''}{name}({', '.join(listed)}){notes}"
        )

    def arguments(self, asked: Asked) -> tuple[list[object], dict[str, object]]:
        """Positional and keyword arguments for one text."""
        values = [(parameter, self._value(role, asked)) for parameter, role in self.roles]
        gold = self._value("gold", asked)
        keywords = dict(values[self.positional :]) | dict.fromkeys(self.columns, gold)
        return [value for _, value in values[: self.positional]], keywords

    def score(self, returned: object) -> float | None:
        """The score in what came back; None where the reward gives none.

        Raises:
            UnreadableScoreError: there is none in it.
        """
        value = _only_item(returned) if self.batched else returned
        if isinstance(value, Mapping):
            keys = [key for key in _SCORE_KEYS if key in value]
            if not keys:
                raise UnreadableScoreError(f"a mapping without 'score': {sorted(map(str, value))}")
            value = value[keys[0]]
        if value is None:
            return None
        if isinstance(value, str | bytes) or not isinstance(value, SupportsFloat):
            raise UnreadableScoreError(f"no number: {type(value).__name__} {_shortened(value)}")
        number = float(value)
        if not math.isfinite(number):
            raise UnreadableScoreError(f"{number}")
        return number

    def _shown(self, role: str) -> str:
        if role in ("nothing", "ignore"):
            return "None" if role == "nothing" else "..."
        value = "[message]" if self.messages and role in ("text", "prompt") else _SHOWN.get(role)
        value = value or (repr(self.source) if role == "source" else "...")
        return f"[{value}]" if self.batched else value

    def _value(self, role: str, asked: Asked) -> object:
        value = self._single(role, asked)
        return [value] if self.batched and role not in ("nothing", "ignore") else value

    def _single(self, role: str, asked: Asked) -> object:
        gold = self.gold_form.format(asked.gold)
        if role == "text":
            return _messages("assistant", asked.text) if self.messages else asked.text
        if role == "prompt":
            return _messages("user", asked.prompt) if self.messages else asked.prompt
        if role == "problems":
            columns = dict.fromkeys(GOLDS, gold)
            return Problem(id="probe", prompt=asked.prompt, answer=asked.gold, meta=columns)
        values: dict[str, object] = {
            "gold": gold,
            "question": asked.prompt,
            "source": self.source,
            "extra": {"split": "train", "index": 0, "question": asked.prompt, "answer": gold},
            "ids": list(asked.text.encode("utf-8", "surrogatepass")),
            "nothing": None,
            "ignore": _ignore,
        }
        return values[role]


def calls_of(function: Callable[..., object], name: str, given: Names) -> list[Call]:
    """The ways in which a function may want to be called, the likely ones first.

    Raises:
        ConfigError: its parameters cannot be told apart, or cannot be seen.
    """
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"how to call '{name}' cannot be told",
            got=str(error),
            wanted="a function in Python, whose parameters can be seen",
            fix=_ADVICE,
        ) from error
    named = [p for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    open_ended = any(p.kind == p.VAR_KEYWORD for p in parameters)
    forced = _forced(name, given, [p.name for p in named], open_ended=open_ended)
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        type(function).__call__
    )
    found = []
    readings = _readings(name, named, forced, open_ended=open_ended)
    required = [p.name for p in named if p.default is Parameter.empty]
    if len(required) == 2 and readings[0][1] and not forced:  # ours is called by place
        readings.append((dict(zip(required, ("problems", "text"), strict=True)), True))
    for roles, assumed in readings:
        for call in _calls(roles, named, forced, open_ended=open_ended):
            found.append(replace(call, is_async=is_async, assumed=assumed))
    return found


_ADVICE = (
    "wrap it: def reward(completion, reference): ..., or name the parameters: --text-column, "
    "--gold-column, --question-column"
)
_Roles = dict[str, str]


def _forced(name: str, given: Names, known: Sequence[str], *, open_ended: bool) -> _Roles:
    """Parameter -> role, as the user says."""
    forced = {parameter: role for role, parameter in given._asdict().items() if parameter}
    lacking = [parameter for parameter in forced if parameter not in known]
    if lacking and not open_ended:
        raise ConfigError(
            f"'{name}' has no parameter '{lacking[0]}'",
            got=", ".join(known) or "no parameters",
            fix="name one of its parameters",
        )
    return forced


def _readings(
    name: str, named: Sequence[Parameter], forced: _Roles, *, open_ended: bool
) -> list[tuple[_Roles, bool]]:
    """Each reading of the parameters: name -> role, and whether it is an assumption."""
    known = [p.name for p in named]
    roles = _known_roles(known, forced)
    free = [p.name for p in named if p.name not in roles and p.default is Parameter.empty]
    held = roles.values()
    lacking = [role for role in ("text", "gold") if role not in held]
    if "problems" in held or (open_ended and not free):  # a problem, or `**columns`, has the rest
        lacking = [role for role in lacking if role == "text" and not open_ended]
    if not free and not lacking:
        return [(roles, False)]
    if lacking == ["text"] and len(free) == 1:
        return _with_text(roles, free[0])
    if len(free) == len(lacking) and free:
        orders = [free, free[::-1]] if len(free) == 2 else [free]
        return [(roles | dict(zip(order, lacking, strict=True)), True) for order in orders]
    if len(free) == 1 and "text" in lacking:  # it has no gold
        return [(roles | {free[0]: "text"}, False)]
    if not free and lacking == ["gold"]:
        return [(roles, False)]
    raise _untold(name, free or known)


def _known_roles(known: Sequence[str], forced: _Roles) -> _Roles:
    """Parameter -> role, where its name or the user says it.

    The likeliest name is the text; where there is one, all names of golds are golds.
    """
    roles = dict(forced)
    says = {key: _role(key) for key in known if key not in forced}
    texts = sorted((k for k in says if says[k] == "text"), key=lambda k: TEXTS.index(_stem(k)))
    golds = sorted((k for k in says if says[k] == "gold"), key=lambda k: GOLDS.index(_stem(k)))
    if texts and "text" not in roles.values():
        roles[texts[0]] = "text"
    several = "text" in roles.values() and "gold" not in roles.values()
    if "gold" not in roles.values() or several:
        roles |= dict.fromkeys(golds if several else golds[:1], "gold")
    for key, role in says.items():
        if role == "problems" and "gold" in roles.values():
            roles[key] = "prompt"
        elif role not in (None, "text", "gold"):
            roles[key] = str(role)
    return roles


def _with_text(roles: _Roles, free: str) -> list[tuple[_Roles, bool]]:
    """A gold is named and no text: the other one is the text, or the gold's name means the text."""
    golds = [key for key, role in roles.items() if role == "gold"]
    straight = roles | {free: "text"}
    if _stem(free) in EITHER and all(_stem(gold) not in EITHER for gold in golds):
        return [(straight, False)]
    turned = straight | dict.fromkeys(golds[:1], "text") | {free: "gold"}
    can_turn = bool(golds) and _stem(golds[0]) in EITHER
    return [(straight, True), *([(turned, True)] if can_turn else [])]


def _untold(name: str, parameters: Sequence[str]) -> ConfigError:
    shown = ", ".join(parameters)
    return ConfigError(
        f"how to call '{name}' cannot be told",
        got=f"parameters whose meaning their names do not say: {shown}" if shown else "none",
        wanted="(completion, reference), TRL's (prompts, completions, **columns), verl's "
        "compute_score, or (problems, texts)",
        fix=_ADVICE,
    )


def _stem(name: str) -> str:
    name = name.lower()
    known = (*TEXTS, *GOLDS, *PROMPTS, *OTHERS)
    single = name.removesuffix("s")
    if name not in known and name == "queries":
        return "query"
    return single if name not in known and single in known else name


def _role(name: str) -> str | None:
    """What a parameter's name says."""
    stem = _stem(name)
    lists = (("text", TEXTS), ("gold", GOLDS), ("prompt", PROMPTS[:1]), ("question", PROMPTS))
    return OTHERS.get(stem) or next((role for role, names in lists if stem in names), None)


def _calls(
    roles: _Roles, named: Sequence[Parameter], forced: _Roles, *, open_ended: bool
) -> Iterator[Call]:
    """One reading, in every form of text and gold."""
    ordered = [(p.name, roles[p.name]) for p in named if p.name in roles]
    positional = sum(p.kind == p.POSITIONAL_ONLY for p in named if p.name in roles)
    texts = next((name for name, role in ordered if role == "text"), "completions")
    style = _style(ordered, texts)
    columns: tuple[str, ...] = ()
    if open_ended:
        present = {p.name for p in named}
        ordered += [(key, role) for key, role in forced.items() if key not in present]
        ordered += _keywords(style, present, {role for _, role in ordered})
        columns = tuple(key for key in GOLDS if key not in dict(ordered))
    base = Call(style, tuple(ordered), positional, columns)
    if style == "rekindle":
        yield replace(base, batched=True)
        return
    plural = texts.endswith("s") and _stem(texts) != texts
    batches = {"TRL": [True], "plain": [plural, not plural], "verl": [plural]}[style]
    sources = SOURCES if any(role == "source" for _, role in ordered) else SOURCES[:1]
    for source in sources:
        for form in GOLD_FORMS:
            for batched in batches:
                for messages in (False, True) if style == "TRL" else (False,):
                    yield replace(
                        base, batched=batched, messages=messages, gold_form=form, source=source
                    )


def _style(ordered: Sequence[tuple[str, str]], texts: str) -> str:
    if any(role == "problems" for _, role in ordered):
        return "rekindle"
    if texts == "completions":
        return "TRL"
    return "verl" if _stem(texts) == "solution_str" else "plain"


def _keywords(style: str, present: Collection[str], roles: Set[str]) -> list[tuple[str, str]]:
    """What goes to `**columns` beside the gold."""
    if style != "TRL":
        given = {"prompt", "question"} & roles
        return [] if given else [("prompt", "prompt"), ("question", "question")]
    names = {"prompts": "prompt", "completions": "text", "completion_ids": "ids"}
    names |= {"question": "question", "problem": "question", "trainer_state": "nothing"}
    return [
        (name, role)
        for name, role in names.items()
        if name not in present and not (role == "text" and "text" in roles)
    ]


def _only_item(returned: object) -> object:
    unordered = isinstance(returned, str | bytes | Mapping | Set)
    if unordered or not isinstance(returned, Collection):
        raise UnreadableScoreError(f"no list of scores: {_shortened(returned)}")
    values = list(returned)
    if len(values) != 1:
        raise UnreadableScoreError(f"{len(values)} scores for 1 text")
    return values[0]


def _messages(role: str, text: str) -> list[dict[str, str]]:
    return [{"role": role, "content": text}]


def _shortened(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _ignore(*_: object, **__: object) -> None:
    """In place of TRL's loggers."""
