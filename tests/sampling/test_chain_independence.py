"""A chain does what it does alone, whatever its company."""

import numpy as np
import pytest
import torch
from stationary import SAMPLERS, kernel_of, posterior_of
from torch import nn

import llc
from llc.params import NoiseStreams, stream_seed
from llc.sampling.chains import Streams, advance


def network():
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    model = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(generator=generator)
        targets = model(inputs)
    return posterior_of(llc.Task(model, (inputs, targets), "mse"), n_beta=20.0, gamma=5.0)


def test_noise_of_a_chain_does_not_depend_on_the_number_of_chains():
    alone = NoiseStreams(7, "noise", 1)
    company = NoiseStreams(7, "noise", 4)
    for _ in range(3):
        assert torch.equal(alone.normal(5), company.normal(5)[:1])
        assert torch.equal(alone.integers(100, 6), company.integers(100, 6)[:1])


def test_chains_seeds_and_purposes_have_streams_of_their_own():
    seeds = {
        stream_seed(seed, purpose, chain)
        for seed in range(5)
        for purpose in ("noise", "batches")
        for chain in range(5)
    }
    assert len(seeds) == 50
    rows = NoiseStreams(0, "noise", 4).normal(2000, torch.float64)
    assert np.abs(np.corrcoef(rows.numpy()) - np.eye(4)).max() < 5 / 2000**0.5


def test_streams_leave_the_global_generator_alone():
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    NoiseStreams(0, "noise", 2).normal(10)
    assert torch.equal(before, torch.random.get_rng_state())


@pytest.mark.parametrize("batch_size", [None, 8])
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_draws_of_a_chain_do_not_depend_on_the_number_of_chains(sampler, batch_size):
    posterior = network()
    kernel = kernel_of(sampler, posterior, 0.02, friction=5.0)
    runs = []
    for chains in (1, 4):
        streams = Streams.open(posterior, 11, chains, batch_size)
        state = kernel.init(posterior.start(chains))
        runs.append(advance(kernel, state, streams, 30)[1])
    for alone, company in zip(*runs, strict=True):
        # Not bitwise: matrix products of other shapes add in another order.
        np.testing.assert_allclose(company[:1], alone, rtol=1e-10, atol=1e-12)
        if np.ptp(alone) > 0:
            assert not np.isclose(company[1:, -1], alone[0, -1]).any()
