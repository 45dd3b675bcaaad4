"""Alignment: exact recovery, brute force over permutations, and never farther than before."""

import itertools
import math

import nets
import numpy as np
import pytest
import torch
from scipy.optimize import minimize_scalar
from tiny import refusal
from torch import nn

from llc.symmetry import Offset, Units, align, distance, find_symmetries, fits
from llc.tasks import modular_addition

CASES = nets.cases()


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("case", CASES, ids=[name for name, *_ in CASES])
def test_a_random_move_is_undone(case):
    _, model, inputs, symmetry = case
    weights = model.state_dict()
    moved = symmetry.random(weights, generator(1), math.log(3))
    back = align(weights, moved, [symmetry])
    assert distance(weights, back) < 1e-8 * distance(weights, moved)
    before, after = (nets.outputs(model, w, inputs) for w in (weights, back))
    torch.testing.assert_close(after, before, rtol=1e-8, atol=1e-8)


def deep(activation):
    layers = [nn.Linear(6, 20)]
    for _ in range(3):
        layers += [activation(), nn.Linear(20, 20)]
    return nets.seeded(lambda: nn.Sequential(*layers, activation(), nn.Linear(20, 4)))


@pytest.mark.parametrize("activation", [nn.ReLU, nn.Tanh, nn.GELU])
def test_a_deep_net_is_put_back(activation):
    model = deep(activation)
    weights, symmetries = model.state_dict(), find_symmetries(model)
    assert len(symmetries) == 4
    moved = weights
    for number, symmetry in enumerate(symmetries):
        moved = symmetry.random(moved, generator(number), math.log(2))
    back = align(weights, moved, symmetries)
    assert distance(weights, back) < 1e-7 * distance(weights, moved)


def test_the_modular_addition_network_is_put_back():
    task = modular_addition.task()
    weights = {name: w.double() for name, w in task.model.state_dict().items()}
    moved = weights
    for number, symmetry in enumerate(task.symmetries):
        moved = symmetry.random(moved, generator(number), math.log(2))
    back = align(weights, moved, task.symmetries)
    assert distance(weights, back) < 1e-4 * distance(weights, moved)


@pytest.mark.parametrize("activation", ["any", "odd", "relu"])
@pytest.mark.parametrize("seed", range(4))
def test_one_layer_of_units_is_aligned_as_by_brute_force(activation, seed):
    """Other networks, not moved ones: all permutations of five units, best factors by scipy."""
    first, second = (nets.seeded(lambda: nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2)), s)
                     .state_dict() for s in (seed, seed + 100))  # fmt: skip
    spec = Units(["0.weight", "0.bias"], ["1.weight"], activation)
    aligned = align(first, second, [spec])
    best = math.inf
    pairs = np.array([[_pair(first, second, i, j, activation) for j in range(5)] for i in range(5)])
    for order in itertools.permutations(range(5)):
        best = min(best, pairs[range(5), order].sum())
    rest = float((first["1.bias"] - second["1.bias"]).square().sum())
    assert distance(first, aligned) ** 2 == pytest.approx(best + rest, rel=1e-9)


def _pair(first, second, i, j, activation):
    """Least squares between unit i of one and unit j of the other."""
    r, q = (torch.cat([first["0.weight"][i], first["0.bias"][i : i + 1]]), first["1.weight"][:, i])
    a, b = torch.cat([second["0.weight"][j], second["0.bias"][j : j + 1]]), second["1.weight"][:, j]

    def misfit(s):
        return float((s * a - r).square().sum() + (b / s - q).square().sum())

    if activation == "any":
        return misfit(1.0)
    if activation == "odd":
        return min(misfit(1.0), misfit(-1.0))
    grid = np.exp(np.linspace(-6, 6, 400))
    middle = math.log(min(grid, key=misfit))
    bounds = (middle - 0.05, middle + 0.05)
    found = minimize_scalar(lambda t: misfit(math.exp(t)), bounds=bounds, method="bounded",
                            options={"xatol": 1e-12})  # fmt: skip
    return found.fun


