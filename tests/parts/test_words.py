"""The language of parts, against masks written out by hand."""

import pytest
import torch
from tiny import refusal

from llc.parts import as_strings, choose, shown, united

SHAPES = {
    "embedding.weight": torch.Size([5, 4]),
    "blocks.0.attention.query.weight": torch.Size([4, 4]),
    "blocks.0.attention.query.bias": torch.Size([4]),
    "blocks.1.attention.query.weight": torch.Size([4, 4]),
    "blocks.1.mlp.weight": torch.Size([6, 4]),
    "scale": torch.Size([]),
}
QUERY = "blocks.0.attention.query.weight"


def test_names_inside_a_wrapper():
    shapes = {f"module.{name}": shape for name, shape in SHAPES.items()}
    for only, inside in ((QUERY, QUERY), ("blocks.?.mlp", "blocks.1.mlp.weight")):
        assert list(choose(shapes, [only])) == [f"module.{inside}"]
        assert list(choose(shapes, [f"module.{only}"])) == [f"module.{inside}"]


def chosen(*only):
    return choose(SHAPES, only)


@pytest.mark.parametrize(
    ("only", "names"),
    [
        (["embedding.weight"], [0]),
        (["embedding"], [0]),
        (["blocks.0"], [1, 2]),
        (["blocks.*.attention"], [1, 2, 3]),
        (["blocks.?.mlp", "scale"], [4, 5]),
        (["*.bias"], [2]),
        (["*"], [0, 1, 2, 3, 4, 5]),
        (["blocks", "!*.bias"], [1, 3, 4]),
        (["!blocks"], [0, 5]),
    ],
)
def test_names_patterns_and_exceptions(only, names):
    assert chosen(*only) == {name: None for k, name in enumerate(SHAPES) if k in names}


@pytest.mark.parametrize(
    ("ranges", "where"),
    [
        ("[1:3]", (slice(1, 3),)),
        ("[2]", (slice(2, 3),)),
        ("[:, 0:2]", (slice(None), slice(0, 2))),
        ("[2:,:1]", (slice(2, 4), slice(0, 1))),
        ("[3, 1]", (slice(3, 4), slice(1, 2))),
    ],
)
def test_slices_are_those_of_python(ranges, where):
    expected = torch.zeros(4, 4, dtype=torch.bool)
    expected[where] = True
    (mask,) = chosen(f"{QUERY}{ranges}").values()
    assert torch.equal(mask, expected)


def test_slices_of_a_pattern_cut_every_tensor_of_it():
    found = chosen("blocks.*.query.weight[0:1]")
    assert list(found) == [QUERY, "blocks.1.attention.query.weight"]
    assert all(mask.sum() == 4 and mask[0].all() for mask in found.values())


def test_slices_unite_and_are_taken_away():
    both = chosen(f"{QUERY}[0:2]", f"{QUERY}[:, 0:2]")[QUERY]
    assert int(both.sum()) == 12
    assert chosen(f"{QUERY}[0:2]", f"{QUERY}[2:4]") == {QUERY: None}
    left = chosen(QUERY, f"!{QUERY}[1:4]")[QUERY]
    assert torch.equal(left.nonzero(), torch.tensor([[0, k] for k in range(4)]))


def test_masks_come_back_bit_for_bit():
    generator = torch.Generator().manual_seed(0)
    for shape in ([4, 4], [4], [5, 4], [6, 4]):
        mask = torch.rand(shape, generator=generator) < 0.4
        mask.view(-1)[0] = True
        name = next(n for n, s in SHAPES.items() if list(s) == shape)
        (packed,) = as_strings({name: mask})
        assert torch.equal(chosen(packed)[name], mask)
        assert f"({int(mask.sum())} of {mask.numel()} entries)" in shown((packed,))
    (packed,) = as_strings({"scale": torch.tensor(True)})
    assert chosen(packed) == {"scale": None}
    assert chosen(*as_strings({"scale": None, QUERY: torch.ones(4, 4).bool()})) == {
        QUERY: None, "scale": None,
    }  # fmt: skip


def test_other_words_come_before_slices():
    def known(word):
        return {"scale": None} if word == "heads[0]" else None

    assert choose(SHAPES, ["heads[0]"], known) == {"scale": None}


def test_united_keeps_the_larger():
    mask = torch.tensor([True, False])
    assert united({"a": mask}, {"a": None, "b": mask})["a"] is None
    assert torch.equal(united({"a": mask}, {"a": ~mask})["a"], torch.ones(2, dtype=torch.bool))


@pytest.mark.parametrize(
    ("only", "words"),
    [
        (["blocks.0.atention"], "blocks.0.attention"),
        (["*.gamma"], "matches no parameter"),
        ([f"{QUERY}[0:9]"], "within 0:4"),
        ([f"{QUERY}[2:2]"], "within 0:4"),
        ([f"{QUERY}[0:1,0:1,0:1]"], "slices 3 dimensions"),
        ([f"{QUERY}[1:2:3]"], "'1:2:3'"),
        (["scale[0:1]"], "slices 1 dimensions"),
        (["blocks.1", "!*"], "leaves nothing to sample"),
        (["embedding.weight@2x2:eJw="], "cannot be read"),
        (as_strings({"embedding.weight": torch.ones(4, 5).bool()}), "expected the parameter's own"),
        (as_strings({"embeding.weight": torch.ones(4, 5).bool()}), "embedding.weight"),
    ],
)
def test_what_names_nothing_is_refused(only, words):
    assert words in refusal(lambda: choose(SHAPES, only))


def test_frozen_tensors_are_called_by_name():
    message = refusal(lambda: choose(SHAPES, ["head"], frozen=["head.weight"]))
    assert "head.weight, which is frozen" in message


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "empty"),
        ({}, "empty"),
        ("  ", "empty"),
        (3, "a int"),
        ([torch.ones(2).bool()], "a Tensor"),
        ({"scale": torch.tensor(1.0)}, "torch.float32 tensor"),
        ({"scale": [True]}, "a list"),
        ({"scale": torch.tensor(False)}, "False everywhere"),
        ({3: None}, "as a key"),
    ],
)
def test_what_is_no_choice_is_refused(given, words):
    assert words in refusal(lambda: as_strings(given))
