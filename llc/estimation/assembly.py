"""From draws and controls to an `Estimate`: moments, readings at w*, verdict."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from torch import Tensor

from llc.diagnostics import Array
from llc.estimation.estimate import Estimate
from llc.estimation.estimators import UNKNOWN, Moments, moments
from llc.estimation.verdict import judge
from llc.posterior import Posterior
from llc.sampling.run import Samples
from llc.settings import Settings

__all__ = ["assemble", "gradient_shift"]

MOST_FOR_SHIFT = 0.1
LEAST_OFF = 0.05
MOST_NAMED = 3


def gradient_shift(posterior: Posterior, samples: Samples) -> tuple[float, int]:
    """At least what a gradient g at w* takes off λ̂: ½(nβ)²‖g‖²/(nβh + γ).

    With S = (nβH + γ)⁻¹ the shift of a quadratic is −(nβ)²gᵀSg + ½(nβ)³gᵀSHSg ≤ −½(nβ)²gᵀSg, and
    by Jensen gᵀSg ≥ ‖g‖²/(nβh + γ) with h = gᵀHg/‖g‖². Over all data even where chains see
    minibatches, since a minibatch's gradient is mostly noise; nan where two passes over the data
    would take more than a tenth of the gradients that the chains took.

    Returns:
        The shift, and the minibatch gradients spent on it.
    """
    surface, part = posterior.surface, samples.batch_size
    spent = 0 if part is None else 2 * math.ceil((surface.size or 0) / part)
    if spent > MOST_FOR_SHIFT * samples.evaluations:
        return math.nan, 0

    def gradient_at(place: Tensor) -> Tensor:
        if part is None:
            return posterior.evaluate(place, None).gradient
        return posterior.n_beta * surface.gradient_in_parts(place, part)

    start = posterior.start(1)
    gradient = gradient_at(start)
    norm = gradient.norm()
    if not norm > 0 or samples.step_size == 0:
        return 0.0, spent
    # A step of the chains' own size: far below the scale on which curvature changes.
    reach = 0.5 * samples.step_size
    ahead = gradient_at(start + reach * gradient / norm)
    curvature = ((ahead - gradient) * gradient).sum() / (reach * norm)
    stiffness = max(float(curvature), 0.0) + posterior.gamma
    return 0.5 * float(norm) ** 2 / stiffness, spent


def _finite(names: Sequence[str], values: Array) -> dict[str, float]:
    return {n: float(v) for n, v in zip(names, values, strict=True) if math.isfinite(v)}


def _off_most(names: list[str], sizes: list[int], virials: Array, errors: Array) -> str:
    """Name the tensors that hold most of what the virial is off, noise left out."""
    off = [
        (size * abs(virial - 1), f"{name} ({virial:.2f})")
        for name, size, virial, error in zip(names, sizes, virials, errors, strict=True)
        if abs(virial - 1) > max(LEAST_OFF, 2 * error)
    ]
    named = [words for _, words in sorted(off, reverse=True)[:MOST_NAMED]]
    return f", furthest off in {', '.join(named)}" if named else ""


def assemble(
    posterior: Posterior,
    settings: Settings,
    samples: Samples,
    spent: int,
    null: Tensor,
    gradient_shift: float,
    seconds: float,
    rounding: float = 0.0,
) -> Estimate:
    """Put draws, controls and verdict together."""
    healthy = ~samples.diverged
    surface = posterior.surface
    names = [name.removeprefix("model.") for name in surface.layout.names]
    facts: dict[str, Any] = {}
    kept = samples.draws.chains(healthy)
    m = UNKNOWN
    if healthy.any():
        m = moments(kept, posterior.dimension, stopped=bool(samples.reached))
    null = null.double().cpu()
    null_mean = float(null.mean())
    facts |= {name: getattr(m, name) for name in Moments.__dataclass_fields__}
    facts |= {
        "null": null_mean,
        "null_se": float(null.std()) / math.sqrt(len(null)),
        "saturation": m.llc / null_mean if null_mean > 0 else math.nan,
        "baseline": surface.baseline,
        "sampled_loss": surface.baseline + m.llc / posterior.n_beta,
        "chance": surface.chance,
        "gradient_shift": gradient_shift,
        "heat": samples.heat,
        "discretisation": samples.discretisation,
        "rounding": rounding,
        "size": surface.size,
        "stiffness": samples.stiffness,
        "tensor_virials": _finite(names, samples.tensor_virials[0]),
    }
    diverged = tuple(int(c) for c in np.flatnonzero(samples.diverged))
    half_width = 1.96 * m.mcse / abs(m.llc) if m.llc else math.nan
    verdict = judge(
        facts
        | {
            "n_beta": posterior.n_beta,
            "gamma": posterior.gamma,
            "heat_bound": samples.heat_bound,
            "half": rounding != 0 and surface.rounds,
            "task_chance": surface.task_chance,
            "alike": surface.alike[0],
            "alike_what": surface.alike[1],
            "stiffness_aim": samples.stiffness_aim,
            "reached": samples.reached,
            "ended": "time" if surface.execution.late() else "budget",
            "step_advice": "leave step_size out"
            if settings.step_size is not None
            else f"give a step_size below {samples.step_size:.3g}",
            "behavioural": settings.behavioural,
            "chains": settings.chains,
            "diverged": ", ".join(map(str, diverged)),
            "diverged_count": len(diverged),
            "met_nan": samples.met_nan,
            "nan_restarts": samples.nan_restarts,
            "in_batches": samples.batch_size is not None,
            "step_size": samples.step_size,
            "half_width": half_width,
            "precision": settings.precision,
            "draws": samples.draws.length,
            "burn_in": samples.burn_in,
            "chain_virials": ", ".join(f"{v:.2f}" for v in m.chain_virials),
            "where": _off_most(names, surface.layout.sizes, *samples.tensor_virials),
        }
    )
    facts.pop("below_baseline")
    return Estimate(
        **facts,
        dimension=posterior.dimension,
        vectorised=surface.vectorised,
        acceptance=samples.acceptance,
        execution=samples.execution,
        diverged=diverged,
        friction=samples.friction,
        verdict=verdict,
        settings=replace(
            settings,
            step_size=samples.step_size,
            draws=samples.draws.length,
            burn_in=samples.burn_in,
            batch_size=samples.batch_size,
        ),
        gradient_evaluations=spent + samples.evaluations,
        seconds=seconds,
        trace=samples.draws.rise,
        burn_in_trace=samples.burn_in_rise,
        virial_trace=samples.draws.virial(posterior.dimension),
    )
