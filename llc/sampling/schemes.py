"""What the automatic procedure needs to know of each sampler: its step and its slowest mode."""

from collections.abc import Callable
from dataclasses import dataclass

from llc.sampling.kernel import Evaluate, Kernel
from llc.sampling.kernels import kinetic, sgld, sgld_lm

__all__ = ["SCHEMES", "Scheme", "scheme_for"]

WARM_FRICTION = 3.0
LEAST_FRICTION = 2.0
MOST_FRICTION = 8.0


@dataclass(frozen=True)
class Scheme:
    """A sampler as calibration sees it.

    Attributes:
        name: its name in settings.
        build: (evaluate, γ, step size, friction) → kernel.
        step_for: largest eigenvalue of ∇²U → step size.
        relaxation: (step size, γ, friction) → steps in which the slowest mode, the prior's own,
            forgets its start.
        kinetic: whether it has a friction.
        power: stability is a matter of step^power times curvature.
    """

    name: str
    build: Callable[[Evaluate, float, float, float], Kernel]
    step_for: Callable[[float], float]
    relaxation: Callable[[float, float, float], float]
    kinetic: bool
    power: int


def _first_order_relaxation(step_size: float, gamma: float, _friction: float) -> float:
    return 2 / (step_size * gamma) if step_size > 0 else float("inf")


def _kinetic_relaxation(step_size: float, gamma: float, friction: float) -> float:
    return friction / (step_size * gamma) if step_size > 0 else float("inf")


SCHEMES = {
    # h²a = 1 is a quarter of the stability limit: no bias seen up to 2, none exact on quadratics.
    "kinetic": Scheme(
        "kinetic",
        lambda evaluate, gamma, h, friction: kinetic.build(
            evaluate, gamma=gamma, step_size=h, friction=friction
        ),
        lambda a: a**-0.5,
        _kinetic_relaxation,
        True,
        2,
    ),
    # Exact on quadratics at any stable step; 1/a keeps a margin of four for anharmonic ones.
    "sgld-lm": Scheme(
        "sgld-lm",
        lambda evaluate, gamma, step, _: sgld_lm.build(evaluate, gamma=gamma, step_size=step),
        lambda a: 1 / a,
        _first_order_relaxation,
        False,
        1,
    ),
    # The stiffest mode is over-estimated by εa/4: 5 % here, less for all others.
    "sgld": Scheme(
        "sgld",
        lambda evaluate, gamma, step, _: sgld.build(evaluate, gamma=gamma, step_size=step),
        lambda a: 0.2 / a,
        _first_order_relaxation,
        False,
        1,
    ),
}


def scheme_for(sampler: str) -> Scheme:
    """Return the scheme of a sampler's name; ``"auto"`` is kinetic Langevin."""
    return SCHEMES["kinetic" if sampler == "auto" else sampler]
