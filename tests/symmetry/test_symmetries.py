"""Declared symmetries leave outputs as they are; broken declarations do not; tangents are exact."""

import itertools
import math
import pickle

import nets
import pytest
import torch
import torch.nn.functional as F
from tiny import refusal
from torch import nn
from torch.func import functional_call, jacrev
from torch.nn.attention import SDPBackend, sdpa_kernel

from llc.symmetry import Heads, Leg, Offset, Units, distance

CASES = nets.cases()
NAMES = [name for name, *_ in CASES]


@pytest.fixture(params=CASES, ids=NAMES)
def case(request):
    return request.param[1:]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_outputs_stay_and_weights_move(case):
    model, inputs, symmetry = case
    weights = model.state_dict()
    before = nets.outputs(model, weights, inputs)
    for part in symmetry.parts(weights):
        moved, stretch = part.move(weights, generator(1), 1.5)
        after = nets.outputs(model, moved, inputs)
        torch.testing.assert_close(after, before, rtol=1e-10, atol=1e-10)
        assert distance(weights, moved) > 1e-3, part.label
        assert (stretch == 0) is part.isometry
        kept = [name for name in weights if name not in symmetry.tensors]
        assert all(moved[name] is weights[name] for name in kept)
    moved = symmetry.random(weights, generator(2), 1.0)
    torch.testing.assert_close(nets.outputs(model, moved, inputs), before, rtol=1e-9, atol=1e-9)


def test_isometries_keep_distances_and_others_stretch_by_no_more_than_they_say(case):
    model, _, symmetry = case
    weights = model.state_dict()
    other = {name: w + 0.1 * nets.noise(*w.shape, seed=5) if w.is_floating_point() else w
             for name, w in weights.items()}  # fmt: skip
    # The shift drawn depends on the size of what it shifts: not the same at two places.
    for part in (part for part in symmetry.parts(weights) if "shift" not in part.label):
        here, stretch = part.move(weights, generator(3), 1.0)
        there, _ = part.move(other, generator(3), 1.0)
        ratio = distance(here, there) / distance(weights, other)
        assert abs(math.log(ratio)) <= stretch + 1e-9
        assert part.isometry is (stretch == 0)


def outputs_jacobian(model, weights, inputs):
    named = {name: w for name, w in weights.items() if name in dict(model.named_parameters())}
    with sdpa_kernel(SDPBackend.MATH):
        found = jacrev(lambda w: functional_call(model, {**weights, **w}, (inputs,)))(named)
    rows = next(iter(found.values())).numel() // next(iter(named.values())).numel()
    return torch.cat([found[name].reshape(rows, -1) for name in named], 1), list(named)


def flat(directions, weights, names):
    count = len(next(iter(directions.values())))
    blocks = [
        directions[name].reshape(count, -1)
        if name in directions
        else torch.zeros(count, weights[name].numel(), dtype=torch.float64)
        for name in names
    ]
    return torch.cat(blocks, 1)


def test_directions_are_flat_at_first_order(case):
    model, inputs, symmetry = case
    weights = model.state_dict()
    directions = symmetry.directions(weights)
    if not directions or not len(next(iter(directions.values()))):
        assert all(part.dimension == 0 for part in symmetry.parts(weights))
        return
    jacobian, names = outputs_jacobian(model, weights, inputs)
    tangents = flat(directions, weights, names)
    assert tangents.abs().sum(1).min() > 0
    largest = (tangents @ jacobian.T).abs().max()
    assert largest < 1e-10 * jacobian.abs().max() * tangents.abs().max() * 100


