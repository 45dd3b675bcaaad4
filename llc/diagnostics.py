"""Convergence diagnostics on plain arrays of shape ``(chains, draws)``.

R-hat, effective sample size and Monte-Carlo standard error are those of arviz-stats
(Vehtari, Gelman, Simpson, Carpenter & Bürkner 2021). Its import takes over a second, so it
happens inside the functions.
"""

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "diverged", "ess", "mcse", "mcse_when_stopped", "rhat", "virial_error"]

Array = NDArray[np.float64]
EXPLODED = 100.0
LOOKS_BACK = (0.8, 0.64)


def rhat(draws: Array) -> float:
    """Rank-normalised split R-hat; nan below four draws a chain or for constant draws."""
    return _arviz("rhat", draws, method="rank")


def ess(draws: Array) -> float:
    """Effective number of independent draws behind the mean, within and between chains."""
    return _arviz("ess", draws, method="mean")


def mcse(draws: Array) -> float:
    """Monte-Carlo standard error of the mean: sd/√ESS. Zero for constant draws."""
    if np.ptp(draws) == 0:
        return 0.0
    return _arviz("mcse", draws, method="mean")


def mcse_when_stopped(draws: Array) -> float:
    """Monte-Carlo standard error of a run that ended because its own error was small enough.

    An error bar is an estimate, and a rule that waits for a small one stops where it is too small:
    at a hundred effective draws it falls short by 5 to 25 %, the more the more time scales a chain
    has, and no autocorrelation time is to blame, since runs of the same length that were not so
    chosen have honest bars (Glynn & Whitt 1992 on sequential stopping: right only as the length
    goes to infinity). Looks are a quarter apart, so the asymptotic variance n·mcse² is taken as the
    largest of the last three looks, at n, 0.8 n and 0.64 n draws, and has to be small at all three.
    """
    error, length = mcse(draws), draws.shape[1]
    for share in LOOKS_BACK:
        short = int(share * length)
        before = mcse(draws[:, :short]) * (short / length) ** 0.5
        # A comparison with nan is False: what is too short to be looked at says nothing.
        error = before if before > error else error
    return error


def _arviz(name: str, draws: Array, method: str) -> float:
    from arviz_stats.base import array_stats

    if draws.ndim != 2 or draws.shape[1] < 4 or np.ptp(draws) == 0:
        return float("nan")
    value = getattr(array_stats, name)(draws, chain_axis=0, draw_axis=1, method=method)
    return float(value)


def virial_error(virial: Array) -> float:
    """Standard error of the mean of a virial trace ``(chains, draws)`` by batch means.

    Eight batches a chain (fewer for short ones): rougher than `mcse`, and cheap enough to be
    asked for every few steps of a burn-in.
    """
    batches = max(1, min(8, virial.shape[1] // 8))
    length = virial.shape[1] // batches
    means = virial[:, : batches * length].reshape(virial.shape[0] * batches, length).mean(1)
    if len(means) < 2:
        return float("inf")
    within = means.std(ddof=1) / np.sqrt(len(means))
    if virial.shape[0] < 2:
        return float(within)
    between = virial.mean(1).std(ddof=1) / np.sqrt(virial.shape[0])
    return float(max(within, between))


def diverged(rise: Array, spread: Array, dimension: int) -> NDArray[np.bool_]:
    """Which chains left for infinity, shape ``(chains,)``.

    A chain has diverged when a draw is not finite, or when γ‖δ‖² (D in expectation under the
    prior alone, less under any loss with its minimum at w*) exceeds a hundred times D: ten
    standard deviations even for a single parameter.
    """
    finite = np.isfinite(rise).all(1) & np.isfinite(spread).all(1)
    with np.errstate(invalid="ignore"):
        exploded = (spread > EXPLODED * dimension).any(1)
    return np.logical_or(~finite, exploded)
