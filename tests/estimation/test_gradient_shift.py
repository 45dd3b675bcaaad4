"""What a centre off its minimum adds to λ̂, where it is known: found missing by mutation."""

import pytest
import torch
from stationary import kernel_of, posterior_of
from targets import Vector, quadratic

import llc


@pytest.mark.parametrize(("n_beta", "curvature"), [(40.0, 1.0), (40.0, 0.1), (0.5, 1.0)])
def test_the_shift_of_a_quadratic_off_its_minimum(n_beta, curvature):
    # ½gᵀ(nβH + γ)⁻¹g with g = −nβ·h·c and H = h.
    off, gamma = torch.tensor([0.3, -0.1]).double(), 0.2
    found = llc.estimate(
        Vector(torch.zeros(2)),
        potential=lambda m: curvature / 2 * ((m.w - off) ** 2).sum(),
        n_beta=n_beta, gamma=gamma, step_size=0.05, chains=2, draws=20, burn_in=0,
    )  # fmt: skip
    stiff = n_beta * curvature
    exact = float(0.5 * stiff**2 * (off**2).sum() / (stiff + gamma))
    assert found.gradient_shift == pytest.approx(exact, rel=1e-3)


def test_a_thermostat_begins_at_its_friction():
    posterior = posterior_of(quadratic([1.0, 0.5]), 10.0, 1.0)
    state = kernel_of("sgnht", posterior, 0.01, 3.0).init(posterior.start(4))
    assert torch.equal(state.thermostat, torch.full((4, 1), 3.0, dtype=state.thermostat.dtype))
