"""What takes minibatch noise out again: the thermostat of sgnht, and control variates.

On L = mean of ½‖w − y_i‖² the gradient's noise is the same everywhere; whitened data make it
isotropic too, as the thermostat needs it.
"""

import pytest
import torch
from gates import two_gates
from stationary import draw, kernel_of, step_at
from targets import Vector, exact_quadratic, quadratic
from torch.utils._python_dispatch import TorchDispatchMode

import llc
from llc.execution import Execution
from llc.posterior import Posterior
from llc.sampling.chains import Stepper, Streams, advance
from llc.sampling.kernel import Tuning
from llc.sampling.kernels import sgld_rmsprop
from llc.sampling.schemes import SCHEMES, scheme_for
from llc.surface import LossSurface

N_BETA, GAMMA, FRICTION, DIMENSION, EXAMPLES = 40.0, 1.0, 3.0, 3, 200
A = N_BETA + GAMMA
COLD = DIMENSION * N_BETA / A / 2


def white():
    y = torch.randn(EXAMPLES, DIMENSION, generator=torch.Generator().manual_seed(0)).double()
    y = y - y.mean(0)
    root = torch.linalg.cholesky(y.T @ y / EXAMPLES)
    return torch.linalg.solve_triangular(root, y.T, upper=False).T


Y = white()
TASK = llc.Task(
    Vector(torch.zeros(DIMENSION)), Y, batch_loss=lambda m, y: ((m.w - y) ** 2).sum(1) / 2
)


def target(control_variate=False):
    return Posterior(LossSurface(TASK), N_BETA, GAMMA, control_variate)


def heated(sampler, step, batch):
    """λ̂ under minibatch noise by the closed forms for white noise."""
    force = N_BETA**2 / batch  # Y has unit variance in every direction
    if sampler == "kinetic":
        heat = step**2 / 8 / torch.tensor(FRICTION * step / 2).tanh().item() * force
        return COLD + DIMENSION * heat
    return COLD + DIMENSION * step / 8 * force


def test_noise_of_the_gradient_is_white_and_the_same_everywhere():
    posterior = target()
    index = torch.randint(EXAMPLES, (4000, 32), generator=torch.Generator().manual_seed(1))
    for place in (0.0, 0.5):
        gradient = posterior.evaluate(torch.full((4000, 3), place).double(), index).gradient
        found = torch.cov(gradient.T) / (N_BETA**2 / 32)
        torch.testing.assert_close(found, torch.eye(3).double(), rtol=0, atol=5 * (2 / 4000) ** 0.5)


def test_the_thermostat_takes_up_what_heats_kinetic_langevin():
    posterior, batch = target(), 32
    step = step_at("sgnht", 0.2, A)
    hot = heated("kinetic", step, batch)
    assert hot > 1.5 * COLD
    settings = {"chains": 128, "burn_in": 300, "draws": 900, "batch_size": batch}
    by_thermostat = draw(kernel_of("sgnht", posterior, step, FRICTION), posterior, **settings)
    two_gates(by_thermostat.rise, COLD, wrong=hot)
    two_gates(by_thermostat.virial(DIMENSION), 1.0, wrong=hot / COLD)
    by_friction = draw(kernel_of("kinetic", posterior, step, FRICTION), posterior, **settings)
    two_gates(by_friction.rise, hot, wrong=COLD)


@pytest.mark.parametrize("sampler", ["kinetic", "sgld-lm"])
def test_control_variates_remove_noise_that_does_not_depend_on_the_place(sampler):
    step, batch = step_at(sampler, 0.2, A), 4
    hot = heated(sampler, step, batch)
    assert hot > 1.4 * COLD
    settings = {"burn_in": 300, "draws": 900, "batch_size": batch}
    plain, corrected = target(), target(control_variate=True)
    noisy = draw(kernel_of(sampler, plain, step, FRICTION), plain, **settings)
    assert noisy.rise.mean() > 1.3 * COLD
    quiet = draw(kernel_of(sampler, corrected, step, FRICTION), corrected, **settings)
    two_gates(quiet.rise, COLD, wrong=hot)


def test_control_variates_give_the_gradient_of_all_data_here():
    delta = torch.randn(5, 3, generator=torch.Generator().manual_seed(2)).double()
    index = torch.randint(EXAMPLES, (5, 4), generator=torch.Generator().manual_seed(3))
    whole = target().evaluate(delta, None).gradient
    plain = target().evaluate(delta, index)
    corrected = target(control_variate=True).evaluate(delta, index)
    torch.testing.assert_close(corrected.gradient, whole, rtol=1e-12, atol=1e-12)
    assert (plain.gradient - whole).abs().min() > 0.1
    assert torch.equal(corrected.rise, plain.rise)
    assert torch.equal(corrected.noise, plain.noise)


