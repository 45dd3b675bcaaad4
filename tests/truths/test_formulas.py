"""Rational coefficients against counting, against each other, and against known mistakes."""

import math
from fractions import Fraction
from itertools import product

import pytest

from llc import InputError
from llc.truths.formulas import deep_linear, monomial, reduced_rank, tanh_zero, two_layer_local

VECTORS = [
    ((1, 1, 1), 0, Fraction(1, 2), 2),
    ((2, 2, 2), 0, Fraction(3, 2), 1),
    ((2, 3, 3), 0, Fraction(5, 2), 1),
    ((1, 2, 2), 0, Fraction(1), 2),
    ((5, 4, 5), 0, Fraction(8), 1),
    ((10, 10, 10, 10), 3, Fraction(42), 3),
    ((30,) * 8, 5, Fraction(633, 2), 13),
    ((20, 50, 8, 30), 4, Fraction(124), 1),
    ((100,) * 5, 20, Fraction(3800), None),
]


# --- the independent computation: orbits of representations of a quiver, counted -------------


def kostant_partitions(widths, full):
    """Multiplicities of intervals [i, j] that cover each vertex width times, [0, L] ``full`` times.

    An orbit of tuples of matrices under changes of bases is such a partition: interval [i, j] is a
    direction that enters at layer i and dies after layer j.
    """
    last = len(widths) - 1
    intervals = [(i, j) for i in range(last + 1) for j in range(i, last + 1)]
    intervals.remove((0, last))

    def extend(k, left):
        if k == len(intervals):
            if not any(left):
                yield {}
            return
        i, j = intervals[k]
        for count in range(min(left[i : j + 1]) + 1):
            rest = [x - count * (i <= v <= j) for v, x in enumerate(left)]
            for found in extend(k + 1, rest):
                yield {**found, (i, j): count}

    for found in extend(0, [w - full for w in widths]):
        yield {**found, (0, last): full}


def codimension(partition):
    """dim Ext¹(M, M) of a representation of 0 → 1 → … → L: the codimension of its orbit."""
    total = 0
    for ((a, b), count), ((c, d), other) in product(partition.items(), repeat=2):
        hom = c <= a <= d <= b
        common = max(0, min(b, d) - max(a, c) + 1)
        arrows = sum(a <= v <= b and c <= v + 1 <= d for v in range(a, b + 1))
        total += count * other * (hom - (common - arrows))
    return total


def by_counting(widths, rank, allowed=lambda _partition: True):
    """λ = ½ codimension of the fibre (Lehalleur & Rimányi 2024, arXiv 2411.19920)."""
    orbits = [p for p in kostant_partitions(widths, rank) if allowed(p)]
    product_directions = rank * (widths[0] + widths[-1]) - rank**2
    return Fraction(min(codimension(p) for p in orbits) + product_directions, 2)


def small_nets(largest, depths):
    for depth in depths:
        for widths in product(range(1, largest + 1), repeat=depth + 1):
            for rank in range(min(widths) + 1):
                yield widths, rank


@pytest.mark.parametrize(("widths", "rank", "llc", "multiplicity"), VECTORS)
def test_deep_linear_vectors(widths, rank, llc, multiplicity):
    found = deep_linear(widths, rank)
    assert found[0] == llc
    assert multiplicity in (None, found[1])


def test_deep_linear_is_half_the_codimension_of_the_fibre():
    checked = 0
    for widths, rank in [*small_nets(5, [2]), *small_nets(3, [3]), *small_nets(2, [4])]:
        assert deep_linear(widths, rank)[0] == by_counting(widths, rank), (widths, rank)
        checked += 1
    assert checked > 500


def test_two_layers_are_reduced_rank_regression():
    for (m, h, n), rank in small_nets(8, [2]):
        assert deep_linear((m, h, n), rank) == reduced_rank(m, h, n, rank), (m, h, n, rank)


def test_order_of_hidden_layers_and_direction_do_not_matter():
    for widths, rank in small_nets(4, [3]):
        a, b, c, d = widths
        assert deep_linear(widths, rank) == deep_linear((d, c, b, a), rank)
        assert deep_linear(widths, rank) == deep_linear((a, c, b, d), rank)


