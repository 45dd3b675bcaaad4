"""The LLC and its free sensitivities, as means over draws with Monte-Carlo standard errors.

Notation, per draw: X = nβ(L(w) − L(w*)), V = nβ δ·∇L(w), R = γ‖δ‖².
"""

import math
from dataclasses import dataclass

import numpy as np

from llc import diagnostics
from llc.diagnostics import Array
from llc.sampling.chains import Draws

__all__ = [
    "MOST_STEEP",
    "PLATEAU",
    "UNKNOWN",
    "Moments",
    "falls_with_n_beta",
    "moments",
    "steepness",
]

PLATEAU = 0.03
"""The share of λ̂ that may change with an e-fold of γ on a plateau."""
MOST_STEEP = 0.3
"""|d ln λ̂/d ln γ| from which a number is said to be one of many, beside its verdict."""


@dataclass(frozen=True)
class Moments:
    """What the draws say.

    Attributes:
        llc: λ̂ = E[X] (Lau et al. 2023, eq. 9, with the baseline paired batch by batch).
        mcse: its Monte-Carlo standard error; minibatch noise of the loss is part of the draws
            and so of this number. `llc.diagnostics.mcse_when_stopped` where it ended the run.
        ess: effective sample size of X.
        rhat: split R-hat of X.
        virial: E[V + R]/D, 1 in equilibrium; ``chain_virials`` by chain.
        slope_gamma: dλ̂/d ln γ.
        slope_gamma_se: its standard error.
        slope_n_beta: dλ̂/d ln nβ = λ̂ − Var(X); nan where minibatch noise cannot be removed.
        slope_n_beta_se: its standard error.
        variance_llc: λ̂ from fluctuations, Var(X) with subsampling variance taken out; λ too, for
            exponential families of singularities up to logarithms (Watanabe 2013, thm 4, with
            functional variance); nan where minibatch noise cannot be removed.
        variance_llc_se: its standard error.
        two_temperature_llc: (E₁[nL] − E₂[nL])/(1/β₁ − 1/β₂) (Watanabe 2013, cor. 3), E₂ at a β₂
            half a standard deviation of X colder by reweighting the same draws; full batch only,
            else nan.
        two_temperature_llc_se: its standard error.
        distance: root mean square of ‖δ‖ over √(D/γ), its value under the prior alone.
        below_baseline: share of draws whose full-batch loss is below that at w*; 0 for
            minibatches, whose noise would count.
    """

    llc: float
    mcse: float
    ess: float
    rhat: float
    virial: float
    chain_virials: tuple[float, ...]
    slope_gamma: float
    slope_gamma_se: float
    slope_n_beta: float
    slope_n_beta_se: float
    variance_llc: float
    variance_llc_se: float
    two_temperature_llc: float
    two_temperature_llc_se: float
    distance: float
    below_baseline: float


def falls_with_n_beta(llc: float, slope: float, error: float, heat: float) -> bool:
    """Whether λ̂ falls as nβ rises, which says that w* is no minimum at this temperature.

    More than three standard errors and 2 % of λ̂ below zero, and not by minibatch heat, which
    lowers the slope at a true minimum too. False where the slope is unknown (nan).
    """
    return slope < -max(3 * error, 0.02 * abs(llc)) and heat <= 0.05


def steepness(llc: float, slope: float, error: float) -> float:
    """Return ``|d ln λ̂/d ln γ|``, the share of λ̂ that an e-fold of γ changes.

    Zero where it is below 3 %, which counts as a plateau, or within two standard errors of zero.
    """
    resolved = abs(slope) > max(PLATEAU * abs(llc), 2 * error)
    return abs(slope / llc) if resolved and llc else 0.0


UNKNOWN = Moments(
    llc=math.nan,
    mcse=math.nan,
    ess=math.nan,
    rhat=math.nan,
    virial=math.nan,
    chain_virials=(),
    slope_gamma=math.nan,
    slope_gamma_se=math.nan,
    slope_n_beta=math.nan,
    slope_n_beta_se=math.nan,
    variance_llc=math.nan,
    variance_llc_se=math.nan,
    two_temperature_llc=math.nan,
    two_temperature_llc_se=math.nan,
    distance=math.nan,
    below_baseline=math.nan,
)
"""What is said of a run without a single healthy chain."""


def moments(draws: Draws, dimension: int, *, stopped: bool = False) -> Moments:
    """Compute `Moments` of the draws of healthy chains.

    ``stopped`` says that the run ended because the error of λ̂ was small enough, which the error
    then has to make up for.
    """
    rise = draws.rise
    virial = draws.virial(dimension)
    llc = float(rise.mean())
    by_gamma = _gamma_influence(draws)
    by_n_beta = _n_beta_influence(draws)
    by_variance = (rise - llc) ** 2 - draws.noise
    full_batch = bool((draws.noise == 0).all())
    two, two_se = _two_temperatures(rise) if full_batch else (math.nan, math.nan)
    return Moments(
        llc,
        diagnostics.mcse_when_stopped(rise) if stopped else diagnostics.mcse(rise),
        diagnostics.ess(rise),
        diagnostics.rhat(rise),
        float(virial.mean()),
        tuple(float(v) for v in virial.mean(1)),
        float(by_gamma.mean()),
        diagnostics.mcse(by_gamma),
        float(by_n_beta.mean()),
        diagnostics.mcse(by_n_beta) if np.isfinite(by_n_beta).all() else float("nan"),
        float(by_variance.mean()),
        diagnostics.mcse(by_variance) if np.isfinite(by_variance).all() else float("nan"),
        two,
        two_se,
        float(np.sqrt(draws.spread.mean() / dimension)),
        float((rise < -1e-3 * abs(llc) - 1e-6).mean()) if full_batch else 0.0,
    )


def _gamma_influence(draws: Draws) -> Array:
    """Draw-by-draw terms whose mean is dλ̂/d ln γ.

    By definition −½Cov(X, R); integration by parts turns it into −½(E[V] − Cov(X, V)), which
    has two to four times less error but is spoilt where X and V share a minibatch's noise.
    """
    centred = draws.rise - draws.rise.mean()
    if (draws.noise == 0).all():
        return -0.5 * (draws.pull - centred * (draws.pull - draws.pull.mean()))
    return -0.5 * centred * (draws.spread - draws.spread.mean())


def _n_beta_influence(draws: Draws) -> Array:
    """Draw-by-draw terms whose mean is λ̂ − Var(X), subsampling variance taken out of Var(X)."""
    centred = draws.rise - draws.rise.mean()
    return draws.rise - (centred**2 - draws.noise)


def _two_temperatures(rise: Array) -> tuple[float, float]:
    """λ̂ from the energies at two temperatures, the colder one by reweighting.

    With β₂ = rβ₁ weights are exp(−(r − 1)X); r − 1 is half of one over the standard deviation of
    X, where reweighting costs a fifth of the draws.
    """
    spread = rise.std()
    if not spread > 0:
        return math.nan, math.nan
    # r − 1, kept apart from the 1 beside which it vanishes where losses were huge.
    excess = 0.5 / spread
    weight = np.exp(-excess * (rise - rise.mean()))
    weight = weight / weight.mean()
    cold = (weight * rise).mean()
    share = excess / (1 + excess)
    terms = (rise - rise.mean() - weight * (rise - cold)) / share
    return float((rise.mean() - cold) / share), diagnostics.mcse(terms)
