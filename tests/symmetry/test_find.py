"""Symmetries found in chains of layers: true ones, all of the known ones, none that is false."""

import nets
import pytest
import torch
from torch import nn

from llc.symmetry import Offset, Units, find_symmetries

LONG = nets.noise(3, 2, 9)
NUMBERS = torch.arange(6).reshape(3, 2)

CHAINS = [
    ("relu", [nn.Linear(3, 5), nn.ReLU(), nn.Linear(5, 2)], nets.ROWS, ["relu"]),
    ("tanh twice", [nn.Linear(3, 5), nn.Tanh(), nn.Tanh(), nn.Linear(5, 2)], nets.ROWS, ["odd"]),
    ("two kinds", [nn.Linear(3, 5), nn.Tanh(), nn.ReLU(), nn.Linear(5, 2)], nets.ROWS, ["any"]),
    ("gelu", [nn.Linear(3, 5), nn.GELU(), nn.Linear(5, 2)], nets.ROWS, ["any"]),
    ("bare", [nn.Linear(3, 5), nn.Linear(5, 2)], nets.ROWS, ["linear", "offset"]),
    ("no bias", [nn.Linear(3, 5, bias=False), nn.Linear(5, 2)], nets.ROWS, ["linear"]),
    (
        "layer norm",
        [nn.Linear(3, 5), nn.LayerNorm(5), nn.ReLU(), nn.Linear(5, 2)],
        nets.ROWS,
        ["any", "relu"],
    ),
    (
        "norm and tanh",
        [nn.Linear(3, 5), nn.BatchNorm1d(5), nn.Tanh(), nn.Linear(5, 2)],
        nets.ROWS,
        ["any"],
    ),
    (
        "norm without weights",
        [nn.Linear(3, 5), nn.BatchNorm1d(5, affine=False), nn.ReLU(), nn.Linear(5, 2)],
        nets.ROWS,
        ["any"],
    ),
    (
        "sequence",
        [nn.Conv1d(2, 4, 3), nn.BatchNorm1d(4), nn.AvgPool1d(2), nn.Conv1d(4, 2, 2)],
        LONG,
        ["any", "relu"],
    ),
    (
        "bare convolutions",
        [nn.Conv1d(2, 4, 3, padding=1), nn.AvgPool1d(3), nn.Flatten(), nn.Linear(12, 2)],
        LONG,
        ["linear"],
    ),
    ("maximum", [nn.Conv1d(2, 4, 3), nn.MaxPool1d(2), nn.Conv1d(4, 2, 2)], LONG, ["relu"]),
    ("embedding", [nn.Embedding(6, 4), nn.Linear(4, 3)], NUMBERS, ["linear", "offset"]),
    ("flat embedding", [nn.Embedding(6, 4), nn.Flatten(), nn.Linear(8, 3)], NUMBERS, []),
    ("softmax", [nn.Linear(3, 5), nn.Softmax(-1), nn.Linear(5, 2)], nets.ROWS, []),
    ("groups", [nn.Conv1d(2, 4, 3), nn.ReLU(), nn.Conv1d(4, 4, 3, groups=2)], LONG, []),
    ("image", list(nets.convolutions().children()), nets.IMAGES, ["any", "relu", "relu", "odd"]),
    ("pixels", [nn.Conv1d(2, 9, 3), nn.ReLU(), nn.Linear(7, 9), nn.ReLU()], LONG, []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("layers", "inputs", "kinds"), [c[1:] for c in CHAINS], ids=[c[0] for c in CHAINS]
)
def test_chains(layers, inputs, kinds):
    model = nets.seeded(lambda: nn.Sequential(*layers))
    found = find_symmetries(model)
    assert [s.activation if isinstance(s, Units) else "offset" for s in found] == kinds
    weights = model.state_dict()
    before = nets.outputs(model, weights, inputs)
    for number, symmetry in enumerate(found):
        moved = symmetry.random(weights, torch.Generator().manual_seed(number), 1.0)
        after = nets.outputs(model, moved, inputs)
        torch.testing.assert_close(after, before, rtol=1e-9, atol=1e-9)


def test_models_of_their_own_and_modules_used_twice_give_none():
    twice = nn.Linear(4, 4)
    assert find_symmetries(nn.Sequential(twice, nn.ReLU(), twice, nn.ReLU(), nn.Linear(4, 2))) == ()
    assert find_symmetries(nets.seeded(nets.Summed)) == ()
    tied = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4))
    tied[4].weight = tied[2].weight
    assert [s.tensors for s in find_symmetries(tied)] == []


def test_hooks_and_parametrisations_end_a_chain():
    hooked = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    hooked[1].register_forward_hook(lambda module, given, out: out + 1)
    assert find_symmetries(hooked) == ()
    weighed = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    nn.utils.parametrizations.weight_norm(weighed[0])
    assert find_symmetries(weighed) == ()


def test_names_are_those_of_the_state_dict():
    model = nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), nn.Linear(4, 2))
    (found,) = find_symmetries(model)
    assert found.tensors == {"0.0.weight", "0.0.bias", "1.weight"}
    assert found.tensors <= set(model.state_dict())
    assert not isinstance(found, Offset)
