"""What each kernel samples, on targets whose answer is exact: its own law, step size included.

Where a kernel is biased the biased number is demanded: the unbiased one would be another kernel.
Kernels that are linear on quadratics are in `test_kernels`.
"""

from typing import NamedTuple

import numpy as np
import pytest
import torch
from gates import two_gates
from stationary import covariance, draw, kernel_of, posterior_of, step_at
from targets import (
    crossing,
    exact_crossing,
    exact_quadratic,
    exact_quartic,
    exact_zero_teacher,
    linear_net,
    quadratic,
    quartic,
    shares,
)

import llc
from llc.sampling.chains import Streams, advance
from llc.sampling.kernels import sgld_rmsprop

H = np.array([1.0, 0.8, 0.5, 0.3])
N_BETA, GAMMA = 100.0, 10.0
A = N_BETA * H + GAMMA
FRICTION = 3 * GAMMA**0.5
TRUTH = exact_quadratic(H, N_BETA, GAMMA)

EXACT = ("mala", "hmc", "malt")
ADAPTING = ("sgld-rmsprop", "devinterp-rmsprop")


def target():
    return posterior_of(quadratic(H), N_BETA, GAMMA)


def euler_llc(step):
    """Of Euler–Maruyama; a step for each mode is a step times a diagonal preconditioner."""
    return float((shares(H, N_BETA, GAMMA) / 2 / (1 - step * A / 4)).sum())


def drawn(sampler, posterior, step, leaps=1, **settings):
    return draw(kernel_of(sampler, posterior, step, FRICTION, leaps=leaps), posterior, **settings)


# --- quadratics --------------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", EXACT)
@pytest.mark.parametrize("stiffness", [1.0, 2.0])
def test_a_metropolis_test_makes_large_steps_exact(sampler, stiffness):
    posterior = target()
    step = step_at(sampler, stiffness, A.max())
    leaps = 1 if sampler == "mala" else 4
    # Without the test: Euler's variance 1/(a(1 − εa/4)), and leapfrog's with ε = h².
    unadjusted = euler_llc(step if sampler == "mala" else step**2)
    assert unadjusted > 1.2 * TRUTH
    draws = drawn(sampler, posterior, step, leaps, chains=256, draws=600)
    two_gates(draws.rise, TRUTH, wrong=unadjusted)
    two_gates(draws.virial(len(H)), 1.0, wrong=unadjusted / TRUTH)
    # What is refused is refused for a reason, and more of it at larger steps.
    assert 0.3 < draws.acceptance.mean() < 0.95


def test_acceptance_reported_is_the_share_of_steps_accepted():
    posterior = target()
    for sampler in EXACT:
        kernel = kernel_of(sampler, posterior, step_at(sampler, 2.0, A.max()), FRICTION, leaps=3)
        streams = Streams.open(posterior, 5, 64, None)
        state, _ = advance(kernel, kernel.init(posterior.start(64)), streams, 50)
        moved, expected = 0, 0.0
        for _ in range(200):
            new, info = kernel.step(state, None, streams.step_noise(kernel))
            moved += int((new.displacement != state.displacement).any(1).sum())
            expected += float(info.acceptance.sum())
            state = new
        assert abs(moved - expected) < 5 * (64 * 200 / 4) ** 0.5
        assert moved < 0.9 * 64 * 200


@pytest.mark.parametrize("stiffness", [0.25, 1.0])
def test_the_thermostat_is_as_good_as_unbiased_on_quadratics(stiffness):
    # 0.25 is the automatic step. A bias of second order remains, below what is seen here.
    posterior = target()
    step = step_at("sgnht", stiffness, A.max())
    draws = drawn("sgnht", posterior, step, chains=256, draws=600)
    two_gates(draws.rise, TRUTH, wrong=euler_llc(1 / A.max()))
    two_gates(draws.virial(len(H)), 1.0, wrong=1.05)


