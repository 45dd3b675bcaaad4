"""The step audited by half of it: exact biases of known order, and none where there is none."""

import functools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from targets import Vector, exact_quadratic, quadratic, shares
from tiny import real_valued, refusal

import llc
from llc import truths
from llc.audit import StepAudit

N_BETA, GAMMA = 1e3, 10.0
H = np.full(60, 1.0)
STIFFEST = N_BETA + GAMMA


def euler(product):
    """Exact E[λ̂] of Euler–Maruyama at εa = product, the same in all directions."""
    return float((shares(H, N_BETA, GAMMA) / 2 / (1 - product / 4)).sum())


def run(task, sampler, step, draws, seed=0, **law):
    law = {"n_beta": N_BETA, "gamma": GAMMA, **law}
    e = llc.estimate(
        task, sampler=sampler, step_size=step, draws=draws, burn_in=200, seed=seed, **law
    )
    return llc.audit_step(task, estimate=e)


def test_euler_on_a_quadratic_has_the_exact_difference_and_bias():
    product = 0.4
    audit = run(quadratic(H), "sgld", product / STIFFEST, 2000)
    assert audit.order == 1
    assert audit.half.settings.draws == 4000
    assert audit.half.settings.step_size == pytest.approx(product / STIFFEST / 2)
    exact = euler(product) - euler(product / 2)
    assert audit.difference_se < exact / 8  # there is something to be seen
    assert abs(audit.difference - exact) < 4 * audit.difference_se
    # To leading order: bias/(1 − εa/8) of the exact one.
    bias = euler(product) - exact_quadratic(H, N_BETA, GAMMA)
    assert abs(audit.bias - bias / (1 - product / 8)) < 4 * audit.bias_se
    assert audit.resolved
    assert audit.estimate.errors.discretisation == audit.bias
    assert audit.estimate.errors.total >= audit.bias
    # The closed form has the bias in the interval already: no new reason.
    assert llc.Reason.STEP_BIASES not in audit.estimate.verdict.reasons
    assert "half the step" in audit.estimate.verdict.readings[-1]


@pytest.mark.parametrize(("sampler", "power"), [("sgld-lm", 1), ("kinetic", 2)])
def test_schemes_exact_on_quadratics_show_no_bias_there(sampler, power):
    # Half the way to the edge of stability, where Euler's LLC is twice what it should be.
    audit = run(quadratic(H), sampler, (2.0 / STIFFEST) ** (1 / power), 1500, seed=1)
    assert audit.order == 2
    assert audit.bias_se < 0.02 * 30
    assert not audit.resolved
    assert audit.estimate.errors.discretisation == 0
    assert llc.Reason.STEP_BIASES not in audit.estimate.verdict.reasons


def well(w):
    # Quartic at the bottom, of bounded curvature: no explicit step survives quartic walls.
    return w**4 / (1 + w**2)


@pytest.mark.parametrize(("sampler", "step"), [("kinetic", 0.45), ("sgld", 0.05)])
def test_an_anharmonic_well_against_quadrature(sampler, step):
    wells = 200
    truth = truths.potential(lambda w: well(w).sum(-1), 1)
    b = wells * truth.expected(4.0, 1.0)
    task = llc.Task(Vector([0.0] * wells), potential=lambda m: well(m.w).sum())
    audit = run(task, sampler, step, 1000, n_beta=4.0, gamma=1.0)
    bias, error = audit.estimate.llc - b, audit.estimate.mcse
    assert bias > 6 * error
    assert audit.resolved
    # At the least what half the step takes off, at the most what the leading order makes of it.
    spread = 4 * math.hypot(error, audit.bias_se)
    assert bias - spread < audit.bias < 4 / 3 * bias + spread
    assert abs(audit.half.llc - b) < 0.7 * bias
    if sampler == "kinetic":  # whose closed form is 0
        verdict = audit.estimate.verdict
        assert llc.Reason.STEP_BIASES in verdict.reasons
        assert len(verdict.reasons) == len(verdict.sentences)
        assert verdict.status != "ok"
        assert audit.estimate.errors.discretisation == audit.bias


@functools.cache
def short():
    return llc.estimate(quadratic([1.0] * 4), n_beta=N_BETA, gamma=GAMMA, draws=200, burn_in=60)


def made(bias_of_half=0.0, **half):
    """An audit put together from one short run."""
    e = short()
    other = replace(e, llc=e.llc + bias_of_half, **half)
    return StepAudit(e, other, 2, e.llc - other.llc, 1e-3)


def test_leading_order():
    audit = made(-0.3)
    assert audit.bias == pytest.approx(4 / 3 * 0.3)
    assert audit.extrapolated == pytest.approx(audit.estimate.llc - 0.4)
    assert replace(audit, order=1).bias == pytest.approx(0.6)


def test_a_half_step_run_in_doubt_accuses_nobody():
    assert made(-0.5).resolved
    for doubt in ({"virial": 0.8}, {"rhat": 1.5}, {"ess": 5.0}, {"diverged": (1,)}):
        audit = made(-0.5, **doubt)
        assert not audit.resolved
        assert "in doubt" in str(audit)


def test_heat_is_not_taken_for_the_steps_bias():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 5, generator=generator, dtype=torch.float64)
    y = x.sum(1) + torch.randn(400, generator=generator, dtype=torch.float64)
    w = torch.linalg.lstsq(x, y[:, None]).solution[:, 0]
    task = llc.Task(Vector(w), (x, y), batch_loss=lambda m, b: (b[0] @ m.w - b[1]) ** 2)
    e = llc.estimate(
        task, gamma=1.0, batch_size=10, sampler="sgld-lm", step_size=0.001, burn_in=500, draws=3000
    )
    audit = llc.audit_step(task, estimate=e)
    assert e.heat > 1.5 * audit.half.heat > 0.1
    assert e.llc - audit.half.llc > 4 * math.hypot(e.mcse, audit.half.mcse)
    assert not audit.resolved


def test_model_and_random_state_stay(tmp_path):
    model, data = torch.nn.Linear(3, 2), real_valued()
    before = [p.detach().clone() for p in model.parameters()]
    e = llc.estimate(model, data, "mse", gamma=10.0, chains=2, draws=60, burn_in=40)
    state = torch.get_rng_state()
    first = llc.audit_step(model, data, "mse", estimate=e)
    again = llc.audit_step(model, data, "mse", estimate=e)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert first.difference == again.difference
    # Noise of its own: at half the step and twice the draws another seed would say as much.
    assert first.half.settings.seed != e.settings.seed
    kept = llc.Estimate.load(first.estimate.save(tmp_path / "e"))
    assert kept.verdict == first.estimate.verdict
    assert first.to_dict()["half_llc"] == first.half.llc


def test_refused():
    task = quadratic([1.0] * 4)
    law = {"n_beta": N_BETA, "gamma": GAMMA, "draws": 60, "burn_in": 20}
    exact = llc.estimate(task, sampler="mala", **law)
    assert "Metropolis" in refusal(lambda: llc.audit_step(task, estimate=exact))
    still = llc.estimate(task, step_size=0.0, **law)
    assert "step size is 0" in refusal(lambda: llc.audit_step(task, estimate=still))
    fine = llc.estimate(task, **law)
    other = quadratic([1.0] * 5)
    assert "4 parameters" in refusal(lambda: llc.audit_step(other, estimate=fine))
    gone = llc.estimate(task, step_size=1.0, **law)
    assert "no chain is left" in refusal(lambda: llc.audit_step(task, estimate=gone))
