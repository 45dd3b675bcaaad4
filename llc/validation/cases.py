"""The suite: which truths, at which temperature and localisation, with how many seeds."""

import math
from collections.abc import Callable
from dataclasses import dataclass

from llc import truths
from llc.errors import InputError
from llc.truths import Truth

__all__ = ["TIERS", "Case", "cases"]

TIERS = ("quick", "full")
SIZE = 1e5
N_BETA = SIZE / math.log(SIZE)


@dataclass(frozen=True)
class Case:
    """One truth at the settings it is estimated with.

    Attributes:
        group: ``"closed form"`` where B is exact, ``"teacher"`` where only λ is known,
            ``"polygon"`` for the toy model of superposition, ``"invariance"`` for networks of one
            function.
        make: builds the truth; not before it is needed.
        n_beta: nβ.
        gamma: γ.
        n: examples, or None for the population loss.
        seeds: chains' seeds, one estimate each.
    """

    group: str
    make: Callable[[], Truth]
    n_beta: float = N_BETA
    gamma: float = 1.0
    n: int | None = None
    seeds: int = 2


def _closed_forms(gamma: float) -> list[Case]:
    """Cases with exact B; γ is that of valleys crossing, along which chains are slow."""

    def case(make: Callable[[], Truth], **settings: float | int) -> Case:
        return Case("closed form", make, **settings)  # type: ignore[arg-type]

    spread = [10.0 ** (k / 4) for k in range(-8, 9)]
    return [
        case(lambda: truths.quadratic([1.0] * 20)),
        case(lambda: truths.quadratic(spread)),
        case(lambda: truths.powers([4, 4, 4, 4])),
        case(lambda: truths.powers([2, 4, 6])),
        case(lambda: truths.norm_power(6, 2)),
        case(truths.crossing, gamma=gamma),
        case(lambda: truths.monomial([1, 2]), gamma=gamma),
        case(lambda: truths.monomial([2, 2], [0, 1]), gamma=gamma),
        case(lambda: truths.sum_of(truths.crossing(), truths.quadratic([1.0] * 4))),
        case(lambda: truths.product_of(truths.norm_power(2, 1), truths.powers([4]))),
        case(truths.cusp, n_beta=1e3),
        case(lambda: truths.linear_net((6, 5), 3)),
        case(lambda: truths.reduced_rank(1, 1, 1, 0), gamma=gamma),
        case(lambda: truths.reduced_rank(2, 2, 2, 0)),
        case(lambda: truths.reduced_rank(5, 2, 5, 0)),
        case(lambda: truths.reduced_rank(5, 4, 5, 0)),
        case(lambda: truths.reduced_rank(16, 4, 16, 0)),
        case(lambda: truths.tanh_net(1), gamma=gamma),
        case(lambda: truths.tanh_net(2), gamma=gamma),
    ]


def _teachers() -> list[Case]:
    def case(make: Callable[[], Truth], **settings: float | int) -> Case:
        return Case("teacher", make, **settings)  # type: ignore[arg-type]

    size = 2000
    return [
        case(lambda: truths.reduced_rank(10, 4, 10, 2)),
        case(lambda: truths.reduced_rank(16, 4, 16, 4)),
        case(lambda: truths.reduced_rank(20, 10, 20, 4)),
        case(lambda: truths.linear_net((10, 10, 10, 10), 3)),
        case(lambda: truths.linear_net((8, 6, 8, 6, 8), 2)),
        case(lambda: truths.two_layer_local(6, 4, 6, 3, 2, 1)),
        case(lambda: truths.reduced_rank(6, 3, 4, 2), n=size, n_beta=size / math.log(size)),
    ]


def _polygons(corners: tuple[int, ...]) -> list[Case]:
    return [Case("polygon", lambda k=k: truths.polygon(k, k)) for k in corners]


def _invariance(scales: tuple[float, ...]) -> list[Case]:
    widths = (5, 8, 8, 3)
    size = 1000
    settings = {"n": size, "n_beta": size / math.log(size), "gamma": 1.0}
    plain = Case("invariance", lambda: truths.relu_net(widths), **settings)
    return [plain] + [
        Case("invariance", lambda a=a: truths.relu_net(widths, scale=a, permuted=True), **settings)
        for a in scales
    ]


def cases(tier: str) -> list[Case]:
    """Return the cases of a tier, in the order of the table.

    Raises:
        InputError: no such tier.
    """
    if tier not in TIERS:
        raise InputError(f"tier is {tier!r}, expected quick or full")
    if tier == "quick":
        return _closed_forms(10.0) + _teachers() + _polygons((5, 6))
    more = [
        Case("closed form", lambda: truths.quadratic([10.0 ** (k / 8) for k in range(-24, 25)])),
        Case("closed form", lambda: truths.monomial([1, 1, 1])),
        Case("closed form", lambda: truths.monomial([3, 2, 1])),
        Case("closed form", lambda: truths.norm_power(3, 3)),
        Case("closed form", lambda: truths.reduced_rank(8, 8, 8, 0)),
        Case("teacher", lambda: truths.linear_net((30,) * 8, 5)),
        Case("teacher", lambda: truths.linear_net((20, 50, 8, 30), 4)),
        Case("teacher", lambda: truths.two_layer_local(10, 8, 10, 6, 5, 4)),
    ]
    return (
        [Case(c.group, c.make, c.n_beta, c.gamma, c.n, seeds=8)
         for c in (*_closed_forms(1.0), *_teachers(), *more)]
        + _polygons((5, 6, 7, 8))
        + _invariance((0.5, 2.0, 4.0))
    )  # fmt: skip
