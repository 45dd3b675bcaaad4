"""Kernels broken in one line each, and the gates that have to see it.

A mutant is a kernel's own file with a line of it changed, so that it follows the file; a line
that is no longer there fails the test.
"""

import inspect
import types

import numpy as np
import pytest
import torch
from gates import two_gates
from stationary import draw, posterior_of, step_at
from targets import Vector, exact_quadratic, quadratic, shares

import llc
from llc.sampling.chains import Streams, advance
from llc.sampling.kernel import Tuning
from llc.sampling.kernels import hmc, mala, malt, sgld_rmsprop, sgnht

H = np.array([1.0, 0.8, 0.5, 0.3])
N_BETA, GAMMA = 100.0, 10.0
A = N_BETA * H + GAMMA
TRUTH = exact_quadratic(H, N_BETA, GAMMA)
# For its value or its explosion: a gate that merely lacks draws has caught nothing.
CAUGHT = r"expected|exploded|not finite"


def mutant(module, *changes):
    """A kernel's module with pieces of its source replaced."""
    source = inspect.getsource(module)
    for old, new in changes:
        assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in the file"
        source = source.replace(old, new)
    changed = types.ModuleType(module.__name__)
    exec(compile(source, module.__file__, "exec"), vars(changed))
    return changed


def numbers(sampler, stiffness, n_beta=N_BETA, gamma=GAMMA, largest=A[0]):
    step = step_at(sampler, stiffness, largest)
    return Tuning(n_beta, gamma, step, friction=3 * gamma**0.5).numbers


# --- Metropolis tests --------------------------------------------------------------------------

TEST = "torch.special.log_ndtr(noise[:, -1]) < log_ratio"
ALWAYS = (TEST, "log_ratio == log_ratio")
LEAPS = 4


def build(sampler, *changes):
    module = mutant({"mala": mala, "hmc": hmc, "malt": malt}[sampler], *changes)
    posterior = posterior_of(quadratic(H), N_BETA, GAMMA)
    leaps = {} if sampler == "mala" else {"leaps": LEAPS}
    return module.build(posterior.evaluate, numbers(sampler, 0.5), **leaps), posterior


def metropolis_gate(sampler, *changes):
    kernel, posterior = build(sampler, *changes)
    draws = draw(kernel, posterior, chains=128, draws=400)
    two_gates(draws.rise, TRUTH, wrong=1.1 * TRUTH)


@pytest.mark.parametrize("sampler", ["mala", "hmc", "malt"])
def test_sound_metropolis_kernels_pass(sampler):
    metropolis_gate(sampler)


@pytest.mark.parametrize(
    ("sampler", "changes"),
    [
        pytest.param("mala", [ALWAYS], id="mala: no test"),
        pytest.param("hmc", [ALWAYS], id="hmc: no test"),
        pytest.param("malt", [ALWAYS], id="malt: no test"),
        pytest.param(
            "mala",
            [("+ ((kick - back) * (kick + back)).sum(-1) / 2", "")],
            id="mala: no density of the proposal",
        ),
        pytest.param(
            "mala",
            [("there.gradient, state.gradient", "state.gradient, state.gradient")],
            id="mala: gradient of the place before",
        ),
        pytest.param(
            "hmc",
            [("start - step_size / 2 * (gradient + gamma * delta)", "start")],
            id="hmc: no first half kick",
        ),
        pytest.param(
            "hmc",
            [("leap < leaps - 1 else step_size / 2", "leap < leaps - 1 else 0 * step_size")],
            id="hmc: no last half kick",
        ),
        pytest.param(
            "hmc",
            [("leap < leaps - 1 else step_size / 2", "leap < leaps - 1 else step_size")],
            id="hmc: last half kick whole",
        ),
        pytest.param(
            "hmc",
            [("+ ((start - momentum) * (start + momentum)).sum(-1) / 2", "")],
            id="hmc: no kinetic energy",
        ),
        pytest.param(
            "hmc",
            [("start, stretch = noise[:, :-2],", "start, stretch = 2**0.5 * noise[:, :-2],")],
            id="hmc: momenta times root two",
        ),
        pytest.param(
            "malt",
            [("state.gradient, kicks[0]", "state.gradient, 2**0.5 * kicks[0]")],
            id="malt: momenta times root two",
        ),
        pytest.param(
            "malt",
            [("refresh * kicks[leap]", "2**0.5 * refresh * kicks[leap]")],
            id="malt: refreshment times root two",
        ),
        pytest.param(
            "malt",
            [
                (
                    "log_ratio = log_ratio + ((",
                    "log_ratio = log_ratio + (leap in (0, leaps - 1)) * ((",
                )
            ],
            id="malt: no energy errors of inner leaps",
        ),
        pytest.param(
            "malt",
            [
                ("            start = momentum\n", "            start = kicks[0]\n"),
                ("log_ratio = log_ratio + ((", "log_ratio = log_ratio + (leap == leaps - 1) * (("),
            ],
            id="malt: tested as if it were hmc",
        ),
    ],
)
def test_broken_metropolis_kernels_are_caught(sampler, changes):
    with pytest.raises(AssertionError, match=CAUGHT):
        metropolis_gate(sampler, *changes)


