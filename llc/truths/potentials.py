"""Functions K(w) of a point, zero at the origin, with exact λ and B."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from fractions import Fraction

import numpy as np
import torch
from scipy import special
from torch import Tensor

from llc.errors import InputError
from llc.task import Task
from llc.truths import formulas, quadrature, states
from llc.truths.truth import Expected, MakeTask, Truth, point_task

__all__ = [
    "crossing",
    "cusp",
    "monomial",
    "norm_power",
    "potential",
    "powers",
    "product_of",
    "quadratic",
    "sum_of",
]

WATANABE = "Watanabe 2009, Algebraic Geometry and Statistical Learning Theory"


def quadratic(eigenvalues: Sequence[float]) -> Truth:
    """K = Σ h_i w_i²/2: λ = (number of h_i > 0)/2, B = Σ ½ nβh_i/(nβh_i + γ).

    Raises:
        InputError: a negative eigenvalue, or none above zero.
    """
    h = [float(value) for value in eigenvalues]
    if not h or min(h) < 0 or max(h) <= 0 or not np.isfinite(h).all():
        raise InputError("eigenvalues are expected to be finite, none negative, one above zero")
    scale = torch.tensor(h, dtype=torch.float64)

    def function(w: Tensor) -> Tensor:
        return (scale.to(w) * w**2).sum(-1) / 2

    def expected(n_beta: float, gamma: float) -> tuple[float, float]:
        held = n_beta * np.array(h)
        return float((held / (held + gamma)).sum() / 2), 0.0

    name = f"quadratic in {len(h)} directions"
    return Truth(
        name,
        Fraction(sum(value > 0 for value in h), 2),
        1,
        f"{WATANABE}, §1.4 (regular models)",
        point_task(name, function, len(h)),
        len(h),
        expected,
        function=function,
    )


def powers(exponents: Sequence[int], coefficients: Sequence[float] | None = None) -> Truth:
    """K = ``Σ c_i |w_i|^{p_i}`` in separate variables: λ = Σ 1/p_i, m = 1.

    Raises:
        InputError: exponents below 2, or coefficients that are not positive, one for each.
    """
    p = [formulas.whole(f"exponents[{i}]", value, 2) for i, value in enumerate(exponents)]
    c = [1.0] * len(p) if coefficients is None else [float(value) for value in coefficients]
    if not p or len(c) != len(p) or min(c) <= 0:
        raise InputError(f"coefficients is {coefficients}, expected {len(p)} positive numbers")
    terms = [_radial(1, power, f"|w|^{power}", scale) for power, scale in zip(p, c, strict=True)]
    name = " + ".join(f"|w{i}|^{power}" for i, power in enumerate(p, 1))
    return _renamed(sum_of(*terms), name)


def norm_power(dimension: int, half_power: int) -> Truth:
    """K = (‖w‖²)^k in d dimensions: λ = d/(2k), m = 1.

    Raises:
        InputError: a dimension or power that is no whole number of at least 1.
    """
    d = formulas.whole("dimension", dimension, 1)
    k = formulas.whole("half_power", half_power, 1)
    return _radial(d, 2 * k, f"‖w‖^{2 * k}, d = {d}")


def monomial(half_powers: Sequence[int], prior_powers: Sequence[int] | None = None) -> Truth:
    """K = Π w_i^{2k_i} under the prior ``Π|w_i|^{h_i}``: λ = min (h_i + 1)/(2k_i).

    A prior with powers is absorbed by the substitution v_i = w_i^{h_i + 1}: the task and B are
    those of ``Π|v_i|^{2k_i/(h_i + 1)}`` in the variables v, where the prior is flat and
    localisation acts.

    Raises:
        InputError: powers that are no whole numbers, or all k_i zero; when the task is asked for, a
            power 2k_i/(h_i + 1) ≤ 1, whose gradient does not vanish at w*.
    """
    llc, multiplicity = formulas.monomial(half_powers, prior_powers)
    prior = list(prior_powers or [0] * len(half_powers))
    exponents = [Fraction(2 * k, h + 1) for k, h in zip(half_powers, prior, strict=True)]
    kept = [(i, p) for i, p in enumerate(exponents) if p]

    def function(w: Tensor) -> Tensor:
        # Even powers without the kink of |w|: autograd needs none.
        factors = [
            w[..., i] ** int(p)
            if p.denominator == 1 and p % 2 == 0
            else w[..., i].abs() ** float(p)
            for i, p in kept
        ]
        result = factors[0]
        for factor in factors[1:]:
            result = result * factor
        return result

    law = states.product([states.norm_power(1, float(p)) for _, p in kept])
    name = "·".join(f"w{i + 1}^{2 * half_powers[i]}" for i, _ in kept)
    if any(prior):
        name += " under " + "·".join(f"|w{i}|^{h}" for i, h in enumerate(prior, 1) if h)
    make = point_task(name, function, len(exponents))
    if any(p <= 1 for _, p in kept):
        make = _refuse(f"{name} has no gradient at zero: choose 2k > h + 1 for every variable")
    return Truth(
        name,
        llc,
        multiplicity,
        f"{WATANABE}, thm 6.6",
        make,
        len(exponents),
        _by_states(law),
        function=function,
        states=law,
    )


def crossing() -> Truth:
    """K = x²y², two lines of minima: λ = ½, m = 2, B = ½ + z − z K₁(z)/K₀(z), z = γ²/(8nβ)."""

    def expected(n_beta: float, gamma: float) -> tuple[float, float]:
        z = gamma**2 / (8 * n_beta)
        return float(0.5 + z - z * special.k1e(z) / special.k0e(z)), 0.0

    truth = monomial([1, 1])
    return Truth(
        "x²y²",
        truth.llc,
        truth.multiplicity,
        f"{WATANABE}, thm 6.6; B by ∫ e^(−a cosh t) dt = 2K₀(a)",
        truth.make_task,
        2,
        expected,
        function=truth.function,
        states=truth.states,
    )


def cusp() -> Truth:
    """K = (y² − x³)²: λ = 5/12, m = 1 (resolved by three blow-ups), B by quadrature."""

    def function(w: Tensor) -> Tensor:
        return (w[..., 1] ** 2 - w[..., 0] ** 3) ** 2

    return potential(function, 2, name="cusp (y² − x³)²", llc=Fraction(5, 12), multiplicity=1,
                     citation=f"{WATANABE}, §3.5: half of the cusp's 5/6")  # fmt: skip


def potential(
    function: Callable[[Tensor], Tensor],
    dimension: int,
    *,
    name: str = "potential",
    llc: Fraction | float | None = None,
    multiplicity: int | None = None,
    citation: str = "fit of B over nβ = 1e3 … 1e10",
) -> Truth:
    """Make a truth of your own function of one or two variables; B by quadrature.

    Args:
        function: points, shape (…, dimension), to K ≥ 0, shape (…), with torch operations; K = 0 at
            the origin, which is w*.
        dimension: 1 or 2.
        name: what tables call it.
        llc: λ if you know it, by resolution; fitted unless given (`Truth.llc_error` says how well),
            which takes a few seconds in two variables.
        multiplicity: m, with ``llc``.
        citation: where λ comes from.

    Raises:
        InputError: a function that is negative, not finite, or not zero at the origin.
    """
    error = 0.0
    if llc is None:
        llc, multiplicity, error = quadrature.fit_llc(function, dimension)
    else:
        quadrature.expectation(function, dimension, 100.0, 1.0)  # for its checks
    return Truth(
        name,
        llc,
        multiplicity,
        citation,
        point_task(name, function, dimension),
        dimension,
        lambda n_beta, gamma: (quadrature.expectation(function, dimension, n_beta, gamma), 0.0),
        llc_error=error,
        function=function,
    )


def sum_of(*truths: Truth) -> Truth:
    """K₁(u) + K₂(v) + … in separate variables: λ and B add, m − 1 too.

    Raises:
        InputError: no truth, or one that is no function of a point.
    """
    parts, function = _joined(truths, torch.add)
    if len(truths) == 1:
        return truths[0]
    exact = [t.make_expected for t in truths]

    def expected(n_beta: float, gamma: float) -> tuple[float, float]:
        values = [e(n_beta, gamma) for e in exact if e is not None]
        return sum(v for v, _ in values), sum(s * s for _, s in values) ** 0.5

    known = [(t.llc, t.multiplicity) for t in truths]
    llc = None if any(a is None for a, _ in known) else sum(a for a, _ in known if a is not None)
    multiplicity = None
    if all(m is not None for _, m in known):
        multiplicity = sum(m - 1 for _, m in known if m is not None) + 1
    name = " + ".join(t.name for t in truths)
    return Truth(
        name,
        llc,
        multiplicity,
        f"{WATANABE}, remark 7.2",
        point_task(name, function, sum(parts)),
        sum(parts),
        expected if all(e is not None for e in exact) else None,
        function=function,
    )


def product_of(*truths: Truth) -> Truth:
    """K₁(u)·K₂(v)·… in separate variables: λ the smallest, m the sum over those that attain it.

    B is known where every factor's density of states is (`powers` of one term, `norm_power`,
    `monomial`, `crossing`).

    Raises:
        InputError: no truth, or one that is no function of a point.
    """
    parts, function = _joined(truths, torch.mul)
    llc, multiplicity = None, None
    values = [t.llc for t in truths if t.llc is not None]
    if len(values) == len(truths):
        llc = min(values)
        attained = [t.multiplicity for t in truths if t.llc == llc]
        if None not in attained:
            multiplicity = sum(m for m in attained if m is not None)
    factors = [t.states for t in truths if t.states is not None]
    law = states.product(factors) if len(factors) == len(truths) else None
    name = "·".join(f"({t.name})" for t in truths)
    return Truth(
        name,
        llc,
        multiplicity,
        f"{WATANABE}, remark 7.2",
        point_task(name, function, sum(parts)),
        sum(parts),
        None if law is None else _by_states(law),
        function=function,
        states=law,
    )


def _radial(dimension: int, power: int, name: str, scale: float = 1.0) -> Truth:
    def function(w: Tensor) -> Tensor:
        return (
            scale * (w * w).sum(-1) ** (power // 2)
            if power % 2 == 0
            else (scale * (w * w).sum(-1).sqrt() ** power)
        )

    def law(u: np.ndarray, gamma: float) -> np.ndarray:
        return states.norm_power(dimension, power)(u - np.log(scale), gamma)

    return Truth(
        name,
        Fraction(dimension, power),
        1,
        f"{WATANABE}, §7.1",
        point_task(name, function, dimension),
        dimension,
        _by_states(law),
        function=function,
        states=law,
    )


def _by_states(law: states.States) -> Expected:
    return lambda n_beta, gamma: (states.expectation(law, n_beta, gamma), 0.0)


def _joined(
    truths: Sequence[Truth], join: Callable[[Tensor, Tensor], Tensor]
) -> tuple[list[int], Callable[[Tensor], Tensor]]:
    functions = [t.function for t in truths if t.function is not None]
    if not truths or len(functions) < len(truths):
        raise InputError("expected truths that are functions of a point, as potentials.* make them")
    parts = [t.dimension for t in truths]

    def function(w: Tensor) -> Tensor:
        pieces = w.split(parts, -1)
        result = functions[0](pieces[0])
        for piece, other in zip(pieces[1:], functions[1:], strict=True):
            result = join(result, other(piece))
        return result

    return parts, function


def _refuse(sentence: str) -> MakeTask:
    def make(_n: int | None, _seed: int) -> Task:
        raise InputError(sentence)

    return make


def _renamed(truth: Truth, name: str) -> Truth:
    assert truth.function is not None
    return replace(truth, name=name, make_task=point_task(name, truth.function, truth.dimension))