@pytest.mark.parametrize("widths", [(5, 4, 5), (3, 4, 3), (4, 3, 3, 4), (2, 5, 1)])
@pytest.mark.parametrize("rank", [None, 1])
def test_orbits_of_linear_nets_have_the_dimensions_of_brute_force(widths, rank):
    """Against the rank of the map X ↦ (X·A, −B·X), its stabiliser taken off, by finite moves."""
    layers = [
        nets.noise(out, into, seed=out + 7 * into) for into, out in itertools.pairwise(widths)
    ]
    if rank is not None:
        layers = [torch.linalg.svd(w)[0][:, :1] @ torch.linalg.svd(w)[2][:1] for w in layers]
    weights = {f"{i}": layer for i, layer in enumerate(layers)}
    specs = [Units([f"{i}"], [f"{i + 1}"], "linear") for i in range(len(layers) - 1)]
    total = []
    for spec in specs:
        tangents = flat(spec.directions(weights), weights, list(weights))
        total.append(tangents)
        # Finite moves near the identity span the orbit's tangent space too.
        moved = []
        n = spec.size(weights)
        for seed in range(3 * n * n):
            step = torch.eye(n, dtype=torch.float64) + 1e-6 * nets.noise(n, n, seed=seed)
            there = spec.apply(weights, step)
            moved.append(torch.cat([(there[k] - weights[k]).flatten() for k in weights]) / 1e-6)
        values = torch.linalg.svdvals(torch.stack(moved))
        by_moves = int((values > 1e-3 * values[0]).sum())
        assert int(torch.linalg.matrix_rank(tangents)) == by_moves
    if widths == (5, 4, 5) and rank is None:
        together = torch.cat(total)
        assert int(torch.linalg.matrix_rank(together)) == 16
    if rank == 1 and len(specs) == 1:
        # GL(h) less the matrices that leave a column space and a row space of one dimension.
        n = widths[1]
        stabiliser = (n - 1) ** 2 if n > 1 else 0
        aligned = bool((layers[1] @ layers[0]).abs().max() > 1e-9)
        assert aligned
        assert int(torch.linalg.matrix_rank(total[0])) == n * n - stabiliser


def test_directions_count_what_the_group_has():
    weights = nets.seeded(nets.Attention).state_dict()
    parts = {part.label: part for part in nets.LINEAR_HEADS.parts(weights)}
    assert parts["permutation of heads"].discrete == 6
    assert parts["value–output gauge"].dimension == parts["query–key gauge"].dimension == 3 * 4
    assert parts["key bias shift"].dimension == parts["value bias shift"].dimension == 6
    tangents = flat(nets.LINEAR_HEADS.directions(weights), weights, list(weights))
    assert int(torch.linalg.matrix_rank(tangents)) == 12 + 12 + 6 + 6
    labels = [part.label for part in CASES[NAMES.index("rotary heads")][3].parts(weights)]
    assert not [label for label in labels if "query" in label or "key" in label]
    odd = Units(["0.weight"], ["2.weight"], "odd").parts(nets.mlp(nn.Tanh()).state_dict())
    assert [part.discrete for part in odd] == [120, 32]


def changed(model, inputs, symmetry):
    weights = model.state_dict()
    moved = symmetry.random(weights, generator(4), 1.0)
    before, after = (nets.outputs(model, w, inputs) for w in (weights, moved))
    return float((after - before).abs().max() / before.abs().max())


@pytest.mark.parametrize(
    ("model", "inputs", "symmetry"),
    [
        (nets.mlp(nn.GELU()), nets.ROWS, Units(nets.HIDDEN, ["2.weight"], "relu")),
        (nets.mlp(nn.ReLU()), nets.ROWS, Units(nets.HIDDEN, ["2.weight"], "odd")),
        (nets.mlp(nn.Tanh()), nets.ROWS, Units(nets.HIDDEN, ["2.weight"], "linear")),
        (nets.mlp(nn.ReLU()), nets.ROWS, Units(["0.weight"], ["2.weight"])),
        (nets.mlp(nn.ReLU()), nets.ROWS, Units(nets.HIDDEN)),
        (nets.mlp(nn.ReLU()), nets.ROWS, Offset("0.bias", [("2.weight", "2.bias")])),
        (
            nets.seeded(lambda: nets.Attention(rotary=True)),
            nets.SEQUENCES,
            nets.LINEAR_HEADS,
        ),
        (
            nets.convolutions(),
            nets.IMAGES,
            Units(["0.weight", "0.bias", "1.weight", "1.bias"], ["3.1.weight"]),
        ),
    ],
)
def test_what_is_no_symmetry_changes_the_outputs(model, inputs, symmetry):
    assert changed(model, inputs, symmetry) > 1e-3


