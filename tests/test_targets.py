"""The tests' own yardsticks, checked against numbers that were obtained another way."""

from fractions import Fraction

import numpy as np
import pytest
import torch
from targets import aoyagi, exact_crossing, exact_quartic, exact_zero_teacher, linear_net


@pytest.mark.parametrize(
    ("widths", "rank", "coefficient", "multiplicity"),
    [
        ((1, 1, 1), 0, Fraction(1, 2), 2),
        ((2, 2, 2), 0, Fraction(3, 2), 1),
        ((2, 3, 3), 0, Fraction(5, 2), 1),  # ties taken loosely give 3
        ((1, 2, 2), 0, Fraction(1), 2),
        ((5, 4, 5), 0, Fraction(8), 1),
        ((10, 10, 10, 10), 3, Fraction(42), 3),
        ((30,) * 8, 5, Fraction(633, 2), 13),
        ((20, 50, 8, 30), 4, Fraction(124), 1),
        ((100,) * 5, 20, Fraction(3800), 1),
        ((16, 4, 16), 4, Fraction(56), 1),
    ],
)
def test_aoyagi_reproduces_published_values(widths, rank, coefficient, multiplicity):
    assert aoyagi(widths, rank)[0] == coefficient
    assert aoyagi(widths, rank)[1] == multiplicity


def reduced_rank(inputs, hidden, outputs, rank):
    """Aoyagi & Watanabe 2005, whose four cases know nothing of the deep formula."""
    m, h, n, r = inputs, hidden, outputs, rank
    if m + h < n + r:
        return Fraction(h * m - h * r + n * r, 2)
    if n + h < m + r:
        return Fraction(h * n - h * r + m * r, 2)
    if m + n < h + r:
        return Fraction(m * n, 2)
    odd = (m + h + n + r) % 2
    return Fraction(2 * (h + r) * (m + n) - (m - n) ** 2 - (h + r) ** 2 + odd, 8)


def test_aoyagi_agrees_with_reduced_rank_regression_for_two_layers():
    for m in range(1, 7):
        for h in range(1, 7):
            for n in range(1, 7):
                for r in range(min(m, h, n) + 1):
                    assert aoyagi((m, h, n), r)[0] == reduced_rank(m, h, n, r), (m, h, n, r)


@pytest.mark.parametrize(("n_beta", "gamma"), [(1.0, 1.0), (100.0, 1.0), (100.0, 20.0)])
def test_crossing_formula_agrees_with_quadrature(n_beta, gamma):
    # Along y the integral of x²y² is Gaussian; what is left is smooth in asinh-spaced x.
    t = np.linspace(-20, 20, 40_001)
    x = np.sinh(t) * 1e-3
    a = 2 * n_beta * x**2 + gamma
    weight = np.exp(-gamma * x**2 / 2) / np.sqrt(a) * np.cosh(t)
    mean = (n_beta * x**2 / a * weight).sum() / weight.sum()
    assert exact_crossing(n_beta, gamma) == pytest.approx(mean, rel=1e-8)


def test_quartic_tends_to_a_quarter_and_to_its_prior_limit():
    assert exact_quartic(1e8, 1e-6) == pytest.approx(0.25, rel=1e-6)
    assert exact_quartic(1e-6, 1.0) == pytest.approx(3e-6, rel=1e-3)  # nβ E[w⁴] = 3nβ/γ²


@pytest.mark.parametrize(
    ("width", "published"),
    [(2, (1.4051, 1.4572, 1.4815, 1.4923)), (5, (4.3159, 4.4168, 4.4635, 4.4845))],
)
def test_zero_teacher_agrees_with_values_obtained_elsewhere(width, published):
    sizes = np.array([1e3, 1e4, 1e5, 1e6])
    found = [exact_zero_teacher(width, width, n / np.log(n), 1.0) for n in sizes]
    np.testing.assert_allclose(found, published, atol=1e-4)
    # At n → ∞ it becomes Aoyagi's.
    limit = exact_zero_teacher(width, width, 1e9, 1.0)
    assert limit == pytest.approx(float(aoyagi((width, 2, width), 0)[0]), rel=1e-3)


@pytest.mark.parametrize(("widths", "rank"), [((16, 4, 16), 4), ((6, 5, 6, 5), 2)])
def test_every_partial_product_of_the_teacher_has_its_rank(widths, rank):
    layers = list(linear_net(widths, rank).model.layers)
    for start in range(len(layers)):
        product = layers[start]
        assert torch.linalg.matrix_rank(product, rtol=1e-4) == rank
        for layer in layers[start + 1 :]:
            product = layer @ product
            assert torch.linalg.matrix_rank(product, rtol=1e-4) == rank
