"""Heat by minibatch noise, on the one target where it is exact: L = mean of ½‖w − y_i‖².

The gradient's noise does not depend on w there, so a step stays a linear map.
"""

import numpy as np
import pytest
import torch
from gates import two_gates
from stationary import SAMPLERS, covariance, draw, kernel_of, posterior_of, step_at
from targets import Vector

import llc
from llc.surface import Evaluation

N_BETA, GAMMA, BATCH = 40.0, 1.0, 4
A = N_BETA + GAMMA
FRICTION = 3.0
Y = torch.randn(200, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
Y = Y * torch.tensor([1.0, 0.7, 0.5], dtype=torch.float64)


TASK = llc.Task(Vector(Y.mean(0)), Y, batch_loss=lambda m, y: ((m.w - y) ** 2).sum(1) / 2)


def force_variance(batch):
    # Batches are drawn with replacement, so the variance is the population's.
    return (N_BETA**2 * Y.var(0, correction=0) / batch).numpy()


def target():
    return posterior_of(TASK, N_BETA, GAMMA)


def heated_variances(sampler, step, friction=FRICTION, batch=BATCH):
    force = torch.diag(torch.as_tensor(force_variance(batch) ** 0.5))

    def pushes(displacement, _index):
        """One standard deviation of the minibatch's force, along another axis in every chain."""
        nothing = torch.zeros(len(displacement), dtype=torch.float64)
        return Evaluation(nothing, nothing, force)

    posterior = target()
    kernel = kernel_of(sampler, posterior, step, friction)
    kick = kernel_of(sampler, posterior, step, friction, pushes)
    return np.diag(covariance(kernel, 3, kick))


def test_heat_of_euler_in_closed_form():
    step = step_at("sgld", 0.2, A)
    predicted = (step + step**2 / 4 * force_variance(BATCH)) / (1 - (1 - step * A / 2) ** 2)
    np.testing.assert_allclose(heated_variances("sgld", step), predicted, rtol=1e-10)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_minibatch_draws_are_as_hot_as_predicted(sampler):
    posterior = target()
    step = step_at(sampler, 0.2, A)
    kernel = kernel_of(sampler, posterior, step, FRICTION)
    cold = N_BETA / 2 * np.diag(covariance(kernel, 3)).sum()
    hot = N_BETA / 2 * heated_variances(sampler, step).sum()
    draws = draw(kernel, posterior, draws=600, batch_size=BATCH)
    two_gates(draws.rise, hot, wrong=cold)


@pytest.mark.parametrize(("sampler", "batch"), [("sgld-lm", 4), ("sgld-lm", 16), ("kinetic", 64)])
def test_reported_heat_is_the_excess_over_the_cold_value(sampler, batch):
    # A step given by hand is not cooled, so that there is heat to report.
    step = step_at(sampler, 0.2, A)
    found = llc.estimate(
        TASK,
        n_beta=N_BETA,
        gamma=GAMMA,
        sampler=sampler,
        step_size=step,
        batch_size=batch,
        chains=64,
        draws=600,
        burn_in=300,
    )
    cold = 3 * N_BETA / A / 2
    hot = N_BETA / 2 * heated_variances(sampler, step, found.friction or 0.0, batch).sum()
    assert hot / cold > 1.05
    assert abs(found.llc - hot) < 5 * found.mcse
    # 15 batches at 64 places in 3 dimensions give tr Σ to √(2/2688) = 2.7 %; four times that.
    # At 30 %, the strongest here, the share of the hot value would be 23 %.
    assert found.heat == pytest.approx(hot / cold - 1, rel=0.11)
    assert llc.Reason.HEATED in found.verdict.reasons


def test_noise_reported_with_the_draws_is_that_of_the_batch_mean():
    # Var(nβ·mean of (w − w*)·(w* + w − 2y)/2 …) = nβ² Σ δ_d² σ_d² / B for independent axes.
    posterior = target()
    displacement = torch.tensor([[0.3, -0.2, 0.5]], dtype=torch.float64).expand(20_000, 3)
    index = torch.randint(0, len(Y), (20_000, BATCH), generator=torch.Generator().manual_seed(1))
    here = posterior.evaluate(displacement, index)
    whole = posterior.evaluate(displacement[:1], None)
    centred = Y - Y.mean(0)
    true = N_BETA**2 * (centred @ displacement[0]).square().mean() / BATCH
    spread = here.noise.std() / len(index) ** 0.5
    assert abs(here.noise.mean() - true) < 5 * spread
    assert spread < 0.02 * true
    assert abs(here.rise.mean() - whole.rise[0]) < 5 * (true / len(index)) ** 0.5
    assert here.rise.var() == pytest.approx(true.item(), rel=0.05)