def test_momenta_and_friction_of_the_thermostat_in_equilibrium():
    # ⟨p²⟩ = 1, and ζ has mean Γ and variance 1/(μD) with μ = 2/Γ².
    posterior = target()
    kernel = kernel_of("sgnht", posterior, step_at("sgnht", 0.05, A.max()), FRICTION)
    streams = Streams.open(posterior, 1, 128, None)
    state, _ = advance(kernel, kernel.init(posterior.start(128)), streams, 300)
    zeta, heat = [], []
    for _ in range(600):
        state, _ = kernel.step(state, None, streams.step_noise(kernel))
        zeta.append(state.thermostat[:, 0])
        heat.append((state.momentum**2).mean(1))
    zeta, heat = (torch.stack(x, 1).numpy() / scale for x, scale in ((zeta, FRICTION), (heat, 1)))
    two_gates(heat, 1.0, wrong=1.1)
    two_gates(zeta, 1.0, wrong=1.1)
    two_gates((zeta - 1) ** 2, 1 / 8, wrong=1 / 6)


def test_devinterps_sgld_obeys_eulers_law():
    posterior = target()
    step = step_at("devinterp-sgld", 2.0, A.max())
    draws = drawn("devinterp-sgld", posterior, step, chains=16, burn_in=100, draws=1200)
    two_gates(draws.rise, euler_llc(step), wrong=TRUTH)


# --- RMSprop -----------------------------------------------------------------------------------


class Place(NamedTuple):
    """The only thing that moves under a frozen preconditioner."""

    displacement: torch.Tensor


def frozen(posterior, step, square):
    """The frozen kernel at a given v, as a kernel of positions alone: a linear map here."""
    kernel = kernel_of("sgld-rmsprop-frozen", posterior, step, FRICTION, frozen=True)
    old = torch.full((1, 1), 1e6, dtype=torch.float64)  # no correction for its age is left

    def full(displacement):
        chains = len(displacement)
        state = kernel.init(displacement)
        return state._replace(square=square.expand(chains, -1), age=old.expand(chains, -1))

    def one(place, batch, noise):
        state, info = kernel.step(full(place.displacement), batch, noise)
        return Place(state.displacement), info

    p = sgld_rmsprop.preconditioner(full(square[None]))[0].numpy()
    return kernel._replace(init=Place, step=one), p


SQUARE = torch.tensor([0.04, 1.0, 0.25, 9.0], dtype=torch.float64)


@pytest.mark.parametrize("stiffness", [0.1, 1.0, 3.0])
def test_a_frozen_preconditioner_leaves_eulers_bias_in_rescaled_coordinates(stiffness):
    posterior = target()
    _, p = frozen(posterior, 1.0, SQUARE)
    np.testing.assert_allclose(p, 1 / (SQUARE.numpy() ** 0.5 + 0.1))
    step = stiffness / (p * A).max()
    kernel, _ = frozen(posterior, step, SQUARE)
    predicted = 1 / (A * (1 - step * p * A / 4))
    np.testing.assert_allclose(
        covariance(kernel, len(H)), np.diag(predicted), rtol=1e-8, atol=1e-12
    )


def test_frozen_draws_have_the_mean_of_their_own_preconditioner():
    # Adapted, then frozen, as the runner does it: each chain to what it has seen.
    posterior = target()
    step = 0.5 / A.max()
    adapting = kernel_of("sgld-rmsprop-frozen", posterior, step, FRICTION)
    streams = Streams.open(posterior, 0, 128, None)
    state, _ = advance(adapting, adapting.init(posterior.start(128)), streams, 400)
    kernel = kernel_of("sgld-rmsprop-frozen", posterior, step, FRICTION, frozen=True)
    p = sgld_rmsprop.preconditioner(state).numpy()
    state, _ = advance(kernel, state, streams, 50)
    after, draws = advance(kernel, state, streams, 800)
    assert torch.equal(after.square, state.square)
    assert torch.equal(after.age, state.age)
    truth = np.mean([euler_llc(step * row) for row in p])
    assert truth > 1.3 * TRUTH
    two_gates(draws.rise, truth, wrong=euler_llc(step))


def memoryless(power):
    """λ̂ under exp(−U)/P with P = 1/(|∇L| + η): what instant adaptation samples.

    dδ = −½P∇U dt + √P dW without the term ½∂P has the density q/P with q' = −U'q.
    """
    total = 0.0
    for h, a in zip(H, A, strict=True):
        w = np.linspace(-12, 12, 20_001) / a**0.5
        weight = np.exp(-a * w**2 / 2) * (h * abs(w) + sgld_rmsprop.FLOOR) ** power
        total += float((N_BETA * h * w**2 / 2 * weight).sum() / weight.sum())
    return total


