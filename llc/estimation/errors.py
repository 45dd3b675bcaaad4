"""What a number may be wrong by, term by term, in LLC units.

Two prices are kept apart. C − B, the sampler's own error: finite draws, the step, minibatch noise,
modes that have not arrived. B − A, what finite nβ and localisation take off the limit λ.
"""

import math
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from llc import diagnostics

__all__ = ["ErrorBudget", "error_budget"]

RESOLVED = 3.0


@dataclass(frozen=True)
class ErrorBudget:
    """Errors of an estimate λ̂; a positive one means that λ̂ is too large by so much.

    Attributes:
        monte_carlo: standard error by finite draws, noise of subsampled losses included.
        discretisation: by the step: (ε/8)E‖nβ∇L‖² for Euler schemes, which on a quadratic is
            Σ ½s_i·εa_i/4 to first order; 0 for schemes exact on quadratics, whose anharmonic bias
            shows in the virial; nan where it was not measured. `llc.audit_step` puts what it
            measures here.
        heat: by minibatch noise, (ε/8)trΣ or (h²/8)coth(Γh/2)trΣ; nan where there is no closed
            form.
        equilibration: size of the error by modes that have not arrived, |v − 1|·λ̂ where the
            virial v differs from its expectation by more than twice its standard error, else 0.
        rounding: by half precision in the model, where there is any: nβ(L − L*) less the same in
            float32, at places near the chains' ends; nan where it could not be measured.
        localisation: B − A by γ, to first order dλ̂/d ln γ (−½Σ s_i(1 − s_i) on a quadratic);
            0 where that slope is not resolved.
        finite_n: B − A by multiplicity, −ln nβ · dλ̂/d ln nβ from B ≈ λ − (m − 1)/ln nβ; 0 unless
            λ̂ depends on nβ more than unresolved regular directions explain (for those the two
            slopes add up to zero).
    """

    monte_carlo: float
    discretisation: float
    heat: float
    equilibration: float
    localisation: float
    finite_n: float
    rounding: float = 0.0

    @property
    def total(self) -> float:
        """Size of C − B: the sampler's terms in quadrature, those not measured left out."""
        own = (
            self.monte_carlo, self.discretisation, self.heat, self.equilibration, self.rounding,
        )  # fmt: skip
        known = [term for term in own if math.isfinite(term)]
        return math.hypot(*known) if math.isfinite(self.monte_carlo) else math.nan

    @property
    def price(self) -> float:
        """B − A to first order: what nβ and γ take off the limit λ, one counted, not both.

        Localisation and finite n are two names of one thing where only one scale is left, as at
        x²y²: the larger stands for both.
        """
        return min(self.localisation, self.finite_n)

    def to_dict(self) -> dict[str, float | None]:
        """Return the terms with ``total`` and ``price``; nan becomes None."""
        values = {**asdict(self), "total": self.total, "price": self.price}
        return {name: None if math.isnan(v) else v for name, v in values.items()}


def error_budget(e: Any) -> ErrorBudget:
    """Collect the terms of an `Estimate`."""
    # λ̂ has the heat inside: (1 + heat) times what it would be.
    heat = e.llc * e.heat / (1 + e.heat) if math.isfinite(e.heat) else math.nan
    localisation = e.slope_gamma if e.slope_gamma < -RESOLVED * e.slope_gamma_se else 0.0
    return ErrorBudget(
        e.mcse, e.discretisation, heat, _equilibration(e), localisation, _finite_n(e), e.rounding
    )


def _equilibration(e: Any) -> float:
    kept = np.delete(e.virial_trace, list(e.diverged), axis=0)
    if kept.size == 0:
        return math.nan
    off = abs(float(kept.mean()) - 1)
    return off * abs(e.llc) if off > 2 * diagnostics.virial_error(kept) else 0.0


def _finite_n(e: Any) -> float:
    slope, error = e.slope_n_beta, e.slope_n_beta_se
    n_beta = e.settings.n_beta
    if n_beta is None or not n_beta > math.e or not slope > RESOLVED * error:
        return 0.0
    # Regular directions half-seen give slopes of equal size and opposite sign.
    singular = abs(slope + e.slope_gamma) > RESOLVED * math.hypot(error, e.slope_gamma_se)
    return -slope * math.log(n_beta) if singular else 0.0
