"""Segmentation is exact: against every segmentation there is, one by one."""

import math

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import multivariate_normal
from tiny import refusal

from llc.changepoints import (
    SHORTEST,
    Scale,
    _step_costs,
    _tables,
    evidence,
    level,
    plateau_cost,
    scale_of,
    segment,
)


def curve(seed, count=8):
    rng = np.random.default_rng(seed)
    return rng.normal(size=count).cumsum(), rng.uniform(0.01, 0.3, count)


def every_segmentation(y, v, scale):
    """(cost, plateaus) of all of them: points on plateaus, or on the way up or down."""
    tables, found = _tables(y, v, scale), []

    def go(done, before, cost, plateaus):
        if done == len(y):
            found.append((cost, tuple(plateaus)))
            return
        fresh = scale.price if before == "plateau" else 0.0
        for end in range(done + SHORTEST, len(y) + 1):
            go(
                end,
                "plateau",
                cost + fresh + tables.plateau[done, end],
                [*plateaus, (done, end)],
            )
        for way in (0, 1):
            if before == way:
                go(done + 1, way, cost + tables.walk[done, way], plateaus)
            elif before in ("start", "plateau"):
                go(done + 1, way, cost + scale.price + tables.walk[done, way], plateaus)

    go(0, "start", 0.0, [])
    return found


@pytest.mark.parametrize("seed", range(8))
def test_the_cheapest_of_all_is_found_and_all_are_summed(seed):
    y, v = curve(seed, 2 + seed % 7)
    scale = scale_of(y, v)
    everything = every_segmentation(y, v, scale)
    best = segment(y, v, scale)
    assert (best.cost, best.plateaus) == (pytest.approx(min(everything)[0]), min(everything)[1])
    total = np.logaddexp.reduce([-cost for cost, _ in everything])
    assert evidence(y, v, scale) == pytest.approx(total)
    # One plateau through all points, and none at all, are among them.
    assert {p for _, p in everything} >= {((0, len(y)),), ()}


def test_a_plateau_costs_what_its_normal_law_says():
    y, v = curve(3)
    scale = Scale(0.4, 2.0, 0.1, 1.0)
    law = multivariate_normal(np.full(8, scale.mean), np.diag(v) + scale.spread**2)
    assert plateau_cost(y, v, scale) == pytest.approx(-law.logpdf(y))
    inner = multivariate_normal(np.full(3, scale.mean), np.diag(v[2:5]) + scale.spread**2)
    assert _tables(y, v, scale).plateau[2, 5] == pytest.approx(-inner.logpdf(y[2:5]))


def test_steps_have_a_density_that_integrates_to_one_half_each_way():
    scale = Scale(0.0, 10.0, 0.2, 1.0)

    def density(d, way):
        return math.exp(-_step_costs(np.array([d]), np.array([0.3]), scale)[0, way])

    for way, sign in ((0, 1), (1, -1)):
        total = quad(
            lambda d, way=way: density(d, way), -60, 60, points=[0, sign, 5 * sign], limit=300
        )[0]
        assert total == pytest.approx(0.5, rel=1e-6)
        # A step that size the other way is as good as impossible.
        assert density(5 * sign, way) > 1000 * density(-5 * sign, way)


def test_a_staircase_is_cut_where_it_climbs():
    rng = np.random.default_rng(0)
    clean = np.repeat([18.0, 22, 25.5, 29], 7)
    clean[7], clean[14] = 20.5, 23.0  # caught on the way up
    y, v = clean + 0.2 * rng.normal(size=28), np.full(28, 0.04)
    assert segment(y, v).plateaus == ((0, 7), (8, 14), (15, 21), (21, 28))
    # Units do not matter, nor does the direction of time.
    assert segment(10 * y, 100 * v).plateaus == segment(y, v).plateaus
    mirrored = tuple((28 - b, 28 - a) for a, b in segment(y, v).plateaus[::-1])
    assert segment(y[::-1], v[::-1]).plateaus == mirrored


def test_levels_are_weighted_means():
    y, v = np.array([1.0, 2, 3, 9]), np.array([1.0, 1, 4, 1])
    assert level(y, v, (0, 3)) == pytest.approx((1 + 2 + 3 / 4) / 2.25)
    assert level(np.stack([y, 2 * y]), v, (3, 4)).tolist() == [9, 18]


@pytest.mark.parametrize(
    ("y", "v", "word"),
    [
        ([1.0], [1.0], "at least 2"),
        ([1.0, 2.0], [1.0], "shape"),
        ([1.0, np.nan], [1.0, 1.0], "not finite"),
        ([1.0, 2.0], [1.0, 0.0], "positive"),
    ],
)
def test_curves_that_cannot_be_cut(y, v, word):
    assert word in refusal(lambda: segment(np.array(y), np.array(v)))