# --- the thermostat, under noise of the gradient that it is there for ---------------------------


def noisy_target(count=200, dimension=3):
    """L = mean of ½‖w − y_i‖² for whitened y: white gradient noise, the same everywhere."""
    y = torch.randn(count, dimension, generator=torch.Generator().manual_seed(0)).double()
    y = y - y.mean(0)
    root = torch.linalg.cholesky(y.T @ y / count)
    y = torch.linalg.solve_triangular(root, y.T, upper=False).T
    model = Vector(torch.zeros(dimension))
    task = llc.Task(model, y, batch_loss=lambda m, y: ((m.w - y) ** 2).sum(1) / 2)
    return posterior_of(task, 40.0, 1.0)


def thermostat_gate(*changes):
    posterior = noisy_target()
    tuning = numbers("sgnht", 0.2, n_beta=40.0, gamma=1.0, largest=41.0)
    kernel = mutant(sgnht, *changes).build(posterior.evaluate, tuning)
    draws = draw(kernel, posterior, burn_in=300, draws=900, batch_size=32)
    cold = 3 * 40 / 41 / 2
    two_gates(draws.rise, cold, wrong=1.2 * cold)


def test_the_sound_thermostat_passes():
    thermostat_gate()


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param(
            [("thermostat + gain * (temperature - 1)", "thermostat")], id="no restoring force"
        ),
        pytest.param([("gain * (temperature - 1)", "gain * (temperature - 2)")], id="twice as hot"),
        pytest.param([("(-decay).exp() * kicked", "kicked")], id="no friction"),
        pytest.param(
            [("(2 * friction * length).sqrt()", "(2 * zeta * length).abs().sqrt()")],
            id="noise of the friction at hand",
        ),
    ],
)
def test_broken_thermostats_are_caught(changes):
    with pytest.raises(AssertionError, match=CAUGHT):
        thermostat_gate(*changes)


# --- the frozen preconditioner -------------------------------------------------------------------


def preconditioner_gate(*changes, adapting=False):
    """Against the law of the P that the chains were frozen with."""
    posterior = posterior_of(quadratic(H), N_BETA, GAMMA)
    tuning = numbers("sgld-rmsprop-frozen", 0.1)
    module = mutant(sgld_rmsprop, *changes)
    first = sgld_rmsprop.build(posterior.evaluate, tuning, adapting=True)
    streams = Streams.open(posterior, 0, 128, None)
    state, _ = advance(first, first.init(posterior.start(128)), streams, 600)
    p = sgld_rmsprop.preconditioner(state).numpy()
    kernel = module.build(posterior.evaluate, tuning, adapting=adapting)
    state, _ = advance(kernel, state, streams, 100)
    draws = advance(kernel, state, streams, 2500)[1]
    stretched = tuning.step_size.item() * p
    truth = float((shares(H, N_BETA, GAMMA) / 2 / (1 - stretched * A / 4)).sum(1).mean())
    two_gates(draws.rise, truth, wrong=1.1 * truth)


def test_the_sound_frozen_preconditioner_passes():
    preconditioner_gate()


def test_a_frozen_preconditioner_that_goes_on_adapting_is_caught():
    with pytest.raises(AssertionError, match=CAUGHT):
        preconditioner_gate(adapting=True)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param([("scale.sqrt() * noise", "noise")], id="noise without P"),
        pytest.param([("scale.sqrt() * noise", "scale * noise")], id="noise with P, not its root"),
        pytest.param([("half * scale * force", "half * force")], id="drift without P"),
        pytest.param(
            [("scale * force", "(scale * evaluation.gradient + gamma * delta)")],
            id="prior without P",
        ),
        pytest.param(
            [("square, age = state.square, state.age", "square, age = delta**2, state.age")],
            id="P of the place at hand",
        ),
    ],
)
def test_broken_preconditioners_are_caught(changes):
    with pytest.raises(AssertionError, match=CAUGHT):
        preconditioner_gate(*changes)


def test_a_line_that_is_gone_is_no_silent_pass():
    with pytest.raises(AssertionError, match="0 times"):
        mutant(mala, ("no such line", ""))
