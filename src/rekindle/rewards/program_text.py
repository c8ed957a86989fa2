"""Where an answer holds the program, as a person would find it.

    1  thoughts are no answer
    2  fenced blocks: ``` or ~~~, of any length, indented, with blanks or attributes, behind words
       on their line; never closed (then to the end, without prose below the program); closed only
       (the prompt had opened it). A fence with a language within an open block begins the next
    3  programs are the blocks that parse as Python and are named Python or nothing; blocks of
       another name (text, code) only where none of those is what was asked for. Output, shell and
       sessions with >>> are none
    4  asked for a function: the last block that defines it, by an import only where no block does
       otherwise; a block of usage or of tests behind it changes nothing.
       asked for a script: the last block that reads the input; where that only defines, the last
       block behind it that calls what it defines; where none reads, the last that runs something
    5  what the block uses and does not define is put before it: the blocks that define it (imports,
       helpers), the nearest earlier ones first; nothing else is joined
    6  without a block the whole text, or the part of it that is Python

Where nothing is as asked it is the last block, else the text: it will fail, as it should.
"""

from __future__ import annotations

import ast
import builtins
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from rekindle.thoughts import without_thoughts

LONGEST = 200_000  # characters; a longer text is taken as it is
_TRIES = 40  # cuts of one text, to find where its program ends
_STARTS = 12  # lines of one text at which a program may begin