def test_a_loss_symmetry_changes_outputs_and_not_the_loss():
    model = nets.seeded(nets.Summed)
    shift = Offset(("unembedding.weight", 1), preserves="loss")
    weights = model.state_dict()
    moved = shift.random(weights, generator(), 1.0)
    before, after = (nets.outputs(model, w, nets.PAIRS) for w in (weights, moved))
    assert float((before - after).abs().max()) > 1e-2
    targets = nets.PAIRS.sum(1) % 7
    torch.testing.assert_close(F.cross_entropy(after, targets), F.cross_entropy(before, targets))
    changes = (after - before) - (after - before).mean(1, keepdim=True)
    assert float(changes.abs().max()) < 1e-12


def test_single_precision_permutes_exactly_and_keeps_dtypes():
    weights = nets.mlp(nn.ReLU()).float().state_dict()
    spec = Units(nets.HIDDEN, ["2.weight"], "relu")
    order = torch.tensor([4, 2, 0, 1, 3])
    moved = spec.rearrange(weights, order)
    assert torch.equal(moved["0.weight"], weights["0.weight"][order])
    assert torch.equal(moved["2.weight"], weights["2.weight"][:, order])
    assert {w.dtype for w in spec.random(weights, generator()).values()} == {torch.float32}


def test_the_same_seed_moves_alike_and_global_state_stays():
    model = nets.seeded(nets.Attention)
    state = torch.random.get_rng_state()
    weights = model.state_dict()
    copies = {name: w.clone() for name, w in weights.items()}
    moved = [nets.LINEAR_HEADS.random(weights, generator(9), 0.3) for _ in range(2)]
    assert all(torch.equal(moved[0][name], moved[1][name]) for name in weights)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert all(torch.equal(weights[name], copies[name]) for name in weights)


def test_symmetries_can_be_sent_to_processes():
    for _, model, _, symmetry in CASES:
        again = pickle.loads(pickle.dumps(symmetry))
        assert again == symmetry
        assert [p.label for p in again.parts(model.state_dict())]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Units([], ["2.weight"]), "inputs is empty"),
        (lambda: Units(["0.weight"], ["2.weight"], "gelu"), "activation is 'gelu'"),
        (lambda: Units(["0.weight"], ["2.weight"], permutes=False), "leaves no symmetry"),
        (lambda: Units([3], ["2.weight"]), "inputs holds 3"),
        (lambda: Units(["0.weight"], preserves="nothing"), "'outputs' or 'loss'"),
        (lambda: Offset(2.5), "source holds 2.5"),
        (lambda: Heads("q", "k", "v", "o", 0), "heads is 0"),
        (lambda: Units(["0.weight"], ["9.weight"]).size(W), "'9.weight', which the weights do not"),
        (lambda: Units(["0.weight"], [("2.weight", 0)]).size(W), "axis 0 of 2.weight 2"),
        (lambda: Units([("0.weight", 2)]).size(W), "no axis 2"),
        (lambda: Units([Leg("0.weight", block=2)]).size(W), "no whole number of units of 2"),
        (lambda: Offset("0.bias", ["2.bias"]).parts(W), "axis 0 of 2.bias 2"),
        (lambda: Offset("0.bias", [("2.weight", "0.bias")]).parts(W), "name the bias of that"),
        (
            lambda: Heads("0.weight", "0.weight", "0.weight", "2.weight", 3).parts(W),
            "a multiple of 3 heads",
        ),
    ],
)
def test_what_does_not_fit_is_told_in_a_sentence(make, words):
    assert words in refusal(make)


W = nets.mlp(nn.ReLU()).state_dict()
