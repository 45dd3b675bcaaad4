"""Settings that nobody gave."""

import math

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from targets import exact_off_centre, quadratic
from torch import nn

import llc


@pytest.fixture(scope="module")
def line():
    """A regular model of three parameters at the minimum of noiseless data."""
    generator = torch.Generator().manual_seed(5)
    model = nn.Linear(3, 1, bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor([[1.0, -0.5, 2.0]]))
    inputs = torch.randn(400, 3, generator=generator)
    return llc.Task(model, (inputs, model(inputs).detach()), "mse")


def test_n_beta_counts_examples_not_batches(line):
    settings = llc.calibrate(line, gamma=1.0, batch_size=20)
    assert settings.n_beta == pytest.approx(400 / math.log(400))
    assert settings.reasons["n_beta"] == "n/ln n, n = 400"


def test_gamma_goes_down_to_the_plateau_of_a_regular_model(line):
    found = llc.estimate(line)
    # Three parameters: 3/2, less the prior's share, which a plateau keeps below 3 % an e-fold.
    assert abs(found.llc - 1.5) < 0.05 * 1.5 + 5 * found.mcse
    assert found.mcse < 0.05 * found.llc
    assert "no longer depends" in found.settings.reasons["gamma"]


def test_settings_once_chosen_reproduce_the_estimate(line):
    chosen = llc.calibrate(line)
    free = llc.estimate(line)
    assert chosen.gamma == free.settings.gamma
    again = llc.estimate(line, n_beta=chosen.n_beta, gamma=chosen.gamma)
    assert again.llc == free.llc
    assert again.gradient_evaluations < free.gradient_evaluations  # by the cost of choosing γ


def test_a_checkpoint_that_is_no_minimum_has_no_say_in_gamma(line):
    right = line.model.state_dict()
    wrong = {"weight": torch.tensor([[-3.0, 3.0, -3.0]])}
    alone = llc.calibrate(line.at(right))
    run = llc.trace(line, [(1, wrong), (2, right)], draws=50, burn_in=50)
    assert llc.calibrate(line.at(wrong)).gamma > 10 * alone.gamma
    assert run.settings.gamma == alone.gamma


def test_a_number_near_zero_does_not_take_for_ever():
    # Off its minimum by just so much that the expectation crosses zero.
    h = np.array([1.0, 0.3])
    root = brentq(lambda s: exact_off_centre(h, np.array([s, 0.0]), 1e4, 10.0), 0.005, 0.1)
    found = llc.estimate(quadratic(h, np.array([root, 0.0])), n_beta=1e4, gamma=10.0)
    assert abs(found.llc) < 5 * found.mcse
    assert found.gradient_evaluations < 50_000
    assert found.verdict.status != "ok"
