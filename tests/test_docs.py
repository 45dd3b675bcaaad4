"""What the documentation names exists, and what exists is documented."""

import ast
import importlib
import inspect
import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

import llc
from llc.cli import options
from llc.cli.main import COMMANDS

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(p for p in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")))
API = (DOCS / "api.md").read_text()
PUBLIC = ("plot", "truths", "interop", "symmetry", "transitions", "planting", "trajectory.basins",
          "trajectory", "trajectory.symmetries", "estimation", "refined", "sweeps", "validation",
          "report")  # fmt: skip
INNER = {"choose", "with_sampler"}
"""Of `llc.sweeps`: what its command shares with its function."""


def found(name):
    """The object of a dotted name; of a function and its module of one name, the function."""
    thing = llc
    for part in name.split(".")[1:]:
        try:
            thing = getattr(thing, part)
        except AttributeError:
            thing = importlib.import_module(f"{thing.__name__}.{part}")
    return thing


def documented():
    """Every object that the API page shows, by its identity."""
    shown = {}
    for kind, name in re.findall(r"^\.\. auto(\w+):: (\S+)$", API, re.MULTILINE):
        thing = found(name)
        if kind == "module":
            shown.update({id(getattr(thing, n)): f"{name}.{n}" for n in thing.__all__})
        shown[id(thing)] = name
    return shown


def public():
    for place in ("", *PUBLIC):
        module = importlib.import_module(f"llc.{place}".rstrip("."))
        for name in module.__all__:
            thing = getattr(module, name)
            if callable(thing) and name not in INNER:
                yield f"{module.__name__}.{name}", thing


def test_every_public_name_is_on_the_api_page_and_explains_itself():
    shown = documented()
    names = dict(public())
    assert len(names) > 100
    assert [name for name, thing in names.items() if id(thing) not in shown] == []
    silent = [name for name, thing in names.items() if len(inspect.getdoc(thing) or "") < 20]
    assert silent == []


def test_parameters_of_documented_functions_are_explained():
    """Those of functions of more than two; fewer are often said in the sentence."""
    for name in documented().values():
        thing = found(name)
        if not inspect.isfunction(thing) or name.startswith(("llc.plot", "llc.truths")):
            continue
        text = inspect.getdoc(thing)
        names = [p for p in inspect.signature(thing).parameters if p not in ("self", "cls")]
        if len(names) > 2 and "as `estimate` does" not in text:
            assert [p for p in names if not re.search(rf"\b{p}\b", text)] == [], name


def test_every_reason_of_a_verdict_is_explained():
    page = (DOCS / "verdicts.md").read_text()
    assert [reason.name for reason in llc.Reason if f"`{reason.name}`" not in page] == []


def test_every_figure_is_explained():
    page = (DOCS / "figures.md").read_text()
    rows = [line for line in page.splitlines() if line.startswith("| `plot.")]
    named = {word for row in rows for word in re.findall(r"`(?:plot\.)?(\w+)`", row.split("|")[1])}
    assert set(llc.plot.__all__) - named == {"save"}
    assert named - set(llc.plot.__all__) == set()
    for choice in get_args(get_type_hints(options.Plot)["figure"]):
        assert re.search(rf"\b{choice}\b", page), choice


def test_every_command_is_listed_and_every_listed_command_exists():
    page = (DOCS / "commands.md").read_text()
    listed = set(re.findall(r"^\|[^|]*\| `rlct ([\w-]+)", page, re.MULTILINE))
    assert listed == set(COMMANDS)
    # What exists as a flag of some command is all that a page may ask for.
    flags = {f"--{name.replace('_', '-')}" for command in COMMANDS
             for name in get_type_hints(getattr(options, command.capitalize()))}  # fmt: skip
    flags |= {"--help", "--version", "--tyro-print-completion"}
    for path in PAGES:
        for line in re.findall(r"rlct [a-z]+ [^`\n]*", path.read_text()):
            asked = set(re.findall(r"(?<![\w-])--[a-z][\w-]*", line))
            assert asked <= flags, (path.name, asked - flags)


def test_every_benchmark_named_exists_and_says_how_it_was_run():
    texts = [path.read_text() for path in [*PAGES, *(ROOT / "llc").rglob("*.py")]]
    named = {name for text in texts for name in re.findall(r"benchmarks/[\w/]+\.py", text)}
    assert len(named) >= 10
    assert [name for name in named if not (ROOT / name).is_file()] == []
    run = {name for text in texts for name in re.findall(r"python (benchmarks/[\w/]+\.py)", text)}
    assert len(run) >= 8
    for name in run:
        header = ast.get_docstring(ast.parse((ROOT / name).read_text()))
        assert f"python {name}" in header, name


def test_links_between_pages_lead_somewhere():
    for path in PAGES:
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[\w-]+)?\)", path.read_text()):
            if not target.startswith(("http", "mailto")):
                assert (path.parent / target).exists(), (path.name, target)


@pytest.mark.parametrize("page", [ROOT / "README.md", DOCS / "index.md"], ids=["readme", "index"])
def test_the_figure_comes_first(page):
    lines = page.read_text().splitlines()
    first = next(n for n, line in enumerate(lines) if line.startswith("!["))
    assert first < 12
    assert not any(line.startswith("```") for line in lines[:first])


def test_every_source_of_the_code_is_on_the_page_of_sources():
    page = (DOCS / "references.md").read_text()
    listed = set(re.findall(r"\b\d{4}\.\d{4,5}\b", page))
    for path in [*(ROOT / "llc").rglob("*.py"), *PAGES]:
        cited = set(re.findall(r"arXiv:?\s+(\d{4}\.\d{4,5})", path.read_text()))
        assert cited <= listed, (path.name, cited - listed)
    rows = [line for line in page.splitlines() if line.startswith("| ") and "`llc." in line]
    assert len(rows) > 40
    for row in rows:
        source, where = row.split("|")[1:3]
        names = set(re.findall(r"(?:[A-Z]\. )+(?:\w+ )?([A-Z][\w-]+)", source))
        assert names, source
        for module in re.findall(r"`(llc[\w.]+)`", where):
            file = Path(inspect.getfile(found(module)))
            files = file.parent.rglob("*.py") if file.name == "__init__.py" else [file]
            text = " ".join(f.read_text() for f in files)
            assert any(name in text for name in names), (module, source)


def test_the_citation_is_whole_and_of_this_version():
    lines = (ROOT / "CITATION.cff").read_text().splitlines()
    top = {line.partition(":")[0] for line in lines if line and not line.startswith((" ", "-"))}
    assert top >= {"cff-version", "message", "title", "authors", "version", "license", "abstract"}
    assert f"version: {llc.__version__}" in lines
    years = [line.split()[-1] for line in lines if line.strip().startswith("year:")]
    page = (DOCS / "references.md").read_text()
    assert len(years) >= 3
    assert all(f"({year})" in page for year in years)


def test_changes_begin_with_this_version():
    changes = (ROOT / "CHANGELOG.md").read_text()
    first = next(line for line in changes.splitlines() if line.startswith("## "))
    assert first.split()[1] == llc.__version__
