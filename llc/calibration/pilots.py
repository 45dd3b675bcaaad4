"""Short runs that say whether a γ will do."""

import math
from dataclasses import dataclass, replace
from typing import Any

from llc.estimation.estimators import PLATEAU, UNKNOWN, Moments, falls_with_n_beta, moments
from llc.posterior import Posterior
from llc.sampling.chains import Report
from llc.sampling.course import Course
from llc.sampling.production import LEAST_ESS
from llc.sampling.run import Samples, samples_of
from llc.settings import Settings
from llc.surface import LossSurface

__all__ = ["PATIENCE", "PILOT_BUDGET", "Pilot", "cost_at_a_tenth", "on_plateau", "pilot_at"]

PILOT_PRECISION = 0.1
PILOT_BUDGET = 10_000
# A pilot that would take this many times its budget is given up. On a dozen networks those that
# came through had never asked for more than 1.2 times it; those that did not, for 4 to 12 in the
# end.
PATIENCE = 2.0
# Directions that the prior alone holds relax √10 times slower at a tenth of γ, and steps grow no
# longer; where they are most directions, of which γ‖δ‖²/D is 1, they are what a pilot waits for.
SLOWER = 10**0.5
MOST = 0.5
# Chains times weights up to which a pilot is held, in three such vectors, while the next one runs.
MOST_HELD = 2**24


@dataclass(frozen=True)
class Pilot:
    """A short run at one γ.

    Attributes:
        gamma: γ.
        moments: what it says.
        evaluations: gradients it took.
        samples: its draws.
        why_not: what stands against this γ, or nothing.
        course: the run itself, to be gone on with as the estimate; None where a run of its own
            would be another one, or is too large to be held.
    """

    gamma: float
    moments: Moments
    evaluations: int
    samples: Samples
    why_not: str = ""
    course: Course | None = None


def pilot_at(
    surface: LossSurface,
    settings: Settings,
    gamma: float,
    budget: int = PILOT_BUDGET,
    report: Report | None = None,
    patience: float = math.inf,
    **fixed: Any,
) -> Pilot:
    """Run until ±10 % or the budget, but for what is ``fixed``; say what stands against its γ.

    With ``patience`` it ends where ±10 % would take so many times the budget.
    """
    posterior = Posterior(surface, settings.n_beta or 0.0, gamma, settings.control_variate)
    budget = min(settings.budget or budget, budget)
    length: dict[str, Any] = {"draws": None, "burn_in": None, **fixed}
    short = replace(settings, gamma=gamma, precision=PILOT_PRECISION, budget=budget, **length)
    course = Course(posterior, short)
    course.advance(short, report or (lambda *_: None), patience)
    samples = samples_of(course, more=True)[0]
    if samples.diverged.any():
        return Pilot(gamma, UNKNOWN, samples.evaluations, samples, "chains diverged")
    m = moments(samples.draws, posterior.dimension, stopped=bool(samples.reached))
    rise = m.llc / posterior.n_beta
    why_not = ""
    if not samples.reached or abs(m.virial - 1) > 0.1 or m.rhat > 1.1:
        late = surface.execution.late()
        within = "in the time there was" if late else f"within {short.budget} gradients"
        had = "would not have" if course.line.given_up and not late else "had not"
        why_not = f"the chains {had} settled {within}"
    elif falls_with_n_beta(m.llc, m.slope_n_beta, m.slope_n_beta_se, samples.heat):
        why_not = "w* was no minimum on the chains' scale"
    elif surface.local_rise is not None and rise > surface.local_rise:
        why_not = f"the loss rose by {rise:.2g}, too far towards that of a blind guess"
    same = settings.draws is None and settings.burn_in is None and not fixed and course.whole
    small = settings.chains * posterior.dimension <= MOST_HELD
    held = course if same and small and not why_not else None
    return Pilot(gamma, m, samples.evaluations, samples, why_not, held)


def on_plateau(before: Pilot | None, now: Pilot) -> bool:
    """Whether λ̂ moves by less than 3 % an e-fold of γ: by its free slope, or over a decade.

    The slope needs no second γ, but is a difference of covariances: where its error exceeds
    3 % itself, the change since the γ ten times larger has to decide.
    """
    m = now.moments
    allowed = PLATEAU * abs(m.llc)
    if m.slope_gamma_se <= allowed:
        return abs(m.slope_gamma) <= allowed
    if before is None:
        return False
    change = abs(m.llc - before.moments.llc)
    return change <= math.log(10) * allowed + math.hypot(m.mcse, before.moments.mcse)


def cost_at_a_tenth(pilot: Pilot) -> float:
    """Gradients that a pilot at a tenth of γ takes at least: burn-in and a hundred effective draws.

    This one may have taken more than that for an LLC near zero, whose error is large beside it at
    any pace.
    """
    burn_in, draws = pilot.samples.burn_in, pilot.samples.draws.length
    effective = min(LEAST_ESS / pilot.moments.ess, 1.0) * draws
    slower = SLOWER if pilot.moments.distance**2 > MOST else 1.0
    return slower * pilot.evaluations * (burn_in + effective) / (burn_in + draws)
