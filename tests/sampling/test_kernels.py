"""Kernels against exact stationary laws, discretisation included, and broken kernels caught.

On a quadratic every kernel is a linear map of state and noise. Read off the kernel itself, the
map gives its stationary covariance without any sampling; draws through `advance` then have to
agree with the same numbers through two gates.
"""

import numpy as np
import pytest
from gates import two_gates
from stationary import SAMPLERS, covariance, draw, kernel_of, posterior_of, step_at
from targets import exact_quadratic, quadratic, shares

from llc.sampling.kernel import Tuning
from llc.sampling.schemes import scheme_for

H = np.array([1.0, 0.8, 0.5, 0.3])
N_BETA, GAMMA = 100.0, 10.0
A = N_BETA * H + GAMMA
FRICTION = 3 * GAMMA**0.5
TRUTH = exact_quadratic(H, N_BETA, GAMMA)


def target():
    return posterior_of(quadratic(H), N_BETA, GAMMA)


def stiff(sampler, stiffness):
    return step_at(sampler, stiffness, A.max())


def exact_llc(kernel):
    return N_BETA / 2 * (H * np.diag(covariance(kernel, len(H)))).sum()


def euler_llc(step):
    return (shares(H, N_BETA, GAMMA) / 2 / (1 - step * A / 4)).sum()


# --- stationary variances, exactly -------------------------------------------------------------


@pytest.mark.parametrize("stiffness", [1e-3, 0.1, 1.0, 2.0, 3.5])
@pytest.mark.parametrize(
    ("sampler", "friction"),
    [("sgld", 1.0), ("sgld-lm", 1.0), ("kinetic", 0.1), ("kinetic", 1.0), ("kinetic", 30.0)],
)
def test_stationary_variance_is_the_predicted_one(sampler, stiffness, friction):
    posterior = target()
    step = stiff(sampler, stiffness)
    kernel = kernel_of(sampler, posterior, step, friction * GAMMA**0.5)
    predicted = 1 / (A * (1 - step * A / 4)) if sampler == "sgld" else 1 / A
    np.testing.assert_allclose(
        covariance(kernel, len(H)), np.diag(predicted), rtol=1e-8, atol=1e-12
    )


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_stability_ends_at_four(sampler):
    posterior = target()
    covariance(kernel_of(sampler, posterior, stiff(sampler, 3.99), FRICTION), len(H))
    with pytest.raises(AssertionError, match="unstable"):
        covariance(kernel_of(sampler, posterior, stiff(sampler, 4.01), FRICTION), len(H))


def test_euler_bias_is_first_order_in_the_step_and_that_of_the_others_nil():
    posterior = target()
    for sampler in SAMPLERS:
        coarse, fine = (
            exact_llc(kernel_of(sampler, posterior, stiff(sampler, stiffness), FRICTION)) - TRUTH
            for stiffness in (2e-3, 1e-3)
        )
        if sampler == "sgld":
            assert coarse / fine == pytest.approx(2, rel=1e-3)
        else:
            assert max(abs(coarse), abs(fine)) < 1e-9


# --- the same through the runner, by sampling --------------------------------------------------


@pytest.mark.parametrize("stiffness", [0.4, 1.0, 2.0])
def test_euler_draws_have_the_biased_mean(stiffness):
    # A sampler that returned the unbiased value here would be no Euler–Maruyama.
    posterior = target()
    step = stiff("sgld", stiffness)
    draws = draw(kernel_of("sgld", posterior, step, FRICTION), posterior, chains=256, draws=400)
    two_gates(draws.rise, euler_llc(step), wrong=TRUTH)


@pytest.mark.parametrize("sampler", ["sgld-lm", "kinetic"])
@pytest.mark.parametrize("stiffness", [1.0, 2.0])
def test_second_order_draws_have_the_unbiased_mean(sampler, stiffness):
    posterior = target()
    draws = draw(kernel_of(sampler, posterior, stiff(sampler, stiffness), FRICTION), posterior)
    wrong = euler_llc(stiff("sgld", stiffness))
    two_gates(draws.rise, TRUTH, wrong)


