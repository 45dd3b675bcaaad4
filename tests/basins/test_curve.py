"""Optimised curves, on valleys whose shape is known."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tiny import refusal
from valleys import at, cross, network, permuted, potential, ring

import llc
from llc.trajectory.basins import curve
from llc.trajectory.basins.curves import _Course
from llc.trajectory.basins.landscape import Landscape


def test_around_a_ring_there_is_no_barrier():
    found = curve(ring(), at(1, 0), at(-1, 0), bends=2, budget=1200)
    assert found.line.height == pytest.approx(1)
    assert found.height < 0.002
    # A parabola cannot follow a half circle: with one bend, the best of all has height .047.
    s = np.linspace(-1, 1, 2001)
    best = min(((s**2 + (1 - s**2) ** 2 * h**2 - 1) ** 2).max() for h in np.linspace(1, 1.3, 301))
    one = curve(ring(), at(1, 0), at(-1, 0), bends=1, budget=1200)
    assert best < one.height < 1.3 * best


def test_where_valleys_cross_the_curve_goes_through_the_crossing():
    found = curve(cross(), at(1, 0), at(0, 1), bends=1, budget=1200)
    assert found.line.height == pytest.approx(1 / 16)
    assert found.height < 0.002


def test_where_every_path_has_to_climb_the_straight_line_is_given_back():
    # Both branches of ab = 1 are the valley; between them ab = 0 is crossed, where the loss is 1.
    task = potential(lambda model: (model.w.prod() - 1) ** 2)
    found = curve(task, at(1, 1), at(-1, -1), budget=400)
    assert found.height == pytest.approx(1, abs=2e-3)
    assert found.height <= found.line.height
    assert found.evaluations == 400


def test_no_gradient_is_spent_where_there_is_no_barrier():
    bowl = potential(lambda model: model.w.square().sum())
    found = curve(bowl, at(1, 0), at(0, 1))
    assert (found.height, found.evaluations, found.kind) == (0, 0, "curve")
    np.testing.assert_array_equal(found.loss, found.line.loss)


def test_heights_do_not_depend_on_the_units_of_the_weights():
    small = curve(ring(), at(1, 0), at(-1, 0), budget=200)
    far = potential(lambda model: ((model.w / 1024).square().sum() - 1) ** 2)
    large = curve(far, at(1024, 0), at(-1024, 0), budget=200)
    np.testing.assert_allclose(small.loss, large.loss, rtol=1e-4, atol=1e-5)


def test_equal_seeds_give_equal_curves():
    first, again, other = (
        curve(ring(), at(1, 0), at(-1, 0), budget=100, seed=seed) for seed in (3, 3, 4)
    )
    np.testing.assert_array_equal(first.loss, again.loss)
    assert not np.array_equal(first.loss, other.loss)


def test_two_orders_of_the_same_units_are_joined_by_a_curve_with_minibatches():
    state = network(hidden=6).state_dict()
    inputs = torch.randn(300, 3, generator=torch.Generator().manual_seed(0))
    targets = network(hidden=6)(inputs).detach()
    other = permuted(state, [1, 2, 3, 4, 5, 0], [1.0] * 6)
    task = llc.Task(network(hidden=6), (inputs, targets), "mse")
    found = curve(task, state, other, budget=1200, batch_size=50)
    np.testing.assert_allclose(found.loss[[0, -1]], 0, atol=1e-12)
    assert found.line.height > 0.01
    assert found.height < 0.6 * found.line.height


def test_points_are_even_along_the_curve():
    land = Landscape(ring())
    ends = land.place(at(1, 0)), land.place(at(-1, 0))
    course = _Course(land, *ends, 1, 2.0, None, 0)
    course.bends.data = torch.tensor([[3.0, 5.0]])
    s = np.linspace(0, 1, 1001)
    path = np.array([course.at(value).vector.numpy() for value in s], dtype=float)
    truth = np.concatenate([[0], np.cumsum(np.linalg.norm(np.diff(path, axis=0), axis=1))])
    np.testing.assert_allclose(course._lengths(), truth / truth[-1], atol=1e-6)
    seen = []
    course.land = SimpleNamespace(
        losses=lambda path, grid: [seen.append(path(t).vector) or 0.0 for t in grid]
    )
    course.measure(9)
    gaps = np.interp(np.arange(9) / 8, truth / truth[-1], s)
    expected = np.array([course.at(value).vector.numpy() for value in gaps])
    np.testing.assert_allclose(torch.stack(seen).numpy(), expected, atol=1e-3)


def test_mistakes_are_told():
    for name in ("bends", "budget", "batch_size"):
        assert f"{name} is 0" in refusal(
            lambda name=name: curve(ring(), at(1, 0), at(-1, 0), **{name: 0})
        )
