"""Learning coefficients λ and multiplicities m in exact rational arithmetic.

λ governs the volume of {L − L* < ε} ~ ε^λ |ln ε|^{m−1} as ε → 0 (Watanabe 2009).
"""

import math
from collections.abc import Sequence
from fractions import Fraction

from llc.errors import InputError

__all__ = [
    "Pair",
    "deep_linear",
    "monomial",
    "reduced_rank",
    "tanh_zero",
    "two_layer_local",
    "whole",
]

Pair = tuple[Fraction, int]


def whole(name: str, value: object, least: int) -> int:
    """Return a whole number, or say which one is expected.

    Raises:
        InputError: it is no whole number, or below ``least``.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InputError(f"{name} is {value!r}, expected a whole number of at least {least}")
    return value


def monomial(half_powers: Sequence[int], prior_powers: Sequence[int] | None = None) -> Pair:
    """λ and m of Π w_i^{2k_i} under the prior Π|w_i|^{h_i}.

    λ = min (h_i + 1)/(2k_i) over k_i > 0, m the number of minimisers (Watanabe 2009, thm 6.6).

    Args:
        half_powers: k_i, whole numbers, not all zero.
        prior_powers: h_i, whole numbers; zeros unless given.

    Raises:
        InputError: a power that is not a whole number, no k_i above zero, or lengths that differ.
    """
    k = [whole(f"half_powers[{i}]", value, 0) for i, value in enumerate(half_powers)]
    h = [
        whole(f"prior_powers[{i}]", value, 0)
        for i, value in enumerate(prior_powers or [0] * len(k))
    ]
    if not any(k):
        raise InputError(f"half_powers is {list(half_powers)}, expected one at least above zero")
    if len(h) != len(k):
        raise InputError(f"{len(h)} prior_powers for {len(k)} half_powers: give one for each")
    poles = [Fraction(b + 1, 2 * a) for a, b in zip(k, h, strict=True) if a]
    return min(poles), poles.count(min(poles))


def reduced_rank(inputs: int, hidden: int, outputs: int, rank: int) -> Pair:
    """λ and m of ‖BA − T‖² for a product T of given rank (Aoyagi & Watanabe 2005).

    Raises:
        InputError: sizes that are no whole numbers, or a rank above the narrowest of them.
    """
    m, h, n = _sizes(inputs=inputs, hidden=hidden, outputs=outputs)
    r = _rank(rank, min(m, h, n), "the narrowest layer")
    if n + r <= m + h and m + r <= n + h and h + r <= m + n:
        odd = (m + h + n + r) % 2
        twice = 2 * (h + r) * (m + n) - (m - n) ** 2 - (h + r) ** 2
        return Fraction(twice + odd, 8), 1 + odd
    if m + h < n + r:
        return Fraction(h * m - h * r + n * r, 2), 1
    if n + h < m + r:
        return Fraction(h * n - h * r + m * r, 2), 1
    return Fraction(m * n, 2), 1


def deep_linear(widths: Sequence[int], rank: int) -> Pair:
    """λ and m of ‖W_L ⋯ W_1 − T‖² for a product T of given rank (Aoyagi 2024, thm 1).

    With M_s = H_s − r sorted, Σ the prefix of ℓ + 1 ≥ 2 of them, equal ones taken together, for
    which S = Σ_Σ M ≥ ℓ max_Σ M and S < ℓ min of the rest, c = ⌈S/ℓ⌉ and a = S − (c − 1)ℓ:

        λ = ½[r(H_0 + H_L) − r²] + a(ℓ−a)/(4ℓ) − (ℓ(ℓ−1)/4)(S/ℓ)² + ½ Σ_{i<j∈Σ} M_i M_j
        m = a(ℓ − a) + 1

    Where some M is zero the first bracket is all, and m = 1. It is the coefficient of the most
    singular factorisation: that of a checkpoint is at most `two_layer_local`'s equal of it, and the
    same where every partial product of the layers has rank r.

    Raises:
        InputError: fewer than two widths, no whole numbers, or a rank above the narrowest width.
    """
    w = [whole(f"widths[{i}]", value, 1) for i, value in enumerate(widths)]
    if len(w) < 2:
        raise InputError(f"widths is {list(widths)}, expected two at least: inputs and outputs")
    r = _rank(rank, min(w), "the narrowest layer")
    regular = Fraction(r * (w[0] + w[-1]) - r * r, 2)
    spare = sorted(width - r for width in w)
    if spare[0] == 0:
        return regular, 1
    for count in range(2, len(spare) + 1):
        chosen, rest = spare[:count], spare[count:]
        ell, total = count - 1, sum(chosen)
        if rest and rest[0] == chosen[-1]:
            continue  # equal widths enter together
        if total >= ell * chosen[-1] and (not rest or total < ell * rest[0]):
            break
    a = total - (math.ceil(Fraction(total, ell)) - 1) * ell
    pairs = (total * total - sum(x * x for x in chosen)) // 2
    singular = (
        Fraction(a * (ell - a), 4 * ell)
        - Fraction(ell * (ell - 1), 4) * Fraction(total, ell) ** 2
        + Fraction(pairs, 2)
    )
    return regular + singular, a * (ell - a) + 1


def two_layer_local(
    inputs: int, hidden: int, outputs: int, rank_in: int, rank_out: int, rank: int
) -> Pair:
    """λ and m *at a point* of ‖BA − T‖² where A, B and BA = T have given ranks.

    With a, b, r the ranks of A (hidden × inputs), B (outputs × hidden) and BA, and m, h, n the
    three widths, the directions that act at first order split off and leave a zero teacher:

        λ = ½[r(m+n−r) + (n−r)(a−r) + (b−r)(m−a)] + λ_RRR(m−a, h−a−b+r, n−b; rank 0)

    For a = b = r it is the global coefficient of `reduced_rank`; elsewhere it is larger.

    Raises:
        InputError: sizes that are no whole numbers, or ranks that no such pair of matrices has.
    """
    m, h, n = _sizes(inputs=inputs, hidden=hidden, outputs=outputs)
    a = _rank(rank_in, min(m, h), "min(inputs, hidden)", "rank_in")
    b = _rank(rank_out, min(h, n), "min(hidden, outputs)", "rank_out")
    r = _rank(rank, min(a, b), "min(rank_in, rank_out)")
    if a + b - r > h:
        raise InputError(
            f"rank is {r}, expected at least rank_in + rank_out − hidden = {a + b - h}: matrices "
            f"of ranks {a} and {b} cannot miss each other more in {h} dimensions (Sylvester)"
        )
    regular = Fraction(r * (m + n - r) + (n - r) * (a - r) + (b - r) * (m - a), 2)
    rest = (m - a, h - a - b + r, n - b)
    if min(rest) == 0:
        return regular, 1
    singular, multiplicity = reduced_rank(*rest, 0)
    return regular + singular, multiplicity


def tanh_zero(hidden: int) -> Pair:
    """λ and m of f(x) = Σ_{k≤H} a_k tanh(b_k x) at the zero function, all weights zero.

    λ = min over i ≥ 0 of (H + i² + i)/(4i + 2); m = 2 where H is a square, else 1 (Aoyagi &
    Watanabe 2006; Watanabe 2009, §7.2).

    Raises:
        InputError: ``hidden`` is no whole number of at least 1.
    """
    h = whole("hidden", hidden, 1)
    i = math.isqrt(h)
    value = min(Fraction(h + j * j + j, 4 * j + 2) for j in (i - 1, i, i + 1) if j >= 0)
    return value, 1 + (i * i == h)


def _sizes(**sizes: int) -> tuple[int, ...]:
    return tuple(whole(name, value, 1) for name, value in sizes.items())


def _rank(value: int, most: int, what: str, name: str = "rank") -> int:
    if whole(name, value, 0) > most:
        raise InputError(f"{name} is {value}, expected at most {most}, {what}")
    return value
