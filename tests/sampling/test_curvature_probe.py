"""The curvature that sets the step is that of places where chains should be."""

import math

import pytest
import torch
from stationary import posterior_of
from targets import quadratic

import llc
from llc import truths
from llc.posterior import Posterior
from llc.sampling.curvature import CurvatureProbe
from llc.surface import LossSurface

N_BETA, GAMMA = 1e4, 1.0


@pytest.fixture
def posterior():
    return Posterior(LossSurface(truths.monomial([3, 2, 1]).task()), N_BETA, GAMMA)


def largest(posterior, positions):
    probe = CurvatureProbe(posterior, seed=0, chains=len(positions))
    for _ in range(30):
        probe.iterate(positions, None)
    return probe.largest


def test_the_priors_curvature_adds_to_the_losss():
    posterior = posterior_of(quadratic([1.0, 0.5]), 10.0, 8.0)
    assert largest(posterior, posterior.start(2)) == pytest.approx(10.0 + 8.0, rel=1e-4)


@pytest.mark.parametrize("away", [5.0, 50.0, 1e4, math.inf])
def test_a_chain_on_its_way_out_is_not_heard(posterior, away):
    home = torch.tensor([[0.4, 0.3, 0.2], [0.3, -0.3, 0.1], [-0.2, 0.4, 0.1], [0.1, 0.2, -0.3]])
    out = home.clone()
    out[0] = away
    assert largest(posterior, out) <= largest(posterior, home)


def test_where_all_chains_went_is_heard(posterior):
    home = torch.full((4, 3), 0.3)
    assert largest(posterior, 5 * home) > 100 * largest(posterior, home)


def test_walls_that_throw_chains_out_do_not_stop_the_others():
    # Curvature within reach of the chains is 5e5; steps for the 1e12 of a chain thrown out would
    # leave λ̂ at 1e-10.
    truth = truths.monomial([3, 2, 1])
    n_beta = 1e5 / math.log(1e5)
    found = llc.estimate(truth.task(), n_beta=n_beta, gamma=1.0, seed=0, budget=100_000)
    assert found.llc == pytest.approx(truth.expected(n_beta, 1.0), rel=0.3)


@pytest.mark.parametrize("off", [5.0, 30.0, 300.0])
def test_distance_alone_tells_a_stray_chain(posterior, off):
    # γ‖δ‖² = off·D with no rise of the loss: beyond 6 standard deviations, or by far.
    positions = torch.zeros(4, 3)
    positions[0] = (off / GAMMA) ** 0.5
    probe = CurvatureProbe(posterior, seed=0, chains=4)
    usual = 1 + 6 * (2 / 3) ** 0.5 + 36 / 3
    assert probe._near(positions, torch.zeros(4)).flatten().tolist() == [off < usual, *[True] * 3]
