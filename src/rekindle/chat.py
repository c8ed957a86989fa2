"""Chat templates: messages in, tokens out, the same on every day; their errors in our words.

A template is a program of the model's own. What it may do, and what follows here:

    it raises (no system turn, turns that do not alternate)  DataError with its words, and advice
    it writes the date (`strftime_now`)     the date that is given, so that prompts stay the same
    it takes arguments (`enable_thinking`)  `args`; one that it does not read is refused
    it opens a thought behind the prompt    the answer goes on from there: its own `<think>` is
                                            not repeated; an answer without one closes it first
    it drops thoughts of an answered turn   the answer keeps them: it is what the model writes
    it adds an empty thought to one         the answer has it too
    it writes an answered prompt otherwise  the prompt is the one that the model is asked with

So prompt and answer are always a prompt that the model is sampled with and a text after it.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import pairwise
from typing import Any, NoReturn

import jinja2
import jinja2.meta
from jinja2.exceptions import TemplateError, TemplateSyntaxError
from jinja2.ext import Extension
from pydantic import JsonValue

from rekindle.errors import ConfigError, DataError, ModelError, did_you_mean
from rekindle.thoughts import closing_of, find_tags, leaves_thought_open, without_tags

DATE = "2024-07-26"  # what Llama 3's own template says where it has no clock
SYSTEM_ROLES = ("system", "developer")
_PROBE = "rekindle"  # an answer that no template changes
# What a template, which is a program, may end with.
_FAULTS = (
    TemplateError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)

Message = dict[str, str]

# transformers gives a template the clock, and turns a function given to it into a text: a macro of
# the same name goes in front.
_CLOCK = "strftime_now"
_FIXED_CLOCK = (
    "{%- macro strftime_now(format) -%}{%- set out = namespace(text=format) -%}"
    "{%- for code, value in rekindle_date -%}"
    "{%- set out.text = out.text.replace(code, value) -%}"
    "{%- endfor -%}{{- out.text -}}{%- endmacro -%}"
)
_CODES = "aAbBcdDeFGHhIjmMpRSTuUVwWxXyYZz"


@dataclass(frozen=True)
class ChatTemplate:
    """The chat template of a tokenizer, with what fills it beside the messages.

    Attributes:
        tokenizer: of transformers, with a template.
        owner: whose it is, in errors.
        args: given to the template by name.
        day: YYYY-MM-DD, the date that the template may write.
    """

    tokenizer: Any
    owner: str
    args: Mapping[str, JsonValue] = field(default_factory=dict)
    day: str = DATE

    def prompt(self, messages: Sequence[Message], where: str) -> list[int]:
        """Token ids of a conversation that the assistant is to continue.

        Raises:
            DataError: the template refuses it; `where` names the problem.
            ModelError: the template is broken.
        """
        return self._tokens(messages, where, generation=True)

    def answered(self, messages: Sequence[Message], where: str) -> list[int]:
        """Token ids of a whole conversation; errors as `prompt`."""
        return self._tokens(messages, where, generation=False)

    def opens_thought(self, messages: Sequence[Message], where: str) -> bool:
        """Whether the prompt of these messages ends inside a thought; errors as `prompt`."""
        return leaves_thought_open(self._header(messages, where))

    def completion(self, messages: Sequence[Message], text: str, where: str) -> list[int]:
        """Token ids of `text` as the answer, from the end of the prompt to the end of the turn.

        Raises:
            DataError: as `prompt`; or prompt and answer cannot be told apart in tokens.
            ModelError: as `prompt`.
        """
        prompt_ids = self.prompt(messages, where)
        turns = [*messages, {"role": "assistant", "content": text}]
        header = self._header(messages, where)
        thinks = bool(find_tags(text)) or leaves_thought_open(header)
        if not thinks:
            whole_ids = self.answered(turns, where)
            if whole_ids[: len(prompt_ids)] == prompt_ids:
                return whole_ids[len(prompt_ids) :]
        prompt = self._text(messages, where, generation=True)
        whole = self._text(turns, where, generation=False)
        after = whole.removeprefix(prompt) if whole.startswith(prompt) else None
        if after is None or (thinks and not _keeps(after, text, header)):
            if not thinks and text.strip() not in whole:
                self._refuse_split(prompt, whole, where)
            body = text if thinks or text in whole else text.strip()
            after = self._continuation(messages, body, header, where)
        return self._split(prompt_ids, prompt, after, where)

    def writes_date(self, messages: Sequence[Message], where: str) -> bool:
        """Whether the prompt of these messages depends on `day`; errors as `prompt`."""
        if _CLOCK not in str(self.tokenizer.chat_template):
            return False
        other = replace(self, day="1999-12-31")
        return self.prompt(messages, where) != other.prompt(messages, where)

    # --- an answer that the template does not write behind the prompt

    def _continuation(self, messages: Sequence[Message], text: str, header: str, where: str) -> str:
        """What follows the prompt: the answer, and the end that the template gives a turn."""
        probe = [*messages, {"role": "assistant", "content": _PROBE}]
        whole = self._text(probe, where, generation=False)
        before, found, end = whole.rpartition(_PROBE)
        opened = leaves_thought_open(header)
        begins = header[: find_tags(header)[-1].start] if opened else header
        same = _squashed(without_tags(before)).endswith(_squashed(without_tags(begins)))
        if not found or not same:
            self._refuse_split(self._text(messages, where, generation=True), whole, where)
        if opened:
            return _inside_thought(text, header, where) + end
        gap = before[len(before.rstrip()) :]
        return ("" if header.endswith(gap) else gap) + text + end

    def _header(self, messages: Sequence[Message], where: str) -> str:
        """What stands between the last turn and the answer."""
        prompt = self._text(messages, where, generation=True)
        plain = self._text(messages, where, generation=False)
        return prompt.removeprefix(plain) if prompt.startswith(plain) else prompt[-100:]

    def _split(self, prompt_ids: list[int], prompt: str, after: str, where: str) -> list[int]:
        tok = self.tokenizer
        whole_ids = list(tok(prompt + after, add_special_tokens=False)["input_ids"])
        if whole_ids[: len(prompt_ids)] == prompt_ids:
            return whole_ids[len(prompt_ids) :]
        ids = list(tok(after, add_special_tokens=False)["input_ids"])
        plain = {"skip_special_tokens": False, "clean_up_tokenization_spaces": False}
        if tok.decode([*prompt_ids, *ids], **plain) != tok.decode(whole_ids, **plain):
            self._refuse_split(prompt, prompt + after, where)
        return ids

    def _refuse_split(self, prompt: str, whole: str, where: str) -> NoReturn:
        pairs = enumerate(zip(prompt, whole, strict=False))
        at = next((i for i, (a, b) in pairs if a != b), min(len(prompt), len(whole)))
        shown = slice(max(0, at - 40), at + 40)
        raise DataError(
            f"{where}: the chat template of {self.owner} writes the answered prompt otherwise",
            got=f"{whole[shown]!r}",
            wanted=f"{prompt[shown]!r}, and the answer behind it",
            why="the loss mask could not separate prompt and completion",
            fix="use a chat_template in tokenizer_config.json that writes earlier turns alike with "
            "and without an answer, and the answer as it is",
        )

    # --- the template at work

    def _tokens(self, messages: Sequence[Message], where: str, *, generation: bool) -> list[int]:
        rendered = self._applied(messages, where, generation, tokenize=True, return_dict=True)
        return list(rendered["input_ids"])

    def _text(self, messages: Sequence[Message], where: str, *, generation: bool) -> str:
        return str(self._applied(messages, where, generation, tokenize=False))

    def _applied(
        self, messages: Sequence[Message], where: str, generation: bool, **how: bool
    ) -> Any:
        try:
            return self._apply(messages, generation, **how)
        except TemplateSyntaxError as error:
            raise ModelError(
                f"the chat template of {self.owner} cannot be read",
                got=f"line {error.lineno}: {error.message}",
                wanted="a Jinja template",
                fix="mend chat_template in its tokenizer_config.json (or chat_template.jinja)",
            ) from error
        except _FAULTS as error:
            words = str(error)
            if not isinstance(error, TemplateError):
                words = f"{type(error).__name__}: {words}"
            raise DataError(
                f"{where}: the chat template of {self.owner} refuses it",
                got=words,
                wanted=f"turns that it takes; the roles are {_roles(messages)}",
                fix=self._advice(messages, generation),
            ) from error

    def _apply(self, messages: Sequence[Message], generation: bool, **how: bool) -> Any:
        filled: dict[str, object] = dict(self.args)
        template = self.tokenizer.get_chat_template(tools=self.args.get("tools"))
        if _CLOCK in template:
            filled["chat_template"] = _FIXED_CLOCK + template
            filled["rekindle_date"] = _written(self.day)
        return self.tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=generation, **how, **filled
        )

    def _advice(self, messages: Sequence[Message], generation: bool) -> str:
        """What would help, found out by trying where it can be."""
        others = [turn for turn in messages if turn["role"] not in SYSTEM_ROLES]
        if 0 < len(others) < len(messages):
            try:
                self._apply(others, generation, tokenize=False)
            except _FAULTS:
                pass
            else:
                return (
                    "leave the system turn out (model.system, or the row's own), or put its text "
                    "into the user's first turn"
                )
        roles = [turn["role"] for turn in others]
        if any(a == b for a, b in pairwise(roles)) or roles[:1] != ["user"]:
            return "let user and assistant take turns, the user first; join turns of one role"
        plain = ", or --set model.chat_template=never" if len(messages) == 1 else ""
        return f"mend chat_template in its tokenizer_config.json{plain}"


def _roles(messages: Sequence[Message]) -> str:
    return ", ".join(turn["role"] for turn in messages)


def _written(day: str) -> list[list[str]]:
    """Each code of strftime, `%d` and `%-d`, with what it gives at the beginning of the day."""
    moment = datetime.fromisoformat(day)
    codes = [f"%{dash}{letter}" for letter in _CODES for dash in ("-", "")]
    return [[code, moment.strftime(code)] for code in codes] + [["%f", "000000"], ["%%", "%"]]


def _squashed(text: str) -> str:
    return "".join(text.split())


def _keeps(after: str, text: str, header: str) -> bool:
    """Whether a template wrote all of a text that has thoughts, and closes one that is open."""
    if leaves_thought_open(header):
        if not _closes_first(after):
            return False
        text = text[_opening(text) :]
    return _squashed(text) in _squashed(after)


def _opening(text: str) -> int:
    """Where a text goes on behind the tag that it begins with; 0 where it begins otherwise."""
    tags = find_tags(text)
    return tags[0].end if tags and tags[0].opens and not text[: tags[0].start].strip() else 0


def _closes_first(text: str) -> bool:
    tags = find_tags(text)
    return bool(tags) and not tags[0].opens


def _inside_thought(text: str, header: str, where: str) -> str:
    """A text as what follows a prompt that has opened a thought."""
    on_new_line = header.endswith("\n")
    if at := _opening(text):
        return text[at:].lstrip("\n") if on_new_line else text[at:]
    if _closes_first(text):
        return text
    tag = find_tags(header)[-1]
    close = closing_of(header[tag.start : tag.end])
    if close is None:
        raise DataError(
            f"{where}: the prompt ends inside a thought, and the answer does not close it",
            got=text,
            wanted="the rest of the thought, what closes it, and the answer",
            why="the model would learn to answer inside its thought",
            fix="write the answers as the model does, thought included",
        )
    start = "\n" if on_new_line else "\n\n"
    return f"{start}{close}\n\n{text.lstrip()}"


# --- what a recipe may give a template


def check_template_args(
    tokenizer: Any, args: Mapping[str, JsonValue], *, used: bool, owner: str
) -> None:
    """Refuse arguments that would have no effect.

    Args:
        used: whether the template is used at all.

    Raises:
        ConfigError: no template, a name that it does not read, or one that is set otherwise.
        ModelError: the template is broken.
    """
    if not args:
        return
    if not used or tokenizer.chat_template is None:
        raise ConfigError(
            "model.template_args has no effect without a chat template",
            got=dict(args),
            why="model.chat_template is never" if not used else f"{owner} has no chat template",
            fix="remove it",
        )
    read = template_variables(tokenizer, owner)
    own = {"messages", "raise_exception", _CLOCK, "rekindle_date", "kwargs"}
    own |= set(inspect.signature(tokenizer.apply_chat_template).parameters)
    own |= set(tokenizer.special_tokens_map)
    own -= {"tools", "documents"}
    for name in args:
        if name in own:
            raise ConfigError(
                f"model.template_args.{name} is set otherwise",
                got=args[name],
                wanted="an argument of the template's own",
                fix="remove it",
            )
        if name not in read:
            raise ConfigError(
                f"model.template_args.{name} has no effect",
                got=args[name],
                wanted=f"a name that the chat template of {owner} reads",
                fix=did_you_mean(name, read - own) if read - own else "remove it: it reads none",
            )


def template_variables(tokenizer: Any, owner: str) -> set[str]:
    """The names that a chat template reads and does not set itself.

    Raises:
        ModelError: the template is broken, or there are several and none is the default.
    """
    environment = jinja2.Environment(extensions=[_Generation, "jinja2.ext.loopcontrols"])
    try:
        tree = environment.parse(tokenizer.get_chat_template())
        return set(jinja2.meta.find_undeclared_variables(tree))
    except (TemplateError, ValueError) as error:
        raise ModelError(
            f"the chat template of {owner} cannot be read", got=str(error), wanted="one template"
        ) from error


class _Generation(Extension):
    """The tag `{% generation %}` of transformers, which marks what the assistant wrote."""

    tags = {"generation"}  # noqa: RUF012 - as jinja2 declares it

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        """The nodes inside."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
