"""The gallery's page on induction heads: its scores by brute force, its numbers from its table."""

import csv
from pathlib import Path

import pytest
import torch
from tiny import script

from llc.tasks import induction_heads as ih
from llc.tasks import repeated_text as text

GALLERY = Path(__file__).parents[1] / "docs" / "gallery"


@pytest.fixture(scope="module")
def page():
    return script(GALLERY / "induction_heads.py")


@pytest.fixture
def drawn():
    return text.draw_sequences(30, torch.Generator().manual_seed(2), text.rules())


def attention(model, tokens):
    """Patterns of all layers, ``(layers, batch, heads, 31, 31)``, a head and query at a time."""
    stream = model.embedding(tokens[:, :-1]) + model.position.weight
    found = torch.zeros(ih.LAYERS, len(tokens), ih.HEADS, 31, 31)
    size = ih.WIDTH // ih.HEADS
    for k, layer in enumerate(model.layers):
        for h in range(ih.HEADS):
            rows = slice(h * size, (h + 1) * size)
            q, key = (stream @ w.weight[rows].T for w in (layer.query, layer.key))
            for t in range(31):
                scores = (key[:, : t + 1] * q[:, t : t + 1]).sum(-1) / size**0.5
                found[k, :, h, t, : t + 1] = scores.softmax(-1)
        stream = layer(stream, model.later)
    return found


@torch.no_grad()
def test_scores_by_position_after_position(page, drawn):
    model, (tokens, piece) = ih.task(3).model, drawn
    found = page.patterns(model, tokens, piece)
    weights = attention(model, tokens)
    for k in range(ih.LAYERS):
        for h in range(ih.HEADS):
            place = k * ih.HEADS + h
            matched, seen = 0.0, 0
            for row, length in enumerate(piece.tolist()):
                for t in range(length, 31):
                    # What followed this place of the piece on each pass before this one.
                    after = [j + 1 for j in range(t) if j % length == t % length]
                    matched += weights[k, row, h, t, after].sum().item()
                    seen += 1
            assert found["prefix"][place].item() == pytest.approx(matched / seen, rel=1e-4)
            for name, back in (("present", 0), ("previous", 1), ("lag", 2)):
                values = [weights[k, :, h, t, t - back] for t in range(back, 31)]
                expected = torch.stack(values).mean().item()
                assert found[name][place].item() == pytest.approx(expected, rel=1e-4)


@torch.no_grad()
def test_an_ablated_head_says_the_same_everywhere(page, drawn):
    tokens, piece = drawn
    model = ih.task(3).model
    before = ih.losses(model, tokens, piece)
    layer, size = model.layers[1], ih.WIDTH // ih.HEADS
    with page.ablated(model, 1, 2):
        found = ih.losses(model, tokens, piece)
    assert ih.losses(model, tokens, piece) == before
    # The same by hand: the head's values off, and what it adds on average put into the stream.
    stream = model.embedding(tokens[:, :-1]) + model.position.weight
    stream = model.layers[0](stream, model.later)
    rows = slice(2 * size, 3 * size)
    seen = layer.pattern(stream, model.later)[:, 2] @ (stream @ layer.value.weight[rows].T)
    constant = seen.mean((0, 1)) @ layer.output.weight[:, rows].T
    layer.value.weight[rows] = 0
    rest = layer(stream, model.later) + constant

    class Rest(torch.nn.Module):
        def forward(self, _):
            return model.unembedding(rest).transpose(1, 2)

    assert ih.losses(Rest(), tokens, piece) == pytest.approx(found, rel=1e-5)
    assert found != pytest.approx(before, rel=1e-5)


@pytest.mark.parametrize("name", ["induction-heads.csv", "induction-heads-1.csv"])
def test_tables_hold_every_head_and_step(page, name):
    with (GALLERY / name).open() as file:
        rows = list(csv.DictReader(file))
    pairs = [(row["part"], int(row["step"])) for row in rows]
    assert pairs == [(head, step) for head in page.HEADS for step in page.SAVE_AT]


def test_numbers_of_the_page_are_those_of_its_table(page):
    with (GALLERY / "induction-heads.csv").open() as file:
        known = {(row["part"], row["step"]): row for row in csv.DictReader(file)}
    lines = (GALLERY / "induction-heads.md").read_text().splitlines()
    tables = [[c.strip() for c in line.strip("|").split("|")] for line in lines if "|" in line]
    rows = [row for row in tables if row[0].strip("`") in page.HEADS]
    assert [row[0].strip("`") for row in rows] == page.HEADS
    steps = next(row for row in tables if row[0] == "head")[4:]
    for head, role, prefix, rise, *cells in rows:
        own = head.strip("`")
        last = known[own, "6000"]
        every = [row for (part, _), row in known.items() if part == own]
        assert role == page.role(every, own)[0]
        assert float(prefix) == pytest.approx(float(last["prefix"]), abs=0.006)
        assert float(rise) == pytest.approx(float(last["later_rise"]), abs=0.006)
        for step, cell in zip(steps, cells, strict=True):
            row = known[own, step.replace(",", "")]
            value, error = cell.removesuffix(" !").split(" ± ")
            digits = len(error.rpartition(".")[2]) if "." in error else 0
            assert float(value) == pytest.approx(float(row["llc"]), abs=0.51 * 10**-digits)
            assert float(error) == pytest.approx(float(row["mcse"]), abs=0.51 * 10**-digits)
            assert cell.endswith("!") == (row["verdict"] == "fail")
