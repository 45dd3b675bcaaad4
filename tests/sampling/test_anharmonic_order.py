"""Order in the step size where kernels are not exact: a flat well with quadratic walls."""

import numpy as np
import pytest
import torch
from stationary import kernel_of, posterior_of
from targets import Vector

import llc

N_BETA, GAMMA = 4.0, 1.0
WALKERS, BURN_IN, DRAWS = 2000, 150, 800


def well(w):
    # Quartic at the bottom. Of bounded curvature: w⁴ itself throws out every explicit kernel.
    return w**4 / (1 + w**2)


def exact():
    w = np.linspace(-8, 8, 20_001)
    weight = np.exp(-N_BETA * well(w) - GAMMA * w**2 / 2)
    return (N_BETA * well(w) * weight).sum() / weight.sum()


def error(sampler, step, seed=1, draws=DRAWS, **choices):
    """Error of E[nβL] over independent walkers, and its standard error."""
    task = llc.Task(Vector([0.0]), potential=lambda m: well(m.w).sum())
    posterior = posterior_of(task, N_BETA, GAMMA)
    kernel = kernel_of(sampler, posterior, step, GAMMA**0.5, **choices)
    generator = torch.Generator().manual_seed(seed)
    state = kernel.init(posterior.start(WALKERS))
    total = torch.zeros(WALKERS, dtype=torch.float64)
    for number in range(BURN_IN + draws):
        noise = torch.randn(WALKERS, kernel.noise_size(1), generator=generator, dtype=torch.float64)
        state, info = kernel.step(state, None, noise)
        if number >= BURN_IN:
            total += info.rise
    means = (total / draws).numpy()
    return means.mean() - exact(), means.std() / WALKERS**0.5


@pytest.mark.parametrize(("sampler", "step"), [("sgld-lm", 0.4), ("kinetic", 0.6)])
def test_halving_the_step_divides_the_error_by_at_least_four(sampler, step):
    coarse, coarse_se = error(sampler, step)
    fine, fine_se = error(sampler, step / 2)
    assert coarse > 20 * coarse_se  # there is an error to divide
    assert abs(fine) + 3 * fine_se < coarse / 4


def test_halving_the_step_does_less_for_euler():
    coarse, _ = error("sgld", 0.2)
    fine, fine_se = error("sgld", 0.1)
    assert coarse / 4 < fine - 3 * fine_se
    assert fine + 3 * fine_se < coarse / 2
