"""The gallery's page on a language model: its entropies by hand, its numbers from its table."""

import csv
import math
import re
from pathlib import Path

import numpy as np
import pytest
from tiny import script

from llc.transitions import find_in_curve

GALLERY = Path(__file__).parents[1] / "docs" / "gallery"
TEXT = (GALLERY / "language-model.md").read_text()


@pytest.fixture(scope="module")
def page():
    return script(GALLERY / "language_model.py")


@pytest.fixture(scope="module")
def known():
    with (GALLERY / "language-model.csv").open() as file:
        return {(row["run"], int(row["step"])): row for row in csv.DictReader(file)}


def test_entropies_of_a_small_sequence(page):
    # After 0 come 1, 1, 2; after 1 comes 0 twice, after 2 nothing. Targets are 1, 0, 1, 0, 2.
    alone, given = page.entropies(np.array([[0, 1, 0, 1, 0, 2]]))
    assert alone == pytest.approx(-(0.8 * math.log(0.4) + 0.2 * math.log(0.2)))
    assert given == pytest.approx(-(3 / 5) * (2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3)))


def test_table_holds_both_networks_at_every_step_of_the_command(page, known):
    assert list(known) == [(run, step) for run in page.RUNS for step in page.SAVE_AT]
    assert f"STEPS='{{{','.join(map(str, page.SAVE_AT))}}}'" in TEXT


def agrees(cell, value, error=None):
    shown, _, spread = cell.partition(" ± ")
    digits = len((spread or shown).partition(".")[2])
    assert float(shown) == pytest.approx(float(value), abs=0.51 * 10**-digits)
    assert not spread or float(spread) == pytest.approx(float(error), abs=0.51 * 10**-digits)


def test_numbers_of_the_page_are_those_of_its_table(known):
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in TEXT.splitlines()]
    rows = [row for row in cells if len(row) == 9 and row[0].isdigit()]
    assert len(rows) == 10
    for step, *both in rows:
        for run, (llc, null, share, loss) in (("text", both[:4]), ("shuffled", both[4:])):
            row = known[run, int(step)]
            agrees(llc, row["llc"], row["mcse"])
            agrees(null, row["null"], row["null_se"])
            agrees(share, row["saturation"])
            agrees(loss, row["train_loss"])


def test_sentences_of_the_page_are_true_of_its_table(known):
    def of(run, step, name="llc"):
        return float(known[run, step][name])

    def change(run, start, end, name="llc"):
        return round(100 * abs(of(run, end, name) / of(run, start, name) - 1))

    said = re.sub(r"\s+", " ", TEXT)
    unigram, bigram = (of("text", 11, name) for name in ("unigram", "bigram"))
    assert f"a token, {unigram:.3f} nats, and of a token given the one before, {bigram:.3f}" in said
    assert of("text", 16, "train_loss") > unigram > of("text", 24, "train_loss")
    assert of("text", 270, "train_loss") > bigram > of("text", 405, "train_loss")
    assert f"ends {of('text', 2048) / of('shuffled', 2048):.0f} times as high" in said
    first, second = (
        (of("text", end) - of("text", start)) / math.log(end / start)
        for start, end in ((24, 120), (120, 2048))
    )
    assert f"rises by {first:.0f} an e-fold of steps, after that by {second:.0f}" in said
    rise, alone = change("text", 180, 910), change("text", 180, 910, "null")
    assert f"rises by {rise} %, what the prior alone gives by {alone} %" in said
    fall, alone = change("shuffled", 120, 2048), change("shuffled", 120, 2048, "null")
    assert f"falls by {fall} %, and its null by {alone} %" in said
    verdicts = [row["verdict"] for row in known.values()]
    assert f"{verdicts.count('ok')} *ok*, {verdicts.count('warn')} *warn*, none *fail*" in said
    assert "fail" not in verdicts
    prior = {key for key, row in known.items() if "PRIOR_DOMINATED" in row["reasons"]}
    assert prior == {("text", 11), ("text", 36), ("shuffled", 11), ("shuffled", 2048)}
    assert prior == {key for key, row in known.items() if row["verdict"] == "warn"}


def test_no_transition_in_either_network(page, known):
    for run in page.RUNS:
        llc, mcse = (
            np.array([float(known[run, step][name]) for step in page.SAVE_AT])
            for name in ("llc", "mcse")
        )
        found = find_in_curve(page.SAVE_AT, llc, mcse)
        assert (found.verdict, len(found)) == ("smooth", 0)