def test_virial_and_variance_of_draws_in_equilibrium():
    posterior = target()
    draws = draw(kernel_of("kinetic", posterior, stiff("kinetic", 1.0), FRICTION), posterior)
    two_gates(draws.virial(len(H)), 1.0, wrong=1.1)
    s = shares(H, N_BETA, GAMMA)
    centred = draws.rise - TRUTH
    two_gates(centred**2, (s**2).sum() / 2, wrong=s.sum() / 2)
    two_gates(draws.spread, (1 - s).sum(), wrong=1.2 * (1 - s).sum())


# --- broken kernels ----------------------------------------------------------------------------


def louder(kernel):
    return kernel._replace(step=lambda s, batch, noise: kernel.step(s, batch, 2**0.5 * noise))


def unaveraged(kernel):
    def step(state, batch, noise):
        return kernel.step(state._replace(last_noise=noise), batch, noise)

    return kernel._replace(step=step)


def scaled(posterior, factor):
    """A posterior's evaluate with its gradient, but not its loss, multiplied."""

    def evaluate(displacement, index):
        here = posterior.evaluate(displacement, index)
        return here._replace(gradient=factor * here.gradient)

    return evaluate


def broken(defect, sampler, posterior):
    step = stiff(sampler, 1.0)

    def build(evaluate, gamma, step, friction):
        tuning = Tuning(posterior.n_beta, gamma, step, friction)
        return scheme_for(sampler).build(evaluate, tuning.numbers, tuning)

    if defect == "noise times root two":
        return louder(kernel_of(sampler, posterior, step, FRICTION))
    if defect == "drift without its half":
        return build(scaled(posterior, 2.0), 2 * posterior.gamma, step, FRICTION)
    if defect == "no gamma":
        return build(posterior.evaluate, 0.0, step, FRICTION)
    if defect == "gradient upside down":
        return build(scaled(posterior, -1.0), posterior.gamma, step, FRICTION)
    if defect == "noise not averaged":
        return unaveraged(kernel_of(sampler, posterior, step, FRICTION))
    return kernel_of(sampler, posterior, step, FRICTION)


def exact_gate(kernel, _posterior, truth):
    found = exact_llc(kernel)
    assert found == pytest.approx(truth, rel=1e-8), f"{found}, expected {truth}"


def sampling_gate(kernel, posterior, truth):
    draws = draw(kernel, posterior, chains=96, draws=400)
    two_gates(draws.rise, truth, wrong=1.08 * truth)


DEFECTS = [
    (defect, sampler)
    for defect in (
        "noise times root two",
        "drift without its half",
        "no gamma",
        "gradient upside down",
    )
    for sampler in SAMPLERS
] + [("noise not averaged", "sgld-lm")]


@pytest.mark.parametrize("gate", [exact_gate, sampling_gate])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_sound_kernels_pass_the_gates(sampler, gate):
    posterior = target()
    step = stiff(sampler, 1.0)
    truth = euler_llc(step) if sampler == "sgld" else TRUTH
    gate(broken("none", sampler, posterior), posterior, truth)


@pytest.mark.parametrize("gate", [exact_gate, sampling_gate])
@pytest.mark.parametrize(("defect", "sampler"), DEFECTS)
def test_broken_kernels_fail_the_gates(defect, sampler, gate):
    posterior = target()
    step = stiff(sampler, 1.0)
    truth = euler_llc(step) if sampler == "sgld" else TRUTH
    # For its value or its explosion: a gate that merely lacks draws has caught nothing.
    with pytest.raises(AssertionError, match=r"expected|unstable|exploded|not finite"):
        gate(broken(defect, sampler, posterior), posterior, truth)
