"""The tutorial, run as it stands: its files written, its commands typed, its output compared."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tiny import complaints

PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"(?<![\w/*])-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
CLOSE = 0.25
"""Numbers are those of one machine: rounding elsewhere leads chains elsewhere."""


def blocks():
    return BLOCK.findall(PAGE.read_text())


def typed(block):
    """Commands of a console block, each with the lines it is said to print."""
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, said = part.partition("\n")
        yield command, said.splitlines()


def shape(line):
    """A line without its numbers and with its spaces made one."""
    return " ".join(NUMBER.sub("#", line).split())


def numbers(line):
    return [float(found.replace(",", "")) for found in NUMBER.findall(line)]


def agree(shown, printed):
    """Whether two lines of the same words say about the same."""
    pairs = zip(numbers(shown), numbers(printed), strict=True)
    if "virial" in shown or " ± " in shown:
        # An estimate, its error, then ends of intervals: the first is what is claimed.
        pairs = list(pairs)[:1]
    return all(abs(a - b) <= CLOSE * max(abs(a), abs(b)) for a, b in pairs)


def follow(folder):
    """Do everything the page says; return (command, line shown, lines printed) of what differs."""
    # Python files and commands: the interpreter is that of the test, rlct the package's own.
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    differs, commands = [], 0
    for kind, block in blocks():
        if kind == "python":
            name = re.match(r"# (\w+\.py)\n", block).group(1)
            (folder / name).write_text(block)
            continue
        if kind == "text":
            assert block.startswith("pip install"), block
            continue
        assert kind == "console", kind
        for command, shown in typed(block):
            words = command.split()
            program = {"python": [], "rlct": ["-m", "llc"]}[words[0]]
            done = subprocess.run(
                [sys.executable, *program, *words[1:]], cwd=folder, env=environment,
                capture_output=True, text=True, encoding="utf-8", timeout=600, check=False,
            )  # fmt: skip
            assert (done.returncode, complaints(done.stderr)) == (0, []), (command, done.stderr)
            commands += 1
            printed = iter(done.stdout.splitlines())
            for line in shown:
                if not any(shape(line) == shape(other) and agree(line, other) for other in printed):
                    differs.append((command, line, done.stdout))
    assert commands >= 7
    return differs


def test_every_block_does_what_the_page_shows(tmp_path):
    assert follow(tmp_path) == []
    for name in ("figure.pdf", "chains.png", "RUN/report.html", "RUN/transitions.json"):
        assert (tmp_path / name).stat().st_size > 1000


@pytest.mark.parametrize(
    ("shown", "printed", "same"),
    [
        ("LLC  19.7 ± 0.4", "LLC 19.6 ± 0.5", True),
        ("LLC  19.7 ± 0.4", "LLC 9.6 ± 0.4", False),
        ("3 transitions found", "3 transitions found", True),
        ("3 transitions found", "2 transitions found", False),
        ("step 2,000", "step 2,000", True),
        ("step 2,000", "stop 2,000", False),
        ("verdict     ok", "verdict ok", True),
        ("verdict     ok", "verdict fail", False),
    ],
)
def test_what_counts_as_the_same_line(shown, printed, same):
    assert (shape(shown) == shape(printed) and agree(shown, printed)) == same


def test_the_page_has_blocks_of_each_kind_and_no_other():
    kinds = [kind for kind, _ in blocks()]
    assert kinds.count("python") >= 4
    assert kinds.count("console") >= 6
    assert set(kinds) == {"python", "console", "text"}
    assert PAGE.read_text().count("\n```") == 2 * len(kinds)