_OPENS = re.compile(
    r"(?P<before>[^`~\n]{0,200}?)(?P<fence>`{3,}|~{3,})[ \t]*(?P<info>[^`\n]{0,80}?)[ \t]*"
)
_ONE_LINE = re.compile(r"[ \t]*```[ \t]*(?:(?:python|py)3?[ \t]+)?(?P<code>[^`\n]+)```[ \t]*")
_CLOSES = re.compile(r"(?P<indent>[ \t]*)(?P<fence>`{3,}|~{3,})[ \t]*(?:</\w{1,20}>)?[ \t]*")
_NAMED = re.compile(r"\{?[ \t]*\.?(?P<name>[^\s{}.:,=]*)")
_PYTHON = re.compile(r"(?:i?python|py)[23]?", re.IGNORECASE)
_BEGINS = re.compile(
    r"(?:async |class |def |for |from |if |import |try:|while |with |@|print\(|"
    r"[A-Za-z_][\w, ]{0,60}=)"
)
_ESCAPE = re.compile(r"\\([^\\'\"\n])|\\[\\'\"\n]")
_MARKER = re.compile(r"^[ \t]*(?:\[/?[A-Z ]{2,12}\]|</?[a-z_]{2,12}>)[ \t]*$", re.MULTILINE)
_MAGIC = re.compile(r"^[%!].*$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A part of a text that may be a program; `name` is the fence's, "" where it has none."""

    name: str
    code: str
    closed: bool = True

    @cached_property
    def tree(self) -> ast.Module | None:
        """None where it is no Python."""
        return parse(self.code)

    @property
    def is_python(self) -> bool:
        """By the fence's name."""
        return _PYTHON.fullmatch(self.name) is not None

    @cached_property
    def names(self) -> Names:
        """What it defines and uses."""
        return names_of(self.tree if self.tree is not None else ast.Module([], []))


@dataclass(frozen=True)
class Names:
    """What a program defines at its top level, and what it uses without defining it anywhere.

    `functions`: by def, class or lambda; `runs`: it does something beside defining; `reads`: it
    reads standard input.
    """

    functions: frozenset[str]
    defined: frozenset[str]
    imported: frozenset[str]
    lacking: frozenset[str]
    runs: bool
    reads: bool


def program_of(text: str, function: str | None = None, *, thought_open: bool = False) -> str:
    """The program in an answer.

    Args:
        text: what a model wrote.
        function: what the program must define; None for a script.
        thought_open: the prompt's template had opened a thought before the text.
    """
    text = _shown(text, thought_open).replace("\r\n", "\n").replace("\r", "\n")
    if len(text) > LONGEST:
        return text
    blocks = list(_blocks(text))
    if not blocks:
        return _unfenced(text, function)
    whole = [_mended(block) for block in blocks]
    parsed = [block for block in whole if block.tree is not None and block.code.strip()]
    usual = [block for block in parsed if block.is_python or not block.name]
    named = [block for block in usual if block.is_python]
    for group in (usual, parsed):
        chosen = _fitting(group, function)
        if chosen is not None:
            return _joined(chosen, group)
    if named:
        return _joined(named[-1], usual)
    return ([b for b in whole if b.is_python] or [b for b in whole if not b.name] or whole)[-1].code


def _shown(text: str, thought_open: bool) -> str:
    """Without thoughts, in whose place are ends of lines."""
    shown = without_thoughts(text, thought_open=thought_open)
    if shown == text:
        return text
    return "".join("\n" if now != was else now for now, was in zip(shown, text, strict=True))


def parse(code: str) -> ast.Module | None:
    """The syntax tree; None where it is no Python."""
    tree, _ = _parse(code)
    return tree


def _parse(code: str) -> tuple[ast.Module | None, int]:
    """The tree, or the line at which it fails."""
    # "\d" would be warned of, and filters of warnings are shared by all threads.
    quiet = _ESCAPE.sub(lambda found: "\\" + found[0] if found[1] else found[0], code)
    try:
        return ast.parse(quiet), 0
    except SyntaxError as error:
        return None, error.lineno or 1
    except (ValueError, MemoryError, RecursionError):
        return None, 1


# --- blocks


def _blocks(text: str) -> Iterator[Block]:
    fence, indent, name, code = "", 0, "", list[str]()
    seen, tries = False, 0
    for line in text.split("\n"):
        if fence:
            last = line.rstrip().removesuffix(fence)  # of code, with the fence behind it
            if last != line.rstrip() and last.strip() and tries < _TRIES:
                tries += 1
                if _block(name, [*code, last], indent).tree is not None:
                    line = fence
                    code.append(last)
            if _is_close(line, fence, indent):
                yield _block(name, code, indent)
                fence, code = "", []
                continue
            opening = _opening(line)
            if opening is None or not _is_next(opening, fence, indent):
                code.append(line)
                continue
            yield _block(name, code, indent)  # it was never closed
        else:
            one = _ONE_LINE.fullmatch(line)
            opening = _opening(line)
            if one is not None:
                seen = True
                yield Block("", one["code"].strip() + "\n")
                continue
            if opening is None:
                code.append(line)
                continue
            if (
                not seen and not opening.name and not opening.before
            ):  # the prompt may have opened it
                yield Block("preamble", "\n".join(code) + "\n")
        fence, indent, name, _ = opening
        code, seen = [], True
    if fence:
        yield _block(name, code, indent, closed=False)


class _Opening(NamedTuple):
    fence: str
    indent: int
    name: str
    before: str  # words on its line


def _is_next(opening: _Opening, fence: str, indent: int) -> bool:
    """Whether it begins a block although the one before was not closed."""
    named = bool(opening.name) and not opening.before and opening.fence[0] == fence[0]
    return named and opening.indent <= indent + 3


def _opening(line: str) -> _Opening | None:
    """How a block begins at the end of this line, if one does."""
    if "```" not in line and "~~~" not in line:
        return None
    found = _OPENS.fullmatch(line)
    if found is None:
        return None
    before, info = found["before"], found["info"]
    if before.strip() and len(info.split()) > 1 and not info.startswith("{"):
        return None  # a sentence that speaks of fences
    named = _NAMED.match(info)
    name = "python" if info.endswith(".py") else named["name"] if named else ""
    return _Opening(found["fence"], len(before) - len(before.lstrip()), name, before.strip())


def _is_close(line: str, fence: str, indent: int) -> bool:
    found = _CLOSES.fullmatch(line)
    if found is None or found["fence"][0] != fence[0] or len(found["fence"]) < len(fence):
        return False
    return len(found["indent"].expandtabs(4)) <= indent + 3


def _block(name: str, lines: Sequence[str], indent: int, *, closed: bool = True) -> Block:
    margin = re.compile(rf"[ \t]{{0,{indent}}}")
    code = "".join(margin.sub("", line, count=1) + "\n" for line in lines)
    return Block(name, code, closed)


def _mended(block: Block) -> Block:
    """The block as it was meant: without a common indent, notebook commands, or prose below it."""
    if block.tree is not None:
        return block
    for code in (textwrap.dedent(block.code), _MAGIC.sub("", block.code)):
        mended = Block(block.name, code, block.closed)
        if mended.tree is not None:
            return mended
    if block.closed:
        return block
    kept, rest = _parsing_prefix(block.code)
    prose = bool(rest) and not rest[0].isspace() and _BEGINS.match(rest) is None
    return Block(block.name, kept) if prose else block


def _parsing_prefix(code: str) -> tuple[str, str]:
    """The lines before the first that is no Python, and the rest."""
    lines = code.split("\n")
    count = len(lines)
    for _ in range(_TRIES):
        kept = "\n".join(lines[:count]) + "\n"
        tree, at = _parse(kept)
        if tree is not None:
            return kept, "\n".join(lines[count:])
        count = min(count - 1, max(at - 1, 0))
        if count <= 0:
            break
    return "", code


def _unfenced(text: str, function: str | None) -> str:
    text = _MARKER.sub("", text)  # [BEGIN], [PYTHON], </answer>
    for whole in (text, textwrap.dedent(text), text.lstrip()):
        if parse(whole) is not None:
            return whole
    lines = text.split("\n")
    end = tries = 0
    for number, line in enumerate(lines):
        if number < end or tries == _STARTS or _BEGINS.match(line) is None:
            continue
        tries += 1
        part = Block("", _parsing_prefix("\n".join(lines[number:]))[0])
        if part.code.strip() and _fitting([part], function) is not None:
            return part.code
        end = number + part.code.count("\n")
    return text


# --- which of them


def _fitting(blocks: Sequence[Block], function: str | None) -> Block | None:
    """The last block that is what was asked for; None where there is none."""
    if function is not None:
        defining = [block for block in blocks if function in block.names.functions]
        binding = [block for block in blocks if function in block.names.defined]
        importing = [block for block in blocks if function in block.names.imported]
        return _last(defining or binding or importing)
    reading = [number for number, block in enumerate(blocks) if block.names.reads]
    if not reading:
        running = [block for block in blocks if block.names.runs]
        return _last([block for block in running if block.is_python] or running)
    reader = blocks[reading[-1]]
    if reader.names.runs:
        return reader
    behind = [b.names.runs and b.names.lacking & reader.names.defined for b in blocks]
    callers = [b for b, calls in list(zip(blocks, behind, strict=True))[reading[-1] :] if calls]
    return callers[-1] if callers else reader


def _last(blocks: Sequence[Block]) -> Block | None:
    return blocks[-1] if blocks else None


def _joined(chosen: Block, blocks: Sequence[Block]) -> str:
    """The block behind those that define what it lacks."""
    at = next(number for number, block in enumerate(blocks) if block is chosen)
    nearest = [*reversed(blocks[:at]), *blocks[at + 1 :]]
    needed, names = list[Block](), set(chosen.names.lacking)
    known = set(chosen.names.defined | chosen.names.imported)
    while names:
        name = names.pop()
        known.add(name)
        source = next((b for b in nearest if name in b.names.defined | b.names.imported), None)
        if source is not None and source not in needed:
            needed.append(source)
            names |= source.names.lacking - known
    order = [block for block in blocks if any(block is one for one in needed)]
    return "".join(block.code for block in [*order, chosen])


def names_of(tree: ast.Module) -> Names:
    """What a program defines and uses."""
    functions, defined, imported = set[str](), set[str](), set[str]()
    for statement in _top_level(tree.body):
        if isinstance(statement, ast.Import | ast.ImportFrom):
            imported |= {(alias.asname or alias.name).split(".")[0] for alias in statement.names}
        elif isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            functions.add(statement.name)
        else:
            stored = {
                node.id
                for node in ast.walk(statement)
                if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
            }
            is_lambda = isinstance(statement, ast.Assign) and isinstance(
                statement.value, ast.Lambda
            )
            (functions if is_lambda else defined).update(stored)
    defined |= functions
    nodes = list(ast.walk(tree))
    used = {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)}
    bound = defined | imported | set(_bound(nodes)) | set(vars(builtins)) | {"__name__", "__file__"}
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    reads = bool({"input", "raw_input"} & used or {"stdin"} & (used | attributes)) or any(
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "open"
        and any(
            isinstance(arg, ast.Constant) and arg.value in (0, "/dev/stdin") for arg in node.args
        )
        for node in nodes
    )
    return Names(
        frozenset(functions),
        frozenset(defined),
        frozenset(imported),
        frozenset(used - bound),
        runs=any(_runs(statement) for statement in _top_level(tree.body)),
        reads=reads,
    )


def _top_level(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements of a program, those in `if`, `try`, `with` and loops too."""
    waiting: list[ast.AST] = list(body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.stmt):
            yield node
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.expr):
            waiting.extend(ast.iter_child_nodes(node))


def _runs(statement: ast.stmt) -> bool:
    defines = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
    if isinstance(statement, defines):
        return False
    if isinstance(statement, ast.For | ast.While | ast.With | ast.Try):
        return True
    return isinstance(statement, ast.Expr | ast.Assign | ast.AugAssign | ast.Assert) and any(
        isinstance(node, ast.Call) for node in ast.walk(statement)
    )


def _bound(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Names that are bound anywhere, in functions too."""
    for node in nodes:
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from ((alias.asname or alias.name).split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            yield node.name
        elif isinstance(node, ast.MatchMapping) and node.rest is not None:
            yield node.rest
