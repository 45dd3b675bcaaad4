"""What the gallery's pages say is what is in the tables beside them."""

import csv
import re
from pathlib import Path

import numpy as np
import pytest

from llc.tasks import linear_net
from llc.transitions import find_in_curve

GALLERY = Path(__file__).parents[1] / "docs" / "gallery"


def columns(name):
    with (GALLERY / name).open() as file:
        rows = list(csv.DictReader(file))
    return {key: np.array([float(row[key]) for row in rows]) for key in ("step", "llc", "mcse")}


def table(name):
    """The rows of a page's tables, cell by cell."""
    lines = (GALLERY / name).read_text().splitlines()
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]


def number(cell):
    return float(re.match(r"-?[\d.]+", cell.replace(",", "")).group())


def test_plateaus_of_the_linear_net_are_those_of_its_table():
    run = columns("linear-net.csv")
    rows = [row for row in table("linear-net.md") if row[0].isdigit()]
    assert [int(row[0]) for row in rows] == [0, 1, 2, 3, 4]
    found = find_in_curve(run["step"], run["llc"], run["mcse"])
    assert found.verdict == "jumps"
    assert len(found) == 4
    for row, plateau in zip(rows, found.plateaus, strict=True):
        assert number(row[1]) == linear_net.exact_llc(linear_net.WIDTHS, int(row[0]))
        level, error = map(float, row[2].split(" ± "))
        assert level == pytest.approx(plateau.llc, abs=plateau.se)
        assert abs(level - number(row[1])) < 2 * error
        start, end = map(float, row[3].split(" to "))
        assert (start, end) == (plateau.start, plateau.end)
    for row, transition in zip(rows, found, strict=False):
        assert number(row[5]) == pytest.approx(transition.jump, abs=transition.jump_se)


def test_every_page_is_in_the_index_and_has_a_small_figure():
    index = (GALLERY / "index.md").read_text()
    pages = {page.stem for page in GALLERY.glob("*.md")} - {"index"}
    assert len(pages) >= 3
    assert ":glob:\n\n*\n" in index
    for page in pages:
        (row,) = [line for line in index.splitlines() if f"({page}.md) | " in line]
        assert f"[![]({page}.png)]({page}.md) [**" in row
        assert "`rlct " in row
        assert f"]({page}.png)" in (GALLERY / f"{page}.md").read_text()
        assert (GALLERY / f"{page}.png").stat().st_size < 150_000


def test_numbers_of_the_superposition_page_are_those_of_its_table():
    with (GALLERY / "superposition.csv").open() as file:
        run = {int(row["step"]): row for row in csv.DictReader(file)}
    rows = [row for row in table("superposition.md") if row[0].isdigit()]
    assert len(rows) == 8
    for step, llc, exact, _, loss, _ in rows:
        measured = run[int(step)]
        value, spread = map(float, llc.split(" ± "))
        assert value == pytest.approx(float(measured["llc"]), abs=0.0051)
        assert spread == pytest.approx(float(measured["mcse"]), abs=0.0051)
        known = float(measured["exact_llc"])
        assert exact == ("unknown" if np.isnan(known) else f"{known:g}")
        assert float(loss) == pytest.approx(float(measured["train_loss"]), abs=0.00006)
    steps = columns("superposition.csv")
    found = find_in_curve(steps["step"], steps["llc"], steps["mcse"])
    assert (found.verdict, len(found)) == ("jumps", 1)
    assert found[0].jump == pytest.approx(2.71, abs=0.1)
    assert [p.llc for p in found.plateaus] == pytest.approx([5.98, 8.69], abs=0.05)
    assert {row["verdict"] for row in run.values()} == {"ok"}


def test_numbers_of_the_transformer_are_those_of_its_table():
    with (GALLERY / "in-context-regression.csv").open() as file:
        run = {int(row["step"]): row for row in csv.DictReader(file)}
    rows = [row for row in table("in-context-regression.md") if row[0].isdigit()]
    assert len(rows) == 10
    for step, llc, null, ratio, loss, first, last in rows:
        measured = run[int(step)]
        for cell, name, error in ((llc, "llc", "mcse"), (null, "null", "null_se")):
            value, spread = map(float, cell.split(" ± "))
            assert value == pytest.approx(float(measured[name]), abs=0.51 * 10 ** -places(cell))
            assert spread == pytest.approx(float(measured[error]), abs=0.51 * 10 ** -places(cell))
        assert float(ratio) == pytest.approx(float(measured["saturation"]), abs=0.006)
        assert float(loss) == pytest.approx(float(measured["train_loss"]), abs=0.0006)
        assert float(first) == pytest.approx(float(measured["loss_at_1"]), abs=0.006)
        assert float(last) == pytest.approx(float(measured["loss_at_8"]), abs=0.006)


def places(cell):
    """Decimal places of the error in a cell such as 3.93 ± 0.16."""
    return len(cell.rpartition(".")[2]) if "." in cell else 0
