"""`llc.estimate` with its automatic settings against exact answers."""

import numpy as np
import pytest
from targets import (
    aoyagi,
    crossing,
    exact_crossing,
    exact_off_centre,
    exact_quadratic,
    exact_quartic,
    exact_zero_teacher,
    linear_net,
    quadratic,
    quartic,
    shares,
)

import llc
from llc import diagnostics

N_BETA = 1e4
SPREAD = np.logspace(0, -4, 12)  # nβh from 10⁴ to 1: stiff, soft and half-seen directions


def agrees(estimate, truth, most_error=0.04):
    """Within five of the estimate's own standard errors, and those small enough to matter."""
    assert estimate.mcse < most_error * abs(truth)
    off = (estimate.llc - truth) / estimate.mcse
    assert abs(off) < 5, f"{estimate}, expected {truth:.4g}: {off:+.1f} s.e."


def test_quadratic():
    found = llc.estimate(quadratic(SPREAD), n_beta=N_BETA, gamma=30.0)
    agrees(found, exact_quadratic(SPREAD, N_BETA, 30.0))
    assert found.verdict.status == "ok"


def test_quadratic_with_gamma_chosen_too():
    found = llc.estimate(quadratic(SPREAD), n_beta=N_BETA)
    agrees(found, exact_quadratic(SPREAD, N_BETA, found.settings.gamma))


@pytest.mark.parametrize("sampler", ["sgld", "sgld-lm"])
def test_quadratic_with_first_order_samplers(sampler):
    h = np.array([1.0, 0.5, 0.2, 0.1])
    found = llc.estimate(quadratic(h), n_beta=1e3, gamma=10.0, sampler=sampler)
    bias = found.settings.step_size * (1e3 * h + 10) / 4 if sampler == "sgld" else 0
    agrees(found, (shares(h, 1e3, 10.0) / 2 / (1 - bias)).sum())


def test_quartic_is_a_quarter():
    # Thirty-two chains: one parameter costs the same a step in four, and says an eighth.
    found = llc.estimate(quartic(), n_beta=N_BETA, gamma=1.0, chains=32)
    assert exact_quartic(N_BETA, 1.0) == pytest.approx(0.25, rel=0.01)
    agrees(found, exact_quartic(N_BETA, 1.0))


def test_crossing_of_two_lines_of_minima():
    # Multiplicity two: B is far below its limit ½, and the chains must say so.
    found = llc.estimate(crossing(), n_beta=N_BETA, gamma=10.0, chains=32)
    assert exact_crossing(N_BETA, 10.0) == pytest.approx(0.354, abs=1e-3)
    agrees(found, exact_crossing(N_BETA, 10.0))


@pytest.mark.parametrize("seed", [4, 6])
def test_four_chains_meet_walls_that_a_warm_up_did_not_see(seed):
    # Far out along either line the other direction is steep: with few chains these seeds end
    # their warm-up before any has been there, and lose chains under a step that is never looked
    # at again.
    found = llc.estimate(crossing(), n_beta=N_BETA, gamma=10.0, seed=seed)
    assert found.diverged == ()
    agrees(found, exact_crossing(N_BETA, 10.0))


@pytest.mark.parametrize(("width", "chains"), [(2, 32), (5, 4)])
def test_zero_teacher_whose_hessian_vanishes(width, chains):
    truth = exact_zero_teacher(width, width, 1086.0, 1.0)
    task = linear_net((width, 2, width), 0)
    agrees(llc.estimate(task, n_beta=1086.0, gamma=1.0, chains=chains), truth)


def test_two_layer_net_reads_its_coefficient():
    # Every direction the loss sees at all has nβh of thousands, against γ = 1: λ − B is far
    # below a percent of λ for the regular part, and here there is no other.
    truth = float(aoyagi((16, 4, 16), 4)[0])
    found = llc.estimate(linear_net((16, 4, 16), 4), n_beta=N_BETA, gamma=1.0)
    assert truth == 56
    assert abs(found.llc - truth) < 0.05 * truth + 5 * found.mcse
    assert found.mcse < 0.03 * truth
    assert found.virial == pytest.approx(1, abs=0.05)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_three_layer_net_reads_its_coefficient(seed):
    # Singular, and B is not known: at nβ = 10⁴ it lies a few percent below λ.
    truth = float(aoyagi((6, 5, 6, 5), 2)[0])
    found = llc.estimate(linear_net((6, 5, 6, 5), 2), n_beta=N_BETA, gamma=1.0, seed=seed)
    assert truth == 13
    assert abs(found.llc - truth) < 0.05 * truth + 5 * found.mcse
    assert found.mcse < 0.03 * truth
    assert found.virial == pytest.approx(1, abs=0.05)


def off_centre():
    h, shift = np.array([1.0, 0.3, 0.1]), np.array([0.02, 0.1, 0.0])
    return h, shift, quadratic(h, shift)


def test_negative_coefficient_off_the_minimum():
    h, shift, task = off_centre()
    found = llc.estimate(task, n_beta=1e4, gamma=10.0)
    truth = exact_off_centre(h, shift, 1e4, 10.0)
    assert truth < -10
    agrees(found, truth)
    assert found.verdict.status == "fail"
    assert llc.Reason.NEGATIVE in found.verdict.reasons


def test_coefficient_lowered_off_the_minimum_is_not_called_ok():
    h, _, _ = off_centre()
    shift = np.array([0.005, 0.0, 0.0])
    found = llc.estimate(quadratic(h, shift), n_beta=1e4, gamma=10.0)
    truth = exact_off_centre(h, shift, 1e4, 10.0)
    assert 0 < truth < 1.45
    agrees(found, truth)
    assert llc.Reason.NOT_A_MINIMUM in found.verdict.reasons


def test_slopes_and_virial_of_a_quadratic():
    # nβh/γ from 100 down to 0.3, so that both sensitivities are large.
    h = np.array([1.0, 0.3, 0.1, 0.03, 0.01, 0.003])
    found = llc.estimate(quadratic(h), n_beta=1e3, gamma=10.0, chains=64, draws=800, burn_in=200)
    s = shares(h, 1e3, 10.0)
    slope = (s * (1 - s)).sum() / 2
    agrees(found, s.sum() / 2)
    for value, error, truth in [
        (found.slope_gamma, found.slope_gamma_se, -slope),
        (found.slope_n_beta, found.slope_n_beta_se, slope),
    ]:
        assert error < abs(truth) / 10
        assert abs(value - truth) < 5 * error
    error = diagnostics.mcse(found.virial_trace)
    assert error < 0.01
    assert abs(found.virial - 1) < 5 * error
