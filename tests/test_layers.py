"""The table of docs/architecture.md is the law: imports go down, rooms hold no cycles."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "llc"
FREE = {"__init__", "__main__"}


def read_table(text):
    rows = re.findall(r"^\| (\d+) \| `([^`]+)` \|", text, re.MULTILINE)
    return {place: int(layer) for layer, place in rows}


TABLE = read_table((ROOT / "docs" / "architecture.md").read_text())
FILES = sorted(
    path.relative_to(PACKAGE).as_posix()
    for path in PACKAGE.rglob("*.py")
    if path.parent != PACKAGE or path.stem not in FREE
)


def room_of(file, table):
    """The most specific place of the table that holds a file."""
    places = [place for place in table if file == place or file.startswith(place.rstrip("/") + "/")]
    return max(places, key=len) if places else None


def module_file(dotted, files):
    """The file of a module's dotted name under llc, or None if it is no module."""
    path = "/".join(dotted.split(".")[1:])
    return next((f for f in (f"{path}.py", f"{path}/__init__.py") if f in files), None)


def imports_of(source, files):
    """Files of the package that a file imports, wherever in it the import stands."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            deeper = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if module_file(name, files) else node.module for name in deeper]
        for name in names:
            if name.startswith("llc.") and (file := module_file(name, files)):
                found.add(file)
    return found


def violations(sources, table):
    """Sentences about every import that the table forbids."""
    graph = {file: imports_of(source, sources) for file, source in sources.items()}
    found = []
    for file, targets in graph.items():
        room = room_of(file, table)
        if room is None:
            found.append(f"{file} has no room")
            continue
        for target in targets:
            other = room_of(target, table)
            if other is not None and other != room and table[other] >= table[room]:
                found.append(f"{file} ({table[room]}) imports {target} ({table[other]})")
    return found + [f"cycle through {file}" for file in graph if reaches(graph, file, file)]


def reaches(graph, start, goal):
    seen, todo = set(), list(graph[start])
    while todo:
        file = todo.pop()
        if file == goal:
            return True
        if file not in seen:
            seen.add(file)
            todo.extend(graph.get(file, ()))
    return False


def test_the_package_keeps_its_layers():
    sources = {file: (PACKAGE / file).read_text() for file in FILES}
    assert len(sources) > 30
    assert violations(sources, TABLE) == []


def test_every_place_of_the_table_exists():
    assert len(TABLE) > 15
    assert [place for place in TABLE if not (PACKAGE / place).exists()] == []


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("params.py", "from llc.posterior import Posterior"),
        ("sampling/kernels/sgld.py", "from llc.sampling.kernels import kinetic"),
        ("plot/figures.py", "def f():\n    from llc.cli.main import main"),
        ("diagnostics.py", "import llc.files"),
        ("estimation/verdict.py", "from llc.estimation.estimate import Estimate"),
        ("stray.py", ""),
    ],
)
def test_a_forbidden_import_is_found(file, line):
    sources = {name: (PACKAGE / name).read_text() for name in FILES}
    sources[file] = sources.get(file, "") + "\n" + line
    assert violations(sources, TABLE) != []