def test_rotation_is_the_best_of_many():
    a, r, b, q = (nets.noise(3, 6, seed=s) for s in range(4))
    best = fits.rotation(a, r, b, q)
    torch.testing.assert_close(best @ best.T, torch.eye(3).double())

    def misfit(m):
        return float((m @ a - r).square().sum() + (m @ b - q).square().sum())

    for seed in range(500):
        other = torch.linalg.qr(nets.noise(3, 3, seed=seed))[0]
        assert misfit(best) <= misfit(other) + 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_a_gauge_is_a_minimum_and_no_worse_than_a_rotation(seed):
    a, r, b, q = (nets.noise(3, 6, seed=10 * seed + s) for s in range(4))
    best = fits.gauge(a, r, b, q)

    def misfit(m):
        return float((m @ a - r).square().sum() + (torch.linalg.inv(m).T @ b - q).square().sum())

    assert misfit(best) <= misfit(fits.rotation(a, r, b, q))
    for number in range(200):
        step = 1e-3 * nets.noise(3, 3, seed=number)
        assert misfit(best) <= misfit(best + step) + 1e-7


def test_the_misfit_has_the_gradient_of_finite_differences():
    a, r, b, q = (nets.noise(3, 4, seed=s) for s in range(4))
    m = nets.noise(3, 3, seed=9)
    _, gradient = fits._misfit(m, a, r, b, q)
    for i, j in itertools.product(range(3), range(3)):
        step = torch.zeros(3, 3, dtype=torch.float64)
        step[i, j] = 1e-6
        slope = (
            fits._misfit(m + step, a, r, b, q)[0] - fits._misfit(m - step, a, r, b, q)[0]
        ) / 2e-6
        assert float(gradient[i, j]) == pytest.approx(slope, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("case", CASES, ids=[name for name, *_ in CASES])
@pytest.mark.parametrize("seed", range(3))
def test_it_never_goes_farther(case, seed):
    _, model, inputs, symmetry = case
    weights = model.state_dict()
    other = {
        # A negative variance is no network's.
        name: w if "running" in name or not w.is_floating_point()
        else w + nets.noise(*w.shape, seed=seed)
        for name, w in weights.items()
    }  # fmt: skip
    aligned = align(weights, other, [symmetry])
    assert distance(weights, aligned) <= distance(weights, other)
    torch.testing.assert_close(
        nets.outputs(model, aligned, inputs), nets.outputs(model, other, inputs),
        rtol=1e-8, atol=1e-8,
    )  # fmt: skip
    # A second call finds nothing more to do but rounding.
    again = align(weights, aligned, [symmetry])
    assert distance(weights, again) >= distance(weights, aligned) * (1 - 1e-4)


def test_dead_units_and_equal_weights_are_no_trouble():
    weights = nets.mlp(nn.ReLU()).state_dict()
    spec = Units(nets.HIDDEN, ["2.weight"], "relu")
    dead = {name: w.clone() for name, w in weights.items()}
    dead["0.weight"][0] = dead["0.bias"][0] = 0
    dead["2.weight"][:, 1] = 0
    for pair in ((weights, dead), (dead, weights), (dead, dead)):
        aligned = align(*pair, [spec])
        assert distance(pair[0], aligned) <= distance(*pair)
        assert all(w.isfinite().all() for w in aligned.values())


def test_dtypes_and_what_does_not_move_are_kept():
    model = nets.convolutions().float()
    weights = model.state_dict()
    symmetries = find_symmetries(model)
    moved = symmetries[0].random(weights, generator())
    aligned = align(weights, moved, symmetries[:1])
    assert {name: w.dtype for name, w in aligned.items()} == {
        n: w.dtype for n, w in weights.items()
    }
    assert aligned["8.weight"] is moved["8.weight"]
    assert distance(weights, aligned) == 0


@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ({"a": torch.zeros(2)}, {"b": torch.zeros(2)}, "only one of reference and weights"),
        ({"a": torch.zeros(2)}, {"a": torch.zeros(3)}, "expected one architecture"),
        ({"a": torch.zeros(2)}, {"a": torch.full((2,), math.nan)}, "nan or infinity"),
    ],
)
def test_what_cannot_be_compared_is_refused(first, second, words):
    assert words in refusal(lambda: align(first, second, [Offset("a")]))