def local_cases(largest):
    for m, h, n in product(range(1, largest + 1), repeat=3):
        for a, b in product(range(min(m, h) + 1), range(min(h, n) + 1)):
            for r in range(max(0, a + b - h), min(a, b) + 1):
                yield m, h, n, a, b, r


def test_local_coefficient_is_that_of_the_components_through_the_point():
    checked = 0
    for m, h, n, a, b, r in local_cases(4):

        def through(p, a=a, b=b, r=r):
            # Closures of orbits hold those of lower rank.
            return p[0, 1] + r >= a and p[1, 2] + r >= b

        assert two_layer_local(m, h, n, a, b, r)[0] == by_counting((m, h, n), r, through)
        checked += 1
    assert checked > 400


def test_local_is_global_at_rank_exact_points_and_never_below():
    for m, h, n, a, b, r in local_cases(5):
        local, glob = two_layer_local(m, h, n, a, b, r), reduced_rank(m, h, n, r)
        assert local[0] >= glob[0]
        if a == b == r:
            assert local == glob
        assert two_layer_local(n, h, m, b, a, r) == two_layer_local(m, h, n, a, b, r)


def wrong_sign(widths, rank):
    return deep_linear(widths, rank)[0] + rank**2


def empty_prefix(widths, rank):
    """The mistake of letting a single smallest width count as the set Σ, ℓ = 0."""
    spare = sorted(w - rank for w in widths)
    return Fraction(rank * (widths[0] + widths[-1]) - rank**2, 2) + Fraction(spare[0], 2)


def loose_ties(widths, rank):
    """The mistake of taking the first prefix that satisfies the first inequality alone."""
    spare = sorted(w - rank for w in widths)
    regular = Fraction(rank * (widths[0] + widths[-1]) - rank**2, 2)
    if spare[0] == 0:
        return regular
    chosen = spare[:2]
    return regular + Fraction(chosen[0] * chosen[1], 2)


@pytest.mark.parametrize("mistake", [wrong_sign, empty_prefix, loose_ties])
def test_counting_catches_known_mistakes(mistake):
    caught = [(w, r) for w, r in small_nets(3, [2]) if mistake(w, r) != by_counting(w, r)]
    assert len(caught) > 5


def test_a_known_wrong_value():
    assert loose_ties((2, 3, 3), 0) == 3
    assert deep_linear((2, 3, 3), 0)[0] == Fraction(5, 2)


def test_monomials_by_their_zeta_function():
    # ∫ w^{2kz + h} over [0, 1] has its pole at −(h + 1)/(2k); equal poles add their orders.
    for k, h in product(product(range(4), repeat=2), product(range(3), repeat=2)):
        if not any(k):
            continue
        poles = [Fraction(b + 1, 2 * a) for a, b in zip(k, h, strict=True) if a]
        assert monomial(k, h) == (min(poles), poles.count(min(poles)))
    assert monomial([1, 1]) == (Fraction(1, 2), 2)
    assert monomial([1, 2], [0, 1]) == (Fraction(1, 2), 2)


def test_tanh_nets():
    for hidden in range(1, 60):
        best = min(Fraction(hidden + i * i + i, 4 * i + 2) for i in range(hidden + 1))
        assert tanh_zero(hidden) == (best, 2 if math.isqrt(hidden) ** 2 == hidden else 1)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: deep_linear((3,), 0), "two at least"),
        (lambda: deep_linear((3, 2, 3), 3), "at most 2"),
        (lambda: deep_linear((3, 2, 3), -1), "at least 0"),
        (lambda: deep_linear((3, 2.5, 3), 1), "widths\\[1\\] is 2.5"),
        (lambda: reduced_rank(0, 1, 1, 0), "inputs is 0"),
        (lambda: two_layer_local(4, 3, 4, 3, 3, 1), "at least rank_in"),
        (lambda: two_layer_local(4, 3, 4, 4, 3, 1), "rank_in is 4"),
        (lambda: monomial([0, 0]), "above zero"),
        (lambda: monomial([1.5]), "half_powers\\[0\\] is 1.5"),
        (lambda: monomial([1, 1], [1]), "1 prior_powers for 2"),
        (lambda: tanh_zero(0), "hidden is 0"),
        (lambda: tanh_zero(True), "hidden is True"),
    ],
)
def test_impossible_sizes_are_refused(call, words):
    with pytest.raises(InputError, match=words):
        call()
