"""A budget of gradients is one, whatever a sampler takes of them a step."""

import pytest
from targets import crossing

import llc
from llc.sampling.schemes import SCHEMES

BUDGET = 3000
# The audit at the end looks five times, twice, at four chains; one more block may be under way.
AUDIT = 5 * 2 * 4


@pytest.mark.parametrize("sampler", SCHEMES)
def test_a_budget_is_kept(sampler):
    # Far from enough for this target: every sampler runs until it is stopped.
    found = llc.estimate(crossing(), n_beta=1e4, gamma=10.0, sampler=sampler, budget=BUDGET)
    assert found.gradient_evaluations <= 1.1 * BUDGET + AUDIT
    assert found.gradient_evaluations > BUDGET / 2
    assert llc.Reason.PRECISION_NOT_REACHED in found.verdict.reasons