def test_adapting_at_once_samples_another_law_than_the_posterior(monkeypatch):
    # With no memory at all the law is known; v has no memory but of the last gradient.
    monkeypatch.setattr(sgld_rmsprop, "MEMORY", 0.0)
    assert memoryless(0) == pytest.approx(TRUTH, rel=1e-6)
    posterior = target()
    # Steps far below the scale on which P changes.
    draws = drawn("sgld-rmsprop", posterior, 2e-3 / A.max(), chains=512, burn_in=1000, draws=3000)
    two_gates(draws.rise, memoryless(1), wrong=TRUTH)


def test_adapting_slowly_samples_a_law_between_the_two():
    # The published memory of a hundred steps, at a step where they are a few relaxation times.
    posterior = target()
    step = 0.02 / A.max()
    draws = drawn("sgld-rmsprop", posterior, step, chains=256, burn_in=2000, draws=4000)
    two_gates(draws.rise, draws.rise.mean(), wrong=TRUTH)
    two_gates(draws.rise, draws.rise.mean(), wrong=memoryless(1))
    assert TRUTH < draws.rise.mean() < memoryless(1)


def test_devinterps_rmsprop_samples_what_ours_does():
    # v starts at zero there and at one here, which both have forgotten.
    posterior = target()
    step = 0.4 / A.max()
    ours = drawn("sgld-rmsprop", posterior, step, chains=256, burn_in=1500, draws=4000)
    theirs = drawn("devinterp-rmsprop", posterior, step, chains=12, burn_in=600, draws=1200)
    two_gates(theirs.rise, ours.rise.mean(), wrong=TRUTH)


# --- a quartic, whose curvature vanishes at its minimum ------------------------------------------

QUARTIC = {"n_beta": 1e3, "gamma": 1.0}


def chain_on_a_quartic(step):
    """λ̂ of Euler's chain itself: the stationary vector of its transition density on a grid.

    From |w| = 1/√(nβε) on it leaves for infinity, once in e⁴⁰ steps or fewer; the grid ends there.
    """
    n_beta, gamma = QUARTIC["n_beta"], QUARTIC["gamma"]
    w = np.linspace(-1, 1, 801) * min(0.8, 0.95 / (n_beta * step) ** 0.5)
    mean = w - step / 2 * (4 * n_beta * w**3 + gamma * w)
    density = np.exp(-((w - mean[:, None]) ** 2) / (2 * step))
    density /= density.sum(1, keepdims=True)
    equations = density.T - np.eye(len(w))
    equations[0] = 1.0
    law = np.linalg.solve(equations, np.eye(len(w))[0])
    return float((law * n_beta * w**4).sum())


def test_euler_on_a_quartic():
    step = 2e-3
    truth, exact = chain_on_a_quartic(step), exact_quartic(**QUARTIC)
    assert chain_on_a_quartic(1e-4) == pytest.approx(exact, rel=5e-3)
    posterior = posterior_of(quartic(), **QUARTIC)
    draws = drawn("sgld", posterior, step, chains=512, draws=1500)
    two_gates(draws.rise, truth, wrong=exact)


def test_frozen_preconditioner_on_a_quartic():
    posterior = posterior_of(quartic(), **QUARTIC)
    square = torch.tensor([0.01], dtype=torch.float64)
    kernel, p = frozen(posterior, 2e-3 / 5, square)
    assert p == pytest.approx(5.0)
    draws = draw(kernel, posterior, chains=512, draws=1500)
    two_gates(draws.rise, chain_on_a_quartic(2e-3), wrong=exact_quartic(**QUARTIC))


def test_devinterps_sgld_on_a_quartic():
    step = 5e-3
    posterior = posterior_of(quartic(), **QUARTIC)
    draws = drawn("devinterp-sgld", posterior, step, chains=16, burn_in=100, draws=1800)
    two_gates(draws.rise, chain_on_a_quartic(step), wrong=exact_quartic(**QUARTIC))


