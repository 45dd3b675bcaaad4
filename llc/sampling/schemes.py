"""What the automatic procedure needs to know of each sampler: its step and its slowest mode."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from llc.sampling.kernel import Evaluate, Kernel, Numbers, Tuning
from llc.sampling.kernels import (
    devinterp_sgmcmc,
    hmc,
    kinetic,
    mala,
    malt,
    sgld,
    sgld_lm,
    sgld_rmsprop,
    sgnht,
)

__all__ = ["SCHEMES", "Scheme", "scheme_for"]

# Critical for the prior's own directions, which arrive last: their virial is within 5 % of 1 after
# 2/√γ at 1.5…2 √γ, after 3.5/√γ at 3 √γ (linear nets, γ = 1 and 10).
WARM_FRICTION = 2.0
LEAST_FRICTION = 2.0
MOST_FRICTION = 8.0
MOST_LEAPS = 64


@dataclass(frozen=True)
class Scheme:
    """A sampler as calibration sees it.

    Attributes:
        name: its name in settings.
        build: (evaluate, numbers, tuning) → kernel; the numbers are the tuning's, as tensors.
        step_for: largest eigenvalue of ∇²U → step size.
        relaxation: tuning → steps in which the slowest mode, the prior's own, forgets its start.
        momentum: whether its state has momenta, to be drawn from their equilibrium at first.
        friction: whether it has a friction to choose.
        power: stability is a matter of step^power times curvature.
        heats: whether minibatch noise heats it as it does plain Langevin dynamics.
        exact: a Metropolis test makes it exact, which takes all data and makes the step a matter
            of acceptance.
        span: for exact ones, the time a trajectory should take, times √γ; None for one step.
        euler: whether its step alone over-estimates, by (ε/8)E‖nβ∇L‖² to first order in ε.
        recordable: whether a whole step can be recorded.
        apart: whether each coordinate moves by itself once the gradient is known.
        scale: state → √P, where the sampler preconditions by a diagonal P, for power iteration.
    """

    name: str
    build: Callable[[Evaluate, Numbers, Tuning], Kernel]
    step_for: Callable[[float], float]
    relaxation: Callable[[Tuning], float]
    momentum: bool = False
    friction: bool = False
    power: int = 1
    heats: bool = True
    exact: bool = False
    span: float | None = None
    euler: bool = False
    recordable: bool = True
    apart: bool = False
    scale: Callable[[Any], Tensor] | None = None

    def leaps(self, gamma: float, step_size: float) -> int:
        """Gradients of one transition."""
        if self.span is None or step_size <= 0:
            return 1
        return min(max(round(self.span / (gamma**0.5 * step_size)), 1), MOST_LEAPS)


def _first_order(t: Tuning) -> float:
    return 2 / (t.step_size * t.gamma) if t.step_size > 0 else float("inf")


def _preconditioned(t: Tuning) -> float:
    # In flat directions P is nearly one over its floor.
    return sgld_rmsprop.FLOOR * _first_order(t)


def _kinetic(t: Tuning) -> float:
    return t.friction / (t.step_size * t.gamma) if t.step_size > 0 else float("inf")


def _trajectories(t: Tuning) -> float:
    # Momenta drawn anew every T = Lh act as a friction of 2/T.
    time = t.leaps * t.step_size
    return 1 + 2 / (time * time * t.gamma) if time > 0 else float("inf")


def _inverse(a: float) -> float:
    return 1 / a


def _inverse_root(a: float) -> float:
    return a**-0.5


def _fifth(a: float) -> float:
    return 0.2 / a


def _square_root_of_preconditioner(state: Any) -> Tensor:
    return sgld_rmsprop.preconditioner(state).sqrt()


def _square_root_of_devinterps(state: Any) -> Tensor:
    return (1 / (state.square.sqrt() + sgld_rmsprop.FLOOR)).sqrt()


_ALL = (
    # h²a = 1 is a quarter of the stability limit: no bias seen up to 2, none exact on quadratics.
    Scheme("kinetic", lambda e, n, _: kinetic.build(e, n), _inverse_root, _kinetic,
           momentum=True, friction=True, power=2, apart=True),
    # Exact on quadratics at any stable step; 1/a keeps a margin of four for anharmonic ones.
    Scheme("sgld-lm", lambda e, n, _: sgld_lm.build(e, n), _inverse, _first_order,
           apart=True),
    # The stiffest mode is over-estimated by εa/4: 5 % here, less for all others.
    Scheme("sgld", lambda e, n, _: sgld.build(e, n), _fifth, _first_order, euler=True,
           apart=True),
    Scheme("sgld-rmsprop", lambda e, n, t: sgld_rmsprop.build(e, n, adapting=True),
           _fifth, _preconditioned, euler=True, apart=True, scale=_square_root_of_preconditioner),
    Scheme("sgld-rmsprop-frozen",
           lambda e, n, t: sgld_rmsprop.build(e, n, adapting=not t.frozen),
           _fifth, _preconditioned, euler=True, apart=True, scale=_square_root_of_preconditioner),
    # The thermostat takes up what noise heats, and its splitting is not exact: half the step.
    Scheme("sgnht", lambda e, n, _: sgnht.build(e, n), lambda a: 0.5 * a**-0.5, _kinetic,
           momentum=True, friction=True, power=2, heats=False),
    Scheme("mala", lambda e, n, _: mala.build(e, n), _inverse, _first_order, exact=True),
    Scheme("hmc", lambda e, n, t: hmc.build(e, n, leaps=t.leaps), _inverse_root, _trajectories,
           power=2, exact=True, span=1.5, recordable=False),
    Scheme("malt", lambda e, n, t: malt.build(e, n, leaps=t.leaps), _inverse_root, _trajectories,
           friction=True, power=2, exact=True, span=1.5, recordable=False),
    Scheme("devinterp-sgld", lambda e, n, _: devinterp_sgmcmc.build(e, n, method="sgld"),
           _fifth, _first_order, euler=True, recordable=False),
    Scheme("devinterp-rmsprop", lambda e, n, _: devinterp_sgmcmc.build(e, n, method="rmsprop"),
           _fifth, _preconditioned, euler=True, recordable=False,
           scale=_square_root_of_devinterps),
)  # fmt: skip

SCHEMES = {scheme.name: scheme for scheme in _ALL}


def scheme_for(sampler: str) -> Scheme:
    """Return the scheme of a sampler's name; ``"auto"`` is kinetic Langevin."""
    return SCHEMES["kinetic" if sampler == "auto" else sampler]