def test_an_estimate_reports_no_heat_and_counts_two_gradients_a_step():
    given = {"n_beta": N_BETA, "gamma": GAMMA, "sampler": "sgld-lm", "batch_size": 4}
    given |= {"step_size": step_at("sgld-lm", 0.2, A), "chains": 64}
    given |= {"draws": 600, "burn_in": 200}
    plain = llc.estimate(TASK, **given)
    corrected = llc.estimate(TASK, control_variate=True, **given)
    assert plain.heat > 0.3
    assert abs(corrected.heat) < 1e-12
    two_gates(corrected.trace, COLD, wrong=1.3 * COLD)
    # Two gradients over all data, at w* and a step from it, look for a minimum in either run.
    once = 2 * TASK.size // 4
    steps = plain.gradient_evaluations - once
    assert corrected.gradient_evaluations - once == 2 * steps
    audit = plain.gradient_evaluations - 64 * 800
    assert 0 <= audit < 0.1 * plain.gradient_evaluations


def test_control_variates_leave_all_data_as_they_are():
    given = {"n_beta": N_BETA, "gamma": GAMMA, "step_size": 0.05, "draws": 40, "burn_in": 20}
    plain = llc.estimate(TASK, **given)
    corrected = llc.estimate(TASK, control_variate=True, **given)
    assert corrected.trace.tobytes() == plain.trace.tobytes()
    assert corrected.gradient_evaluations == plain.gradient_evaluations


class Largest(TorchDispatchMode):
    """Watches how many numbers the largest tensor has that any operation makes."""

    numbers = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for leaf in torch.utils._pytree.tree_leaves(out):
            if isinstance(leaf, torch.Tensor):
                self.numbers = max(self.numbers, leaf.numel())
        return out


@pytest.mark.parametrize("mode", ["off", "trace"])
def test_no_step_goes_through_all_data_for_its_control_variate(mode):
    surface = LossSurface(TASK, execution=Execution(compile=mode))
    posterior = Posterior(surface, N_BETA, GAMMA, control_variate=True)
    tuning = Tuning(N_BETA, GAMMA, step_size=0.01)
    stepper = Stepper(posterior, scheme_for("sgld"))
    kernel, streams = stepper.kernel(tuning, 2), Streams.open(posterior, 0, 2, 4)
    state, _ = advance(kernel, kernel.init(posterior.start(2)), streams, 1)
    with Largest() as largest:
        kernel.step(state, streams.batch(), torch.zeros_like(state.displacement))
    assert stepper.how == mode
    # Two chains, each here and at w*, with four examples of three numbers, drawn in blocks.
    assert largest.numbers < EXAMPLES * DIMENSION


@pytest.mark.parametrize("sampler", SCHEMES)
def test_no_heat_is_reported_where_every_gradient_saw_all_data(sampler):
    given = {"n_beta": N_BETA, "gamma": GAMMA, "draws": 20, "burn_in": 20, "chains": 2}
    found = llc.estimate(TASK, sampler=sampler, step_size=0.01, **given)
    assert found.heat == 0


def test_reported_heat_of_a_frozen_preconditioner_is_the_excess_over_the_cold_value():
    # Slopes far below the floor of √v̂ make P nearly ten, as in flat directions of any network.
    small, batch = 0.01, 16
    task = llc.Task(TASK.model, Y, batch_loss=lambda m, y: small * ((m.w - y) ** 2).sum(1) / 2)
    step = 0.2 / A * sgld_rmsprop.FLOOR
    found = llc.estimate(
        task,
        n_beta=N_BETA / small,
        gamma=GAMMA,
        sampler="sgld-rmsprop-frozen",
        step_size=step,
        batch_size=batch,
        chains=64,
        draws=1200,
        burn_in=1200,
    )
    square = small**2 * (1 / A + 1 / batch)
    stretched = step / (square**0.5 + sgld_rmsprop.FLOOR)
    excess = stretched / 4 * N_BETA**2 / batch
    cold = COLD / (1 - stretched * A / 4)
    assert excess > 0.1
    two_gates(found.trace, (1 + excess) * cold, wrong=cold)
    # To the error of tr Σ, as in test_minibatch_heat.
    assert found.heat == pytest.approx(excess, rel=0.11)


def test_thermostat_agrees_with_the_exact_value_through_an_estimate():
    h = [1.0, 0.5, 0.2, 0.1]
    found = llc.estimate(quadratic(h), n_beta=1e3, gamma=10.0, sampler="sgnht", chains=16)
    truth = exact_quadratic(h, 1e3, 10.0)
    two_gates(found.trace, truth, wrong=1.3 * truth)
