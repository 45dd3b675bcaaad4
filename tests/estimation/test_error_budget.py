"""Other readings of λ, and the budget of errors."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from targets import Vector, exact_quadratic, quadratic, shares

import llc
from llc import truths
from llc.estimation.errors import ErrorBudget

N_BETA = 1e3


def test_variance_and_two_temperatures_read_the_same_number():
    truth = truths.norm_power(6, 2)
    e = llc.estimate(truth.task(), n_beta=1e4, gamma=1.0, precision=0.02)
    b = truth.expected(1e4, 1.0)
    for value, error in (
        (e.variance_llc, e.variance_llc_se),
        (e.two_temperature_llc, e.two_temperature_llc_se),
    ):
        assert 0 < error < 0.1 * b
        assert abs(value - b) < 4 * error
    # B hardly depends on nβ here, so that all three estimate it.
    assert e.variance_llc == pytest.approx(e.llc - e.slope_n_beta)


def test_two_temperatures_are_exact_on_draws_of_known_law():
    # X is Gamma(λ): E X = λ, and at β₂ = rβ₁ it is λ still, so that E[nL] falls as 1/β.
    from llc.estimation.estimators import _two_temperatures

    draws = np.random.default_rng(0).gamma(5.0, size=(4, 20_000))
    value, error = _two_temperatures(draws)
    assert 0 < error < 0.1
    assert abs(value - 5) < 4 * error


def test_minibatches_have_no_colder_draws():
    x = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))
    model = torch.nn.Linear(3, 1)
    with torch.no_grad():
        y = model(x)
    e = llc.estimate(model, (x, y), "mse", gamma=1.0, batch_size=20, draws=200, burn_in=100)
    assert math.isnan(e.two_temperature_llc)
    assert math.isfinite(e.variance_llc)
    assert e.size == 200
    assert e.wbic == pytest.approx(200 * e.sampled_loss)


def test_step_bias_of_euler_is_the_closed_form():
    h = np.full(60, 1.0)
    step = 0.2 / (N_BETA + 10)
    e = llc.estimate(
        quadratic(h), n_beta=N_BETA, gamma=10.0, sampler="sgld", step_size=step, draws=2000
    )
    bias = (shares(h, N_BETA, 10.0) / 2 * step * (N_BETA * h + 10) / 4).sum()
    # Four chains' last positions in 60 directions: a spread of √(2/240).
    assert e.errors.discretisation == pytest.approx(bias, rel=0.4)
    off = e.llc - exact_quadratic(h, N_BETA, 10.0)
    assert abs(off) < 3 * e.errors.total
    assert off > 3 * e.mcse


@pytest.mark.parametrize("sampler", ["kinetic", "sgld-lm", "hmc"])
def test_exact_steps_have_no_bias(sampler):
    e = llc.estimate(quadratic([1.0] * 4), n_beta=N_BETA, gamma=10.0, sampler=sampler)
    assert e.errors.discretisation == 0


def test_heat_is_in_the_budget():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 5, generator=generator, dtype=torch.float64)
    y = x.sum(1) + torch.randn(400, generator=generator, dtype=torch.float64)
    w = torch.linalg.lstsq(x, y[:, None]).solution[:, 0]
    e = llc.estimate(
        Vector(w), (x, y), batch_loss=lambda m, b: (b[0] @ m.w - b[1]) ** 2, gamma=1.0,
        batch_size=10, step_size=0.03, burn_in=500, draws=2000,
    )  # fmt: skip
    assert e.heat > 0.05
    assert e.errors.heat == pytest.approx(e.llc - e.llc / (1 + e.heat))
    assert e.errors.total > e.errors.heat


def test_chains_that_have_not_arrived_widen_the_interval():
    # Soft directions, and too few steps for them.
    h = np.logspace(0, -4, 20)
    e = llc.estimate(quadratic(h), n_beta=1e4, gamma=0.1, step_size=0.01, burn_in=20, draws=100)
    assert e.virial < 0.8
    assert e.errors.equilibration > e.mcse
    low, high = e.interval(0.9)
    assert high - low == pytest.approx(2 * 1.6449 * e.errors.total, rel=1e-4)


def test_localisation_is_named_where_it_is_resolved():
    h = [1.0] * 30
    e = llc.estimate(quadratic(h), n_beta=N_BETA, gamma=1000.0, precision=0.01)
    # Half of every direction is the prior's: −½Σ s(1 − s) = −30/8; both slopes together are 0.
    assert e.errors.localisation == pytest.approx(-30 / 8, rel=0.1)
    assert e.errors.finite_n == 0
    assert e.errors.price == e.errors.localisation


def test_multiplicity_is_named_where_it_is_resolved():
    truth = truths.crossing()
    e = llc.estimate(truth.task(), n_beta=100.0, gamma=3.0, precision=0.01, chains=32)
    short = truth.expected(100.0, 3.0) - 0.5
    assert e.errors.finite_n < 0
    # The leading term of an expansion in 1/ln nβ: right to a factor of two.
    assert 0.5 < e.errors.price / short < 2


def test_total_is_in_quadrature_and_leaves_out_what_was_not_measured():
    budget = ErrorBudget(3.0, math.nan, 4.0, 0.0, -1.0, -2.0)
    assert budget.total == 5.0
    assert budget.price == -2.0
    assert budget.to_dict()["discretisation"] is None
    assert math.isnan(ErrorBudget(math.nan, 0.0, 0.0, 0.0, 0.0, 0.0).total)


def test_budget_survives_saving(tmp_path):
    e = llc.estimate(quadratic([1.0] * 4), n_beta=N_BETA, gamma=10.0, draws=100)
    again = llc.Estimate.load(e.save(tmp_path / "e"))
    assert again.errors == e.errors
    assert (again.variance_llc, again.size) == (e.variance_llc, None)
    assert math.isnan(again.wbic)


def test_diverged_chains_do_not_count():
    e = llc.estimate(quadratic([1.0] * 4), n_beta=N_BETA, gamma=10.0, draws=100)
    spoilt = e.virial_trace.copy()
    spoilt[2] = 1e9
    assert replace(e, virial_trace=spoilt, diverged=(2,)).errors.equilibration < 1e3
