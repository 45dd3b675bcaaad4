"""devinterp's updates through our chains are devinterp's, and those of our own kernels."""

import pytest
import torch
from stationary import kernel_of, posterior_of
from torch import nn

import llc
from llc.sampling.chains import Streams
from llc.sampling.kernels import sgld_rmsprop

N_BETA, GAMMA, STEP, CHAINS, STEPS = 20.0, 5.0, 0.02, 3, 8
ALPHA, FLOOR = 0.99, 0.1
CLOSE = {"rtol": 1e-12, "atol": 1e-13}


def model():
    generator = torch.Generator().manual_seed(0)
    linear = nn.Linear(3, 2, bias=False).double()
    with torch.no_grad():
        linear.weight.normal_(generator=generator)
    return linear


def target():
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(30, 3, generator=generator, dtype=torch.float64)
    noise = torch.randn(30, 2, generator=generator, dtype=torch.float64)
    data = (inputs, model()(inputs).detach() + 0.3 * noise)
    return posterior_of(llc.Task(model(), data, "mse"), N_BETA, GAMMA)


def generators(noise):
    """devinterp's own generators, seeded from our noise as the kernel does it."""
    return [torch.Generator().manual_seed(hash(tuple(row)) & (2**62 - 1)) for row in noise.tolist()]


def normals(noise, dimension):
    return torch.stack(
        [torch.normal(0.0, 1.0, (dimension,), generator=g) for g in generators(noise)]
    )


def walk(sampler, batch_size=6):
    """(state before, state after, info, batch, noise) of consecutive steps."""
    posterior = target()
    kernel = kernel_of(sampler, posterior, STEP, friction=1.0)
    streams = Streams.open(posterior, 2, CHAINS, batch_size)
    state = kernel.init(posterior.start(CHAINS))
    for _ in range(STEPS):
        batch, noise = streams.batch(), streams.step_noise(kernel)
        after, info = kernel.step(state, batch, noise)
        yield posterior, state, after, info, batch, noise
        state = after


@pytest.mark.parametrize("batch_size", [None, 6])
def test_sgld_takes_our_own_step(batch_size):
    for posterior, state, after, info, batch, noise in walk("devinterp-sgld", batch_size):
        ours = kernel_of("sgld", posterior, STEP, friction=1.0)
        kicks = normals(noise, posterior.dimension).double()
        expected, expected_info = ours.step(
            type(ours.init(state.displacement))(state.displacement), batch, kicks
        )
        torch.testing.assert_close(after.displacement, expected.displacement, **CLOSE)
        assert all(torch.equal(a, b) for a, b in zip(info, expected_info, strict=True))
        force = posterior.evaluate(state.displacement, batch).gradient + GAMMA * state.displacement
        by_hand = state.displacement - STEP / 2 * force + STEP**0.5 * kicks
        torch.testing.assert_close(after.displacement, by_hand, **CLOSE)


@pytest.mark.parametrize("batch_size", [None, 6])
def test_rmsprop_takes_the_step_and_keeps_the_mean_square_of_its_formula(batch_size):
    square = torch.zeros(CHAINS, 6, dtype=torch.float64)
    for posterior, state, after, _, batch, noise in walk("devinterp-rmsprop", batch_size):
        delta = state.displacement
        assert torch.equal(state.square, square)
        gradient = posterior.evaluate(delta, batch).gradient
        square = ALPHA * square + (1 - ALPHA) * (gradient / N_BETA) ** 2
        torch.testing.assert_close(after.square, square, **CLOSE)
        square = after.square
        p = 1 / (square.sqrt() + FLOOR)
        kicks = normals(noise, posterior.dimension).double()
        force = gradient + GAMMA * delta
        by_hand = delta - STEP / 2 * p * force + (STEP * p).sqrt() * kicks
        torch.testing.assert_close(after.displacement, by_hand, **CLOSE)
        # Ours with the same v, so old that no correction is left, does the same.
        ours = kernel_of("sgld-rmsprop", posterior, STEP, friction=1.0)
        old = torch.full((CHAINS, 1), 1e6, dtype=torch.float64)
        moved, _ = ours.step(sgld_rmsprop.State(delta, state.square, old), batch, kicks)
        torch.testing.assert_close(moved.displacement, after.displacement, **CLOSE)
        torch.testing.assert_close(moved.square, after.square, **CLOSE)
    assert (square > 0).all()


@pytest.mark.parametrize("sampler", ["devinterp-sgld", "devinterp-rmsprop"])
def test_without_noise_only_the_drift_is_left(sampler, monkeypatch):
    # devinterp draws by this name; the kernel draws nothing by itself.
    monkeypatch.setattr(
        torch, "normal", lambda *_, size, device, **__: torch.zeros(size).to(device)
    )
    for posterior, state, after, _, batch, _ in walk(sampler):
        delta = state.displacement
        force = posterior.evaluate(delta, batch).gradient + GAMMA * delta
        scale = 1.0 if sampler == "devinterp-sgld" else 1 / (after.square.sqrt() + FLOOR)
        torch.testing.assert_close(after.displacement, delta - STEP / 2 * scale * force, **CLOSE)
        assert (force != 0).all()


@pytest.mark.parametrize("sampler", ["devinterp-sgld", "devinterp-rmsprop"])
def test_devinterps_optimiser_on_the_model_itself_goes_the_same_way(sampler):
    # On weights, not displacements, with its own localisation and gradients by backward.
    from devinterp.optim import SGMCMC

    make = SGMCMC.sgld if sampler == "devinterp-sgld" else SGMCMC.rmsprop_sgld
    linears = [model() for _ in range(CHAINS)]
    optimisers = [
        make(linear.parameters(), lr=STEP, nbeta=N_BETA, localization=GAMMA) for linear in linears
    ]
    centre = model().weight.detach().reshape(-1)
    for posterior, _, after, _, batch, noise in walk(sampler):
        inputs, targets = posterior.surface._objective.data
        for chain, generator in enumerate(generators(noise)):
            linear, optimiser, rows = linears[chain], optimisers[chain], batch[chain]
            optimiser.zero_grad()
            nn.functional.mse_loss(linear(inputs[rows]), targets[rows]).backward()
            optimiser.step(noise_generator=generator)
            weights = linear.weight.detach().reshape(-1)
            torch.testing.assert_close(
                weights, centre + after.displacement[chain], rtol=1e-9, atol=1e-10
            )
