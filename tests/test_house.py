"""House rules that a machine can check: imports, sizes, verbs with one home, docstrings."""

import ast
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import mutations
from sitegen.build import missing_pages
from sitegen.undocumented import undocumented

PACKAGE = Path(__file__).parents[1] / "src" / "rekindle"
ORDER = [
    {"errors", "records", "files", "model_files", "outputs", "thoughts", "chat", "version"},
    {"servers"},
    {"ops"},
    {"rewards", "tasks"},
    {"testbed"},
    {"engine"},
    {"evals"},
    {"loops"},
    {"methods"},
    {"training"},
    {"signals"},
    {"study"},
    {"report"},
    {"integrations"},
    {"cli"},
]
RANK = {name: rank for rank, names in enumerate(ORDER) for name in names}
# Inside a room: its files and folders in the order in which they may import each other.
ROOMS = {"study": ["schema", "plan", "store", "analyse", "run", "evidence", "tour"]}
FILES = sorted(PACKAGE.rglob("*.py"))
MAX_FILE, MAX_FUNCTION = 400, 60


def name_of(path):
    return str(path.relative_to(PACKAGE))


@cache
def tree_of(path):
    return ast.parse(path.read_text())


def room(path):
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_folder_imports_only_earlier_ones(path):
    if room(path) in {"__init__", "__main__"}:
        return
    for node in ast.walk(tree_of(path)):
        modules = []
        if isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module]
            if node.module == "rekindle":
                modules = [f"rekindle.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        for module in modules:
            parts = module.split(".")
            if parts[0] != "rekindle" or len(parts) < 2 or parts[1] == "__version__":
                continue
            assert RANK[parts[1]] <= RANK[room(path)], f"{name_of(path)} imports {module}"


def module_of(path):
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)


MODULES = {module_of(path): path for path in FILES}


def imports_of(path):
    """The files of the package that a file imports, also those for types alone."""
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


@pytest.mark.parametrize("room", ROOMS)
def test_the_folders_of_a_room_import_one_way(room):
    order = ROOMS[room]
    for module, path in MODULES.items():
        if not module.startswith(f"rekindle.{room}.") or path.name == "__init__.py":
            continue
        mine = module.split(".")[2]
        for other in imports_of(path):
            if other.startswith(f"rekindle.{room}."):
                part = other.split(".")[2]
                assert order.index(part) <= order.index(mine), f"{name_of(path)} imports {other}"


@pytest.mark.parametrize("folder", sorted({path.parent for path in FILES}), ids=name_of)
def test_files_of_a_folder_import_each_other_in_no_circle(folder):
    mine = {module: path for module, path in MODULES.items() if path.parent == folder}
    graph = {
        module: set(imports_of(path)) & mine.keys() - {module} for module, path in mine.items()
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" <- ".join(error.args[1]))


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_fit_a_small_page(path):
    lines = len(path.read_text().splitlines())
    assert lines <= MAX_FILE
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            assert length <= MAX_FUNCTION, f"{node.name} has {length} lines"


@cache
def calls(path):
    nodes = [node for node in ast.walk(tree_of(path)) if isinstance(node, ast.Call)]
    return [(ast.unparse(node.func), node) for node in nodes]


VERBS = {
    "backward": {"engine/update.py"},
    "optimizer step": {"engine/update.py"},
    # Policies are causal models; reward models have a scalar head and their own text encoding.
    "model call": {"engine/policy.py", "rewards/reward_model.py"},
    "file write": {"files.py"},
    "accelerate": {"engine/device.py"},
}


def verbs_in(path):
    for name, node in calls(path):
        last = name.rsplit(".", 1)[-1]
        if last == "backward":
            yield "backward"
        if name.endswith("optimizer.step"):
            yield "optimizer step"
        if name in {"model", "self.model", "policy.model", "self.model.model"}:
            yield "model call"
        if last in {"write_text", "write_bytes"}:
            yield "file write"
        if name == "open" and any(
            isinstance(arg, ast.Constant)
            and isinstance(arg.value, str)
            and set(arg.value) & set("wax+")
            for arg in node.args[1:]
        ):
            yield "file write"
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "accelerate":
            yield "accelerate"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_verbs_have_one_home(path):
    for verb in verbs_in(path):
        assert name_of(path) in VERBS[verb], f"{verb} in {name_of(path)}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_catch_all_no_guessing_attributes(path):
    tree = tree_of(path)
    for node in ast.walk(tree):
        if isinstance(node, ast.ExceptHandler):
            caught = "" if node.type is None else ast.unparse(node.type)
            assert caught not in {"", "Exception", "BaseException"}, f"line {node.lineno}"
    for name, node in calls(path):
        assert name != "hasattr", f"line {node.lineno}"
        assert not (name == "getattr" and len(node.args) == 3), f"line {node.lineno}"


def test_public_names_are_documented():
    assert undocumented(PACKAGE) == []


def test_every_method_has_its_page():
    assert missing_pages(PACKAGE.parents[1]) == []


@pytest.mark.parametrize("row", mutations.listed(), ids=lambda row: f"{row.file}: {row.formula}")
def test_a_row_of_the_mutations_is_of_this_code(row):
    """`make mutations` takes minutes; that its formulas and tests are there is seen at once."""
    mutations.mutated(row)
    file, name = row.test.split("::")
    assert f"def {name}(" in (Path(__file__).parent / file).read_text()