@pytest.mark.parametrize(
    ("sampler", "step", "leaps"),
    [
        ("sgld-lm", 2e-4, 1),
        ("kinetic", 0.03, 1),
        ("sgnht", 0.015, 1),
        ("mala", 1e-2, 1),
        ("hmc", 0.05, 4),
        ("malt", 0.05, 4),
    ],
)
def test_a_quartic_is_a_quarter(sampler, step, leaps):
    # Second-order kernels at steps whose bias is below a third of a percent; exact ones at steps
    # at which Euler's chain explodes.
    posterior = posterior_of(quartic(), **QUARTIC)
    settings = {"chains": 512, "burn_in": 600, "draws": 1500}
    if sampler == "sgld-lm":
        settings["draws"] = 5000
    draws = drawn(sampler, posterior, step, leaps, **settings)
    two_gates(draws.rise, exact_quartic(**QUARTIC), wrong=1.1 * exact_quartic(**QUARTIC))


# --- singular targets, everything chosen automatically -------------------------------------------

CROSSING = {"n_beta": 100.0, "gamma": 10.0}
NET = {"n_beta": 100.0, "gamma": 5.0}
TO_THE_POSTERIOR = ("kinetic", "sgld-lm", "sgld", "sgld-rmsprop-frozen", "sgnht", *EXACT)


def halved(exact, n_beta, gamma):
    """λ̂ of chains at half the temperature, as with a drift without its half."""
    return exact(n_beta=2 * n_beta, gamma=2 * gamma) / 2


@pytest.mark.parametrize("sampler", TO_THE_POSTERIOR)
def test_crossing_of_two_lines_of_minima(sampler):
    found = llc.estimate(crossing(), sampler=sampler, chains=32, **CROSSING)
    two_gates(found.trace, exact_crossing(**CROSSING), halved(exact_crossing, **CROSSING))
    assert found.verdict.status == "ok"


def zero_teacher(n_beta, gamma):
    return exact_zero_teacher(2, 2, n_beta, gamma)


@pytest.mark.parametrize("sampler", TO_THE_POSTERIOR)
def test_zero_teacher_whose_hessian_vanishes(sampler):
    found = llc.estimate(linear_net((2, 2, 2), 0), sampler=sampler, chains=32, **NET)
    two_gates(found.trace, zero_teacher(**NET), halved(zero_teacher, **NET))
    assert found.verdict.status == "ok"


@pytest.mark.slow
def test_zero_teacher_with_devinterps_sgld():
    found = llc.estimate(linear_net((2, 2, 2), 0), sampler="devinterp-sgld", chains=8, **NET)
    two_gates(found.trace, zero_teacher(**NET), halved(zero_teacher, **NET))


@pytest.mark.slow
@pytest.mark.parametrize("sampler", TO_THE_POSTERIOR)
def test_a_colder_crossing_at_more_effort(sampler):
    # Ten times as cold as above: walls far out are as much steeper.
    posterior = {"n_beta": 1e3, "gamma": 10.0}
    given = {"precision": 0.03, "chains": 32, "budget": 20_000_000}
    found = llc.estimate(crossing(), sampler=sampler, **posterior, **given)
    two_gates(found.trace, exact_crossing(**posterior), wrong=1.18 * exact_crossing(**posterior))


@pytest.mark.slow
@pytest.mark.parametrize("sampler", TO_THE_POSTERIOR)
def test_a_colder_zero_teacher_at_more_effort(sampler):
    posterior = {"n_beta": 1086.0, "gamma": 5.0}
    given = {"precision": 0.03, "chains": 32, "budget": 20_000_000}
    found = llc.estimate(linear_net((2, 2, 2), 0), sampler=sampler, **posterior, **given)
    two_gates(found.trace, zero_teacher(**posterior), wrong=1.18 * zero_teacher(**posterior))


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ADAPTING)
def test_adapting_preconditioners_overestimate(sampler):
    # By five percent and more, at an error that would show one: not the posterior.
    given = {"precision": 0.02, "chains": 32 if sampler == "sgld-rmsprop" else 8}
    found = llc.estimate(linear_net((2, 2, 2), 0), sampler=sampler, **given, **NET)
    assert found.llc - 5 * found.mcse > zero_teacher(**NET)
