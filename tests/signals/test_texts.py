"""refusals.yaml: each one is raised somewhere, with a value for each of its braces."""

import ast
from pathlib import Path
from string import Formatter

import rekindle.signals
from rekindle.signals.texts import texts

ROOM = Path(rekindle.signals.__file__).parent
FILES = [*ROOM.glob("*.py"), ROOM.parent / "cli" / "diagnose.py"]


def test_each_refusal_is_used_and_has_what_its_braces_name():
    given = {}
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "refusal":
                names = {keyword.arg for keyword in node.keywords}
                given.setdefault(ast.literal_eval(node.args[1]), []).append(names)
    wanted = {
        name: {field for text in parts.values() for _, field, _, _ in Formatter().parse(text)}
        for name, parts in texts("refusals").items()
    }
    assert given.keys() == wanted.keys()
    for name, calls in given.items():
        assert all(names == wanted[name] - {None} for names in calls), name
