"""Stationary laws of kernels on quadratics, exactly and by sampling."""

import numpy as np
import torch
from scipy.linalg import solve_discrete_lyapunov

from llc.posterior import Posterior
from llc.sampling.chains import Stepper, Streams, advance
from llc.sampling.kernel import Tuning
from llc.sampling.schemes import scheme_for
from llc.surface import LossSurface

SAMPLERS = ("sgld", "sgld-lm", "kinetic")


def posterior_of(task, n_beta, gamma):
    return Posterior(LossSurface(task), n_beta, gamma)


def step_at(sampler, stiffness, largest):
    """The step with εa (first order) or h²a (the others) at a given value."""
    return (stiffness / largest) ** (1 / scheme_for(sampler).power)


def kernel_of(sampler, posterior, step, friction, evaluate=None, leaps=1, frozen=False):
    tuning = Tuning(posterior.n_beta, posterior.gamma, step, friction, leaps, frozen)
    return Stepper(posterior, scheme_for(sampler)).plain(tuning, evaluate)


def covariance(kernel, dimension, kick=None):
    """Stationary covariance of positions: the discrete Lyapunov equation of the kernel's map.

    ``kick`` is a kernel that sees the force √variance in every direction at w* and nothing
    else: what a minibatch's gradient noise does to the state in one step.
    """
    blank = kernel.init(torch.zeros((dimension, dimension), dtype=torch.float64))
    fields = len(blank)
    basis = torch.eye(fields * dimension, dtype=torch.float64)
    units = type(blank)(*basis.reshape(-1, fields, dimension).unbind(1))
    silence = torch.zeros((fields * dimension, dimension), dtype=torch.float64)
    transition = torch.cat(kernel.step(units, None, silence)[0], 1).numpy().T
    white = torch.eye(dimension, dtype=torch.float64)
    noise = torch.cat(kernel.step(blank, None, white)[0], 1).numpy().T
    heat = noise @ noise.T
    if kick is not None:
        pushed = torch.cat(kick.step(blank, None, torch.zeros_like(white))[0], 1).numpy().T
        heat = heat + pushed @ pushed.T
    assert abs(np.linalg.eigvals(transition)).max() < 1, "the kernel is unstable"
    return solve_discrete_lyapunov(transition, heat)[:dimension, :dimension]


def draw(kernel, posterior, chains=128, burn_in=150, draws=300, batch_size=None, seed=0):
    streams = Streams.open(posterior, seed, chains, batch_size)
    state, _ = advance(kernel, kernel.init(posterior.start(chains)), streams, burn_in)
    return advance(kernel, state, streams, draws)[1]
