"""On the well of `test_anharmonic_order`: the thermostat is of second order, tests are exact."""

import pytest
from test_anharmonic_order import error


def test_halving_the_step_divides_the_thermostats_error_by_more_than_three():
    # First order would be two. BADODAB is of second order even where BAOAB does better.
    coarse, coarse_se = error("sgnht", 0.4, draws=3000)
    fine, fine_se = error("sgnht", 0.2, draws=6000)
    assert coarse > 20 * coarse_se  # there is an error to divide
    assert fine + 3 * fine_se < coarse / 3
    assert fine > 3 * fine_se


def test_thermostat_and_kinetic_are_far_from_euler():
    euler, euler_se = error("sgld", 0.2)
    assert euler > 20 * euler_se
    for sampler in ("kinetic", "sgnht"):
        # The same displacement a step: ε = h².
        found, se = error(sampler, 0.2**0.5)
        assert abs(found) + 5 * se < euler / 3


@pytest.mark.parametrize(
    ("sampler", "step", "unadjusted"),
    [("mala", 0.4, ("sgld", 0.4)), ("hmc", 0.6, ("kinetic", 0.6)), ("malt", 0.6, ("kinetic", 0.6))],
)
def test_a_metropolis_test_leaves_no_error_of_the_step(sampler, step, unadjusted):
    biased, biased_se = error(*unadjusted)
    assert biased > 20 * biased_se
    found, se = error(sampler, step, leaps=1 if sampler == "mala" else 4)
    assert abs(found) < 5 * se
    assert 20 * se < biased
